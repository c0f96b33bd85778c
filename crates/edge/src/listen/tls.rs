//! TLS for the listener.
//!
//! A newcomer's usual mistake is to decide here who a client is. A certificate is proven here and named by the gate.
//!
//! *Knows:* certificates and keys as PEM. *Does not know:* where they are stored, identities.

use std::{fmt, sync::Arc};

use portico_base::{Code, Current, Error, Result, Secret, error::BoxError, reason};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

/// What to offer, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What a listener proves itself by. Clones share it; connections that stand keep what they began with.
#[derive(Clone)]
pub struct Certificates(Current<TlsAcceptor>);

impl Certificates {
    pub(super) fn new(tls: &Tls) -> Result<Certificates> {
        tls.acceptor().map(|acceptor| Certificates(Current::new(acceptor)))
    }

    /// Makes ready to prove itself by this. It does so from the next connection on, once what is answered is called.
    ///
    /// # Errors
    /// When it cannot be used; nothing changes then.
    pub fn ready(&self, tls: &Tls) -> Result<impl FnOnce() + Send + use<>> {
        let (acceptor, current) = (tls.acceptor()?, self.0.clone());
        Ok(move || current.set(acceptor))
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::clone(&self.0.get())
    }
}

/// The material of a TLS server, as PEM text.
#[derive(Clone)]
pub struct Tls {
    /// The server's certificate, followed by its issuers.
    pub certificates: String,
    /// The key of the certificate.
    pub key: Secret,
    /// Who issues certificates of clients. Without it clients are not asked for one.
    pub client_issuers: Option<String>,
    /// Whether a client must have one.
    pub client_required: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("client_required", &self.client_required).finish_non_exhaustive()
    }
}

/// Whether it is the same text.
impl PartialEq for Tls {
    fn eq(&self, other: &Tls) -> bool {
        let parts = |tls: &Tls| (tls.certificates.clone(), tls.client_issuers.clone(), tls.client_required);
        parts(self) == parts(other) && self.key == other.key
    }
}

impl Tls {
    /// Whether it can be used.
    ///
    /// # Errors
    /// When it cannot, with what is wrong.
    pub fn check(&self) -> Result<()> {
        self.acceptor().map(|_| ())
    }

    fn acceptor(&self) -> Result<TlsAcceptor> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("protocol versions", error))?;
        let builder = match &self.client_issuers {
            None => builder.with_no_client_auth(),
            Some(issuers) => {
                let mut roots = RootCertStore::empty();
                for issuer in certificates(issuers, "client issuers")? {
                    roots.add(issuer).map_err(|error| unusable("client issuers", error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = if self.client_required { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| unusable("client issuers", error))?)
            }
        };
        let key =
            PrivateKeyDer::from_pem_slice(self.key.reveal().as_bytes()).map_err(|error| unusable("key", error))?;
        let mut config = builder
            .with_single_cert(certificates(&self.certificates, "certificate")?, key)
            .map_err(|error| unusable("certificate", error))?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| unusable(what, error))
}

fn unusable(what: &str, error: impl Into<BoxError>) -> Error {
    let message = format!("the TLS {what} cannot be used");
    Error::new(Code::FailedPrecondition, reason::INTERNAL, message).caused_by(error)
}
