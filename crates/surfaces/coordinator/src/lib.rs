//! What a host serves to gateways.
//!
//! A newcomer's usual mistake is to check a tenant here. The gate lets in gateways alone; what they ask has been decided.

mod agents;
mod host;

use portico_base::{Error, Result};
use portico_domain::host::{Bundle, Host};
use portico_wire::{Handlers, coordinator::v1};

/// Serves every service of the surface over one host.
#[derive(Clone)]
pub struct Coordinator {
    host: Host,
}

impl Coordinator {
    /// The surface over this host.
    pub fn new(host: Host) -> Coordinator {
        Coordinator { host }
    }

    /// Mounts every service of the surface.
    pub fn mount(self, handlers: &mut Handlers) {
        v1::mount_host_service(self.clone(), handlers);
        v1::mount_agents_service(self, handlers);
    }
}

/// The bundle that a gateway names by where it lies, its checksum and its deployment id.
fn bundle(host: &Host, source: &str, checksum: &str, deployment_id: &str) -> Result<Bundle> {
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
        blob_key: blob_key(&host.place().source_base, source)?,
    })
}

/// The key of a bundle: what follows the base that both sides are configured with, else the path of its URI, whatever scheme
/// and bucket are called. Who names another store gets other bytes, and the checksum says so.
fn blob_key(base: &str, source: &str) -> Result<String> {
    let path = || source.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, key)| key);
    let key = source.strip_prefix(base).or_else(path);
    let key = key.filter(|key| !key.is_empty());
    key.map(str::to_owned).ok_or_else(|| Error::invalid("source", "must be a URI such as s3://bucket/key"))
}
