//! The rooms that every request passes, in order.
//!
//! A newcomer's usual mistake is to add a room at the end. The order carries meaning: an id before anything can fail, the
//! route before the gate (which needs the method), the gate before the body.
//!
//! *Knows:* the order. *Does not know:* what happens inside a room.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts,
};
use http_body_util::BodyExt;

use super::{Body, Edge, Kind, Protocol, classify::classify, dialect, engine, shield};
use crate::{
    base::{Code, Deadline, Error, RequestId, reason},
    gate::{Admission, Head, Peer},
    schema::{Idempotency, Shape, Surface},
};

/// Takes a caller's id of the request and gives it back.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What a 415 offers instead.
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
/// The media types of calls.
const MEDIA_TYPES: HeaderValue = HeaderValue::from_static(
    "application/connect+json, application/connect+proto, application/grpc, application/grpc+json, \
     application/grpc+proto, application/grpc-web, application/grpc-web+json, application/grpc-web+proto, \
     application/grpc-web-text, application/json, application/proto",
);
/// Most that is read of a refused HTTP/1.1 body: enough for small calls to keep their connection, too little to be abused.
const DRAIN_BYTES_MAX: usize = 64 << 10;
/// How long a refusal waits for those bytes.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

impl Edge {
    /// Answers one request.
    pub async fn call(&self, request: Request<Body>, peer: Peer) -> Response<Body> {
        let (head, body) = request.into_parts();
        let id = request_id(&head.headers);
        let origin = self.cors.get().verdict(&head.headers);
        let kind = classify(&head);

        let mut response = match kind {
            Kind::Preflight => origin.preflight(),
            _ => {
                let routed = async { Ok(self.route(kind, head, body, peer, id.clone()).await) };
                shield::call(routed).await.unwrap_or_else(|panic| broken(&panic, &id))
            }
        };

        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(id.as_str()) {
            headers.insert(REQUEST_ID, id);
        }
        origin.mark(headers);
        response
    }

    /// Finds the method. What is neither a method nor spoken like a call goes to the web.
    async fn route(&self, kind: Kind, head: Parts, body: Body, peer: Peer, id: RequestId) -> Response<Body> {
        let Some(mounted) = self.engine.find(head.uri.path()) else {
            return match (kind, &self.web) {
                (Kind::Rpc(protocol), _) => {
                    let frame = engine::Frame::new(protocol, &head);
                    refuse(&no_such_method(head.uri.path()), &frame, head.version, body).await
                }
                (Kind::UnknownCodec(protocol), _) => {
                    let frame = engine::Frame::of_unknown_codec(protocol);
                    refuse(&no_such_method(head.uri.path()), &frame, head.version, body).await
                }
                (_, Some(web)) => web.call(Request::from_parts(head, body), peer, id).await,
                (_, None) => bare(StatusCode::NOT_FOUND, head.version, body).await,
            };
        };

        let method = &mounted.method;
        let gettable = method.shape == Shape::Unary && method.idempotency == Idempotency::NoSideEffects;
        if head.method != Method::POST && !(head.method == Method::GET && gettable) {
            let mut response = bare(StatusCode::METHOD_NOT_ALLOWED, head.version, body).await;
            let verbs = HeaderValue::from_static(if gettable { "GET, POST" } else { "POST" });
            response.headers_mut().insert(header::ALLOW, verbs);
            return response;
        }
        match kind {
            Kind::Rpc(protocol) if fits(protocol, method.shape) => {
                self.gate(mounted, protocol, head, body, peer, id).await
            }
            Kind::ConnectOrWeb if fits(Protocol::Connect, method.shape) => {
                self.gate(mounted, Protocol::Connect, head, body, peer, id).await
            }
            Kind::UnknownCodec(protocol) => {
                let error = Error::new(
                    Code::Unimplemented,
                    reason::UNSUPPORTED_MEDIA_TYPE,
                    "messages of this media type are not spoken here",
                );
                refuse(&error, &engine::Frame::of_unknown_codec(protocol), head.version, body).await
            }
            _ => {
                let mut response = bare(StatusCode::UNSUPPORTED_MEDIA_TYPE, head.version, body).await;
                response.headers_mut().insert(ACCEPT_POST, MEDIA_TYPES);
                response
            }
        }
    }

    /// Asks the gate, before a byte of the body is read, then calls.
    async fn gate(
        &self,
        mounted: &engine::Mounted,
        protocol: Protocol,
        mut head: Parts,
        body: Body,
        peer: Peer,
        id: RequestId,
    ) -> Response<Body> {
        let frame = engine::Frame::new(protocol, &head);
        let deadline = match engine::timeout::read(&head.headers, protocol) {
            Ok(timeout) => timeout.map_or(Deadline::NONE, Deadline::after),
            Err(error) => return refuse(&error, &frame, head.version, body).await,
        };
        // The gate gets all headers, the engine the few that frame messages: neither needs a copy of the rest.
        let headers = std::mem::take(&mut head.headers);
        let asked = Head { headers, peer, door: protocol.door(), id, deadline, bearer: None };
        match self.admit.admit(Arc::clone(&mounted.method), asked).await {
            Ok(Admission { context, entry }) => mounted.call(frame, head, body, context, entry).await,
            Err(error) => refuse(&error, &frame, head.version, body).await,
        }
    }
}

/// Whether the protocol can carry a method of this shape. Connect has a media type for each.
fn fits(protocol: Protocol, shape: Shape) -> bool {
    match protocol {
        Protocol::Connect => shape == Shape::Unary,
        Protocol::ConnectStream => shape != Shape::Unary,
        Protocol::Grpc | Protocol::GrpcWeb | Protocol::GrpcWebText => true,
    }
}

/// The answer when a door itself failed. Handlers cannot cause it: they are shielded closer to where they run.
fn broken(panic: &Error, id: &RequestId) -> Response<Body> {
    tracing::error!(request_id = id.as_str(), error = panic.report(), "a door failed");
    dialect::render(panic, Surface::NEUTRAL.dialect, id)
}

fn request_id(headers: &HeaderMap) -> RequestId {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).and_then(RequestId::parse);
    given.unwrap_or_else(RequestId::generate)
}

fn no_such_method(path: &str) -> Error {
    Error::new(Code::Unimplemented, reason::NO_SUCH_ROUTE, format!("no such method: {path}"))
}

/// A refusal in the protocol of the caller.
async fn refuse(error: &Error, frame: &engine::Frame, version: Version, body: Body) -> Response<Body> {
    drain(version, body).await;
    frame.refusal(error)
}

/// A refusal in HTTP alone, for requests that speak no protocol of ours.
async fn bare(status: StatusCode, version: Version, body: Body) -> Response<Body> {
    drain(version, body).await;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Reads a small rest of the request: an HTTP/1.1 client that is still sending would else see a broken pipe, not the answer.
async fn drain(version: Version, mut body: Body) {
    if version >= Version::HTTP_2 {
        return;
    }
    let reading = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
            if bytes > DRAIN_BYTES_MAX {
                return;
            }
        }
    };
    // Whether it ended in time changes nothing: the answer is the same.
    let _in_time = tokio::time::timeout(DRAIN_PATIENCE, reading).await.is_ok();
}
