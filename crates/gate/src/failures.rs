//! Slows down whoever guesses keys.
//!
//! A newcomer's usual mistake is to count in the shared registry. Guessing must not cost us a round trip, so each
//! gateway counts for itself.
//!
//! *Knows:* failed credentials per address and minute. *Does not know:* which credentials they were.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use portico_base::Current;
use tokio::time::Instant;

use super::limits::Config;

/// The window in which failures are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Most addresses remembered. When full, windows that are over make room; a flood from more addresses than this forgets
/// the oldest, which costs an attacker as many addresses.
const ADDRESSES_MAX: usize = 16_384;

/// Failed credentials per address.
pub(super) struct Failures {
    config: Current<Config>,
    counts: Mutex<HashMap<IpAddr, Count>>,
}

#[derive(Clone, Copy)]
struct Count {
    began: Instant,
    failures: u32,
}

impl Failures {
    /// Tells an address to wait after as many failures in a minute as the config says; never when zero.
    pub(super) fn new(config: Current<Config>) -> Failures {
        Failures { config, counts: Mutex::new(HashMap::new()) }
    }

    /// Counts a failure. Answers how long to wait when there were too many.
    ///
    /// Loopback addresses are never told to wait: behind a proxy on this machine every caller comes from one.
    pub(super) fn note(&self, address: IpAddr) -> Option<Duration> {
        let config = self.config.get();
        let per_minute_max = if config.enabled { config.failures_per_minute_max } else { 0 };
        let network = network(address).filter(|_| per_minute_max > 0)?;
        let now = Instant::now();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= ADDRESSES_MAX {
            make_room(&mut counts, now);
        }
        let count = counts.entry(network).or_insert(Count { began: now, failures: 0 });
        if now.duration_since(count.began) >= WINDOW {
            *count = Count { began: now, failures: 0 };
        }
        count.failures = count.failures.saturating_add(1);
        (count.failures > per_minute_max).then(|| WINDOW.saturating_sub(now.duration_since(count.began)))
    }
}

/// What an address is counted by: IPv6 callers own at least a /64. Nothing for loopback addresses.
pub(super) fn network(address: IpAddr) -> Option<IpAddr> {
    let network = match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    };
    (!network.is_loopback()).then_some(network)
}

fn make_room(counts: &mut HashMap<IpAddr, Count>, now: Instant) {
    counts.retain(|_, count| now.duration_since(count.began) < WINDOW);
    if counts.len() >= ADDRESSES_MAX
        && let Some(oldest) = counts.iter().min_by_key(|(_, count)| count.began).map(|(address, _)| *address)
    {
        counts.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use portico_port::registry::Rate;

    #[tokio::test(start_paused = true)]
    async fn a_guesser_waits_for_the_rest_of_its_minute() {
        let config = Config {
            enabled: true,
            calls: Rate { per_minute: 0, burst: 0 },
            buckets: HashMap::new(),
            concurrent_max: 0,
            sockets_max: 0,
            strangers: Rate { per_minute: 0, burst: 0 },
            strangers_streams_max: 0,
            failures_per_minute_max: 2,
        };
        let failures = Failures::new(Current::new(config));
        let [one, other] = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        assert_eq!([failures.note(one), failures.note(one)], [None, None]);
        assert_eq!(failures.note(one), Some(WINDOW));
        assert_eq!(failures.note(other), None);
        tokio::time::advance(WINDOW).await;
        assert_eq!(failures.note(one), None);
    }
}
