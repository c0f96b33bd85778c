//! A small client for each door. Each says one thing, a method and its messages as JSON, in the protocol of its door, and
//! understands the answer: a code and messages as JSON, in the style of the method's page whatever the door was.
//!
//! A newcomer's usual mistake is to write a client for a method. These are made from the schema and fit every method.

pub(crate) mod answer;
pub(crate) mod refusal;
mod rest;
pub(crate) mod socket;

use std::{convert::Infallible, net::SocketAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Request, Version, header};
use http_body::Frame;
use http_body_util::StreamBody;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use portico::{
    edge::{Body, Edge},
    schema::{Idempotency, Method, Shape},
};
use portico_json::{Parse, Unknown};
use serde_json::Value;

pub(crate) use answer::Told;

use super::gateway::{PATIENCE, peer};

/// What stands behind the doors.
pub(crate) trait Behind {
    /// The doors, for calls within the process.
    fn edge(&self) -> &Edge;

    /// Where it listens, for what needs a connection of its own.
    fn address(&self) -> SocketAddr;
}

/// A door, as far as clients tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    ConnectJson,
    ConnectProto,
    ConnectGet,
    Grpc,
    GrpcWeb,
    GrpcWebText,
    Rest,
    Events,
    Lines,
    Socket,
}

/// What is said through a door.
pub(crate) struct Call<'a> {
    pub(crate) method: &'a Method,
    /// One message, or those of a stream.
    pub(crate) messages: Vec<Value>,
    /// Whose key comes along; nobody's when empty.
    pub(crate) key: &'a str,
    /// How many answers are waited for. Then the client hangs up.
    pub(crate) answers_max: usize,
}

impl Door {
    /// The doors that a method has.
    pub(crate) fn of(method: &Method) -> Vec<Door> {
        let mut doors = vec![Door::ConnectJson, Door::ConnectProto, Door::Grpc, Door::GrpcWeb, Door::GrpcWebText];
        if method.shape == Shape::Unary && method.idempotency == Idempotency::NoSideEffects {
            doors.push(Door::ConnectGet);
        }
        if !method.bindings.is_empty() {
            let is_stream = method.shape.streams_out() && method.rest.raw.is_none();
            doors.extend(if is_stream { [Door::Events, Door::Lines].as_slice() } else { &[Door::Rest] });
        }
        if method.socket.is_some() {
            doors.push(Door::Socket);
        }
        doors
    }

    /// Says it and hears the answer.
    pub(crate) async fn call(self, house: &impl Behind, call: &Call<'_>) -> Told {
        if self == Door::Socket {
            return socket::call(house, call).await;
        }
        self.exchange(house, call, self.request(call)).await
    }

    /// Sends a request that was made for this door, and hears the answer.
    pub(crate) async fn exchange(self, house: &impl Behind, call: &Call<'_>, request: Request<Body>) -> Told {
        let answered = tokio::time::timeout(PATIENCE, house.edge().call(request, peer())).await;
        answer::read(self, call, answered.expect("an answer in time")).await.expect("a whole body")
    }

    /// The request, whole.
    pub(crate) fn request(self, call: &Call<'_>) -> Request<Body> {
        let (mut head, content) = self.content(call);
        head.headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1"));
        if !call.key.is_empty() {
            head.headers.insert(header::AUTHORIZATION, format!("Bearer {}", call.key).parse().unwrap());
        }
        Request::from_parts(head, self.body(call.method, content))
    }

    /// The media type of the RPC doors.
    fn media_type(self, method: &Method) -> &'static str {
        match (self, method.shape) {
            (Door::ConnectJson, Shape::Unary) => "application/json",
            (Door::ConnectJson, _) => "application/connect+json",
            (Door::ConnectProto, Shape::Unary) => "application/proto",
            (Door::ConnectProto, _) => "application/connect+proto",
            (Door::Grpc, _) => "application/grpc",
            (Door::GrpcWeb, _) => "application/grpc-web+proto",
            (Door::GrpcWebText, _) => "application/grpc-web-text",
            (Door::ConnectGet | Door::Rest | Door::Events | Door::Lines | Door::Socket, _) => "",
        }
    }

    fn content(self, call: &Call<'_>) -> (http::request::Parts, Bytes) {
        let method = call.method;
        let rpc =
            || Request::post(method.path).header("content-type", self.media_type(method)).version(Version::HTTP_2);
        let enveloped = |message: fn(&Method, &Value) -> Vec<u8>| -> Bytes {
            call.messages.iter().flat_map(|json| envelope(0, &message(method, json))).collect()
        };
        let whole = |message: fn(&Method, &Value) -> Vec<u8>| Bytes::from(message(method, &call.messages[0]));
        let (request, content) = match self {
            Door::ConnectJson if method.shape == Shape::Unary => (rpc(), whole(text)),
            Door::ConnectProto if method.shape == Shape::Unary => (rpc(), whole(wire)),
            Door::ConnectJson => (rpc(), enveloped(text)),
            Door::ConnectProto | Door::Grpc | Door::GrpcWeb => (rpc(), enveloped(wire)),
            Door::GrpcWebText => (rpc(), STANDARD.encode(enveloped(wire)).into()),
            Door::ConnectGet => {
                let json = call.messages[0].to_string();
                let message = utf8_percent_encode(&json, NON_ALPHANUMERIC);
                (Request::get(format!("{}?connect=v1&encoding=json&message={message}", method.path)), Bytes::new())
            }
            Door::Rest => rest::request(method, &call.messages),
            Door::Events => with_accept(rest::request(method, &call.messages), "text/event-stream"),
            Door::Lines => with_accept(rest::request(method, &call.messages), "application/x-ndjson"),
            Door::Socket => panic!("a socket is not one request"),
        };
        let request = if self == Door::Grpc { request.header("te", "trailers") } else { request };
        (request.body(()).unwrap().into_parts().0, content)
    }

    /// A client of a bidirectional stream goes on listening after it has spoken.
    fn body(self, method: &Method, content: Bytes) -> Body {
        if method.shape != Shape::Bidi {
            return Body::from(content);
        }
        let said = stream::iter([Ok::<_, Infallible>(Frame::data(content))]).chain(stream::pending());
        Body::boxed(StreamBody::new(said.map(|frame| frame.map_err(|never| match never {}))))
    }
}

fn with_accept((request, content): (http::request::Builder, Bytes), accept: &str) -> (http::request::Builder, Bytes) {
    (request.header(header::ACCEPT, accept), content)
}

fn text(_method: &Method, json: &Value) -> Vec<u8> {
    json.to_string().into_bytes()
}

/// A message as protobuf; unknown members are an error.
pub(crate) fn wire(method: &Method, json: &Value) -> Vec<u8> {
    let parse = Parse { unknown_fields: Unknown::Refuse };
    method.input.decode(json.to_string().as_bytes(), parse).unwrap_or_else(|error| panic!("{}: {error}", method.path))
}

/// A message with what stands before it in an enveloped stream.
pub(crate) fn envelope(flags: u8, message: &[u8]) -> Vec<u8> {
    let size = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flags], size.as_slice(), message].concat()
}

/// A header's text, empty when there is none.
fn header_of<'m>(headers: &'m HeaderMap, name: &str) -> &'m str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}
