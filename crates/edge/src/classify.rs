//! Which protocol a request speaks, read off its head.
//!
//! A newcomer's usual mistake is to decide by the path. The path says *what* is called; how it is called follows from
//! the verb and a few headers, and this is a pure function of them.
//!
//! *Knows:* the media types of Connect, gRPC and gRPC-Web. *Does not know:* methods, routes.

use http::{HeaderValue, Method, header, request::Parts};
use portico_gate::Door;

use super::Outline;

/// What the head of a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A call in this protocol.
    Rpc(Protocol),
    /// A call in this protocol, with messages in an encoding that is not spoken here.
    UnknownCodec(Protocol),
    /// A Connect call if the path names a method, else something for the web.
    ConnectOrWeb,
    /// A browser asks before it calls from another origin.
    Preflight,
    /// None of these.
    Web,
}

/// The protocols of the one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Connect: one message each way, plain HTTP.
    Connect,
    /// Connect with enveloped messages.
    ConnectStream,
    /// gRPC.
    Grpc,
    /// gRPC-Web.
    GrpcWeb,
    /// gRPC-Web in base64, for browsers that cannot read binary streams.
    GrpcWebText,
}

impl Protocol {
    /// The door that it belongs to.
    pub const fn door(self) -> Door {
        match self {
            Protocol::Connect | Protocol::ConnectStream => Door::Connect,
            Protocol::Grpc => Door::Grpc,
            Protocol::GrpcWeb | Protocol::GrpcWebText => Door::GrpcWeb,
        }
    }

    /// Whether each message has an envelope.
    pub const fn is_enveloped(self) -> bool {
        !matches!(self, Protocol::Connect)
    }
}

/// Reads the head.
pub fn classify(head: &Parts, outline: &Outline<'_>) -> Kind {
    if head.method == Method::OPTIONS && head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return Kind::Preflight;
    }
    let media_type = media_type(outline.content_type);
    // The longer names first: they begin with the shorter ones.
    let Some(name) = after("application/", media_type) else { return untyped(head) };
    if let Some(codec) = after("grpc-web-text", name) {
        return coded(Protocol::GrpcWebText, is_any(codec, &["", "+proto"]));
    }
    if let Some(codec) = after("grpc-web", name) {
        return coded(Protocol::GrpcWeb, is_any(codec, &["", "+proto", "+json"]));
    }
    if let Some(codec) = after("grpc", name) {
        return coded(Protocol::Grpc, is_any(codec, &["", "+proto", "+json"]));
    }
    if is_any(name, &["json"]) {
        let is_told = outline.protocol_version.is_some();
        return if is_told { Kind::Rpc(Protocol::Connect) } else { Kind::ConnectOrWeb };
    }
    if is_any(name, &["proto"]) {
        return Kind::Rpc(Protocol::Connect);
    }
    if is_any(name, &["connect+proto", "connect+json"]) {
        return Kind::Rpc(Protocol::ConnectStream);
    }
    untyped(head)
}

/// What is said in no media type of a call.
fn untyped(head: &Parts) -> Kind {
    if head.method == Method::GET { Kind::ConnectOrWeb } else { Kind::Web }
}

/// What follows this beginning. Case means nothing in media types (RFC 9110, section 8.3.1).
fn after<'t>(beginning: &str, text: &'t str) -> Option<&'t str> {
    let (begins, rest) = text.split_at_checked(beginning.len())?;
    begins.eq_ignore_ascii_case(beginning).then_some(rest)
}

fn is_any(text: &str, names: &[&str]) -> bool {
    names.iter().any(|name| text.eq_ignore_ascii_case(name))
}

fn coded(protocol: Protocol, known: bool) -> Kind {
    if known { Kind::Rpc(protocol) } else { Kind::UnknownCodec(protocol) }
}

/// The Content-Type without its parameters; empty when there is none.
fn media_type(value: Option<&HeaderValue>) -> &str {
    let value = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_decides() {
        let cases: &[(&str, &str, Kind)] = &[
            ("POST", "application/grpc", Kind::Rpc(Protocol::Grpc)),
            ("POST", "application/grpc+json", Kind::Rpc(Protocol::Grpc)),
            ("POST", "application/grpc+thrift", Kind::UnknownCodec(Protocol::Grpc)),
            ("POST", "application/grpc-web+proto", Kind::Rpc(Protocol::GrpcWeb)),
            ("POST", "application/grpc-web-text", Kind::Rpc(Protocol::GrpcWebText)),
            ("POST", "application/grpc-web-text+json", Kind::UnknownCodec(Protocol::GrpcWebText)),
            ("POST", "application/connect+json", Kind::Rpc(Protocol::ConnectStream)),
            ("POST", "application/proto", Kind::Rpc(Protocol::Connect)),
            ("POST", "application/json; charset=utf-8", Kind::ConnectOrWeb),
            ("POST", "Application/gRPC-Web+Proto", Kind::Rpc(Protocol::GrpcWeb)),
            ("POST", "APPLICATION/JSON", Kind::ConnectOrWeb),
            ("POST", "text/json", Kind::Web),
            ("POST", "multipart/form-data; boundary=x", Kind::Web),
            ("GET", "", Kind::ConnectOrWeb),
            ("DELETE", "", Kind::Web),
        ];
        for (verb, media_type, kind) in cases {
            let request = http::Request::builder().method(*verb).header("content-type", *media_type).body(()).unwrap();
            let head = request.into_parts().0;
            assert_eq!(classify(&head, &Outline::of(&head.headers)), *kind, "{verb} {media_type}");
        }
    }
}
