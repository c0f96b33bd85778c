//! What is said of agents in more than one place: how their types are called, and what only the platform tells them.
//!
//! *Knows:* names. *Does not know:* deployments, instances, settings, which all ask it.

use portico_base::{Code, Error, Result, error::Detail, reason};

/// Longest agent type.
const TYPE_CHARACTERS_MAX: usize = 63;
/// What the platform itself says about an agent.
pub(crate) const RESERVED_CONFIG: [&str; 3] = ["agent_id", "agent_type", "workspace"];

/// Letters, digits, `_` and `-`: none of the separators of ids and keys.
pub(crate) fn check_type(text: &str) -> Result<()> {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if first && rest && text.len() <= TYPE_CHARACTERS_MAX {
        return Ok(());
    }
    let problem = "must be 1 to 63 letters, digits, _ or -, and begin with a letter or digit";
    let detail = Detail::Field { path: "agent_type".to_owned(), reason: problem.to_owned() };
    Err(Error::new(Code::InvalidArgument, reason::INVALID_AGENT_TYPE, format!("agent_type {problem}")).with(detail))
}
