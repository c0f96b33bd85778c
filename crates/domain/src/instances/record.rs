//! What is written down of instances.

use portico_base::{TenantId, Timestamp};
use portico_port::fleet::{At, Incarnation, State};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::table::{Entity, by_time};

/// The facet of whose they are.
pub(super) const TENANT: &str = "tenant";
/// The facet of those on their way to a host (`deploying`), and of those that run (`live`).
pub(super) const STANDING: &str = "standing";

/// The facet of those that a host must still be told to stop.
pub(super) const OWED: &str = "owed";

/// An instance, as it is known without asking its host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id, which is its agent's id too.
    pub id: String,
    /// Whose it is.
    pub tenant_id: String,
    /// The key that created it.
    pub key_id: Option<String>,
    /// What it runs.
    pub deployment_id: String,
    /// The agent type.
    pub agent_type: String,
    /// The version.
    pub version: String,
    /// The host that was chosen.
    pub coordinator_id: Option<String>,
    /// The host's epoch then: in another one the instance is gone.
    pub epoch: String,
    /// Which of the instances that have this id in turn.
    #[serde(default)]
    pub incarnation: Incarnation,
    /// The state that was last known.
    pub status: String,
    /// The configuration, redacted before it was stored.
    pub config: Map<String, Value>,
    /// The members of its configuration that its request gave; changed defaults do not touch them.
    #[serde(default)]
    pub own_config: Vec<String>,
    /// The address of its Chronicle, when there is one.
    pub chronicle: Option<String>,
    /// What the request said, as a digest, to know a repetition.
    pub fingerprint: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When this record changed.
    pub updated_at: Timestamp,
    /// When it was deleted. What is kept then is only the knowledge that it was.
    pub deleted_at: Option<Timestamp>,
    /// When the record ceases to be.
    pub expires_at: Option<Timestamp>,
    /// Whether its host, which was away when it was deleted, must still be told to stop it.
    #[serde(default)]
    pub owed: bool,
    /// The idempotency key of the request that created it.
    #[serde(default)]
    pub request: Option<String>,
}

impl Instance {
    /// Whose it is.
    pub fn tenant(&self) -> TenantId {
        TenantId::new(self.tenant_id.as_str())
    }

    /// Where it runs, once a host was chosen.
    pub fn at(&self) -> Option<At> {
        self.coordinator_id.as_ref().map(|host| At::new(host, &self.id).of(self.incarnation.clone()))
    }

    /// The host that was chosen; empty while none is.
    pub fn host(&self) -> &str {
        self.coordinator_id.as_deref().unwrap_or_default()
    }

    /// Whether it is about to end by an order.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(State::parse(&self.status), State::ShuttingDown | State::ScalingDown)
    }

    /// Whether it was deleted.
    pub fn is_tombstone(&self) -> bool {
        self.deleted_at.is_some()
    }

    /// Whether both are pictures of one instance: an id may be taken anew after a deletion.
    pub(super) fn is_same(&self, other: &Instance) -> bool {
        let looks_same = self.created_at == other.created_at && self.fingerprint == other.fingerprint;
        self.id == other.id
            && self.tenant_id == other.tenant_id
            && looks_same
            && self.incarnation.may_be(&other.incarnation)
    }

    fn standing(&self) -> &'static str {
        match State::parse(&self.status) {
            _ if self.is_tombstone() => "deleted",
            State::Deploying => "deploying",
            state if state.is_over() => "ended",
            _ => "live",
        }
    }
}

impl Entity for Instance {
    const COLLECTION: &'static str = "instances";

    fn id(&self) -> String {
        self.id.clone()
    }

    fn sort(&self) -> String {
        by_time(self.created_at)
    }

    fn facets(&self) -> Vec<(&'static str, String)> {
        let mut facets = vec![(TENANT, self.tenant_id.clone()), (STANDING, self.standing().to_owned())];
        if self.owed {
            facets.push((OWED, "yes".to_owned()));
        }
        facets
    }

    fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }
}

/// An idempotency key that was used, and what was created then: its answer, when nothing else is written down of that any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) tenant_id: String,
    pub(super) key: String,
    pub(super) fingerprint: String,
    pub(super) instance: String,
    /// Which of the instances that have this id in turn.
    #[serde(default)]
    incarnation: Incarnation,
    #[serde(default)]
    deployment_id: String,
    #[serde(default)]
    agent_type: String,
    #[serde(default)]
    version: String,
    pub(super) at: Timestamp,
    pub(super) until: Timestamp,
}

impl Request {
    /// The request that created this instance, if it has a name, to be known until then.
    pub(super) fn of(instance: &Instance, until: Timestamp) -> Option<Request> {
        Some(Request {
            tenant_id: instance.tenant_id.clone(),
            key: instance.request.clone()?,
            fingerprint: instance.fingerprint.clone(),
            instance: instance.id.clone(),
            incarnation: instance.incarnation.clone(),
            deployment_id: instance.deployment_id.clone(),
            agent_type: instance.agent_type.clone(),
            version: instance.version.clone(),
            at: instance.created_at,
            until,
        })
    }

    /// Whether this is what it created. The id may have been given to another one since.
    pub(super) fn created(&self, instance: &Instance) -> bool {
        let looks_same = self.tenant_id == instance.tenant_id && self.fingerprint == instance.fingerprint;
        let is_as_old = self.at == instance.created_at;
        self.instance == instance.id && looks_same && is_as_old && self.incarnation.may_be(&instance.incarnation)
    }

    /// What it created, now that it is gone.
    pub(super) fn gone(self) -> Instance {
        Instance {
            id: self.instance,
            tenant_id: self.tenant_id,
            key_id: None,
            deployment_id: self.deployment_id,
            agent_type: self.agent_type,
            version: self.version,
            coordinator_id: None,
            epoch: String::new(),
            incarnation: self.incarnation,
            status: State::Terminated.to_string(),
            config: Map::new(),
            own_config: Vec::new(),
            chronicle: None,
            fingerprint: self.fingerprint,
            created_at: self.at,
            updated_at: self.at,
            deleted_at: None,
            expires_at: Some(self.until),
            owed: false,
            request: Some(self.key),
        }
    }

    /// Its id. No tenant contains a slash.
    pub(super) fn place(tenant: &str, key: &str) -> String {
        format!("{tenant}/{key}")
    }
}

impl Entity for Request {
    const COLLECTION: &'static str = "instance_requests";

    fn id(&self) -> String {
        Request::place(&self.tenant_id, &self.key)
    }

    fn sort(&self) -> String {
        by_time(self.at)
    }

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.until)
    }
}
