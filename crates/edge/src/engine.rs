//! The engine: Connect, gRPC and gRPC-Web over handlers that are functions from bytes to bytes.
//!
//! A newcomer's usual mistake is to use the protocol crate elsewhere. It is named in this module alone, so that another
//! one could take its place; what it leaves open (flags, timeouts, panics, base64, brotli) is closed here.
//!
//! *Knows:* the `connectrpc` crate. *Does not know:* access rules, REST, surfaces.

mod brotli;
mod dispatch;
mod envelopes;
mod failure;
mod inflow;
mod outflow;
mod patience;
mod plain;
mod text;
pub mod timeout;

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use bytes::Bytes;
use connectrpc::{
    CompressionPolicy, CompressionRegistry, ConnectRpcBody, ConnectRpcService, DeadlinePolicy, Limits,
    compression::{GzipProvider, ZstdProvider},
};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header, request::Parts};
use http_body::SizeHint;
use http_body_util::{BodyExt, Full};
use portico_base::{Context, Error, reply, tasks::Tasks};
use portico_gate::Entry;
use portico_schema::{Schema, Shape};
use portico_wire::Handlers;
use tower::Service as _;

use self::{
    dispatch::{Call, Dispatch},
    inflow::{Fault, Inflow},
    outflow::Watch,
    plain::{Plain, Taken},
};
use super::{
    Body, Outline, Protocol,
    ends::{bounded, in_time},
};

/// Smaller messages gain nothing from compression.
const COMPRESSED_BYTES_MIN: usize = 1 << 10;
/// Room for envelopes and for compression that made a message larger: a body may exceed the message limit by this much.
const BODY_BYTES_SLACK: usize = 64 << 10;
/// A path may begin with this when the rest names a method.
const PATH_PREFIX: &str = "/api";
/// The headers that say how messages are framed, beside their type. The engine needs no others.
const FRAMING_HEADERS: [HeaderName; 7] = [
    header::CONTENT_ENCODING,
    header::ACCEPT_ENCODING,
    PROTOCOL_VERSION,
    HeaderName::from_static("connect-content-encoding"),
    HeaderName::from_static("connect-accept-encoding"),
    GRPC_ENCODING,
    GRPC_ACCEPT_ENCODING,
];
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Every mounted method by each path that names it.
pub struct Engine {
    by_path: HashMap<&'static str, Arc<Mounted>, foldhash::fast::RandomState>,
}

/// A method with what serves it.
pub struct Mounted {
    /// What is known of it.
    pub method: Arc<portico_schema::Method>,
    service: ConnectRpcService<Dispatch>,
    rules: Arc<Rules>,
}

/// What is the same for every method.
struct Rules {
    message_bytes_max: usize,
    compression: CompressionRegistry,
    /// The names of all codings, as a header says them.
    codings: HeaderValue,
}

impl Engine {
    /// Mounts every method that has a handler.
    pub fn new(schema: &Schema, handlers: &Handlers, tasks: Tasks, message_bytes_max: usize) -> Engine {
        let compression = CompressionRegistry::new()
            .register(GzipProvider::default())
            .register(ZstdProvider::default())
            .register(brotli::Brotli);
        let limits = Limits::default()
            .with_max_message_size(message_bytes_max)
            .with_max_request_body_size(message_bytes_max.saturating_add(BODY_BYTES_SLACK));
        // The names are ours, so they always are a header value.
        let codings = HeaderValue::from_str(compression.accept_encoding_header());
        let codings = codings.unwrap_or_else(|_| HeaderValue::from_static("identity"));
        let rules = Arc::new(Rules { message_bytes_max, compression: compression.clone(), codings });
        let mut by_path = HashMap::default();
        for method in schema.methods() {
            let Some(handler) = handlers.get(method.path) else { continue };
            let dispatch = Dispatch::new(Arc::clone(method), handler.clone(), tasks.clone());
            // One service per method: what it serves is known, so nothing is looked up again inside.
            let service = ConnectRpcService::new(dispatch)
                .with_limits(limits)
                .with_compression(compression.clone())
                .with_compression_policy(CompressionPolicy::default().with_min_size(COMPRESSED_BYTES_MIN))
                .with_deadline_policy(DeadlinePolicy::new().with_enforce_on_streams(true));
            let mounted = Arc::new(Mounted { method: Arc::clone(method), service, rules: Arc::clone(&rules) });
            for path in method.paths() {
                by_path.insert(path, Arc::clone(&mounted));
            }
        }
        Engine { by_path }
    }

    /// The method of this path, with or without `/api` before it.
    pub fn find(&self, path: &str) -> Option<&Mounted> {
        let found = self.by_path.get(path);
        found.or_else(|| self.by_path.get(path.strip_prefix(PATH_PREFIX)?)).map(|mounted| &**mounted)
    }
}

impl Mounted {
    /// Makes one call that the gate has let in.
    pub async fn call(
        &self,
        frame: &Frame,
        head: &Parts,
        body: &mut Body,
        context: Context,
        entry: Entry,
    ) -> Response<Body> {
        let mut watch = Watch::new(entry.clone(), context.deadline);
        if let Err(error) = in_time(context.deadline) {
            watch.fail(&error);
            return sent(frame.failure(&error, reply::Parts::default()), entry);
        }
        body.received_by(entry.clone());
        if self.method.shape == Shape::Unary
            && let Some(plain) = frame.plain
        {
            let taken = bounded(plain.take(body, self.rules.message_bytes_max), context.deadline).await;
            let message = match taken {
                Ok(Taken::Message(message)) => Some(message),
                Ok(Taken::Other(whole)) => {
                    *body = whole;
                    None
                }
                Err(error) => {
                    watch.fail(&error);
                    return sent(frame.failure(&error, reply::Parts::default()), entry);
                }
            };
            if let Some(message) = message {
                let answer = self.answer(plain, frame, message, context, &entry).await;
                watch.succeed();
                return sent(answer, entry);
            }
        }
        // Boxed, so that plain calls do not carry room for it.
        let body = std::mem::take(body);
        let answer = Box::pin(self.engine(frame, head, body, context, &entry)).await;
        watch.succeed();
        sent(answer, entry)
    }

    /// Answers a plain call.
    async fn answer(
        &self,
        plain: Plain,
        frame: &Frame,
        message: Bytes,
        context: Context,
        entry: &Entry,
    ) -> Response<Body> {
        let call = self.service.dispatcher().plain(plain, message, context.clone(), entry.clone());
        let answered = bounded(call, context.deadline).await;
        let said = context.reply.take();
        let answered = match answered {
            Ok(message) => {
                let Rules { compression, codings, .. } = &*self.rules;
                plain.answer(message, said, context.metadata.headers(), compression, codings)
            }
            Err(error) => {
                entry.fail(&error);
                return frame.failure(&error, said);
            }
        };
        answered.unwrap_or_else(|error| {
            entry.fail(&error);
            frame.failure(&error, reply::Parts::default())
        })
    }

    /// Makes a call of any kind.
    async fn engine(&self, frame: &Frame, head: &Parts, body: Body, context: Context, entry: &Entry) -> Response<Body> {
        let fault = Fault::default();
        let mut request = Request::new(Inflow::new(body, frame.protocol, self.method.shape, fault.clone()));
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = head.uri.clone();
        *request.version_mut() = head.version;
        *request.headers_mut() = frame.headers(&context);
        request.extensions_mut().insert(Call { context, entry: entry.clone(), fault: fault.clone() });

        let mut service = self.service.clone();
        let mut answer = match service.call(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        if let Some(error) = fault.take() {
            entry.fail(&error);
            return frame.refusal(&error);
        }
        if !fault.has_reached() {
            answer = in_one_block(answer, frame.protocol);
            entry.fail(&failure::told(&mut answer, frame.protocol));
        }
        frame.answer(answer)
    }
}

/// The answer, whose bytes this record counts.
fn sent(mut answer: Response<Body>, entry: Entry) -> Response<Body> {
    answer.body_mut().sent_by(entry);
    answer
}

/// How the messages of one call are framed.
pub struct Frame {
    protocol: Protocol,
    media_type: Option<HeaderValue>,
    plain: Option<Plain>,
}

impl Frame {
    /// Reads it off the head of a request.
    pub fn new(protocol: Protocol, verb: &Method, outline: &Outline<'_>) -> Frame {
        let media_type = match protocol {
            Protocol::GrpcWebText => Some(text::INNER_MEDIA_TYPE),
            _ => outline.content_type.map(lowered),
        };
        Frame { protocol, media_type, plain: Plain::of(protocol, verb, outline) }
    }

    /// The frame of answers to a request whose encoding is not spoken here.
    pub fn of_unknown_codec(protocol: Protocol) -> Frame {
        let media_type = HeaderValue::from_static(match protocol {
            Protocol::Connect => "application/proto",
            Protocol::ConnectStream => "application/connect+proto",
            Protocol::Grpc => "application/grpc+proto",
            Protocol::GrpcWeb | Protocol::GrpcWebText => "application/grpc-web+proto",
        });
        Frame { protocol, media_type: Some(media_type), plain: None }
    }

    /// An error as this protocol says it, when no message was answered yet.
    pub fn refusal(&self, error: &Error) -> Response<Body> {
        self.answer(failure::to_connect(error, None).into_http_response(&self.typed()))
    }

    /// The failure of a handler, with what it had said beside.
    fn failure(&self, error: &Error, said: reply::Parts) -> Response<Body> {
        self.answer(failure::to_connect(error, Some(said)).into_http_response(&self.typed()))
    }

    fn answer(&self, answer: Response<ConnectRpcBody>) -> Response<Body> {
        let is_text = self.protocol == Protocol::GrpcWebText;
        let mut answer = in_one_block(answer, self.protocol).map(|inner| Body::rpc(RpcBody { inner, is_text }));
        if is_text {
            answer.headers_mut().insert(header::CONTENT_TYPE, text::MEDIA_TYPE);
        }
        answer
    }

    /// The headers for the engine, with the deadline that is in force rather than the one that was asked for.
    fn headers(&self, context: &Context) -> HeaderMap {
        let mut headers = self.typed();
        for name in FRAMING_HEADERS {
            if let Some(value) = context.metadata.headers().get(&name) {
                headers.insert(name, lowered(value));
            }
        }
        if let Some(left) = context.deadline.remaining() {
            let (name, value) = timeout::write(left, self.protocol);
            headers.insert(name, value);
        }
        headers
    }

    fn typed(&self) -> HeaderMap {
        self.media_type.iter().map(|media_type| (header::CONTENT_TYPE, media_type.clone())).collect()
    }
}

/// A media type or a coding as the crate compares it. Its case means nothing (RFC 9110, sections 8.3.1 and 8.4.1), and nearly
/// everybody writes it so.
fn lowered(value: &HeaderValue) -> HeaderValue {
    if !value.as_bytes().iter().any(u8::is_ascii_uppercase) {
        return value.clone();
    }
    // No letter makes a value that is not one.
    HeaderValue::from_bytes(&value.as_bytes().to_ascii_lowercase()).unwrap_or_else(|_| value.clone())
}

/// The crate says how a failed gRPC call ended in the headers, and again in trailers that follow at once. gRPC has one or the
/// other: where no message comes, the trailers are the headers.
fn in_one_block(mut answer: Response<ConnectRpcBody>, protocol: Protocol) -> Response<ConnectRpcBody> {
    if protocol == Protocol::Grpc
        && answer.headers().contains_key(GRPC_STATUS)
        && let Some(Some(Ok(frame))) = answer.body_mut().frame().now_or_never()
        && let Ok(trailers) = frame.into_trailers()
    {
        let headers = answer.headers_mut();
        for name in [GRPC_STATUS, GRPC_MESSAGE] {
            headers.remove(name);
        }
        for (name, value) in &trailers {
            headers.append(name, value.clone());
        }
        *answer.body_mut() = ConnectRpcBody::Full(Full::default());
    }
    answer
}

/// The body of an answer.
pub(super) struct RpcBody {
    inner: ConnectRpcBody,
    is_text: bool,
}

impl http_body::Body for RpcBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(cx).map_err(|never: Infallible| match never {});
        if !this.is_text {
            return polled;
        }
        polled.map_ok(|frame| frame.map_data(|data| text::encode(&data)))
    }

    // The crate does not forward these for whole messages; with them an answer needs no chunks and one frame less.
    fn is_end_stream(&self) -> bool {
        match &self.inner {
            ConnectRpcBody::Full(body) => body.is_end_stream(),
            _ => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            ConnectRpcBody::Full(body) => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}
