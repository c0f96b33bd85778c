//! One operation per REST route.
//!
//! *Knows:* routes, bodies, examples. *Does not know:* what is answered.

use std::collections::BTreeSet;

use portico_json::{FieldPath, Style};
use portico_schema::{Access, Binding, Body, Method, Schema, Template, Variable};
use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use super::{
    answers, headers, operation_id,
    rules::Rule,
    shapes::{Shapes, Side},
};

/// The template in OpenAPI's form: variables lose their patterns.
pub(super) fn path(template: &Template) -> String {
    let mut path = String::new();
    let mut at = 0;
    while at < template.segments.len() {
        path.push('/');
        match template.variables.iter().find(|variable| variable.start == at) {
            Some(variable) => {
                path.push('{');
                path.push_str(&variable.field);
                path.push('}');
                at = variable.end;
            }
            None => {
                match &template.segments[at] {
                    portico_schema::Segment::Literal(literal) => path.push_str(literal),
                    portico_schema::Segment::One => path.push('*'),
                    portico_schema::Segment::Rest => path.push_str("**"),
                }
                at += 1;
            }
        }
    }
    if let Some(verb) = &template.verb {
        path.push(':');
        path.push_str(verb);
    }
    path
}

/// The operation of a REST route.
pub(super) fn rest(
    schema: &Schema,
    method: &Method,
    binding: &Binding,
    index: usize,
    example: Option<&Value>,
    shapes: &mut Shapes<'_>,
) -> Value {
    let (Some(input), Some(output)) = (
        schema.pool().get_message_by_name(method.input.name()),
        schema.pool().get_message_by_name(method.output.name()),
    ) else {
        return Value::Null;
    };
    let mut operation = described(method, operation_id(method, index));
    operation["parameters"] = parameters(method, binding, &input, example, shapes);
    if let Some(body) = request_body(method, binding, &input, example, shapes) {
        operation["requestBody"] = body;
    }
    operation["responses"] = answers::rest(method, binding, (&input, &output), example, shapes);
    operation
}

/// The upgrade request of a WebSocket. What travels then has no place in OpenAPI but the description.
pub(super) fn socket(
    schema: &Schema,
    method: &Method,
    template: &Template,
    example: Option<&Value>,
    shapes: &mut Shapes<'_>,
) -> Value {
    let Some(input) = schema.pool().get_message_by_name(method.input.name()) else { return Value::Null };
    let mut operation = described(method, operation_id(method, 0));
    let frames = [("sent", "request"), ("received", "response")].into_iter().filter_map(|(frame, member)| {
        let text = example?.get(member)?.get("text")?.as_str()?;
        Some(format!("\n\nA frame that is {frame}:\n\n```json\n{text}\n```"))
    });
    let description = operation["description"].as_str().unwrap_or_default();
    operation["description"] = format!(
        "{description}\n\nThe request is a WebSocket handshake (RFC 6455, or RFC 8441 over HTTP/2); any other is refused.{}",
        frames.collect::<String>()
    )
    .into();
    let style = method.surface.json;
    let mut parameters = path_parameters(template, &input, style, shapes);
    parameters.push(headers::subprotocol(method.surface.subprotocol));
    // Frames are sent, not asked for.
    let is_frame = |field: &FieldDescriptor| field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic());
    let free = input.fields().filter(|field| !captured(template, field.name()) && !is_frame(field));
    parameters.extend(free.filter(is_plain).map(|field| query_parameter(&field, style, None, shapes)));
    operation["parameters"] = parameters.into();
    operation["responses"] = answers::socket(method);
    operation
}

fn described(method: &Method, id: String) -> Value {
    let summary = method.comment.split_once(". ").map_or(method.comment.as_str(), |(first, _)| first);
    // What is left out where it is not set is so because some callers are told more than others.
    let tells_keys_more = method.rest.sparse;
    let security = match method.access {
        Access::Public if tells_keys_more => json!([{}, {"key": []}]),
        Access::Public => json!([]),
        _ => json!([{"key": []}]),
    };
    let access = match method.access {
        Access::Public if tells_keys_more => "Anybody may call; who has a valid key is told more.".to_owned(),
        Access::Public => "Anybody may call.".to_owned(),
        Access::Authenticated => "Any valid key may call.".to_owned(),
        Access::Permission(permission) => format!("Needs the permission `{permission}`."),
        Access::Admin => "Needs an administrator's key.".to_owned(),
    };
    json!({
        "operationId": id,
        "tags": [method.service],
        "summary": summary.trim_end_matches('.'),
        "description": format!("{}\n\n{access}", method.comment),
        "security": security,
    })
}

fn parameters(
    method: &Method,
    binding: &Binding,
    input: &MessageDescriptor,
    example: Option<&Value>,
    shapes: &mut Shapes<'_>,
) -> Value {
    let style = method.surface.json;
    let mut all = path_parameters(&binding.template, input, style, shapes);
    all.extend(method.rest.headers.iter().map(|name| headers::asked(name)));
    let taken = match (&binding.body, method.rest.flat) {
        (Body::Whole, None) => return all.into(),
        (Body::Whole, Some(flat)) => Some(flat.to_owned()),
        (Body::None | Body::Field(_), _) => body_field(binding),
    };
    if method.rest.query.is_some() {
        // Whatever they are called: who reads them is somebody else.
        let shape = json!({"type": "object", "additionalProperties": {"type": "string"}});
        all.push(json!({"name": "query", "in": "query", "style": "form", "explode": true, "schema": shape}));
        return all.into();
    }
    let is_free =
        |field: &FieldDescriptor| Some(field.name()) != taken.as_deref() && !captured(&binding.template, field.name());
    let free = input.fields().filter(|field| is_free(field) && is_plain(field));
    all.extend(free.map(|field| query_parameter(&field, style, example, shapes)));
    all.into()
}

fn path_parameters(
    template: &Template,
    input: &MessageDescriptor,
    style: Style,
    shapes: &mut Shapes<'_>,
) -> Vec<Value> {
    let parameter = |variable: &Variable| {
        let shape = input.get_field_by_name(&variable.field).map(|field| shapes.field(&field, style, Side::Asked));
        let shape = shape.unwrap_or_else(|| json!({"type": "string"}));
        json!({"name": variable.field, "in": "path", "required": true, "schema": shape})
    };
    template.variables.iter().map(parameter).collect()
}

fn query_parameter(field: &FieldDescriptor, style: Style, example: Option<&Value>, shapes: &mut Shapes<'_>) -> Value {
    let shape = shapes.field(field, style, Side::Asked);
    let mut parameter = json!({"name": field.name(), "in": "query", "schema": shape});
    if Rule::of(field).required {
        parameter["required"] = true.into();
    }
    if let Some(value) = example.and_then(|example| example.get("request")?.get(field.name())) {
        parameter["example"] = value.clone();
    }
    parameter
}

fn request_body(
    method: &Method,
    binding: &Binding,
    input: &MessageDescriptor,
    example: Option<&Value>,
    shapes: &mut Shapes<'_>,
) -> Option<Value> {
    let style = method.surface.json;
    let mut examples = example.and_then(|example| example.get("request"));
    let is_given = |field: &FieldDescriptor| !captured(&binding.template, field.name());
    let (media, shape) = match &binding.body {
        Body::None => return None,
        Body::Whole if method.rest.multipart => {
            let mut shape = shapes.object(input, style, Side::Asked, |_| true);
            for field in input.fields().filter(|field| matches!(field.kind(), Kind::Bytes)) {
                shape["properties"][field.name()] = json!({"type": "string", "format": "binary"});
            }
            examples = None;
            ("multipart/form-data", shape)
        }
        Body::Whole if is_raw_input(method, input) => {
            examples = None;
            ("application/octet-stream", json!({"type": "string", "format": "binary"}))
        }
        Body::Whole => {
            let whole = shapes.object(input, style, Side::Given, is_given);
            let flat = method.rest.flat.and_then(|name| input.get_field_by_name(name));
            let shape = match flat {
                Some(field) => flat_or_in_full(whole, &field, input, style, shapes),
                None => whole,
            };
            ("application/json", shape)
        }
        Body::Field(_) => {
            let field = body_field(binding).and_then(|name| input.get_field_by_name(&name));
            ("application/json", field.map_or(json!({}), |field| shapes.field(&field, style, Side::Given)))
        }
    };
    let mut content = json!({"schema": shape});
    if let Some(request) = examples {
        content["example"] = sent(binding, method.rest.flat, request);
    }
    // A message that has nothing to say may be left out.
    let required = media != "application/json" || input.fields().any(|field| is_given(&field));
    Some(json!({"required": required, "content": {media: content}}))
}

/// A body that is one field, or an object with that field and what else there is room for.
fn flat_or_in_full(
    mut full: Value,
    field: &FieldDescriptor,
    input: &MessageDescriptor,
    style: Style,
    shapes: &mut Shapes<'_>,
) -> Value {
    full["description"] = format!("`{}` by name, and what the query may say instead.", field.name()).into();
    let mut flat = shapes.field(field, style, Side::Given);
    let taken: Vec<String> = input.fields().flat_map(|it| [it.name().to_owned(), it.json_name().to_owned()]).collect();
    flat["propertyNames"]["not"] = json!({"enum": BTreeSet::from_iter(taken)});
    json!({"anyOf": [full, flat]})
}

/// What of an example request goes into the body: where a flat one is taken, not what the query says then.
fn sent(binding: &Binding, flat: Option<&str>, request: &Value) -> Value {
    match (&binding.body, request) {
        (Body::Field(field), request) => part(Some(field), request),
        (_, Value::Object(members)) => members
            .iter()
            .filter(|(name, _)| !captured(&binding.template, name) && flat.is_none_or(|flat| flat == name.as_str()))
            .map(|(name, it)| (name.clone(), it.clone()))
            .collect(),
        (_, other) => other.clone(),
    }
}

/// The member of an example that is the body; all of it when none is named.
fn part(field: Option<&FieldPath>, message: &Value) -> Value {
    let pointer = field.map(|field| format!("/{}", field.proto_path().replace('.', "/"))).unwrap_or_default();
    message.pointer(&pointer).cloned().unwrap_or_default()
}

fn captured(template: &Template, field: &str) -> bool {
    template.variables.iter().any(|variable| variable.field == field)
}

/// The field that takes the body, by its name in the rule.
fn body_field(binding: &Binding) -> Option<String> {
    match &binding.body {
        Body::Field(path) => Some(path.proto_path()),
        Body::None | Body::Whole => None,
    }
}

fn is_raw_input(method: &Method, input: &MessageDescriptor) -> bool {
    method.rest.raw.is_some_and(|name| input.get_field_by_name(name).is_some())
}

/// What a query can carry: scalars, enums, lists of them, and well-known types that are one text.
fn is_plain(field: &FieldDescriptor) -> bool {
    let text = |name: &str| {
        matches!(name, "google.protobuf.Timestamp" | "google.protobuf.Duration" | "google.protobuf.FieldMask")
    };
    match field.kind() {
        Kind::Message(message) => text(message.full_name()) && field.cardinality() != Cardinality::Repeated,
        _ => true,
    }
}
