//! What changes while a process runs: limits, origins, certificates, the time to drain.
//!
//! A newcomer's usual mistake is to change half. Everything new is made first, so that what cannot be used leaves all of
//! the old in force.
//!
//! *Knows:* which parts take new values. *Does not know:* where configuration comes from (`cli::reload` reads it).

mod watched;

use std::path::Path;

use self::watched::Switch;
pub(super) use self::watched::{Certified, Watched};
use super::limits;
use crate::{
    backend::coordinator::{Papers, Trust},
    base::{
        Code, Current, Error, Result, Secret, reason,
        tasks::{Drain, Tasks},
    },
    config::{self, Config},
    edge::{
        Cors,
        listen::{Certificates, Tls},
    },
    gate,
};

/// The parts of a gateway that take new values.
pub(super) struct Reload {
    pub(super) limits: Current<gate::limits::Config>,
    pub(super) cors: Current<Cors>,
    /// What callers are shown; nothing where plain text is spoken.
    pub(super) listener: Option<Watched<Certificates>>,
    /// What hosts are shown, if there are any.
    pub(super) hosts: Option<Watched<Trust>>,
    pub(super) drain: Current<Drain>,
}

impl Reload {
    /// Takes over what a newer configuration says about these parts.
    ///
    /// # Errors
    /// When the new certificates cannot be used; nothing has changed then.
    pub(super) fn apply(&self, config: &Config) -> Result<()> {
        let listener = listener(&self.listener, config)?;
        let hosts = self.hosts.as_ref().map(|hosts| hosts.ready(&config.peers)).transpose()?;
        listener.into_iter().chain(hosts).for_each(|switch| switch());
        self.limits.set(limits::of(config));
        self.cors.set(limits::cors(&config.cors));
        self.drain.set(drain(config));
        Ok(())
    }

    /// Begins to look at the files of certificates.
    pub(super) fn watch(&self, tasks: &Tasks) {
        watch(&self.listener, tasks);
        watch(&self.hosts, tasks);
    }
}

/// Makes ready what a newer configuration says about the listener. One without TLS stays so until the next start.
///
/// # Errors
/// When the new certificates cannot be used.
pub(super) fn listener(listener: &Option<Watched<Certificates>>, config: &Config) -> Result<Option<Switch>> {
    listener.as_ref().zip(config.tls.as_ref()).map(|(listener, files)| listener.ready(files)).transpose()
}

/// Begins to look at these files, until the house closes.
pub(super) fn watch<C: Certified>(watched: &Option<Watched<C>>, tasks: &Tasks) {
    if let Some(watched) = watched.clone() {
        let closing = tasks.closing_token();
        tasks.spawn(async move { closing.run_until_cancelled(watched.watch()).await });
    }
}

pub(super) fn drain(config: &Config) -> Drain {
    Drain { grace: config.drain_grace, total: config.drain }
}

impl Certified for Certificates {
    type Files = config::Tls;
    type Papers = Tls;
    const WHAT: &'static str = "the certificate";

    fn read(files: &config::Tls) -> Result<Tls> {
        Ok(Tls {
            certificates: pem("tls.certificate", &files.certificate)?,
            key: Secret::new(pem("tls.key", &files.key)?),
            client_issuers: files.client_ca.as_deref().map(|path| pem("tls.client_ca", path)).transpose()?,
            client_required: false,
        })
    }

    fn prepare(&self, papers: &Tls) -> Result<Switch> {
        Ok(Box::new(self.ready(papers)?))
    }
}

impl Certified for Trust {
    type Files = config::Peers;
    type Papers = Papers;
    const WHAT: &'static str = "the certificate for hosts";

    fn read(files: &config::Peers) -> Result<Papers> {
        let read = |setting, file: &Option<_>| file.as_deref().map(|path| pem(setting, path)).transpose();
        Ok(Papers {
            authorities: read("fleet.ca", &files.ca)?,
            certificate: read("fleet.certificate", &files.certificate)?,
            key: read("fleet.key", &files.key)?.map(Secret::new),
        })
    }

    fn prepare(&self, papers: &Papers) -> Result<Switch> {
        Ok(Box::new(self.ready(papers)?))
    }
}

fn pem(setting: &'static str, path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        let message = format!("{setting}: {} cannot be read", path.display());
        Error::new(Code::FailedPrecondition, reason::INTERNAL, message).caused_by(error)
    })
}
