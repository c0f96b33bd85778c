//! The messages of an answer on their way out.
//!
//! A newcomer's usual mistake is to collect or to send ahead. One message is asked for when the one before has gone, so a
//! slow reader slows the handler down and nothing piles up.
//!
//! *Knows:* messages, revocation, panics. *Does not know:* framing.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use connectrpc::{ConnectError, EncodedBody};
use futures_core::Stream;
use http::HeaderMap;
use portico_base::{Code, Deadline, Error, Outgoing, Result, reason, tasks::Tasks};
use portico_gate::Entry;
use portico_json::{MessageType, Style};

use super::failure;
use crate::{
    ends::{draining, in_time, revoked},
    shield::panicked,
};

/// A stream that is always ready is asked after its credential once in so many messages: asking takes a lock.
const MESSAGES_BETWEEN_CHECKS: u8 = 32;

pub(super) struct Outflow {
    pub(super) messages: Outgoing<Bytes>,
    /// The message type when the caller wants JSON.
    pub(super) json: Option<MessageType>,
    pub(super) trailers: HeaderMap,
    pub(super) watch: Watch,
    pub(super) unchecked: u8,
    pub(super) tasks: Tasks,
    /// When the stream is to leave a house that drains. Made when the stream first waits.
    pub(super) departure: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Stream for Outflow {
    type Item = std::result::Result<EncodedBody, ConnectError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.watch.is_over() {
            return Poll::Ready(None);
        }
        let mut polled = catch_unwind(AssertUnwindSafe(|| this.messages.as_mut().poll_next(cx)))
            .unwrap_or_else(|payload| Poll::Ready(Some(Err(panicked(&*payload)))));
        this.unchecked = this.unchecked.saturating_add(1);
        // A handler hears of the revocation too, and may end before it is asked here.
        let ends = matches!(polled, Poll::Ready(None | Some(Err(_))));
        if polled.is_pending() || ends || this.unchecked > MESSAGES_BETWEEN_CHECKS {
            this.unchecked = 0;
            if this.watch.poll_revoked(cx) {
                polled = Poll::Ready(Some(Err(revoked())));
            } else if !ends && this.departure.get_or_insert_with(|| this.tasks.departure()).as_mut().poll(cx).is_ready()
            {
                polled = Poll::Ready(Some(Err(draining())));
            }
        }
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                this.watch.succeed();
                Poll::Ready(None)
            }
            Poll::Ready(Some(message)) => {
                let sent = message.and_then(|wire| encode(wire, this.json.as_ref()));
                Poll::Ready(Some(sent.map(EncodedBody::from).map_err(|error| {
                    this.watch.fail(&error);
                    failure::to_connect_late(&error, &this.trailers)
                })))
            }
        }
    }
}

/// Notes how a call ended, also when it is simply dropped.
pub(super) struct Watch {
    entry: Option<Entry>,
    deadline: Deadline,
    /// Made when it is first asked for: most calls end before.
    revoked: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Watch {
    pub(super) fn new(entry: Entry, deadline: Deadline) -> Watch {
        Watch { entry: Some(entry), deadline, revoked: None }
    }

    /// Whether there is time left to begin.
    ///
    /// # Errors
    /// `deadline_exceeded`.
    pub(super) fn in_time(&self) -> Result<()> {
        in_time(self.deadline)
    }

    /// Ends the watch: the call ended well.
    pub(super) fn succeed(&mut self) {
        self.entry = None;
    }

    /// Ends the watch: the call failed.
    pub(super) fn fail(&mut self, error: &Error) {
        if let Some(entry) = self.entry.take() {
            entry.fail(error);
        }
    }

    /// Whether the credential of the call has been revoked.
    pub(super) fn poll_revoked(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(entry) = &self.entry else { return false };
        self.revoked.get_or_insert_with(|| entry.revoked()).as_mut().poll(cx).is_ready()
    }

    fn is_over(&self) -> bool {
        self.entry.is_none()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(entry) = self.entry.take() else { return };
        let is_late = self.deadline.remaining().is_some_and(|left| left.is_zero());
        entry.fail(&if is_late {
            Error::new(Code::DeadlineExceeded, reason::DEADLINE_EXCEEDED, "the deadline passed")
        } else {
            Error::new(Code::Canceled, reason::CANCELED, "the caller hung up")
        });
    }
}

/// A message in the encoding of the caller.
pub(super) fn encode(wire: Bytes, json: Option<&MessageType>) -> Result<Bytes> {
    let Some(message) = json else { return Ok(wire) };
    // JSON takes more room than its wire form: names and quotes.
    let mut text = Vec::with_capacity(wire.len() * 2);
    message.encode(&wire, Style::CANONICAL, &mut text).map_err(|error| Error::internal(error.to_string()))?;
    Ok(text.into())
}
