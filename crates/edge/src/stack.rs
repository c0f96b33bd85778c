//! The rooms that every request passes, in order.
//!
//! A newcomer's usual mistake is to add a room at the end. The order carries meaning: an id before anything can fail, the
//! route before the gate (which needs the method), the gate before the body.
//!
//! *Knows:* the order. *Does not know:* what happens inside a room.

use std::{pin::pin, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use http_body::Body as _;
use portico_base::{Code, Deadline, Error, RequestId, Result, reason};
use portico_gate::{Admission, Admit, Door, Head, Peer, Refusal, Stray};
use portico_schema::{Dialect, Idempotency, Shape, Surface};

use super::{Body, Edge, Kind, Outline, Protocol, classify::classify, dialect, engine, shield, unread};

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

impl Edge {
    /// Answers one request.
    pub async fn call(&self, request: Request<Body>, peer: Peer) -> Response<Body> {
        let (head, mut body) = request.into_parts();
        self.answer(Box::new(head), &mut body, peer).await
    }

    /// Answers one request. Its head is boxed and its body lent, because they are large and handed on.
    pub(super) async fn answer(&self, mut head: Box<Parts>, body: &mut Body, peer: Peer) -> Response<Body> {
        let (id, kind, way) = {
            let outline = Outline::of(&head.headers);
            body.discarded_by(&self.tasks, head.version, outline.expect.is_some());
            let kind = classify(&head, &outline);
            (request_id(outline.request_id), kind, self.way(kind, &head, &outline))
        };
        let origin = self.cors.get().verdict(&head.headers);
        let is_head = head.method == Method::HEAD;

        let response = if kind == Kind::Preflight {
            origin.preflight()
        } else {
            // Pinned here, because the shield would move it about.
            let answered = pin!(async {
                Ok(match (&way, &self.web) {
                    (Way::Call(call), _) => self.gate(call, &mut head, body, peer, id.clone()).await,
                    (Way::Elsewhere, Some(web)) => web.call(head, std::mem::take(body), peer, id.clone()).await,
                    // Boxed, as everything that is rare: the others do not carry room for it.
                    (Way::Elsewhere, None) => Box::pin(self.astray(Astray::NoWeb, &head, body, &peer, &id)).await,
                    (Way::Astray(astray), _) => Box::pin(self.astray(*astray, &head, body, &peer, &id)).await,
                })
            });
            shield::call(answered).await.unwrap_or_else(|panic| {
                let is_call = matches!(way, Way::Call(_));
                broken(&panic, if is_call { Surface::NEUTRAL.dialect } else { self.stranger() }, &id)
            })
        };

        let mut response = named(response, &id);
        origin.mark(response.headers_mut());
        if is_head { without_content(response) } else { response }
    }

    /// Refuses a request that does not say whom it is for, or says it twice: a proxy may have read another one than we would.
    pub(super) async fn refuse_unaddressed(&self, head: &Parts, body: &mut Body, peer: &Peer) -> Response<Body> {
        let outline = Outline::of(&head.headers);
        let id = request_id(outline.request_id);
        let words = "an HTTP/1.1 request has exactly one Host header";
        let error = Error::new(Code::InvalidArgument, reason::INVALID_MESSAGE, words);
        body.discarded_by(&self.tasks, head.version, outline.expect.is_some());
        drain(head.version, body).await;
        let answer = named(dialect::render(&error, self.stranger(), &id), &id);
        recorded(&*self.admit, &Stray { door: Door::Rest, method: "", id: &id, peer, error: &error }, answer)
    }

    /// How errors are printed that belong to no method.
    fn stranger(&self) -> Dialect {
        self.web.as_ref().map_or(Surface::NEUTRAL.dialect, |web| web.dialect())
    }

    /// Answers what is no call, and records it.
    async fn astray(
        &self,
        astray: Astray,
        head: &Parts,
        body: &mut Body,
        peer: &Peer,
        id: &RequestId,
    ) -> Response<Body> {
        let (door, method, error) = (astray.door(), astray.method(), astray.error(head));
        let answer = astray.answer(&error, head, body).await;
        recorded(&*self.admit, &Stray { door, method, id, peer, error: &error }, answer)
    }

    /// Finds the method. What is neither a method nor spoken like a call goes to the web.
    fn way(&self, kind: Kind, head: &Parts, outline: &Outline<'_>) -> Way<'_> {
        let Some(mounted) = self.engine.find(head.uri.path()) else {
            return match kind {
                Kind::Rpc(protocol) | Kind::UnknownCodec(protocol) => Way::Astray(Astray::NoMethod(protocol, kind)),
                _ => Way::Elsewhere,
            };
        };
        let method = &mounted.method;
        let gettable = method.shape == Shape::Unary && method.idempotency == Idempotency::NoSideEffects;
        if head.method != Method::POST && !(head.method == Method::GET && gettable) {
            return Way::Astray(Astray::Verb(method.path, if gettable { "GET, POST" } else { "POST" }));
        }
        let call = |protocol| {
            let timeout = engine::timeout::read(outline, protocol);
            Way::Call(Call { mounted, protocol, frame: engine::Frame::new(protocol, &head.method, outline), timeout })
        };
        match kind {
            Kind::Rpc(protocol) if fits(protocol, method.shape) => call(protocol),
            Kind::ConnectOrWeb if fits(Protocol::Connect, method.shape) => call(Protocol::Connect),
            Kind::UnknownCodec(protocol) => Way::Astray(Astray::Codec(method.path, protocol)),
            _ => Way::Astray(Astray::MediaType(method.path)),
        }
    }

    /// Asks the gate, before a byte of the body is read, then calls.
    async fn gate(
        &self,
        call: &Call<'_>,
        head: &mut Parts,
        body: &mut Body,
        peer: Peer,
        id: RequestId,
    ) -> Response<Body> {
        let Call { mounted, protocol, frame, timeout } = call;
        let deadline = match timeout {
            Ok(timeout) => timeout.map_or(Deadline::NONE, Deadline::after),
            Err(error) => {
                let (door, method) = (protocol.door(), mounted.method.path);
                let answer = Box::pin(refuse(error, frame, head.version, body)).await;
                return recorded(&*self.admit, &Stray { door, method, id: &id, peer: &peer, error }, answer);
            }
        };
        // The gate gets all headers, the engine the few that frame messages: neither needs a copy of the rest.
        let headers = std::mem::take(&mut head.headers);
        let authority = head.uri.authority().cloned();
        let asked = Head { headers, authority, peer, door: protocol.door(), id, deadline, bearer: None };
        match self.admit.admit(Arc::clone(&mounted.method), asked).await {
            Ok(Admission { context, entry }) => mounted.call(frame, head, body, context, entry).await,
            Err(Refusal { error, entry }) => {
                Box::pin(refuse(&error, frame, head.version, body)).await.map(|body| body.refused_by(entry))
            }
        }
    }
}

/// Where a request goes.
enum Way<'e> {
    /// To a method.
    Call(Call<'e>),
    /// To whatever is no call.
    Elsewhere,
    /// Nowhere.
    Astray(Astray),
}

/// A call of a method, as the head of its request has it.
struct Call<'e> {
    mounted: &'e engine::Mounted,
    protocol: Protocol,
    frame: engine::Frame,
    timeout: Result<Option<Duration>>,
}

/// What is wrong with a call before it is one.
#[derive(Clone, Copy)]
enum Astray {
    /// No method has this path.
    NoMethod(Protocol, Kind),
    /// Nothing but methods is served, and this is none.
    NoWeb,
    /// The method takes these verbs only.
    Verb(&'static str, &'static str),
    /// The protocol is spoken here, messages in this encoding are not.
    Codec(&'static str, Protocol),
    /// The protocol cannot be told, or cannot carry the method.
    MediaType(&'static str),
}

impl Astray {
    fn door(&self) -> Door {
        match self {
            Astray::NoMethod(protocol, _) | Astray::Codec(_, protocol) => protocol.door(),
            Astray::NoWeb => Door::Rest,
            Astray::Verb(..) | Astray::MediaType(_) => Door::Connect,
        }
    }

    fn method(&self) -> &'static str {
        match self {
            Astray::NoMethod(..) | Astray::NoWeb => "",
            Astray::Verb(method, _) | Astray::Codec(method, _) | Astray::MediaType(method) => method,
        }
    }

    fn error(&self, head: &Parts) -> Error {
        let (reason, words) = match self {
            Astray::NoMethod(..) => return no_such_method(head.uri.path()),
            Astray::NoWeb => (reason::NO_SUCH_ROUTE, "no route has this path"),
            Astray::Verb(..) => (reason::METHOD_NOT_ALLOWED, "the path does not take this method"),
            Astray::Codec(..) => (reason::UNSUPPORTED_MEDIA_TYPE, "messages of this media type are not spoken here"),
            Astray::MediaType(_) => (reason::UNSUPPORTED_MEDIA_TYPE, "no call of this method has this media type"),
        };
        Error::new(Code::Unimplemented, reason, words)
    }

    async fn answer(self, error: &Error, head: &Parts, body: &mut Body) -> Response<Body> {
        match self {
            Astray::NoMethod(protocol, Kind::Rpc(_)) => {
                let frame = engine::Frame::new(protocol, &head.method, &Outline::of(&head.headers));
                refuse(error, &frame, head.version, body).await
            }
            Astray::NoMethod(protocol, _) | Astray::Codec(_, protocol) => {
                refuse(error, &engine::Frame::of_unknown_codec(protocol), head.version, body).await
            }
            Astray::NoWeb => bare(StatusCode::NOT_FOUND, head.version, body).await,
            Astray::Verb(_, verbs) => {
                let mut response = bare(StatusCode::METHOD_NOT_ALLOWED, head.version, body).await;
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(verbs));
                response
            }
            Astray::MediaType(_) => {
                let mut response = bare(StatusCode::UNSUPPORTED_MEDIA_TYPE, head.version, body).await;
                response.headers_mut().insert(ACCEPT_POST, MEDIA_TYPES);
                response
            }
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

/// An answer whose record counts what is sent, where one is kept.
pub(super) fn recorded(admit: &dyn Admit, stray: &Stray<'_>, answer: Response<Body>) -> Response<Body> {
    let entry = admit.astray(stray);
    answer.map(|body| body.refused_by(entry))
}

/// An answer with the id of its request.
fn named(mut answer: Response<Body>, id: &RequestId) -> Response<Body> {
    if let Ok(mut id) = HeaderValue::from_str(id.as_str()) {
        // No two answers have the same id: HTTP/2 is not to keep it for later ones.
        id.set_sensitive(true);
        answer.headers_mut().insert(REQUEST_ID, id);
    }
    answer
}

/// The answer to HEAD: what GET would say of its content, without it (RFC 9110, section 9.3.2). Over HTTP/2 the library sends
/// whatever it is given, and a client that gets content it has not asked for gives the stream up.
fn without_content(mut answer: Response<Body>) -> Response<Body> {
    // Of none there is nothing to say, and some statuses must not say it.
    if let Some(bytes) = answer.body().size_hint().exact().filter(|bytes| *bytes > 0) {
        answer.headers_mut().entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(bytes));
    }
    answer.body_mut().leave_out();
    answer
}

/// The answer when a door itself failed. Handlers cannot cause it: they are shielded closer to where they run.
fn broken(panic: &Error, dialect: Dialect, id: &RequestId) -> Response<Body> {
    tracing::error!(request_id = id.as_str(), error = panic.report(), "a door failed");
    dialect::render(panic, dialect, id)
}

fn request_id(given: Option<&HeaderValue>) -> RequestId {
    let given = given.and_then(|value| value.to_str().ok()).and_then(RequestId::parse);
    given.unwrap_or_else(RequestId::generate)
}

fn no_such_method(path: &str) -> Error {
    Error::new(Code::Unimplemented, reason::NO_SUCH_ROUTE, format!("no such method: {path}"))
}

/// A refusal in the protocol of the caller.
async fn refuse(error: &Error, frame: &engine::Frame, version: Version, body: &mut Body) -> Response<Body> {
    drain(version, body).await;
    frame.refusal(error)
}

/// A refusal in HTTP alone, for requests that speak no protocol of ours.
async fn bare(status: StatusCode, version: Version, body: &mut Body) -> Response<Body> {
    drain(version, body).await;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Lets an HTTP/1.1 client finish what it sends, so that it keeps its connection. HTTP/2 ends one stream without the others.
async fn drain(version: Version, body: &mut Body) {
    if version < Version::HTTP_2 {
        // Whatever came, the answer is the same.
        let _broken = unread::ended(body).await.is_err();
    }
}
