//! Runs a handler.
//!
//! A newcomer's usual mistake is to await it. A call that may change something ends even if its caller hangs up, so it
//! runs on a task of its own; one that changes nothing is dropped with its caller.
//!
//! *Knows:* what repeating a call means, deadlines. *Does not know:* what is called.

use std::future::Future;

use tokio::time::timeout_at;

use super::flow::too_late;
use crate::{
    base::{Deadline, Error, Result, tasks::Tasks},
    edge::shield,
    schema::Idempotency,
};

/// Runs a handler until its deadline. What it does after that is lost to the caller, not undone.
pub(crate) async fn run<T, F>(work: F, idempotency: Idempotency, deadline: Deadline, tasks: &Tasks) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    if idempotency == Idempotency::NoSideEffects {
        return bounded(shield::call(work), deadline).await;
    }
    let task = tasks.serve(shield::call(work));
    bounded(async { task.await.unwrap_or_else(|ended| Err(Error::internal(ended))) }, deadline).await
}

/// Waits until the deadline.
pub(crate) async fn bounded<T>(work: impl Future<Output = Result<T>>, deadline: Deadline) -> Result<T> {
    match deadline.instant() {
        Some(instant) => timeout_at(instant, work).await.unwrap_or_else(|_| Err(too_late())),
        None => work.await,
    }
}
