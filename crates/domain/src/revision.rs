//! Which version of a thing a caller means to change.
//!
//! A newcomer's usual mistake is to compare first and write then. What is read here goes into the expectation of the
//! write, so that two careful callers cannot both win.
//!
//! *Knows:* the `if-match` metadata. *Does not know:* what changes.

use portico_base::{Code, Context, Error, Result, reason};

/// What must be stored for a change to be wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// The caller did not say.
    Unsaid,
    /// Something, whatever its version.
    Anything,
    /// One of these versions. A text that is no version is never the current one, and is left out.
    OneOf(Vec<u64>),
}

impl IfMatch {
    /// What the caller said: `3`, `"3"`, `W/"3"`, several of them with commas, or `*` (RFC 9110, 13.1.1).
    pub fn of(cx: &Context) -> IfMatch {
        let Some(text) = cx.metadata.get("if-match").map(str::trim) else { return IfMatch::Unsaid };
        if text == "*" {
            return IfMatch::Anything;
        }
        let version = |text: &str| {
            let text = text.trim();
            let text = text.strip_prefix("W/").unwrap_or(text);
            text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).parse().ok()
        };
        IfMatch::OneOf(text.split(',').filter_map(version).collect())
    }

    /// Whether the stored version (zero for nothing stored) is one that is meant, of a thing that is there or is not yet.
    ///
    /// # Errors
    /// `version_mismatch`, with the current version as a fact.
    pub fn check(&self, current: u64, is_there: bool) -> Result<()> {
        let fits = match self {
            IfMatch::Unsaid => true,
            IfMatch::Anything => is_there,
            IfMatch::OneOf(versions) => versions.contains(&current),
        };
        if fits {
            return Ok(());
        }
        let message = format!("the current version is {current}; read it again, then change it");
        Err(Error::new(Code::FailedPrecondition, reason::VERSION_MISMATCH, message)
            .with_fact("version", current.to_string()))
    }
}
