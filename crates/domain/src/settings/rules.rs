//! What settings may say.
//!
//! A newcomer's usual mistake is to let unknown members pass. One that nobody reads is a typing mistake that looks like a
//! change, so it is refused; free members have their place under `defaults` and `agent_types`.
//!
//! *Knows:* members, types, bounds, what looks like a secret. *Does not know:* where settings are stored.

use portico_base::{Code, Error, Result, error::Detail, reason};
use portico_port::fleet::FRAME_BYTES_MAX;
use serde_json::{Map, Value};

use super::{Current, Fixed};
use crate::agents::{self, RESERVED_CONFIG};

/// The members that may be written.
const WRITABLE: &[&str] = &["defaults", "agent_types", "ensemble", "limits", "features"];
/// Members that are no settings and only shown with them. Whoever shows them takes out what is as it is shown.
const SHOWN_ALONE: &[&str] = &["models", "models_status"];
/// The limits there are.
const LIMITS: &[&str] =
    &["max_instances_per_tenant", "max_bundle_bytes", "idle_timeout_seconds", "ws_max_message_bytes"];
/// Highest limit: beyond it numbers of JSON lose their last digit.
const LIMIT_MAX: u64 = 1 << 53;
/// All that may be written, as JSON.
const TOTAL_BYTES_MAX: usize = 512 << 10;
/// Deepest nesting of free members.
const DEPTH_MAX: usize = 16;
/// Longest system prompt.
const SYSTEM_PROMPT_CHARACTERS_MAX: usize = 64 << 10;
/// Longest name of a model.
const MODEL_CHARACTERS_MAX: usize = 256;
/// Most tokens that an answer may be allowed.
const MAX_TOKENS_MAX: u64 = 1_000_000;
/// Words that name secrets.
const SECRET_WORDS: &[&str] =
    &["apikey", "credential", "credentials", "key", "passwd", "password", "secret", "secrets", "token"];
/// What known kinds of keys begin with.
const SECRET_BEGINNINGS: &[&str] = &["ens_", "pod_", "sk-"];
/// A value that begins like a key and is at least this long is taken for one.
const SECRET_CHARACTERS_MIN: usize = 20;

/// The part of a patch that may be written. What is read-only may be there as it is shown, so that a caller can send back
/// what it was given.
pub(super) fn writable(patch: Map<String, Value>, shown: &Current) -> Result<Map<String, Value>> {
    let mut writable = Map::new();
    for (name, value) in patch {
        match name.as_str() {
            name if SHOWN_ALONE.contains(&name) => unchanged(name, &value, false)?,
            "version" => unchanged("version", &value, value.as_u64() == Some(shown.version))?,
            "environment" => unchanged("environment", &value, value == shown.environment.as_str())?,
            "updated_by" => unchanged("updated_by", &value, value.as_str() == shown.updated_by.as_deref())?,
            "updated_at" => {
                let at = shown.updated_at.map(|at| at.to_string());
                let same = |text: &str, at: &str| text == at || text == at.replace(".000Z", "Z");
                let same = value.as_str().zip(at.as_deref()).is_some_and(|(text, at)| same(text, at));
                unchanged("updated_at", &value, same)?;
            }
            "ensemble" => {
                writable.insert(name, without_url(value, shown)?);
            }
            name if WRITABLE.contains(&name) => {
                writable.insert(name.to_owned(), value);
            }
            _ => return Err(Error::invalid(name, format!("is not a setting; there are {}", WRITABLE.join(", ")))),
        }
    }
    Ok(writable)
}

/// Whether settings may be what they would be.
pub(super) fn check(members: &Map<String, Value>, fixed: &Fixed) -> Result<()> {
    let size = serde_json::to_string(members).map_err(Error::internal)?.len();
    if size > TOTAL_BYTES_MAX {
        return Err(Error::invalid("config", format!("must be at most {TOTAL_BYTES_MAX} bytes")));
    }
    for (name, value) in members {
        let object = value.as_object().ok_or_else(|| Error::invalid(name, "must be an object"))?;
        no_secrets(name, object)?;
        match name.as_str() {
            "defaults" => defaults(name, object)?,
            "agent_types" => agent_types(object)?,
            "ensemble" => ensemble(object)?,
            "limits" => limits(object, fixed)?,
            "features" => features(object)?,
            other => return Err(Error::invalid(other, "is not a setting")),
        }
    }
    Ok(())
}

fn unchanged(name: &str, value: &Value, same: bool) -> Result<()> {
    if same || value.is_null() {
        return Ok(());
    }
    let problem = "is read-only";
    let detail = Detail::Field { path: name.to_owned(), reason: problem.to_owned() };
    Err(Error::new(Code::InvalidArgument, reason::READ_ONLY_FIELD, format!("{name} {problem}")).with(detail))
}

fn without_url(value: Value, shown: &Current) -> Result<Value> {
    let Value::Object(mut ensemble) = value else { return Ok(value) };
    if let Some(url) = ensemble.shift_remove("url") {
        unchanged("ensemble.url", &url, Some(&url) == shown.ensemble.get("url"))?;
    }
    Ok(Value::Object(ensemble))
}

fn defaults(path: &str, members: &Map<String, Value>) -> Result<()> {
    for (name, value) in members {
        let at = || format!("{path}.{name}");
        match name.as_str() {
            name if RESERVED_CONFIG.contains(&name) => return Err(Error::invalid(at(), "is set by the platform")),
            "model" => model(at(), value)?,
            "temperature" if !value.as_f64().is_some_and(|heat| (0.0..=2.0).contains(&heat)) => {
                return Err(Error::invalid(at(), "must be a number from 0 to 2"));
            }
            "max_tokens" if !value.as_u64().is_some_and(|tokens| (1..=MAX_TOKENS_MAX).contains(&tokens)) => {
                return Err(Error::invalid(at(), format!("must be a whole number from 1 to {MAX_TOKENS_MAX}")));
            }
            "system_prompt"
                if value.as_str().is_none_or(|prompt| prompt.chars().count() > SYSTEM_PROMPT_CHARACTERS_MAX) =>
            {
                let problem = format!("must be a text of at most {SYSTEM_PROMPT_CHARACTERS_MAX} characters");
                return Err(Error::invalid(at(), problem));
            }
            _ => {}
        }
    }
    Ok(())
}

fn agent_types(members: &Map<String, Value>) -> Result<()> {
    for (name, value) in members {
        let path = format!("agent_types.{name}");
        if agents::check_type(name).is_err() {
            return Err(Error::invalid(path, "is no name of an agent type"));
        }
        let overrides = value.as_object().ok_or_else(|| Error::invalid(&path, "must be an object"))?;
        defaults(&path, overrides)?;
    }
    Ok(())
}

fn ensemble(members: &Map<String, Value>) -> Result<()> {
    for (name, value) in members {
        match name.as_str() {
            "model" => model("ensemble.model".to_owned(), value)?,
            other => return Err(Error::invalid(format!("ensemble.{other}"), "is not a setting")),
        }
    }
    Ok(())
}

fn model(path: String, value: &Value) -> Result<()> {
    let fits = value.as_str().is_some_and(|name| (1..=MODEL_CHARACTERS_MAX).contains(&name.chars().count()));
    if fits { Ok(()) } else { Err(Error::invalid(path, "must be the name of a model")) }
}

fn limits(members: &Map<String, Value>, fixed: &Fixed) -> Result<()> {
    for (name, value) in members {
        let path = format!("limits.{name}");
        if !LIMITS.contains(&name.as_str()) {
            return Err(Error::invalid(path, format!("is not a limit; there are {}", LIMITS.join(", "))));
        }
        let max = match name.as_str() {
            "max_bundle_bytes" => fixed.bundle_bytes_max,
            "ws_max_message_bytes" => FRAME_BYTES_MAX as u64,
            _ => LIMIT_MAX,
        };
        if !value.as_u64().is_some_and(|limit| (1..=max).contains(&limit)) {
            return Err(Error::invalid(path, format!("must be a whole number from 1 to {max}")));
        }
    }
    Ok(())
}

fn features(members: &Map<String, Value>) -> Result<()> {
    match members.iter().find(|(_, value)| !value.is_boolean()) {
        Some((name, _)) => Err(Error::invalid(format!("features.{name}"), "must be true or false")),
        None => Ok(()),
    }
}

/// Settings are shown to every key, so what looks like a secret is refused, wherever it is.
fn no_secrets(path: &str, members: &Map<String, Value>) -> Result<()> {
    members.iter().try_for_each(|(name, value)| no_secret(&format!("{path}.{name}"), value, names_secret(name), 0))
}

/// The same of one value, which a name around it may have called a secret.
fn no_secret(path: &str, value: &Value, is_named: bool, depth: usize) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(Error::invalid(path, format!("is nested deeper than {DEPTH_MAX}")));
    }
    match value {
        Value::String(text) if is_named || is_secret(text) => {
            Err(Error::invalid(path, "looks like a secret; set it at /api/v1/secrets/{agent_type} instead"))
        }
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            no_secret(&format!("{path}.{name}"), value, is_named || names_secret(name), depth + 1)
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(at, item)| no_secret(&format!("{path}.{at}"), item, is_named, depth + 1)),
        _ => Ok(()),
    }
}

/// Whether one of the words of a name, in snake_case, kebab-case or camelCase, names a secret.
fn names_secret(name: &str) -> bool {
    let mut words = vec![String::new()];
    let mut lower_before = false;
    for letter in name.chars() {
        if !letter.is_alphanumeric() || (letter.is_uppercase() && lower_before) {
            words.push(String::new());
        }
        lower_before = letter.is_lowercase();
        if letter.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(letter.to_lowercase());
        }
    }
    words.iter().any(|word| SECRET_WORDS.contains(&word.as_str()))
}

fn is_secret(text: &str) -> bool {
    text.len() >= SECRET_CHARACTERS_MIN && SECRET_BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
}
