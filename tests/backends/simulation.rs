//! A thousand hosts and a hundred thousand instances in a real registry, placed by gateways that know of each other only what
//! the registry tells them, and that a moment late.
//!
//! The hosts are empty when the gateways begin. Every instance is started for real as far as the registry goes: its place is
//! reserved before and given back after, and its host announces that it has arrived.

use std::time::Duration;

use futures_util::{StreamExt, future::join_all, stream};
use portico::{
    backend::valkey::ValkeyRegistry,
    base::tasks::Tasks,
    domain::placement::{OnItsWay, Placement},
    port::{
        Answer,
        fleet::{ANNOUNCED, Announced, HostLoad},
        registry::{Announcement, Registry},
    },
};

use crate::support::valkey::{self, Maker};

const HOSTS: usize = 1_000;
const INSTANCES: u32 = 100_000;
const GATEWAYS: usize = 4;
/// How many each gateway places between two looks at the registry; towards the end half of what is left, so that the spread is
/// not that of a last burst.
const AT_ONCE: usize = 500;
/// How far from the ideal a host may end.
const SPREAD_MAX: f64 = 0.05;
const DEPLOYMENT: &str = "echo:1.0.0@2b795103";
const TTL: Duration = Duration::from_secs(600);
/// What goes to the registry at the same time.
const TOLD_AT_ONCE: usize = 32;
const ATTEMPTS_MAX: usize = 100;
const ASK_AGAIN: Duration = Duration::from_millis(50);

struct Machine {
    id: String,
    capacity: u32,
    /// What runs, and what of it has been announced.
    active: u32,
    announced: Option<u32>,
}

struct Gateway {
    registry: ValkeyRegistry,
    placement: Placement,
    hosts: Vec<HostLoad>,
    /// Starts that were not over at the last look: host and count.
    starting: Vec<(usize, OnItsWay)>,
}

impl Machine {
    /// The machine of this number, of one of three sizes.
    fn new(at: usize) -> Machine {
        let capacity = 100 + u32::try_from(at).unwrap() % 3 * 50;
        Machine { id: format!("host-{at:04}"), capacity, active: 0, announced: None }
    }

    fn says(&self) -> Announcement {
        let said = Announced {
            id: self.id.clone(),
            status: "healthy".to_owned(),
            active_agents: self.active,
            max_agents: self.capacity,
            ..Announced::default()
        };
        Announcement { id: said.id.clone(), body: serde_json::to_string(&said).unwrap() }
    }
}

impl Gateway {
    async fn looked(mut self) -> Gateway {
        let live = surely(|| self.registry.live(ANNOUNCED)).await;
        let load = |host: portico::port::registry::Present| {
            let said: Announced = serde_json::from_str(&host.body).unwrap();
            HostLoad {
                id: host.id,
                epoch: said.epoch,
                active: said.active_agents,
                active_max: said.max_agents,
                cpu: None,
                memory: None,
                disk_free_bytes: None,
                draining: false,
                healthy: said.status == "healthy",
                cached: Default::default(),
                reserved: host.reserved,
                age: Duration::ZERO,
            }
        };
        self.hosts = live.into_iter().map(load).collect();
        self
    }

    /// Chooses hosts for as many instances as come at once, and reserves their places. A place that could not be reserved in
    /// time is taken all the same.
    async fn placed(mut self, count: usize) -> (Gateway, Vec<usize>) {
        let mut chosen = Vec::new();
        for _ in 0..count {
            let id = self.placement.choose(&self.hosts, DEPLOYMENT, &[]).unwrap().id.clone();
            let at = self.hosts.binary_search_by(|host| host.id.cmp(&id)).unwrap();
            self.starting.push((at, self.placement.on_its_way(&id)));
            chosen.push(at);
        }
        let (registry, hosts) = (&self.registry, &self.hosts);
        let reserved = stream::iter(chosen.clone()).map(|at| registry.reserve(ANNOUNCED, &hosts[at].id, TTL));
        reserved.buffer_unordered(TOLD_AT_ONCE).for_each(|_| std::future::ready(())).await;
        (self, chosen)
    }

    /// What was starting has started.
    async fn settled(mut self) -> Gateway {
        let started: Vec<usize> = self.starting.drain(..).map(|(at, _)| at).collect();
        let (registry, hosts) = (&self.registry, &self.hosts);
        let released = stream::iter(started).map(|at| surely(move || registry.release(ANNOUNCED, &hosts[at].id)));
        released.buffer_unordered(TOLD_AT_ONCE).for_each(|()| std::future::ready(())).await;
        self
    }
}

/// All of them at the same time, on as many processors as there are.
async fn together<F>(turns: impl Iterator<Item = F>) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let tasks = Tasks::new();
    let turns: Vec<_> = turns.map(|turn| tasks.spawn(turn)).collect();
    join_all(turns).await.into_iter().map(Result::unwrap).collect()
}

/// Asks until there is an answer: on a busy machine one may not come within the bound of a command.
async fn surely<'a, T>(ask: impl Fn() -> Answer<'a, T>) -> T {
    for _ in 0..ATTEMPTS_MAX {
        if let Ok(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    panic!("the registry does not answer");
}

/// Hosts whose number has changed say so.
async fn announce(registry: &ValkeyRegistry, machines: &mut [Machine]) {
    let changed = machines.iter_mut().filter(|machine| machine.announced != Some(machine.active));
    let says: Vec<_> = changed
        .map(|machine| {
            machine.announced = Some(machine.active);
            machine.says()
        })
        .collect();
    let told = stream::iter(&says).map(|says| surely(|| registry.announce(ANNOUNCED, says.clone(), TTL)));
    told.buffer_unordered(TOLD_AT_ONCE).for_each(|()| std::future::ready(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_instances_spread_over_a_thousand_hosts_of_a_real_registry_within_five_percent() {
    let server = Maker::Valkey.start(&["--appendonly", "no"]);
    let registry = valkey::connect(&server).registry();
    let mut machines: Vec<Machine> = (0..HOSTS).map(Machine::new).collect();
    announce(&registry, &mut machines).await;
    let gateway = |_| Gateway {
        registry: valkey::connect(&server).registry(),
        placement: Placement::default(),
        hosts: Vec::new(),
        starting: Vec::new(),
    };
    let mut gateways: Vec<Gateway> = (0..GATEWAYS).map(gateway).collect();

    let running = |machines: &[Machine]| machines.iter().map(|it| it.active).sum::<u32>();
    while running(&machines) < INSTANCES {
        gateways = together(gateways.into_iter().map(Gateway::looked)).await;
        gateways = together(gateways.into_iter().map(Gateway::settled)).await;
        announce(&registry, &mut machines).await;
        let left = usize::try_from(INSTANCES - running(&machines)).unwrap();
        let count = AT_ONCE.min(left.div_ceil(2 * GATEWAYS));
        let placed = together(gateways.into_iter().map(|gateway| gateway.placed(count))).await;
        let (placing, chosen): (Vec<_>, Vec<_>) = placed.into_iter().unzip();
        gateways = placing;
        for at in chosen.concat() {
            machines[at].active += 1;
            assert!(machines[at].active <= machines[at].capacity, "{} is over its cap", machines[at].id);
        }
    }
    gateways = together(gateways.into_iter().map(Gateway::settled)).await;
    announce(&registry, &mut machines).await;

    let ideal = f64::from(running(&machines)) / f64::from(machines.iter().map(|it| it.capacity).sum::<u32>());
    for machine in &machines {
        let share = f64::from(machine.active) / f64::from(machine.capacity);
        assert!((share - ideal).abs() <= SPREAD_MAX * ideal, "{} is {share:.3} full, not {ideal:.3}", machine.id);
    }
    let last = gateways.remove(0).looked().await;
    assert_eq!(last.hosts.iter().map(|host| host.active).sum::<u32>(), running(&machines));
    assert!(last.hosts.iter().all(|host| host.reserved == 0), "every place was given back");
}
