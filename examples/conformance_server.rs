//! The server that the official Connect conformance suite tests: its service, by our own generator, behind our own doors.
//!
//! A newcomer's usual mistake is to run this by hand. The suite's runner starts it, says on standard input how to
//! listen, reads on standard output where, and ends it by a signal.
//!
//! *Knows:* the suite's service. *Does not know:* any surface of Portico; everybody is let in.

use std::{
    collections::VecDeque,
    io::{Read, Write, stdin, stdout},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use http::{HeaderName, HeaderValue};
use portico::{
    base::{Code, Context, Error, Incoming, Outgoing, Result, Secret, error::Detail, reason, tasks::Tasks},
    edge::{self, Edge, listen},
    gate,
    schema::Schema,
    wire::{Handlers, well_known::Any},
};
use portico_conformance_protos::{
    BidiStreamRequest, BidiStreamResponse, ClientStreamRequest, ClientStreamResponse, ConformancePayload,
    ConformanceService, Error as AskedError, Header, IdempotentUnaryRequest, IdempotentUnaryResponse, SCHEMA,
    ServerCompatRequest, ServerCompatResponse, ServerStreamRequest, ServerStreamResponse, StreamResponseDefinition,
    UnaryRequest, UnaryResponse, UnaryResponseDefinition, UnimplementedRequest, UnimplementedResponse,
    conformance_payload::RequestInfo, mount_conformance_service, unary_response_definition::Response,
};
use prost::{Message, Name};

/// What the suite sends first is small; a larger size would mean that something else is talking.
const INSTRUCTIONS_BYTES_MAX: u32 = 1 << 20;
/// How long calls in flight may go on when the suite ends the server.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let asked = instructions()?;
    let tasks = Tasks::new();
    let config = listen::Config { tls: tls(&asked)?, ..listen::Config::plain(SocketAddr::from(([127, 0, 0, 1], 0))) };
    let listener = listen::Listener::bind(config, tasks.clone()).await?;

    let mut handlers = Handlers::new();
    mount_conformance_service(Service, &mut handlers);
    let mut config = edge::Config::default();
    if asked.message_receive_limit > 0 {
        config.message_bytes_max = asked.message_receive_limit as usize;
    }
    let edge = Edge::new(&Schema::read(SCHEMA)?, &handlers, Arc::new(gate::Open), tasks.clone(), config);

    let address = listener.address();
    let pem_cert = asked.server_creds.filter(|_| asked.use_tls).map(|creds| creds.cert).unwrap_or_default();
    tell(&ServerCompatResponse { host: address.ip().to_string(), port: address.port().into(), pem_cert })?;

    let serving = tasks.spawn(listener.serve(Arc::new(edge)));
    let mut ended = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    ended.recv().await;
    tasks.close();
    serving.await?;
    tasks.wait(DRAIN_PATIENCE).await;
    Ok(())
}

fn instructions() -> std::result::Result<ServerCompatRequest, Box<dyn std::error::Error>> {
    let mut size = [0; 4];
    stdin().read_exact(&mut size)?;
    let size = u32::from_be_bytes(size);
    if size > INSTRUCTIONS_BYTES_MAX {
        return Err("the suite's runner is not at the other end".into());
    }
    let mut bytes = vec![0; size as usize];
    stdin().read_exact(&mut bytes)?;
    Ok(ServerCompatRequest::decode(bytes.as_slice())?)
}

fn tell(response: &ServerCompatResponse) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let bytes = response.encode_to_vec();
    let mut out = stdout();
    out.write_all(&u32::try_from(bytes.len())?.to_be_bytes())?;
    out.write_all(&bytes)?;
    Ok(out.flush()?)
}

fn tls(asked: &ServerCompatRequest) -> std::result::Result<Option<listen::Tls>, Box<dyn std::error::Error>> {
    let Some(creds) = asked.server_creds.as_ref().filter(|_| asked.use_tls) else { return Ok(None) };
    let client_issuers = match &asked.client_tls_cert[..] {
        [] => None,
        issuers => Some(String::from_utf8(issuers.to_vec())?),
    };
    Ok(Some(listen::Tls {
        certificates: String::from_utf8(creds.cert.to_vec())?,
        key: Secret::new(String::from_utf8(creds.key.to_vec())?),
        client_required: client_issuers.is_some(),
        client_issuers,
    }))
}

/// The suite's service, as its proto file describes it.
struct Service;

impl ConformanceService for Service {
    async fn unary(&self, cx: Context, request: UnaryRequest) -> Result<UnaryResponse> {
        let seen = packed(&request);
        let payload = answer(&cx, request.response_definition, vec![seen]).await?;
        Ok(UnaryResponse { payload: Some(payload) })
    }

    async fn idempotent_unary(&self, cx: Context, request: IdempotentUnaryRequest) -> Result<IdempotentUnaryResponse> {
        let seen = packed(&request);
        let payload = answer(&cx, request.response_definition, vec![seen]).await?;
        Ok(IdempotentUnaryResponse { payload: Some(payload) })
    }

    async fn unimplemented(&self, _cx: Context, _request: UnimplementedRequest) -> Result<UnimplementedResponse> {
        Err(Error::new(Code::Unimplemented, reason::RELAYED, "not offered by this server"))
    }

    async fn client_stream(
        &self,
        cx: Context,
        mut requests: Incoming<ClientStreamRequest>,
    ) -> Result<ClientStreamResponse> {
        let (mut definition, mut seen) = (None, Vec::new());
        while let Some(request) = requests.next().await.transpose()? {
            seen.push(packed(&request));
            if seen.len() == 1 {
                definition = request.response_definition;
            }
        }
        Ok(ClientStreamResponse { payload: Some(answer(&cx, definition, seen).await?) })
    }

    async fn server_stream(&self, cx: Context, request: ServerStreamRequest) -> Result<Outgoing<ServerStreamResponse>> {
        let seen = vec![packed(&request)];
        let answers = Answers::new(cx, request.response_definition, Incoming::<BidiStreamRequest>::empty(), seen);
        Ok(Box::pin(
            answers.stream().map(|answer| answer.map(|payload| ServerStreamResponse { payload: Some(payload) })),
        ))
    }

    async fn bidi_stream(
        &self,
        cx: Context,
        mut requests: Incoming<BidiStreamRequest>,
    ) -> Result<Outgoing<BidiStreamResponse>> {
        let (mut definition, mut full_duplex, mut seen) = (None, false, Vec::new());
        // A half-duplex call answers when the caller has said everything, a full-duplex one after the first message.
        while let Some(request) = requests.next().await.transpose()? {
            seen.push(packed(&request));
            if seen.len() == 1 {
                (definition, full_duplex) = (request.response_definition, request.full_duplex);
            }
            if full_duplex {
                break;
            }
        }
        let rest = if full_duplex { requests } else { Incoming::<BidiStreamRequest>::empty() };
        let answers = Answers::new(cx, definition, rest, seen);
        Ok(Box::pin(answers.stream().map(|answer| answer.map(|payload| BidiStreamResponse { payload: Some(payload) }))))
    }
}

/// The answer of a call that has one.
async fn answer(cx: &Context, asked: Option<UnaryResponseDefinition>, seen: Vec<Any>) -> Result<ConformancePayload> {
    let info = info(cx, seen);
    let Some(asked) = asked else {
        return Ok(ConformancePayload { request_info: Some(info), ..Default::default() });
    };
    say(cx, asked.response_headers, asked.response_trailers);
    pause(asked.response_delay_ms).await;
    match asked.response {
        Some(Response::Error(error)) => Err(raised(error, Some(&info))),
        Some(Response::ResponseData(data)) => Ok(ConformancePayload { data, request_info: Some(info) }),
        None => Ok(ConformancePayload { request_info: Some(info), ..Default::default() }),
    }
}

/// The answers of a call that has many, each after the next request when the caller goes on sending.
struct Answers {
    cx: Context,
    requests: Incoming<BidiStreamRequest>,
    seen: Vec<Any>,
    data: VecDeque<bytes::Bytes>,
    error: Option<AskedError>,
    delay_ms: u32,
    sent: usize,
}

impl Answers {
    fn new(
        cx: Context,
        asked: Option<StreamResponseDefinition>,
        requests: Incoming<BidiStreamRequest>,
        seen: Vec<Any>,
    ) -> Answers {
        let asked = asked.unwrap_or_default();
        say(&cx, asked.response_headers, asked.response_trailers);
        Answers {
            cx,
            requests,
            seen,
            data: asked.response_data.into(),
            error: asked.error,
            delay_ms: asked.response_delay_ms,
            sent: 0,
        }
    }

    fn stream(self) -> impl futures_util::Stream<Item = Result<ConformancePayload>> + Send {
        stream::unfold(Some(self), |state| async move {
            let mut state = state?;
            match state.next().await {
                Some(Ok(payload)) => Some((Ok(payload), Some(state))),
                Some(Err(error)) => Some((Err(error), None)),
                None => None,
            }
        })
    }

    async fn next(&mut self) -> Option<Result<ConformancePayload>> {
        if self.sent > 0 {
            match self.requests.next().await {
                Some(Ok(request)) => self.seen.push(packed(&request)),
                Some(Err(error)) => return Some(Err(error)),
                None => {}
            }
        }
        let Some(data) = self.data.pop_front() else {
            let info = (self.sent == 0).then(|| info(&self.cx, std::mem::take(&mut self.seen)));
            return self.error.take().map(|error| Err(raised(error, info.as_ref())));
        };
        pause(self.delay_ms).await;
        let seen = std::mem::take(&mut self.seen);
        let request_info = match (self.sent, seen.len()) {
            (0, _) => Some(info(&self.cx, seen)),
            (_, 0) => None,
            _ => Some(RequestInfo { requests: seen, ..Default::default() }),
        };
        self.sent += 1;
        Some(Ok(ConformancePayload { data, request_info }))
    }
}

/// No messages at all.
trait Empty {
    fn empty() -> Self;
}

impl<T: Send + 'static> Empty for Incoming<T> {
    fn empty() -> Self {
        Box::pin(stream::empty())
    }
}

fn info(cx: &Context, requests: Vec<Any>) -> RequestInfo {
    let headers = cx.metadata.headers();
    let request_headers = headers.keys().map(|name| Header {
        name: name.to_string(),
        value: headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into()).collect(),
    });
    let timeout_ms = cx.deadline.remaining().and_then(|left| i64::try_from(left.as_millis()).ok());
    RequestInfo { request_headers: request_headers.collect(), timeout_ms, requests, connect_get_info: None }
}

fn say(cx: &Context, headers: Vec<Header>, trailers: Vec<Header>) {
    for (name, value) in pairs(headers) {
        cx.reply.header(name, value);
    }
    for (name, value) in pairs(trailers) {
        cx.reply.trailer(name, value);
    }
}

fn pairs(headers: Vec<Header>) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    headers.into_iter().flat_map(|header| {
        let name = HeaderName::try_from(header.name);
        header.value.into_iter().filter_map(move |value| Some((name.as_ref().ok()?.clone(), value.try_into().ok()?)))
    })
}

/// The error that was asked for. The suite counts details, so nothing may be added to it.
fn raised(asked: AskedError, info: Option<&RequestInfo>) -> Error {
    let code = Code::from_number(asked.code).unwrap_or(Code::Unknown);
    let mut error = Error::new(code, reason::RELAYED, asked.message.unwrap_or_default());
    for detail in asked.details {
        let type_name = detail.type_url.rsplit('/').next().unwrap_or_default().to_owned();
        error = error.with(Detail::Packed { type_name, value: detail.value.into() });
    }
    match info {
        Some(info) => {
            error.with(Detail::Packed { type_name: RequestInfo::full_name(), value: info.encode_to_vec().into() })
        }
        None => error,
    }
}

fn packed<M: Message + Name>(message: &M) -> Any {
    Any { type_url: format!("type.googleapis.com/{}", M::full_name()), value: message.encode_to_vec() }
}

async fn pause(milliseconds: u32) {
    if milliseconds > 0 {
        tokio::time::sleep(Duration::from_millis(milliseconds.into())).await;
    }
}
