//! Slows down whoever guesses keys.
//!
//! A newcomer's usual mistake is to count in the shared registry. Guessing must not cost us a round trip, so each
//! gateway counts for itself.
//!
//! *Knows:* failed credentials per address and minute. *Does not know:* which credentials they were.

use std::{
    collections::HashMap,
    mem,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use portico_base::Current;
use tokio::time::Instant;

use super::limits::Config;

/// The window in which failures are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses in either half. A flood from more than this forgets those before their time that have been silent since it began,
/// which costs an attacker as many addresses.
const HALF_MAX: usize = 8_192;

/// Failed credentials per address.
pub(super) struct Failures {
    config: Current<Config>,
    counts: Mutex<Halves>,
}

/// Two halves, so that those whose windows are over are forgotten without being looked for: a flood must not make every
/// failure walk over all addresses.
struct Halves {
    young: HashMap<IpAddr, Count>,
    old: HashMap<IpAddr, Count>,
    turned_at: Instant,
}

#[derive(Clone, Copy)]
struct Count {
    began: Instant,
    failures: u32,
}

impl Failures {
    /// Tells an address to wait after as many failures in a minute as the config says; never when zero.
    pub(super) fn new(config: Current<Config>) -> Failures {
        let halves = Halves { young: HashMap::new(), old: HashMap::new(), turned_at: Instant::now() };
        Failures { config, counts: Mutex::new(halves) }
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
        let count = counts.of(network, now);
        if now.duration_since(count.began) >= WINDOW {
            *count = Count { began: now, failures: 0 };
        }
        count.failures = count.failures.saturating_add(1);
        (count.failures > per_minute_max).then(|| WINDOW.saturating_sub(now.duration_since(count.began)))
    }
}

impl Halves {
    /// The count of an address, which is among the young from now on.
    fn of(&mut self, network: IpAddr, now: Instant) -> &mut Count {
        let is_over = now.duration_since(self.turned_at) >= WINDOW;
        if is_over || (self.young.len() >= HALF_MAX && !self.young.contains_key(&network)) {
            self.old = mem::take(&mut self.young);
            self.turned_at = now;
        }
        let old = &mut self.old;
        self.young.entry(network).or_insert_with(|| old.remove(&network).unwrap_or(Count { began: now, failures: 0 }))
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use portico_port::registry::Rate;

    fn two_a_minute() -> Failures {
        Failures::new(Current::new(Config {
            enabled: true,
            calls: Rate { per_minute: 0, burst: 0 },
            buckets: HashMap::new(),
            concurrent_max: 0,
            sockets_max: 0,
            strangers: Rate { per_minute: 0, burst: 0 },
            strangers_streams_max: 0,
            failures_per_minute_max: 2,
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_guesser_waits_for_the_rest_of_its_minute() {
        let failures = two_a_minute();
        let [one, other] = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        assert_eq!([failures.note(one), failures.note(one)], [None, None]);
        assert_eq!(failures.note(one), Some(WINDOW));
        assert_eq!(failures.note(other), None);
        tokio::time::advance(WINDOW).await;
        assert_eq!(failures.note(one), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_on_guessing_through_a_flood_is_remembered_and_the_flood_is_not() {
        let failures = two_a_minute();
        let guesser = IpAddr::from([10, 0, 0, 1]);
        assert_eq!([failures.note(guesser), failures.note(guesser)], [None, None]);
        // It is the oldest of all.
        let passed = Duration::from_secs(1);
        tokio::time::advance(passed).await;
        for number in 0..4 * HALF_MAX as u128 {
            let network = (0x2001_0db8_u128 << 96) + (number << 64);
            assert_eq!(failures.note(IpAddr::V6(network.into())), None);
            if number % 1_000 == 0 {
                assert_eq!(failures.note(guesser), Some(WINDOW - passed), "after {number} others");
            }
        }
        let halves = failures.counts.lock().unwrap();
        assert!(halves.young.len() + halves.old.len() <= 2 * HALF_MAX);
    }
}
