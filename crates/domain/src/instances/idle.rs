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
    /// Stops the instance if nobody used it for as long as the settings say.
    ///
    /// Used is one through which frames passed. An open stream that is silent does not count: a forgotten client would
    /// keep an instance forever. An agent at work is not idle, however long it takes.
    pub(super) async fn scale_down_if_idle(self: &Arc<Self>, now: Timestamp, seen: &Stored<Instance>) -> Result<()> {
        let Some(idle_max) = self.idle_max() else { return Ok(()) };
        let shown = self.shown(now, seen.value.clone()).await;
        if !self.is_due(now, idle_max, &seen.value, &shown) {
            return Ok(());
        }
        let Some(leaving) = self.begin_to_scale_down(now, seen).await? else { return Ok(()) };
        // Attaching does not change the record, so a client may have come between the look and the note.
        let again = self.shown(now, seen.value.clone()).await;
        if !self.is_due(now, idle_max, &seen.value, &again) {
            return self.table.put(&seen.value, Expect::Version(leaving.version)).await.map(|_| ());
        }
        self.scale_down(now, &leaving).await;
        Ok(())
    }

    /// Ends what nobody ends any more: whoever began to scale it down is gone. Whatever the settings say by now, and whether
    /// its host still runs it or not, it was about to end.
    pub(super) async fn end_scaling_down(&self, now: Timestamp, seen: &Stored<Instance>) -> Result<()> {
        if now.since(seen.value.updated_at) < SCALING_DOWN_MAX {
            return Ok(());
        }
        if let Some(leaving) = self.begin_to_scale_down(now, seen).await? {
            self.scale_down(now, &leaving).await;
        }
        Ok(())
    }

    /// Notes that the instance scales down from now on. Nothing when somebody else was faster, or the instance changed: then it
    /// is looked at again in the next round.
    async fn begin_to_scale_down(&self, now: Timestamp, seen: &Stored<Instance>) -> Result<Option<Stored<Instance>>> {
        let value = Instance { status: State::ScalingDown.to_string(), updated_at: now, ..seen.value.clone() };
        match self.table.put(&value, Expect::Version(seen.version)).await {
            Ok(version) => Ok(Some(Stored { value, version })),
            Err(error) if error.reason() == reason::CONFLICT => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn scale_down(&self, now: Timestamp, leaving: &Stored<Instance>) {
        let stopped = self.stop_idle(now, leaving).await;
        let Stored { value, .. } = leaving;
        self.ground.audit.note(&self.upkeep_call(value), "instance.scale_down", &value.id, &stopped);
        if let Err(error) = stopped {
            // It is tried again in a while. The others must not wait for it.
            tracing::warn!(instance.id = value.id, problem = error.report(), "is idle and could not be scaled down");
        }
    }

    async fn stop_idle(&self, now: Timestamp, Stored { value: leaving, version }: &Stored<Instance>) -> Result<()> {
        if let Some(at) = leaving.at() {
            match self.ground.fleet.stop(&at, Stop::Within(GRACE)).await {
                Err(error) if error.reason() != reason::INSTANCE_NOT_FOUND => return Err(error),
                _ => {}
            }
        }
        match self.table.put(&leaving.clone().over(now, &State::Terminated), Expect::Version(*version)).await {
            // Somebody deleted it meanwhile, which says more.
            Err(error) if error.reason() != reason::CONFLICT => Err(error),
            _ => Ok(()),
        }
    }

    fn is_due(&self, now: Timestamp, idle_max: Duration, written: &Instance, shown: &Shown) -> bool {
        if shown.stale || State::parse(&shown.instance.status) != State::Ready {
            return false;
        }
        now.since(shown.last_activity_at.unwrap_or(written.created_at)) >= idle_max
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
