//! How much a caller may ask for: rates from the registry, concurrency on this gateway.
//!
//! A newcomer's usual mistake is to count a refused call. A refusal takes nothing from any bucket, so a caller that
//! waits as told gets through.
//!
//! *Knows:* buckets, keys, permits. *Does not know:* which method draws from which bucket (the schema does).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use portico_base::{Caller, Code, Current, Error, Result, Retry, reason, reply::Reply};
use portico_port::registry::{Rate, Registry, Take};

use super::Door;

/// How long a refused caller waits when a concurrency limit is used up; calls end all the time.
const CONCURRENT_RETRY: Duration = Duration::from_secs(1);

/// What each key may ask for.
#[derive(Clone, Debug)]
pub struct Config {
    /// No limits at all when false.
    pub enabled: bool,
    /// Calls of a key, unless the key says otherwise.
    pub calls: Rate,
    /// Further limits for methods that name a bucket.
    pub buckets: HashMap<&'static str, Bucket>,
    /// Calls of a key at the same time, sockets apart.
    pub concurrent_max: u32,
    /// WebSockets of a key at the same time.
    pub sockets_max: u32,
    /// Streams that an address begins without a key.
    pub strangers: Rate,
    /// Streams of an address at the same time without a key.
    pub strangers_streams_max: u32,
    /// Failed credentials of an address in a minute.
    pub failures_per_minute_max: u32,
}

/// The limit of a named bucket.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// How often.
    pub rate: Rate,
    /// How many at the same time; any number when zero.
    pub concurrent_max: u32,
}

/// Counts what callers ask for. Cheap to clone.
#[derive(Clone)]
pub(super) struct Limits {
    config: Current<Config>,
    registry: Arc<dyn Registry>,
    running: Arc<Running>,
    kept: Arc<Kept>,
}

impl Limits {
    pub(super) fn new(config: Current<Config>, registry: Arc<dyn Registry>) -> Limits {
        Limits { config, registry, running: Arc::new(Running::of("key")), kept: Arc::default() }
    }

    /// Takes one call from every bucket that it belongs to, or from none.
    ///
    /// # Errors
    /// `rate_limited` or `too_many_concurrent`, with the time to wait.
    pub(super) async fn take(
        &self,
        caller: &Caller,
        per_minute: Option<u32>,
        bucket: Option<&'static str>,
        door: Door,
        reply: &Reply,
    ) -> Result<Permit> {
        let config = self.config.get();
        let Some(key) = caller.key_id().filter(|_| config.enabled) else { return Ok(Permit::none()) };
        let permit = self.permit(&config, key, bucket, door)?;
        // A key that may call twice a minute may not call a hundred times at once.
        let own = |per_minute: u32| Rate { per_minute, burst: config.calls.burst.min(per_minute) };
        let calls = per_minute.map_or(config.calls, own);
        let named = bucket.and_then(|name| config.buckets.get_key_value(name));
        if let Some((name, bucket)) = named
            && !self.kept.take(name, key)
        {
            self.draw(name, key, bucket.rate, reply).await?;
        }
        let drawn = self.draw("calls", key, calls, reply).await;
        if let (Some((name, _)), Err(_)) = (named, &drawn) {
            self.kept.put(name, key);
        }
        drawn.map(|()| permit)
    }

    async fn draw(&self, bucket: &'static str, key: &str, rate: Rate, reply: &Reply) -> Result<()> {
        if rate.per_minute == 0 {
            return Ok(());
        }
        let taken = self.registry.take(bucket, key, rate).await?;
        let (left, wait) = match taken {
            Take::Granted { left } => (left, Duration::ZERO),
            Take::Later(wait) => (0, wait.max(Duration::from_secs(1))),
        };
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let policy = header(&format!("\"{bucket}\";q={};w=60", rate.per_minute));
        let mut state = header(&format!("\"{bucket}\";r={left};t={seconds}"));
        // It changes with every call: HTTP/2 is not to keep it for later answers.
        state.set_sensitive(true);
        match taken {
            Take::Granted { .. } => {
                reply.header(POLICY, policy);
                reply.header(STATE, state);
                Ok(())
            }
            Take::Later(_) => Err(Error::new(
                Code::ResourceExhausted,
                reason::RATE_LIMITED,
                format!(
                    "this key may make {} such calls a minute, and {} in a burst; come back in {seconds} s",
                    rate.per_minute,
                    rate.burst.max(1)
                ),
            )
            .with_fact("bucket", bucket)
            .retry(Retry::After(wait))
            .with_metadata([(POLICY, policy), (STATE, state)].into_iter().collect())),
        }
    }

    fn permit(&self, config: &Config, key: &str, bucket: Option<&'static str>, door: Door) -> Result<Permit> {
        let (kind, max) = match door {
            Door::Socket => ("sockets", config.sockets_max),
            _ => ("calls", config.concurrent_max),
        };
        let mut permit = Permit::none();
        self.running.enter(&mut permit, kind, key, max)?;
        if let Some((name, limit)) = bucket.and_then(|name| config.buckets.get_key_value(name)) {
            self.running.enter(&mut permit, name, key, limit.concurrent_max)?;
        }
        Ok(permit)
    }
}

/// The policy of a bucket (draft-ietf-httpapi-ratelimit-headers).
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left of it.
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// Bucket names and numbers are visible ASCII, so the text always fits; an empty header says nothing wrong.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Calls that run now, by kind and key. Entries go when their count is zero, so the map is as small as the load.
pub(super) struct Running {
    /// What keys are here, as a refusal says it.
    whose: &'static str,
    counts: Mutex<HashMap<Place, u32>>,
}

impl Running {
    pub(super) fn of(whose: &'static str) -> Running {
        Running { whose, counts: Mutex::default() }
    }

    pub(super) fn enter(self: &Arc<Self>, permit: &mut Permit, kind: &'static str, key: &str, max: u32) -> Result<()> {
        if max == 0 {
            return Ok(());
        }
        let place = (kind, Arc::from(key));
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((kind, Arc::clone(&place.1))).or_insert(0);
        if *count >= max {
            return Err(Error::new(
                Code::ResourceExhausted,
                reason::TOO_MANY_CONCURRENT,
                format!("more than {max} {kind} of this {} at the same time", self.whose),
            )
            .retry(Retry::After(CONCURRENT_RETRY)));
        }
        *count += 1;
        drop(counts);
        permit.0.push((Arc::clone(self), place));
        Ok(())
    }

    fn leave(&self, place: &Place) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(place) {
            *count -= 1;
            if *count == 0 {
                counts.remove(place);
            }
        }
    }
}

/// Keys that something is kept for. When there are more, all is forgotten, which costs each of them what it had here.
const KEPT_MAX: usize = 4_096;

/// What was taken from named buckets for calls that the other bucket then refused. The next such calls need not take again.
#[derive(Default)]
struct Kept(Mutex<HashMap<Place, u32>>);

impl Kept {
    fn put(&self, kind: &'static str, key: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= KEPT_MAX {
            counts.clear();
        }
        *counts.entry((kind, Arc::from(key))).or_insert(0) += 1;
    }

    fn take(&self, kind: &'static str, key: &str) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // As it usually is.
        if counts.is_empty() {
            return false;
        }
        let place = (kind, Arc::from(key));
        let Some(count) = counts.get_mut(&place) else { return false };
        *count -= 1;
        if *count == 0 {
            counts.remove(&place);
        }
        true
    }
}

/// The right to run now; given back when dropped.
pub(super) struct Permit(Vec<(Arc<Running>, Place)>);

/// A kind of call and the key that makes it.
type Place = (&'static str, Arc<str>);

impl Permit {
    /// A permit that counts nowhere.
    pub(super) fn none() -> Permit {
        Permit(Vec::new())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for (running, place) in self.0.drain(..) {
            running.leave(&place);
        }
    }
}
