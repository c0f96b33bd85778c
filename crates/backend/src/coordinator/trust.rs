//! What gateways and hosts prove themselves to each other by.
//!
//! A newcomer's usual mistake is to take an empty file for a small one. A file of authorities without a certificate in it
//! would be trust in nobody, so it is refused.
//!
//! *Knows:* certificates and keys as PEM. *Does not know:* where they are stored, when they are renewed.

use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use portico_base::{Code, Error, Result, Secret, error::BoxError, reason};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::transport::Transport;

/// Whom a gateway believes, and what it shows, as PEM text.
#[derive(Clone, Default, PartialEq)]
pub struct Papers {
    /// The authorities of hosts; the system's when unset.
    pub authorities: Option<String>,
    /// Our certificate; none is shown when unset.
    pub certificate: Option<String>,
    /// Its key.
    pub key: Option<Secret>,
}

/// What connections to hosts begin with. Clones share it.
#[derive(Clone)]
pub struct Trust(pub(super) Transport);

impl Trust {
    /// Makes ready to begin connections with these. They do once what is answered is called; those in use, tunnels included, go
    /// on as they began.
    ///
    /// # Errors
    /// When they cannot be used; nothing changes then.
    pub fn ready(&self, papers: &Papers) -> Result<impl FnOnce() + Send + use<>> {
        self.0.ready(papers)
    }
}

impl Papers {
    /// How a client of hosts speaks TLS.
    ///
    /// # Errors
    /// When they cannot be used.
    pub(super) fn tls(&self) -> Result<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("fleet.ca", error))?;
        let builder = match &self.authorities {
            None => builder.with_native_roots().map_err(|error| unusable("fleet.ca", error))?,
            Some(authorities) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(authorities, "fleet.ca")? {
                    roots.add(authority).map_err(|error| unusable("fleet.ca", error))?;
                }
                builder.with_root_certificates(roots)
            }
        };
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.reveal().as_bytes())
                    .map_err(|error| unusable("fleet.key", error))?;
                builder
                    .with_client_auth_cert(certificates(certificate, "fleet.certificate")?, key)
                    .map_err(|error| unusable("fleet.certificate", error))
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }
}

fn certificates(pem: &str, setting: &str) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<std::result::Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(unusable(setting, "there is no certificate in it")),
        certificates => certificates.map_err(|error| unusable(setting, error)),
    }
}

fn unusable(setting: &str, error: impl Into<BoxError>) -> Error {
    let message = format!("{setting} cannot be used");
    Error::new(Code::FailedPrecondition, reason::INTERNAL, message).caused_by(error)
}
