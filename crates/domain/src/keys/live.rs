//! The keys that are in use here: what was resolved lately, and what must end when a key does.
//!
//! A newcomer's usual mistake is to end streams through the cache. A resolution is forgotten after seconds, but a stream
//! that it admitted lives for hours; so each key has one token from its first use until it is revoked, expires or leaves.
//!
//! *Knows:* resolutions by the digest of a credential, tokens by prefix, how long each is good. *Does not know:* stores, how a key is checked.

use std::{
    collections::{BTreeSet, HashMap},
    hash::BuildHasherDefault,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use portico_base::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Resolved, digest::AlreadyHashed, digest::Digest};

/// How long a resolution is used without asking the store again.
const FRESH: Duration = Duration::from_secs(5);
/// The same while revocations cannot be heard: then the store is the only one to know of them.
const FRESH_UNHEARD: Duration = Duration::from_secs(1);
/// How long it may be used while the store is out of reach, so that a short outage does not stop every caller.
const KEPT: Duration = Duration::from_secs(60);
/// Parts of the cache, so that callers on many cores do not wait for one lock.
const SHARDS: usize = 64;
/// Resolutions in one part; 64 Ki in all.
const SHARD_RESOLUTIONS_MAX: usize = 1_024;
/// Keys in use at once. Beyond that the one that was looked up least recently is ended, and its callers come back.
const LIVE_KEYS_MAX: usize = 262_144;
/// How often the use of a key is noted.
pub(super) const NOTED_EVERY: Duration = Duration::from_secs(60);

type Shard = RwLock<HashMap<Digest, Arc<Resolution>, BuildHasherDefault<AlreadyHashed>>>;

/// The keys in use.
pub(super) struct Live {
    shards: Box<[Shard]>,
    keys: Mutex<Keys>,
    /// Counts revocations, so that a look-up that overlaps with one is done again.
    revocations: AtomicU64,
    /// Whether revocations elsewhere cannot be heard at the moment.
    unheard: AtomicBool,
}

#[derive(Default)]
struct Keys {
    by_prefix: HashMap<Box<str>, Arc<LiveKey>>,
    expiring: BTreeSet<(Timestamp, Box<str>)>,
    looked_up: BTreeSet<(u64, Box<str>)>,
    look_ups: u64,
}

/// A key in use.
pub(super) struct LiveKey {
    pub(super) prefix: Box<str>,
    pub(super) ended: Arc<CancellationToken>,
    /// The same for who only has to look.
    is_over: AtomicBool,
    expires_at: Option<Timestamp>,
    noted_at: AtomicI64,
    looked_up: AtomicU64,
}

impl LiveKey {
    /// Whether this use should be noted. Answers yes to one caller a minute.
    pub(super) fn due(&self, now: Timestamp) -> bool {
        let noted_at = self.noted_at.load(Ordering::Relaxed);
        let due = now.since(Timestamp(noted_at)) >= NOTED_EVERY;
        due && self.noted_at.compare_exchange(noted_at, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// What a key resolved to.
pub(super) struct Resolution {
    pub(super) resolved: Resolved,
    pub(super) key: Arc<LiveKey>,
    made_at: Instant,
}

impl Resolution {
    /// Whether the key has not expired.
    pub(super) fn lives(&self, now: Timestamp) -> bool {
        self.key.expires_at.is_none_or(|at| at > now)
    }

    fn is_over(&self) -> bool {
        self.key.is_over.load(Ordering::SeqCst)
    }

    fn younger_than(&self, age: Duration) -> bool {
        self.made_at.elapsed() < age
    }
}

impl Live {
    pub(super) fn new() -> Live {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Live { shards, keys: Mutex::default(), revocations: AtomicU64::new(0), unheard: AtomicBool::new(false) }
    }

    /// A resolution that needs no question to the store.
    pub(super) fn fresh(&self, digest: &Digest) -> Option<Arc<Resolution>> {
        let fresh = if self.unheard.load(Ordering::Relaxed) { FRESH_UNHEARD } else { FRESH };
        self.resolution(digest).filter(|resolution| resolution.younger_than(fresh))
    }

    /// A resolution that may be used if the store is out of reach.
    pub(super) fn stale(&self, digest: &Digest) -> Option<Arc<Resolution>> {
        self.resolution(digest).filter(|resolution| resolution.younger_than(KEPT))
    }

    /// How many revocations there were. A resolution made from what was read before the next one is not to be kept.
    pub(super) fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::SeqCst)
    }

    /// The key in use of this prefix, which begins to be in use.
    pub(super) fn begin(
        &self,
        prefix: &str,
        expires_at: Option<Timestamp>,
        last_used_at: Option<Timestamp>,
    ) -> Arc<LiveKey> {
        let mut keys = self.keys();
        keys.look_ups += 1;
        let look_up = keys.look_ups;
        if let Some(key) = keys.by_prefix.get(prefix).cloned() {
            let before = key.looked_up.swap(look_up, Ordering::Relaxed);
            keys.looked_up.remove(&(before, prefix.into()));
            keys.looked_up.insert((look_up, prefix.into()));
            return key;
        }
        if keys.by_prefix.len() >= LIVE_KEYS_MAX
            && let Some((_, idle)) = keys.looked_up.first().cloned()
        {
            drop(keys);
            self.end(&idle);
            keys = self.keys();
        }
        let key = Arc::new(LiveKey {
            prefix: prefix.into(),
            ended: Arc::default(),
            is_over: AtomicBool::new(false),
            expires_at,
            noted_at: AtomicI64::new(last_used_at.map_or(0, |at| at.0)),
            looked_up: AtomicU64::new(look_up),
        });
        keys.by_prefix.insert(prefix.into(), Arc::clone(&key));
        keys.looked_up.insert((look_up, prefix.into()));
        if let Some(at) = expires_at {
            keys.expiring.insert((at, prefix.into()));
        }
        key
    }

    /// Keeps a resolution for the next callers.
    pub(super) fn keep(&self, digest: Digest, resolved: Resolved, key: Arc<LiveKey>) -> Arc<Resolution> {
        let resolution = Arc::new(Resolution { resolved, key, made_at: Instant::now() });
        let mut shard = self.shard(&digest).write().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= SHARD_RESOLUTIONS_MAX {
            shard.retain(|_, resolution| resolution.younger_than(FRESH) && !resolution.is_over());
        }
        if shard.len() >= SHARD_RESOLUTIONS_MAX
            && let Some(any) = shard.keys().next().copied()
        {
            shard.remove(&any);
        }
        shard.insert(digest, Arc::clone(&resolution));
        resolution
    }

    /// Forgets what a key resolved to.
    pub(super) fn forget(&self, digest: &Digest) {
        self.shard(digest).write().unwrap_or_else(PoisonError::into_inner).remove(digest);
    }

    /// Ends a key at once: what it resolved to is forgotten and its streams end. Call after the store knows.
    pub(super) fn revoke(&self, prefix: &str) {
        self.revocations.fetch_add(1, Ordering::SeqCst);
        self.end(prefix);
    }

    /// Ends a key that the store does not know as living any more, if it is in use here: word of that was lost.
    pub(super) fn is_gone(&self, prefix: &str) {
        let is_in_use = self.keys().by_prefix.contains_key(prefix);
        if is_in_use {
            self.revoke(prefix);
        }
    }

    /// Ends the keys that have expired.
    pub(super) fn expire(&self, now: Timestamp) {
        loop {
            let expired = self.keys().expiring.first().filter(|(at, _)| *at <= now).map(|(_, prefix)| prefix.clone());
            match expired {
                Some(prefix) => self.end(&prefix),
                None => return,
            }
        }
    }

    /// Says whether revocations elsewhere can be heard.
    pub(super) fn hears(&self, heard: bool) {
        self.unheard.store(!heard, Ordering::Relaxed);
    }

    /// The prefixes of all keys in use.
    pub(super) fn prefixes(&self) -> Vec<Box<str>> {
        self.keys().by_prefix.keys().cloned().collect()
    }

    fn end(&self, prefix: &str) {
        let mut keys = self.keys();
        let Some(key) = keys.by_prefix.remove(prefix) else { return };
        keys.looked_up.remove(&(key.looked_up.load(Ordering::Relaxed), prefix.into()));
        if let Some(at) = key.expires_at {
            keys.expiring.remove(&(at, prefix.into()));
        }
        drop(keys);
        // What it resolved to counts no more, by whatever credential.
        key.is_over.store(true, Ordering::SeqCst);
        key.ended.cancel();
    }

    fn resolution(&self, digest: &Digest) -> Option<Arc<Resolution>> {
        let found = self.shard(digest).read().unwrap_or_else(PoisonError::into_inner).get(digest).cloned();
        found.filter(|resolution| !resolution.is_over())
    }

    fn shard(&self, digest: &Digest) -> &Shard {
        &self.shards[digest.shard() % SHARDS]
    }

    /// What this lock guards is whole after every statement, so a poisoned lock is still good.
    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
