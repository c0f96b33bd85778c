//! What an announcement says, as fields that an operator can read with `HGETALL`.
//!
//! A newcomer's usual mistake is to rebuild the body from the fields. They are for the eye; the body stands beside them,
//! whole, and is what is read back. Only who announced itself by other means has fields alone.
//!
//! *Knows:* JSON objects and flat fields. *Does not know:* what they mean.

use serde_json::{Map, Value};

/// Fields shown beside the body; the body holds all.
const FIELDS_MAX: usize = 64;
/// What the platform's facts call numbers; everything else that comes as fields alone is text.
const NUMBERS: [&str; 9] =
    ["active_agents", "max_agents", "cpu", "mem", "disk_free_bytes", "load", "chronicle", "started_at", "heartbeat_at"];

/// The plain values at the top of a body.
pub(super) fn shown(body: &str) -> Vec<(String, String)> {
    let Ok(fields) = serde_json::from_str::<Map<String, Value>>(body) else { return Vec::new() };
    let plain = fields.into_iter().filter(|(name, _)| name != "body").filter_map(|(name, value)| match value {
        Value::String(text) => Some((name, text)),
        Value::Bool(yes) => Some((name, u8::from(yes).to_string())),
        Value::Number(number) => Some((name, number.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    });
    plain.take(FIELDS_MAX).collect()
}

/// A body of fields alone.
pub(super) fn body(fields: &[(String, String)]) -> String {
    let value = |(name, text): &(String, String)| {
        let number = NUMBERS.contains(&name.as_str()).then(|| text.parse().ok().map(Value::Number)).flatten();
        (name.clone(), number.unwrap_or_else(|| Value::String(text.clone())))
    };
    Value::Object(fields.iter().map(value).collect()).to_string()
}
