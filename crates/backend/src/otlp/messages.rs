//! The part of the OTLP trace protocol that is sent, with the field numbers of opentelemetry-proto 1.x.

use portico_base::Timestamp;
use portico_port::spans::Span as Ended;
use prost::{Message, Oneof};

use super::Sender;

/// The request with these spans.
pub(super) fn request(spans: impl Iterator<Item = Ended>, sender: &Sender) -> ExportTraceServiceRequest {
    let resource = Resource {
        attributes: vec![
            text("service.name", sender.service.clone()),
            text("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            text("deployment.environment.name", sender.environment.to_owned()),
        ],
    };
    let scope = Scope { name: "portico".to_owned() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: spans.map(span).collect() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans }] }
}

/// A server's span (`SPAN_KIND_SERVER`).
const KIND_SERVER: i32 = 2;
/// `STATUS_CODE_ERROR`.
const STATUS_ERROR: i32 = 2;

fn span(ended: Ended) -> Span {
    let began = nanos(ended.began);
    let took = u64::try_from(ended.duration.as_nanos()).unwrap_or(u64::MAX);
    Span {
        trace_id: ended.trace.trace_id.to_be_bytes().to_vec(),
        span_id: ended.trace.span_id.to_be_bytes().to_vec(),
        parent_span_id: ended.trace.parent_id.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
        name: ended.name.trim_start_matches('/').to_owned(),
        kind: KIND_SERVER,
        start_time_unix_nano: began,
        end_time_unix_nano: began.saturating_add(took),
        attributes: ended.attributes.into_iter().map(|(name, value)| text(name, value)).collect(),
        status: ended.failure.map(|code| Status { message: code.as_str().to_owned(), code: STATUS_ERROR }),
    }
}

fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.0).unwrap_or(0).saturating_mul(1_000_000)
}

fn text(key: &str, value: String) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(Value::Text(value)) }) }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
}
