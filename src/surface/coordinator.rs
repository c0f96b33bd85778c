//! What a host serves to gateways.
//!
//! A newcomer's usual mistake is to check a tenant here. The gate lets in gateways alone; what they ask has been decided.

mod agents;
mod host;

use std::sync::Arc;

use crate::{
    base::{Error, Result},
    domain::host::{Bundle, Host},
};

/// Serves every service of the surface over one host.
#[derive(Clone)]
pub struct Coordinator {
    host: Host,
    blob_prefix: Arc<str>,
}

impl Coordinator {
    /// The surface over this host. What stands in the blob store before every key is not part of the keys.
    pub fn new(host: Host, blob_prefix: &str) -> Coordinator {
        Coordinator { host, blob_prefix: blob_prefix.into() }
    }

    fn bundle(&self, source: &str, checksum: &str, deployment_id: &str) -> Result<Bundle> {
        bundle(source, &self.blob_prefix, checksum, deployment_id)
    }
}

/// The bundle that a gateway names by where it lies, its checksum and its deployment id.
fn bundle(source: &str, prefix: &str, checksum: &str, deployment_id: &str) -> Result<Bundle> {
    let digits = checksum.strip_prefix("sha256:").unwrap_or_default();
    if digits.len() != 64 || !digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Error::invalid("checksum", "must be sha256: and 64 lower-case hexadecimal digits"));
    }
    let unfit = || Error::invalid("deployment_id", "must be {type}:{version}@{hash_prefix}");
    let (name, _) = deployment_id.rsplit_once('@').ok_or_else(unfit)?;
    let (agent_type, version) = name.split_once(':').ok_or_else(unfit)?;
    Ok(Bundle {
        deployment_id: deployment_id.to_owned(),
        agent_type: agent_type.to_owned(),
        version: version.to_owned(),
        checksum: digits.to_owned(),
        blob_key: blob_key(source, prefix)?,
    })
}

/// The key of a bundle: the path of its URI, whatever scheme and bucket are called. Both sides are configured with the
/// same store; who names another one gets other bytes, and the checksum says so.
fn blob_key(source: &str, prefix: &str) -> Result<String> {
    let key = source.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, key)| key);
    let key = key.map(|key| key.strip_prefix(prefix).unwrap_or(key)).filter(|key| !key.is_empty());
    key.map(str::to_owned).ok_or_else(|| Error::invalid("source", "must be a URI such as s3://bucket/key"))
}
