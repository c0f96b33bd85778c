//! WebSockets: a streaming method, one frame for one message each way.
//!
//! A newcomer's usual mistake is to answer the handshake first. The handler is called before it, with a stream that is
//! still empty; what it refuses is an ordinary HTTP error. Only when it has handed over its own stream does 101 go out.
//!
//! *Knows:* the handshakes of HTTP/1.1 and HTTP/2, credentials of browsers. *Does not know:* what frames mean.

mod close;
mod pieces;
mod pump;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_channel::mpsc;
use futures_util::{FutureExt, StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method as Verb, Response, StatusCode, Version, header, request::Parts};
use hyper::{ext::Protocol, upgrade::OnUpgrade};
use portico_base::{Code, Deadline, Error, Incoming, Outgoing, RequestId, Result, reason, tasks::Tasks};
use portico_gate::{Admission, Admit, Door, Head, Peer, Refusal};
use portico_json::{MessageType, Parse, Style};
use portico_schema as schema;
use portico_schema::{Defect, Method, Schema, Surface};
use portico_wire::Handler;
use tokio_tungstenite::tungstenite::{Message as Frame, Utf8Bytes, handshake::derive_accept_key};

pub(super) use self::pump::FAREWELL_MAX;

use self::pump::Pump;
use super::{
    Body,
    body::PIECE_BYTES_MAX,
    dialect,
    ends::{bounded, draining},
    rest::{Message, beside},
    route::Segments,
    shield, taking,
    tunnel::Tunnel,
};

/// How long a handler may take until its stream is there. Dialling and waiting for a fresh instance stay below.
const READY_MAX: Duration = Duration::from_secs(30);

/// Browsers cannot set headers on a handshake; they offer the key as a subprotocol of this prefix.
pub(super) const BEARER: &str = "bearer.";

/// How the socket of one method is served.
pub(super) struct Plan {
    pub(super) method: Arc<Method>,
    template: schema::Template,
    captures: Vec<portico_json::FieldPath>,
    handler: Option<Handler>,
    framing: Framing,
}

/// How frames and messages become each other.
#[derive(Clone)]
pub(super) enum Framing {
    /// A text frame is a message in JSON.
    Json {
        /// What frames from the caller are.
        input: MessageType,
        /// What frames to the caller are.
        output: MessageType,
        /// How the page prints.
        style: Style,
    },
    /// Frames pass as they are.
    Raw(Tunnel),
}

/// What opening a socket needs of the house.
pub(super) struct Sockets<'d> {
    pub(super) admit: &'d dyn Admit,
    pub(super) tasks: &'d Tasks,
}

/// A handshake that can be answered.
struct Handshake {
    upgrade: OnUpgrade,
    /// What proves to an HTTP/1.1 client that it was understood.
    accept: Option<HeaderValue>,
    subprotocol: Option<&'static str>,
}

/// Whether a request asks for a WebSocket.
pub(super) fn is_asked(head: &Parts) -> bool {
    match head.version {
        Version::HTTP_2 => head.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == "websocket"),
        _ => head.method == Verb::GET && has_token(&head.headers, &header::UPGRADE, "websocket"),
    }
}

/// The refusal of what is not a handshake. It says which one would be.
fn upgrade_required() -> Error {
    Error::new(Code::FailedPrecondition, reason::UPGRADE_REQUIRED, "a WebSocket handshake is needed here")
        .with_metadata(spoken())
}

/// What is to be upgraded to. HTTP/2 leaves out what has no meaning there.
fn spoken() -> HeaderMap {
    HeaderMap::from_iter([
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
    ])
}

impl Plan {
    pub(super) fn new(
        schema: &Schema,
        method: &Arc<Method>,
        socket: &schema::Socket,
        handler: Option<&Handler>,
    ) -> Result<Plan, Defect> {
        let defect = |problem: String| Defect::new(format!("{}: {problem}", method.path));
        let framing = if socket.raw {
            let descriptor = |name: &str| schema.pool().get_message_by_name(name);
            let tunnel = descriptor(method.input.name())
                .zip(descriptor(method.output.name()))
                .and_then(|(input, output)| Tunnel::of(&input, &output));
            Framing::Raw(tunnel.ok_or_else(|| defect("a raw socket needs `text` and `binary` both ways".to_owned()))?)
        } else {
            let (input, output) = (method.input.clone(), method.output.clone());
            Framing::Json { input, output, style: method.surface.json }
        };
        let field = |variable: &schema::Variable| {
            let name = &variable.field;
            method.input.path(name).ok_or_else(|| defect(format!("the socket's path names the unknown field {name}")))
        };
        let captures = socket.template.variables.iter().map(field).collect::<Result<_, _>>()?;
        Ok(Plan {
            method: Arc::clone(method),
            template: socket.template.clone(),
            captures,
            handler: handler.cloned(),
            framing,
        })
    }

    /// Calls the handler. The stream it gets begins with what path and query say.
    async fn begin(
        &self,
        first: Message<'_>,
        context: portico_base::Context,
        inbound: Incoming<Bytes>,
    ) -> Result<Outgoing<Bytes>> {
        let handler = self.handler.as_ref().ok_or_else(|| {
            Error::new(Code::Unimplemented, reason::NOT_OFFERED, "this installation does not offer it")
        })?;
        let ready = Deadline::after(READY_MAX).earlier(context.deadline);
        let first = first.into_bytes();
        let lead = |first: Bytes| -> Incoming<Bytes> {
            // A message that says nothing is not sent, unless the tunnel's first message is awaited for its address.
            let lead = (!first.is_empty() || matches!(self.framing, Framing::Raw(_))).then_some(Ok(first));
            Box::pin(stream::iter(lead).chain(inbound))
        };
        match handler {
            Handler::Bidi(call) => bounded(shield::call(call(context, lead(first))), ready).await.map(shield::stream),
            Handler::ServerStream(call) => bounded(shield::call(call(context, first)), ready).await.map(shield::stream),
            Handler::ClientStream(_) | Handler::Unary(_) => Err(Error::internal("a socket needs a stream of answers")),
        }
    }
}

impl Sockets<'_> {
    /// Opens a socket: asks the gate, calls the handler, answers the handshake.
    ///
    /// # Errors
    /// Whatever forbids it before it is a call. What is refused later is answered and recorded here.
    pub(super) async fn open(
        &self,
        plan: &Plan,
        segments: &Segments<'_>,
        head: &mut Parts,
        peer: Peer,
        id: &RequestId,
    ) -> Result<Response<Body>> {
        let handshake = Handshake::read(head, plan.method.surface);
        if self.tasks.is_leaving() {
            return Err(draining());
        }
        let refusal = |error| dialect::render(error, plan.method.surface.dialect, id);
        let Admission { context, entry } = match self.ask(plan, head, peer, id).await {
            Ok(admission) => admission,
            Err(Refusal { error, entry }) => return Ok(refusal(&error).map(|body| body.refused_by(entry))),
        };
        let handshake = match handshake {
            Ok(handshake) => handshake,
            Err(error) => {
                entry.fail(&error);
                return Ok(refusal(&error).map(|body| body.refused_by(Some(entry))));
            }
        };

        let (sender, receiver) = mpsc::channel(0);
        let begun = async {
            let mut first = Message::new(&plan.method.input);
            first.query_of_socket(head.uri.query())?;
            first.captures(&plan.template, &plan.captures, segments)?;
            plan.begin(first, context.clone(), Box::pin(receiver)).await
        };
        let outbound = match begun.await {
            Ok(outbound) => outbound,
            Err(error) => {
                entry.fail(&error);
                let mut refusal = refusal(&error);
                beside(&mut refusal, context.reply.take());
                refusal.body_mut().sent_by(entry);
                return Ok(refusal);
            }
        };
        let said = context.reply.take();
        let bytes_max = said.message_bytes_max.and_then(|bytes| usize::try_from(bytes).ok());
        let mut answer = handshake.answer(said.headers);
        let pump = Pump::new(outbound, sender, plan.framing.clone(), entry, self.tasks.clone());
        let (socket, writing) = taking::Socket::new();
        // With the answer, because that is when the stream becomes a socket.
        answer.extensions_mut().insert(socket);
        // Over HTTP/1.1 the connection has nothing between it and the network.
        let piece_bytes_max = if handshake.accept.is_some() { usize::MAX } else { PIECE_BYTES_MAX };
        let work = pump::run(handshake.upgrade, pump, bytes_max, piece_bytes_max);
        self.tasks.serve(work.map(move |()| drop(writing)));
        Ok(answer)
    }

    /// Turns away who asks without a handshake: as the gate does, or else because there is none.
    pub(super) async fn turn_away(&self, plan: &Plan, head: &mut Parts, peer: Peer, id: &RequestId) -> Response<Body> {
        let refusal = |error| dialect::render(error, plan.method.surface.dialect, id);
        match self.ask(plan, head, peer, id).await {
            Ok(Admission { entry, .. }) => {
                let error = upgrade_required();
                entry.fail(&error);
                refusal(&error).map(|body| body.refused_by(Some(entry)))
            }
            Err(Refusal { error, entry }) => refusal(&error).map(|body| body.refused_by(entry)),
        }
    }

    /// Asks the gate, which gets the headers.
    async fn ask(
        &self,
        plan: &Plan,
        head: &mut Parts,
        peer: Peer,
        id: &RequestId,
    ) -> std::result::Result<Admission, Refusal> {
        let (mut headers, authority) = (std::mem::take(&mut head.headers), head.uri.authority().cloned());
        let bearer = offers(&headers).iter().find_map(|offer| offer.strip_prefix(BEARER)).map(str::to_owned);
        // It may hold a key, and it means nothing to handlers.
        headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
        let (door, id, deadline) = (Door::Socket, id.clone(), Deadline::NONE);
        let asked = Head { headers, authority, peer, door, id, deadline, bearer };
        self.admit.admit(Arc::clone(&plan.method), asked).await
    }
}

impl Handshake {
    fn read(head: &mut Parts, surface: &Surface) -> Result<Handshake> {
        let headers = &head.headers;
        let is_current = headers.get(header::SEC_WEBSOCKET_VERSION).map(|version| version == "13");
        let accept = if head.version == Version::HTTP_2 {
            // Who leaves it out there gets the only one that there is.
            if is_current == Some(false) {
                return Err(upgrade_required());
            }
            None
        } else {
            let is_current = is_current == Some(true);
            let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == KEY_LENGTH);
            let key = key.filter(|_| is_current && has_token(headers, &header::CONNECTION, "upgrade"));
            let key = key.ok_or_else(upgrade_required)?;
            Some(HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(Error::internal)?)
        };
        let offers = offers(headers);
        let subprotocol = surface.subprotocol.filter(|name| offers.iter().any(|offer| offer == name));
        let upgrade = head.extensions.remove::<OnUpgrade>().ok_or_else(upgrade_required)?;
        Ok(Handshake { upgrade, accept, subprotocol })
    }

    fn answer(&self, headers: HeaderMap) -> Response<Body> {
        let mut answer = Response::new(Body::empty());
        *answer.headers_mut() = headers;
        let headers = answer.headers_mut();
        let status = match &self.accept {
            Some(accept) => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.clone());
                StatusCode::SWITCHING_PROTOCOLS
            }
            None => StatusCode::OK,
        };
        if let Some(name) = self.subprotocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
        }
        *answer.status_mut() = status;
        answer
    }
}

/// Sixteen bytes in base64.
const KEY_LENGTH: usize = 24;

fn offers(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|offer| offer.trim().to_owned()).collect()
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

impl Framing {
    /// The message in a frame from the caller.
    fn taken(&self, frame: Frame) -> Result<Bytes> {
        match (self, frame) {
            (Framing::Raw(tunnel), Frame::Text(text)) => Ok(tunnel.text(text.as_ref())),
            (Framing::Raw(tunnel), Frame::Binary(bytes)) => Ok(tunnel.binary(&bytes)),
            (Framing::Json { input, .. }, Frame::Text(text)) => {
                let read = input.decode(text.as_bytes(), Parse::default());
                read.map(Bytes::from).map_err(|error| super::rest::unfit(text.as_bytes(), &error, ""))
            }
            _ => Err(Error::new(Code::InvalidArgument, reason::INVALID_MESSAGE, "messages are JSON in text frames")),
        }
    }

    /// The message of a farewell from the caller, where there is one.
    fn farewell(&self, code: u16, reason: &str) -> Option<Bytes> {
        match self {
            Framing::Raw(tunnel) => tunnel.close(code, reason),
            Framing::Json { .. } => None,
        }
    }

    /// The frame for a message to the caller, if it makes one.
    fn given(&self, message: &Bytes) -> Result<Option<Frame>> {
        match self {
            Framing::Raw(tunnel) => tunnel.frame(message),
            Framing::Json { output, style, .. } => {
                let mut json = Vec::with_capacity(message.len() * 2);
                output.encode(message, *style, &mut json).map_err(Error::internal)?;
                Ok(Some(Frame::Text(Utf8Bytes::try_from(Bytes::from(json)).map_err(Error::internal)?)))
            }
        }
    }
}
