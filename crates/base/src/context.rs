//! What is known of one call once the gate has let it in.
//!
//! A newcomer's usual mistake is to store facts of a call in a task-local. They travel in the `Context`, so
//! that a handler's needs can be read off its signature.
//!
//! *Knows:* caller, deadline, ids, request metadata, the reply's metadata, the clock.
//! *Does not know:* which protocol or route brought the call.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{Caller, Clock, Timestamp, Trace, metadata::Metadata, reply::Reply};

/// The facts of one call, behind one pointer: a call hands them through a dozen futures.
#[derive(Clone)]
pub struct Context(Arc<Facts>);

/// What a [`Context`] holds.
#[derive(Clone)]
pub struct Facts {
    /// Who calls.
    pub caller: Arc<Caller>,
    /// The method's path, for example `/podium.v1.KeysService/CreateKey`.
    pub procedure: &'static str,
    /// When the caller stops waiting.
    pub deadline: Deadline,
    /// The request id, from the caller or ours.
    pub id: RequestId,
    /// Where the call stands in a distributed trace.
    pub trace: Trace,
    /// What the caller sent beside the message. Credentials are not in it.
    pub metadata: Metadata,
    /// What goes back beside the message.
    pub reply: Reply,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Deref for Context {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.0
    }
}

impl Context {
    /// A call of which this is known.
    pub fn new(facts: Facts) -> Context {
        Context(Arc::new(facts))
    }

    /// A call that no door brought: work that the house begins by itself, and tests.
    pub fn internal(procedure: &'static str, caller: Caller, clock: Arc<dyn Clock>) -> Context {
        Context::new(Facts {
            caller: Arc::new(caller),
            procedure,
            deadline: Deadline::NONE,
            id: RequestId::generate(),
            trace: Trace::entered(None),
            metadata: Metadata::default(),
            reply: Reply::default(),
            clock,
        })
    }

    /// The same call with other metadata.
    #[must_use]
    pub fn with_metadata(self, metadata: Metadata) -> Context {
        Context::new(Facts { metadata, ..Arc::unwrap_or_clone(self.0) })
    }

    /// The wall-clock time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// When the caller stops waiting, if it said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No deadline.
    pub const NONE: Deadline = Deadline(None);

    /// A deadline at this moment.
    pub fn at(instant: Instant) -> Deadline {
        Deadline(Some(instant))
    }

    /// A deadline this far from now. Too far to be expressed is none.
    pub fn after(duration: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(duration))
    }

    /// The moment, if there is one.
    pub fn instant(self) -> Option<Instant> {
        self.0
    }

    /// How long is left; `None` without a deadline, zero when it has passed.
    pub fn remaining(self) -> Option<Duration> {
        self.0.map(|instant| instant.saturating_duration_since(Instant::now()))
    }

    /// Whether it has passed.
    pub fn is_over(self) -> bool {
        self.0.is_some_and(|instant| instant <= Instant::now())
    }

    /// The earlier of the two.
    #[must_use]
    pub fn earlier(self, other: Deadline) -> Deadline {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Deadline(Some(a.min(b))),
            (a, b) => Deadline(a.or(b)),
        }
    }
}

/// The id that one call has in answers, logs and upstream calls: 1 to 128 visible ASCII characters.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Longest id taken from a caller; ids end up in log lines and headers.
    pub const CHARACTERS_MAX: usize = 128;

    /// A fresh id.
    pub fn generate() -> RequestId {
        let mut text = *b"req_00000000000000000000";
        crate::id::draw_symbols(&mut text["req_".len()..]);
        // The alphabet is ASCII, so this is always text.
        RequestId(str::from_utf8(&text).unwrap_or_default().into())
    }

    /// The caller's id, if it is one that may be echoed.
    pub fn parse(text: &str) -> Option<RequestId> {
        let fits = (1..=Self::CHARACTERS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| RequestId(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
