//! Which hosts there are, how loaded they are, and which are to be left alone.
//!
//! A newcomer's usual mistake is to ask a host when an instance is placed. The background asks; a placement
//! costs no request, and a host that does not answer delays nobody. Nor is anything copied for it: whoever places is handed the
//! loads of the last look, in which what happens between two looks is noted in place.
//!
//! *Knows:* hosts by id, their last numbers, their breakers. *Does not know:* instances.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream};
use http::{Method, StatusCode};
use portico_base::{Error, Result, reason, tasks::Tasks};
use portico_port::{
    fleet::{ANNOUNCED, Announced, Asked, HostLoad, failure},
    registry::Registry,
};
use tokio::time::{Instant, sleep};

use super::{Config, address::Address, breaker::Breaker, said::Status, transport::Transport};

/// How often the hosts are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often while one of them is missing or left alone, so that it is used within a second of its return.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How often a host that works is asked how it is; one that does not is asked again at once.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// How long it may take to say so.
const PROBE_WAIT: Duration = Duration::from_secs(1);
/// How long a reservation counts when nobody gives it back: longer than a start may take.
const RESERVED_FOR: Duration = Duration::from_secs(90);
/// Hosts that are asked at the same time.
const PROBES_MAX: usize = 64;
/// How long a listed host that does not answer is known by its id. Longer ago, its instances are unreachable all the same.
const GONE_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// How long a host that is no longer announced is still asked for what runs there, though it is given nothing new: a registry
/// may forget, and a host may be slow to say that it is here.
const UNANNOUNCED_KEPT: Duration = Duration::from_secs(60);

/// How long hosts count as here though they are not announced, once the registry has come back: until they must have said so
/// again.
const FORGIVEN_FOR: Duration = Duration::from_secs(6);

/// The hosts of a fleet.
pub(super) struct Directory {
    listed: Vec<Address>,
    environment: String,
    registry: Arc<dyn Registry>,
    transport: Transport,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    /// What hosts said of themselves, by id.
    loads: Mutex<Arc<[HostLoad]>>,
    /// Whether anybody has looked yet.
    looked: AtomicBool,
    /// Held by whoever looks.
    looking: tokio::sync::Mutex<()>,
    /// How often the registry had come back when it was read last, and when that was first so.
    returned: Mutex<(u64, Option<Instant>)>,
}

/// One host.
pub(super) struct Host {
    pub(super) id: String,
    /// Where it is; nothing when it may not be dialled there.
    pub(super) address: Option<Address>,
    state: Mutex<State>,
}

struct State {
    load: HostLoad,
    /// When it was last here.
    seen_at: Instant,
    /// When it last said something new of itself.
    told_at: Instant,
    /// What its own clock showed when it announced that. Only told apart from others, never measured.
    stamp: Option<i64>,
    /// Whether the registry does not know it any more.
    unannounced: bool,
    probed_at: Option<Instant>,
    breaker: Breaker,
}

impl Directory {
    /// # Errors
    /// When a listed URL may not be dialled.
    pub(super) fn new(config: &Config, registry: Arc<dyn Registry>, transport: Transport) -> Result<Directory> {
        let listed = config.listed.iter().map(|url| {
            let address = Address::parse(url, &config.networks);
            address.ok_or_else(|| Error::invalid("fleet", format!("{url} lies outside of fleet.networks")))
        });
        Ok(Directory {
            listed: listed.collect::<Result<_>>()?,
            environment: config.environment.clone(),
            registry,
            transport,
            hosts: Mutex::default(),
            loads: Mutex::new(Arc::from([])),
            looked: AtomicBool::new(false),
            looking: tokio::sync::Mutex::default(),
            returned: Mutex::default(),
        })
    }

    /// The hosts with their last numbers.
    ///
    /// # Errors
    /// The registry's, when it has never answered.
    pub(super) async fn loads(&self) -> Result<Arc<[HostLoad]>> {
        if !self.looked.load(Ordering::Acquire) {
            let _turn = self.looking.lock().await;
            if !self.looked.load(Ordering::Acquire) {
                self.look().await?;
            }
        }
        Ok(Arc::clone(&self.last_loads()))
    }

    /// The host of this id.
    ///
    /// # Errors
    /// `coordinator_unavailable` when it is not here, or is left alone for now.
    pub(super) async fn host(&self, id: &str) -> Result<Arc<Host>> {
        if let Some(host) = self.known(id) {
            return host.admitting();
        }
        self.loads().await?;
        let host = self.known(id).ok_or_else(|| failure::unavailable(format!("no host is called {id}")))?;
        host.admitting()
    }

    /// Looks again and again, until the house closes or nobody holds the directory any more.
    pub(super) async fn watch(directory: Weak<Directory>, registry: Arc<dyn Registry>, tasks: Tasks) {
        let (mut pause, mut returns) = (Duration::ZERO, 0);
        loop {
            tokio::select! {
                () = tasks.closing() => return,
                () = sleep(pause) => {}
                Ok(count) = registry.returned(returns) => returns = count,
            }
            let Some(directory) = directory.upgrade() else { return };
            let turn = directory.looking.lock().await;
            if let Err(error) = directory.look().await {
                // What was known is used on; its age tells how good it is.
                tracing::warn!(problem = error.report(), "the hosts could not be looked up");
                directory.tell();
            }
            drop(turn);
            pause = if directory.is_whole() { LOOK_EVERY } else { LOOK_AGAIN };
        }
    }

    /// Asks hosts again and again whether they can be reached, as long as [`Directory::watch`] looks. Those that say nothing
    /// keep nobody from looking.
    pub(super) async fn keep_probing(directory: Weak<Directory>, tasks: Tasks) {
        loop {
            let Some(directory) = directory.upgrade() else { return };
            directory.probe().await;
            drop(directory);
            tokio::select! {
                () = tasks.closing() => return,
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Tells other gateways that an instance is on its way to a host. Whether they were told.
    pub(super) async fn reserve(&self, host: &str) -> bool {
        if !self.listed.is_empty() {
            return false;
        }
        let reserved = self.registry.reserve(ANNOUNCED, host, RESERVED_FOR).await;
        if let Err(error) = &reserved {
            // They will see it a little later, by the host's own numbers.
            tracing::debug!(host.id = host, problem = error.report(), "a place could not be reserved");
        }
        reserved.is_ok()
    }

    /// Tells those who were told that it has arrived, or never will.
    pub(super) async fn release(&self, host: &str) {
        if let Err(error) = self.registry.release(ANNOUNCED, host).await {
            tracing::debug!(host.id = host, problem = error.report(), "a reservation will have to be forgotten");
        }
    }

    /// How many hosts are left alone.
    pub(super) fn left_alone(&self) -> u64 {
        self.all().iter().filter(|host| !host.state().breaker.is_closed()).count() as u64
    }

    /// Whether every host that is known is here and answers.
    fn is_whole(&self) -> bool {
        self.hosts().values().all(|host| {
            let state = host.state();
            !state.unannounced && state.breaker.is_closed()
        })
    }

    fn known(&self, id: &str) -> Option<Arc<Host>> {
        self.hosts().get(id).cloned()
    }

    fn all(&self) -> Vec<Arc<Host>> {
        self.hosts().values().cloned().collect()
    }

    fn last_loads(&self) -> MutexGuard<'_, Arc<[HostLoad]>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the loads together anew.
    fn tell(&self) {
        let mut last = self.last_loads();
        let mut loads: Vec<HostLoad> = self.all().iter().filter_map(|host| host.load()).collect();
        loads.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        *last = loads.into();
    }

    /// Puts into the loads what has changed of one host since the last look.
    fn retell(&self, host: &Host) {
        let mut loads = self.last_loads();
        let (active, healthy) = host.now();
        let place = loads.binary_search_by(|load| load.id.as_str().cmp(&host.id));
        // Whoever looks at them right now goes on with a copy of its own.
        if let Ok(place) = place
            && (loads[place].active, loads[place].healthy) != (active, healthy)
            && let Some(load) = Arc::make_mut(&mut *loads).get_mut(place)
        {
            (load.active, load.healthy) = (active, healthy);
        }
    }

    /// Notes how a call went. What a host refuses it has understood.
    pub(super) fn note<T>(&self, host: &Host, result: &Result<T>) {
        let answered = !matches!(
            result.as_ref().err().map(Error::reason),
            Some(reason::COORDINATOR_UNAVAILABLE | reason::COORDINATOR_TIMEOUT | reason::COORDINATOR_ERROR)
        );
        if host.state().breaker.heard(answered, Instant::now()) {
            self.retell(host);
        }
    }

    /// When the host's numbers are from.
    pub(super) fn told_at(&self, host: &Host) -> Instant {
        host.state().told_at
    }

    /// Counts an instance that was started there, until the host's own numbers show it. Newer ones than those before the
    /// start may show it already: counting it twice would make a host look full that has room, while one that is full says
    /// so itself.
    pub(super) fn took_one(&self, host: &Host, told_before: Instant) {
        let mut state = host.state();
        if state.told_at != told_before {
            return;
        }
        state.load.active = state.load.active.saturating_add(1);
        drop(state);
        self.retell(host);
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, Arc<Host>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(&self) -> Result<()> {
        if self.listed.is_empty() {
            self.read_registry().await?;
        } else {
            self.ask_listed().await;
        }
        self.tell();
        self.looked.store(true, Ordering::Release);
        Ok(())
    }

    /// What is announced is here, and what is not is going.
    async fn read_registry(&self) -> Result<()> {
        let live = self.registry.live(ANNOUNCED).await?;
        let mut hosts = self.hosts();
        let mut here = HashMap::with_capacity(live.len());
        for announcement in live {
            let Ok(said) = serde_json::from_str::<Announced>(&announcement.body) else {
                tracing::debug!(host.id = announcement.id, "announces itself in words that are not understood");
                continue;
            };
            if said.environment != self.environment {
                continue;
            }
            let address = Address::parse(&said.url, &self.transport.networks);
            if address.is_none() {
                tracing::warn!(host.id = announcement.id, host.url = said.url, "may not be dialled");
            }
            let stamp = Some(said.heartbeat_at);
            let load = announced(announcement.id, said, announcement.reserved);
            let host = seen(hosts.remove(&load.id), load, stamp, address);
            here.insert(host.id.clone(), host);
        }
        let is_forgetful = self.may_have_forgotten();
        let going = hosts.drain().filter(|(_, host)| {
            let mut state = host.state();
            state.unannounced |= !is_forgetful;
            is_forgetful || state.seen_at.elapsed() < UNANNOUNCED_KEPT
        });
        here.extend(going);
        *hosts = here;
        Ok(())
    }

    /// Whether the registry came back so recently that hosts may be here which it does not name.
    fn may_have_forgotten(&self) -> bool {
        let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok(count)) = self.registry.returned(returned.0).now_or_never() {
            *returned = (count, Some(Instant::now()));
        }
        returned.1.is_some_and(|at| at.elapsed() < FORGIVEN_FOR)
    }

    /// Listed hosts say themselves who they are.
    async fn ask_listed(&self) {
        let asked: Vec<_> = self.listed.iter().map(|address| self.status(address)).collect();
        let told: Vec<_> = stream::iter(asked).buffered(PROBES_MAX).collect().await;
        let mut hosts = self.hosts();
        for (address, status) in self.listed.iter().zip(told) {
            match status {
                Ok(status) if status.environment.as_ref().is_some_and(|it| *it != self.environment) => {}
                Ok(status) => {
                    let load = loaded(status);
                    let host = seen(hosts.remove(&load.id), load, None, Some(address.clone()));
                    host.note_probe(true);
                    hosts.insert(host.id.clone(), host);
                }
                Err(error) => {
                    tracing::debug!(host.url = ?address.at("/"), problem = error.report(), "does not say how it is");
                    for host in hosts.values().filter(|host| host.address.as_ref() == Some(address)) {
                        host.note_probe(false);
                    }
                }
            }
        }
        hosts.retain(|_, host| host.state().seen_at.elapsed() < GONE_KEPT);
    }

    async fn status(&self, address: &Address) -> Result<Status> {
        let asked = Asked::default();
        let answer = self.transport.ask(address, Method::GET, "/admin/status", &asked, None, PROBE_WAIT).await?;
        if answer.status() != StatusCode::OK {
            return Err(failure::broken(format!("status {}", answer.status().as_u16())));
        }
        serde_json::from_slice(answer.body()).map_err(failure::broken)
    }

    /// Asks announced hosts whether they can be reached from here: what they say of themselves does not tell.
    async fn probe(&self) {
        if !self.listed.is_empty() {
            return;
        }
        let due = self.all().into_iter().filter(|host| host.is_due());
        let probes: Vec<_> = due.map(|host| self.probe_one(host)).collect();
        stream::iter(probes).buffer_unordered(PROBES_MAX).for_each(|()| std::future::ready(())).await;
    }

    async fn probe_one(&self, host: Arc<Host>) {
        let Some(address) = &host.address else { return };
        let asked = Asked::default();
        let answer = self.transport.ask(address, Method::GET, "/health", &asked, None, PROBE_WAIT).await;
        if host.note_probe(answer.is_ok_and(|answer| answer.status() == StatusCode::OK)) {
            self.retell(&host);
        }
    }
}

impl Host {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it said of itself, if it is here.
    fn load(&self) -> Option<HostLoad> {
        let (_, healthy) = self.now();
        let state = self.state();
        let load = || HostLoad { healthy, age: state.seen_at.elapsed(), ..state.load.clone() };
        (!state.unannounced).then(load)
    }

    /// How many instances it runs, and whether it answers.
    fn now(&self) -> (u32, bool) {
        let state = self.state();
        (state.load.active, state.load.healthy && self.address.is_some() && state.breaker.is_closed())
    }

    /// Whether it may be asked now.
    fn admitting(self: Arc<Host>) -> Result<Arc<Host>> {
        if self.state().breaker.admits(Instant::now()) {
            Ok(self)
        } else {
            Err(failure::unavailable("the host failed again and again and is left alone for a while"))
        }
    }

    fn is_due(&self) -> bool {
        let state = self.state();
        let patience = if state.breaker.is_closed() { PROBE_EVERY } else { Duration::ZERO };
        state.probed_at.is_none_or(|at| at.elapsed() >= patience)
    }

    /// Notes whether it answered. Answers whether that changes whether it is asked.
    fn note_probe(&self, answered: bool) -> bool {
        let (mut state, now) = (self.state(), Instant::now());
        state.probed_at = Some(now);
        state.breaker.heard(answered, now)
    }
}

/// The same host with its numbers of this stamp; another one when it has moved or started again. An announcement that was
/// read before does not know what was started there since then, which [`Directory::took_one`] counted.
fn seen(known: Option<Arc<Host>>, load: HostLoad, stamp: Option<i64>, address: Option<Address>) -> Arc<Host> {
    match known {
        Some(host) if host.address == address && host.state().load.epoch == load.epoch => {
            let (mut state, now) = (host.state(), Instant::now());
            let is_news = stamp.is_none() || state.stamp != stamp;
            let active = if is_news { load.active } else { state.load.active };
            state.load = HostLoad { active, ..load };
            state.told_at = if is_news { now } else { state.told_at };
            (state.stamp, state.seen_at, state.unannounced) = (stamp, now, false);
            drop(state);
            host
        }
        _ => Arc::new(Host {
            id: load.id.clone(),
            address,
            state: Mutex::new(State {
                load,
                seen_at: Instant::now(),
                told_at: Instant::now(),
                stamp,
                unannounced: false,
                probed_at: None,
                breaker: Breaker::default(),
            }),
        }),
    }
}

fn announced(id: String, said: Announced, reserved: u32) -> HostLoad {
    HostLoad {
        id,
        epoch: said.epoch,
        active: said.active_agents,
        active_max: said.max_agents,
        cpu: said.cpu,
        memory: said.mem,
        disk_free_bytes: said.disk_free_bytes,
        draining: said.status == "draining",
        healthy: said.status == "healthy",
        cached: said.deployments.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect(),
        reserved,
        age: Duration::ZERO,
    }
}

/// A host that does not say how many it may run is taken to have room.
fn loaded(status: Status) -> HostLoad {
    let word = status.status.as_deref().unwrap_or("healthy");
    HostLoad {
        id: status.coordinator_id,
        epoch: status.epoch,
        active: status.active_agents,
        active_max: status.max_agents.unwrap_or(u32::MAX),
        cpu: status.cpu_percent.map(|percent| percent / 100.0),
        memory: status.memory_percent.map(|percent| percent / 100.0),
        disk_free_bytes: status.disk_free_bytes,
        draining: word == "draining",
        healthy: word == "healthy",
        cached: status.deployments.into_iter().collect(),
        reserved: 0,
        age: Duration::ZERO,
    }
}
