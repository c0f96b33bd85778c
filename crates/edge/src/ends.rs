//! Why a call ends before its work is done, and how long its caller may take.
//!
//! A newcomer's usual mistake is to word such an end at the door where it is noticed. Every protocol tells of the same one,
//! so each is made here, and what is waited for at a door has its bound here.
//!
//! *Knows:* deadlines, revocation, drain, silence. *Does not know:* protocols.

use std::{future::Future, time::Duration};

use futures_util::FutureExt;
use portico_base::{Code, Deadline, Error, Result, Retry, reason};
use tokio::time::timeout_at;

/// How long a caller may send nothing. Longer is a hung peer or one that holds connections on purpose.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long a whole body may take. The largest upload over a slow line stays below; the setting for uploads is bounded by
/// it.
pub(crate) const BODY_MAX: Duration = Duration::from_secs(600);

/// The credential of the call has ended while the call went on.
pub(crate) fn revoked() -> Error {
    Error::new(Code::Unauthenticated, reason::UNAUTHORIZED, "the credential was revoked or has expired")
}

/// The house closes.
pub(crate) fn draining() -> Error {
    Error::new(Code::Unavailable, reason::DRAINING, "the server is shutting down; connect again")
        .retry(Retry::After(Duration::from_secs(1)))
}

/// The deadline of the call has passed.
pub(crate) fn too_late() -> Error {
    Error::new(Code::DeadlineExceeded, reason::DEADLINE_EXCEEDED, "the deadline passed before the work was done")
        .retry(Retry::MayRepeat)
}

/// The body does not come.
pub(crate) fn too_slow() -> Error {
    Error::new(Code::DeadlineExceeded, reason::UPLOAD_TIMEOUT, "the body did not arrive in time")
}

/// Whether there is time left to begin: a call that comes too late does nothing.
///
/// # Errors
/// `deadline_exceeded`.
pub(crate) fn in_time(deadline: Deadline) -> Result<()> {
    if deadline.is_over() { Err(too_late()) } else { Ok(()) }
}

/// Waits until the deadline. A function and not an `async fn`, which would hold the work three times.
pub(crate) fn bounded<T>(work: impl Future<Output = Result<T>>, deadline: Deadline) -> impl Future<Output = Result<T>> {
    match deadline.instant() {
        // Boxed, so that the many that have none do not carry room for a timer.
        Some(instant) => {
            let waiting = timeout_at(instant, work);
            Box::pin(waiting.map(|ended| ended.unwrap_or_else(|_| Err(too_late())))).left_future()
        }
        None => work.right_future(),
    }
}
