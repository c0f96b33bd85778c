//! Work on instances that comes round.
//!
//! *Knows:* when a round is due, when there are no more. *Does not know:* what is done in one.

use std::{
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use portico_base::{Result, tasks::Tasks};
use tokio::time::{MissedTickBehavior, interval};

use super::Inner;

/// Does this round after round, until the house closes or nobody holds instances any more. One that fails is told of with
/// these words, and the next one tries again.
pub(super) async fn run<F>(
    inner: Weak<Inner>,
    tasks: Tasks,
    every: Duration,
    failed: &'static str,
    round: impl Fn(Arc<Inner>) -> F,
) where
    F: Future<Output = Result<()>>,
{
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = tasks.closing() => return,
            _ = tick.tick() => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = round(inner).await {
            tracing::warn!(problem = error.report(), "{failed}");
        }
    }
}
