//! A stream of messages on its way to a caller over HTTP.
//!
//! A newcomer's usual mistake is to begin the answer at once. An error that comes before the first message is told by a
//! status, as every other error; so the first message is waited for, though not for long.
//!
//! *Knows:* revocation, drain, deadline, the record of the call. *Does not know:* how messages are framed.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use portico_base::{Deadline, Error, Outgoing, Result, tasks::Tasks};
use portico_gate::Entry;
use tokio::time::timeout;

use crate::{
    ends::{draining, revoked, too_late},
    shield,
};

/// How long the first message is waited for. A stream that is quiet at first must open all the same.
const FIRST_MESSAGE_WAIT: Duration = Duration::from_millis(100);

/// A stream of messages that has begun.
pub(crate) struct Flow {
    first: Option<Bytes>,
    messages: Outgoing<Bytes>,
    entry: Entry,
    deadline: Deadline,
    revoked: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    departure: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    is_over: bool,
}

/// What comes next.
pub(crate) enum Turn {
    /// This message.
    Message(Bytes),
    /// The stream failed; nothing more comes.
    Failed(Error),
    /// Nothing more comes.
    Ended,
}

impl Flow {
    /// Begins, unless the stream fails before its first message.
    ///
    /// # Errors
    /// That failure.
    pub(crate) async fn begin(
        messages: Outgoing<Bytes>,
        entry: &Entry,
        tasks: &Tasks,
        deadline: Deadline,
    ) -> Result<Flow> {
        let mut messages = shield::stream(messages);
        let (first, is_over) = match timeout(FIRST_MESSAGE_WAIT, messages.next()).await {
            Ok(Some(first)) => (Some(first?), false),
            Ok(None) => (None, true),
            Err(_) => (None, false),
        };
        Ok(Flow {
            first,
            messages,
            entry: entry.clone(),
            deadline,
            revoked: entry.revoked(),
            departure: tasks.departure(),
            is_over,
        })
    }

    /// The first message, however long it takes; `None` when there is none.
    ///
    /// # Errors
    /// When the stream fails before it.
    pub(crate) async fn first(&mut self) -> Result<Option<Bytes>> {
        match self.next().await {
            Turn::Message(message) => Ok(Some(message)),
            Turn::Failed(error) => Err(error),
            Turn::Ended => Ok(None),
        }
    }

    /// What comes next. A call that is dropped loses nothing.
    pub(crate) async fn next(&mut self) -> Turn {
        if let Some(first) = self.first.take() {
            return Turn::Message(first);
        }
        if self.is_over {
            return Turn::Ended;
        }
        let next = tokio::select! {
            biased;
            () = &mut self.revoked => Some(Err(revoked())),
            () = &mut self.departure => Some(Err(draining())),
            () = passed(self.deadline) => Some(Err(too_late())),
            next = self.messages.next() => next,
        };
        match next {
            Some(Ok(message)) => Turn::Message(message),
            Some(Err(error)) => {
                self.is_over = true;
                self.entry.fail(&error);
                Turn::Failed(error)
            }
            None => {
                self.is_over = true;
                Turn::Ended
            }
        }
    }

    /// Notes that what came could not be sent on.
    pub(crate) fn fail(&self, error: &Error) {
        self.entry.fail(error);
    }
}

/// Begins a stream, for as long as the credential of the call holds.
///
/// # Errors
/// That it does not any more, and those of the work.
pub(crate) async fn begun<T>(work: impl Future<Output = Result<T>>, entry: &Entry) -> Result<T> {
    let revocation = async {
        entry.revoked().await;
        let error = revoked();
        // Noted before the work is dropped, which says that nobody waits for it.
        entry.fail(&error);
        error
    };
    tokio::select! {
        biased;
        error = revocation => Err(error),
        outcome = work => outcome,
    }
}

async fn passed(deadline: Deadline) {
    match deadline.instant() {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
