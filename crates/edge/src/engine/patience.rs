//! How long the caller of a call may take over its messages.
//!
//! A newcomer's usual mistake is to give a conversation the limits of a body. Two sides that talk may both be silent for
//! hours; but a message that has begun must come to its end.
//!
//! *Knows:* silence, and how long the whole may take. *Does not know:* bytes.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use portico_schema::Shape;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::ends::{BODY_MAX, SILENCE_MAX};

/// The patience with one caller.
pub(super) struct Patience {
    /// Whether nothing need come between messages.
    converses: bool,
    /// When all must be there: the body, or in a conversation the message. Set when it is first waited for.
    ends_at: Option<Instant>,
    /// Set up when it is first waited for: most bodies are there when they are asked for.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl Patience {
    pub(super) fn new(shape: Shape) -> Patience {
        Patience { converses: shape == Shape::Bidi, ends_at: None, timer: None, is_waiting: false }
    }

    /// Something has come; whether that was the end of a message.
    pub(super) fn heard(&mut self, is_between: bool) {
        self.is_waiting = false;
        if self.converses && is_between {
            self.ends_at = None;
        }
    }

    /// Whether it is over, when nothing has come for now.
    pub(super) fn is_over(&mut self, is_between: bool, cx: &mut Context<'_>) -> bool {
        if self.converses && is_between {
            return false;
        }
        let now = Instant::now();
        let until = (*self.ends_at.get_or_insert(now + BODY_MAX)).min(now + SILENCE_MAX);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if !self.is_waiting {
            self.is_waiting = true;
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx) == Poll::Ready(())
    }
}
