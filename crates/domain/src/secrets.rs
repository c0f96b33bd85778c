//! Secrets of agent types, sealed at rest.
//!
//! A newcomer's usual mistake is to pass values around "for a moment". Names come out freely; values come out in two places
//! alone: to an administrator who asks, which is noted, and to an instance that begins.
//!
//! *Knows:* which secrets belong to which tenant and agent type, and their bounds. *Does not know:* how sealing works.

mod names;
mod reseal;
mod seal;

pub use self::reseal::Resealed;

use std::{collections::BTreeMap, sync::Arc};

use portico_base::{Code, Context, Error, Result, Secret, TenantId, Timestamp, reason};
use portico_port::{
    records::{self, Expect, Records},
    sealer::{Envelope, Sealer},
};
use serde::{Deserialize, Serialize};

use self::names::check;
use super::{
    agents,
    audit::Audit,
    keys::tenant_id,
    revision::IfMatch,
    table::{Entity, Stored, Table, by_time},
};

/// How often a change is tried again when another one wins.
const CHANGE_ATTEMPTS_MAX: usize = 8;

/// Secrets of agent types. Cheap to clone.
#[derive(Clone)]
pub struct Secrets {
    table: Table<Sealed>,
    sealer: Arc<dyn Sealer>,
    audit: Audit,
}

/// Names with their values.
pub type Values = BTreeMap<String, Secret>;

/// What is asked to be set.
#[derive(Clone, Debug)]
pub struct Change {
    /// Names with their new values. None takes a name away.
    pub values: BTreeMap<String, Option<Secret>>,
    /// What becomes of names that are not mentioned.
    pub mode: Mode,
}

/// What becomes of names that are not mentioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are taken away.
    Replace,
    /// They stay.
    Merge,
}

impl Mode {
    /// Reads the word; [`Mode::Replace`] when it is empty.
    ///
    /// # Errors
    /// `validation_failed` for another word.
    pub fn parse(word: &str) -> Result<Mode> {
        match word {
            "" | "replace" => Ok(Mode::Replace),
            "merge" => Ok(Mode::Merge),
            _ => Err(Error::invalid("mode", "must be `replace` or `merge`")),
        }
    }
}

/// What is stored for one agent type of one tenant, without values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The agent type.
    pub agent_type: String,
    /// The tenant.
    pub tenant_id: TenantId,
    /// The names, in order.
    pub names: Vec<String>,
    /// Counts the changes.
    pub version: u64,
    /// When it changed.
    pub updated_at: Timestamp,
}

#[derive(Clone, Serialize, Deserialize)]
struct Sealed {
    tenant_id: String,
    agent_type: String,
    /// Readable without opening.
    names: Vec<String>,
    envelope: Envelope,
    updated_at: Timestamp,
    updated_by: String,
}

impl Entity for Sealed {
    const COLLECTION: &'static str = "secrets";

    fn id(&self) -> String {
        place(&self.tenant_id, &self.agent_type)
    }

    fn sort(&self) -> String {
        by_time(self.updated_at)
    }

    fn facets(&self) -> Vec<(&'static str, String)> {
        vec![("tenant", self.tenant_id.clone())]
    }
}

impl Secrets {
    /// The secrets in this store.
    pub fn new(records: Arc<dyn Records>, sealer: Arc<dyn Sealer>, audit: Audit) -> Secrets {
        Secrets { table: Table::new(records), sealer, audit }
    }

    /// Sets the secrets of an agent type, which need not exist yet. Administrators may name another tenant than theirs.
    ///
    /// # Errors
    /// `validation_failed`, `version_mismatch` when `if-match` names another version, `admin_required` for a stranger's
    /// tenant, `secrets_undecryptable` when merging into what cannot be opened.
    pub async fn set(&self, cx: &Context, agent: &str, tenant: &str, change: Change) -> Result<Listing> {
        let set = self.put(cx, agent, tenant, change).await;
        self.audit.note(cx, "secrets.set", &self.subject(cx, agent, tenant), &set);
        set
    }

    /// What is stored for an agent type, and its values if they are to be revealed.
    ///
    /// # Errors
    /// `secrets_not_found`; `secrets_undecryptable` rather than a part of the values.
    pub async fn get(
        &self,
        cx: &Context,
        agent: &str,
        tenant: &str,
        reveal: bool,
    ) -> Result<(Listing, Option<Values>)> {
        let got = self.read(cx, agent, tenant, reveal).await;
        let action = if reveal { "secrets.reveal" } else { "secrets.list" };
        self.audit.note(cx, action, &self.subject(cx, agent, tenant), &got);
        got
    }

    /// The opened secrets that this tenant stored for an agent type; none if there are none. For an instance that begins.
    ///
    /// # Errors
    /// `secrets_undecryptable`.
    pub async fn opened(&self, tenant: &TenantId, agent: &str) -> Result<Values> {
        match self.table.get(&place(tenant.as_str(), agent)).await? {
            Some(stored) => self.open(&stored.value).await,
            None => Ok(Values::new()),
        }
    }

    /// The tenant's secrets over those that administrators stored for everyone. Only for deployments that administrators
    /// own: a tenant's code must not be given what administrators keep for theirs.
    ///
    /// # Errors
    /// `secrets_undecryptable`.
    pub async fn opened_over_shared(&self, tenant: &TenantId, agent: &str) -> Result<Values> {
        let mut values = self.opened(&TenantId::shared(), agent).await?;
        if !tenant.is_shared() {
            values.extend(self.opened(tenant, agent).await?);
        }
        Ok(values)
    }

    async fn put(&self, cx: &Context, agent: &str, tenant: &str, change: Change) -> Result<Listing> {
        agents::check_type(agent)?;
        let tenant = scope(cx, tenant)?;
        let if_match = IfMatch::of(cx);
        for _ in 0..CHANGE_ATTEMPTS_MAX {
            let stored = self.table.get(&place(tenant.as_str(), agent)).await?;
            let version = stored.as_ref().map_or(0, |stored| stored.version);
            if_match.check(version, version > 0)?;
            let mut values = match (&stored, change.mode) {
                (Some(stored), Mode::Merge) => self.open(&stored.value).await?,
                _ => Values::new(),
            };
            for (name, value) in &change.values {
                match value {
                    Some(value) => values.insert(name.clone(), value.clone()),
                    None => values.remove(name),
                };
            }
            let sealed = self.seal(cx, agent, &tenant, &values).await?;
            let expect = if version == 0 { Expect::Absent } else { Expect::Version(version) };
            match self.table.put(&sealed, expect).await {
                Ok(version) => return Ok(sealed.listing(version)),
                Err(error) if error.reason() == reason::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Err(records::conflict())
    }

    async fn read(&self, cx: &Context, agent: &str, tenant: &str, reveal: bool) -> Result<(Listing, Option<Values>)> {
        agents::check_type(agent)?;
        let tenant = scope(cx, tenant)?;
        let stored = self.table.get(&place(tenant.as_str(), agent)).await?;
        let Stored { value, version } = stored.ok_or_else(|| {
            Error::new(Code::NotFound, reason::SECRETS_NOT_FOUND, format!("no secrets are stored for {agent}"))
        })?;
        let values = if reveal { Some(self.open(&value).await?) } else { None };
        Ok((value.listing(version), values))
    }

    async fn seal(&self, cx: &Context, agent: &str, tenant: &TenantId, values: &Values) -> Result<Sealed> {
        check(values)?;
        let plain = seal::write(values)?;
        Ok(Sealed {
            tenant_id: tenant.as_str().to_owned(),
            agent_type: agent.to_owned(),
            names: values.keys().cloned().collect(),
            envelope: self.sealer.seal(&sealing_place(tenant.as_str(), agent), &plain).await?,
            updated_at: cx.now(),
            updated_by: cx.caller.key_id().unwrap_or(cx.caller.identity.as_str()).to_owned(),
        })
    }

    async fn open(&self, sealed: &Sealed) -> Result<Values> {
        let place = sealing_place(&sealed.tenant_id, &sealed.agent_type);
        seal::read(&self.sealer.open(&place, &sealed.envelope).await?)
    }

    fn subject(&self, cx: &Context, agent: &str, tenant: &str) -> String {
        let tenant = if tenant.is_empty() { cx.caller.tenant.as_str() } else { tenant };
        place(tenant, agent)
    }
}

impl Sealed {
    fn listing(self, version: u64) -> Listing {
        Listing {
            agent_type: self.agent_type,
            tenant_id: TenantId::new(self.tenant_id),
            names: self.names,
            version,
            updated_at: self.updated_at,
        }
    }
}

/// Whose secrets are meant: the caller's, or those of a tenant that an administrator names.
fn scope(cx: &Context, tenant: &str) -> Result<TenantId> {
    if tenant.is_empty() || tenant == cx.caller.tenant.as_str() {
        return Ok(cx.caller.tenant.clone());
    }
    if !cx.caller.is_admin() {
        let message = "only an administrator may name another tenant";
        return Err(Error::new(Code::PermissionDenied, reason::ADMIN_REQUIRED, message));
    }
    tenant_id("tenant_id", tenant)
}

fn place(tenant: &str, agent: &str) -> String {
    format!("{tenant}/{agent}")
}

/// What binds an envelope to its place. Tenants and agent types do not contain `|`.
fn sealing_place(tenant: &str, agent: &str) -> String {
    format!("podium-secrets|v1|{tenant}|{agent}")
}
