//! Generated documents are the ones that are checked in. `make update` writes them.

use std::fmt::Write;

use portico::{
    base::{Code, Error, reason},
    config,
    edge::dialect,
    schema::{Access, Dialect, EVERY, Method, Schema, Shape},
    wire::SCHEMA,
};

use crate::support::{example, source};

#[test]
fn the_reference_of_access_is_fresh() {
    source::checked_in("docs/reference/access.md", &access());
}

#[test]
fn the_reference_of_errors_is_fresh() {
    source::checked_in("docs/reference/errors.md", &errors());
}

#[test]
fn the_reference_of_configuration_is_fresh() {
    source::checked_in("docs/reference/config.md", &config::reference());
}

/// Every surface, those that one process never serves together too.
fn every() -> Schema {
    Schema::of(SCHEMA, EVERY).unwrap()
}

fn access() -> String {
    let mut text = String::from(
        "# Access\n\nWho may call which method, and by which doors. Every method also answers to `POST` on its path over Connect, gRPC \
         and\ngRPC-Web, with `/api` in front of it or not; a method that changes nothing answers to Connect's `GET` too. Generated from the\n\
         proto files.\n\nAn administrator may call everything. A permission is one of those that a key was made with.\n",
    );
    let mut service = "";
    for method in every().methods() {
        if method.service != service {
            service = method.service;
            write!(text, "\n## {service}\n\n| Method | Who may call | Shape | Routes |\n|---|---|---|---|\n").unwrap();
        }
        writeln!(text, "| `{}` | {} | {} | {} |", method.name, who(method.access), shape(method.shape), routes(method))
            .unwrap();
    }
    text
}

fn who(access: Access) -> String {
    match access {
        Access::Public => "anybody".to_owned(),
        Access::Authenticated => "any valid key".to_owned(),
        Access::Permission(permission) => format!("`{permission}`"),
        Access::Admin => "administrators".to_owned(),
    }
}

fn shape(shape: Shape) -> &'static str {
    match shape {
        Shape::Unary => "unary",
        Shape::ServerStream => "server stream",
        Shape::ClientStream => "client stream",
        Shape::Bidi => "both stream",
    }
}

fn routes(method: &Method) -> String {
    let is_events = method.shape.streams_out();
    let rest = method.bindings.iter().map(|binding| {
        let more = if is_events { " (SSE, NDJSON)" } else { "" };
        format!("`{} {}`{more}", binding.verb, binding.template)
    });
    let sockets = method.socket.iter().map(|socket| format!("`WS {}`", socket.template));
    rest.chain(sockets).collect::<Vec<_>>().join(", ")
}

fn errors() -> String {
    let mut text = String::from(
        "# Errors\n\nEvery call that does not succeed says why by a reason, which programs may match on and which never changes meaning.\n\n\
         - On the Podium page it is `error.code`: `{\"error\": {\"code\", \"message\", \"request_id\", \"details\", \"retryable\"}}`.\n\
         - Over Connect, gRPC and gRPC-Web it is the `reason` of a `google.rpc.ErrorInfo` with the domain `portico`, beside the code of the\n  \
         protocol; `google.rpc.RetryInfo` says when to come back and `google.rpc.BadRequest` which fields do not fit.\n\n\
         Five failures of the exchange itself are told by the code alone over these three, without an `ErrorInfo`, because the official Connect\n\
         conformance suite takes no detail with them: `body_too_large` is `resource_exhausted`, `deadline_exceeded` is `deadline_exceeded`,\n\
         `invalid_message` is `invalid_argument`; `not_found` of a method, and `unsupported_media_type` or an unknown compression, are\n\
         `unimplemented`. `relayed` has the details of the service behind the gateway.\n\n\
         `retryable` is true, and there is a `RetryInfo`, only where repeating the call cannot do the work twice. Messages are for people and may change.\n\n\
         | Reason | Status | Meaning |\n|---|---|---|\n",
    );
    for (reason, sentence) in reason::ALL {
        // The page decides by the reason; the code only matters for reasons from elsewhere.
        let status = dialect::status(&Error::new(Code::Internal, *reason, ""), Dialect::Podium);
        writeln!(text, "| `{reason}` | {} | {} |", status.as_u16(), sentence.trim()).unwrap();
    }
    text
}

#[test]
fn every_method_of_the_page_is_in_its_coverage_table() {
    let table = source::read("docs/surfaces/podium.md");
    for method in example::podium() {
        assert!(
            table.contains(&format!("`{}.{}`", method.service.rsplit('.').next().unwrap(), method.name)),
            "{}",
            method.path
        );
    }
}

#[test]
fn every_method_of_hosts_is_in_their_coverage_table() {
    let table = source::read("docs/surfaces/coordinator.md");
    for method in every().methods().iter().filter(|method| method.surface.name == "coordinator") {
        let name = format!("`{}.{}`", method.service.rsplit('.').next().unwrap(), method.name);
        assert!(table.contains(&name), "{name}");
    }
}
