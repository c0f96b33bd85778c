//! The messages that passed through one instance, the latest of them.
//!
//! A newcomer's usual mistake is to keep all. An instance lives for days; what is kept here serves a client that comes
//! back, and is bounded.
//!
//! *Knows:* messages. *Does not know:* frames.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use portico_port::fleet::{Message, Window};

/// Most messages kept.
const MESSAGES_MAX: usize = 2_000;
/// Most text kept, per instance.
const BYTES_MAX: usize = 4 << 20;

/// The latest messages of one instance.
#[derive(Default)]
pub(super) struct History(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl History {
    /// Adds a message, and forgets the oldest when there are too many.
    pub(super) fn add(&self, message: Message) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += message.text.len();
        kept.messages.push_back(message);
        while kept.messages.len() > MESSAGES_MAX || kept.bytes > BYTES_MAX {
            let Some(oldest) = kept.messages.pop_front() else { break };
            kept.bytes -= oldest.text.len();
        }
    }

    /// Messages, oldest first.
    pub(super) fn list(&self, window: Window) -> Vec<Message> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.messages.iter().skip(window.offset).take(window.limit).cloned().collect()
    }
}
