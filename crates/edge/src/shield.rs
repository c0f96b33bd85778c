//! A panic is the failure of one call.
//!
//! A newcomer's usual mistake is to let it travel: it would end the connection, and with it the calls that share it. Every
//! door runs handlers and reads their streams through here.
//!
//! *Knows:* how to catch a panic and what error it is. *Does not know:* handlers.

use std::{any::Any, future::Future, panic::AssertUnwindSafe};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use portico_base::{Error, Outgoing, Result};

/// Runs a call. A function and not an `async fn`, which would hold the work twice: as it was given and as it is polled.
pub(super) fn call<T>(work: impl Future<Output = Result<T>>) -> impl Future<Output = Result<T>> {
    AssertUnwindSafe(work).catch_unwind().map(|ended| ended.unwrap_or_else(|payload| Err(panicked(&*payload))))
}

/// A stream that ends with an error instead of a panic.
pub(super) fn stream(messages: Outgoing<Bytes>) -> Outgoing<Bytes> {
    let shielded = AssertUnwindSafe(messages).catch_unwind();
    Box::pin(shielded.map(|message| message.unwrap_or_else(|payload| Err(panicked(&*payload)))))
}

/// The error for it. What the panic said is for the log.
pub(super) fn panicked(payload: &(dyn Any + Send)) -> Error {
    let text = payload.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    Error::internal(format!("the handler panicked: {}", text.as_deref().unwrap_or("without a message")))
}
