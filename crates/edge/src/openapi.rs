//! The OpenAPI 3.1 document of every REST route, made from the schema.
//!
//! A newcomer's usual mistake is to annotate handlers. What the document says is what the proto files say: comments,
//! fields, routes, access; a route that is not in it does not exist.
//!
//! *Knows:* the schema, examples, the dialects' error shapes. *Does not know:* handlers.

mod answers;
mod comments;
mod headers;
mod operation;
mod rules;
mod shapes;

use std::collections::BTreeMap;

use portico_schema::{Method, Schema, Surface};
use serde_json::{Map, Value, json};

use self::{comments::Comments, shapes::Shapes};

/// An example request and answer of a method, as `docs/examples/` holds them.
pub type Examples = BTreeMap<String, Value>;

/// The document.
pub fn document(schema: &Schema, examples: &Examples) -> Value {
    let comments = Comments::read(schema.pool());
    let mut shapes = Shapes::new(&comments);
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut tags: Vec<&'static str> = Vec::new();
    for method in schema.methods() {
        if (!method.bindings.is_empty() || method.socket.is_some()) && !tags.contains(&method.service) {
            tags.push(method.service);
        }
        let example = examples.get(method.path.trim_start_matches('/').replace('/', ".").as_str());
        for (index, binding) in method.bindings.iter().enumerate() {
            let operation = operation::rest(schema, method, binding, index, example, &mut shapes);
            let item = paths.entry(operation::path(&binding.template)).or_default();
            item.insert(binding.verb.as_str().to_ascii_lowercase(), operation);
        }
        if let Some(socket) = &method.socket {
            let operation = operation::socket(schema, method, &socket.template, example, &mut shapes);
            paths.entry(operation::path(&socket.template)).or_default().insert("get".to_owned(), operation);
        }
    }
    let tags: Vec<Value> = tags
        .iter()
        .map(|service| {
            let description =
                schema.pool().get_service_by_name(service).map(|it| comments.of(&it.parent_file(), it.path()));
            json!({"name": service, "description": description.unwrap_or_default()})
        })
        .collect();
    let mut components = shapes.into_components();
    let surfaces = surfaces(schema);
    let responses: Map<String, Value> = surfaces.iter().flat_map(|surface| answers::components(surface)).collect();
    components.extend(surfaces.into_iter().map(|surface| (error_name(surface), error_shape(surface))));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Portico",
            "description": "One front door for AI-agent platforms.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": responses,
            "headers": headers::components(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key: `pod_…`, or `pod_admin_…` for administrators."}},
        },
    })
}

fn surfaces(schema: &Schema) -> Vec<&'static Surface> {
    let mut found: Vec<&'static Surface> = Vec::new();
    for method in schema.methods().iter().filter(|method| !method.bindings.is_empty()) {
        if !found.iter().any(|surface| surface.name == method.surface.name) {
            found.push(method.surface);
        }
    }
    found
}

/// The component that describes a surface's errors.
fn error_name(surface: &Surface) -> String {
    if surface.name.is_empty() { "Error".to_owned() } else { format!("{}.Error", surface.name) }
}

fn error_shape(surface: &Surface) -> Value {
    use portico_schema::Dialect;
    let text = json!({"type": "string"});
    let fields = json!({
        "type": "array",
        "description": "The fields that do not hold what they may.",
        "items": {"type": "object", "properties": {"path": text, "reason": text}, "required": ["path", "reason"]},
    });
    match surface.dialect {
        Dialect::Connect => json!({
            "type": "object",
            "description": "Why a call did not succeed.",
            "properties": {"code": text, "message": text, "details": {"type": "array", "items": {"type": "object"}}},
            "required": ["code"],
        }),
        Dialect::Podium => json!({
            "type": "object",
            "description": "Why a call did not succeed.",
            "properties": {"error": {
                "type": "object",
                "properties": {
                    "code": {"type": "string", "description": "Stable and snake_case; programs may match on it."},
                    "message": {"type": "string", "description": "For people; may change."},
                    "request_id": {"type": "string", "description": "As in `X-Request-Id`."},
                    "details": {
                        "type": "object",
                        "description": "Facts by name, for programs.",
                        "properties": {"fields": fields},
                        "additionalProperties": text,
                    },
                    "retryable": {"type": "boolean", "description": "Whether repeating the call cannot do the work twice."},
                },
                "required": ["code", "message", "request_id", "retryable"],
            }},
            "required": ["error"],
        }),
    }
}

/// The name under which generated clients call a method.
fn operation_id(method: &Method, index: usize) -> String {
    let package = method.service.rsplit_once('.').map_or("", |(package, _)| package).replace('.', "_");
    let more = if index == 0 { String::new() } else { format!("_{}", index + 1) };
    format!("{package}_{}{more}", method.name)
}
