//! Runs a handler.
//!
//! A newcomer's usual mistake is to await it. A call that may change something ends even if its caller hangs up, so it
//! runs on a task of its own; one that changes nothing is dropped with its caller.
//!
//! *Knows:* what repeating a call means, deadlines. *Does not know:* what is called.

use std::future::Future;

use portico_base::{Code, Deadline, Error, Result, reason, tasks::Tasks};
use portico_gate::Entry;
use portico_schema::Idempotency;

use crate::{ends::bounded, shield};

/// Runs a handler until its deadline. What it does after that is lost to the caller, not undone; the record has both: that
/// the caller has gone, and what the work came to.
pub(crate) async fn run<T, F>(
    work: F,
    idempotency: Idempotency,
    deadline: Deadline,
    entry: &Entry,
    tasks: &Tasks,
) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let mut waiting = Waiting(Some(entry));
    let outcome = if idempotency == Idempotency::NoSideEffects {
        bounded(shield::call(work), deadline).await
    } else {
        let record = entry.clone();
        let task = tasks.serve(async move {
            let outcome = shield::call(work).await;
            record.worked(&outcome);
            outcome
        });
        bounded(async { task.await.unwrap_or_else(|ended| Err(Error::internal(ended))) }, deadline).await
    };
    waiting.0 = None;
    outcome
}

/// Notes when nobody waits any more.
struct Waiting<'e>(Option<&'e Entry>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.0 {
            entry.fail(&Error::new(Code::Canceled, reason::CANCELED, "the caller hung up"));
        }
    }
}
