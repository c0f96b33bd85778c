//! From a presented key to a caller.
//!
//! A newcomer's usual mistake is to slow the usual case down for the rare one. A key that was seen in the last seconds
//! costs one HMAC and one look into a map; only then come grammar, lanes, the store.
//!
//! *Knows:* the order of the checks. *Does not know:* where a key was presented.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::time::timeout;

use super::{
    BOOTSTRAP_ID, Bound, Inner, Key, Resolved,
    digest::Digest,
    grammar::{self, Kind},
    live::Resolution,
};
use crate::base::{
    Caller, Code, Error, IdentityId, Result, Retry, TenantId,
    caller::{Proof, Role},
    reason,
};

/// Lanes for look-ups. Keys that share one wait for each other, which costs microseconds.
const LANES: usize = 64;
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
    pub(super) async fn resolve(&self, presented: &str) -> Result<Resolved> {
        if presented.len() > grammar::CHARACTERS_MAX || Kind::of(presented).is_none() {
            return Err(unauthorized());
        }
        let digest = self.digester.digest(presented);
        if let Some(resolution) = self.live.fresh(&digest) {
            return self.admit(&resolution);
        }
        if let Some(bootstrap) = &self.bootstrap
            && bootstrap.digest == digest
        {
            return Ok(bootstrap.resolved.clone());
        }
        let (kind, prefix) = grammar::parse(presented).ok_or_else(unauthorized)?;
        self.resolve_known(kind, prefix, digest).await
    }

    pub(super) async fn resolve_bound(&self, key_id: &str) -> Result<Resolved> {
        if key_id == BOOTSTRAP_ID {
            return self.bootstrap.as_ref().map(|bootstrap| bootstrap.resolved.clone()).ok_or_else(unauthorized);
        }
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner).get(key_id).cloned();
        let bound = match bound {
            Some(bound) => bound,
            None => self.bind(key_id).await?,
        };
        if let Some(resolution) = self.live.fresh(&bound.digest) {
            return self.admit(&resolution);
        }
        let kind = Kind::of(&bound.prefix).ok_or_else(unauthorized)?;
        self.resolve_known(kind, &bound.prefix, bound.digest).await
    }

    async fn bind(&self, key_id: &str) -> Result<Arc<Bound>> {
        let found = match timeout(LOOK_UP_WAIT, self.find(key_id)).await {
            Ok(found) => found.map_err(|error| out_of_reach(error.report()))?,
            Err(_elapsed) => return Err(out_of_reach("the key store did not answer in time")),
        };
        let key = found.map(|stored| stored.value).filter(|key| key.key_id == key_id).ok_or_else(unauthorized)?;
        let digest = Digest::read(&key.digest).ok_or_else(unauthorized)?;
        let bound = Arc::new(Bound { prefix: key.prefix, digest });
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).insert(key_id.into(), Arc::clone(&bound));
        Ok(bound)
    }

    /// Who a well-formed key is, by the store or, while that is out of reach, as it was lately.
    async fn resolve_known(&self, kind: Kind, prefix: &str, digest: Digest) -> Result<Resolved> {
        let found = match timeout(LOOK_UP_WAIT, self.look_up(kind, prefix, &digest)).await {
            Ok(found) => found,
            Err(_elapsed) => Err(out_of_reach("the key store did not answer in time")),
        };
        match found {
            Ok(resolution) => self.admit(&resolution),
            Err(error) if error.reason() == reason::AUTH_UNAVAILABLE => {
                self.live.stale(&digest).map_or(Err(error), |resolution| self.admit(&resolution))
            }
            Err(error) => Err(error),
        }
    }

    fn admit(&self, resolution: &Resolution) -> Result<Resolved> {
        let now = self.clock.now();
        if !resolution.lives(now) {
            return Err(unauthorized());
        }
        if resolution.key.due(now) {
            // Without room this use goes unnoted; the next minute's will be.
            let _full = self.uses.try_send(Arc::clone(&resolution.key)).is_err();
        }
        Ok(resolution.resolved.clone())
    }

    async fn look_up(&self, kind: Kind, prefix: &str, digest: &Digest) -> Result<Arc<Resolution>> {
        let _lane = self.lanes[digest.shard() % LANES].lock().await;
        if let Some(resolution) = self.live.fresh(digest) {
            return Ok(resolution);
        }
        for _ in 0..LOOK_UPS_MAX {
            let revocations = self.live.revocations();
            let stored = self.table.get(prefix).await.map_err(|error| out_of_reach(error.report()))?;
            let Some(key) = stored.map(|stored| stored.value).filter(|key| key.admits(digest, self.clock.now())) else {
                return Err(unauthorized());
            };
            let live = self.live.begin(prefix, *digest, key.expires_at, key.last_used_at);
            let resolution = self.live.keep(resolved(&key, kind, &live.ended), live);
            if self.live.revocations() == revocations {
                return Ok(resolution);
            }
            // A key was revoked meanwhile, perhaps this one: forget and read again. Streams are told if it was.
            self.live.forget(digest);
        }
        Err(out_of_reach("keys are being revoked too quickly"))
    }
}

fn resolved(key: &Key, kind: Kind, ended: &tokio_util::sync::CancellationToken) -> Resolved {
    let role = key.granted(kind);
    let tenant = if role == Role::Admin { TenantId::shared() } else { TenantId::new(key.tenant_id.as_str()) };
    let caller = Caller {
        identity: IdentityId::new(key.key_id.as_str()),
        tenant,
        role,
        permissions: key.permissions.iter().map(|permission| permission.as_str().into()).collect(),
        proof: Proof::Key(key.key_id.as_str().into()),
    };
    debug_assert_ne!(key.key_id, BOOTSTRAP_ID);
    Resolved { caller: Arc::new(caller), rate_limit_rpm: key.rate_limit_rpm, ended: ended.clone() }
}

fn out_of_reach(why: impl Into<crate::base::error::BoxError>) -> Error {
    Error::unavailable(reason::AUTH_UNAVAILABLE, "keys cannot be checked at the moment", why)
        .retry(Retry::After(RETRY_AFTER))
}
