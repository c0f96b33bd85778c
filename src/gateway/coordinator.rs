//! The composition of a host: the coordinator API over the embedded fleet.
//!
//! A newcomer's usual mistake is to give a host records. What it runs is written down by gateways; a host keeps bundles and
//! processes, and what it forgets with a restart it says by its epoch.
//!
//! *Knows:* everything of a host, by name. *Does not know:* keys, records, tenants.

use std::{fs, io, net::SocketAddr, path::Path, sync::Arc};

use portico_wire::Handlers;

use super::{
    Stop, backends, listening,
    measured::Measured,
    reload::{self, Watched},
};
use crate::{
    backend::private,
    base::{
        Clock, Code, Current, Error, Result,
        clock::SystemClock,
        id, reason,
        tasks::{Drain, Tasks},
    },
    config::Config,
    domain::host::{Host, Place},
    edge::{self, Edge, Pages, Rest, Site, listen::Certificates},
    gate::{Admit, Ledger, Metrics, Trusted},
    port::{blobs::Blobs, registry::Registry, spans::Spans},
    schema::{self, Schema, Surface},
};

/// A running host.
pub struct Coordinator {
    address: SocketAddr,
    edge: Arc<Edge>,
    host: Host,
    tasks: Tasks,
    drain: Current<Drain>,
    /// What gateways are shown; nothing where plain text is spoken.
    listener: Option<Watched<Certificates>>,
    proves_certificates: bool,
}

impl Coordinator {
    /// Opens the stores that the config names, builds the host and begins to listen and to announce itself.
    ///
    /// # Errors
    /// When a store cannot be opened, the address cannot be bound, or the host would be open to a network unprotected.
    pub async fn start(config: Config) -> Result<Coordinator> {
        let tasks = Tasks::new();
        let registry = backends::registry(&config, &tasks).await?;
        Coordinator::begin(config, registry, tasks).await
    }

    /// The same with this registry, for hosts that share a process with their gateway.
    ///
    /// # Errors
    /// As for [`Coordinator::start`].
    pub async fn announcing_in(config: Config, registry: Arc<dyn Registry>) -> Result<Coordinator> {
        Coordinator::begin(config, registry, Tasks::new()).await
    }

    async fn begin(config: Config, registry: Arc<dyn Registry>, tasks: Tasks) -> Result<Coordinator> {
        let proves_certificates = proves_certificates(&config);
        protected(&config, proves_certificates)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new());
        let blobs: Arc<dyn Blobs> = Measured::new(backends::blobs_to_read(&config, &clock, &tasks).await, &metrics);
        let fleet = Arc::new(backends::local_fleet(&config, &blobs, &clock, &tasks)?);
        let spans: Arc<dyn Spans> = backends::spans(&config, &tasks, &metrics)?;

        let (listener, watched) = listening(&config, &tasks).await?;
        let address = listener.address();
        let place = Place {
            id: match &config.peers.id {
                Some(id) => id.clone(),
                None => own_id(&config.data.join("host.id")).map_err(unwritable)?,
            },
            url: url(&config, address),
            source_base: backends::source_base(&config),
            environment: config.environment.as_str().to_owned(),
            started_at: clock.now(),
        };
        let host = Host::new(place, fleet, registry);

        let schema = Schema::of(portico_wire::SCHEMA, schema::COORDINATOR).map_err(Error::internal)?;
        let mut handlers = Handlers::new();
        portico_coordinator::Coordinator::new(host.clone()).mount(&mut handlers);
        let ledger = Ledger::without_audit(Arc::clone(&metrics), spans, Arc::clone(&clock));
        let guard: Arc<dyn Admit> =
            Arc::new(Trusted::new(config.peers.token.clone(), proves_certificates, ledger, clock));
        let stranger = Surface::named("coordinator").unwrap_or(Surface::NEUTRAL);
        let rest =
            Rest::new(&schema, &handlers, Arc::clone(&guard), tasks.clone(), stranger).map_err(Error::internal)?;
        let site = Site::new(&schema, metrics);
        let edge = Edge::new(&schema, &handlers, guard, tasks.clone(), edge::Config::default());
        let edge = Arc::new(edge.with_web(Arc::new(Pages::new(site, rest))));

        reload::watch(&watched, &tasks);
        tasks.spawn(listener.serve(Arc::clone(&edge)));
        tasks.spawn(host.clone().keep_announcing(tasks.clone()));
        let drain = Current::new(reload::drain(&config));
        Ok(Coordinator { address, edge, host, tasks, drain, listener: watched, proves_certificates })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The doors, for calls within the process.
    pub fn edge(&self) -> &Arc<Edge> {
        &self.edge
    }

    /// The id that gateways know it by.
    pub fn id(&self) -> &str {
        &self.host.place().id
    }

    /// Takes over what a newer configuration says about certificates, whose are believed, and the time to drain. Connections
    /// that stand keep what they began with. What else it says is heard at the next start.
    ///
    /// # Errors
    /// When the new certificates cannot be used, or gateways would have to prove themselves by certificates from now on, or no
    /// longer; everything stays as it was.
    pub fn reload(&self, config: &Config) -> Result<()> {
        if proves_certificates(config) != self.proves_certificates {
            let message = "tls.client_ca is set or unset at the next start alone";
            return Err(Error::new(Code::FailedPrecondition, reason::INTERNAL, message));
        }
        reload::listener(&self.listener, config)?.into_iter().for_each(|switch| switch());
        self.drain.set(reload::drain(config));
        Ok(())
    }

    /// Ends in order: says that it is draining, lets what is in flight end for as long as the configuration says, and
    /// withdraws.
    pub async fn drain(self, stop: Stop) {
        self.host.drain().await;
        let left = self.tasks.drain(stop.plan(*self.drain.get())).await;
        if left > 0 {
            tracing::warn!(tasks = left, "the time to drain is over; what is left is cut");
        }
        self.host.withdraw().await;
    }
}

/// Whether gateways may prove themselves by certificates.
fn proves_certificates(config: &Config) -> bool {
    config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
}

/// A host runs code, so a network may only reach it by a proof.
fn protected(config: &Config, proves_certificates: bool) -> Result<()> {
    if config.peers.token.is_some() || proves_certificates || config.listen.ip().is_loopback() {
        return Ok(());
    }
    let message = "a host that listens beyond the loopback needs fleet.token or tls.client_ca";
    Err(Error::new(Code::FailedPrecondition, reason::INTERNAL, message))
}

/// Where gateways reach it.
fn url(config: &Config, address: SocketAddr) -> String {
    match &config.peers.advertise {
        Some(url) => url.to_string().trim_end_matches('/').to_owned(),
        None => format!("{}://{address}", if config.tls.is_some() { "https" } else { "http" }),
    }
}

/// The id of this host, the same at every start: what is owed to a host that was away must find it again.
fn own_id(file: &Path) -> io::Result<String> {
    match fs::read_to_string(file) {
        Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let id = id::random("host_", 12);
    if let Some(folder) = file.parent() {
        private::folder(folder)?;
    }
    fs::write(file, &id)?;
    Ok(id)
}

fn unwritable(error: io::Error) -> Error {
    Error::new(Code::FailedPrecondition, reason::INTERNAL, "the id of the host cannot be kept").caused_by(error)
}
