//! Where a new instance goes: one pure function, and what it is told of instances on their way.
//!
//! A newcomer's usual mistake is to ask a host. Hosts have said what they have to say; the choice is a matter of numbers,
//! and the same numbers give the same choice, so that tests and people can predict it.
//!
//! *Knows:* loads. *Does not know:* how hosts are reached, or what an instance is for.

use std::{
    cmp::Ordering,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use foldhash::fast::RandomState;
use portico_base::id;
use portico_port::fleet::{HostLoad, cached::Number};

/// How much of the machine's load is the processor's, the rest being memory's: what runs out last weighs less.
const CPU_SHARE: f64 = 0.7;
/// What each instance that is on its way to a host adds to its score: the host's own numbers do not show it yet.
const PENDING_WEIGHT: f64 = 0.02;

/// Scores are compared in this many steps. A machine's load trembles, and several hosts may share one: what is no real
/// difference must not send every instance to the same host.
const STEPS: f64 = 20.0;
/// Numbers older than this may send every gateway to the same host.
const FRESH: Duration = Duration::from_secs(2);
/// How many of the best hosts are drawn from then.
const BEST: usize = 3;

/// Places instances, and counts those on their way to a host, whose own numbers do not show them yet. Cheap to clone.
#[derive(Clone, Default)]
pub struct Placement(Arc<Mutex<HashMap<String, u32, RandomState>>>);

/// An instance on its way to a host, until it is dropped.
pub struct OnItsWay {
    placement: Placement,
    host: String,
}

impl Placement {
    /// Chooses a host as [`choose`] does.
    ///
    /// # Errors
    /// Why none may take it.
    pub fn choose<'a>(
        &self,
        hosts: &'a [HostLoad],
        deployment_id: &str,
        tried: &[String],
    ) -> Result<&'a HostLoad, Nowhere> {
        let mut dice = [0; 8];
        id::draw(&mut dice);
        let counts = self.counts();
        let on_the_way = |host: &str| counts.get(host).copied().unwrap_or(0);
        choose(hosts, deployment_id, tried, on_the_way, u64::from_le_bytes(dice))
    }

    /// Counts an instance that is on its way to this host.
    #[must_use]
    pub fn on_its_way(&self, host: &str) -> OnItsWay {
        let mut counts = self.counts();
        if let Some(count) = counts.get_mut(host) {
            *count += 1;
        } else {
            counts.insert(host.to_owned(), 1);
        }
        drop(counts);
        OnItsWay { placement: self.clone(), host: host.to_owned() }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<String, u32, RandomState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let mut counts = self.placement.counts();
        if let Some(count) = counts.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.host);
            }
        }
    }
}

/// Why no host was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nowhere {
    /// No host is healthy and takes instances.
    NoHost,
    /// Those that do are full.
    Full,
}

/// The least loaded of the hosts that may take an instance of this deployment, those tried before left out.
///
/// Scores within a step of each other count as equal. They go to the host with more room, of those to one that has the bundle
/// already, then to the smaller id. `pending` says how many instances are on
/// their way to a host. When the best host's numbers are old, `dice` picks two of the best three and the better one is
/// taken, so that not every gateway runs to the same place.
///
/// # Errors
/// Why none may.
pub fn choose<'a>(
    hosts: &'a [HostLoad],
    deployment_id: &str,
    tried: &[String],
    pending: impl Fn(&str) -> u32,
    dice: u64,
) -> Result<&'a HostLoad, Nowhere> {
    let open = hosts.iter().filter(|host| host.healthy && !host.draining && !tried.contains(&host.id));
    let bundle = Number::of(deployment_id);
    let mut nowhere = Nowhere::NoHost;
    let mut best: [Option<Candidate<'a>>; BEST] = [None; BEST];
    for host in open {
        nowhere = Nowhere::Full;
        let on_the_way = pending(&host.id).max(host.reserved);
        if host.active.saturating_add(on_the_way) >= host.active_max {
            continue;
        }
        let candidate = Candidate::of(host, on_the_way);
        if best[BEST - 1].is_some_and(|last| candidate.is_fuller(&last)) {
            continue;
        }
        let candidate = Candidate { is_cold: !host.cached.has(bundle), ..candidate };
        let place = best.iter().position(|other| other.is_none_or(|other| candidate.beats(&other)));
        if let Some(place) = place {
            best[place..].rotate_right(1);
            best[place] = Some(candidate);
        }
    }
    let found = best.iter().flatten().count();
    let first = best[0].ok_or(nowhere)?.host;
    if first.age <= FRESH || found < 2 {
        return Ok(first);
    }
    let place = better_of_two(u64::try_from(found).unwrap_or(u64::MAX), dice);
    Ok(best.get(place).copied().flatten().map_or(first, |candidate| candidate.host))
}

#[derive(Clone, Copy)]
struct Candidate<'a> {
    /// The score in steps, see [`STEPS`].
    steps: f64,
    places: f64,
    /// Whether the bundle is not there yet. Looked up for those that may be chosen.
    is_cold: bool,
    host: &'a HostLoad,
}

impl<'a> Candidate<'a> {
    fn of(host: &'a HostLoad, pending: u32) -> Candidate<'a> {
        let taken = f64::from(host.active) + f64::from(pending);
        let places = taken / f64::from(host.active_max.max(1));
        Candidate { steps: (score(host, pending) * STEPS).floor(), places, is_cold: true, host }
    }

    /// Whether it is behind, whatever bundles there are.
    fn is_fuller(&self, other: &Candidate<'_>) -> bool {
        self.by_load(other).is_gt()
    }

    fn beats(&self, other: &Candidate<'_>) -> bool {
        let by_bundle = || self.is_cold.cmp(&other.is_cold);
        self.by_load(other).then_with(by_bundle).then_with(|| self.host.id.cmp(&other.host.id)).is_lt()
    }

    fn by_load(&self, other: &Candidate<'_>) -> Ordering {
        self.steps.total_cmp(&other.steps).then_with(|| self.places.total_cmp(&other.places))
    }
}

/// The smaller of two different places below `count`.
fn better_of_two(count: u64, dice: u64) -> usize {
    let one = dice % count;
    let step = 1 + (dice / count) % (count - 1);
    usize::try_from(one.min((one + step) % count)).unwrap_or(0)
}

/// The fuller of a host's places and its machine; 0 is idle, 1 is full.
fn score(host: &HostLoad, pending: u32) -> f64 {
    let places = f64::from(host.active) / f64::from(host.active_max.max(1));
    let machine = match (host.cpu, host.memory) {
        (Some(cpu), Some(memory)) => CPU_SHARE * cpu + (1.0 - CPU_SHARE) * memory,
        // A host that does not say is judged by its places alone.
        _ => 0.0,
    };
    places.max(machine) + PENDING_WEIGHT * f64::from(pending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portico_port::fleet::Cached;

    fn host(id: &str, active: u32) -> HostLoad {
        HostLoad {
            id: id.to_owned(),
            epoch: "e".to_owned(),
            active,
            active_max: 10,
            cpu: None,
            memory: None,
            disk_free_bytes: None,
            draining: false,
            healthy: true,
            cached: Cached::default(),
            reserved: 0,
            age: Duration::ZERO,
        }
    }

    fn chosen(hosts: &[HostLoad]) -> Result<&str, Nowhere> {
        choose(hosts, "echo:1.0.0@00000000", &[], |_| 0, 0).map(|host| host.id.as_str())
    }

    #[test]
    fn the_least_loaded_host_that_may_take_it() {
        assert_eq!(chosen(&[host("a", 5), host("b", 2), host("c", 9)]), Ok("b"));
        let busy = HostLoad { cpu: Some(0.9), memory: Some(0.9), ..host("a", 0) };
        assert_eq!(chosen(&[busy, host("b", 3)]), Ok("b"));
        let sick = HostLoad { healthy: false, ..host("a", 0) };
        let leaving = HostLoad { draining: true, ..host("b", 0) };
        assert_eq!(chosen(&[sick.clone(), leaving.clone(), host("c", 9)]), Ok("c"));
        assert_eq!(chosen(&[sick, leaving]), Err(Nowhere::NoHost));
        assert_eq!(chosen(&[host("a", 10)]), Err(Nowhere::Full));
    }

    #[test]
    fn ties_go_to_a_host_with_more_room_or_the_bundle_and_then_to_the_smaller_id() {
        let busy = |id: &str, active, cpu| HostLoad { cpu: Some(cpu), memory: Some(0.5), ..host(id, active) };
        assert_eq!(chosen(&[busy("a", 2, 0.72), busy("b", 1, 0.73)]), Ok("b"), "one machine, two hosts");
        assert_eq!(chosen(&[host("b", 1), host("a", 1)]), Ok("a"));
        let warm = HostLoad { cached: Cached::from_iter(["echo:1.0.0@00000000".to_owned()]), ..host("b", 1) };
        assert_eq!(chosen(&[warm, host("a", 1)]), Ok("b"));
    }

    #[test]
    fn what_is_on_its_way_counts_so_that_a_crowd_spreads() {
        let mut pending = std::collections::HashMap::new();
        let hosts: Vec<HostLoad> =
            (0..200).map(|at| HostLoad { active_max: 100, ..host(&format!("h{at:04}"), 0) }).collect();
        for _ in 0..2_000 {
            let chosen = choose(&hosts, "x", &[], |id| pending.get(id).copied().unwrap_or(0), 0).unwrap().id.clone();
            *pending.entry(chosen).or_insert(0) += 1;
        }
        assert!(pending.len() == 200 && pending.values().all(|count| *count == 10));
    }

    #[test]
    fn old_numbers_spread_over_the_best_but_never_to_the_worst() {
        let old = |id: &str, active| HostLoad { age: Duration::from_secs(3), ..host(id, active) };
        let hosts = [old("a", 1), old("b", 2), old("c", 3), old("d", 4)];
        let mut chosen = std::collections::BTreeMap::new();
        for dice in 0..600 {
            *chosen.entry(choose(&hosts, "x", &[], |_| 0, dice).unwrap().id.clone()).or_insert(0) += 1;
        }
        let chosen: Vec<_> = chosen.into_iter().collect();
        assert_eq!(chosen, [("a".to_owned(), 400), ("b".to_owned(), 200)]);
        let fresh = [old("b", 2), host("a", 1)];
        assert!((0..600).all(|dice| choose(&fresh, "x", &[], |_| 0, dice).unwrap().id == "a"));
    }

    /// A thousand hosts of different sizes and a hundred thousand instances, most of which run already, unevenly. By numbers
    /// that are a second old: each gateway places a hundred before it sees what the others did.
    #[test]
    fn a_large_fleet_fills_evenly_and_no_host_beyond_its_cap() {
        let begun = |at: u32| {
            let active_max = 100 + at % 3 * 50;
            HostLoad { active_max, ..host(&format!("h{at:04}"), active_max * (50 + at * 7 % 17) / 100) }
        };
        let mut hosts: Vec<HostLoad> = (0..1_000).map(begun).collect();
        let capacity: u32 = hosts.iter().map(|host| host.active_max).sum();
        let places: std::collections::HashMap<String, usize> =
            hosts.iter().enumerate().map(|(at, host)| (host.id.clone(), at)).collect();
        while hosts.iter().map(|host| host.active).sum::<u32>() < 100_000 {
            let mut pending = vec![0; hosts.len()];
            for _ in 0..100 {
                let on_the_way = |id: &str| pending[places[id]];
                let chosen = places[&choose(&hosts, "x", &[], on_the_way, 0).unwrap().id];
                pending[chosen] += 1;
            }
            for (host, arrived) in hosts.iter_mut().zip(pending) {
                host.active += arrived;
            }
        }
        for host in &hosts {
            let share = f64::from(host.active) / f64::from(host.active_max);
            let ideal = 100_000.0 / f64::from(capacity);
            assert!(host.active <= host.active_max && (share - ideal).abs() <= 0.05 * ideal, "{host:?}");
        }
    }
}
