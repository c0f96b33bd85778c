//! One trait and one mount per service.
//!
//! A newcomer's usual mistake is to add a protocol here. A handler is a function from context and message to message;
//! the mount hands it over as bytes to bytes, and every door works on that.
//!
//! *Knows:* prost's view of a service, the names in `portico_wire` and `portico_base`. *Does not know:* any protocol.

use std::{collections::HashSet, fmt::Write as _};

use prost_build::{Method, Service, ServiceGenerator};

/// Writes traits and mounts, and for each message of a method once what makes it travel as bytes.
#[derive(Default)]
pub(crate) struct Generator {
    messages: HashSet<String>,
}

impl ServiceGenerator for Generator {
    fn generate(&mut self, service: Service, out: &mut String) {
        for method in &service.methods {
            self.message(&method.input_proto_type, &method.input_type, out);
            self.message(&method.output_proto_type, &method.output_type, out);
        }
        write_trait(&service, out);
        write_mount(&service, out);
    }
}

impl Generator {
    /// The impl stands in the crate of the messages, so that decoding is compiled there and not with every handler.
    fn message(&mut self, proto_type: &str, rust_type: &str, out: &mut String) {
        if rust_type != "()" && self.messages.insert(proto_type.to_owned()) {
            line(out, &format!("::portico_wire::travels!({rust_type});"));
        }
    }
}

fn write_trait(service: &Service, out: &mut String) {
    documented(out, "", &service.comments.leading);
    line(out, &format!("pub trait {}: Send + Sync + 'static {{", service.name));
    for method in &service.methods {
        documented(out, "    ", &method.comments.leading);
        let input = incoming(method);
        let output = outgoing(method);
        line(
            out,
            &format!(
                "    fn {}(&self, cx: ::portico_base::Context, request: {input}) -> impl ::core::future::Future<Output = ::portico_base::Result<{output}>> + Send;",
                method.name
            ),
        );
    }
    line(out, "}");
}

fn write_mount(service: &Service, out: &mut String) {
    let snake = snake_case(&service.name);
    line(out, &format!("/// Hands the methods of `{}.{}` over to the doors.", service.package, service.proto_name));
    line(
        out,
        &format!("pub fn mount_{snake}<S: {}>(service: S, handlers: &mut ::portico_wire::Handlers) {{", service.name),
    );
    line(out, "    let service = ::std::sync::Arc::new(service);");
    for method in &service.methods {
        let shape = match (method.client_streaming, method.server_streaming) {
            (false, false) => "unary",
            (false, true) => "server_stream",
            (true, false) => "client_stream",
            (true, true) => "bidi",
        };
        let path = format!("/{}.{}/{}", service.package, service.proto_name, method.proto_name);
        line(
            out,
            &format!(
                "    handlers.{shape}::<{}, {}, _, _>({path:?}, &service, |service, cx, request| async move {{ service.{}(cx, request).await }});",
                method.input_type, method.output_type, method.name
            ),
        );
    }
    line(out, "}");
}

fn incoming(method: &Method) -> String {
    if method.client_streaming {
        format!("::portico_base::Incoming<{}>", method.input_type)
    } else {
        method.input_type.clone()
    }
}

fn outgoing(method: &Method) -> String {
    if method.server_streaming {
        format!("::portico_base::Outgoing<{}>", method.output_type)
    } else {
        method.output_type.clone()
    }
}

fn documented(out: &mut String, indent: &str, comments: &[String]) {
    if comments.is_empty() {
        line(out, &format!("{indent}/// Not described in its proto file."));
    }
    for comment in comments.iter().flat_map(|block| block.lines()) {
        line(out, &format!("{indent}///{comment}"));
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(out, "{text}");
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
