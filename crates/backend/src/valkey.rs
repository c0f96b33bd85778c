//! Registry and bus on Valkey or Redis, for gateways that are not alone.
//!
//! A newcomer's usual mistake is to wait for the server. Every command ends within half a second, and while the server is
//! away commands fail at once; one task per connection dials again behind the calls, so that what has come back is used
//! within half a second.
//!
//! *Knows:* URLs, connections, scripts, streams, names of keys. *Does not know:* what is announced, limited or told.

mod bus;
mod link;
mod names;
mod registry;
mod target;

use std::sync::Arc;

use portico_base::{Code, Error, Result, Secret, reason, tasks::Tasks};

pub use self::{bus::ValkeyBus, registry::ValkeyRegistry};
use self::{link::Link, names::Names, target::Target};

/// A Valkey or Redis server, or several that act as one.
#[derive(Clone)]
pub struct Valkey {
    target: Arc<Target>,
    link: Link,
    names: Names,
    tasks: Tasks,
}

impl Valkey {
    /// Begins to connect. The server may be away; what is asked meanwhile fails.
    ///
    /// # Errors
    /// When the URL is not one that [`check`] accepts.
    pub fn open(url: &Secret, tasks: &Tasks) -> Result<Valkey> {
        let target = Target::parse(url.reveal()).map_err(|why| {
            Error::new(Code::FailedPrecondition, reason::INTERNAL, format!("the URL of Valkey {why}"))
        })?;
        let names = Names::new(target.is_cluster());
        let target = Arc::new(target);
        let link = Link::begin(Arc::clone(&target), tasks);
        Ok(Valkey { target, link, names, tasks: tasks.clone() })
    }

    /// Waits until the first attempt to connect has ended.
    ///
    /// # Errors
    /// Why it failed, for an operator. Further attempts are made all the same.
    pub async fn reached(&self) -> std::result::Result<(), String> {
        self.link.reached().await
    }

    /// The registry on this server.
    pub fn registry(&self) -> ValkeyRegistry {
        ValkeyRegistry::new(self.link.clone(), self.names)
    }

    /// The bus on this server, with a connection of its own to listen.
    pub fn bus(&self) -> ValkeyBus {
        ValkeyBus::new(self.link.clone(), self.names, Arc::clone(&self.target), &self.tasks)
    }
}

/// Whether this is a URL of Valkey or Redis.
///
/// # Errors
/// What is wrong with it, to follow "it", without the password that it may carry.
pub fn check(url: &str) -> std::result::Result<(), String> {
    Target::parse(url).map(|_| ())
}
