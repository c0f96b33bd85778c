//! One operation per REST route.

use portico_json::FieldPath;
use portico_schema::{Access, Binding, Body, Method, Schema, Shape, Template};
use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use super::{error_name, operation_id, shapes::Shapes};

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
    operation["parameters"] = parameters(method, binding, &input, shapes);
    if let Some(body) = request_body(method, binding, &input, example, shapes) {
        operation["requestBody"] = body;
    }
    let error = json!({"$ref": format!("#/components/schemas/{}", error_name(method.surface))});
    let success = answer(method, binding, &output, example, shapes);
    operation["responses"] = json!({
        "default": {"description": "Why the call did not succeed.", "content": {"application/json": {"schema": error}}},
    });
    for status in [method.rest.success, method.rest.existing, method.rest.out_of_service] {
        operation["responses"][status.to_string()] = success.clone();
    }
    operation
}

/// The upgrade request of a WebSocket.
pub(super) fn socket(method: &Method, template: &Template) -> Value {
    let mut operation = described(method, operation_id(method, 0));
    let names = template.variables.iter().map(|variable| variable.field.as_str());
    operation["parameters"] = names.map(|name| path_parameter(name, json!({"type": "string"}))).collect();
    operation["responses"] = json!({
        "101": {"description": "The connection is a WebSocket from here on."},
        "default": {"description": "Why the connection was not upgraded."},
    });
    operation
}

fn described(method: &Method, id: String) -> Value {
    let summary = method.comment.split_once(". ").map_or(method.comment.as_str(), |(first, _)| first);
    let security = match method.access {
        Access::Public => json!([]),
        _ => json!([{"key": []}]),
    };
    let access = match method.access {
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

fn parameters(method: &Method, binding: &Binding, input: &MessageDescriptor, shapes: &mut Shapes<'_>) -> Value {
    let style = method.surface.json;
    let mut all: Vec<Value> = Vec::new();
    for variable in &binding.template.variables {
        let shape = input.get_field_by_name(&variable.field).map(|field| shapes.field(&field, style));
        all.push(path_parameter(&variable.field, shape.unwrap_or_else(|| json!({"type": "string"}))));
    }
    for name in &method.rest.headers {
        all.push(json!({"name": name, "in": "header", "schema": {"type": "string"}}));
    }
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
    let free =
        input.fields().filter(|field| Some(field.name()) != taken.as_deref() && !captured(binding, field.name()));
    for field in free.filter(is_plain) {
        let shape = shapes.field(&field, style);
        all.push(json!({"name": field.name(), "in": "query", "schema": shape}));
    }
    all.into()
}

fn path_parameter(name: &str, shape: Value) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": shape})
}

fn request_body(
    method: &Method,
    binding: &Binding,
    input: &MessageDescriptor,
    example: Option<&Value>,
    shapes: &mut Shapes<'_>,
) -> Option<Value> {
    let style = method.surface.json;
    let (media, shape) = match &binding.body {
        Body::None => return None,
        Body::Whole if method.rest.multipart => {
            let mut shape = shapes.object(input, style, |_| true);
            let required: Vec<String> = input.fields().map(|field| field.name().to_owned()).collect();
            for field in input.fields().filter(|field| matches!(field.kind(), Kind::Bytes)) {
                shape["properties"][field.name()] = json!({"type": "string", "format": "binary"});
            }
            shape["required"] = required.into();
            ("multipart/form-data", shape)
        }
        Body::Whole if is_raw_input(method, input) => {
            ("application/octet-stream", json!({"type": "string", "format": "binary"}))
        }
        Body::Whole => ("application/json", shapes.object(input, style, |field| !captured(binding, field.name()))),
        Body::Field(_) => {
            let field = body_field(binding).and_then(|name| input.get_field_by_name(&name));
            ("application/json", field.map_or(json!({}), |field| shapes.field(&field, style)))
        }
    };
    let mut content = json!({"schema": shape});
    if let Some(request) = example.and_then(|example| example.get("request")).filter(|_| media == "application/json") {
        content["example"] = sent(binding, request);
    }
    Some(json!({"required": true, "content": {media: content}}))
}

fn answer(
    method: &Method,
    binding: &Binding,
    output: &MessageDescriptor,
    example: Option<&Value>,
    shapes: &mut Shapes<'_>,
) -> Value {
    let style = method.surface.json;
    let raw = method.rest.raw.and_then(|name| output.get_field_by_name(name));
    if raw.is_some() {
        return json!({"description": "The content.", "content": {"*/*": {"schema": {}}}});
    }
    if method.rest.success == 204 {
        return json!({"description": "Done."});
    }
    let shape = match &binding.response {
        Some(path) => match path.leaf_message().and_then(|it| output.parent_pool().get_message_by_name(it.name())) {
            Some(message) => shapes.reference(&message, style),
            None => json!({}),
        },
        None => shapes.reference(output, style),
    };
    if method.shape == Shape::ServerStream {
        return json!({"description": "One message after the other.", "content": {
            "text/event-stream": {"schema": {"type": "string"}},
            "application/x-ndjson": {"schema": shape},
        }});
    }
    let mut content = json!({"schema": shape});
    if let Some(response) = example.and_then(|example| example.get("response")) {
        content["example"] = part(binding.response.as_ref(), response);
    }
    json!({"description": "Done.", "content": {"application/json": content}})
}

/// What of an example request goes into the body.
fn sent(binding: &Binding, request: &Value) -> Value {
    match (&binding.body, request) {
        (Body::Field(field), request) => part(Some(field), request),
        (_, Value::Object(members)) => members
            .iter()
            .filter(|(name, _)| !captured(binding, name))
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

fn captured(binding: &Binding, field: &str) -> bool {
    binding.template.variables.iter().any(|variable| variable.field == field)
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
