//! A message as a REST request: captures into the path, what the body takes into the body, the rest into the query.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, request::Builder};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use portico::schema::{Binding, Body, Method, Segment};
use serde_json::{Map, Value};

/// Separates the parts of a form.
pub(super) const BOUNDARY: &str = "portico-test-boundary";
/// What needs no escape in a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The request by the first route of a method.
pub(super) fn request(method: &Method, messages: &[Value]) -> (Builder, Bytes) {
    let binding = &method.bindings[0];
    let mut rest = messages[0].as_object().unwrap().clone();
    let mut uri = path(binding, &mut rest);
    let (media_type, body): (String, Bytes) = match &binding.body {
        Body::Whole if method.rest.multipart => {
            (format!("multipart/form-data; boundary={BOUNDARY}"), form(messages).into())
        }
        Body::Whole => match method.rest.raw.and_then(|name| rest.remove(name)) {
            Some(first) => {
                let chunks =
                    std::iter::once(&first).chain(messages[1..].iter().map(|it| &it[method.rest.raw.unwrap()]));
                let bytes: Vec<u8> =
                    chunks.flat_map(|chunk| STANDARD.decode(chunk.as_str().unwrap()).unwrap()).collect();
                ("application/octet-stream".to_owned(), bytes.into())
            }
            None => ("application/json".to_owned(), Value::Object(rest).to_string().into()),
        },
        Body::Field(field) => {
            let body = rest.remove(&field.proto_path()).unwrap_or_default();
            uri += &query(&rest);
            ("application/json".to_owned(), body.to_string().into())
        }
        Body::None => {
            uri += &query(&rest);
            (String::new(), Bytes::new())
        }
    };
    let request = Request::builder().method(binding.verb.clone()).uri(uri);
    let request = if media_type.is_empty() { request } else { request.header("content-type", media_type) };
    (request, body)
}

/// The path of a route, with the captured members taken out of the message.
fn path(binding: &Binding, message: &mut Map<String, Value>) -> String {
    let template = &binding.template;
    let mut path = String::new();
    let mut at = 0;
    while at < template.segments.len() {
        path.push('/');
        if let Some(variable) = template.variables.iter().find(|variable| variable.start == at) {
            let value = message.remove(&variable.field).unwrap_or_default();
            let text = value.as_str().unwrap_or("missing");
            let parts: Vec<String> =
                text.split('/').map(|part| utf8_percent_encode(part, SEGMENT).to_string()).collect();
            path += &parts.join("/");
            at = variable.end;
        } else {
            let Segment::Literal(literal) = &template.segments[at] else { panic!("a wildcard without a name") };
            path += literal;
            at += 1;
        }
    }
    match &template.verb {
        Some(verb) => format!("{path}:{verb}"),
        None => path,
    }
}

fn query(members: &Map<String, Value>) -> String {
    let pairs = members.iter().flat_map(|(name, value)| {
        let values: Vec<&Value> = value.as_array().map_or_else(|| vec![value], |many| many.iter().collect());
        values.into_iter().map(move |value| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("{name}={}", utf8_percent_encode(&text, NON_ALPHANUMERIC))
        })
    });
    let pairs: Vec<String> = pairs.collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// Each member of each message as a part of a form.
fn form(messages: &[Value]) -> Vec<u8> {
    let mut form = Vec::new();
    for (name, value) in messages.iter().flat_map(|message| message.as_object().unwrap()) {
        let text = value.as_str().unwrap();
        let (named, content) = match name.as_str() {
            "file" => ("; filename=\"bundle.tar.gz\"", STANDARD.decode(text).unwrap()),
            _ => ("", text.as_bytes().to_vec()),
        };
        let head = format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"{named}\r\n\r\n");
        form.extend([head.as_bytes(), &content, b"\r\n"].concat());
    }
    form.extend(format!("--{BOUNDARY}--\r\n").into_bytes());
    form
}
