//! Stopping an instance and removing it.
//!
//! A newcomer's usual mistake is to answer an error when there is nothing left to stop. What a client wants is that the
//! instance is gone; a host that never heard of it has done its part.

use std::time::Duration;

use super::{Inner, Instances, not_found, record::Instance};
use crate::{
    base::{Context, Error, Result, reason},
    port::{
        fleet::{State, Stop},
        records::Expect,
    },
};

/// How long an instance may take to end by itself, unless the caller says otherwise.
pub const GRACE: Duration = Duration::from_secs(10);
/// Longest grace that a caller may give.
pub const GRACE_MAX: Duration = Duration::from_secs(60);
/// How long it is known that an instance was deleted.
const TOMBSTONE_KEPT: Duration = Duration::from_secs(3_600);

impl Instances {
    /// Stops an instance and removes it. Its attached streams end.
    ///
    /// # Errors
    /// `instance_not_found` when it never was, is a stranger's, or was deleted; `validation_failed` for a grace over the
    /// bound; the host's failures, after which the record is kept and the call may be repeated.
    pub async fn remove(&self, cx: &Context, id: &str, stop: Stop) -> Result<()> {
        let removed = self.0.remove(cx, id, stop).await;
        self.0.ground.audit.note(cx, "instance.delete", id, &removed);
        removed
    }
}

impl Inner {
    async fn remove(&self, cx: &Context, id: &str, stop: Stop) -> Result<()> {
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
        if let Some(at) = leaving.at() {
            match self.ground.fleet.stop(&at, stop).await {
                Err(error) if error.reason() != reason::INSTANCE_NOT_FOUND => return Err(error),
                _ => {}
            }
        }
        let tombstone = Instance {
            status: State::Terminated.to_string(),
            config: serde_json::Map::new(),
            updated_at: cx.now(),
            deleted_at: Some(cx.now()),
            expires_at: Some(cx.now().plus(TOMBSTONE_KEPT)),
            ..leaving
        };
        self.table.put(&tombstone, Expect::Anything).await.map(|_| ())
    }
}
