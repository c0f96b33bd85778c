//! What can be said of a configuration before anything is started from it.
//!
//! A newcomer's usual mistake is to open a store as a gateway does. That makes folders and layouts, and waits; here nothing is
//! changed, and what does not answer is told at once.
//!
//! *Knows:* which backends have URLs. *Does not know:* how results are shown.

use std::{io, path::Path, sync::Arc, time::Duration};

use super::{backends, reload::Certified};
use crate::{
    backend::{
        postgres::Postgres,
        valkey::{self, Valkey},
    },
    base::{Clock, Error, Result, Secret, clock::SystemClock, health::Health, tasks::Tasks},
    config::{Blobs, Bus, Config, Host, Loaded, Origin, Place, Problem, Records, Registry},
    edge::listen::Certificates,
    port::{bus::Bus as _, registry::Registry as _},
};

/// How long what was opened for a question may take to close.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// What is wrong with URLs and files that only their readers understand, and what could never work. Asks nobody.
pub fn problems(loaded: &Loaded) -> Vec<Problem> {
    let mut problems = urls(loaded);
    problems.extend(certificates(loaded));
    problems.extend(fleet(loaded));
    problems
}

fn urls(loaded: &Loaded) -> Vec<Problem> {
    let Config { registry, bus, .. } = &loaded.config;
    let registry = if let Registry::Valkey(url) = registry { Some(("registry", url)) } else { None };
    let bus = if let Bus::Valkey(url) = bus { Some(("bus", url)) } else { None };
    let wrong = |(key, url): (&'static str, &Secret)| {
        let why = valkey::check(url.reveal()).err()?;
        let fix = "write the URL as `portico check --reference` shows it".to_owned();
        Some(Problem { place: place(loaded, key), key: key.to_owned(), cause: format!("the URL {why}"), fix })
    };
    registry.into_iter().chain(bus).filter_map(wrong).collect()
}

/// A gateway would not start with them.
fn certificates(loaded: &Loaded) -> Option<Problem> {
    let files = loaded.config.tls.as_ref()?;
    let why = Certificates::read(files).and_then(|tls| tls.check()).err()?;
    Some(Problem {
        place: place(loaded, "tls.certificate"),
        key: "tls.certificate".to_owned(),
        cause: why.report(),
        fix: "name files that hold a certificate chain and its key as PEM".to_owned(),
    })
}

/// Hosts announce themselves in a registry that they share with the gateway.
fn fleet(loaded: &Loaded) -> Option<Problem> {
    let Config { registry: Registry::Local, fleet, .. } = &loaded.config else { return None };
    if !matches!(&fleet.host, Host::Coordinators(listed) if listed.is_empty()) {
        return None;
    }
    Some(Problem {
        place: place(loaded, "fleet.url"),
        key: "fleet.url".to_owned(),
        cause: "no host can ever be found: the registry is this process alone".to_owned(),
        fix: "set registry to the URL of Valkey, or list the hosts: coordinator:http://host:9090".to_owned(),
    })
}

/// Where a setting was written.
fn place(loaded: &Loaded, key: &str) -> Place {
    match loaded.origins.iter().find(|(setting, ..)| setting.key == key) {
        Some((_, _, Origin::Written(place))) => place.clone(),
        _ => Place::Together,
    }
}

/// How the stores are, by the settings that name them. Of those on this machine, whether their folders can be used.
pub async fn connect(config: &Config) -> Vec<(&'static str, Health)> {
    let tasks = Tasks::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let records = async {
        let Records::Postgres(url) = &config.records else { return None };
        Some(("records", told(Postgres::probe(&Secret::new(url.reveal())).await)))
    };
    let blobs = async {
        let Blobs::S3(_) = &config.blobs else { return None };
        Some(("blobs", told(backends::blobs_to_read(config, &clock, &tasks).await.health().await)))
    };
    let registry = async {
        let Registry::Valkey(url) = &config.registry else { return None };
        Some(("registry", told(asked(url, &tasks, async |valkey| valkey.registry().health().await).await)))
    };
    let bus = async {
        let Bus::Valkey(url) = &config.bus else { return None };
        Some(("bus", told(asked(url, &tasks, async |valkey| valkey.bus().health().await).await)))
    };
    let (records, blobs, registry, bus) = tokio::join!(records, blobs, registry, bus);
    tasks.close();
    let _ended = tasks.wait(CLOSE_WAIT).await;
    let asked = [records, blobs, registry, bus].into_iter().flatten();
    folders(config).chain(asked).collect()
}

/// The folders of this machine that a process with this configuration writes to.
fn folders(config: &Config) -> impl Iterator<Item = (&'static str, Health)> {
    let records = if let Records::Sqlite(folder) = &config.records { Some(("records", folder)) } else { None };
    let blobs = if let Blobs::File(folder) = &config.blobs { Some(("blobs", folder)) } else { None };
    let folders = [Some(("data", &config.data)), records, blobs].into_iter().flatten();
    folders.map(|(setting, folder)| {
        let why = |error| Health::down(format!("{}: {error}", folder.display()));
        (setting, usable(folder).map_or_else(why, |()| Health::OK))
    })
}

/// Whether a folder can be made and written to. All is as before afterwards.
fn usable(folder: &Path) -> io::Result<()> {
    use rustix::fs::{Access, access};
    let mut missing = None;
    for place in folder.ancestors().filter(|place| !place.as_os_str().is_empty()) {
        if place.try_exists()? {
            break;
        }
        missing = Some(place);
    }
    match missing {
        Some(first) => std::fs::create_dir(first).and_then(|()| std::fs::remove_dir(first)),
        None if folder.is_dir() => Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?),
        None => Err(io::ErrorKind::NotADirectory.into()),
    }
}

async fn asked(url: &Secret, tasks: &Tasks, ask: impl AsyncFnOnce(&Valkey) -> Result<Health>) -> Result<Health> {
    let valkey = Valkey::open(url, tasks)?;
    match valkey.reached().await {
        Ok(()) => ask(&valkey).await,
        Err(why) => Ok(Health::down(why)),
    }
}

fn told(asked: Result<Health>) -> Health {
    asked.unwrap_or_else(|error: Error| Health::down(error.report()))
}
