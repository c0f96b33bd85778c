//! What is written down of deployments and of agent types.
//!
//! *Knows:* records. *Does not know:* how they come about.

use portico_base::{Error, TenantId, Timestamp, reason};
use serde::{Deserialize, Serialize};

use super::name::{HASH_PREFIX_CHARACTERS, record_id};
use crate::table::{Entity, by_time};

/// The facet of whose things they are.
pub(super) const TENANT: &str = "tenant";
/// The facet of an agent type.
pub(super) const AGENT_TYPE: &str = "agent_type";

/// An immutable version of an agent type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The agent type.
    pub agent_type: String,
    /// The version.
    pub version: String,
    /// The SHA-256 of the bundle, in lower-case hex.
    pub checksum: String,
    /// The size of the bundle.
    pub size_bytes: u64,
    /// Where the bundle lies in the blob store.
    pub blob_key: String,
    /// The owner: a tenant, or `*` for all.
    pub tenant_id: String,
    /// When it was stored.
    pub created_at: Timestamp,
    /// The identity that uploaded it.
    pub created_by: String,
    /// The host that has fetched it at once, if one has.
    pub coordinator_id: Option<String>,
}

impl Deployment {
    /// `{type}:{version}@{hash_prefix}`.
    pub fn deployment_id(&self) -> String {
        let hash = self.checksum.get(..HASH_PREFIX_CHARACTERS).unwrap_or(&self.checksum);
        // Joined, not formatted: every answer has one, and formatting costs ten times as much.
        [&self.agent_type, ":", &self.version, "@", hash].concat()
    }

    /// Whose it is.
    pub fn tenant(&self) -> TenantId {
        TenantId::new(self.tenant_id.as_str())
    }
}

impl Entity for Deployment {
    const COLLECTION: &'static str = "deployments";

    fn id(&self) -> String {
        record_id(&self.agent_type, &self.version)
    }

    fn sort(&self) -> String {
        by_time(self.created_at)
    }

    fn facets(&self) -> Vec<(&'static str, String)> {
        vec![(TENANT, self.tenant_id.clone()), (AGENT_TYPE, self.agent_type.clone())]
    }
}

/// An agent type: the name belongs to whoever used it first, and every version of it to the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AgentType {
    pub(super) agent_type: String,
    pub(super) tenant_id: String,
    /// The version that was stored last.
    pub(super) latest: String,
    pub(super) latest_at: Timestamp,
}

impl AgentType {
    /// The id of the record of its newest deployment.
    pub(super) fn latest_id(&self) -> String {
        record_id(&self.agent_type, &self.latest)
    }

    pub(super) fn tenant(&self) -> TenantId {
        TenantId::new(self.tenant_id.as_str())
    }
}

impl Entity for AgentType {
    const COLLECTION: &'static str = "agent_types";

    fn id(&self) -> String {
        self.agent_type.clone()
    }

    fn sort(&self) -> String {
        by_time(self.latest_at)
    }

    fn facets(&self) -> Vec<(&'static str, String)> {
        vec![(TENANT, self.tenant_id.clone())]
    }
}

pub(super) fn not_found(wanted: &str) -> Error {
    Error::not_found(reason::DEPLOYMENT_NOT_FOUND, "deployment", wanted)
}
