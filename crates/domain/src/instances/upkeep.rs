//! Keeping what is written down of instances in step with their hosts.
//!
//! A newcomer's usual mistake is to reap by time alone. An instance that seems stuck on its way is asked for at its host
//! first; only one that nobody knows is put in order. Several installations may share a host: what runs there, was started by
//! this one and is written down nowhere is stopped.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use portico_base::{Result, Timestamp, page::PageRequest, reason};
use portico_port::fleet::{At, Incarnation, Running, State, Stop, failure};
use tokio::time::timeout;

use super::{
    HOSTS_ASKED_MAX, Inner,
    record::{Instance, STANDING},
};
use crate::table::Stored;

/// How often records are held against hosts.
pub(super) const ROUND_INTERVAL: Duration = Duration::from_secs(30);
/// How long an instance may be on its way: the time that creating may take, and some.
const DEPLOYING_MAX: Duration = Duration::from_secs(90);
/// How long a host may take to say what it runs.
const HOST_PATIENCE: Duration = Duration::from_secs(5);
/// Records looked at in one go.
const ROUND_PAGE: usize = 200;
/// Instances looked after at the same time.
const LOOKED_AFTER_MAX: usize = 16;

/// What a host runs, in its present epoch.
struct Here {
    epoch: String,
    /// By id.
    instances: HashMap<String, Running>,
}

/// An instance that runs and is written down nowhere: host, id and incarnation.
pub(super) type Orphan = (String, String, Incarnation);

impl Inner {
    pub(super) async fn round(self: &Arc<Self>, now: Timestamp) -> Result<()> {
        let running = self.running().await?;
        let mut written = HashMap::new();
        for standing in ["deploying", "live"] {
            let mut page = PageRequest { limit: ROUND_PAGE, after: None };
            loop {
                let found = self.table.readable_page(Some((STANDING, standing)), &page).await?;
                let place = |Stored { value, .. }: &Stored<Instance>| {
                    (value.id.clone(), (value.host().to_owned(), value.incarnation.clone()))
                };
                written.extend(found.items.iter().map(place));
                // Stopping takes its grace, so what is slow does not hold up what is not.
                let looked_at = stream::iter(found.items).map(|stored| self.look_after(now, &running, stored));
                looked_at.buffer_unordered(LOOKED_AFTER_MAX).for_each(|()| std::future::ready(())).await;
                match found.next {
                    Some(next) => page.after = Some(next),
                    None => break,
                }
            }
        }
        self.reap(&running, &written).await;
        Ok(())
    }

    /// Whatever becomes of one, the others are looked after.
    async fn look_after(self: &Arc<Self>, now: Timestamp, running: &HashMap<String, Here>, stored: Stored<Instance>) {
        let id = stored.value.id.clone();
        if let Err(error) = self.put_in_order(now, running, stored).await {
            let problem = error.report();
            tracing::warn!(instance.id = id, problem, "could not be looked after; the next round tries again");
        }
    }

    async fn put_in_order(
        self: &Arc<Self>,
        now: Timestamp,
        running: &HashMap<String, Here>,
        stored: Stored<Instance>,
    ) -> Result<()> {
        match State::parse(&stored.value.status) {
            State::Deploying => return self.settle(now, &stored).await,
            State::ShuttingDown => return self.end_removal(now, stored).await,
            State::ScalingDown => return self.end_scaling_down(now, &stored).await,
            _ => {}
        }
        let instance = &stored.value;
        // A host that does not answer says nothing.
        let Some(here) = running.get(instance.host()) else { return Ok(()) };
        let runs = |it: &&Running| !it.state.is_over() && it.incarnation.may_be(&instance.incarnation);
        match here.instances.get(&instance.id).filter(runs) {
            Some(_) if instance.epoch != here.epoch => {
                self.survived(now, instance, &here.epoch).await;
                Ok(())
            }
            Some(_) => self.scale_down_if_idle(now, &stored).await,
            _ => {
                self.seen(now, instance).await;
                Ok(())
            }
        }
    }

    /// What each host that answers runs. One question a host, however much it runs.
    async fn running(&self) -> Result<HashMap<String, Here>> {
        let hosts = self.ground.fleet.hosts().await?;
        let asked: Vec<_> = hosts.iter().map(|host| self.here(host.id.clone(), host.epoch.clone())).collect();
        Ok(stream::iter(asked).buffer_unordered(HOSTS_ASKED_MAX).filter_map(std::future::ready).collect().await)
    }

    async fn here(&self, host: String, epoch: String) -> Option<(String, Here)> {
        let told = timeout(HOST_PATIENCE, self.ground.fleet.running(&host)).await;
        let running = told.unwrap_or_else(|_| Err(failure::timeout()));
        match running {
            Ok(running) => {
                let instances = running.into_iter().map(|running| (running.instance.clone(), running)).collect();
                Some((host, Here { epoch, instances }))
            }
            Err(error) => {
                tracing::debug!(host.id = host, problem = error.report(), "does not say what it runs");
                None
            }
        }
    }

    /// An instance that its host still runs after a start of its own is of the new epoch.
    async fn survived(&self, now: Timestamp, instance: &Instance, epoch: &str) {
        let newer = Instance { epoch: epoch.to_owned(), updated_at: now, ..instance.clone() };
        self.write_if_unchanged(instance, &newer).await;
    }

    /// Stops what hosts run for this installation and nothing is written down of, when it was so at the last round too.
    async fn reap(&self, running: &HashMap<String, Here>, written: &HashMap<String, (String, Incarnation)>) {
        let is_ours = |it: &&Running| it.installation == self.ground.installation && !it.state.is_over();
        let mut orphans = HashSet::new();
        for (host, here) in running {
            for it in here.instances.values().filter(is_ours) {
                let is_it = |(at, which): &(String, Incarnation)| at == host && which.may_be(&it.incarnation);
                if !written.get(&it.instance).is_some_and(is_it) && self.is_orphan(host, it).await {
                    orphans.insert((host.clone(), it.instance.clone(), it.incarnation.clone()));
                }
            }
        }
        let before =
            std::mem::replace(&mut *self.orphans.lock().unwrap_or_else(PoisonError::into_inner), orphans.clone());
        for (host, instance, incarnation) in orphans.intersection(&before) {
            match self.ground.fleet.stop(&At::new(host, instance).of(incarnation.clone()), Stop::Now).await {
                Ok(()) => {
                    tracing::warn!(instance.id = instance, host.id = host, "ran without a record and was stopped")
                }
                Err(error) => {
                    let problem = error.report();
                    tracing::warn!(instance.id = instance, host.id = host, problem, "runs without a record");
                }
            }
        }
    }

    /// The record may have been written, or have ended, since the pages were read. One that cannot be read is there.
    async fn is_orphan(&self, host: &str, it: &Running) -> bool {
        match self.table.get(&it.instance).await {
            Ok(stored) => stored.is_none_or(|stored| {
                let record = stored.value;
                let is_it = record.host() == host && record.incarnation.may_be(&it.incarnation);
                !is_it || (record.is_tombstone() && !record.owed)
            }),
            Err(error) => {
                let problem = error.report();
                tracing::warn!(instance.id = it.instance, host.id = host, problem, "runs, and its record is not read");
                false
            }
        }
    }

    /// Asks for an instance that is on its way for too long at its host.
    async fn settle(&self, now: Timestamp, stored: &Stored<Instance>) -> Result<()> {
        let instance = &stored.value;
        if now.since(instance.updated_at) < DEPLOYING_MAX {
            return Ok(());
        }
        let Some(at) = instance.at() else { return self.never_was(stored).await };
        match self.ground.fleet.info(&at).await {
            Ok(info) => {
                let found = Instance { status: info.state.to_string(), updated_at: now, ..instance.clone() };
                self.write_if_unchanged(instance, &found).await;
                Ok(())
            }
            Err(error) if error.reason() == reason::INSTANCE_NOT_FOUND => self.never_was(stored).await,
            // A host that does not answer says nothing about its instances.
            Err(_) => Ok(()),
        }
    }
}
