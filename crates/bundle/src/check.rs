//! Whether a bundle may be taken in.
//!
//! *Knows:* that every entry must be walked. *Does not know:* where the bytes come from.

use std::io::Read;

use portico_base::Result;

use crate::{Contents, Entries, Limits};

/// Reads a whole bundle and answers what it holds. Blocks as its source does; stops at the first thing that is wrong.
///
/// # Errors
/// `empty_bundle`, `not_gzip`, `corrupt_gzip`, `not_tar`, `corrupt_tar`, `unsafe_archive_entry` or
/// `bundle_expands_too_large`; `storage_unavailable` when the source fails.
pub fn check(archive: impl Read, limits: Limits) -> Result<Contents> {
    let mut entries = Entries::new(archive, limits);
    while entries.next()?.is_some() {}
    Ok(entries.contents())
}
