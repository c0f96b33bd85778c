//! What administrators may change while the platform runs.
//!
//! A newcomer's usual mistake is to look here for what an operator decides before start; that is *config*, and does not
//! change. Settings are a record, and everybody who depends on one watches it, so that a change holds at once.
//!
//! *Knows:* defaults, overrides by agent type, limits, features, their versions. *Does not know:* models, how it is printed.

mod merge;
mod rules;
mod watch;

pub use self::merge::merge;

use std::sync::Arc;

use portico_base::{Clock, Context, Error, Result, Timestamp, reason, tasks::Tasks};
use portico_port::{
    bus::Bus,
    records::{self, Expect, Records},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::watch as channel;

use super::{
    audit::Audit,
    revision::IfMatch,
    table::{Entity, Table},
};

/// The topic, and the name of the event, that tells of a change.
pub const UPDATE_TOPIC: &str = "framework.config_update";
/// How often a change is tried again when another one wins.
const CHANGE_ATTEMPTS_MAX: usize = 8;

/// The settings. Cheap to clone.
#[derive(Clone)]
pub struct Settings(Arc<Inner>);

struct Inner {
    table: Table<Written>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    audit: Audit,
    fixed: Fixed,
    live: channel::Sender<Arc<Current>>,
}

/// What settings are made of.
pub struct Parts {
    /// Where they are stored.
    pub records: Arc<dyn Records>,
    /// How others hear of changes.
    pub bus: Arc<dyn Bus>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where changes are noted.
    pub audit: Audit,
    /// What the config says.
    pub fixed: Fixed,
}

/// What the config says and settings only show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// dev, staging or production.
    pub environment: String,
    /// Where models come from.
    pub ensemble_url: Option<String>,
    /// The largest bundle that the operator allows; settings may allow less.
    pub bundle_bytes_max: u64,
}

/// The settings at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Current {
    /// Counts the changes from 1; zero before the first.
    pub version: u64,
    /// When they changed.
    pub updated_at: Option<Timestamp>,
    /// The id of the key that changed them.
    pub updated_by: Option<String>,
    /// dev, staging or production.
    pub environment: String,
    /// What instances are configured with.
    pub defaults: Map<String, Value>,
    /// Overrides of the defaults by agent type.
    pub agent_types: Map<String, Value>,
    /// Where models come from.
    pub ensemble: Map<String, Value>,
    /// Limits as written.
    pub limits: Map<String, Value>,
    /// Switches by name.
    pub features: Map<String, Value>,
}

/// Limits that may change while the platform runs. None is the config's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Instances of one tenant at once.
    pub max_instances_per_tenant: Option<u64>,
    /// Bytes of a bundle.
    pub max_bundle_bytes: Option<u64>,
    /// How long an instance may idle.
    pub idle_timeout_seconds: Option<u64>,
    /// Bytes of a message that a caller sends over a WebSocket.
    pub ws_max_message_bytes: Option<u64>,
}

/// What becomes of what a change does not mention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It stays: JSON Merge Patch (RFC 7396).
    Merge,
    /// It goes back to its default.
    Replace,
}

impl Mode {
    /// Reads the word; [`Mode::Merge`] when it is empty.
    ///
    /// # Errors
    /// `validation_failed` for another word.
    pub fn parse(word: &str) -> Result<Mode> {
        match word {
            "" | "merge" => Ok(Mode::Merge),
            "replace" => Ok(Mode::Replace),
            _ => Err(Error::invalid("mode", "must be `merge` or `replace`")),
        }
    }
}

/// What is stored: the members that may be written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Written {
    updated_at: Option<Timestamp>,
    updated_by: Option<String>,
    members: Map<String, Value>,
}

impl Entity for Written {
    const COLLECTION: &'static str = "settings";

    fn id(&self) -> String {
        RECORD.to_owned()
    }

    fn sort(&self) -> String {
        String::new()
    }
}

const RECORD: &str = "platform";

impl Settings {
    /// Reads the settings; `tasks` carries the work that keeps them current.
    ///
    /// # Errors
    /// `records_unavailable`.
    pub async fn load(parts: Parts, tasks: &Tasks) -> Result<Settings> {
        let unread = Current::of(&parts.fixed, 0, Written::default());
        let settings = Settings(Arc::new(Inner {
            table: Table::new(parts.records),
            bus: parts.bus,
            clock: parts.clock,
            audit: parts.audit,
            fixed: parts.fixed,
            live: channel::Sender::new(Arc::new(unread)),
        }));
        settings.0.refresh().await?;
        tasks.spawn(watch::run(Arc::downgrade(&settings.0), tasks.clone()));
        Ok(settings)
    }

    /// The settings at this moment.
    pub fn current(&self) -> Arc<Current> {
        Arc::clone(&self.0.live.borrow())
    }

    /// The settings, and word of every change.
    pub fn watch(&self) -> channel::Receiver<Arc<Current>> {
        self.0.live.subscribe()
    }

    /// Changes the settings.
    ///
    /// # Errors
    /// `validation_failed`, `read_only_field`, or `version_mismatch` when `if-match` names another version.
    pub async fn update(&self, cx: &Context, patch: Map<String, Value>, mode: Mode) -> Result<Arc<Current>> {
        let updated = self.0.update(cx, patch, mode).await;
        self.0.audit.note(cx, "settings.update", RECORD, &updated);
        updated
    }
}

impl Current {
    /// What instances of an agent type are configured with unless they say otherwise.
    pub fn effective_defaults(&self, agent_type: &str) -> Map<String, Value> {
        let mut defaults = self.defaults.clone();
        if let Some(Value::Object(overrides)) = self.agent_types.get(agent_type) {
            merge(&mut defaults, overrides);
        }
        if let Some(model) = self.ensemble.get("model") {
            defaults.entry("model").or_insert_with(|| model.clone());
        }
        defaults
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        let limit = |name| self.limits.get(name).and_then(Value::as_u64);
        Limits {
            max_instances_per_tenant: limit("max_instances_per_tenant"),
            max_bundle_bytes: limit("max_bundle_bytes"),
            idle_timeout_seconds: limit("idle_timeout_seconds"),
            ws_max_message_bytes: limit("ws_max_message_bytes"),
        }
    }

    fn of(fixed: &Fixed, version: u64, written: Written) -> Current {
        let mut members = written.members;
        let mut object = |name: &str| match members.remove(name) {
            Some(Value::Object(object)) => object,
            _ => Map::new(),
        };
        let mut ensemble = object("ensemble");
        if let Some(url) = &fixed.ensemble_url {
            ensemble.insert("url".to_owned(), url.as_str().into());
        }
        Current {
            version,
            updated_at: written.updated_at,
            updated_by: written.updated_by,
            environment: fixed.environment.clone(),
            defaults: object("defaults"),
            agent_types: object("agent_types"),
            ensemble,
            limits: object("limits"),
            features: object("features"),
        }
    }
}

impl Inner {
    async fn update(&self, cx: &Context, patch: Map<String, Value>, mode: Mode) -> Result<Arc<Current>> {
        let if_match = IfMatch::of(cx);
        for _ in 0..CHANGE_ATTEMPTS_MAX {
            let stored = self.table.get(RECORD).await?;
            let (version, before) = stored.map_or((0, Written::default()), |stored| (stored.version, stored.value));
            // There are always settings, be it those of a platform that nobody has touched.
            if_match.check(version, true)?;
            let shown = Current::of(&self.fixed, version, before.clone());
            let patch = rules::writable(patch.clone(), &shown)?;
            let mut members = if mode == Mode::Merge { before.members.clone() } else { Map::new() };
            merge(&mut members, &patch);
            rules::check(&members, &self.fixed)?;
            let written = Written {
                updated_at: Some(cx.now()),
                updated_by: Some(cx.caller.key_id().unwrap_or(cx.caller.identity.as_str()).to_owned()),
                members,
            };
            let expect = if version == 0 { Expect::Absent } else { Expect::Version(version) };
            match self.table.put(&written, expect).await {
                Ok(version) => {
                    let changed = merge::changed(&before.members, &written.members);
                    let current = self.show(Current::of(&self.fixed, version, written));
                    self.tell(&current, changed).await;
                    return Ok(current);
                }
                Err(error) if error.reason() == reason::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Err(records::conflict())
    }

    /// Reads what is stored and shows it to everybody who watches. What was shown before was stored by then, so a store that
    /// says something else has forgotten it: one that was put back from a copy, say. What it knows now is in force.
    async fn refresh(&self) -> Result<()> {
        let before = Arc::clone(&self.live.borrow());
        let stored = self.table.get(RECORD).await?;
        let (version, written) = stored.map_or((0, Written::default()), |stored| (stored.version, stored.value));
        let current = Arc::new(Current::of(&self.fixed, version, written));
        self.live.send_if_modified(|shown| {
            // What somebody has shown meanwhile may be newer than what was read.
            let is_news = current.version > shown.version || (Arc::ptr_eq(shown, &before) && current != *shown);
            if is_news {
                *shown = Arc::clone(&current);
            }
            is_news
        });
        Ok(())
    }

    /// Shows what is newer than what is shown. Answers what was given.
    fn show(&self, current: Current) -> Arc<Current> {
        let current = Arc::new(current);
        self.live.send_if_modified(|shown| {
            let newer = current.version > shown.version;
            if newer {
                *shown = Arc::clone(&current);
            }
            newer
        });
        current
    }

    /// Tells other gateways and agents. The change stands if that fails; gateways read again by themselves.
    async fn tell(&self, current: &Current, changed: Vec<String>) {
        let event = serde_json::json!({
            "event": UPDATE_TOPIC,
            "version": current.version,
            "changed": changed,
            "config": {
                "defaults": current.defaults,
                "agent_types": current.agent_types,
                "ensemble": current.ensemble,
                "limits": current.limits,
                "features": current.features,
            },
            "ts": self.clock.now().0,
            "source": "gateway",
        });
        if let Err(error) = self.bus.publish(UPDATE_TOPIC, event.to_string()).await {
            tracing::warn!(error = error.report(), "others could not be told of new settings");
        }
    }
}
