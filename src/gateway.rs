//! The composition root: the only room that names concrete backends.
//!
//! A newcomer's usual mistake is to build a part where it is used. Every part is built here, in the order in which parts
//! need each other, and handed down.
//!
//! *Knows:* everything, by name. *Does not know:* how any of it works.

mod backends;
pub mod check;
mod coordinator;
mod hosts;
mod limits;
mod measured;
pub mod migration;
mod reload;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use portico_podium::Podium;
use portico_wire::Handlers;

pub use self::coordinator::Coordinator;
use self::{
    backends::Backends,
    reload::{Certified, Reload, Watched},
};
use crate::{
    base::{
        Caller, Clock, Context, Current, Error, IdentityId, Result, Secret, TenantId,
        caller::{Proof, Role},
        clock::SystemClock,
        page::PageRequest,
        tasks::{Drain, Tasks},
    },
    config::Config,
    domain::{
        audit::Audit,
        deployments::{self, Deployments},
        health::{Board, Check},
        installation,
        instances::{self, Instances},
        keys::{self, KeyRole, Keys, NewKey, Peppers},
        models::Models,
        platform::Platform,
        secrets::Secrets,
        settings::{self, Settings},
    },
    edge::{
        self, Edge, Pages, Rest, Site,
        listen::{self, Certificates, Listener},
    },
    gate::{Admit, Bindings, Guard, Ledger, Metrics, metrics::Placed},
    schema::{Schema, Surface},
};

/// A running gateway.
pub struct Gateway {
    address: SocketAddr,
    edge: Arc<Edge>,
    first_admin_key: Option<Secret>,
    tasks: Tasks,
    reload: Reload,
}

/// How an order to stop is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// New requests are served for the grace of the configuration, so that load balancers notice.
    WithNotice,
    /// Nobody has to notice first.
    AtOnce,
}

impl Stop {
    /// The plan of the configuration, as it is carried out then.
    fn plan(self, plan: Drain) -> Drain {
        match self {
            Stop::WithNotice => plan,
            Stop::AtOnce => Drain { grace: Duration::ZERO, ..plan },
        }
    }
}

impl Gateway {
    /// Opens the stores, builds the house and begins to listen.
    ///
    /// # Errors
    /// When a store cannot be opened, the sealing key does not open what is stored, or the address cannot be bound.
    pub async fn start(config: Config) -> Result<Gateway> {
        let tasks = Tasks::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new());
        let backends = Backends::open(&config, &clock, &tasks, &metrics).await?;
        tasks.spawn(measured::watch_hosts(Arc::clone(&backends.fleet), Arc::clone(&metrics), tasks.clone()));
        let audit = Audit::new(Arc::clone(&backends.records), &tasks);

        let keys = Keys::new(
            keys::Parts {
                records: Arc::clone(&backends.records),
                bus: Arc::clone(&backends.bus),
                clock: Arc::clone(&clock),
                audit: audit.clone(),
                peppers: Peppers::open(&backends.records, Arc::clone(&backends.sealer), Arc::clone(&clock)).await?,
                bootstrap: config.admin_key.clone(),
            },
            &tasks,
        )?;
        let platform = platform(&config, &backends, &keys, &audit, &clock, &metrics, &tasks).await?;

        let schema = Schema::read(portico_wire::SCHEMA).map_err(Error::internal)?;
        let handlers = mounted(&schema, &platform);
        let ledger = Ledger::new(Arc::clone(&metrics), backends.spans, audit, Arc::clone(&clock));
        let bindings = bindings(&config);
        let guard = Guard::new(
            keys.clone(),
            bindings,
            limits::of(&config),
            Arc::clone(&backends.registry),
            ledger,
            Arc::clone(&clock),
        );
        let limits = guard.limits();
        let edge = Arc::new(doors(&config, &schema, &handlers, Arc::new(guard), metrics, &tasks)?);

        let (listener, watched) = listening(&config, &tasks).await?;
        // When nothing is left that could fail: a key that is made and not shown is lost.
        let first_admin_key = first_admin_key(&config, &keys, &clock).await?;
        let address = listener.address();
        let reload = Reload {
            limits,
            cors: edge.cors(),
            listener: watched,
            hosts: backends.hosts,
            drain: Current::new(reload::drain(&config)),
        };
        reload.watch(&tasks);
        tasks.spawn(listener.serve(Arc::clone(&edge)));
        Ok(Gateway { address, edge, first_admin_key, tasks, reload })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The doors, for calls within the process.
    pub fn edge(&self) -> &Arc<Edge> {
        &self.edge
    }

    /// The administrator's key that the very first start made. Only its digest is stored.
    pub fn first_admin_key(&self) -> Option<&Secret> {
        self.first_admin_key.as_ref()
    }

    /// Takes over what a newer configuration says about limits, origins, certificates and the time to drain. No
    /// connection is dropped. What else it says is heard at the next start.
    ///
    /// # Errors
    /// When the new certificates cannot be used; everything stays as it was.
    pub fn reload(&self, config: &Config) -> Result<()> {
        self.reload.apply(config)
    }

    /// Ends in order: what is in flight ends first, for as long as the configuration says.
    pub async fn drain(self, stop: Stop) {
        let left = self.tasks.drain(stop.plan(*self.reload.drain.get())).await;
        if left > 0 {
            tracing::warn!(tasks = left, "the time to drain is over; what is left is cut");
        }
    }
}

async fn platform(
    config: &Config,
    backends: &Backends,
    keys: &Keys,
    audit: &Audit,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
) -> Result<Platform> {
    let environment = config.environment.as_str();
    let secrets = Secrets::new(Arc::clone(&backends.records), Arc::clone(&backends.sealer), audit.clone());
    // Dropped when the house closes: the next start walks again.
    let (resealing, closing) = (secrets.clone().reseal_and_tell(), tasks.closing_token());
    tasks.spawn(async move { closing.run_until_cancelled(resealing).await });
    let settings = Settings::load(
        settings::Parts {
            records: Arc::clone(&backends.records),
            bus: Arc::clone(&backends.bus),
            clock: Arc::clone(clock),
            audit: audit.clone(),
            fixed: settings::Fixed {
                environment: environment.to_owned(),
                ensemble_url: config.ensemble_url.as_ref().map(ToString::to_string),
                bundle_bytes_max: config.uploads.bundle_bytes_max.0,
            },
        },
        tasks,
    )
    .await?;
    let deployments = Deployments::new(
        deployments::Ground {
            records: Arc::clone(&backends.records),
            blobs: Arc::clone(&backends.blobs),
            hosts: Some(Arc::new(hosts::Fleet(Arc::clone(&backends.fleet)))),
            settings: settings.clone(),
            audit: audit.clone(),
            tasks: tasks.clone(),
        },
        deployments::Config {
            environment: environment.to_owned(),
            bundle_bytes_max: config.uploads.bundle_bytes_max.0,
            local_ids: config.environment != crate::config::Environment::Production,
            upload_max: config.uploads.total_max,
        },
    );
    let instances = Instances::new(instances::Ground {
        records: Arc::clone(&backends.records),
        fleet: Arc::clone(&backends.fleet),
        deployments: deployments.clone(),
        secrets: secrets.clone(),
        settings: settings.clone(),
        audit: audit.clone(),
        clock: Arc::clone(clock),
        tasks: tasks.clone(),
        told: placements(metrics),
        installation: installation::id(&backends.records).await?,
    });
    let measured = Arc::clone(metrics);
    let told = move |checks: &[Check]| {
        checks.iter().for_each(|check| measured.probed(check.name, check.health.state, check.latency));
    };
    let health = Board::start(backends.parts(), tasks.clone(), Arc::clone(clock), told).await;
    let sockets = Arc::clone(metrics);
    Ok(Platform {
        keys: keys.clone(),
        secrets,
        settings,
        models: Models::new(backends.catalog.clone(), tasks.clone()),
        deployments,
        instances,
        health,
        environment,
        chronicle_base: config.chronicle_public_base.as_ref().map(ToString::to_string),
        sockets_open: Arc::new(move || sockets.sockets_open()),
    })
}

/// Counts attempts to place instances.
fn placements(metrics: &Arc<Metrics>) -> instances::Told {
    let metrics = Arc::clone(metrics);
    Arc::new(move |attempt| {
        metrics.placed(match attempt {
            instances::Attempt::Placed => Placed::There,
            instances::Attempt::Retried => Placed::Retried,
            instances::Attempt::Failed => Placed::Failed,
        });
    })
}

/// Every service of every surface.
fn mounted(schema: &Schema, platform: &Platform) -> Handlers {
    let mut handlers = Handlers::new();
    Podium::new(platform.clone()).mount(&mut handlers);
    portico_grpc::mount(schema, platform.health.clone(), &mut handlers);
    handlers
}

fn doors(
    config: &Config,
    schema: &Schema,
    handlers: &Handlers,
    guard: Arc<dyn Admit>,
    metrics: Arc<Metrics>,
    tasks: &Tasks,
) -> Result<Edge> {
    let stranger = Surface::named("podium").unwrap_or(Surface::NEUTRAL);
    let rest = Rest::new(schema, handlers, Arc::clone(&guard), tasks.clone(), stranger).map_err(Error::internal)?;
    let site = Site::new(schema, metrics);
    let settings = edge::Config { cors: limits::cors(&config.cors), ..edge::Config::default() };
    Ok(Edge::new(schema, handlers, guard, tasks.clone(), settings).with_web(Arc::new(Pages::new(site, rest))))
}

/// A listener, and what it proves itself by.
async fn listening(config: &Config, tasks: &Tasks) -> Result<(Listener, Option<Watched<Certificates>>)> {
    let tls = config.tls.as_ref().map(Certificates::read).transpose()?;
    let plan = listen::Config { tls: tls.clone(), ..listen::Config::plain(config.listen) };
    let listener = Listener::bind(plan, tasks.clone()).await?;
    let found = listener.certificates().zip(config.tls.clone()).zip(tls);
    let watched = found.map(|((certificates, files), tls)| Watched::new(certificates, files, tls));
    Ok((listener, watched))
}

/// Which client certificates stand for which keys.
fn bindings(config: &Config) -> Bindings {
    Bindings::new(config.tls.as_ref().map(|tls| tls.client_keys.clone()).unwrap_or_default())
}

/// On the very first start nobody could call; the key made here opens the door once. The operator's own key does too.
async fn first_admin_key(config: &Config, keys: &Keys, clock: &Arc<dyn Clock>) -> Result<Option<Secret>> {
    if config.admin_key.is_some() {
        return Ok(None);
    }
    let few = keys.list("", true, &PageRequest { limit: 2, after: None }).await?.items;
    if let [key] = few.as_slice()
        && key.role == KeyRole::Admin
        && key.last_used_at.is_none()
    {
        // A start that broke off after it had made the key has shown it to nobody.
        tracing::info!(
            "the first administrator's key was never used; where it is lost, PORTICO_ADMIN_KEY sets another"
        );
    }
    if !few.is_empty() {
        return Ok(None);
    }
    let operator = Caller {
        identity: IdentityId::new("operator"),
        tenant: TenantId::shared(),
        role: Role::Admin,
        permissions: Arc::from([]),
        proof: Proof::None,
    };
    let new = NewKey {
        tenant_id: "admin".to_owned(),
        name: "first administrator".to_owned(),
        permissions: Vec::new(),
        expires_at: None,
        role: KeyRole::Admin,
        rate_limit_rpm: 0,
    };
    let cx = Context::internal("first start", operator, Arc::clone(clock));
    // Other gateways may start at the same moment.
    keys.create_first(&cx, new).await.map(|made| made.map(|(_, secret)| secret))
}
