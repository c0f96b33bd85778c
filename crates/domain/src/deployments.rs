//! Deployments: bundles that were taken in, each an immutable version of an agent type.
//!
//! A newcomer's usual mistake is to let a version be replaced. Its key in the blob store and its folder on a host carry no
//! hash, so other bytes under the same version would leave hosts that run different code under one name.
//!
//! A tenant sees its own deployments and those of the shared tenant; anything else does not exist for it.
//!
//! *Knows:* versions, owners, where bundles lie. *Does not know:* how a bundle arrives, or how hosts run it.

mod claim;
mod inspection;
mod listing;
mod name;
mod record;
mod upload;

use std::{sync::Arc, time::Duration};

use portico_base::{Code, Context, Error, Incoming, Result, TenantId, reason, tasks::Tasks};
use portico_port::{
    Answer,
    blobs::{Blobs, Range},
    records::Records,
};

use self::{
    claim::Claim,
    record::{AgentType, not_found},
};
pub use self::{
    listing::Filter,
    name::{DeploymentId, Hash, Name, bundles},
    record::Deployment,
    upload::{Piece, Uploaded},
};
use super::{
    agents,
    audit::Audit,
    settings::Settings,
    table::{Stored, Table},
};

/// What an operator decides about deployments.
#[derive(Clone, Debug)]
pub struct Config {
    /// The first part of every blob key: `dev`, `staging` or `production`.
    pub environment: String,
    /// Largest compressed bundle. Settings may allow less.
    pub bundle_bytes_max: u64,
    /// Whether an id may say `local` instead of a hash: whatever is registered for this type and version.
    pub local_ids: bool,
    /// Longest time for one upload.
    pub upload_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            environment: "dev".to_owned(),
            bundle_bytes_max: 256 << 20,
            local_ids: true,
            upload_max: Duration::from_secs(600),
        }
    }
}

/// Where new deployments are put at once, so that their first instance starts quickly.
pub trait Hosts: Send + Sync + 'static {
    /// Lets the least loaded host fetch and verify the bundle. Answers which host, or none when there is none to ask.
    fn deploy<'a>(&'a self, deployment: &'a Deployment) -> Answer<'a, Option<String>>;
}

/// What deployments stand on.
pub struct Ground {
    /// Where they are written down.
    pub records: Arc<dyn Records>,
    /// Where bundles lie.
    pub blobs: Arc<dyn Blobs>,
    /// Where new ones are put at once; without it every deployment waits for its first instance.
    pub hosts: Option<Arc<dyn Hosts>>,
    /// What administrators change: how large a bundle may be.
    pub settings: Settings,
    /// The trail.
    pub audit: Audit,
    /// For what has to be put in order after a caller has gone.
    pub tasks: Tasks,
}

/// All deployments. Cheap to clone.
#[derive(Clone)]
pub struct Deployments(Arc<Inner>);

struct Inner {
    ground: Ground,
    config: Config,
    table: Table<Deployment>,
    types: Table<AgentType>,
    claims: Table<Claim>,
}

/// Which deployment is wanted.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// The one of this id.
    Id(&'a str),
    /// The newest of this agent type.
    Latest(&'a str),
}

impl Deployments {
    /// The deployments in these stores.
    pub fn new(ground: Ground, config: Config) -> Deployments {
        let (table, types) = (Table::new(Arc::clone(&ground.records)), Table::new(Arc::clone(&ground.records)));
        let claims = Table::new(Arc::clone(&ground.records));
        Deployments(Arc::new(Inner { ground, config, table, types, claims }))
    }

    /// The deployment, if the caller may use it.
    ///
    /// # Errors
    /// `invalid_deployment_id` or `invalid_agent_type`, `deployment_not_found`, and `deployment_hash_mismatch` when the
    /// version exists with another hash: code that was not asked for is never run.
    pub async fn resolve(&self, cx: &Context, wanted: Wanted<'_>) -> Result<Deployment> {
        let (text, name, hash) = match wanted {
            Wanted::Id(text) => {
                let id = DeploymentId::parse(text, self.0.config.local_ids)?;
                (text, id.name, id.hash)
            }
            Wanted::Latest(agent_type) => {
                agents::check_type(agent_type)?;
                let newest = self.visible_type(cx, agent_type).await?.ok_or_else(|| not_found(agent_type))?;
                (agent_type, Name { agent_type: newest.agent_type, version: newest.latest }, Hash::Local)
            }
        };
        let found = self.0.table.get(&name.record_id()).await?;
        let visible = found.filter(|stored| is_visible(cx, &stored.value.tenant()));
        let deployment = visible.ok_or_else(|| not_found(text))?.value;
        match hash {
            Hash::Prefix(prefix) if !deployment.checksum.starts_with(&prefix) => {
                let message = format!("{} {} exists with another hash", deployment.agent_type, deployment.version);
                Err(Error::new(Code::FailedPrecondition, reason::DEPLOYMENT_HASH_MISMATCH, message)
                    .with_fact("existing_deployment_id", deployment.deployment_id()))
            }
            _ => Ok(deployment),
        }
    }

    /// The bundle, as it was uploaded. Whoever reads it compares its hash.
    pub async fn bundle(&self, deployment: &Deployment) -> Result<Incoming<bytes::Bytes>> {
        let blob = self.0.ground.blobs.get(&deployment.blob_key, Range::ALL).await?;
        let lost = || {
            Error::new(Code::DataLoss, reason::STORAGE_ERROR, "the bundle of a deployment is gone from the blob store")
                .with_fact("deployment_id", deployment.deployment_id())
        };
        blob.map(|blob| blob.body).ok_or_else(lost)
    }

    async fn visible_type(&self, cx: &Context, agent_type: &str) -> Result<Option<AgentType>> {
        let found = self.0.types.get(agent_type).await?.map(|Stored { value, .. }| value);
        Ok(found.filter(|agent_type| is_visible(cx, &agent_type.tenant())))
    }
}

fn is_visible(cx: &Context, tenant: &TenantId) -> bool {
    tenant.is_shared() || cx.caller.owns(tenant)
}
