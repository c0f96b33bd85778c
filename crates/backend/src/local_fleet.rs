//! The embedded fleet: one host, named `local`, that runs instances as child processes on this machine.
//!
//! What isolates agents from each other and from the gateway: a process group, limits, a clean environment, a folder and
//! a socket each. They run as the gateway's user, so this host is for agents that may be trusted with that; others belong
//! on hosts of their own. A newcomer's usual mistake is to expect instances to survive the gateway: they end with it, and
//! what they left is swept up at the next start.
//!
//! ```text
//! {root}/deployments/{type}/{version}-{hash8}/   code, unpacked once
//! {root}/instances/{id}/                         workspace, tmp, logs/agent.log; what cannot be removed becomes .left-…
//! {root}/s/                                      sockets, or in a folder of /tmp where this path is too long
//! ```
//!
//! *Knows:* folders, instances, this machine's load. *Does not know:* tenants, records, placement.

mod clients;
mod deployments;
mod files;
mod folders;
mod history;
mod instance;
mod ipc;
mod log_book;
mod manifest;
mod native;
mod process;
mod sockets;
mod strays;
mod supervise;

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use portico_base::{Clock, Code, Error, Incoming, Outgoing, Result, Retry, health::Health, id, reason, tasks::Tasks};
use portico_port::{
    Answer,
    blobs::Blobs,
    fleet::{
        At, Bundle, FileContent, FileList, Fleet, Frame, HostLoad, Info, LogEntry, LogLevel, LogQuery, Message,
        NewMessage, Running, Start, State, Stop, Window, WorkspacePath, failure,
    },
};
pub use process::Limits;
use serde_json::{Map, Value};
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
};

use self::{
    deployments::Deployments,
    instance::{Handed, Instance},
    sockets::SocketFolder,
    strays::Strays,
    supervise::{Supervisor, next_order},
};
use super::ownership;

/// By id.
type Instances = Arc<Mutex<HashMap<String, Arc<Instance>>>>;

/// The host's id.
pub const HOST: &str = "local";
/// Instances that have ended and are kept to be looked at.
const ENDED_MAX: usize = 256;
/// How much longer than its grace a stop may take: to drain pipes and be noticed.
const STOP_SLACK: Duration = Duration::from_secs(15);

/// How the embedded fleet runs agents.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its folder.
    pub root: PathBuf,
    /// Where agents' programs are looked for.
    pub path: String,
    /// How many instances may run.
    pub instances_max: u32,
    /// What each may use.
    pub limits: Limits,
}

/// The embedded fleet.
pub struct LocalFleet {
    config: Config,
    epoch: String,
    sockets: Arc<SocketFolder>,
    deployments: Deployments,
    instances: Instances,
    strays: Arc<Strays>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    /// Held as long as the fleet lives, so that two gateways never share a folder.
    _lock: File,
}

impl LocalFleet {
    /// Opens the fleet in its folder and sweeps up what an earlier one left.
    ///
    /// # Errors
    /// When the folder cannot be used, or another gateway uses it.
    pub fn open(config: Config, blobs: Arc<dyn Blobs>, clock: Arc<dyn Clock>, tasks: Tasks) -> Result<LocalFleet> {
        let unusable = |error: io::Error| failure::unavailable(error);
        std::fs::create_dir_all(&config.root).map_err(unusable)?;
        // Agents run in other folders and are given absolute paths.
        let config = Config { root: config.root.canonicalize().map_err(unusable)?, ..config };
        let lock = ownership::take(&config.root.join("lock")).map_err(unusable)?;
        let lock = lock.ok_or_else(|| failure::unavailable("another process uses the folder"))?;
        process::inherit_nothing();
        strays::sweep(&config.root.join("instances"));
        folders::sweep(&config.root.join("instances")).map_err(unusable)?;
        let deployments = config.root.join("deployments");
        std::fs::create_dir_all(&deployments).map_err(unusable)?;
        deployments::sweep(&deployments).map_err(unusable)?;
        Ok(LocalFleet {
            epoch: id::random("epoch_", 16),
            sockets: Arc::new(SocketFolder::open(&config.root).map_err(unusable)?),
            deployments: Deployments::new(deployments, blobs, tasks.clone()),
            instances: Instances::default(),
            strays: Arc::default(),
            config,
            clock,
            tasks,
            _lock: lock,
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<String, Arc<Instance>>) -> T) -> T {
        change(&mut self.instances.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn instance(&self, at: &At) -> Result<Arc<Instance>> {
        known(&at.host)?;
        self.with(|instances| instances.get(&at.instance).cloned()).ok_or_else(|| failure::lost(&at.instance))
    }

    /// The instance, if it is the one that is meant.
    fn meant(&self, at: &At) -> Result<Arc<Instance>> {
        let instance = self.instance(at)?;
        at.means(&instance.incarnation)?;
        Ok(instance)
    }

    fn active(&self) -> u32 {
        self.with(|all| active(all))
    }

    async fn start(&self, start: Start) -> Result<Info> {
        if self.tasks.is_closing() {
            return Err(failure::draining());
        }
        self.forget_oldest_ended().await;
        self.forget_ended(&start.instance).await;
        let bundle = start.bundle.clone();
        let folder = self.config.root.join("instances").join(folder_name(&start.instance)?);
        let (instance, outbox) = Instance::new(start, folder, Arc::clone(&self.clock));
        let claim = Claim::new(self, &instance)?;
        let started = self.run(&bundle, &instance, outbox).await;
        claim.settle(started.is_ok()).await;
        started.map(|()| instance.info())
    }

    async fn run(&self, bundle: &Bundle, instance: &Arc<Instance>, outbox: mpsc::Receiver<Handed>) -> Result<()> {
        let mut orders = instance.orders();
        let deployed = tokio::select! {
            deployed = self.deployments.ensure(bundle) => deployed?,
            _ = next_order(&mut orders, &self.tasks, false) => return Err(failure::terminated()),
        };
        let folder = instance.folder.clone();
        let made = spawn_blocking(move || {
            folders::make(&folder)?;
            ["workspace", "tmp", "logs"].iter().try_for_each(|part| std::fs::create_dir(folder.join(part)))
        });
        made.await.map_err(failure::broken)?.map_err(unhoused)?;
        let (started, starting) = oneshot::channel();
        let supervisor = Supervisor {
            instance: Arc::clone(instance),
            deployed,
            outbox,
            sockets: Arc::clone(&self.sockets),
            path: self.config.path.clone(),
            limits: self.config.limits,
            strays: Arc::clone(&self.strays),
            tasks: self.tasks.clone(),
            started: Some(started),
        };
        // From here on it is the supervisor that ends it.
        instance.becomes(State::Initializing, None);
        self.tasks.spawn(instance.logs.clone().keep_in(instance.folder.join("logs/agent.log")));
        self.tasks.spawn(supervisor.supervise());
        // Dropped without a word when it was stopped before it connected.
        starting.await.unwrap_or_else(|_| Err(failure::terminated()))
    }

    /// Makes room for a new instance when the one that had its id has ended by itself: who gives out ids has given it anew, and
    /// may have forgotten the old one.
    async fn forget_ended(&self, id: &str) {
        let ended = self.with(|all| all.get(id).filter(|instance| instance.state().is_over()).cloned());
        if let Some(ended) = ended {
            forget(&self.instances, &ended).await;
        }
    }

    /// Keeps the number of ended instances within bounds.
    async fn forget_oldest_ended(&self) {
        let mut ended: Vec<_> =
            self.with(|all| all.values().filter(|instance| instance.state().is_over()).cloned().collect());
        ended.sort_by_key(|instance| instance.info().last_activity_at);
        let too_many = ended.len().saturating_sub(ENDED_MAX);
        for instance in ended.iter().take(too_many) {
            forget(&self.instances, instance).await;
        }
    }

    async fn end(&self, at: &At, stop: Stop) -> Result<()> {
        let instance = self.meant(at)?;
        instance.order(stop);
        let grace = match stop {
            Stop::Within(grace) => grace,
            Stop::Now => Duration::ZERO,
        };
        if !instance.over(grace + STOP_SLACK).await {
            return Err(failure::timeout());
        }
        forget(&self.instances, &instance).await;
        Ok(())
    }
}

/// Removes an instance that is over: its folder first, so that a new one of the same id never meets it.
async fn forget(instances: &Instances, instance: &Arc<Instance>) {
    let mut removed = instance.removed.lock().await;
    if *removed {
        return;
    }
    let folder = instance.folder.clone();
    let vacated = spawn_blocking(move || folders::vacate(&folder)).await.map_err(io::Error::other).flatten();
    if let Err(error) = vacated {
        // It is met again by the next instance of this id, which is refused then, or at the next start.
        tracing::warn!(instance.id = instance.id, problem = %error, "the workspace of an instance stays where it is");
    }
    instances.lock().unwrap_or_else(PoisonError::into_inner).remove(&instance.id);
    *removed = true;
}

impl Fleet for LocalFleet {
    fn hosts(&self) -> Answer<'_, Arc<[HostLoad]>> {
        Box::pin(async {
            Ok(Arc::from([HostLoad {
                id: HOST.to_owned(),
                epoch: self.epoch.clone(),
                active: self.active(),
                active_max: self.config.instances_max,
                cpu: machine_cpu(),
                memory: machine_memory(),
                disk_free_bytes: disk_free(&self.config.root),
                draining: self.tasks.is_closing(),
                healthy: true,
                cached: self.deployments.cached(),
                reserved: 0,
                age: Duration::ZERO,
            }]))
        })
    }

    fn running<'a>(&'a self, host: &'a str) -> Answer<'a, Vec<Running>> {
        Box::pin(async move {
            known(host)?;
            let running = |instance: &Arc<Instance>| Running {
                instance: instance.id.clone(),
                state: instance.state(),
                deployment_id: instance.deployment_id.clone(),
                installation: instance.installation.clone(),
                incarnation: instance.incarnation.clone(),
            };
            Ok(self.with(|all| all.values().map(running).collect()))
        })
    }

    fn deploy<'a>(&'a self, host: &'a str, bundle: &'a Bundle) -> Answer<'a, ()> {
        Box::pin(async move {
            known(host)?;
            self.deployments.ensure(bundle).await.map(|_| ())
        })
    }

    fn create<'a>(&'a self, host: &'a str, start: Start) -> Answer<'a, Info> {
        Box::pin(async move {
            known(host)?;
            self.start(start).await
        })
    }

    fn info<'a>(&'a self, at: &'a At) -> Answer<'a, Info> {
        Box::pin(async move { Ok(self.meant(at)?.info()) })
    }

    fn settled<'a>(&'a self, at: &'a At, patience: Duration) -> Answer<'a, State> {
        Box::pin(async move {
            let instance = self.instance(at)?;
            let mut status = instance.watch();
            let settled = status.wait_for(|status| !status.state.is_starting());
            // Running out of patience is an answer too: the state says so.
            let _settled = tokio::time::timeout(patience, settled).await.is_ok();
            Ok(instance.state())
        })
    }

    fn stop<'a>(&'a self, at: &'a At, stop: Stop) -> Answer<'a, ()> {
        Box::pin(self.end(at, stop))
    }

    fn send<'a>(&'a self, at: &'a At, message: NewMessage) -> Answer<'a, String> {
        Box::pin(async move {
            let instance = self.instance(at)?;
            instance.talking()?;
            instance.send(message).await
        })
    }

    fn messages<'a>(&'a self, at: &'a At, window: Window) -> Answer<'a, Vec<Message>> {
        Box::pin(async move { Ok(self.instance(at)?.history.list(window)) })
    }

    fn logs<'a>(&'a self, at: &'a At, query: LogQuery) -> Answer<'a, Vec<LogEntry>> {
        Box::pin(async move { Ok(self.instance(at)?.logs.list(query)) })
    }

    fn follow_logs<'a>(&'a self, at: &'a At, level: LogLevel, after: u64) -> Answer<'a, Outgoing<LogEntry>> {
        Box::pin(async move { Ok(self.instance(at)?.logs.follow(level, after)) })
    }

    fn files<'a>(&'a self, at: &'a At, folder: &'a WorkspacePath, depth: u32) -> Answer<'a, FileList> {
        Box::pin(async move { files::list(&self.instance(at)?.workspace(), folder, depth).await })
    }

    fn read_file<'a>(&'a self, at: &'a At, path: &'a WorkspacePath) -> Answer<'a, FileContent> {
        Box::pin(async move { files::read(&self.instance(at)?.workspace(), path).await })
    }

    fn write_file<'a>(&'a self, at: &'a At, path: &'a WorkspacePath, content: Incoming<Bytes>) -> Answer<'a, u64> {
        Box::pin(async move { files::write(&self.instance(at)?.workspace(), path, content).await })
    }

    fn attach<'a>(&'a self, at: &'a At, since: Option<u64>, incoming: Incoming<Frame>) -> Answer<'a, Outgoing<Frame>> {
        Box::pin(async move {
            let instance = self.instance(at)?;
            instance.talking()?;
            let (outgoing, carrying) = instance.attach(since, incoming)?;
            self.tasks.spawn(carrying);
            Ok(outgoing)
        })
    }

    fn configure<'a>(&'a self, at: &'a At, changes: Map<String, Value>) -> Answer<'a, ()> {
        Box::pin(async move {
            let instance = self.instance(at)?;
            instance.talking()?;
            instance.tell(ipc::packet("config_update", &changes)).await
        })
    }

    fn health(&self) -> Answer<'_, Health> {
        Box::pin(async {
            let shell = Path::new("/bin/sh").exists();
            Ok(if shell {
                Health::OK.of_members(1, 1)
            } else {
                Health::down("there is no /bin/sh to start agents with").of_members(0, 1)
            })
        })
    }
}

/// An instance's place in the map, given up when its start fails or is abandoned.
struct Claim {
    instances: Instances,
    tasks: Tasks,
    instance: Option<Arc<Instance>>,
}

impl Claim {
    fn new(fleet: &LocalFleet, instance: &Arc<Instance>) -> Result<Claim> {
        // Counted where it is added, so that of many at once no more get in than there is room for.
        fleet.with(|all| {
            if all.contains_key(&instance.id) {
                return Err(failure::taken(&instance.id));
            }
            if active(all) >= fleet.config.instances_max {
                return Err(failure::full());
            }
            all.insert(instance.id.clone(), Arc::clone(instance));
            Ok(())
        })?;
        let (instances, tasks) = (Arc::clone(&fleet.instances), fleet.tasks.clone());
        Ok(Claim { instances, tasks, instance: Some(Arc::clone(instance)) })
    }

    async fn settle(mut self, keep: bool) {
        if let (Some(instance), false) = (self.instance.take(), keep) {
            abandon(self.instances.clone(), instance).await;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            self.tasks.spawn(abandon(Arc::clone(&self.instances), instance));
        }
    }
}

async fn abandon(instances: Instances, instance: Arc<Instance>) {
    instance.order(Stop::Now);
    if instance.state() == State::Deploying {
        // It never had a supervisor, so no process of it can be there. Whoever waits for its end hears it from here.
        instance.becomes(State::Terminated, None);
        instance.logs.end();
    }
    let _over = instance.over(STOP_SLACK).await;
    forget(&instances, &instance).await;
}

/// How many have not ended.
fn active(instances: &HashMap<String, Arc<Instance>>) -> u32 {
    let active = instances.values().filter(|instance| !instance.state().is_over()).count();
    u32::try_from(active).unwrap_or(u32::MAX)
}

fn known(host: &str) -> Result<()> {
    if host == HOST { Ok(()) } else { Err(failure::unavailable(format!("no host is called {host}"))) }
}

/// An id becomes a folder's name, so it is checked once more where that happens.
fn folder_name(id: &str) -> Result<&str> {
    let plain = (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if plain { Ok(id) } else { Err(Error::invalid("agent_id", "must be 1 to 64 letters, digits, `_` or `-`")) }
}

/// An instance never begins with what another one left. Another host may do better.
fn unhoused(error: io::Error) -> Error {
    if is_full(&error) {
        return failure::disk_full(error);
    }
    Error::new(Code::Internal, reason::COORDINATOR_ERROR, "the host cannot make an empty workspace for this id")
        .retry(Retry::Safe)
        .caused_by(error)
}

/// What a failure of the disk means.
fn disk(error: io::Error) -> Error {
    if is_full(&error) { failure::disk_full(error) } else { failure::broken(error) }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What is free on the disk of a folder for whoever is not root, where the system tells.
fn disk_free(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// How busy the processors are, 0 to 1, where the system tells.
fn machine_cpu() -> Option<f64> {
    let load: f64 = std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()?;
    let processors = std::thread::available_parallelism().ok()?.get();
    Some((load / processors as f64).clamp(0.0, 1.0))
}

/// How much of the memory is in use, 0 to 1, where the system tells.
fn machine_memory() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |name: &str| -> Option<f64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some((1.0 - kib("MemAvailable:")? / kib("MemTotal:")?.max(1.0)).clamp(0.0, 1.0))
}
