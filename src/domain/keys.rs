//! API keys: made once, known by a digest, refused everywhere within a second of being revoked.
//!
//! A newcomer's usual mistake is to tell a caller why its key was refused. Malformed, unknown, revoked, expired: one
//! answer, so that nothing is learned by guessing. Only a store out of reach is another thing: that is *unavailable*, never
//! *unauthorized*, because clients give up their sessions on the latter.
//!
//! *Knows:* the life of a key and how one resolves to a caller. *Does not know:* headers, rates, which method is called.

pub mod grammar;

mod digest;
mod live;
mod record;
mod resolve;
mod upkeep;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::{
    digest::Digest,
    live::{Live, LiveKey},
    record::{ACTIVE, ACTIVE_BY_TENANT, BY_KEY_ID, BY_TENANT},
};
pub use self::{
    digest::Digester,
    record::{
        ADMIN_PERMISSIONS, DEFAULT_PERMISSIONS, Key, KeyRole, NewKey, RATE_LIMIT_RPM_MAX, TENANT_PERMISSIONS, tenant_id,
    },
    resolve::unauthorized,
};
use super::{
    audit::Audit,
    table::{Stored, Table},
};
use crate::{
    base::{
        Caller, Clock, Code, Context, Error, IdentityId, Result, Secret, TenantId, Timestamp,
        caller::{Proof, Role},
        id,
        page::{Page, PageRequest},
        reason,
        tasks::Tasks,
    },
    port::{
        bus::Bus,
        records::{Expect, Records},
    },
};

/// The id of the admin key that lives in the configuration.
pub const BOOTSTRAP_ID: &str = "bootstrap";
/// Shortest bootstrap key.
pub const BOOTSTRAP_CHARACTERS_MIN: usize = 32;
/// The topic that tells every gateway which key was revoked, by its prefix.
const REVOKED_TOPIC: &str = "podium.keys.revoked";
/// Fresh keys tried until one has a prefix of its own; two collisions in a row do not happen among 62^8.
const PREFIX_ATTEMPTS_MAX: usize = 4;
/// How often a change is tried again when another one wins.
const CHANGE_ATTEMPTS_MAX: usize = 8;
/// Uses that may wait to be noted. One that finds no room is noted a minute later.
const WAITING_USES_MAX: usize = 1_024;

/// API keys. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    table: Table<Key>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    audit: Audit,
    digester: Digester,
    bootstrap: Option<Bootstrap>,
    /// Keys that credentials of another kind stand for, by id. They are few, and what is kept of them never changes.
    bound: Mutex<HashMap<Box<str>, Arc<Bound>>>,
    live: Live,
    /// One look-up at a time for keys that share a lane, so that a cold key is looked up once and not by every caller.
    lanes: Box<[tokio::sync::Mutex<()>]>,
    uses: mpsc::Sender<Arc<LiveKey>>,
}

/// What keys are made of.
pub struct Parts {
    /// Where they are stored.
    pub records: Arc<dyn Records>,
    /// How other gateways hear of revocations.
    pub bus: Arc<dyn Bus>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where changes are noted.
    pub audit: Audit,
    /// How keys become digests.
    pub digester: Digester,
    /// The admin key of the configuration.
    pub bootstrap: Option<Secret>,
}

/// What a key resolves to. Cheap to clone.
#[derive(Clone)]
pub struct Resolved {
    /// Who calls.
    pub caller: Arc<Caller>,
    /// Requests per minute; the platform's default when none.
    pub rate_limit_rpm: Option<u32>,
    /// Cancelled when the key is revoked or expires: what it admitted ends then.
    pub ended: CancellationToken,
}

/// What finds the resolution of a key that is not presented.
struct Bound {
    prefix: String,
    digest: Digest,
}

struct Bootstrap {
    digest: Digest,
    prefix: String,
    resolved: Resolved,
}

impl Keys {
    /// The keys of a platform; `tasks` carries their upkeep.
    ///
    /// # Errors
    /// `validation_failed` when the bootstrap key does not begin with `pod_admin_` or is shorter than 32 characters.
    pub fn new(parts: Parts, tasks: &Tasks) -> Result<Keys> {
        let (uses, queue) = mpsc::channel(WAITING_USES_MAX);
        let bootstrap = parts.bootstrap.map(|key| Bootstrap::new(&key, &parts.digester)).transpose()?;
        let keys = Keys(Arc::new(Inner {
            table: Table::new(parts.records),
            bus: parts.bus,
            clock: parts.clock,
            audit: parts.audit,
            digester: parts.digester,
            bootstrap,
            bound: Mutex::default(),
            live: Live::new(),
            lanes: resolve::lanes(),
            uses,
        }));
        tasks.spawn(upkeep::run(Arc::downgrade(&keys.0), queue, tasks.clone()));
        Ok(keys)
    }

    /// Who presents this key.
    ///
    /// # Errors
    /// `unauthorized` for every kind of refusal; `auth_unavailable` when the store is out of reach.
    pub async fn resolve(&self, presented: &str) -> Result<Resolved> {
        self.0.resolve(presented).await
    }

    /// Who calls by a proven credential of another kind that the operator bound to this key. It is worth what the key is
    /// worth, and ends with it.
    ///
    /// # Errors
    /// `unauthorized` when there is no such key or it admits nobody any more; `auth_unavailable` when the store is out of
    /// reach.
    pub async fn resolve_bound(&self, key_id: &str) -> Result<Resolved> {
        self.0.resolve_bound(key_id).await
    }

    /// Makes a key. The secret is returned this once.
    ///
    /// # Errors
    /// `validation_failed` with the field that breaks a rule.
    pub async fn create(&self, cx: &Context, new: NewKey) -> Result<(Key, Secret)> {
        let made = self.0.create(cx, new).await;
        let subject = made.as_ref().map_or("", |(key, _)| key.key_id.as_str());
        self.0.audit.note(cx, "keys.create", subject, &made);
        made
    }

    /// A page of keys without their secrets, newest first; the bootstrap key is the oldest.
    ///
    /// # Errors
    /// `validation_failed` when the tenant is not one.
    pub async fn list(&self, tenant: &str, revoked_too: bool, page: &PageRequest) -> Result<Page<Key>> {
        let facet = match (tenant, revoked_too) {
            ("", true) => None,
            ("", false) => Some((ACTIVE, "yes")),
            (tenant, true) => Some((BY_TENANT, tenant)),
            (tenant, false) => Some((ACTIVE_BY_TENANT, tenant)),
        };
        if !tenant.is_empty() {
            tenant_id("tenant_id", tenant)?;
        }
        let mut keys = self.0.table.page(facet, page).await?.map(|stored| stored.value);
        if tenant.is_empty()
            && keys.items.len() < page.limit
            && let Some(bootstrap) = &self.0.bootstrap
        {
            keys.items.push(bootstrap.shown());
        }
        Ok(keys)
    }

    /// Revokes a key by its id or its prefix; a whole key stands for its prefix. Revoking the key in use is allowed.
    ///
    /// # Errors
    /// `key_not_found` when there is none or it was revoked before; `cannot_revoke_bootstrap` for that one.
    pub async fn revoke(&self, cx: &Context, id_or_prefix: &str) -> Result<()> {
        let name = grammar::without_secret(id_or_prefix);
        let revoked = self.0.revoke(cx, name).await;
        self.0.audit.note(cx, "keys.revoke", name, &revoked);
        revoked
    }
}

impl Inner {
    async fn create(&self, cx: &Context, new: NewKey) -> Result<(Key, Secret)> {
        let now = cx.now();
        let new = new.checked(now)?;
        let mut key = Key {
            key_id: id::random("key_", 20),
            prefix: String::new(),
            digest: String::new(),
            tenant_id: new.tenant_id,
            name: new.name,
            permissions: new.permissions,
            role: new.role,
            created_at: now,
            expires_at: new.expires_at,
            last_used_at: None,
            revoked_at: None,
            rate_limit_rpm: (new.rate_limit_rpm > 0).then_some(new.rate_limit_rpm),
        };
        for _ in 0..PREFIX_ATTEMPTS_MAX {
            let secret = grammar::generate(key.role.kind());
            key.prefix = grammar::prefix(secret.reveal()).unwrap_or_default().to_owned();
            key.digest = self.digester.digest(secret.reveal()).stored();
            if self.table.insert(&key).await? {
                return Ok((key, secret));
            }
        }
        Err(Error::internal("no fresh key has a prefix of its own"))
    }

    async fn revoke(&self, cx: &Context, id_or_prefix: &str) -> Result<()> {
        let is_bootstrap = |bootstrap: &Bootstrap| id_or_prefix == bootstrap.prefix;
        if id_or_prefix == BOOTSTRAP_ID || self.bootstrap.as_ref().is_some_and(is_bootstrap) {
            let message = "the bootstrap key is part of the configuration and is changed there";
            return Err(Error::new(Code::FailedPrecondition, reason::CANNOT_REVOKE_BOOTSTRAP, message));
        }
        let not_found = || Error::not_found(reason::KEY_NOT_FOUND, "key", id_or_prefix);
        for _ in 0..CHANGE_ATTEMPTS_MAX {
            let Stored { mut value, version } = self.find(id_or_prefix).await?.ok_or_else(not_found)?;
            if value.revoked_at.is_some() {
                return Err(not_found());
            }
            value.revoked_at = Some(cx.now());
            match self.table.put(&value, Expect::Version(version)).await {
                Ok(_) => {
                    self.live.revoke(&value.prefix);
                    return self.tell(&value.prefix).await;
                }
                Err(error) if error.reason() == reason::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Err(crate::port::records::conflict())
    }

    /// The key with this id or prefix.
    async fn find(&self, id_or_prefix: &str) -> Result<Option<Stored<Key>>> {
        if grammar::Kind::of(id_or_prefix).is_some() {
            return self.table.get(id_or_prefix).await;
        }
        let one = PageRequest { limit: 1, after: None };
        let mut found = self.table.page(Some((BY_KEY_ID, id_or_prefix)), &one).await?;
        Ok(found.items.pop())
    }

    /// Tells the other gateways. The revocation stands if that fails; they notice when they look the key up again.
    async fn tell(&self, prefix: &str) -> Result<()> {
        if let Err(error) = self.bus.publish(REVOKED_TOPIC, prefix.to_owned()).await {
            tracing::warn!(prefix, error = error.report(), "other gateways could not be told that a key is revoked");
        }
        Ok(())
    }
}

impl Bootstrap {
    fn new(key: &Secret, digester: &Digester) -> Result<Bootstrap> {
        let text = key.reveal();
        let fits = (BOOTSTRAP_CHARACTERS_MIN..=grammar::CHARACTERS_MAX).contains(&text.len())
            && text.starts_with(grammar::ADMIN_KIND)
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !fits {
            let problem = format!(
                "must begin with `{}` and have {BOOTSTRAP_CHARACTERS_MIN} to {} visible ASCII characters",
                grammar::ADMIN_KIND,
                grammar::CHARACTERS_MAX
            );
            return Err(Error::invalid("admin_api_key", problem));
        }
        let caller = Caller {
            identity: IdentityId::new(BOOTSTRAP_ID),
            tenant: TenantId::shared(),
            role: Role::Admin,
            permissions: Arc::from([]),
            proof: Proof::Key(BOOTSTRAP_ID.into()),
        };
        Ok(Bootstrap {
            digest: digester.digest(text),
            prefix: grammar::prefix(text).unwrap_or_default().to_owned(),
            resolved: Resolved { caller: Arc::new(caller), rate_limit_rpm: None, ended: CancellationToken::new() },
        })
    }

    fn shown(&self) -> Key {
        let permissions = TENANT_PERMISSIONS.iter().chain(ADMIN_PERMISSIONS).map(|&name| name.to_owned()).collect();
        Key {
            key_id: BOOTSTRAP_ID.to_owned(),
            prefix: self.prefix.clone(),
            digest: String::new(),
            tenant_id: TenantId::shared().as_str().to_owned(),
            name: "bootstrap key of the configuration".to_owned(),
            permissions,
            role: KeyRole::Admin,
            created_at: Timestamp(0),
            expires_at: None,
            last_used_at: None,
            revoked_at: None,
            rate_limit_rpm: None,
        }
    }
}
