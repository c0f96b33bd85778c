//! What an operation may answer.
//!
//! A newcomer's usual mistake is to list statuses at a method. Which ones can come follows from who may call it, what is
//! sent to it and what it does; one that only a single method has is told by the error itself, under `default`.
//!
//! *Knows:* access rules, bodies, the dialects. *Does not know:* handlers.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use portico_base::{Code, Error, Reason, RequestId, Retry, reason};
use portico_json::Parse;
use portico_schema::{Access, Binding, Body, Idempotency, Method, Rest, Shape, Surface};
use prost_reflect::MessageDescriptor;
use serde_json::{Map, Value, json};

use super::{
    error_name, headers,
    shapes::{Shapes, Side},
};
use crate::dialect;

/// An error of each status that is told of, as an example.
const EXAMPLES: &[(u16, Code, Reason, &str, &str)] = &[
    (
        400,
        Code::InvalidArgument,
        reason::INVALID_JSON,
        "The request cannot be read, or names a place that cannot be.",
        "the body is not JSON: EOF while parsing an object at line 1 column 1",
    ),
    (401, Code::Unauthenticated, reason::UNAUTHORIZED, "There is no valid key.", "no valid credential"),
    (
        403,
        Code::PermissionDenied,
        reason::PERMISSION_DENIED,
        "The key may not do this.",
        "the key has no permission for this",
    ),
    (
        404,
        Code::NotFound,
        reason::INSTANCE_NOT_FOUND,
        "What is named does not exist, or belongs to somebody else.",
        "there is no such instance",
    ),
    (
        408,
        Code::DeadlineExceeded,
        reason::UPLOAD_TIMEOUT,
        "The body did not arrive in time.",
        "the body did not arrive in time",
    ),
    (
        409,
        Code::Aborted,
        reason::CONFLICT,
        "It does not go with what is there already.",
        "somebody else changed it meanwhile",
    ),
    (
        412,
        Code::FailedPrecondition,
        reason::VERSION_MISMATCH,
        "`If-Match` names another version than the current one.",
        "the current version is 3; read it again, then change it",
    ),
    (
        413,
        Code::ResourceExhausted,
        reason::BODY_TOO_LARGE,
        "The body is too large.",
        "the body is larger than 1048576 bytes",
    ),
    (
        415,
        Code::InvalidArgument,
        reason::UNSUPPORTED_MEDIA_TYPE,
        "The body has another media type, or is compressed.",
        "the body must be application/json",
    ),
    (
        422,
        Code::InvalidArgument,
        reason::VALIDATION_FAILED,
        "The request can be read, but a field does not hold what it may.",
        "limit: the number is out of range",
    ),
    (
        426,
        Code::FailedPrecondition,
        reason::UPGRADE_REQUIRED,
        "The request is no WebSocket handshake.",
        "a WebSocket handshake is needed here",
    ),
    (
        429,
        Code::ResourceExhausted,
        reason::RATE_LIMITED,
        "Too many calls; `Retry-After` says when to call again.",
        "too many calls",
    ),
    (
        503,
        Code::Unavailable,
        reason::RECORDS_UNAVAILABLE,
        "Something that is needed is away or not set up; `Retry-After` says when to call again, if that helps.",
        "the records cannot be reached",
    ),
];

/// The errors of a surface, one component for each status, by name.
pub(super) fn components(surface: &Surface) -> Map<String, Value> {
    let id = RequestId::parse("req_47qhv6x8rfa2f8tp6xe4").unwrap_or_else(RequestId::generate);
    let schema = json!({"$ref": format!("#/components/schemas/{}", error_name(surface))});
    let told = |&(status, code, reason, description, message): &(u16, Code, Reason, &str, &'static str)| {
        let mut error = Error::new(code, reason, message);
        if matches!(status, 429 | 503) {
            error = error.retry(Retry::After(Duration::from_secs(1)));
        }
        let body = dialect::body(&error, surface.dialect, &id);
        let example: Value = serde_json::from_slice(&body).unwrap_or_default();
        let content = json!({"application/json": {"schema": schema.clone(), "example": example}});
        let headers = headers::of_error(Some(status));
        (component(surface, status), json!({"description": description, "headers": headers, "content": content}))
    };
    EXAMPLES.iter().map(told).collect()
}

fn component(surface: &Surface, status: u16) -> String {
    format!("{}.{status}", error_name(surface))
}

/// All that a REST route may answer, but for what a single method may.
pub(super) fn rest(
    method: &Method,
    binding: &Binding,
    (input, output): (&MessageDescriptor, &MessageDescriptor),
    example: Option<&Value>,
    shapes: &mut Shapes<'_>,
) -> Value {
    let has_body = !matches!(binding.body, Body::None);
    let takes = input.fields().len() > 0;
    let changes = method.idempotency != Idempotency::NoSideEffects;
    let mut statuses = errors_of_all(method);
    let reads = |header: &str| method.rest.headers.iter().any(|name| name.eq_ignore_ascii_case(header));
    statuses.extend([(400, takes || has_body), (422, takes || has_body)]);
    statuses.extend([(404, takes && method.access != Access::Public), (409, changes)]);
    statuses.extend([(408, has_body), (413, has_body), (415, has_body), (412, reads("If-Match"))]);
    let mut answers = refusals(method, &statuses);
    let success = success(method, binding, output, example, shapes);
    let (mut existing, mut out_of_service) = (success.clone(), success.clone());
    existing["description"] = "It existed already; nothing changed.".into();
    out_of_service["description"] = "Done, and the answer says that the thing is out of service.".into();
    if let Some(content) = out_of_service.pointer_mut("/content/application~1json").and_then(Value::as_object_mut) {
        // The thing of the example is in service.
        content.remove("example");
    }
    let Rest { success: done, existing: again, out_of_service: out, .. } = method.rest;
    for (status, answer) in [(out, out_of_service), (again, existing), (done, success)] {
        answers.insert(status.to_string(), answer);
    }
    if reads("If-None-Match") {
        let headers = headers::of_success(&method.rest.answer_headers);
        let known = "The caller has it already: `If-None-Match` names its `ETag`.";
        answers.insert("304".to_owned(), json!({"description": known, "headers": headers}));
    }
    json!(answers)
}

/// All that the handshake of a WebSocket may be answered with.
pub(super) fn socket(method: &Method) -> Value {
    let mut statuses = errors_of_all(method);
    statuses.extend([(404, true), (409, true), (422, true), (426, true)]);
    let mut answers = refusals(method, &statuses);
    let opened = "The connection is a WebSocket from here on.";
    answers.insert("101".to_owned(), json!({"description": opened, "headers": headers::of_upgrade()}));
    json!(answers)
}

/// What the gate says, whatever is called.
fn errors_of_all(method: &Method) -> Vec<(u16, bool)> {
    let asks = method.access != Access::Public;
    let may_forbid = matches!(method.access, Access::Permission(_) | Access::Admin);
    // Two credentials that differ are 400, whatever else is asked. Who may call without a key may still call too often.
    vec![(400, asks), (401, asks), (403, may_forbid), (429, true), (503, asks)]
}

/// By status, so that they are read in order.
fn refusals(method: &Method, statuses: &[(u16, bool)]) -> BTreeMap<String, Value> {
    let error = json!({"$ref": format!("#/components/schemas/{}", error_name(method.surface))});
    let any = json!({
        "description": "Why the call did not succeed.",
        "headers": headers::of_error(None),
        "content": {"application/json": {"schema": error}},
    });
    let mut answers = BTreeMap::from_iter([("default".to_owned(), any)]);
    for (status, _) in statuses.iter().filter(|(_, may_come)| *may_come) {
        let reference = format!("#/components/responses/{}", component(method.surface, *status));
        answers.insert(status.to_string(), json!({"$ref": reference}));
    }
    answers
}

/// What goes back when the call succeeds, with its headers.
fn success(
    method: &Method,
    binding: &Binding,
    output: &MessageDescriptor,
    example: Option<&Value>,
    shapes: &mut Shapes<'_>,
) -> Value {
    let headers = headers::of_success(&method.rest.answer_headers);
    if method.rest.success == 204 {
        return json!({"description": DONE, "headers": headers});
    }
    let response = example.and_then(|example| example.get("response"));
    if let Some(name) = method.rest.raw.filter(|name| output.get_field_by_name(name).is_some()) {
        let mut content = json!({"schema": {}});
        if let Some(example) = response.and_then(|response| bytes(response, name)) {
            content["example"] = example;
        }
        let description = match method.shape {
            Shape::ServerStream => {
                "The content. Whoever accepts `text/event-stream` or `application/x-ndjson` by name gets messages with its chunks."
            }
            _ => "The content.",
        };
        return json!({"description": description, "headers": headers, "content": {"*/*": content}});
    }
    let style = method.style();
    let shape = match &binding.response {
        Some(path) => match path.leaf_message().and_then(|it| output.parent_pool().get_message_by_name(it.name())) {
            Some(message) => shapes.reference(&message, style, Side::Told),
            None => json!({}),
        },
        None => shapes.reference(output, style, Side::Told),
    };
    let mut content = json!({"schema": shape});
    if let Some(example) = response.and_then(|response| printed(method, binding, response)) {
        content["example"] = example;
    }
    if method.shape == Shape::ServerStream {
        let events = json!({"schema": {"type": "string"}});
        let content = json!({"text/event-stream": events, "application/x-ndjson": content});
        return json!({"description": STREAM, "headers": headers, "content": content});
    }
    json!({"description": DONE, "headers": headers, "content": {"application/json": content}})
}

const DONE: &str = "Done.";
const STREAM: &str = "One message after the other. The last event is `end`, or `error` with the error as its data; the last line is \
                      an object with the member `error` if the stream fails.";

/// The example of an answer as the door prints it, with what the page shows though it is not set.
fn printed(method: &Method, binding: &Binding, example: &Value) -> Option<Value> {
    let message = method.output.decode(example.to_string().as_bytes(), Parse::default()).ok()?;
    let mut json = Vec::new();
    match &binding.response {
        Some(field) => field.encode(&message, method.style(), &mut json),
        None => method.output.encode(&message, method.style(), &mut json),
    }
    .ok()?;
    serde_json::from_slice(&json).ok()
}

/// What a field of bytes holds in an example, as JSON or text; nothing when it is neither.
pub(super) fn bytes(message: &Value, field: &str) -> Option<Value> {
    let bytes = STANDARD.decode(message.get(field)?.as_str()?).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    Some(serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
