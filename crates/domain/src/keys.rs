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
mod peppers;
mod record;
mod resolve;
mod upkeep;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use portico_base::{
    Caller, Clock, Code, Context, Error, IdentityId, Result, Secret, TenantId, Timestamp,
    caller::{Proof, Role},
    id,
    page::{Page, PageRequest},
    reason,
    tasks::Tasks,
};
use portico_port::{
    bus::Bus,
    records::{Expect, Records, Write},
};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use self::{
    digest::{Digest, Names},
    live::Live,
    peppers::FIRST,
    record::{ACTIVE, ACTIVE_BY_TENANT, BY_KEY_ID, BY_TENANT, First},
    upkeep::Use,
};
pub use self::{
    peppers::Peppers,
    record::{
        ADMIN_PERMISSIONS, DEFAULT_PERMISSIONS, Key, KeyRole, NewKey, RATE_LIMIT_RPM_MAX, TENANT_PERMISSIONS, tenant_id,
    },
    resolve::{LOOK_UPS_IN_FLIGHT_MAX, unauthorized},
};
use super::{
    audit::Audit,
    table::{self, Stored, Table},
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
/// Keys that are counted in one go.
const STANDING_PAGE: usize = 500;
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
    peppers: Peppers,
    /// Names credentials for the cache.
    names: Names,
    bootstrap: Option<Bootstrap>,
    /// The prefixes of keys that credentials of another kind stand for, by id. They are few, and never change.
    bound: Mutex<HashMap<Box<str>, Arc<str>>>,
    live: Live,
    /// One look-up at a time for keys that share a lane, so that a cold key is looked up once and not by every caller.
    lanes: Box<[tokio::sync::Mutex<()>]>,
    /// Room for look-ups, which do not end with their callers.
    look_ups: Arc<Semaphore>,
    uses: mpsc::Sender<Use>,
    /// For look-ups, which go on without their callers.
    tasks: Tasks,
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
    /// What keys are digested under.
    pub peppers: Peppers,
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
    /// Cancelled when the key is revoked or expires: what it admitted ends then. Behind a pointer of its own, because a
    /// token counts its clones under a lock, and every call of the key has one.
    pub ended: Arc<CancellationToken>,
}

/// A pepper, and how many keys stand on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The id of the pepper.
    pub pepper_id: String,
    /// When it was made; zero for the first one.
    pub created_at: Timestamp,
    /// Whether new keys are digested under it.
    pub is_current: bool,
    /// Keys that are neither revoked nor expired and are digested under it.
    pub keys: u64,
}

struct Bootstrap {
    digest: Digest,
    prefix: String,
    resolved: Resolved,
    /// When it was last used through this gateway; 0 before the first time. It has no record to be noted in.
    used_at: AtomicI64,
}

impl Keys {
    /// The keys of a platform; `tasks` carries their upkeep and look-ups.
    ///
    /// # Errors
    /// `validation_failed` when the bootstrap key does not begin with `pod_admin_` or is shorter than 32 characters.
    pub fn new(parts: Parts, tasks: &Tasks) -> Result<Keys> {
        let (uses, queue) = mpsc::channel(WAITING_USES_MAX);
        let names = Names::new();
        let bootstrap = parts.bootstrap.map(|key| Bootstrap::new(&key, &names)).transpose()?;
        let keys = Keys(Arc::new(Inner {
            table: Table::new(parts.records),
            bus: parts.bus,
            clock: parts.clock,
            audit: parts.audit,
            peppers: parts.peppers,
            names,
            bootstrap,
            bound: Mutex::default(),
            live: Live::new(),
            lanes: resolve::lanes(),
            look_ups: Arc::new(Semaphore::new(LOOK_UPS_IN_FLIGHT_MAX)),
            uses,
            tasks: tasks.clone(),
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
        let made = self.0.create(cx, new, &[]).await;
        let made = made.and_then(|made| made.ok_or_else(|| Error::internal("no fresh key has a prefix of its own")));
        let subject = made.as_ref().map_or("", |(key, _)| key.key_id.as_str());
        self.0.audit.note(cx, "keys.create", subject, &made);
        made
    }

    /// Makes the first key, unless it was made before. Of gateways that do this at the same time one makes it.
    ///
    /// # Errors
    /// As for [`Keys::create`].
    pub async fn create_first(&self, cx: &Context, new: NewKey) -> Result<Option<(Key, Secret)>> {
        let first = table::write(&First {}, Expect::Absent)?;
        let made = self.0.create(cx, new, &[first]).await;
        if let Ok(Some((key, _))) = &made {
            self.0.audit.note(cx, "keys.create", &key.key_id, &made);
        }
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

    /// Makes a new pepper. Keys move to it as they are used; an earlier one is thrown away when no key needs it any more.
    ///
    /// # Errors
    /// `too_many_peppers`.
    pub async fn rotate_pepper(&self, cx: &Context) -> Result<Standing> {
        let rotated = self.0.peppers.rotate().await.map(|ring| {
            let current = ring.current();
            Standing { pepper_id: current.id.clone(), created_at: current.created_at, is_current: true, keys: 0 }
        });
        let subject = rotated.as_ref().map_or("", |standing| standing.pepper_id.as_str());
        self.0.audit.note(cx, "keys.rotate_pepper", subject, &rotated);
        rotated
    }

    /// The peppers, newest first, and how many keys stand on each.
    ///
    /// # Errors
    /// The store's.
    pub async fn peppers(&self) -> Result<Vec<Standing>> {
        let (ring, standing) = (self.0.peppers.read().await?, self.0.standing(self.0.clock.now()).await?);
        let current = ring.current();
        let shown = ring.all().iter().rev().map(|pepper| Standing {
            pepper_id: pepper.id.clone(),
            created_at: pepper.created_at,
            is_current: pepper.id == current.id,
            keys: standing.get(&pepper.id).copied().unwrap_or_default(),
        });
        Ok(shown.collect())
    }

    /// Revokes a key by its id, its prefix or the whole of it, and by nothing that only begins so. Revoking the key in use
    /// is allowed.
    ///
    /// # Errors
    /// `key_not_found` when there is none or it was revoked before; `cannot_revoke_bootstrap` for that one.
    pub async fn revoke(&self, cx: &Context, name: &str) -> Result<()> {
        let revoked = self.0.revoke(cx, name).await;
        self.0.audit.note(cx, "keys.revoke", grammar::without_secret(name), &revoked);
        revoked
    }
}

impl Inner {
    /// Makes a key together with these writes; none when one of them finds what it does not expect.
    async fn create(&self, cx: &Context, new: NewKey, others: &[Write]) -> Result<Option<(Key, Secret)>> {
        let now = cx.now();
        let new = new.checked(now)?;
        let ring = self.peppers.recent().await?;
        let pepper = ring.current();
        let mut key = Key {
            key_id: id::random("key_", 20),
            prefix: String::new(),
            digest: String::new(),
            pepper_id: pepper.id.clone(),
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
            key.digest = pepper.digester.digest(secret.reveal()).stored();
            if self.table.insert_with(&key, others).await? {
                return Ok(Some((key, secret)));
            }
        }
        Ok(None)
    }

    async fn revoke(&self, cx: &Context, name: &str) -> Result<()> {
        // The operator's own key need not be of the grammar.
        let is_bootstrap =
            |bootstrap: &Bootstrap| name == bootstrap.prefix || self.names.name(name) == bootstrap.digest;
        if name == BOOTSTRAP_ID || self.bootstrap.as_ref().is_some_and(is_bootstrap) {
            let message = "the bootstrap key is part of the configuration and is changed there";
            return Err(Error::new(Code::FailedPrecondition, reason::CANNOT_REVOKE_BOOTSTRAP, message));
        }
        let not_found = || Error::not_found(reason::KEY_NOT_FOUND, "key", grammar::without_secret(name));
        let id_or_prefix = match grammar::Kind::of(name) {
            Some(_) => grammar::named(name).ok_or_else(not_found)?,
            None => name,
        };
        for _ in 0..CHANGE_ATTEMPTS_MAX {
            let Stored { mut value, version } = self.find(id_or_prefix).await?.ok_or_else(not_found)?;
            if value.revoked_at.is_some() {
                // Whoever revoked it may have lost the store's answer, and told nobody.
                self.live.revoke(&value.prefix);
                self.tell(&value.prefix).await?;
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
        Err(portico_port::records::conflict())
    }

    /// How many keys that lived then and are not revoked stand on each pepper.
    async fn standing(&self, then: Timestamp) -> Result<HashMap<String, u64>> {
        let mut standing = HashMap::new();
        let mut page = PageRequest { limit: STANDING_PAGE, after: None };
        loop {
            let found = self.table.page(Some((ACTIVE, "yes")), &page).await?;
            for key in found.items.into_iter().map(|stored| stored.value).filter(|key| key.lives(then)) {
                *standing.entry(key.pepper_id).or_default() += 1;
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Ok(standing),
            }
        }
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
    fn new(key: &Secret, names: &Names) -> Result<Bootstrap> {
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
            digest: names.name(text),
            prefix: grammar::prefix(text).unwrap_or_default().to_owned(),
            resolved: Resolved { caller: Arc::new(caller), rate_limit_rpm: None, ended: Arc::default() },
            used_at: AtomicI64::new(0),
        })
    }

    /// Whose call it is, which is a use of the key.
    fn used(&self, now: Timestamp) -> Resolved {
        if now.since(Timestamp(self.used_at.load(Ordering::Relaxed))) >= live::NOTED_EVERY {
            self.used_at.store(now.0, Ordering::Relaxed);
        }
        self.resolved.clone()
    }

    fn shown(&self) -> Key {
        let permissions = TENANT_PERMISSIONS.iter().chain(ADMIN_PERMISSIONS).map(|&name| name.to_owned()).collect();
        Key {
            key_id: BOOTSTRAP_ID.to_owned(),
            prefix: self.prefix.clone(),
            digest: String::new(),
            pepper_id: FIRST.to_owned(),
            tenant_id: TenantId::shared().as_str().to_owned(),
            name: "bootstrap key of the configuration".to_owned(),
            permissions,
            role: KeyRole::Admin,
            created_at: Timestamp(0),
            expires_at: None,
            last_used_at: Some(Timestamp(self.used_at.load(Ordering::Relaxed))).filter(|at| at.0 > 0),
            revoked_at: None,
            rate_limit_rpm: None,
        }
    }
}
