//! Work that outlives the call that began it.
//!
//! A newcomer's usual mistake is `tokio::spawn`: the process would then end without waiting for that work. Everything
//! that runs on its own is begun here, hears when the house closes, and is waited for.
//!
//! *Knows:* what runs and whether the house is closing. *Does not know:* what the work is.

use std::{future::Future, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};

/// The tasks of one running gateway. Clones share one set.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    closing: CancellationToken,
}

impl Tasks {
    /// An empty set.
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// Begins work on its own task.
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(work)
    }

    /// Resolves when the house begins to close.
    pub fn closing(&self) -> WaitForCancellationFuture<'_> {
        self.closing.cancelled()
    }

    /// A token that is cancelled when the house begins to close, for work that holds no `Tasks`.
    pub fn closing_token(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Whether the house is closing.
    pub fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Tells all work that the house is closing.
    pub fn close(&self) {
        self.closing.cancel();
        self.tracker.close();
    }

    /// Waits until all work has ended, at most this long. Returns how many tasks still run.
    pub async fn wait(&self, patience: Duration) -> usize {
        self.tracker.close();
        // Running out of patience is not a failure: the count says what is left.
        let _ended = tokio::time::timeout(patience, self.tracker.wait()).await.is_ok();
        self.tracker.len()
    }
}
