//! What a refusal says to programs, whatever the door was: the reason, and whether the call may be repeated.

use base64::{
    Engine as _, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use portico::wire::google::rpc::{ErrorInfo, RetryInfo, Status};
use prost::{Message, Name};
use serde_json::Value;

use super::{Door, Told, answer::unpadded, header_of};

/// With padding or without, as doors have it.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The stable reason, for example `records_unavailable`.
    pub(crate) reason: String,
    /// Whether it says that nothing was done, so that the call may be repeated.
    pub(crate) may_repeat: bool,
    /// When to come back, in seconds, if it says so.
    pub(crate) after: Option<u64>,
    /// The status of HTTP.
    pub(crate) status: u16,
}

impl Refusal {
    /// Reads it; nothing when the answer does not say both.
    pub(crate) fn of(door: Door, told: &Told) -> Option<Refusal> {
        let header = header_of(&told.headers, "retry-after").parse().ok();
        let status = told.status.as_u16();
        if matches!(door, Door::Rest | Door::Events | Door::Lines) {
            let error = said(&told.text)?;
            let reason = error["code"].as_str()?.to_owned();
            return Some(Refusal { reason, may_repeat: error["retryable"].as_bool()?, after: header, status });
        }
        let details = match door {
            Door::ConnectJson | Door::ConnectProto | Door::ConnectGet => connect(&told.text)?,
            _ => grpc(door, told)?,
        };
        let find = |name: String| details.iter().find(|(kind, _)| kind.ends_with(&name)).map(|(_, value)| &value[..]);
        let reason = ErrorInfo::decode(find(ErrorInfo::full_name())?).ok()?.reason;
        let delay = find(RetryInfo::full_name()).map(|value| RetryInfo::decode(value).unwrap().retry_delay);
        let after = delay.as_ref().map(|delay| delay.map_or(0, |delay| u64::try_from(delay.seconds).unwrap()));
        Some(Refusal { reason, may_repeat: delay.is_some(), after: header.or(after), status })
    }
}

/// The error object of the page: the whole body, or what a stream ends with.
pub(crate) fn said(text: &str) -> Option<Value> {
    let ends = text.lines().rev().map(|line| line.trim_start_matches("data: "));
    let mut errors =
        ends.filter_map(|line| serde_json::from_str::<Value>(line).ok()?.get_mut("error").map(Value::take));
    errors.next()
}

fn connect(text: &str) -> Option<Vec<(String, Vec<u8>)>> {
    // A stream ends with an envelope, whose text is the last of it.
    let json: Value = serde_json::from_str(text).ok().or_else(|| {
        let begins = text.rfind("{\"error\"")?;
        serde_json::from_str::<Value>(&text[begins..]).ok()?.get_mut("error").map(Value::take)
    })?;
    let details = json["details"].as_array()?;
    let read =
        |detail: &Value| Some((detail["type"].as_str()?.to_owned(), LENIENT.decode(detail["value"].as_str()?).ok()?));
    details.iter().map(read).collect()
}

fn grpc(door: Door, told: &Told) -> Option<Vec<(String, Vec<u8>)>> {
    const NAME: &str = "grpc-status-details-bin";
    let text = match door {
        Door::GrpcWebText => String::from_utf8_lossy(&unpadded(told.text.as_bytes())).into_owned(),
        _ => told.text.clone(),
    };
    let in_body = text.lines().find_map(|line| Some(line.split_once("grpc-status-details-bin:")?.1.trim().to_owned()));
    let found = [header_of(&told.headers, NAME), header_of(&told.trailers, NAME), &in_body.unwrap_or_default()]
        .into_iter()
        .find(|value| !value.is_empty())?
        .to_owned();
    let status = Status::decode(LENIENT.decode(found).ok()?.as_slice()).ok()?;
    Some(status.details.into_iter().map(|any| (any.type_url, any.value)).collect())
}
