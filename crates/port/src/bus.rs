//! Topics: what one part of the platform tells all others, on every gateway.
//!
//! A newcomer's usual mistake is to treat a topic as a queue of work. Everybody who listens hears everything, from the
//! moment they ask or from a position they remember; who is too slow is told that it missed something and must read the
//! facts again from where they are kept.
//!
//! *Knows:* topics, positions, messages as text. *Does not know:* what a message means.

use std::{pin::Pin, sync::Arc};

use futures_core::Stream;
use portico_base::{Result, health::Health};

use crate::Answer;

/// Largest message; larger things are records, and the message names them.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Messages that a topic keeps for those who come back.
pub const RETAINED_MESSAGES_MAX: usize = 1_024;

/// A place in a topic. Opaque: only the backend that made it can read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position(Arc<str>);

impl Position {
    /// Wraps what a backend made, or what a caller kept of it.
    pub fn new(text: impl Into<Arc<str>>) -> Position {
        Position(text.into())
    }

    /// The position as text, to keep.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where to begin listening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// With the next message.
    Now,
    /// With the first message after this one, if it is still kept.
    After(Position),
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place.
    pub position: Position,
    /// What it says.
    pub body: Arc<str>,
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The next message.
    Message(Message),
    /// Messages were missed here: the listener was too slow, its position is not kept any more, or the bus was away.
    Missed,
}

/// What a listener holds. Ends never; an error means that the bus is out of reach for now and that listening goes on.
pub type Subscription = Pin<Box<dyn Stream<Item = Result<Event>> + Send>>;

/// Topics.
pub trait Bus: Send + Sync + 'static {
    /// Tells everybody who listens to this topic.
    fn publish<'a>(&'a self, topic: &'a str, body: String) -> Answer<'a, Position>;

    /// Listens. From the moment this answers, no message is lost without an [`Event::Missed`].
    fn subscribe<'a>(&'a self, topic: &'a str, from: From) -> Answer<'a, Subscription>;

    /// Whether the bus answers.
    fn health(&self) -> Answer<'_, Health>;
}
