//! What a request for an instance may say, and what of it may be shown again.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::StreamExt;
use portico_base::{Code, Error, Incoming, Result, Secret, reason};
use portico_port::fleet::NewMessage;
use serde_json::{Map, Value};

use crate::agents::RESERVED_CONFIG;

/// Largest configuration of an agent.
const CONFIG_BYTES_MAX: usize = 64 << 10;
/// How deep a configuration may nest.
const CONFIG_DEPTH_MAX: usize = 16;
/// Most secrets of a request.
const SECRETS_MAX: usize = 64;
/// Longest secret.
const SECRET_BYTES_MAX: usize = 32 << 10;
/// Most environment variables of a request.
const ENVIRONMENT_MAX: usize = 128;
/// Longest value of an environment variable.
const VARIABLE_BYTES_MAX: usize = 32 << 10;
/// Longest id of an agent.
const AGENT_ID_CHARACTERS_MAX: usize = 64;
/// Longest idempotency key.
const IDEMPOTENCY_KEY_CHARACTERS_MAX: usize = 255;
/// Longest text of a message: what a client may send in one frame.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Largest file that may be written into a workspace in one call.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Variables that would change what the platform says to an agent, or how it is loaded.
const RESERVED_VARIABLES: [&str; 4] = ["AGENT_", "PODIUM_", "PORTICO_", "LD_"];
/// Words in the name of a member that is not shown.
const SECRET_WORDS: [&str; 5] = ["key", "token", "secret", "password", "credential"];
/// What is shown instead.
pub(super) const REDACTED: &str = "***";

pub(super) fn config(config: &Map<String, Value>) -> Result<()> {
    for name in RESERVED_CONFIG {
        if config.contains_key(name) {
            return Err(Error::invalid(format!("config.{name}"), "is set by the platform"));
        }
    }
    let bytes = serde_json::to_vec(config).map_err(Error::internal)?.len();
    if bytes > CONFIG_BYTES_MAX {
        return Err(Error::invalid("config", format!("must not take more than {CONFIG_BYTES_MAX} bytes")));
    }
    if config.values().any(|value| depth(value) >= CONFIG_DEPTH_MAX) {
        return Err(Error::invalid("config", format!("must not nest deeper than {CONFIG_DEPTH_MAX} levels")));
    }
    Ok(())
}

pub(super) fn secrets(secrets: &BTreeMap<String, Secret>) -> Result<()> {
    if secrets.len() > SECRETS_MAX {
        return Err(Error::invalid("secrets", format!("must not hold more than {SECRETS_MAX} names")));
    }
    for (name, value) in secrets {
        if name.is_empty() || name.len() > 128 || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid("secrets", "a name must be 1 to 128 visible characters"));
        }
        if value.reveal().len() > SECRET_BYTES_MAX {
            return Err(Error::invalid(
                format!("secrets.{name}"),
                format!("must not take more than {SECRET_BYTES_MAX} bytes"),
            ));
        }
    }
    Ok(())
}

pub(super) fn environment(environment: &BTreeMap<String, String>) -> Result<()> {
    if environment.len() > ENVIRONMENT_MAX {
        return Err(Error::invalid("environment", format!("must not hold more than {ENVIRONMENT_MAX} names")));
    }
    for (name, value) in environment {
        let mut bytes = name.bytes();
        let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if !first || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(Error::invalid(
                "environment",
                "a name must be letters, digits and `_`, and begin with no digit",
            ));
        }
        if RESERVED_VARIABLES.iter().any(|reserved| name.to_ascii_uppercase().starts_with(reserved)) {
            return Err(Error::invalid(format!("environment.{name}"), "is reserved for the platform"));
        }
        if value.len() > VARIABLE_BYTES_MAX || value.contains('\0') {
            return Err(Error::invalid(format!("environment.{name}"), "is too long or contains a zero byte"));
        }
    }
    Ok(())
}

pub(super) fn agent_id(id: &str) -> Result<()> {
    let fits = (1..=AGENT_ID_CHARACTERS_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if fits { Ok(()) } else { Err(Error::invalid("agent_id", "must be 1 to 64 letters, digits, `_` or `-`")) }
}

pub(super) fn idempotency_key(key: &str) -> Result<()> {
    let fits =
        (1..=IDEMPOTENCY_KEY_CHARACTERS_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(()) } else { Err(Error::invalid("idempotency-key", "must be 1 to 255 visible characters")) }
}

pub(super) fn message(message: &NewMessage) -> Result<()> {
    if message.text.is_empty() {
        return Err(Error::invalid("text", "must not be empty"));
    }
    if message.text.len() > MESSAGE_BYTES_MAX {
        return Err(Error::invalid("text", format!("must not take more than {MESSAGE_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// The same content, which fails once it is larger than a file may be.
pub(super) fn bounded(content: Incoming<Bytes>) -> Incoming<Bytes> {
    let mut size = 0;
    Box::pin(content.map(move |chunk| {
        let chunk = chunk?;
        size += chunk.len() as u64;
        if size > FILE_BYTES_MAX {
            let message = format!("a file must not take more than {FILE_BYTES_MAX} bytes");
            return Err(Error::new(Code::ResourceExhausted, reason::FILE_TOO_LARGE, message));
        }
        Ok(chunk)
    }))
}

/// The configuration with everything that may be secret replaced, by its name or by the name of one of the secrets.
pub(super) fn redacted<'a>(
    config: &Map<String, Value>,
    secrets: impl Iterator<Item = &'a String> + Clone,
) -> Map<String, Value> {
    config.iter().map(|(name, value)| (name.clone(), shown(name, value, secrets.clone()))).collect()
}

fn shown<'a>(name: &str, value: &Value, secrets: impl Iterator<Item = &'a String> + Clone) -> Value {
    let lower = name.to_ascii_lowercase();
    // A number of tokens, such as `max_tokens`, is no secret.
    let counts_tokens = lower.contains("tokens") && value.is_number();
    let telling = SECRET_WORDS.iter().any(|word| lower.contains(word)) && !counts_tokens;
    if telling || secrets.clone().any(|secret| secret == name) {
        return REDACTED.into();
    }
    match value {
        Value::Object(inner) => redacted(inner, secrets).into(),
        Value::Array(items) => items.iter().map(|item| shown("", item, secrets.clone())).collect(),
        other => other.clone(),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(inner) => 1 + inner.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let config = json!({
            "model": "m", "max_tokens": 64_000, "ensemble_api_key": "ens_x", "MyPassword": "p", "voice": "v",
            "deep": {"token": "t", "list": [{"secret": ["s"]}]},
        });
        let Value::Object(config) = config else { panic!() };
        let shown = redacted(&config, ["voice".to_owned()].iter());
        let expected = json!({
            "model": "m", "max_tokens": 64_000, "ensemble_api_key": "***", "MyPassword": "***", "voice": "***",
            "deep": {"token": "***", "list": [{"secret": "***"}]},
        });
        assert_eq!(Value::Object(shown), expected);
    }
}
