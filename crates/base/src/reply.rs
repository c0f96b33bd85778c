//! What goes back beside the message: headers, trailers, and which kind of success it was. The record of the call reads here
//! which host the answer comes from.
//!
//! A newcomer's usual mistake is to want a status code here. A handler says what happened ([`Outcome`]); each door and
//! page has its own way to say that.
//!
//! *Knows:* outcome, headers, trailers, host. *Does not know:* HTTP statuses.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};

/// Which kind of success a call had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// What was asked is done.
    #[default]
    Done,
    /// It had been done before with the same content; nothing changed.
    Existing,
    /// The answer is complete, and it says that the thing is not in service.
    OutOfService,
}

/// The reply's metadata, filled by the handler and sent by the door. Clones share one reply.
#[derive(Clone, Default)]
pub struct Reply(Arc<Said>);

#[derive(Default)]
struct Said {
    parts: Mutex<Parts>,
    /// Apart, because the record reads it after the door has taken its parts.
    host: Mutex<Option<Box<str>>>,
}

/// What a handler has said beside the message.
#[derive(Debug, Default)]
pub struct Parts {
    /// Which kind of success.
    pub outcome: Outcome,
    /// Sent before the first message.
    pub headers: HeaderMap,
    /// Sent after the last message.
    pub trailers: HeaderMap,
    /// Whether the tag names a part of the answer alone.
    pub tag_is_partial: bool,
    /// Largest message that a WebSocket takes from its caller; as large as the door allows without it.
    pub message_bytes_max: Option<u64>,
}

impl Reply {
    /// Says which kind of success this was.
    pub fn outcome(&self, outcome: Outcome) {
        self.with(|parts| parts.outcome = outcome);
    }

    /// Adds a header. Takes effect until the first message leaves.
    pub fn header(&self, name: HeaderName, value: HeaderValue) {
        self.with(|parts| parts.headers.append(name, value));
    }

    /// Says that the tag (`ETag`) names a part of the answer alone, so that it can be told to a change (`If-Match`) and yet spares
    /// nobody the answer (`If-None-Match`).
    pub fn tag_is_partial(&self) {
        self.with(|parts| parts.tag_is_partial = true);
    }

    /// Adds a trailer. Takes effect until the handler of a unary call returns, or hands over its stream.
    pub fn trailer(&self, name: HeaderName, value: HeaderValue) {
        self.with(|parts| parts.trailers.append(name, value));
    }

    /// Says that a host is asked for the answer. The last one that is asked is the one it comes from.
    pub fn comes_from(&self, host: &str) {
        *self.0.host.lock().unwrap_or_else(PoisonError::into_inner) = Some(host.into());
    }

    /// Which host the answer comes from, if one was asked. For the record.
    pub fn host(&self) -> Option<Box<str>> {
        self.0.host.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says how large messages over a WebSocket may be. Takes effect until the handler hands over its stream.
    pub fn message_bytes_max(&self, bytes: u64) {
        self.with(|parts| parts.message_bytes_max = Some(bytes));
    }

    /// Takes what was said so far. For doors.
    pub fn take(&self) -> Parts {
        self.with(std::mem::take)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Parts) -> T) -> T {
        // A panic while holding this lock leaves plain data behind, so a poisoned lock is still good.
        change(&mut self.0.parts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
