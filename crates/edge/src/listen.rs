//! Accepts connections and hands their requests to the doors.
//!
//! A newcomer's usual mistake is to trust a peer to be quick. Every wait for a peer here has a limit, and so has
//! everything that a peer can make us hold.
//!
//! *Knows:* TCP, TLS, HTTP/1.1 and HTTP/2, how to stop in order. *Does not know:* paths, protocols of calls.

mod aside;
mod gathered;
mod greeting;
mod head;
mod line;
mod streams;
mod tls;

pub use tls::{Certificates, Tls};

use std::{convert::Infallible, future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode, Version as Spoken, header, request::Parts};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use portico_base::{Code, Error, Result, reason, tasks::Tasks};
use portico_gate::Peer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use self::{
    aside::Aside,
    gathered::Gathered,
    greeting::{Greeted, Version},
    head::{HeadTimer, Heard, IDLE_PATIENCE},
    line::Line,
    streams::Streams,
};
use super::{Body, Edge, taking};

/// Connections beyond this wait in the kernel's queue; sockets are connections too. Each costs a file and some 10 KiB.
pub const CONNECTIONS_MAX: usize = 16_384;
/// How long a peer may take for its TLS handshake and its first bytes.
const GREETING_PATIENCE: Duration = Duration::from_secs(10);
/// Larger than any head that browsers, proxies and tokens produce together, small enough to hold for each connection.
const HEAD_BYTES_MAX: u32 = 64 << 10;
/// Calls at the same time on one HTTP/2 connection: enough for a busy client, a bound on what one peer holds.
const STREAMS_MAX: u32 = 256;
/// Streams that a peer may open and reset before they are served; more is an attack, and ends the connection.
const RESETS_PENDING_MAX: usize = 20;
/// Streams that may end by an error of the peer before the connection ends.
const RESETS_BY_ERROR_MAX: usize = 1_024;
/// What a peer may send ahead on one stream: a usual message without waiting.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same for all streams of a connection, so that one slow handler does not stop the others.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// What waits per stream for a slow reader before the handler is slowed down.
const SEND_BUFFER_BYTES_MAX: usize = 256 << 10;
/// How often a silent HTTP/2 peer is asked whether it is still there: below the idle limits of usual load balancers.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long it has to answer.
const PING_PATIENCE: Duration = Duration::from_secs(20);
/// How long an HTTP/2 peer that was asked to go may stay when nothing is done for it any more: longer than what was handed
/// to the connection takes to leave.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(600);
/// How long a connection that has said nothing may still begin when callers are to leave: its bytes may be on their way.
const LATE_GREETING_PATIENCE: Duration = Duration::from_millis(500);
/// The pause after a failed accept: the usual cause is a lack of files, which passes when connections close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where to listen, and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address. Port 0 takes any free one.
    pub address: SocketAddr,
    /// TLS, unless plain text is spoken.
    pub tls: Option<Tls>,
    /// Most connections at the same time.
    pub connections_max: usize,
}

impl Config {
    /// Plain text at this address.
    pub fn plain(address: SocketAddr) -> Config {
        Config { address, tls: None, connections_max: CONNECTIONS_MAX }
    }
}

/// A bound socket.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<Certificates>,
    tasks: Tasks,
    slots: Arc<Semaphore>,
}

impl Listener {
    /// Binds the address.
    ///
    /// # Errors
    /// When it cannot be bound, or the TLS material is unusable.
    pub async fn bind(config: Config, tasks: Tasks) -> Result<Listener> {
        let unbound = |error: std::io::Error| {
            let message = format!("cannot listen on {}", config.address);
            Error::new(Code::FailedPrecondition, reason::INTERNAL, message).caused_by(error)
        };
        let socket = TcpListener::bind(config.address).await.map_err(unbound)?;
        line::attend(&socket).map_err(unbound)?;
        let address = socket.local_addr().map_err(unbound)?;
        let tls = config.tls.as_ref().map(Certificates::new).transpose()?;
        let slots = Arc::new(Semaphore::new(config.connections_max));
        Ok(Listener { socket, address, tls, tasks, slots })
    }

    /// The address that is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it proves itself by, to be replaced while it serves; nothing when plain text is spoken.
    pub fn certificates(&self) -> Option<Certificates> {
        self.tls.clone()
    }

    /// Serves until callers are to leave. Connections then finish what is in flight; `Tasks` waits for them.
    pub async fn serve(self, edge: Arc<Edge>) {
        let leaving = self.tasks.leaving_token();
        loop {
            let accepted = async {
                // A slot first: what is not accepted waits in the kernel, where it costs nothing.
                let slot = Arc::clone(&self.slots).acquire_owned().await;
                (slot, self.socket.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                biased;
                () = leaving.cancelled() => break,
                accepted = accepted => accepted,
            };
            match (accepted, slot) {
                (Ok(accepted), Ok(slot)) => self.begin(&edge, accepted, slot),
                (Err(error), _) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                // Nobody closes the semaphore.
                (_, Err(_)) => break,
            }
        }
        // Who has connected already gets an answer: closing the socket would reset what waits in the kernel.
        while let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned()
            && let Some(Ok(accepted)) = self.socket.accept().now_or_never()
        {
            self.begin(&edge, accepted, slot);
        }
    }

    fn begin(&self, edge: &Arc<Edge>, (stream, address): (TcpStream, SocketAddr), slot: OwnedSemaphorePermit) {
        let connection = Connection {
            edge: Arc::clone(edge),
            tls: self.tls.as_ref().map(Certificates::acceptor),
            tasks: self.tasks.clone(),
            slot,
        };
        // The house waits for all of its connections.
        drop(self.tasks.serve(async move {
            if let Err(error) = connection.run(stream, address).await {
                tracing::debug!(%address, error, "a connection ended early");
            }
        }));
    }
}

struct Connection {
    edge: Arc<Edge>,
    tls: Option<TlsAcceptor>,
    tasks: Tasks,
    slot: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, address: SocketAddr) -> Result<(), String> {
        // Answers are written whole, so waiting for more to send only delays them.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        match &self.tls {
            None => {
                let greeted = patiently(&self.tasks, Greeted::read(stream)).await?;
                self.talk(greeted, Peer::new(address, None)).await
            }
            Some(acceptor) => {
                let (greeted, certificate) = patiently(&self.tasks, async {
                    let stream = acceptor.accept(stream).await?;
                    let certificates = stream.get_ref().1.peer_certificates();
                    let certificate = certificates.and_then(<[_]>::first).map(|leaf| Box::from(leaf.as_ref()));
                    Ok((Greeted::read(stream).await?, certificate))
                })
                .await?;
                self.talk(greeted, Peer::new(address, certificate)).await
            }
        }
    }

    async fn talk<I>(self, io: Greeted<I>, peer: Peer) -> Result<(), String>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (leaving, cut) = (self.tasks.leaving_token(), self.tasks.cut_token());
        let farewell = CancellationToken::new();
        let (edge, tasks) = (self.edge, self.tasks.clone());
        let conversation = Arc::new(Conversation { edge, tasks, peer, farewell: farewell.clone() });
        let service = service_fn(move |request: Request<Incoming>| {
            let (head, body) = request.into_parts();
            let (conversation, head) = (Arc::clone(&conversation), Box::new(head));
            // Boxed, because the HTTP library hands it through several tasks and futures of its own.
            Box::pin(async move { Ok::<_, Infallible>(conversation.answer(head, body).await) })
        });
        let (version, heard) = (io.version(), io.heard());
        let line = Line::new(io, self.slot);
        match version {
            Version::Http1 => {
                let mut connection = pin!(http1(heard).serve_connection(TokioIo::new(line), service).with_upgrades());
                tokio::select! {
                    biased;
                    ended = connection.as_mut() => return ended.map_err(|error| error.to_string()),
                    () = Aside::new(leaving.cancelled()) => connection.as_mut().graceful_shutdown(),
                }
                finish(cut, connection).await
            }
            Version::Http2 => {
                let streams = Streams::new(self.tasks);
                let io = TokioIo::new(Gathered::new(line, streams.clone()));
                let mut connection = pin!(http2(streams.clone()).serve_connection(io, service));
                let parting = Aside::new(async {
                    tokio::select! {
                        () = leaving.cancelled() => {}
                        () = farewell.cancelled() => {}
                        () = streams.none_for(IDLE_PATIENCE) => {}
                    }
                });
                tokio::select! {
                    biased;
                    ended = connection.as_mut() => return ended.map_err(|error| error.to_string()),
                    () = parting => connection.as_mut().graceful_shutdown(),
                }
                tokio::select! {
                    biased;
                    ended = finish(cut, connection) => ended,
                    () = Aside::new(streams.none_for(FAREWELL_PATIENCE)) => Err("the peer stayed although it was to go".to_owned()),
                }
            }
        }
    }
}

/// What every request of a connection needs, behind one pointer.
struct Conversation {
    edge: Arc<Edge>,
    tasks: Tasks,
    peer: Peer,
    /// Cancelled when the peer has shown that it guesses keys.
    farewell: CancellationToken,
}

impl Conversation {
    async fn answer(&self, head: Box<Parts>, body: Incoming) -> Response<Body> {
        let spoken = head.version;
        // Asked before too: who resets its calls is answered none.
        if self.peer.is_guessing() {
            self.farewell.cancel();
        }
        let mut body = body.into();
        let mut answer = if is_addressed(&head) {
            self.edge.answer(head, &mut body, self.peer.clone()).await
        } else {
            Box::pin(self.edge.refuse_unaddressed(&head, &mut body, &self.peer)).await
        };
        let is_unwelcome = self.peer.is_guessing();
        if is_unwelcome {
            self.farewell.cancel();
        }
        // HTTP/2 has GOAWAY for this.
        if (is_unwelcome || self.tasks.is_draining())
            && spoken < Spoken::HTTP_2
            && answer.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(socket) = answer.extensions_mut().remove::<taking::Socket>() {
            socket.note();
        }
        answer.body_mut().leaving();
        answer
    }
}

/// Whether a request says once whom it is for, where it has to (RFC 9112, section 3.2).
fn is_addressed(head: &Parts) -> bool {
    if head.version >= Spoken::HTTP_2 {
        return true;
    }
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let is_named = hosts.next().is_some() || head.version < Spoken::HTTP_11;
    is_named && hosts.next().is_none()
}

fn http1(heard: Heard) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(HeadTimer::new(heard)).header_read_timeout(IDLE_PATIENCE).max_header_size(HEAD_BYTES_MAX as usize);
    builder
}

fn http2(streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(RESETS_BY_ERROR_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_PATIENCE)
        // WebSockets over HTTP/2 (RFC 8441).
        .enable_connect_protocol();
    builder
}

async fn patiently<T>(tasks: &Tasks, greeting: impl Future<Output = std::io::Result<T>>) -> Result<T, String> {
    let leaving = tasks.leaving_token();
    let late = async {
        leaving.cancelled().await;
        tokio::time::sleep(LATE_GREETING_PATIENCE).await;
    };
    tokio::select! {
        greeted = tokio::time::timeout(GREETING_PATIENCE, greeting) => match greeted {
            Ok(greeted) => greeted.map_err(|error| error.to_string()),
            Err(_) => Err("the peer did not say anything in time".to_owned()),
        },
        () = late => Err("the peer had said nothing when callers were to leave".to_owned()),
    }
}

async fn finish(cut: CancellationToken, connection: impl Future<Output = hyper::Result<()>>) -> Result<(), String> {
    match cut.run_until_cancelled(connection).await {
        Some(ended) => ended.map_err(|error| error.to_string()),
        None => Err("requests were still in flight when the time to drain was over".to_owned()),
    }
}
