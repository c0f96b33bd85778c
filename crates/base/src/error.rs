//! The one error type: why a call did not succeed.
//!
//! A newcomer's usual mistake is to reach for a `From` impl so that `?` just works. There is none on purpose: whoever
//! meets a foreign error knows what was being attempted and whether trying again is safe, and says so here.
//!
//! *Knows:* the sixteen codes, reasons, details, whether a call may be repeated.
//! *Does not know:* how any protocol or page prints it (that is the edge's).

use std::{borrow::Cow, fmt, time::Duration};

use bytes::Bytes;

use crate::reason::{self, Reason};

/// The result of everything that can fail in Portico.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A cause from a library, kept for the log.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The sixteen gRPC codes. There is no OK: an error that is OK makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    /// The caller gave up.
    Canceled = 1,
    /// Something failed in a way nobody classified.
    Unknown = 2,
    /// The request is wrong whatever the state of the system.
    InvalidArgument = 3,
    /// Time ran out before the work was done.
    DeadlineExceeded = 4,
    /// The thing does not exist, or the caller may not know that it does.
    NotFound = 5,
    /// The thing exists already with other content.
    AlreadyExists = 6,
    /// The caller is known and may not do this.
    PermissionDenied = 7,
    /// A limit or quota is used up, or something is too large.
    ResourceExhausted = 8,
    /// The system is not in the state that this call needs.
    FailedPrecondition = 9,
    /// A concurrent change won.
    Aborted = 10,
    /// A position lies outside of what exists.
    OutOfRange = 11,
    /// This method is not offered.
    Unimplemented = 12,
    /// An invariant of ours is broken.
    Internal = 13,
    /// A dependency is out of reach for now.
    Unavailable = 14,
    /// Data is lost or unreadable for good.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
}

impl Code {
    /// Every code, in numeric order, so that tables and tests cannot forget one.
    pub const ALL: [Code; 16] = [
        Code::Canceled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    /// The name that Connect writes, for example `not_found`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::Canceled => "canceled",
            Code::Unknown => "unknown",
            Code::InvalidArgument => "invalid_argument",
            Code::DeadlineExceeded => "deadline_exceeded",
            Code::NotFound => "not_found",
            Code::AlreadyExists => "already_exists",
            Code::PermissionDenied => "permission_denied",
            Code::ResourceExhausted => "resource_exhausted",
            Code::FailedPrecondition => "failed_precondition",
            Code::Aborted => "aborted",
            Code::OutOfRange => "out_of_range",
            Code::Unimplemented => "unimplemented",
            Code::Internal => "internal",
            Code::Unavailable => "unavailable",
            Code::DataLoss => "data_loss",
            Code::Unauthenticated => "unauthenticated",
        }
    }

    /// The code with this number, if there is one. Zero (OK) is none.
    pub fn from_number(number: i32) -> Option<Code> {
        Code::ALL.into_iter().find(|code| *code as i32 == number)
    }
}

/// Whether the caller may try again, and what it risks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Trying again changes nothing.
    Never,
    /// Nothing was done; worth trying again after this long.
    After(Duration),
    /// Nothing was done; worth trying again at once.
    Safe,
    /// The work may already have happened: only repeat what is idempotent.
    MayRepeat,
}

/// A fact about an error that a program can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// A field of the request, by its path, and what is wrong with it.
    Field {
        /// Dotted path in proto names, for example `secrets.API-KEY`.
        path: String,
        /// What is wrong, as a sentence fragment.
        reason: String,
    },
    /// A named fact, for example the checksum already stored.
    Fact {
        /// snake_case name.
        name: &'static str,
        /// Its value; safe to show.
        value: String,
    },
    /// A protobuf message already packed by whoever raised the error.
    Packed {
        /// Full message name, without a type URL prefix.
        type_name: String,
        /// Its wire bytes.
        value: Bytes,
    },
}

/// Why a call did not succeed. `message` is for the caller; the source is for the log and cannot be printed by accident.
///
/// Boxed, so that the success path of every `Result` stays one word wide.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    reason: Reason,
    message: Cow<'static, str>,
    details: Vec<Detail>,
    retry: Retry,
    source: Option<BoxError>,
    metadata: Option<http::HeaderMap>,
}

impl Error {
    /// An error of this code, reason and message. The message is shown to callers: no keys, paths or internals.
    pub fn new(code: Code, reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Error(Box::new(Inner {
            code,
            reason,
            message: message.into(),
            details: Vec::new(),
            retry: Retry::Never,
            source: None,
            metadata: None,
        }))
    }

    /// One field of the request breaks a rule. `field` is its path in proto names.
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        let (path, reason) = (field.into(), problem.into());
        Error::new(Code::InvalidArgument, reason::VALIDATION_FAILED, format!("{path}: {reason}"))
            .with(Detail::Field { path, reason })
    }

    /// The thing does not exist for this caller. `noun` names what was asked for, `reason` says it for programs.
    pub fn not_found(reason: Reason, noun: &str, id: &str) -> Self {
        Error::new(Code::NotFound, reason, format!("no such {noun}: {id}"))
    }

    /// A dependency is out of reach; nothing was done and trying again is worth it.
    pub fn unavailable(reason: Reason, message: impl Into<Cow<'static, str>>, source: impl Into<BoxError>) -> Self {
        Error::new(Code::Unavailable, reason, message).retry(Retry::After(Duration::from_secs(1))).caused_by(source)
    }

    /// An invariant of ours is broken. The caller learns only that; the source goes to the log.
    pub fn internal(source: impl Into<BoxError>) -> Self {
        Error::new(Code::Internal, reason::INTERNAL, "internal error").caused_by(source)
    }

    /// The same error with one more detail.
    #[must_use]
    pub fn with(mut self, detail: Detail) -> Self {
        self.0.details.push(detail);
        self
    }

    /// The same error with a named fact, for example `with_fact("checksum", existing)`.
    #[must_use]
    pub fn with_fact(self, name: &'static str, value: impl Into<String>) -> Self {
        self.with(Detail::Fact { name, value: value.into() })
    }

    /// The same error with another answer to "may I try again".
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// The same error with its cause, which no caller sees. It must not be made of what a caller sent.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error with response metadata (headers where the protocol has them, else trailers).
    #[must_use]
    pub fn with_metadata(mut self, metadata: http::HeaderMap) -> Self {
        self.0.metadata = Some(metadata);
        self
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The stable reason.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The sentence for the caller.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Facts that a program can read.
    pub fn details(&self) -> &[Detail] {
        &self.0.details
    }

    /// Whether the caller may try again.
    pub fn retry_hint(&self) -> Retry {
        self.0.retry
    }

    /// Response metadata to send with the error.
    pub fn metadata(&self) -> Option<&http::HeaderMap> {
        self.0.metadata.as_ref()
    }

    /// The whole story, causes included, for whoever runs the process.
    pub fn report(&self) -> String {
        self.with_causes(&self.0.message)
    }

    /// The story for the record of a call: fixed words and causes. A message that was put together is left out, because it
    /// may hold what a caller sent; the reason says the same in one word.
    pub fn record(&self) -> String {
        self.with_causes(match &self.0.message {
            Cow::Borrowed(words) => words,
            Cow::Owned(_) => "",
        })
    }

    fn with_causes(&self, words: &str) -> String {
        let mut text = words.to_owned();
        let mut cause: Option<&dyn std::error::Error> = self.0.source.as_deref().map(|source| source as _);
        while let Some(source) = cause {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&source.to_string());
            cause = source.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

/// Prints code, reason and message; never the source.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({}, {}, {:?})", self.0.code.as_str(), self.0.reason, self.0.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_reported_but_never_displayed() {
        let error = Error::internal("password=hunter2");
        assert_eq!(error.to_string(), "internal error");
        assert!(!format!("{error:?}").contains("hunter2"));
        assert_eq!(error.report(), "internal error: password=hunter2");
    }

    #[test]
    fn the_record_of_a_call_has_causes_and_no_word_of_its_caller() {
        let error = Error::not_found(reason::KEY_NOT_FOUND, "key", "pasted-secret");
        assert_eq!(error.record(), "");
        assert_eq!(error.caused_by("the index is gone").record(), "the index is gone");
        assert_eq!(Error::internal("a broken pipe").record(), "internal error: a broken pipe");
    }

    #[test]
    fn every_code_survives_its_number() {
        for code in Code::ALL {
            assert_eq!(Code::from_number(code as i32), Some(code));
        }
        assert_eq!(Code::from_number(0), None);
    }
}
