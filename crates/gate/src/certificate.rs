//! From a client certificate to the key that it stands for.
//!
//! A newcomer's usual mistake is to let a certificate mean something by itself. That an authority issued it says who the
//! client is, not what it may do: a name that the operator bound to no key gives no rights. Through its key a certificate
//! has tenant, role, permissions, limits and an end, like every other credential.
//!
//! *Knows:* names in certificates, which key each is bound to. *Does not know:* how a certificate was verified (the
//! listener did), what the key is worth.

use std::collections::BTreeMap;

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// Which certificates stand for which keys.
#[derive(Clone, Debug, Default)]
pub struct Bindings(BTreeMap<String, String>);

impl Bindings {
    /// Names of certificates with the ids of their keys.
    pub fn new(bindings: BTreeMap<String, String>) -> Bindings {
        Bindings(bindings)
    }

    /// The id of the key that this verified certificate (DER) stands for.
    ///
    /// A certificate has one name: its first URI, or else its first DNS name. Were every name tried, an issuer who adds one
    /// would choose between identities. A subject's common name is not looked at; nothing says what kind of name it is.
    pub(super) fn key_id(&self, certificate: &[u8]) -> Option<&str> {
        if self.0.is_empty() {
            return None;
        }
        let der = CertificateDer::from_slice(certificate);
        let parsed = EndEntityCert::try_from(&der).ok()?;
        let name = parsed.valid_uri_names().next().or_else(|| parsed.valid_dns_names().next())?;
        self.0.get(name).map(String::as_str)
    }
}
