//! What a door answered, as code and messages.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use portico::{
    edge::Body,
    schema::{Method, Shape},
};
use portico_json::{Parse, Unknown};
use serde_json::{Map, Value, json};

use super::{super::gateway::PATIENCE, Call, Door, header_of};

/// An answer.
#[derive(Debug)]
pub(crate) struct Told {
    /// `ok`, or the name of the code, for example `permission_denied`.
    pub(crate) code: String,
    /// The messages, in the style of the page.
    pub(crate) messages: Vec<Value>,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: HeaderMap,
    /// What was read, for people.
    pub(crate) text: String,
}

/// Reads until the end, or until enough has come.
///
/// # Errors
/// When the answer breaks off.
pub(crate) async fn read(door: Door, call: &Call<'_>, response: Response<Body>) -> Result<Told, portico::base::Error> {
    let (head, mut body) = response.into_parts();
    let mut told = Told {
        code: String::new(),
        messages: Vec::new(),
        status: head.status,
        headers: head.headers,
        trailers: HeaderMap::new(),
        text: String::new(),
    };
    let (mut content, mut trailers) = (BytesMut::new(), HeaderMap::new());
    let is_stream = call.method.shape.streams_out() && call.method.rest.raw.is_none();
    loop {
        let next = tokio::time::timeout(PATIENCE, body.frame()).await;
        let Some(frame) =
            next.unwrap_or_else(|_| panic!("{} by {door:?}: silence after {content:?}", call.method.path))
        else {
            break;
        };
        match frame?.into_data() {
            Ok(data) => content.extend_from_slice(&data),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
        if is_stream && messages(door, call.method, &content).0.len() >= call.answers_max {
            told.code = "ok".to_owned();
            break;
        }
    }
    told.text = String::from_utf8_lossy(&content).into_owned();
    let ended = told.code.is_empty();
    let (mut found, end) = if is_stream || enveloped(door, call.method) {
        messages(door, call.method, &content)
    } else {
        (Vec::new(), None)
    };
    if ended {
        told.code = code(door, call.method, &told, end, &trailers);
        if told.code == "ok" && found.is_empty() && !is_stream && !enveloped(door, call.method) {
            found = vec![one(door, call.method, &told.headers, &content)];
        }
    }
    found.truncate(call.answers_max);
    told.messages = found;
    told.trailers = trailers;
    Ok(told)
}

impl Told {
    /// The messages, if it went well.
    #[track_caller]
    pub(crate) fn ok(self) -> Vec<Value> {
        assert_eq!(self.code, "ok", "{}: {}", self.status, self.text);
        self.messages
    }
}

fn enveloped(door: Door, method: &Method) -> bool {
    match door {
        Door::ConnectJson | Door::ConnectProto => method.shape != Shape::Unary,
        Door::Grpc | Door::GrpcWeb | Door::GrpcWebText => true,
        Door::ConnectGet | Door::Rest | Door::Events | Door::Lines | Door::Socket => false,
    }
}

/// The whole messages in what has come, and what ends them.
fn messages(door: Door, method: &Method, content: &[u8]) -> (Vec<Value>, Option<Vec<u8>>) {
    match door {
        Door::Events => events(content),
        Door::Lines => {
            let text = String::from_utf8_lossy(content);
            let (failures, lines): (Vec<Value>, Vec<Value>) = text
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'))
                .map(|line| serde_json::from_str(line).unwrap())
                .partition(|line: &Value| line.get("error").is_some());
            (lines, failures.first().map(|failure| failure.to_string().into_bytes()))
        }
        Door::GrpcWebText => envelopes(door, method, &unpadded(content)),
        _ => envelopes(door, method, content),
    }
}

fn events(content: &[u8]) -> (Vec<Value>, Option<Vec<u8>>) {
    let text = String::from_utf8_lossy(content);
    let (mut found, mut failure) = (Vec::new(), None);
    for event in text.split_inclusive("\n\n").filter(|event| event.ends_with("\n\n")) {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        match (field("event:"), field("data:")) {
            (Some("end"), _) => failure = Some(Vec::new()),
            (Some("error"), Some(data)) => failure = Some(data.as_bytes().to_vec()),
            (None, Some(data)) => found.push(serde_json::from_str(data).unwrap()),
            // A comment keeps the connection alive.
            _ => {}
        }
    }
    (found, failure)
}

fn envelopes(door: Door, method: &Method, mut content: &[u8]) -> (Vec<Value>, Option<Vec<u8>>) {
    let (mut found, mut end) = (Vec::new(), None);
    while let Some((head, rest)) = content.split_first_chunk::<5>() {
        let size = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if rest.len() < size {
            break;
        }
        let (message, rest) = rest.split_at(size);
        match head[0] {
            0 => found.push(shown(door, method, message)),
            _ => end = Some(message.to_vec()),
        }
        content = rest;
    }
    (found, end)
}

/// Base64 in pieces, each padded by itself.
pub(super) fn unpadded(text: &[u8]) -> Vec<u8> {
    text.chunks_exact(4).flat_map(|four| STANDARD.decode(four).unwrap()).collect()
}

/// A message in the style of its page.
fn shown(door: Door, method: &Method, message: &[u8]) -> Value {
    let wire = match door {
        Door::ConnectJson | Door::ConnectGet => {
            let parse = Parse { unknown_fields: Unknown::Refuse };
            method.output.decode(message, parse).unwrap_or_else(|error| panic!("{}: {error}", method.path))
        }
        _ => message.to_vec(),
    };
    in_style(method, &wire)
}

pub(super) fn in_style(method: &Method, wire: &[u8]) -> Value {
    let mut json = Vec::new();
    method.output.encode(wire, method.surface.json, &mut json).unwrap();
    serde_json::from_slice(&json).unwrap()
}

/// The one message of an answer without envelopes.
fn one(door: Door, method: &Method, headers: &HeaderMap, content: &[u8]) -> Value {
    if door != Door::Rest {
        return shown(door, method, content);
    }
    let is_download = method.rest.raw.is_some_and(|name| method.output.path(name).is_some());
    if let Some(name) = method.rest.raw.filter(|_| is_download) {
        return json!({name: STANDARD.encode(content), "content_type": header_of(headers, "content-type")});
    }
    if content.is_empty() {
        return Value::Object(Map::new());
    }
    let json: Value = serde_json::from_slice(content).unwrap();
    match &method.bindings[0].response {
        Some(field) => json!({field.proto_path(): json}),
        None => json,
    }
}

fn code(door: Door, method: &Method, told: &Told, end: Option<Vec<u8>>, trailers: &HeaderMap) -> String {
    match door {
        Door::ConnectGet => connect_code(told.status, told.text.as_bytes()),
        Door::ConnectJson | Door::ConnectProto if !enveloped(door, method) => {
            connect_code(told.status, told.text.as_bytes())
        }
        Door::ConnectJson | Door::ConnectProto => {
            let end: Value = serde_json::from_slice(&end.unwrap_or_default()).unwrap_or_default();
            match (&end["error"]["code"], told.status) {
                (Value::String(code), _) => code.clone(),
                (_, StatusCode::OK) if end.is_object() => "ok".to_owned(),
                (_, status) => connect_code(status, told.text.as_bytes()),
            }
        }
        Door::Grpc | Door::GrpcWeb | Door::GrpcWebText => {
            let in_body = end.map(|end| String::from_utf8_lossy(&end).into_owned()).unwrap_or_default();
            let in_body = in_body.lines().find_map(|line| line.strip_prefix("grpc-status:").map(str::trim));
            let found = [
                in_body.unwrap_or_default(),
                header_of(&told.headers, "grpc-status"),
                header_of(trailers, "grpc-status"),
            ];
            grpc_code(found.into_iter().find(|status| !status.is_empty()).unwrap_or_default())
        }
        Door::Events | Door::Lines if told.status.is_success() => match end.filter(|end| !end.is_empty()) {
            Some(failure) => serde_json::from_slice::<Value>(&failure).unwrap()["error"]["code"].to_string(),
            None => "ok".to_owned(),
        },
        Door::Rest | Door::Events | Door::Lines | Door::Socket => http_code(told.status),
    }
}

fn connect_code(status: StatusCode, body: &[u8]) -> String {
    if status == StatusCode::OK {
        return "ok".to_owned();
    }
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    json["code"].as_str().map_or_else(|| format!("http {status}"), str::to_owned)
}

fn grpc_code(status: &str) -> String {
    const NAMES: [&str; 17] = [
        "ok",
        "canceled",
        "unknown",
        "invalid_argument",
        "deadline_exceeded",
        "not_found",
        "already_exists",
        "permission_denied",
        "resource_exhausted",
        "failed_precondition",
        "aborted",
        "out_of_range",
        "unimplemented",
        "internal",
        "unavailable",
        "data_loss",
        "unauthenticated",
    ];
    status
        .parse()
        .ok()
        .and_then(|at: usize| NAMES.get(at))
        .map_or_else(|| format!("grpc {status:?}"), |name| (*name).to_owned())
}

pub(super) fn http_code(status: StatusCode) -> String {
    match status.as_u16() {
        100..300 => "ok".to_owned(),
        401 => "unauthenticated".to_owned(),
        403 => "permission_denied".to_owned(),
        404 => "not_found".to_owned(),
        501 => "unimplemented".to_owned(),
        other => format!("http {other}"),
    }
}
