//! What an earlier request for the same instance left: one that is there, one that is on its way, or one whose gateway died on
//! the way.
//!
//! A newcomer's usual mistake is to answer what is written down. An instance that is on its way may never arrive; a repetition
//! waits until it has, and goes on with it when whoever began it does not any more. That is known by the record, which is
//! written anew while somebody works on it, and not by any clock that two machines would have to agree on.
//!
//! *Knows:* repetitions. *Does not know:* how an instance is placed.

use std::time::Duration;

use portico_base::{Context, Result};
use portico_port::{
    fleet::{State, failure},
    records::Expect,
};
use tokio::time::{Instant as Moment, sleep};

use super::{Claim, Inner, Instance, NewInstance};
use crate::{deployments::Wanted, table::Stored};

/// How often whoever starts an instance writes down that it still does.
pub(super) const RENEWED_EVERY: Duration = Duration::from_secs(1);
/// How long the record of a start may stay as it is before its gateway counts as gone: several times that, since stores may be
/// slow.
const ABANDONED_AFTER: Duration = Duration::from_secs(6);
/// How often a repetition looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Inner {
    /// Waits until an instance that an earlier request began is no longer on its way. Goes on with it when nobody does.
    ///
    /// # Errors
    /// `coordinator_timeout` when it is still on its way at the end.
    pub(super) async fn take_up(
        &self,
        cx: &Context,
        new: &NewInstance,
        mut seen: Stored<Instance>,
        until: Moment,
    ) -> Result<Claim> {
        let mut changed_at = Moment::now();
        while State::parse(&seen.value.status) == State::Deploying {
            if Moment::now() >= until {
                return Err(failure::timeout());
            }
            if changed_at.elapsed() >= ABANDONED_AFTER && self.renew(cx, &mut seen).await {
                tracing::info!(instance.id = seen.value.id, "goes on with a start that was given up");
                let deployment = self.ground.deployments.resolve(cx, Wanted::Id(&seen.value.deployment_id)).await?;
                // Whatever was begun is the same instance.
                let (id, incarnation) = (&seen.value.id, seen.value.incarnation.clone());
                let start = self.start(cx, &deployment, id, incarnation, new.clone()).await?;
                return Ok(Claim::Ours(Box::new(seen), Box::new(start)));
            }
            sleep(LOOK_EVERY).await;
            let Some(now) = self.table.get(&seen.value.id).await? else { return Ok(Claim::Lost) };
            if now.version != seen.version {
                changed_at = Moment::now();
            }
            seen = now;
        }
        if seen.value.is_tombstone() { Ok(Claim::Lost) } else { Ok(Claim::Settled(Box::new(seen.value))) }
    }

    /// Writes down that the start is being worked on. Whether it was as this gateway knew it.
    pub(super) async fn renew(&self, cx: &Context, record: &mut Stored<Instance>) -> bool {
        record.value.updated_at = cx.now();
        match self.table.put(&record.value, Expect::Version(record.version)).await {
            Ok(version) => {
                record.version = version;
                true
            }
            // If somebody else changed it, that is found at the end; a store that is away is found then too.
            Err(_) => false,
        }
    }
}
