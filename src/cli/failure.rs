//! Why a command did not succeed, for whoever typed it.
//!
//! *Knows:* what to print and the exit code. *Does not know:* commands.

use std::{fmt, io::Write, process::ExitCode};

use portico::{base::Code, config::Problems};

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// The configuration is wrong.
    Configuration(Problems),
    /// The gateway refused or failed.
    Call(Refusal),
    /// Something else went wrong; what to do about it, if anything.
    Other(String, Option<&'static str>),
    /// Nobody reads our output any more.
    NobodyListens,
}

/// What the gateway answered instead of a result.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Its code.
    pub(crate) code: Code,
    /// Its sentence.
    pub(crate) message: String,
    /// Its stable reason, when it gave one.
    pub(crate) reason: Option<String>,
    /// The id under which the gateway logged the call.
    pub(crate) request_id: Option<String>,
    /// How many seconds to wait before trying again.
    pub(crate) retry_after: Option<String>,
}

impl Failure {
    /// The command line is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::Usage(message.into())
    }

    /// Something went wrong that nobody can do anything about here.
    pub(crate) fn other(message: impl Into<String>) -> Failure {
        Failure::Other(message.into(), None)
    }

    /// The operating system refused something.
    pub(crate) fn system(what: &str, error: &std::io::Error) -> Failure {
        Failure::Other(format!("{what}: {error}"), None)
    }

    /// Prints it and says how to exit: 2 when the command line is wrong, else 1.
    pub(crate) fn report(self) -> ExitCode {
        if matches!(self, Failure::NobodyListens) {
            return ExitCode::SUCCESS;
        }
        // Standard error may be closed; the exit code still tells.
        let _printed = writeln!(std::io::stderr().lock(), "{self}").is_ok();
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(message) => write!(f, "error: {message}\n  hint: `portico --help` lists commands and flags"),
            Failure::Configuration(problems) => write!(f, "error: {problems}"),
            Failure::Call(refusal) => refusal.fmt(f),
            Failure::Other(message, None) => write!(f, "error: {message}"),
            Failure::Other(message, Some(hint)) => write!(f, "error: {message}\n  hint: {hint}"),
            Failure::NobodyListens => Ok(()),
        }
    }
}

/// Code, message, reason, hint and request id, a line each.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}: {}", self.code.as_str(), self.message)?;
        if let Some(reason) = &self.reason {
            write!(f, "\n  reason: {reason}")?;
        }
        if let Some(hint) = hint(self.code) {
            write!(f, "\n  hint: {hint}")?;
        }
        if let Some(seconds) = &self.retry_after {
            write!(f, "\n  try again after: {seconds} seconds")?;
        }
        match &self.request_id {
            Some(id) => write!(f, "\n  request: {id}"),
            None => Ok(()),
        }
    }
}

/// What usually helps.
fn hint(code: Code) -> Option<&'static str> {
    match code {
        Code::Unauthenticated => Some("set PORTICO_KEY to a key that is valid; the first start printed one"),
        Code::PermissionDenied => Some("use a key with this permission, or an administrator's key"),
        Code::ResourceExhausted => Some("wait, or raise the limit in the gateway's configuration"),
        Code::Unavailable => Some("nothing was lost; try again in a moment"),
        Code::Unimplemented => Some("this gateway is older than this command; `portico version` shows the command's"),
        Code::Internal | Code::Unknown => Some("the gateway's log has a line with the request id below"),
        _ => None,
    }
}
