//! Announcements, reservations and token buckets inside this process.
//!
//! A newcomer's usual mistake is to let a task fill buckets. A bucket is one moment: when it would be full again (the
//! generic cell rate algorithm). Taking moves that moment; a bucket whose moment has passed is full and can be forgotten.
//!
//! *Knows:* tokio's clock, maps. *Does not know:* what is announced or limited.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use portico_base::{Code, Error, Result, Retry, health::Health, reason};
use portico_port::{
    Answer,
    registry::{ANNOUNCEMENT_BYTES_MAX, ANNOUNCEMENTS_MAX, Announcement, Present, Rate, Registry, Take},
};
use tokio::time::Instant;

/// Parts of the buckets, so that callers on many cores do not wait for one lock.
const SHARDS: usize = 64;
/// Buckets in one part before full ones are forgotten; 1 Mi in all.
const SHARD_BUCKETS_MAX: usize = 16_384;

/// Announcements and buckets inside this process. Clones share them.
#[derive(Clone)]
pub struct LocalRegistry(Arc<Inner>);

struct Inner {
    announced: Mutex<HashMap<&'static str, Announced>>,
    reserved: Mutex<HashMap<&'static str, Reserved>>,
    buckets: Box<[Mutex<Buckets>]>,
    hasher: RandomState,
}

/// What is announced of one kind by id: what it says, and until when it is here.
type Announced = BTreeMap<String, (String, Instant)>;

/// The places that are reserved by id: until when each is remembered, the youngest last.
type Reserved = HashMap<String, Vec<Instant>>;

/// The moment at which each bucket is full again, by name and key.
#[derive(Default)]
struct Buckets {
    full_at: HashMap<&'static str, HashMap<Box<str>, Instant>>,
    count: usize,
}

impl LocalRegistry {
    /// A registry in which nothing is announced and every bucket is full.
    pub fn new() -> LocalRegistry {
        let buckets = (0..SHARDS).map(|_| Mutex::default()).collect();
        let (announced, reserved) = (Mutex::default(), Mutex::default());
        LocalRegistry(Arc::new(Inner { announced, reserved, buckets, hasher: RandomState::new() }))
    }
}

impl Default for LocalRegistry {
    fn default() -> Self {
        LocalRegistry::new()
    }
}

impl Registry for LocalRegistry {
    fn announce<'a>(&'a self, kind: &'static str, announcement: Announcement, ttl: Duration) -> Answer<'a, ()> {
        Box::pin(async move { self.0.announce(kind, announcement, ttl) })
    }

    fn withdraw<'a>(&'a self, kind: &'static str, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            if let Some(announced) = lock(&self.0.announced).get_mut(kind) {
                announced.remove(id);
            }
            Ok(())
        })
    }

    fn live(&self, kind: &'static str) -> Answer<'_, Vec<Present>> {
        Box::pin(async move { Ok(self.0.live(kind)) })
    }

    fn reserve<'a>(&'a self, kind: &'static str, id: &'a str, ttl: Duration) -> Answer<'a, u32> {
        Box::pin(async move { Ok(self.0.reserve(kind, id, ttl)) })
    }

    fn release<'a>(&'a self, kind: &'static str, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.0.release(kind, id);
            Ok(())
        })
    }

    fn take<'a>(&'a self, bucket: &'static str, key: &'a str, rate: Rate) -> Answer<'a, Take> {
        Box::pin(async move { Ok(self.0.take(bucket, key, rate)) })
    }

    /// It is never away.
    fn returned(&self, _before: u64) -> Answer<'_, u64> {
        Box::pin(std::future::pending())
    }

    fn reach(&self) -> Result<()> {
        Ok(())
    }

    fn health(&self) -> Answer<'_, Health> {
        Box::pin(async { Ok(Health::OK) })
    }
}

impl Inner {
    fn announce(&self, kind: &'static str, announcement: Announcement, ttl: Duration) -> Result<()> {
        if announcement.body.len() > ANNOUNCEMENT_BYTES_MAX {
            let message = format!("an announcement of {} bytes is too large", announcement.body.len());
            return Err(Error::internal(message));
        }
        let now = Instant::now();
        let mut kinds = lock(&self.announced);
        let announced = kinds.entry(kind).or_default();
        announced.retain(|_, (_, until)| *until > now);
        if announced.len() >= ANNOUNCEMENTS_MAX && !announced.contains_key(&announcement.id) {
            return Err(Error::new(Code::ResourceExhausted, reason::REGISTRY_UNAVAILABLE, "the registry is full")
                .retry(Retry::After(ttl)));
        }
        announced.insert(announcement.id, (announcement.body, now + ttl));
        Ok(())
    }

    fn live(&self, kind: &'static str) -> Vec<Present> {
        let now = Instant::now();
        let (kinds, reserved) = (lock(&self.announced), lock(&self.reserved));
        let announced = kinds.get(kind).into_iter().flatten();
        let live = announced.filter(|(_, (_, until))| *until > now);
        let reserved = |id: &String| {
            let places = reserved.get(kind).and_then(|reserved| reserved.get(id));
            places.map_or(0, |places| count(places.iter().filter(|until| **until > now)))
        };
        live.map(|(id, (body, _))| Present { id: id.clone(), body: body.clone(), reserved: reserved(id) }).collect()
    }

    fn reserve(&self, kind: &'static str, id: &str, ttl: Duration) -> u32 {
        let now = Instant::now();
        let mut kinds = lock(&self.reserved);
        let reserved = kinds.entry(kind).or_default();
        reserved.retain(|_, places| {
            places.retain(|until| *until > now);
            !places.is_empty()
        });
        let places = reserved.entry(id.to_owned()).or_default();
        places.push(now + ttl);
        count(places.iter())
    }

    fn release(&self, kind: &'static str, id: &str) {
        let mut kinds = lock(&self.reserved);
        if let Some(places) = kinds.get_mut(kind).and_then(|reserved| reserved.get_mut(id)) {
            places.pop();
        }
    }

    fn take(&self, bucket: &'static str, key: &str, rate: Rate) -> Take {
        if rate.per_minute == 0 {
            // Nothing to remember.
            return Take::Granted { left: u32::MAX };
        }
        let shard = usize::try_from(self.hasher.hash_one((bucket, key)) % SHARDS as u64).unwrap_or_default();
        let now = Instant::now();
        lock(&self.buckets[shard]).take(bucket, key, rate, now)
    }
}

impl Buckets {
    fn take(&mut self, bucket: &'static str, key: &str, rate: Rate, now: Instant) -> Take {
        if let Some(full_at) = self.full_at.get_mut(bucket).and_then(|keys| keys.get_mut(key)) {
            let (full_in, take) = rate.take(full_at.saturating_duration_since(now));
            *full_at = now + full_in;
            return take;
        }
        if self.count >= SHARD_BUCKETS_MAX {
            self.make_room(now);
        }
        let (full_in, take) = rate.take(Duration::ZERO);
        self.full_at.entry(bucket).or_default().insert(key.into(), now + full_in);
        self.count += 1;
        take
    }

    /// Forgets full buckets, which changes nothing. If none is full, forgetting all is a gift to a few callers.
    fn make_room(&mut self, now: Instant) {
        self.full_at.retain(|_, keys| {
            keys.retain(|_, full_at| *full_at > now);
            !keys.is_empty()
        });
        self.count = self.full_at.values().map(HashMap::len).sum();
        if self.count >= SHARD_BUCKETS_MAX {
            self.full_at.clear();
            self.count = 0;
        }
    }
}

fn count(places: impl Iterator) -> u32 {
    u32::try_from(places.count()).unwrap_or(u32::MAX)
}

/// What these locks guard is whole after every statement, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
