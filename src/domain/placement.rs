//! Where a new instance goes: one pure function.
//!
//! A newcomer's usual mistake is to ask a host. Hosts have said what they have to say; the choice is a matter of numbers,
//! and the same numbers give the same choice, so that tests and people can predict it.
//!
//! *Knows:* loads. *Does not know:* how hosts are reached, or what an instance is for.

use crate::port::fleet::HostLoad;

/// How much of the machine's load is the processor's, the rest being memory's: what runs out last weighs less.
const CPU_SHARE: f64 = 0.7;
/// What each instance that is on its way to a host adds to its score: the host's own numbers do not show it yet.
const PENDING_WEIGHT: f64 = 0.02;

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
/// Equal scores go to a host that has the bundle already, then to the smaller id. `pending` says how many instances are on
/// their way to a host.
///
/// # Errors
/// Why none may.
pub fn choose<'a>(
    hosts: &'a [HostLoad],
    deployment_id: &str,
    tried: &[String],
    pending: impl Fn(&str) -> u32,
) -> Result<&'a HostLoad, Nowhere> {
    let open = hosts.iter().filter(|host| host.healthy && !host.draining && !tried.contains(&host.id));
    let mut nowhere = Nowhere::NoHost;
    let mut best: Option<(f64, bool, &HostLoad)> = None;
    for host in open {
        nowhere = Nowhere::Full;
        let on_the_way = pending(&host.id);
        if host.active.saturating_add(on_the_way) >= host.active_max {
            continue;
        }
        let cold = !host.cached.iter().any(|cached| cached == deployment_id);
        let candidate = (score(host, on_the_way), cold, host);
        let better = best.as_ref().is_none_or(|best| {
            let by_score = candidate.0.total_cmp(&best.0);
            by_score.then(candidate.1.cmp(&best.1)).then(candidate.2.id.cmp(&best.2.id)).is_lt()
        });
        if better {
            best = Some(candidate);
        }
    }
    best.map(|(.., host)| host).ok_or(nowhere)
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

    fn host(id: &str, active: u32) -> HostLoad {
        HostLoad {
            id: id.to_owned(),
            epoch: "e".to_owned(),
            active,
            active_max: 10,
            cpu: None,
            memory: None,
            draining: false,
            healthy: true,
            cached: Vec::new(),
        }
    }

    fn chosen(hosts: &[HostLoad]) -> Result<&str, Nowhere> {
        choose(hosts, "echo:1.0.0@00000000", &[], |_| 0).map(|host| host.id.as_str())
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
    fn ties_go_to_a_host_with_the_bundle_and_then_to_the_smaller_id() {
        assert_eq!(chosen(&[host("b", 1), host("a", 1)]), Ok("a"));
        let warm = HostLoad { cached: vec!["echo:1.0.0@00000000".to_owned()], ..host("b", 1) };
        assert_eq!(chosen(&[warm, host("a", 1)]), Ok("b"));
    }

    #[test]
    fn what_is_on_its_way_counts_so_that_a_crowd_spreads() {
        let mut pending = std::collections::HashMap::new();
        let hosts: Vec<HostLoad> =
            (0..1_000).map(|at| HostLoad { active_max: 100, ..host(&format!("h{at:04}"), 0) }).collect();
        for _ in 0..10_000 {
            let chosen = choose(&hosts, "x", &[], |id| pending.get(id).copied().unwrap_or(0)).unwrap().id.clone();
            *pending.entry(chosen).or_insert(0) += 1;
        }
        assert!(pending.len() == 1_000 && pending.values().all(|count| *count == 10));
    }
}
