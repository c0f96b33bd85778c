//! Headers, of requests and of answers.
//!
//! A newcomer's usual mistake is to add a header here that one method sends. Its name and meaning stand at the method; here
//! are those that answers have whatever was called.
//!
//! *Knows:* how headers are written, what the gate and the doors say in them. *Does not know:* methods.

use portico_schema::AnswerHeader;
use serde_json::{Map, Value, json};

use crate::socket::BEARER;

/// What answers of every method say, by name, and what a value looks like.
const OF_ALL: &[(&str, &str, &str)] = &[
    (
        REQUEST_ID,
        "The id of the request: the one that came in the request's own `X-Request-Id`, or else a new one.",
        "req_47qhv6x8rfa2f8tp6xe4",
    ),
    (
        POLICY,
        "How many calls a minute each bucket takes that the call was drawn from. Only with a key.",
        r#""calls";q=600;w=60"#,
    ),
    (
        STATE,
        "What is left of each of these buckets, and after how many seconds there is more. Only with a key.",
        r#""calls";r=599;t=0"#,
    ),
    (RETRY_AFTER, "After how many seconds calling again may help. Not there when waiting does not help.", "1"),
    (AUTHENTICATE, "How to prove who calls.", "Bearer"),
    (ALLOW, "The methods that the path takes.", "GET, OPTIONS"),
    (UPGRADE, "What the connection becomes, or must ask to become.", "websocket"),
    (SOCKET_VERSION, "The version of the handshake that is needed.", "13"),
    (SUBPROTOCOL, "The subprotocol, if it was offered.", "podium.native.v1"),
];

const REQUEST_ID: &str = "X-Request-Id";
const POLICY: &str = "RateLimit-Policy";
const STATE: &str = "RateLimit";
const RETRY_AFTER: &str = "Retry-After";
const AUTHENTICATE: &str = "WWW-Authenticate";
const ALLOW: &str = "Allow";
const UPGRADE: &str = "Upgrade";
const SOCKET_VERSION: &str = "Sec-WebSocket-Version";
const SUBPROTOCOL: &str = "Sec-WebSocket-Protocol";

/// The headers that answers of every method have, by name.
pub(super) fn components() -> Map<String, Value> {
    let told = |&(name, meaning, example): &(&str, &str, &str)| {
        let mut header = json!({"description": meaning, "schema": answered(name)});
        header["example"] = if name == RETRY_AFTER { json!(1) } else { example.into() };
        if name == REQUEST_ID {
            header["required"] = true.into();
        }
        (name.to_owned(), header)
    };
    OF_ALL.iter().map(told).collect()
}

/// Those of a success.
pub(super) fn of_success(own: &[AnswerHeader]) -> Map<String, Value> {
    let mut headers = referred(&[REQUEST_ID, POLICY, STATE]);
    headers.extend(own.iter().map(|header| {
        (header.name.to_owned(), json!({"description": header.meaning, "schema": answered(header.name)}))
    }));
    headers
}

/// Those of a connection that becomes a WebSocket.
pub(super) fn of_upgrade() -> Map<String, Value> {
    referred(&[REQUEST_ID, POLICY, STATE, UPGRADE, SUBPROTOCOL])
}

/// Those of an error with this status; of any other without one.
pub(super) fn of_error(status: Option<u16>) -> Map<String, Value> {
    let mut names = vec![REQUEST_ID];
    // Who is not known, or may not call, has no bucket to draw from.
    if status != Some(401) {
        names.extend([POLICY, STATE]);
    }
    match status {
        Some(401) => names.push(AUTHENTICATE),
        Some(426) => names.extend([ALLOW, UPGRADE, SOCKET_VERSION]),
        Some(409 | 429 | 503) | None => names.push(RETRY_AFTER),
        Some(_) => {}
    }
    referred(&names)
}

fn referred(names: &[&str]) -> Map<String, Value> {
    let reference = |name: &&str| ((*name).to_owned(), json!({"$ref": format!("#/components/headers/{name}")}));
    names.iter().map(reference).collect()
}

/// How a header of an answer is written.
fn answered(name: &str) -> Value {
    match name {
        RETRY_AFTER => json!({"type": "integer", "minimum": 1}),
        "Age" => json!({"type": "integer", "minimum": 0}),
        "Location" => json!({"type": "string", "format": "uri-reference"}),
        _ => json!({"type": "string"}),
    }
}

/// The subprotocols that a handshake may offer.
pub(super) fn subprotocol(own: Option<&str>) -> Value {
    let own = own.map(|name| format!("`{name}`, and ")).unwrap_or_default();
    let meaning =
        format!("{own}`{BEARER}` with the key behind it from a browser, which cannot send `Authorization` here.");
    json!({"name": SUBPROTOCOL, "in": "header", "description": meaning, "schema": {"type": "string"}})
}

/// A header that a request may have.
pub(super) fn asked(name: &str) -> Value {
    let (meaning, shape) = match name {
        "Idempotency-Key" => (
            "Names the request: sent again with the same body, it is answered as before.",
            json!({"type": "string", "pattern": "^[!-~]{1,255}$"}),
        ),
        // Empty from a reader who has seen no event yet.
        "Last-Event-ID" => (
            "The id of the last event that was seen. What came after it is sent.",
            json!({"type": "string", "pattern": "^(|0|[1-9][0-9]{0,17})$"}),
        ),
        "If-Match" => (
            "The version that is to be changed, bare or in quotes; several with commas; `*` for any. Where another one is \
             there, the answer is 412.",
            json!({"type": "string"}),
        ),
        "If-None-Match" => (
            "The `ETag` of an answer that the caller has. Where it is still right, the answer is 304.",
            json!({"type": "string"}),
        ),
        _ => return json!({"name": name, "in": "header", "schema": {"type": "string"}}),
    };
    json!({"name": name, "in": "header", "description": meaning, "schema": shape})
}
