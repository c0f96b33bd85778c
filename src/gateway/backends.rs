//! Which backend answers which port.
//!
//! Adding a backend is one arm here, one file in `crates/backend/src/`, one scheme in `crates/config`.

use std::{path::Path, sync::Arc};

use super::{
    measured::Measured,
    reload::{Certified, Watched},
};
use crate::{
    backend::{
        coordinator::{self, Coordinators, Trust},
        disk::Disk,
        ensemble::Ensemble,
        local::{bus::LocalBus, registry::LocalRegistry},
        local_fleet::{self, LocalFleet},
        otlp::{Otlp, Sender},
        postgres::Postgres,
        s3::{self, S3},
        sealer::Keyring,
        sqlite::Sqlite,
        valkey::Valkey,
    },
    base::{Clock, Code, Error, Result, Secret, health::Health, reason, tasks::Tasks},
    config::{self, Config},
    domain::{deployments, health::Part},
    gate::{Metrics, metrics::Told},
    port::{
        Answer,
        blobs::Blobs,
        bus::Bus,
        catalog::Catalog,
        fleet::Fleet,
        records::{Archive, Records},
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
    /// What hosts on other machines are shown, if there are any.
    pub(super) hosts: Option<Watched<Trust>>,
    pub(super) sealer: Arc<dyn Sealer>,
    pub(super) catalog: Option<Arc<dyn Catalog>>,
    pub(super) spans: Arc<dyn Spans>,
}

/// A fleet, and what its hosts are shown if they are on other machines.
type Hosted = (Arc<dyn Fleet>, Option<Watched<Trust>>);

/// Says what works for one gateway and surprises whoever starts a second one.
fn warn_of_halves(config: &Config) {
    if let (config::Registry::Valkey(_), config::Records::Sqlite(_)) = (&config.registry, &config.records) {
        tracing::warn!(
            "the registry may be shared, but records are this gateway's alone: another one has other keys, deployments and \
             instances; set PORTICO_RECORDS to a PostgreSQL database to share them"
        );
    }
}

impl Backends {
    /// Opens them. What is asked over a network is timed, and so is every blob store; what is embedded answers in
    /// microseconds, in the middle of every call.
    pub(super) async fn open(
        config: &Config,
        clock: &Arc<dyn Clock>,
        tasks: &Tasks,
        metrics: &Arc<Metrics>,
    ) -> Result<Backends> {
        warn_of_halves(config);
        let blobs: Arc<dyn Blobs> = Measured::new(blobs(config, clock, tasks).await?, metrics);
        let (registry, bus) = registry_and_bus(config, tasks, metrics).await?;
        let records = records(config, clock, tasks, metrics).await?;
        let (fleet, hosts) = fleet(config, &blobs, &registry, clock, tasks, metrics)?;
        Ok(Backends {
            records,
            fleet,
            hosts,
            blobs,
            bus,
            registry,
            sealer: Arc::new(keyring(config)?),
            catalog: catalog(config, metrics)?,
            spans: spans(config, tasks, metrics)?,
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

async fn records(
    config: &Config,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
    metrics: &Arc<Metrics>,
) -> Result<Arc<dyn Records>> {
    let records: Arc<dyn Records> = archive(config, clock, tasks).await?;
    Ok(match &config.records {
        config::Records::Sqlite(_) => records,
        config::Records::Postgres(_) => Measured::new(records, metrics),
    })
}

pub(super) async fn blobs(config: &Config, clock: &Arc<dyn Clock>, tasks: &Tasks) -> Result<Arc<dyn Blobs>> {
    match &config.blobs {
        config::Blobs::File(folder) => {
            Ok(Arc::new(Disk::open(folder).map_err(|error| unusable(&error, folder, "blobs (PORTICO_BLOBS)"))?))
        }
        config::Blobs::S3(bucket) => Ok(Arc::new(S3::open(reached(config, bucket), Arc::clone(clock), tasks).await)),
    }
}

/// The records as a whole, for moving them.
pub(super) async fn archive(config: &Config, clock: &Arc<dyn Clock>, tasks: &Tasks) -> Result<Arc<dyn Archive>> {
    match &config.records {
        config::Records::Sqlite(folder) => {
            let opened = Sqlite::open(folder, Arc::clone(clock));
            Ok(Arc::new(opened.map_err(|error| unusable(&error, folder, "records (PORTICO_RECORDS)"))?))
        }
        config::Records::Postgres(url) => {
            Ok(Arc::new(Postgres::connect(&Secret::new(url.reveal()), Arc::clone(clock), tasks).await?))
        }
    }
}

/// Registry and bus at the same URL share one connection for commands.
async fn registry_and_bus(
    config: &Config,
    tasks: &Tasks,
    metrics: &Arc<Metrics>,
) -> Result<(Arc<dyn Registry>, Arc<dyn Bus>)> {
    let timed = |bus: Arc<dyn Bus>| -> Arc<dyn Bus> { Measured::new(bus, metrics) };
    let shared = match &config.registry {
        config::Registry::Local => None,
        config::Registry::Valkey(url) => Some((url, valkey(config, url, tasks).await?)),
    };
    let bus: Arc<dyn Bus> = match (&config.bus, &shared) {
        (config::Bus::Local, _) => Arc::new(LocalBus::new()),
        (config::Bus::Valkey(url), Some((same, valkey))) if url == *same => timed(Arc::new(valkey.bus())),
        (config::Bus::Valkey(url), _) => timed(Arc::new(valkey(config, url, tasks).await?.bus())),
    };
    Ok(match shared {
        None => (Arc::new(LocalRegistry::new()), bus),
        Some((_, valkey)) => {
            let registry: Arc<dyn Registry> = Arc::new(valkey.registry());
            (Measured::new(registry, metrics), bus)
        }
    })
}

async fn valkey(config: &Config, url: &Secret, tasks: &Tasks) -> Result<Valkey> {
    let valkey = Valkey::open(url, tasks)?;
    if config.valkey_at_start == config::AtStart::Required {
        valkey.reached().await.map_err(|why| {
            let message = "Valkey is out of reach, and require_valkey is on";
            Error::new(Code::FailedPrecondition, reason::REGISTRY_UNAVAILABLE, message).caused_by(why)
        })?;
    }
    Ok(valkey)
}

/// How a bucket is reached: what its URL says, else what the section `s3` says.
fn reached(config: &Config, bucket: &config::Bucket) -> s3::Options {
    let section = &config.s3;
    let credentials = section.access_key_id.as_ref().zip(section.secret_access_key.clone());
    s3::Options {
        bucket: bucket.name.clone(),
        prefix: bucket.prefix.clone(),
        own: deployments::bundles(config.environment.as_str()),
        endpoint: bucket.endpoint.as_ref().or(section.endpoint.as_ref()).map(ToString::to_string),
        region: bucket.region.clone().unwrap_or_else(|| section.region.clone()),
        credentials: credentials.map(|(id, secret)| (id.reveal().to_owned(), secret)),
        encryption: bucket.encryption.as_ref().map(|encryption| match encryption {
            config::Encryption::Aes256 => s3::Encryption::Aes256,
            config::Encryption::Kms(key) => s3::Encryption::Kms(key.clone()),
        }),
    }
}

/// The same for a process that reads bundles and stores none: a folder belongs to the gateway.
pub(super) async fn blobs_to_read(config: &Config, clock: &Arc<dyn Clock>, tasks: &Tasks) -> Arc<dyn Blobs> {
    match &config.blobs {
        config::Blobs::File(folder) => Arc::new(Disk::open_to_read(folder)),
        config::Blobs::S3(bucket) => {
            Arc::new(S3::open_to_read(reached(config, bucket), Arc::clone(clock), tasks).await)
        }
    }
}

/// What comes before a blob's key in its URI.
pub(super) fn source_base(config: &Config) -> String {
    match &config.blobs {
        config::Blobs::File(_) => "blobs:///".to_owned(),
        config::Blobs::S3(bucket) => format!("s3://{}/{}", bucket.name, bucket.prefix),
    }
}

/// The registry alone, for a process that tells nobody anything.
pub(super) async fn registry(config: &Config, tasks: &Tasks) -> Result<Arc<dyn Registry>> {
    match &config.registry {
        config::Registry::Local => Ok(Arc::new(LocalRegistry::new())),
        config::Registry::Valkey(url) => Ok(Arc::new(valkey(config, url, tasks).await?.registry())),
    }
}

pub(super) fn spans(config: &Config, tasks: &Tasks, metrics: &Metrics) -> Result<Arc<dyn Spans>> {
    let spans: Arc<dyn Spans> = match &config.otlp.endpoint {
        Some(endpoint) => {
            let sender = Sender { service: config.otlp.service.clone(), environment: config.environment.as_str() };
            Arc::new(Otlp::start(endpoint, sender, tasks)?)
        }
        None => Arc::new(NoSpans),
    };
    let counted = Arc::clone(&spans);
    metrics.tell("spans_lost", "Spans that no collector got", Told::Count, move || counted.lost());
    Ok(spans)
}

fn fleet(
    config: &Config,
    blobs: &Arc<dyn Blobs>,
    registry: &Arc<dyn Registry>,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
    metrics: &Metrics,
) -> Result<Hosted> {
    match &config.fleet.host {
        config::Host::Local => Ok((Arc::new(local_fleet(config, blobs, clock, tasks)?), None)),
        config::Host::Coordinators(listed) => {
            let peers = &config.peers;
            let papers = Trust::read(peers)?;
            let settings = coordinator::Config {
                listed: listed.iter().map(ToString::to_string).collect(),
                environment: config.environment.as_str().to_owned(),
                token: peers.token.clone(),
                networks: peers.networks.clone(),
                papers: papers.clone(),
                source_base: source_base(config),
            };
            let coordinators = Coordinators::start(settings, Arc::clone(registry), tasks.clone())?;
            let help = "Hosts that are left alone for a while after failures in a row";
            metrics.tell("hosts_left_alone", help, Told::Level, coordinators.left_alone());
            let trust = Watched::new(coordinators.trust(), peers.clone(), papers);
            Ok((Arc::new(coordinators), Some(trust)))
        }
    }
}

/// Agents run here as child processes, found on `fleet.path`.
pub(super) fn local_fleet(
    config: &Config,
    blobs: &Arc<dyn Blobs>,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<LocalFleet> {
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
    let root = settings.root.clone();
    let opened = LocalFleet::open(settings, Arc::clone(blobs), Arc::clone(clock), tasks.clone());
    opened.map_err(|error| unusable(&error, &root, "data (PORTICO_DATA)"))
}

/// Why a folder of this machine cannot be used, and which settings choose another one.
fn unusable(error: &Error, folder: &Path, setting: &str) -> Error {
    let all = if setting.starts_with("data") {
        ""
    } else {
        ", or move all that has no place of its own with data (PORTICO_DATA)"
    };
    let why = format!("{}: {}; choose another folder with {setting}{all}", folder.display(), error.report());
    Error::new(error.code(), error.reason(), "a folder cannot be used").caused_by(why)
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

fn catalog(config: &Config, metrics: &Arc<Metrics>) -> Result<Option<Arc<dyn Catalog>>> {
    let Some(url) = &config.ensemble_url else { return Ok(None) };
    let ensemble: Arc<dyn Catalog> = Arc::new(Ensemble::new(&url.to_string(), config.ensemble_key.as_ref())?);
    Ok(Some(Measured::new(ensemble, metrics)))
}
