//! What an earlier request for the same instance left: one that is there, one that is on its way, or one whose gateway died on
//! the way.
//!
//! A newcomer's usual mistake is to answer what is written down. An instance that is on its way may never arrive; a repetition
//! waits until it has, and goes on with it when whoever began it does not any more. That is known by the record, which is
//! written anew while somebody works on it, and not by any clock that two machines would have to agree on.
//!
//! An idempotency key outlives what it created: a repetition that comes when the instance has been deleted, and even its tombstone
//! is gone, is answered with the instance as it then is, stopped. It starts no other one.
//!
//! *Knows:* repetitions. *Does not know:* how an instance is placed.

use std::time::Duration;

use portico_base::{Code, Context, Error, Result, reason};
use portico_port::{
    fleet::{State, failure},
    records::{Expect, conflict},
};
use tokio::time::{Instant as Moment, sleep};

use super::{Claim, Inner, Instance, NewInstance, Request};
use crate::{
    deployments::Wanted,
    table::{self, Stored},
};

/// How often whoever starts an instance writes down that it still does.
pub(super) const RENEWED_EVERY: Duration = Duration::from_secs(1);
/// How long the record of a start may stay as it is before its gateway counts as gone: several times that, since stores may be
/// slow.
const ABANDONED_AFTER: Duration = Duration::from_secs(6);
/// How often a repetition looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Whether a request came before.
pub(super) enum Repeated {
    /// It did, and this is what it created.
    Is(Box<Stored<Instance>>),
    /// It did, and what it created is gone.
    Gone(Box<Instance>),
    /// It did not.
    Not,
}

impl Inner {
    /// What an earlier request with this idempotency key created.
    ///
    /// # Errors
    /// `idempotency_conflict` when it asked for something else.
    pub(super) async fn repeated(&self, cx: &Context, key: &str, fingerprint: &str) -> Result<Repeated> {
        let place = Request::place(cx.caller.tenant.as_str(), key);
        let Some(request) = self.requests.get(&place).await? else { return Ok(Repeated::Not) };
        let request = request.value;
        if request.fingerprint != fingerprint {
            return Err(Error::new(
                Code::AlreadyExists,
                reason::IDEMPOTENCY_CONFLICT,
                "the idempotency key was used for another request",
            ));
        }
        let is_it = |stored: &Stored<Instance>| request.created(&stored.value) && !stored.value.is_tombstone();
        let stored = self.table.get(&request.instance).await?.filter(is_it);
        Ok(match stored {
            Some(stored) => Repeated::Is(Box::new(stored)),
            None => Repeated::Gone(Box::new(request.gone())),
        })
    }

    /// Forgets an instance that did not come to be, with the idempotency key of its request, so that a repetition begins anew.
    /// Whoever changed the record meanwhile knows better.
    pub(in super::super) async fn never_was(&self, record: &Stored<Instance>) -> Result<()> {
        if !self.is_still(record).await? {
            return Ok(());
        }
        let (instance, version) = (&record.value, record.version);
        let mut writes = vec![table::delete::<Instance>(&instance.id, Expect::Version(version))];
        if let Some(key) = &instance.request {
            let place = Request::place(&instance.tenant_id, key);
            let used = self.requests.get(&place).await?.filter(|used| used.value.instance == instance.id);
            writes.extend(used.map(|used| table::delete::<Request>(&place, Expect::Version(used.version))));
        }
        match self.ground.records.commit(writes).await {
            Err(error) if error.reason() != reason::CONFLICT => Err(error),
            _ => Ok(()),
        }
    }

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
            // The start failed and was forgotten, and somebody else, another tenant perhaps, took the id.
            if !now.value.is_same(&seen.value) {
                return Ok(Claim::Lost);
            }
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
        match self.update(record).await {
            Ok(version) => {
                record.version = version;
                true
            }
            // If somebody else changed it, that is found at the end; a store that is away is found then too.
            Err(_) => false,
        }
    }

    /// Writes a newer picture of an instance over the one that was last seen. Answers its version.
    ///
    /// # Errors
    /// `conflict` when it was changed, or the id is another one's.
    pub(super) async fn update(&self, record: &Stored<Instance>) -> Result<u64> {
        if !self.is_still(record).await? {
            return Err(conflict());
        }
        self.table.put(&record.value, Expect::Version(record.version)).await
    }

    /// Whether what is written down is this instance, as it was last seen. The version alone does not say so: it counts from 1
    /// again when a start was forgotten and somebody else has the id.
    async fn is_still(&self, record: &Stored<Instance>) -> Result<bool> {
        let there = self.table.get(&record.value.id).await?;
        Ok(there.is_some_and(|there| there.version == record.version && there.value.is_same(&record.value)))
    }
}
