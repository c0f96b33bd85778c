//! Stopping an instance and removing it.
//!
//! A newcomer's usual mistake is to answer an error when there is nothing left to stop. What a client wants is that the
//! instance is gone; a host that never heard of it has done its part, and one that is away is told when it returns.

use std::time::Duration;

use super::{Inner, Instances, not_found, record::Instance};
use crate::{
    base::{Context, Error, Result, reason},
    port::{
        fleet::{At, State, Stop},
        records::Expect,
    },
};

/// How long an instance may take to end by itself, unless the caller says otherwise.
pub const GRACE: Duration = Duration::from_secs(10);
/// Longest grace that a caller may give.
pub const GRACE_MAX: Duration = Duration::from_secs(60);
/// How long it is known that an instance was deleted.
pub(super) const TOMBSTONE_KEPT: Duration = Duration::from_secs(3_600);
/// How long a host may be away before it is no longer told what was deleted meanwhile.
const OWED_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// The instance is gone.
    Now,
    /// It is gone for everybody but its host, which is away and will be told when it returns.
    Deferred,
}

impl Instances {
    /// Stops an instance and removes it. Its attached streams end.
    ///
    /// # Errors
    /// `instance_not_found` when it never was, is a stranger's, or was deleted; `validation_failed` for a grace over the
    /// bound; the failures of a host that lives, after which the record is kept and the call may be repeated.
    pub async fn remove(&self, cx: &Context, id: &str, stop: Stop) -> Result<Removed> {
        let removed = self.0.remove(cx, id, stop).await;
        self.0.ground.audit.note(cx, "instance.delete", id, &removed);
        removed
    }
}

impl Inner {
    async fn remove(&self, cx: &Context, id: &str, stop: Stop) -> Result<Removed> {
        if let Stop::Within(grace) = stop
            && grace > GRACE_MAX
        {
            return Err(Error::invalid("grace_ms", format!("must not be over {}", GRACE_MAX.as_millis())));
        }
        let instance = self.visible(cx, id).await?.value;
        if instance.is_tombstone() {
            return Err(not_found(id));
        }
        let leaving = Instance { status: State::ShuttingDown.to_string(), updated_at: cx.now(), ..instance };
        self.table.put(&leaving, Expect::Anything).await?;
        let removed = match leaving.at().map(|at| at.asked_by(cx)) {
            Some(at) => self.stopped(&at, stop).await?,
            None => Removed::Now,
        };
        let owed = removed == Removed::Deferred;
        let tombstone = Instance {
            status: State::Terminated.to_string(),
            config: serde_json::Map::new(),
            updated_at: cx.now(),
            deleted_at: Some(cx.now()),
            expires_at: Some(cx.now().plus(if owed { OWED_KEPT } else { TOMBSTONE_KEPT })),
            owed,
            ..leaving
        };
        self.table.put(&tombstone, Expect::Anything).await?;
        Ok(removed)
    }

    async fn stopped(&self, at: &At, stop: Stop) -> Result<Removed> {
        match self.ground.fleet.stop(at, stop).await {
            Ok(()) => Ok(Removed::Now),
            Err(error) => match error.reason() {
                reason::INSTANCE_NOT_FOUND => Ok(Removed::Now),
                // Nothing reached it. Whoever deletes an instance must get rid of it, whatever became of its host.
                reason::COORDINATOR_UNAVAILABLE => Ok(Removed::Deferred),
                _ => Err(error),
            },
        }
    }
}
