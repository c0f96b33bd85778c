//! A well-behaved client of several gateways, and the load balancer in front of them.
//!
//! What is assumed of both is what real ones do. The balancer asks each gateway again and again whether it is ready, gives new
//! connections to those that are (to any when none is), and passes over one that does not accept. A client keeps its connections, leaves one that it
//! was told to leave (`Connection: close`, GOAWAY), and sends again what was never sent. It repeats nothing else by itself. An
//! HTTP/1.1 connection that was idle for long it does not use again: it may be closed just then, and nobody could tell whether
//! the request was read.
//!
//! *Knows:* connections. *Does not know:* what is asked.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderName, HeaderValue, Request, Response, Uri, Version, header};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portico::{base::tasks::Tasks, edge::Body};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, client::IntoClientRequest},
};

use super::{
    doors::{Call, Door, Told, answer},
    gateway::PATIENCE,
};

/// How often a balancer asks a gateway whether it is ready.
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// How long a gateway may take to say so.
const PROBE_WAIT: Duration = Duration::from_secs(1);
/// How long an HTTP/1.1 connection may be idle and is used again: shorter than the grace of a gateway that stops.
const IDLE_MAX: Duration = Duration::from_millis(400);
/// How long an answer may take before it counts as none: longer than every bound inside.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// Gives out connections to gateways.
pub(crate) struct Balancer {
    gateways: Vec<Gateway>,
    turn: AtomicUsize,
}

struct Gateway {
    address: SocketAddr,
    is_ready: AtomicBool,
}

impl Balancer {
    /// Over these gateways.
    pub(crate) fn over(addresses: &[SocketAddr]) -> Arc<Balancer> {
        let gateways = addresses.iter().map(|address| Gateway { address: *address, is_ready: AtomicBool::new(false) });
        let balancer = Arc::new(Balancer { gateways: gateways.collect(), turn: AtomicUsize::new(0) });
        for at in 0..addresses.len() {
            let watched = Arc::downgrade(&balancer);
            // Ends with the balancer, at the latest with the runtime of the test.
            drop(Tasks::new().spawn(async move {
                while let Some(balancer) = watched.upgrade() {
                    let gateway = &balancer.gateways[at];
                    gateway.is_ready.store(is_ready(gateway.address).await, Ordering::SeqCst);
                    drop(balancer);
                    sleep(PROBE_EVERY).await;
                }
            }));
        }
        balancer
    }

    /// Whether the gateway of this number is ready, as far as it is known.
    pub(crate) fn is_ready(&self, gateway: usize) -> bool {
        self.gateways[gateway].is_ready.load(Ordering::SeqCst)
    }

    /// A connection, and to which gateway.
    async fn dial(&self) -> (usize, TcpStream) {
        let last = std::sync::Mutex::new(None);
        let dialled = async {
            loop {
                let turn = self.turn.fetch_add(1, Ordering::SeqCst);
                let all = (0..self.gateways.len()).map(|at| (turn + at) % self.gateways.len());
                let is_none_ready = (0..self.gateways.len()).all(|at| !self.is_ready(at));
                for at in all.filter(|at| is_none_ready || self.is_ready(*at)) {
                    match TcpStream::connect(self.gateways[at].address).await {
                        Ok(stream) => {
                            stream.set_nodelay(true).unwrap();
                            return (at, stream);
                        }
                        Err(error) => *last.lock().unwrap() = Some(error),
                    }
                }
                sleep(PROBE_EVERY).await;
            }
        };
        timeout(PATIENCE, dialled).await.unwrap_or_else(|_| panic!("no gateway takes connections: {last:?}"))
    }
}

async fn is_ready(address: SocketAddr) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("GET /health/ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.ok()?;
        Some(head.ends_with(b" 200"))
    };
    timeout(PROBE_WAIT, asked).await.ok().flatten().unwrap_or(false)
}

/// A client. It has one connection of each kind.
pub(crate) struct Caller {
    balancer: Arc<Balancer>,
    one: Option<(usize, http1::SendRequest<Body>)>,
    /// When the connection was last used.
    used_at: Option<Instant>,
    two: Option<(usize, http2::SendRequest<Body>)>,
}

/// What came of a call.
pub(crate) struct Heard {
    /// By which gateway.
    pub(crate) gateway: usize,
    /// The answer, or why there is none.
    pub(crate) answer: Result<Told, String>,
}

impl Caller {
    pub(crate) fn new(balancer: &Arc<Balancer>) -> Caller {
        Caller { balancer: Arc::clone(balancer), one: None, used_at: None, two: None }
    }

    /// Says it through a door, with further headers, and hears the answer.
    pub(crate) async fn call(&mut self, door: Door, call: &Call<'_>, headers: &[(&'static str, &str)]) -> Heard {
        let request = || {
            let mut request = door.request(call);
            for (name, value) in headers {
                request.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
            }
            request
        };
        loop {
            let (gateway, sent) = match door {
                Door::Grpc => self.send_two(request()).await,
                _ => self.send_one(request()).await,
            };
            let response = match sent {
                Ok(response) => response,
                Err(Unsent::Never) => continue,
                Err(Unsent::Perhaps(why)) => return Heard { gateway, answer: Err(why) },
            };
            let is_left = response.headers().get(header::CONNECTION).is_some_and(|value| value == "close");
            let heard = timeout(ANSWER_WAIT, answer::read(door, call, response)).await;
            // One that was not read to its end cannot be used again.
            let is_whole = matches!(&heard, Ok(Ok(_))) && call.answers_max == usize::MAX;
            if door != Door::Grpc && (is_left || !is_whole) {
                self.one = None;
            }
            let answer = match heard {
                Ok(heard) => heard.map_err(|error| error.report()),
                Err(_) => Err("the answer did not end in time".to_owned()),
            };
            return Heard { gateway, answer };
        }
    }

    async fn send_one(&mut self, mut request: Request<Body>) -> (usize, Result<Response<Body>, Unsent>) {
        *request.version_mut() = Version::HTTP_11;
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("gateway"));
        let is_fresh = self.used_at.is_none_or(|at| at.elapsed() < IDLE_MAX);
        let (gateway, mut sender) = match self.one.take().filter(|_| is_fresh) {
            Some((gateway, sender)) if !sender.is_closed() => (gateway, sender),
            _ => {
                let (gateway, stream) = self.balancer.dial().await;
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
                drop(Tasks::new().spawn(connection));
                self.used_at = None;
                (gateway, sender)
            }
        };
        if sender.ready().await.is_err() {
            return (gateway, Err(Unsent::Never));
        }
        let idle = self.used_at.map(|at| at.elapsed());
        let sent = timeout(ANSWER_WAIT, sender.send_request(request)).await;
        self.one = Some((gateway, sender));
        self.used_at = Some(Instant::now());
        let told = |why| format!("{why}, idle for {idle:?} before");
        (
            gateway,
            answered(sent).map_err(|unsent| match unsent {
                Unsent::Never => Unsent::Never,
                Unsent::Perhaps(why) => Unsent::Perhaps(told(why)),
            }),
        )
    }

    async fn send_two(&mut self, mut request: Request<Body>) -> (usize, Result<Response<Body>, Unsent>) {
        *request.uri_mut() = format!("http://gateway{}", request.uri()).parse::<Uri>().unwrap();
        let (gateway, mut sender) = match self.two.take() {
            Some((gateway, sender)) if !sender.is_closed() => (gateway, sender),
            _ => {
                let (gateway, stream) = self.balancer.dial().await;
                let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
                let (sender, connection) = shaken.unwrap();
                drop(Tasks::new().spawn(connection));
                (gateway, sender)
            }
        };
        if sender.ready().await.is_err() {
            return (gateway, Err(Unsent::Never));
        }
        let sent = timeout(ANSWER_WAIT, sender.send_request(request)).await;
        self.two = Some((gateway, sender));
        (gateway, answered(sent))
    }

    /// Opens the native stream of an instance.
    pub(crate) async fn tunnel(&self, path: &str, key: &str) -> (usize, Result<Tunnel, Closed>) {
        let (gateway, stream) = self.balancer.dial().await;
        let mut request = format!("ws://gateway{path}").into_client_request().unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {key}").parse().unwrap());
        let opened = match timeout(ANSWER_WAIT, client_async(request, stream)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(tungstenite::Error::Http(answer))) => {
                Err(Closed::Refused(Box::new(answer.map(Option::unwrap_or_default))))
            }
            Ok(Err(error)) => Err(Closed::Broken(error.to_string())),
            Err(_) => Err(Closed::Broken("no handshake in time".to_owned())),
        };
        (gateway, opened)
    }
}

/// An open native stream.
pub(crate) type Tunnel = WebSocketStream<TcpStream>;

/// Why a native stream did not come about.
#[derive(Debug)]
pub(crate) enum Closed {
    Refused(Box<Response<Vec<u8>>>),
    Broken(String),
}

/// Why there is no answer.
enum Unsent {
    /// The connection was closed in order before the request was looked at.
    Never,
    Perhaps(String),
}

fn answered(
    sent: Result<hyper::Result<Response<hyper::body::Incoming>>, tokio::time::error::Elapsed>,
) -> Result<Response<Body>, Unsent> {
    match sent {
        Ok(Ok(response)) => Ok(response.map(Body::from)),
        Ok(Err(error)) if error.is_canceled() || is_farewell(&error) => Err(Unsent::Never),
        Ok(Err(error)) => Err(Unsent::Perhaps(format!("{error:?}"))),
        Err(_) => Err(Unsent::Perhaps("no answer in time".to_owned())),
    }
}

/// Whether a server that leaves in order had said so before it took the request (RFC 9113, 6.8): what its GOAWAY does not
/// cover was not looked at. The library says that in its text alone.
fn is_farewell(error: &hyper::Error) -> bool {
    format!("{error:?}").contains("NO_ERROR, Remote")
}
