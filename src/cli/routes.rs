//! `portico routes`: every method with its doors, its access rule and its routes.

use portico::schema::{Access, Method, Shape};

use super::{Failure, Screen, screen};

/// How to print.
#[derive(clap::Args)]
pub(crate) struct Flags {
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

/// Prints the table.
pub(crate) fn run(flags: &Flags, screen: &mut Screen) -> Result<(), Failure> {
    let schema = screen::schema()?;
    if flags.json {
        return screen.line(serde_json::Value::Array(schema.methods().iter().map(|method| object(method)).collect()));
    }
    let row = |method: &Method| {
        vec![
            method.path.to_owned(),
            shape(method.shape).to_owned(),
            access(method.access),
            doors(method).join(" "),
            screen::or_dash(&routes(method).join(", ")),
        ]
    };
    let rows: Vec<Vec<String>> = schema.methods().iter().map(|method| row(method)).collect();
    screen.table(&["PATH", "SHAPE", "ACCESS", "DOORS", "ROUTES"], &rows)
}

fn object(method: &Method) -> serde_json::Value {
    serde_json::json!({
        "path": method.path,
        "shape": shape(method.shape),
        "access": access(method.access),
        "doors": doors(method),
        "routes": routes(method),
    })
}

fn shape(shape: Shape) -> &'static str {
    match shape {
        Shape::Unary => "unary",
        Shape::ServerStream => "server stream",
        Shape::ClientStream => "client stream",
        Shape::Bidi => "bidi stream",
    }
}

fn access(access: Access) -> String {
    match access {
        Access::Public => "public".to_owned(),
        Access::Authenticated => "any key".to_owned(),
        Access::Permission(name) => name.to_owned(),
        Access::Admin => "admin".to_owned(),
    }
}

fn doors(method: &Method) -> Vec<&'static str> {
    let mut doors = vec!["connect", "grpc", "grpc-web"];
    if !method.bindings.is_empty() {
        doors.push("rest");
        if method.shape == Shape::ServerStream {
            doors.extend(["sse", "ndjson"]);
        }
    }
    if method.socket.is_some() {
        doors.push("websocket");
    }
    doors
}

fn routes(method: &Method) -> Vec<String> {
    let rest = method.bindings.iter().map(|binding| format!("{} {}", binding.verb, binding.template));
    let socket = method.socket.iter().map(|socket| format!("WS {}", socket.template));
    rest.chain(socket).collect()
}
