//! Keeping what is written down of instances in step with their hosts.
//!
//! A newcomer's usual mistake is to reap by time alone. An instance that seems stuck on its way is asked for at its host
//! first; only one that nobody knows is put in order.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};

use tokio::time::{MissedTickBehavior, interval};

use super::{
    Inner,
    record::{Instance, STANDING},
};
use crate::{
    base::{Result, Timestamp, page::PageRequest, reason, tasks::Tasks},
    domain::table::Stored,
    port::fleet::State,
};

/// How often records are held against hosts.
const ROUND_INTERVAL: Duration = Duration::from_secs(30);
/// How long an instance may be on its way: the time that creating may take, and some.
const DEPLOYING_MAX: Duration = Duration::from_secs(90);
/// Records looked at in one go.
const ROUND_PAGE: usize = 200;
/// Instances looked after at the same time.
const LOOKED_AFTER_MAX: usize = 16;

/// Goes on until the house closes or nobody holds instances any more.
pub(super) async fn run(inner: Weak<Inner>, tasks: Tasks) {
    let mut tick = interval(ROUND_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = tasks.closing() => return,
            _ = tick.tick() => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = inner.round(inner.ground.clock.now()).await {
            tracing::warn!(problem = error.report(), "records of instances could not be held against their hosts");
        }
    }
}

impl Inner {
    pub(super) async fn round(self: &Arc<Self>, now: Timestamp) -> Result<()> {
        for standing in ["deploying", "live"] {
            let mut page = PageRequest { limit: ROUND_PAGE, after: None };
            loop {
                let found = self.table.page(Some((STANDING, standing)), &page).await?;
                // Stopping takes its grace, so what is slow does not hold up what is not.
                let looked_at = stream::iter(found.items).map(|stored| self.look_after(now, stored));
                looked_at.buffer_unordered(LOOKED_AFTER_MAX).try_collect::<()>().await?;
                match found.next {
                    Some(next) => page.after = Some(next),
                    None => break,
                }
            }
        }
        Ok(())
    }

    async fn look_after(self: &Arc<Self>, now: Timestamp, stored: Stored<Instance>) -> Result<()> {
        if State::parse(&stored.value.status) == State::Deploying {
            return self.hold_against_host(now, &stored.value).await;
        }
        self.seen(now, &stored.value).await;
        self.scale_down_if_idle(now, &stored).await
    }

    async fn hold_against_host(&self, now: Timestamp, instance: &Instance) -> Result<()> {
        if now.since(instance.updated_at) < DEPLOYING_MAX {
            return Ok(());
        }
        let Some(at) = instance.at() else { return self.table.delete(&instance.id).await };
        match self.ground.fleet.info(&at).await {
            Ok(info) => {
                let found = Instance { status: info.state.to_string(), updated_at: now, ..instance.clone() };
                self.write_if_unchanged(instance, &found).await;
                Ok(())
            }
            Err(error) if error.reason() == reason::INSTANCE_NOT_FOUND => self.table.delete(&instance.id).await,
            // A host that does not answer says nothing about its instances.
            Err(_) => Ok(()),
        }
    }
}
