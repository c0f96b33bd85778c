//! From a presented key to a caller.
//!
//! A newcomer's usual mistake is to slow the usual case down for the rare one. A key that was seen in the last seconds
//! costs one hash and one look into a map; only then come grammar, lanes, the store.
//!
//! A question to the store is not dropped with its caller: a store closes the connection of one that is, and strangers who
//! hang up would cost it a connection each.
//!
//! *Knows:* the order of the checks. *Does not know:* where a key was presented.

use std::{
    future::Future,
    sync::{Arc, PoisonError},
    time::Duration,
};

use portico_base::{
    Caller, Code, Error, IdentityId, Result, Retry, Secret, TenantId,
    caller::{self, Role},
    reason,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    BOOTSTRAP_ID, Inner, Key, Resolved,
    digest::Digest,
    grammar::{self, Kind},
    live::Resolution,
    upkeep::{Moved, Use},
};

/// Lanes for look-ups. Keys that share one wait for each other, which costs microseconds.
const LANES: usize = 64;
/// Look-ups on their way at the same time, most of them waiting for their lanes: 64 for each, as many as a store that takes 8 ms
/// for one answers before they would have waited too long. Callers of a key that was seen in the last seconds need none.
pub const LOOK_UPS_IN_FLIGHT_MAX: usize = 64 * LANES;
/// How long a look-up may take, waiting included, before the store counts as out of reach.
const LOOK_UP_WAIT: Duration = Duration::from_millis(500);
/// When a caller should try again while the store is out of reach.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often a look-up is done again because revocations overlap with it.
const LOOK_UPS_MAX: usize = 16;

/// The one refusal, whatever is wrong with a key or its absence.
pub fn unauthorized() -> Error {
    Error::new(Code::Unauthenticated, reason::UNAUTHORIZED, "a valid key is required")
}

pub(super) fn lanes() -> Box<[tokio::sync::Mutex<()>]> {
    (0..LANES).map(|_| tokio::sync::Mutex::default()).collect()
}

impl Inner {
    pub(super) async fn resolve(self: &Arc<Self>, presented: &str) -> Result<Resolved> {
        if presented.len() > grammar::CHARACTERS_MAX || Kind::of(presented).is_none() {
            return Err(unauthorized());
        }
        let digest = self.names.name(presented);
        if let Some(resolution) = self.live.fresh(&digest) {
            return self.admit(&resolution);
        }
        if let Some(bootstrap) = &self.bootstrap
            && bootstrap.digest == digest
        {
            return Ok(bootstrap.used(self.clock.now()));
        }
        let (kind, prefix) = grammar::parse(presented).ok_or_else(unauthorized)?;
        // Boxed, because it is large and rare: the usual case does not carry room for it.
        Box::pin(self.resolve_known(kind, prefix, digest, Proof::Presented(Secret::new(presented)))).await
    }

    pub(super) async fn resolve_bound(self: &Arc<Self>, key_id: &str) -> Result<Resolved> {
        if key_id == BOOTSTRAP_ID {
            let now = self.clock.now();
            return self.bootstrap.as_ref().map(|bootstrap| bootstrap.used(now)).ok_or_else(unauthorized);
        }
        // No key looks like an id.
        let digest = self.names.name(key_id);
        if let Some(resolution) = self.live.fresh(&digest) {
            return self.admit(&resolution);
        }
        let prefix = self.bound.lock().unwrap_or_else(PoisonError::into_inner).get(key_id).cloned();
        let prefix = match prefix {
            Some(prefix) => prefix,
            None => Box::pin(self.bind(key_id)).await?,
        };
        let kind = Kind::of(&prefix).ok_or_else(unauthorized)?;
        Box::pin(self.resolve_known(kind, &prefix, digest, Proof::Bound(key_id.to_owned()))).await
    }

    /// The prefix of the key that a credential of another kind stands for.
    async fn bind(self: &Arc<Self>, key_id: &str) -> Result<Arc<str>> {
        let (inner, wanted) = (Arc::clone(self), key_id.to_owned());
        let finding = async move { inner.find(&wanted).await.map_err(|error| out_of_reach(error.report())) };
        let found = self.to_its_end(finding).await?;
        let key = found.map(|stored| stored.value).filter(|key| key.key_id == key_id).ok_or_else(unauthorized)?;
        let prefix: Arc<str> = key.prefix.into();
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).insert(key_id.into(), Arc::clone(&prefix));
        Ok(prefix)
    }

    /// Who a well-formed key is, by the store or, while that is out of reach, as it was lately.
    async fn resolve_known(
        self: &Arc<Self>,
        kind: Kind,
        prefix: &str,
        digest: Digest,
        proof: Proof,
    ) -> Result<Resolved> {
        let (inner, wanted) = (Arc::clone(self), prefix.to_owned());
        let looking = async move { inner.look_up(kind, &wanted, &digest, &proof).await };
        match self.to_its_end(looking).await {
            Ok(resolution) => self.admit(&resolution),
            Err(error) if error.reason() == reason::AUTH_UNAVAILABLE => {
                self.live.stale(&digest).map_or(Err(error), |resolution| self.admit(&resolution))
            }
            Err(error) => Err(error),
        }
    }

    /// Does this whether or not its caller waits for it, within the time that a look-up has.
    ///
    /// # Errors
    /// `auth_unavailable` when that is over, or at once when there is no room for another look-up.
    async fn to_its_end<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let in_flight = Arc::clone(&self.look_ups).try_acquire_owned();
        let in_flight = in_flight.map_err(|_full| out_of_reach("too many keys are being looked up"))?;
        let within = async move {
            let _in_flight = in_flight;
            let done = timeout(LOOK_UP_WAIT, work).await;
            done.unwrap_or_else(|_elapsed| Err(out_of_reach("the key store did not answer in time")))
        };
        self.tasks.spawn(within).await.unwrap_or_else(|ended| Err(Error::internal(ended)))
    }

    fn admit(&self, resolution: &Resolution) -> Result<Resolved> {
        let now = self.clock.now();
        if !resolution.lives(now) {
            return Err(unauthorized());
        }
        if resolution.key.due(now) {
            // Without room this use goes unnoted; the next minute's will be.
            let _full = self.uses.try_send(Use::Seen(Arc::clone(&resolution.key))).is_err();
        }
        Ok(resolution.resolved.clone())
    }

    async fn look_up(&self, kind: Kind, prefix: &str, digest: &Digest, proof: &Proof) -> Result<Arc<Resolution>> {
        let _lane = self.lanes[digest.shard() % LANES].lock().await;
        if let Some(resolution) = self.live.fresh(digest) {
            return Ok(resolution);
        }
        for _ in 0..LOOK_UPS_MAX {
            let revocations = self.live.revocations();
            let stored = self.table.get(prefix).await.map_err(|error| out_of_reach(error.report()))?;
            let living = stored.map(|stored| stored.value).filter(|key| key.lives(self.clock.now()));
            let Some(key) = living else {
                self.live.is_gone(prefix);
                return Err(unauthorized());
            };
            if !self.proves(proof, &key).await? {
                return Err(unauthorized());
            }
            let live = self.live.begin(prefix, key.expires_at, key.last_used_at);
            let resolution = self.live.keep(*digest, resolved(&key, kind, &live.ended), live);
            if self.live.revocations() == revocations {
                return Ok(resolution);
            }
            // A key was revoked meanwhile, perhaps this one: forget and read again. Streams are told if it was.
            self.live.forget(digest);
        }
        Err(out_of_reach("keys are being revoked too quickly"))
    }

    /// Whether this key was meant. One that was digested under an earlier pepper moves to the current one.
    ///
    /// # Errors
    /// `auth_unavailable` when the pepper of the key is not known here and the store is out of reach.
    async fn proves(&self, proof: &Proof, key: &Key) -> Result<bool> {
        let presented = match proof {
            Proof::Bound(key_id) => return Ok(key.key_id == *key_id),
            Proof::Presented(presented) => presented.reveal(),
        };
        let mut ring = self.peppers.ring();
        if ring.get(&key.pepper_id).is_none() {
            // Another gateway may have made it since.
            ring = self.peppers.read().await.map_err(|error| out_of_reach(error.report()))?;
        }
        let Some(pepper) = ring.get(&key.pepper_id) else { return Ok(false) };
        if !key.is_digested_as(&pepper.digester.digest(presented)) {
            return Ok(false);
        }
        let current = ring.current();
        if current.id != pepper.id {
            let moved = Moved {
                prefix: key.prefix.clone(),
                from: key.digest.clone(),
                to: current.digester.digest(presented).stored(),
                pepper_id: current.id.clone(),
            };
            // Without room it is moved by a later use.
            let _full = self.uses.try_send(Use::Moves(moved)).is_err();
        }
        Ok(true)
    }
}

/// What shows that a key is meant.
enum Proof {
    /// The key itself.
    Presented(Secret),
    /// Its id, by a credential of another kind that was proven.
    Bound(String),
}

fn resolved(key: &Key, kind: Kind, ended: &Arc<CancellationToken>) -> Resolved {
    let role = key.granted(kind);
    let tenant = if role == Role::Admin { TenantId::shared() } else { TenantId::new(key.tenant_id.as_str()) };
    let caller = Caller {
        identity: IdentityId::new(key.key_id.as_str()),
        tenant,
        role,
        permissions: key.permissions.iter().map(|permission| permission.as_str().into()).collect(),
        proof: caller::Proof::Key(key.key_id.as_str().into()),
    };
    debug_assert_ne!(key.key_id, BOOTSTRAP_ID);
    Resolved { caller: Arc::new(caller), rate_limit_rpm: key.rate_limit_rpm, ended: Arc::clone(ended) }
}

fn out_of_reach(why: impl Into<portico_base::error::BoxError>) -> Error {
    Error::unavailable(reason::AUTH_UNAVAILABLE, "keys cannot be checked at the moment", why)
        .retry(Retry::After(RETRY_AFTER))
}
