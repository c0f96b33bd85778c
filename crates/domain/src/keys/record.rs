//! A key as it is stored and shown: everything but the key itself.
//!
//! A newcomer's usual mistake is to look for the secret. It was shown once; what is stored is a prefix to find it by and a
//! digest to know it by.
//!
//! *Knows:* the fields of a key and the rules for a new one. *Does not know:* stores, callers.

use portico_base::{Error, Result, TenantId, Timestamp, caller::Role};
use serde::{Deserialize, Serialize};

use super::{digest::Digest, grammar::Kind, peppers::FIRST};
use crate::table::{Entity, by_time};

/// What a key may allow its tenant.
pub const TENANT_PERMISSIONS: &[&str] = &[
    "agent:connect",
    "config:read",
    "deployments:read",
    "deployments:write",
    "instances:read",
    "instances:write",
    "logs:read",
    "secrets:write",
];
/// What a tenant's key allows when nothing was asked for: all of it but new code.
pub const DEFAULT_PERMISSIONS: &[&str] = &[
    "agent:connect",
    "config:read",
    "deployments:read",
    "instances:read",
    "instances:write",
    "logs:read",
    "secrets:write",
];
/// What an administrator's key allows beyond that. Listed for readers; administrators may do everything.
pub const ADMIN_PERMISSIONS: &[&str] = &["config:write", "keys:read", "keys:write", "secrets:read"];
/// Longest label.
const NAME_CHARACTERS_MAX: usize = 100;
/// Longest tenant id.
const TENANT_CHARACTERS_MAX: usize = 64;
/// Highest rate that a key may ask for; far beyond what one gateway serves.
pub const RATE_LIMIT_RPM_MAX: u32 = 10_000_000;

/// Lists the keys of a tenant, revoked ones included.
pub(super) const BY_TENANT: &str = "tenant";
/// Lists the keys that are not revoked.
pub(super) const ACTIVE: &str = "active";
/// Lists the keys of a tenant that are not revoked.
pub(super) const ACTIVE_BY_TENANT: &str = "active_tenant";
/// Finds a key by its id.
pub(super) const BY_KEY_ID: &str = "key_id";

/// A key without its secret. Stored by its prefix.
#[derive(Clone, Serialize, Deserialize)]
pub struct Key {
    /// Its id.
    pub key_id: String,
    /// The part that may be shown.
    pub prefix: String,
    /// The digest of the whole.
    pub(super) digest: String,
    /// The pepper that it was made under.
    #[serde(default = "first_pepper")]
    pub pepper_id: String,
    /// The tenant that it acts for.
    pub tenant_id: String,
    /// Its label.
    pub name: String,
    /// What it may do.
    pub permissions: Vec<String>,
    /// Whom it is for.
    pub role: KeyRole,
    /// When it was made; zero for the bootstrap key.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, within a minute.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Requests per minute; the platform's default when none.
    pub rate_limit_rpm: Option<u32>,
}

impl Key {
    /// Whether it is neither revoked nor expired.
    pub(super) fn lives(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| at > now)
    }

    /// Whether this is its digest, under its own pepper.
    pub(super) fn is_digested_as(&self, digest: &Digest) -> bool {
        Digest::read(&self.digest).is_some_and(|stored| stored == *digest)
    }

    /// An administrator is one who has an administrator's key that was stored as such; either alone grants nothing.
    pub(super) fn granted(&self, kind: Kind) -> Role {
        match (kind, self.role) {
            (Kind::Admin, KeyRole::Admin) => Role::Admin,
            _ => Role::Tenant,
        }
    }
}

/// Keys of before there was another one.
fn first_pepper() -> String {
    FIRST.to_owned()
}

impl Entity for Key {
    const COLLECTION: &'static str = "keys";

    fn id(&self) -> String {
        self.prefix.clone()
    }

    fn sort(&self) -> String {
        by_time(self.created_at)
    }

    fn facets(&self) -> Vec<(&'static str, String)> {
        let mut facets = vec![(BY_KEY_ID, self.key_id.clone()), (BY_TENANT, self.tenant_id.clone())];
        if self.revoked_at.is_none() {
            facets.extend([(ACTIVE, "yes".to_owned()), (ACTIVE_BY_TENANT, self.tenant_id.clone())]);
        }
        facets
    }
}

/// Says that the first key was made. There is one at most, so whoever stores it made that key.
#[derive(Serialize, Deserialize)]
pub(super) struct First {}

impl Entity for First {
    const COLLECTION: &'static str = "first_key";

    fn id(&self) -> String {
        "this".to_owned()
    }

    fn sort(&self) -> String {
        by_time(Timestamp(0))
    }
}

/// Whom a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyRole {
    /// A tenant.
    Tenant,
    /// An administrator.
    Admin,
}

impl KeyRole {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            KeyRole::Tenant => "tenant",
            KeyRole::Admin => "admin",
        }
    }

    /// Reads the word; a tenant when it is empty.
    ///
    /// # Errors
    /// `validation_failed` for another word.
    pub fn parse(word: &str) -> Result<KeyRole> {
        match word {
            "" | "tenant" => Ok(KeyRole::Tenant),
            "admin" => Ok(KeyRole::Admin),
            _ => Err(Error::invalid("role", "must be `tenant` or `admin`")),
        }
    }

    pub(super) const fn kind(self) -> Kind {
        match self {
            KeyRole::Tenant => Kind::Tenant,
            KeyRole::Admin => Kind::Admin,
        }
    }
}

/// What is asked of a new key.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The tenant that it acts for.
    pub tenant_id: String,
    /// Its label.
    pub name: String,
    /// What it may do; the default set when empty.
    pub permissions: Vec<String>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Whom it is for.
    pub role: KeyRole,
    /// Requests per minute; the platform's default when zero.
    pub rate_limit_rpm: u32,
}

impl NewKey {
    /// Fills in the default permissions and puts them in order.
    ///
    /// # Errors
    /// `validation_failed` with the field that breaks a rule.
    pub(super) fn checked(mut self, now: Timestamp) -> Result<NewKey> {
        tenant_id("tenant_id", &self.tenant_id)?;
        if self.name.chars().count() > NAME_CHARACTERS_MAX || self.name.chars().any(char::is_control) {
            let problem = format!("must be at most {NAME_CHARACTERS_MAX} characters without control characters");
            return Err(Error::invalid("name", problem));
        }
        if self.expires_at.is_some_and(|at| at <= now) {
            return Err(Error::invalid("expires_at", "must lie ahead"));
        }
        if self.rate_limit_rpm > RATE_LIMIT_RPM_MAX {
            return Err(Error::invalid("rate_limit_rpm", format!("must be at most {RATE_LIMIT_RPM_MAX}")));
        }
        let (defaults, more) = match self.role {
            KeyRole::Tenant => (DEFAULT_PERMISSIONS, &[][..]),
            KeyRole::Admin => (TENANT_PERMISSIONS, ADMIN_PERMISSIONS),
        };
        if self.role == KeyRole::Admin && !self.permissions.is_empty() {
            let problem = "must be empty for an administrator's key, which may do everything";
            return Err(Error::invalid("permissions", problem));
        }
        let known = |permission: &str| TENANT_PERMISSIONS.contains(&permission) || more.contains(&permission);
        if let Some(at) = self.permissions.iter().position(|permission| !known(permission)) {
            let known = [TENANT_PERMISSIONS, more].concat().join(", ");
            return Err(Error::invalid(format!("permissions[{at}]"), format!("must be one of {known}")));
        }
        if self.permissions.is_empty() {
            self.permissions = defaults.iter().chain(more).map(|&permission| permission.to_owned()).collect();
        }
        self.permissions.sort_unstable();
        self.permissions.dedup();
        Ok(self)
    }
}

/// Reads a tenant id: 1 to 64 letters, digits, `_` or `-`.
///
/// # Errors
/// `validation_failed` naming the field.
pub fn tenant_id(field: &str, text: &str) -> Result<TenantId> {
    let fits = (1..=TENANT_CHARACTERS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if fits {
        Ok(TenantId::new(text))
    } else {
        Err(Error::invalid(field, "must be 1 to 64 letters, digits, `_` or `-`"))
    }
}
