//! How many clients are attached to an instance.
//!
//! A newcomer's usual mistake is to count in the handler. A stream lives on after its handler has answered, so the place
//! is given back when the stream is dropped.
//!
//! *Knows:* counts. *Does not know:* frames.

use std::{
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context as Wake, Poll},
};

use futures_util::Stream;
use portico_base::{Code, Error, Outgoing, Result, Retry, reason};

use super::Inner;

/// Clients that may be attached to one instance.
pub const ATTACHED_MAX: u32 = 16;

/// A client's place at an instance. Given back when it is dropped.
pub(super) struct Place {
    inner: Arc<Inner>,
    instance: String,
}

impl Place {
    /// Takes a place.
    ///
    /// # Errors
    /// `too_many_concurrent` when none is free.
    pub(super) fn take(inner: &Arc<Inner>, instance: &str) -> Result<Place> {
        let mut attached = inner.attached.lock().unwrap_or_else(PoisonError::into_inner);
        let count = attached.entry(instance.to_owned()).or_insert(0);
        if *count >= ATTACHED_MAX {
            let message = format!("{ATTACHED_MAX} clients are attached to the instance, which is the limit");
            let error = Error::new(Code::ResourceExhausted, reason::TOO_MANY_CONCURRENT, message);
            return Err(error.retry(Retry::After(std::time::Duration::from_secs(1))));
        }
        *count += 1;
        Ok(Place { inner: Arc::clone(inner), instance: instance.to_owned() })
    }

    /// The same stream, which gives the place back when it is dropped.
    pub(super) fn held_by<T: Send + 'static>(self, stream: Outgoing<T>) -> Outgoing<T> {
        Box::pin(Held { stream, _place: self })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut attached = self.inner.attached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = attached.get_mut(&self.instance) {
            *count -= 1;
            if *count == 0 {
                attached.remove(&self.instance);
            }
        }
    }
}

struct Held<T> {
    stream: Outgoing<T>,
    _place: Place,
}

impl<T> Stream for Held<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, wake: &mut Wake<'_>) -> Poll<Option<Self::Item>> {
        self.stream.as_mut().poll_next(wake)
    }
}
