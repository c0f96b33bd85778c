//! What a failure of PostgreSQL means to a caller.
//!
//! A newcomer's usual mistake is to call every failure of a commit safe to repeat. It is, until COMMIT has been sent; from
//! then on only an answer of the server says what happened, and silence says nothing.
//!
//! *Knows:* SQLSTATE, lost connections. *Does not know:* what was asked.

use std::time::Duration;

use portico_base::{Code, Error, Retry, reason};
use sqlx::error::DatabaseError;

/// When to come back. A server that was restarted answers within this.
const COME_BACK: Duration = Duration::from_secs(1);

/// Nothing was done; the store is out of order.
pub(super) fn unavailable(error: sqlx::Error) -> Error {
    let message = match state(&error).as_deref() {
        Some("25006") => "the record store takes no writes",
        Some("53100") => "the disk of the record store is full",
        Some("57014") => "the record store is too slow",
        _ => "the record store does not answer",
    };
    Error::unavailable(reason::RECORDS_UNAVAILABLE, message, error).retry(Retry::After(COME_BACK))
}

/// The server said nothing in time to a question, or to something that it undoes when the connection closes.
pub(super) fn silent() -> Error {
    let message = "the record store does not answer in time";
    Error::new(Code::Unavailable, reason::RECORDS_UNAVAILABLE, message).retry(Retry::After(COME_BACK))
}

/// COMMIT was sent and its answer is missing: it may have happened.
pub(super) fn unknown(error: Option<sqlx::Error>) -> Error {
    let message = "the record store went away while it committed; the change may have been made";
    let unknown = Error::new(Code::Unavailable, reason::RECORDS_UNAVAILABLE, message).retry(Retry::MayRepeat);
    match error {
        Some(error) => unknown.caused_by(error),
        None => unknown,
    }
}

/// The database cannot be used at all, and waiting does not help.
pub(super) fn refused(error: sqlx::Error) -> Error {
    let message = match &error {
        sqlx::Error::Migrate(_) | sqlx::Error::Configuration(_) => format!("the record store cannot be used: {error}"),
        _ => "the record store cannot be used".to_owned(),
    };
    Error::new(Code::FailedPrecondition, reason::RECORDS_UNAVAILABLE, message).caused_by(error)
}

/// Whether the connection is gone, so that nothing more can be asked over it.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        // 57P01 to 57P03: the server ends or starts. 08: the connection failed.
        sqlx::Error::Database(_) => {
            state(error).is_some_and(|state| state.starts_with("57P") || state.starts_with("08") || state == "25P03")
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// Whether two commits got into each other's way, so that this one was undone and may start over.
pub(super) fn is_race(error: &sqlx::Error) -> bool {
    // Serialization failure, deadlock, and a row that somebody else created first.
    matches!(state(error).as_deref(), Some("40001" | "40P01" | "23505"))
}

/// Whether a failure to start may pass by itself. A wrong password does not.
pub(super) fn passes(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(_) => {
            is_lost(error) || is_race(error) || state(error).is_some_and(|state| state.starts_with("53"))
        }
        sqlx::Error::Io(error) => !is_distrusted(error),
        sqlx::Error::Protocol(_) => true,
        _ => false,
    }
}

/// Whether the certificate of the server is not believed. It will not be a second later either.
fn is_distrusted(error: &std::io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

/// Whether the server itself has answered that a commit failed.
pub(super) fn is_answered(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(_)) && !is_lost(error)
}

fn state(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(DatabaseError::code).map(std::borrow::Cow::into_owned)
}
