//! Which backend answers which port.
//!
//! Adding a backend is one arm here, one file in `backend/`, one scheme in the config.

use std::sync::Arc;

use crate::{
    backend::{
        disk::Disk,
        ensemble::Ensemble,
        local::{bus::LocalBus, registry::LocalRegistry},
        local_fleet::{self, LocalFleet},
        otlp::Otlp,
        sealer::Keyring,
        sqlite::Sqlite,
        valkey::Valkey,
    },
    base::{Clock, Result, Secret, health::Health, tasks::Tasks},
    config::{self, Config},
    domain::health::Part,
    port::{
        Answer,
        blobs::Blobs,
        bus::Bus,
        catalog::Catalog,
        fleet::Fleet,
        records::Records,
        registry::Registry,
        sealer::Sealer,
        spans::{NoSpans, Spans},
    },
};

/// The ports, answered.
pub(super) struct Backends {
    pub(super) records: Arc<dyn Records>,
    pub(super) blobs: Arc<dyn Blobs>,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) registry: Arc<dyn Registry>,
    pub(super) fleet: Arc<dyn Fleet>,
    pub(super) sealer: Arc<dyn Sealer>,
    pub(super) catalog: Option<Arc<dyn Catalog>>,
    pub(super) spans: Arc<dyn Spans>,
}

impl Backends {
    pub(super) fn open(config: &Config, clock: &Arc<dyn Clock>, tasks: &Tasks) -> Result<Backends> {
        let blobs = blobs(config)?;
        let (registry, bus) = registry_and_bus(config, tasks)?;
        Ok(Backends {
            records: records(config, clock)?,
            fleet: fleet(config, &blobs, clock, tasks)?,
            blobs,
            bus,
            registry,
            sealer: Arc::new(keyring(config)?),
            catalog: catalog(config)?,
            spans: match &config.otlp.endpoint {
                Some(endpoint) => Arc::new(Otlp::start(endpoint, config.environment.as_str(), tasks)?),
                None => Arc::new(NoSpans),
            },
        })
    }

    /// What health is asked of.
    pub(super) fn parts(&self) -> Vec<Part> {
        let (records, blobs) = (Arc::clone(&self.records), Arc::clone(&self.blobs));
        let fleet = Arc::clone(&self.fleet);
        let (bus, registry) = (Arc::clone(&self.bus), Arc::clone(&self.registry));
        let mut parts = vec![
            part("records", true, move || owned(&records, |it| it.health())),
            part("blobs", false, move || owned(&blobs, |it| it.health())),
            part("bus", false, move || owned(&bus, |it| it.health())),
            part("registry", true, move || owned(&registry, |it| it.health())),
            part("coordinators", false, move || owned(&fleet, |it| it.health())),
        ];
        if let Some(catalog) = self.catalog.clone() {
            parts.push(part("ensemble", false, move || owned(&catalog, |it| it.health())));
        }
        parts
    }
}

fn part(
    name: &'static str,
    required: bool,
    probe: impl Fn() -> Answer<'static, Health> + Send + Sync + 'static,
) -> Part {
    Part { name, required, probe: Box::new(probe) }
}

/// The answer of a port that outlives the borrow it was asked through.
fn owned<P: ?Sized + Send + Sync + 'static>(
    port: &Arc<P>,
    ask: impl for<'a> Fn(&'a P) -> Answer<'a, Health> + Send + 'static,
) -> Answer<'static, Health> {
    let port = Arc::clone(port);
    Box::pin(async move { ask(&port).await })
}

fn records(config: &Config, clock: &Arc<dyn Clock>) -> Result<Arc<dyn Records>> {
    match &config.records {
        config::Records::Sqlite(folder) => Ok(Arc::new(Sqlite::open(folder, Arc::clone(clock))?)),
    }
}

fn blobs(config: &Config) -> Result<Arc<dyn Blobs>> {
    match &config.blobs {
        config::Blobs::File(folder) => Ok(Arc::new(Disk::open(folder)?)),
    }
}

/// Registry and bus at the same URL share one connection for commands.
fn registry_and_bus(config: &Config, tasks: &Tasks) -> Result<(Arc<dyn Registry>, Arc<dyn Bus>)> {
    let open = |url| Valkey::open(url, tasks);
    let shared = match &config.registry {
        config::Registry::Local => None,
        config::Registry::Valkey(url) => Some((url, open(url)?)),
    };
    let bus: Arc<dyn Bus> = match (&config.bus, &shared) {
        (config::Bus::Local, _) => Arc::new(LocalBus::new()),
        (config::Bus::Valkey(url), Some((same, valkey))) if url == *same => Arc::new(valkey.bus()),
        (config::Bus::Valkey(url), _) => Arc::new(open(url)?.bus()),
    };
    Ok(match shared {
        None => (Arc::new(LocalRegistry::new()), bus),
        Some((_, valkey)) => (Arc::new(valkey.registry()), bus),
    })
}

/// Agents run here as child processes, found on the search path that the gateway itself was started with.
fn fleet(config: &Config, blobs: &Arc<dyn Blobs>, clock: &Arc<dyn Clock>, tasks: &Tasks) -> Result<Arc<dyn Fleet>> {
    match config.fleet.host {
        config::Host::Local => {
            let limits = local_fleet::Limits::default();
            let settings = local_fleet::Config {
                root: config.data.join("fleet"),
                path: config.fleet.path.clone(),
                instances_max: config.fleet.instances_max.get(),
                limits: local_fleet::Limits {
                    memory_bytes: config.fleet.memory_bytes_max.0,
                    cpu_seconds: config.fleet.cpu_max.map_or(0, |cpu| cpu.as_secs()),
                    open_files: config.fleet.open_files_max.get().into(),
                    ..limits
                },
            };
            Ok(Arc::new(LocalFleet::open(settings, Arc::clone(blobs), Arc::clone(clock), tasks.clone())?))
        }
    }
}

/// The operator's keys, or the one that the first start makes.
fn keyring(config: &Config) -> Result<Keyring> {
    let text = |key: &config::SealingKey| {
        Secret::new(key.reveal().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    match &config.secrets_key {
        Some(key) => Keyring::parse(&text(key), &config.secrets_key_previous.iter().map(text).collect::<Vec<_>>()),
        None => Keyring::load_or_create(&config.data.join("secrets.key")),
    }
}

fn catalog(config: &Config) -> Result<Option<Arc<dyn Catalog>>> {
    let Some(url) = &config.ensemble_url else { return Ok(None) };
    Ok(Some(Arc::new(Ensemble::new(&url.to_string(), config.ensemble_key.as_ref())?)))
}
