//! A host, as it sees itself: what it runs, how loaded it is, and what it says of that to gateways.
//!
//! A newcomer's usual mistake is to look for tenants. A host runs what it is told to by gateways that it trusts; whose an
//! instance is, and who may touch it, was settled there.
//!
//! *Knows:* its id, its fleet of one, its load. *Does not know:* who may call, other hosts.

mod announce;

/// What is asked of hosts, in the words of the fleet.
pub use portico_port::fleet::{
    ANNOUNCED, Announced, At, Bundle, FileEntry, FileList, Fleet, Frame, Info, LogEntry, LogLevel, LogQuery, Message,
    NewMessage, Role, Running, Start, State, Stop, Usage, Utf8, Window, WorkspacePath,
};

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use portico_base::{Context, Result, Timestamp};
use portico_port::{
    fleet::{Asked, HostLoad, failure},
    registry::Registry,
};
use tokio::sync::Notify;

/// Longest wait for an instance to leave its way to ready.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// How a host is called, and where.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its id, the same after a restart.
    pub id: String,
    /// The base of its URLs, as gateways reach it.
    pub url: String,
    /// What comes before a blob's key in the URI of a bundle.
    pub source_base: String,
    /// What this installation is for.
    pub environment: String,
    /// When this process began.
    pub started_at: Timestamp,
}

/// A host. Cheap to clone.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    place: Place,
    fleet: Arc<dyn Fleet>,
    registry: Arc<dyn Registry>,
    draining: AtomicBool,
    /// Told when an instance was started or stopped.
    changed: Notify,
}

/// How a host is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It takes instances.
    Healthy,
    /// It goes on with those that it has.
    Draining,
    /// It cannot start any.
    Unhealthy,
}

impl Standing {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Standing::Healthy => "healthy",
            Standing::Draining => "draining",
            Standing::Unhealthy => "unhealthy",
        }
    }
}

impl Host {
    /// A host over this fleet of one, which announces itself here.
    pub fn new(place: Place, fleet: Arc<dyn Fleet>, registry: Arc<dyn Registry>) -> Host {
        Host(Arc::new(Inner { place, fleet, registry, draining: AtomicBool::new(false), changed: Notify::new() }))
    }

    /// How it is called, and where.
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// What it runs, under the name that its own fleet has for this machine.
    pub fn fleet(&self) -> &dyn Fleet {
        &*self.0.fleet
    }

    /// How loaded it is.
    ///
    /// # Errors
    /// When its fleet does not say.
    pub async fn load(&self) -> Result<HostLoad> {
        let hosts = self.0.fleet.hosts().await?;
        hosts.first().cloned().ok_or_else(|| failure::unavailable("the fleet of this host is empty"))
    }

    /// How it is, in one word.
    pub async fn standing(&self) -> Standing {
        match self.load().await {
            Ok(load) if load.draining || self.0.draining.load(Ordering::Relaxed) => Standing::Draining,
            Ok(load) if load.healthy => Standing::Healthy,
            Ok(_) | Err(_) => Standing::Unhealthy,
        }
    }

    /// An instance here, asked for by a call. Its record need not name the one host that writes it.
    ///
    /// # Errors
    /// As for [`Host::load`].
    pub async fn at(&self, cx: &Context, instance: &str) -> Result<At> {
        Ok(At { asked: Asked::by(cx), ..At::new(self.load().await?.id, instance) })
    }

    /// Starts an instance.
    ///
    /// # Errors
    /// `draining` when the host takes no more; else those of [`Fleet::create`].
    pub async fn create(&self, cx: &Context, start: Start) -> Result<Info> {
        if self.0.draining.load(Ordering::Relaxed) {
            return Err(failure::draining());
        }
        let local = self.load().await?.id;
        let info = self.0.fleet.create(&local, Start { asked: Asked::by(cx), ..start }).await?;
        self.0.changed.notify_one();
        Ok(info)
    }

    /// Stops an instance.
    ///
    /// # Errors
    /// Those of [`Fleet::stop`].
    pub async fn stop(&self, at: &At, stop: Stop) -> Result<()> {
        self.0.fleet.stop(at, stop).await?;
        self.0.changed.notify_one();
        Ok(())
    }
}
