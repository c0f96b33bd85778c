//! Scaling down instances that nobody uses.
//!
//! A newcomer's usual mistake is to stop first and write down later. Several gateways look at the same records: the one
//! whose note that the instance scales down is accepted stops it, and the others see that it is being done.
//!
//! *Knows:* when an instance was last used, whose turn it is to stop it. *Does not know:* who watches (see `upkeep`).

use std::{sync::Arc, time::Duration};

use portico_base::{
    Caller, Context, IdentityId, Result, Timestamp,
    caller::{Proof, Role},
    reason,
};
use portico_port::{
    fleet::{State, Stop},
    records::Expect,
};

use super::{Inner, record::Instance, remove::GRACE, view::Shown};
use crate::table::Stored;

/// How long scaling down may take before another gateway takes it over: the grace, and some for the host.
const SCALING_DOWN_MAX: Duration = Duration::from_secs(60);

impl Inner {
    /// Stops the instance if nobody used it for as long as the settings say, or if who began to stop it did not end.
    ///
    /// Used is one through which frames passed. An open stream that is silent does not count: a forgotten client would
    /// keep an instance forever. An agent at work is not idle, however long it takes.
    pub(super) async fn scale_down_if_idle(self: &Arc<Self>, now: Timestamp, seen: &Stored<Instance>) -> Result<()> {
        let Some(idle_max) = self.idle_max() else { return Ok(()) };
        let shown = self.shown(now, seen.value.clone()).await;
        if !self.is_due(now, idle_max, &seen.value, &shown) {
            return Ok(());
        }
        let leaving = Instance { status: State::ScalingDown.to_string(), updated_at: now, ..seen.value.clone() };
        let version = match self.table.put(&leaving, Expect::Version(seen.version)).await {
            Ok(version) => version,
            // Somebody else was faster, or the instance changed: then it is looked at again in the next round.
            Err(error) if error.reason() == reason::CONFLICT => return Ok(()),
            Err(error) => return Err(error),
        };
        // Attaching does not change the record, so a client may have come between the look and the note.
        let again = self.shown(now, seen.value.clone()).await;
        if !self.is_due(now, idle_max, &seen.value, &again) {
            return self.table.put(&seen.value, Expect::Version(version)).await.map(|_| ());
        }
        let stopped = self.stop_idle(now, &leaving, version).await;
        self.ground.audit.note(&self.upkeep_call(&leaving), "instance.scale_down", &leaving.id, &stopped);
        if let Err(error) = stopped {
            // It is tried again in a while. The others must not wait for it.
            tracing::warn!(instance.id = leaving.id, problem = error.report(), "is idle and could not be scaled down");
        }
        Ok(())
    }

    async fn stop_idle(&self, now: Timestamp, leaving: &Instance, version: u64) -> Result<()> {
        if let Some(at) = leaving.at() {
            match self.ground.fleet.stop(&at, Stop::Within(GRACE)).await {
                Err(error) if error.reason() != reason::INSTANCE_NOT_FOUND => return Err(error),
                _ => {}
            }
        }
        match self.table.put(&leaving.clone().over(now, &State::Terminated), Expect::Version(version)).await {
            // Somebody deleted it meanwhile, which says more.
            Err(error) if error.reason() != reason::CONFLICT => Err(error),
            _ => Ok(()),
        }
    }

    fn is_due(&self, now: Timestamp, idle_max: Duration, written: &Instance, shown: &Shown) -> bool {
        match State::parse(&written.status) {
            State::ScalingDown => now.since(written.updated_at) >= SCALING_DOWN_MAX,
            _ if shown.stale || State::parse(&shown.instance.status) != State::Ready => false,
            _ => now.since(shown.last_activity_at.unwrap_or(written.created_at)) >= idle_max,
        }
    }

    /// How long an instance may be idle; forever when the settings do not say.
    fn idle_max(&self) -> Option<Duration> {
        let limits = self.ground.settings.current().limits();
        limits.idle_timeout_seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }

    /// In the trail, scaling down is done by the house for the tenant.
    fn upkeep_call(&self, instance: &Instance) -> Context {
        let house = Caller {
            identity: IdentityId::new("portico"),
            tenant: instance.tenant(),
            role: Role::Tenant,
            permissions: Arc::from([]),
            proof: Proof::None,
        };
        Context::internal("idle timeout", house, Arc::clone(&self.ground.clock))
    }
}
