//! Stopping an instance and removing it.
//!
//! A newcomer's usual mistake is to answer an error when there is nothing left to stop. What a client wants is that the
//! instance is gone; a host that never heard of it has done its part, and one that is away is told when it returns.
//!
//! Several gateways may write to one record. A removal wins over whatever else is noted of the instance, and touches nothing
//! once the id belongs to another one.

use std::time::Duration;

use portico_base::{Context, Error, Result, Timestamp, reason};
use portico_port::{
    fleet::{At, State, Stop},
    records::{Expect, conflict},
};

use super::{Inner, Instances, not_found, record::Instance};
use crate::table::Stored;

/// How long an instance may take to end by itself, unless the caller says otherwise.
pub const GRACE: Duration = Duration::from_secs(10);
/// Longest grace that a caller may give.
pub const GRACE_MAX: Duration = Duration::from_secs(60);
/// How long it is known that an instance was deleted.
pub(super) const TOMBSTONE_KEPT: Duration = Duration::from_secs(3_600);
/// How long a host may be away before it is no longer told what was deleted meanwhile.
const OWED_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// How often a removal looks again at a record that others change under it.
const ATTEMPTS_MAX: usize = 16;

/// How long a removal may take: the longest grace, and some for the host.
const REMOVING_MAX: Duration = Duration::from_secs(90);

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
        let leaving = self.leaving(cx, id).await?;
        self.places.forget(id);
        let removed = match leaving.value.at().map(|at| at.asked_by(cx)) {
            Some(at) => self.stopped(&at, stop).await?,
            None => Removed::Now,
        };
        self.bury(cx.now(), leaving, removed).await?;
        Ok(removed)
    }

    /// Ends a removal that nobody ends any more: whoever began it is gone.
    pub(super) async fn end_removal(&self, now: Timestamp, leaving: Stored<Instance>) -> Result<()> {
        if now.since(leaving.value.updated_at) < REMOVING_MAX {
            return Ok(());
        }
        let removed = match leaving.value.at() {
            Some(at) => match self.stopped(&at, Stop::Within(GRACE)).await {
                Ok(removed) => removed,
                // It is tried again in the next round.
                Err(_) => return Ok(()),
            },
            None => Removed::Now,
        };
        self.bury(now, leaving, removed).await
    }

    /// Writes down that an instance is to go, so that nobody else brings it forward meanwhile.
    async fn leaving(&self, cx: &Context, id: &str) -> Result<Stored<Instance>> {
        for _ in 0..ATTEMPTS_MAX {
            let Stored { value, version } = self.visible(cx, id).await?;
            if value.is_tombstone() {
                return Err(not_found(id));
            }
            let leaving = Instance { status: State::ShuttingDown.to_string(), updated_at: cx.now(), ..value };
            match self.table.put(&leaving, Expect::Version(version)).await {
                Err(error) if error.reason() == reason::CONFLICT => {}
                written => return Ok(Stored { value: leaving, version: written? }),
            }
        }
        Err(conflict())
    }

    /// Leaves a tombstone of an instance that is gone.
    async fn bury(&self, now: Timestamp, leaving: Stored<Instance>, removed: Removed) -> Result<()> {
        let owed = removed == Removed::Deferred;
        let mut seen = leaving;
        for _ in 0..ATTEMPTS_MAX {
            let tombstone = Instance {
                status: State::Terminated.to_string(),
                config: serde_json::Map::new(),
                updated_at: now,
                deleted_at: Some(now),
                expires_at: Some(now.plus(if owed { OWED_KEPT } else { TOMBSTONE_KEPT })),
                owed,
                ..seen.value.clone()
            };
            match self.table.put(&tombstone, Expect::Version(seen.version)).await {
                Err(error) if error.reason() == reason::CONFLICT => {}
                written => return written.map(|_| ()),
            }
            match self.table.get(&tombstone.id).await? {
                Some(noted) if noted.value.is_same(&tombstone) && !noted.value.is_tombstone() => seen = noted,
                // Another gateway buried it, and the id may be somebody else's by now.
                _ => return Ok(()),
            }
        }
        Err(conflict())
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
