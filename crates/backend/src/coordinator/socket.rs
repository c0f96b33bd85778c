//! The native stream of an instance on another machine.
//!
//! A newcomer's usual mistake is a task for each direction. Whoever reads the answered stream moves both directions with it,
//! so an idle tunnel holds one connection and nothing else, and a side that does not take is not read from on the other.
//! Silence is judged last: this process may have stood still itself, and what came meanwhile waits to be read.
//!
//! *Knows:* WebSockets, close codes, heartbeats. *Does not know:* what frames mean.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Sink, Stream, StreamExt};
use http::{HeaderValue, Request, header};
use portico_base::{Code, Error, Incoming, Outgoing, Result, reason, tasks::Tasks};
use portico_port::fleet::{At, FRAME_BYTES_MAX, Farewell, Frame, Utf8, failure};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error as SocketError, Message as Said, Utf8Bytes,
        handshake::client::generate_key,
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use super::{
    address::{Address, resolve},
    refusal::{self, About},
    transport::{CONNECT_WAIT, Transport, is_refused},
};

/// How long the handshake may take.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(5);
/// How often a ping goes out.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long a host may be silent, pongs included.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// How late that may be noticed. Later, this process stood still: of many streams not all are known to be readable yet.
const LATE_MAX: Duration = Duration::from_secs(1);
/// How much longer a host may be silent then.
const LATE_GRACE: Duration = Duration::from_secs(5);
/// How long a stream goes on after its client has said all, when nothing comes any more.
const QUIET_MAX: Duration = Duration::from_secs(30);
/// How long saying farewell to a host may take.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// What is read at once; idle tunnels are many.
const READ_BYTES: usize = 4 << 10;
/// What is gathered before it is written.
const WRITE_BYTES: usize = 4 << 10;
/// Most frames that go to the host before the other way gets its turn.
const FRAMES_PER_TURN: usize = 32;

/// Opens the stream of an instance.
///
/// # Errors
/// `coordinator_unavailable`, `coordinator_timeout`, and what the host's refusal means.
pub(super) async fn open(
    transport: &Transport,
    address: &Address,
    at: &At,
    path: &str,
    incoming: Incoming<Frame>,
    tasks: &Tasks,
) -> Result<Outgoing<Frame>> {
    let target = address.socket_at(path).ok_or_else(|| failure::broken("the path is no part of a URL"))?;
    let mut request = Request::new(());
    let authority = target.authority().map(ToString::to_string).unwrap_or_default();
    *request.uri_mut() = target;
    *request.headers_mut() = transport.headers(&at.asked);
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::try_from(authority).map_err(failure::broken)?);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::try_from(generate_key()).map_err(Error::internal)?);

    let stream = dial(transport, address).await?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(WRITE_BYTES)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let shaken = timeout(HANDSHAKE_WAIT, client_async_with_config(ToClient(request), stream, Some(config))).await;
    match shaken.map_err(|_| failure::timeout())? {
        Ok((socket, _)) => Ok(Box::pin(Polite { tunnel: Some(Tunnel::new(socket, incoming)), tasks: tasks.clone() })),
        Err(SocketError::Http(answer)) => {
            let body = answer.body().clone().unwrap_or_default();
            Err(refusal::of(answer.status(), &body, About::Instance, &at.instance))
        }
        Err(error) if is_refused(&error) => Err(failure::unavailable(error)),
        Err(error) => Err(failure::broken(error)),
    }
}

/// A request that is a handshake already.
struct ToClient(Request<()>);

impl tokio_tungstenite::tungstenite::client::IntoClientRequest for ToClient {
    fn into_client_request(self) -> std::result::Result<Request<()>, SocketError> {
        Ok(self.0)
    }
}

/// A connection, in plain text or not.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

async fn dial(transport: &Transport, address: &Address) -> Result<Box<dyn Wire>> {
    let dialled = timeout(CONNECT_WAIT, async {
        let found = resolve(transport.networks.clone(), address.host(), address.port()).await?;
        let stream = TcpStream::connect(found.as_slice()).await?;
        stream.set_nodelay(true)?;
        if !address.is_secure() {
            return Ok::<Box<dyn Wire>, std::io::Error>(Box::new(stream));
        }
        let name = rustls::pki_types::ServerName::try_from(address.host().to_owned()).map_err(std::io::Error::other)?;
        Ok(Box::new(TlsConnector::from(transport.tls()).connect(name, stream).await?))
    });
    // Nothing was asked yet, so nothing can have been done.
    dialled.await.map_err(failure::unavailable)?.map_err(failure::unavailable)
}

/// A tunnel that says farewell to its host when it is dropped.
struct Polite {
    tunnel: Option<Tunnel>,
    tasks: Tasks,
}

impl Stream for Polite {
    type Item = Result<Frame>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        match &mut self.tunnel {
            Some(tunnel) => Pin::new(tunnel).poll_next(cx),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Polite {
    fn drop(&mut self) {
        let Some(tunnel) = self.tunnel.take().filter(|tunnel| tunnel.parting.is_some()) else { return };
        if tokio::runtime::Handle::try_current().is_ok() {
            self.tasks.spawn(tunnel.farewell());
        }
    }
}

/// Both directions of a stream.
struct Tunnel {
    socket: WebSocketStream<Box<dyn Wire>>,
    incoming: Option<Incoming<Frame>>,
    held: Option<Said>,
    dirty: bool,
    /// When the host has been silent for too long.
    silent_at: Instant,
    ping_at: Instant,
    /// When the client had said all.
    quiet_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    over: bool,
    /// How the host is left when nothing else was said; nothing when it has left itself.
    parting: Option<(u16, &'static str)>,
}

impl Tunnel {
    fn new(socket: WebSocketStream<Box<dyn Wire>>, incoming: Incoming<Frame>) -> Tunnel {
        let now = Instant::now();
        Tunnel {
            socket,
            incoming: Some(incoming),
            held: None,
            dirty: false,
            silent_at: now + SILENCE_MAX,
            ping_at: now + PING_EVERY,
            quiet_since: None,
            timer: Box::pin(sleep_until(now + PING_EVERY)),
            over: false,
            parting: Some((1001, "")),
        }
    }

    /// Closes the connection in order.
    async fn farewell(mut self) {
        let (code, reason) = self.parting.unwrap_or((1000, ""));
        let closing = async {
            // Where a farewell was heard or said already, reading on sends what is still queued.
            let _said = self.socket.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await.is_ok();
            while let Some(heard) = self.socket.next().await {
                heard?;
            }
            Ok::<(), SocketError>(())
        };
        // A host that does not answer is left alone.
        let _answered = timeout(FAREWELL_MAX, closing).await;
    }

    /// From the client to the host, as far as both can now.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<()> {
        for _ in 0..FRAMES_PER_TURN {
            if self.held.is_none() {
                let Some(incoming) = &mut self.incoming else { return self.flush(cx) };
                match incoming.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(frame))) => self.held = Some(said(frame)?),
                    // A client that has gone has no more to say, in whatever way it went.
                    Poll::Ready(Some(Err(_)) | None) => {
                        self.incoming = None;
                        self.parting = self.parting.map(|_| (1000, ""));
                        self.quiet_since = Some(Instant::now());
                        self.timer.as_mut().reset(Instant::now() + QUIET_MAX);
                        cx.waker().wake_by_ref();
                    }
                    Poll::Pending => return self.flush(cx),
                }
            }
            if self.held.is_some() {
                match Pin::new(&mut self.socket).poll_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Err(failure::gone(error)),
                    Poll::Pending => return Ok(()),
                }
            }
            if let Some(frame) = self.held.take() {
                Pin::new(&mut self.socket).start_send(frame).map_err(failure::gone)?;
                self.dirty = true;
            }
        }
        cx.waker().wake_by_ref();
        self.flush(cx)
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if self.dirty {
            match Pin::new(&mut self.socket).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.dirty = false,
                Poll::Ready(Err(error)) => return Err(failure::gone(error)),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    /// Pings when it is time.
    fn ping(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<()> {
        if now < self.ping_at {
            return Ok(());
        }
        self.ping_at = now + PING_EVERY;
        // One that cannot be sent now is as good as one that is not answered.
        if let Poll::Ready(Ok(())) = Pin::new(&mut self.socket).poll_ready(cx) {
            Pin::new(&mut self.socket).start_send(Said::Ping(Bytes::new())).map_err(failure::gone)?;
            self.dirty = true;
            self.flush(cx)?;
        }
        Ok(())
    }

    /// When nothing is there to be read: tells when the host has been silent for too long, or the stream quiet to its end.
    fn tick(&mut self, cx: &mut Context<'_>) -> Result<bool> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if now >= self.silent_at {
                if now < self.silent_at + LATE_MAX {
                    return Err(failure::gone("the host was silent for too long"));
                }
                self.silent_at = now + LATE_GRACE;
            }
            if self.quiet_since.is_some_and(|since| now >= since + QUIET_MAX) {
                return Ok(true);
            }
            self.ping(cx, now)?;
            let quiet = self.quiet_since.map(|since| since + QUIET_MAX);
            let next = [self.ping_at, self.silent_at].into_iter().chain(quiet).min();
            self.timer.as_mut().reset(next.unwrap_or(self.ping_at));
        }
        Ok(false)
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        // A stream that never pauses would not get to its timer.
        if let Err(error) = self.send(cx).and_then(|()| self.ping(cx, Instant::now())) {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            let heard = match Pin::new(&mut self.socket).poll_next(cx) {
                Poll::Pending => {
                    return match self.tick(cx) {
                        Ok(false) => Poll::Pending,
                        Ok(true) => Poll::Ready(None),
                        Err(error) => Poll::Ready(Some(Err(error))),
                    };
                }
                Poll::Ready(None) => {
                    self.parting = None;
                    return Poll::Ready(Some(Err(failure::gone("the connection ended"))));
                }
                Poll::Ready(Some(Err(error))) => {
                    self.parting = matches!(error, SocketError::Capacity(_)).then_some((1009, "message_too_big"));
                    return Poll::Ready(Some(Err(broken(error))));
                }
                Poll::Ready(Some(Ok(heard))) => heard,
            };
            let now = Instant::now();
            self.silent_at = now + SILENCE_MAX;
            self.quiet_since = self.quiet_since.map(|_| now);
            match heard {
                Said::Text(text) => {
                    return Poll::Ready(Some(Utf8::parse(Bytes::from(text)).map(Frame::Text).map_err(failure::broken)));
                }
                Said::Binary(bytes) => return Poll::Ready(Some(Ok(Frame::Binary(bytes)))),
                Said::Close(frame) => {
                    // Dropping the connection would take the answer with it that was just queued.
                    self.parting = Some((1000, ""));
                    return Poll::Ready(ended(frame));
                }
                Said::Ping(_) | Said::Pong(_) | Said::Frame(_) => {}
            }
        }
    }
}

impl Stream for Tunnel {
    type Item = Result<Frame>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let turn = self.turn(cx);
        self.over = matches!(turn, Poll::Ready(None | Some(Err(_) | Ok(Frame::Close(_)))));
        turn
    }
}

fn said(frame: Frame) -> Result<Said> {
    Ok(match frame {
        Frame::Text(text) => Said::Text(Utf8Bytes::try_from(text.into_bytes()).map_err(Error::internal)?),
        Frame::Binary(bytes) => Said::Binary(bytes),
        Frame::Close(Farewell { code, reason }) => {
            Said::Close(Some(CloseFrame { code: code.into(), reason: reason.into() }))
        }
    })
}

/// How a host closed the stream; nothing when it simply ended. What means something between gateways and hosts becomes an
/// error with its reason; what an agent says passes as it is.
fn ended(frame: Option<CloseFrame>) -> Option<Result<Frame>> {
    let (code, why) = frame.map_or((1005, String::new()), |frame| (u16::from(frame.code), frame.reason.to_string()));
    Some(match code {
        1005 => return None,
        1000 if why.is_empty() => return None,
        4410 => Err(failure::terminated()),
        4404 => Err(Error::new(Code::NotFound, reason::INSTANCE_NOT_FOUND, "the host has lost the instance")),
        1012 => Err(failure::draining()),
        1013 => Err(failure::slow()),
        1009 => Err(Error::new(Code::ResourceExhausted, reason::BODY_TOO_LARGE, "a frame is too large")),
        1000 | 1001 | 1003 | 1007 | 1008 | 3000..=4399 | 4500..=4999 => {
            Ok(Frame::Close(Farewell { code, reason: why }))
        }
        _ => Err(failure::gone(format!("closed with {code}: {why}"))),
    })
}

fn broken(error: SocketError) -> Error {
    match error {
        SocketError::Capacity(_) => failure::peer("the host sent a frame that is too large"),
        error => failure::gone(error),
    }
}
