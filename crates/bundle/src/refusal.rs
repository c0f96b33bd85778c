//! The refusals, each made in one place so that the same wrong always reads the same.
//!
//! *Knows:* reasons and their sentences. *Does not know:* when to refuse.

use std::{borrow::Cow, io};

use portico_base::{Code, Error, Reason, reason};

/// Longest entry name shown in a refusal; names come from strangers.
const NAME_CHARACTERS_SHOWN_MAX: usize = 200;

fn wrong(reason: Reason, message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(Code::InvalidArgument, reason, message)
}

pub(crate) fn empty(what: &'static str) -> Error {
    wrong(reason::EMPTY_BUNDLE, what)
}

pub(crate) fn not_gzip() -> Error {
    wrong(reason::NOT_GZIP, "the bundle does not begin like gzip; make it with tar -czf")
}

pub(crate) fn corrupt_gzip(what: &'static str) -> Error {
    wrong(reason::CORRUPT_GZIP, what)
}

pub(crate) fn not_tar() -> Error {
    wrong(reason::NOT_TAR, "the bundle is gzip, but does not hold a tar archive")
}

pub(crate) fn corrupt_tar(what: &'static str) -> Error {
    wrong(reason::CORRUPT_TAR, what)
}

pub(crate) fn too_large(what: &'static str, limit: u64) -> Error {
    Error::new(Code::ResourceExhausted, reason::BUNDLE_EXPANDS_TOO_LARGE, what).with_fact("limit", limit.to_string())
}

pub(crate) fn unsafe_entry(entry: &[u8], why: &'static str) -> Error {
    let shown: String = String::from_utf8_lossy(entry).chars().take(NAME_CHARACTERS_SHOWN_MAX).collect();
    // The message is for eyes. The fact is for programs, and whoever prints it has an escape of its own.
    wrong(reason::UNSAFE_ARCHIVE_ENTRY, format!("entry \"{}\": {why}", shown.escape_debug()))
        .with_fact("entry", shown)
        .with_fact("problem", why)
}

/// The source of the archive failed, which says nothing about the archive.
pub(crate) fn unreadable(error: io::Error) -> Error {
    Error::unavailable(reason::STORAGE_UNAVAILABLE, "the bundle could not be read", error)
}
