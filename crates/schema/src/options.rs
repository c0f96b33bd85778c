//! Reads one method's options out of its descriptor.
//!
//! A newcomer's usual mistake is to read an option where it is needed. All of them are read here, once, and turned into
//! types that cannot be wrong; what does not fit keeps the gateway from starting.

use portico_json::{FieldPath, MessageType, Types};
use prost_reflect::{
    DynamicMessage, ExtensionDescriptor, MethodDescriptor, ServiceDescriptor, Value,
    prost_types::method_options::IdempotencyLevel,
};

use super::{Access, AnswerHeader, Binding, Body, Defect, Idempotency, Method, Rest, Shape, Socket, Surface, Template};

/// Reads what a method says about itself.
pub(super) fn read(service: &ServiceDescriptor, method: &MethodDescriptor, types: &Types) -> Result<Method, Defect> {
    let defect = |problem: String| Defect::new(format!("{}: {problem}", method.full_name()));
    let message = |name: &str| types.message(name).ok_or_else(|| defect(format!("unknown message {name}")));
    let input = message(method.input().full_name())?;
    let output = message(method.output().full_name())?;

    let options = method.options();
    let service_options = service.options();
    let surface_name = extension(service, &service_options, "portico.v1.surface").map_or(String::new(), text);
    let surface =
        Surface::named(&surface_name).ok_or_else(|| defect(format!("no surface is named {surface_name:?}")))?;
    let shape = shape(method);
    let rest =
        extension(service, &options, "portico.v1.rest").map_or_else(|| rest(None), |value| rest(value.as_message()));
    let bindings = match extension(service, &options, "google.api.http") {
        Some(Value::Message(rule)) => bindings(&rule, shape, &rest, &input, &output).map_err(defect)?,
        _ => Vec::new(),
    };
    let socket = match extension(service, &options, "portico.v1.socket") {
        Some(Value::Message(socket)) => Some(read_socket(&socket, shape).map_err(defect)?),
        _ => None,
    };
    let path = |service: &str| leak(format!("/{service}/{}", method.name()));
    let aliases = match extension(service, &service_options, "portico.v1.alias") {
        Some(Value::List(names)) => names.into_iter().map(|name| path(&text(name))).collect(),
        _ => Vec::new(),
    };
    Ok(Method {
        path: path(service.full_name()),
        aliases,
        service: leak(service.full_name().to_owned()),
        name: leak(method.name().to_owned()),
        shape,
        idempotency: idempotency(method),
        surface,
        access: access(extension(service, &options, "portico.v1.access")),
        bindings,
        rest,
        socket,
        bucket: extension(service, &options, "portico.v1.bucket").map(text).filter(|name| !name.is_empty()).map(leak),
        without_registry: matches!(
            extension(service, &options, "portico.v1.without_registry"),
            Some(Value::Bool(true))
        ),
        input,
        output,
        comment: comment(method),
    })
}

fn shape(method: &MethodDescriptor) -> Shape {
    match (method.is_client_streaming(), method.is_server_streaming()) {
        (false, false) => Shape::Unary,
        (false, true) => Shape::ServerStream,
        (true, false) => Shape::ClientStream,
        (true, true) => Shape::Bidi,
    }
}

fn idempotency(method: &MethodDescriptor) -> Idempotency {
    match method.method_descriptor_proto().options.as_ref().map(|options| options.idempotency_level()) {
        Some(IdempotencyLevel::NoSideEffects) => Idempotency::NoSideEffects,
        Some(IdempotencyLevel::Idempotent) => Idempotency::Idempotent,
        _ => Idempotency::Unknown,
    }
}

/// A method without a rule cannot come from our own build, which refuses it; a foreign one is for administrators.
fn access(value: Option<Value>) -> Access {
    let Some(Value::Message(rule)) = value else { return Access::Admin };
    match rule.fields().next() {
        Some((field, Value::Bool(true))) if field.name() == "public" => Access::Public,
        Some((field, Value::Bool(true))) if field.name() == "authenticated" => Access::Authenticated,
        Some((field, Value::String(name))) if field.name() == "permission" => Access::Permission(leak(name.clone())),
        _ => Access::Admin,
    }
}

fn rest(options: Option<&DynamicMessage>) -> Rest {
    let number = |name: &str| {
        let value = options.and_then(|options| options.get_field_by_name(name).and_then(|value| value.as_u32()));
        value.and_then(|value| u16::try_from(value).ok()).filter(|status| *status != 0)
    };
    let name = |field: &str| {
        let value = options.and_then(|options| options.get_field_by_name(field).map(|value| text(value.into_owned())));
        value.filter(|name| !name.is_empty()).map(leak)
    };
    let is = |field: &str| {
        let value = options.and_then(|options| options.get_field_by_name(field).and_then(|value| value.as_bool()));
        value.unwrap_or(false)
    };
    let list = |field: &str| {
        let value = options.and_then(|options| options.get_field_by_name(field).map(|values| values.into_owned()));
        if let Some(Value::List(values)) = value { values } else { Vec::new() }
    };
    let success = number("success").unwrap_or(200);
    Rest {
        success,
        existing: number("existing").unwrap_or(success),
        out_of_service: number("out_of_service").unwrap_or(success),
        multipart: is("multipart"),
        raw: name("raw"),
        flat: name("flat"),
        sparse: is("sparse"),
        query: name("query"),
        headers: list("headers").into_iter().map(|name| leak(text(name))).collect(),
        answer_headers: list("answer_headers").iter().filter_map(Value::as_message).map(answer_header).collect(),
    }
}

fn answer_header(header: &DynamicMessage) -> AnswerHeader {
    let member = |name: &str| leak(header.get_field_by_name(name).map(|it| text(it.into_owned())).unwrap_or_default());
    AnswerHeader { name: member("name"), meaning: member("meaning") }
}

fn read_socket(options: &DynamicMessage, shape: Shape) -> Result<Socket, String> {
    if !shape.streams_out() {
        return Err("a socket needs a stream of answers: its caller cannot say that it is done and go on".to_owned());
    }
    let path = options.get_field_by_name("path").map(|value| text(value.into_owned())).unwrap_or_default();
    let raw = options.get_field_by_name("raw").and_then(|value| value.as_bool()).unwrap_or(false);
    Ok(Socket { template: Template::parse(&path).map_err(|defect| defect.to_string())?, raw })
}

fn bindings(
    rule: &DynamicMessage,
    shape: Shape,
    rest: &Rest,
    input: &MessageType,
    output: &MessageType,
) -> Result<Vec<Binding>, String> {
    let mut all = vec![binding(rule, shape, rest, input, output)?];
    if let Some(Value::List(more)) = rule.get_field_by_name("additional_bindings").map(|value| value.into_owned()) {
        for rule in &more {
            let rule = rule.as_message().ok_or("additional_bindings must hold rules")?;
            all.push(binding(rule, shape, rest, input, output)?);
        }
    }
    Ok(all)
}

fn binding(
    rule: &DynamicMessage,
    shape: Shape,
    rest: &Rest,
    input: &MessageType,
    output: &MessageType,
) -> Result<Binding, String> {
    let (verb, path) = pattern(rule)?;
    let template = Template::parse(&path).map_err(|defect| defect.to_string())?;
    let field = |message: &MessageType, name: &str| {
        message
            .path(name)
            .ok_or_else(|| format!("{path} names the field {name}, which {} does not have", message.name()))
    };
    let captures = template
        .variables
        .iter()
        .map(|variable| field(input, &variable.field))
        .collect::<Result<Vec<FieldPath>, _>>()?;
    let member = |name: &str| rule.get_field_by_name(name).map(|value| text(value.into_owned())).unwrap_or_default();
    let body = match member("body").as_str() {
        "" => Body::None,
        "*" => Body::Whole,
        name => Body::Field(field(input, name)?),
    };
    let response = match member("response_body").as_str() {
        "" => None,
        name => Some(field(output, name)?),
    };
    let streams_a_body = rest.multipart || rest.raw.is_some();
    if shape.streams_in() && !streams_a_body {
        return Err("a client stream needs `multipart` or `raw` to have a REST body".to_owned());
    }
    Ok(Binding { verb, template, captures, body, response })
}

fn pattern(rule: &DynamicMessage) -> Result<(http::Method, String), String> {
    for (name, verb) in [
        ("get", http::Method::GET),
        ("put", http::Method::PUT),
        ("post", http::Method::POST),
        ("delete", http::Method::DELETE),
        ("patch", http::Method::PATCH),
    ] {
        if rule.has_field_by_name(name) {
            return Ok((verb, rule.get_field_by_name(name).map(|value| text(value.into_owned())).unwrap_or_default()));
        }
    }
    let Some(custom) = rule.get_field_by_name("custom").filter(|_| rule.has_field_by_name("custom")) else {
        return Err("the HTTP rule names no verb".to_owned());
    };
    let custom = custom.as_message().ok_or("custom must be a pattern")?;
    let member = |name: &str| custom.get_field_by_name(name).map(|value| text(value.into_owned())).unwrap_or_default();
    let verb = http::Method::from_bytes(member("kind").as_bytes()).map_err(|error| error.to_string())?;
    Ok((verb, member("path")))
}

fn extension(service: &ServiceDescriptor, options: &DynamicMessage, name: &str) -> Option<Value> {
    let extension: ExtensionDescriptor = service.parent_pool().get_extension_by_name(name)?;
    options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        _ => String::new(),
    }
}

fn comment(method: &MethodDescriptor) -> String {
    let source = method.parent_file().file_descriptor_proto().source_code_info.clone().unwrap_or_default();
    let lines = source.location.into_iter().find(|location| location.path == method.path());
    let block = lines.and_then(|location| location.leading_comments).unwrap_or_default();
    block.lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Names live as long as the process: there is one schema, and every call refers to it.
fn leak(name: String) -> &'static str {
    name.leak()
}
