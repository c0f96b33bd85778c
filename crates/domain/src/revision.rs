//! Which version of a thing a caller means to change.
//!
//! A newcomer's usual mistake is to compare first and write then. What is read here goes into the expectation of the
//! write, so that two careful callers cannot both win.
//!
//! *Knows:* the `if-match` metadata. *Does not know:* what changes.

use portico_base::{Code, Context, Error, Result, reason};

/// What must be stored for a change to be wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// The caller did not say.
    Unsaid,
    /// Something, whatever its version.
    Anything,
    /// This version.
    Version(u64),
    /// A text that is no version, and so is never the current one.
    Nothing,
}

impl IfMatch {
    /// What the caller said: `3`, `"3"`, `W/"3"` or `*`.
    pub fn of(cx: &Context) -> IfMatch {
        let Some(text) = cx.metadata.get("if-match").map(str::trim) else { return IfMatch::Unsaid };
        if text == "*" {
            return IfMatch::Anything;
        }
        let text = text.strip_prefix("W/").unwrap_or(text);
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        text.parse().map_or(IfMatch::Nothing, IfMatch::Version)
    }

    /// Whether the stored version (zero for nothing stored) is the one that is meant.
    ///
    /// # Errors
    /// `version_mismatch`, with the current version as a fact.
    pub fn check(self, current: u64) -> Result<()> {
        let fits = match self {
            IfMatch::Unsaid => true,
            IfMatch::Anything => current > 0,
            IfMatch::Version(version) => version == current,
            IfMatch::Nothing => false,
        };
        if fits {
            return Ok(());
        }
        let message = format!("the current version is {current}; read it again, then change it");
        Err(Error::new(Code::FailedPrecondition, reason::VERSION_MISMATCH, message)
            .with_fact("version", current.to_string()))
    }
}
