//! What changes while the gateway runs: limits, origins, certificates, the time to drain.
//!
//! A newcomer's usual mistake is to change half. Everything new is made first, so that what cannot be used leaves all of
//! the old in force.
//!
//! *Knows:* which parts take new values. *Does not know:* where configuration comes from (`cli::serve` reads it).

use std::{path::Path, time::Duration};

use super::limits;
use crate::{
    base::{Code, Current, Error, Result, Secret, reason, tasks::Drain},
    config::{self, Config},
    edge::{
        Cors,
        listen::{Certificates, Tls},
    },
    gate,
};

/// How often the files of certificates are looked at: often enough for whoever waits for a renewal, cheap enough not to
/// be noticed. Contents are compared, because mounted secrets change by links that keep their times.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The parts of a gateway that take new values. Clones share them.
#[derive(Clone)]
pub(super) struct Reload {
    pub(super) limits: Current<gate::limits::Config>,
    pub(super) cors: Current<Cors>,
    pub(super) certificates: Option<Certificates>,
    /// Which files the certificates are in.
    pub(super) files: Current<Option<config::Tls>>,
    pub(super) drain: Current<Drain>,
}

impl Reload {
    /// Takes over what a newer configuration says about these parts.
    ///
    /// # Errors
    /// When the new certificates cannot be used; nothing has changed then.
    pub(super) fn apply(&self, config: &Config) -> Result<()> {
        // A listener without TLS stays so until the next start.
        if let (Some(certificates), Some(files)) = (&self.certificates, &config.tls) {
            certificates.replace(&read(files)?)?;
            self.files.set(config.tls.clone());
        }
        self.limits.set(limits::of(config));
        self.cors.set(limits::cors(&config.cors));
        self.drain.set(drain(config));
        Ok(())
    }

    /// Looks at the certificate files for as long as it runs.
    pub(super) async fn watch(self) {
        if let Some(certificates) = &self.certificates {
            watch(certificates, &self.files).await;
        }
    }
}

/// Looks at these files for as long as it runs, and takes over what is new in them.
pub(super) async fn watch(certificates: &Certificates, files: &Current<Option<config::Tls>>) {
    let mut seen = None;
    loop {
        let files = files.get();
        if let Some(files) = &*files {
            look(files, certificates, &mut seen);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Takes over what is in the files, if that is new. What cannot be used is said once.
fn look(files: &config::Tls, certificates: &Certificates, seen: &mut Option<std::result::Result<Tls, String>>) {
    let found = read(files).map_err(|error| error.report());
    if seen.as_ref() == Some(&found) {
        return;
    }
    let is_first = seen.is_none();
    match &found {
        Ok(_) if is_first => {}
        Ok(tls) => match certificates.replace(tls) {
            Ok(()) => tracing::info!("the certificate files have changed and are in use"),
            Err(error) => tracing::error!(error = error.report(), "the old certificates stay in use"),
        },
        Err(error) => tracing::error!(error, "the old certificates stay in use"),
    }
    *seen = Some(found);
}

pub(super) fn drain(config: &Config) -> Drain {
    Drain { grace: config.drain_grace, total: config.drain }
}

/// The contents of these files.
pub(super) fn read(files: &config::Tls) -> Result<Tls> {
    Ok(Tls {
        certificates: pem("tls.certificate", &files.certificate)?,
        key: Secret::new(pem("tls.key", &files.key)?),
        client_issuers: files.client_ca.as_deref().map(|path| pem("tls.client_ca", path)).transpose()?,
        client_required: false,
    })
}

pub(super) fn pem(setting: &'static str, path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        let message = format!("{setting}: {} cannot be read", path.display());
        Error::new(Code::FailedPrecondition, reason::INTERNAL, message).caused_by(error)
    })
}
