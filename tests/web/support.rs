//! A REST door over handlers made by hand.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use portico::{
    base::{Error, RequestId, tasks::Tasks},
    edge::{Body, Config, Edge, Rest, Web, listen},
    gate::{Admission, Admit, Admitted, Closed, Entry, Head, Open, Outlet, Peer},
    schema::{Method, Schema, Surface},
    wire::{BoxFuture, Handlers},
};
use tokio_util::sync::CancellationToken;

/// The door over these handlers, open to everybody.
pub(super) fn door(mount: impl FnOnce(&mut Handlers)) -> Rest {
    guarded(Arc::new(Open), Tasks::new(), mount)
}

/// The door over these handlers, with this gate.
pub(super) fn guarded(admit: Arc<dyn Admit>, tasks: Tasks, mount: impl FnOnce(&mut Handlers)) -> Rest {
    let schema = Schema::read(portico::wire::SCHEMA).unwrap();
    let mut handlers = Handlers::new();
    mount(&mut handlers);
    Rest::new(&schema, &handlers, admit, tasks, Surface::named("podium").unwrap()).unwrap()
}

/// All doors, with no method behind those of RPC.
pub(super) fn edge(rest: Rest, admit: Arc<dyn Admit>, tasks: Tasks) -> Edge {
    let schema = Schema::read(portico::wire::SCHEMA).unwrap();
    Edge::new(&schema, &Handlers::new(), admit, tasks, Config::default()).with_web(Arc::new(rest))
}

/// A gateway on a free port, with all doors.
pub(super) struct Gateway {
    pub(super) address: SocketAddr,
    pub(super) tasks: Tasks,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.tasks.close();
    }
}

impl Gateway {
    pub(super) async fn start(admit: Arc<dyn Admit>, mount: impl FnOnce(&mut Handlers)) -> Gateway {
        let tasks = Tasks::new();
        let rest = guarded(Arc::clone(&admit), tasks.clone(), mount);
        Gateway::serve(rest, admit, tasks).await
    }

    /// The same for so many connections at the same time.
    pub(super) async fn with_room_for(connections_max: usize, mount: impl FnOnce(&mut Handlers)) -> Gateway {
        let (tasks, admit) = (Tasks::new(), Arc::new(Open));
        let rest = guarded(Arc::clone(&admit) as _, tasks.clone(), mount);
        Gateway::listen(rest, admit, tasks, connections_max).await
    }

    pub(super) async fn serve(rest: Rest, admit: Arc<dyn Admit>, tasks: Tasks) -> Gateway {
        Gateway::listen(rest, admit, tasks, listen::CONNECTIONS_MAX).await
    }

    async fn listen(rest: Rest, admit: Arc<dyn Admit>, tasks: Tasks, connections_max: usize) -> Gateway {
        let edge = Arc::new(edge(rest, admit, tasks.clone()));
        let config = listen::Config::plain("127.0.0.1:0".parse().unwrap());
        let config = listen::Config { connections_max, ..config };
        let listener = listen::Listener::bind(config, tasks.clone()).await.unwrap();
        let address = listener.address();
        tasks.spawn(listener.serve(edge));
        Gateway { address, tasks }
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Status and reason of a failure.
    pub(super) fn failure(&self) -> (u16, String) {
        (self.status, self.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// Sends a request with a body in one piece.
pub(super) async fn ask(
    door: &Rest,
    verb: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    send(door, verb, path, headers, Body::from(body.into())).await
}

/// Sends a request.
pub(super) async fn send(door: &Rest, verb: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Answer {
    read(begin(door, verb, path, headers, body).await).await
}

/// Sends a request and reads the head of the answer.
pub(super) async fn begin(door: &Rest, verb: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Response<Body> {
    let mut request = Request::builder().method(verb).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let id = RequestId::parse("req_test").unwrap();
    let (head, body) = request.body(body).unwrap().into_parts();
    door.call(Box::new(head), body, peer(), id).await
}

/// Reads an answer to its end.
pub(super) async fn read(response: Response<Body>) -> Answer {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer { status: head.status.as_u16(), headers: head.headers, body: String::from_utf8(bytes.into()).unwrap() }
}

pub(super) fn peer() -> Peer {
    Peer::new("127.0.0.1:1".parse().unwrap(), None)
}

pub(super) const JSON: (&str, &str) = ("content-type", "application/json");

/// Admits everybody, until the token is cancelled; and remembers the bearer of the last call.
#[derive(Default)]
pub(super) struct Revocable {
    pub(super) ended: Arc<CancellationToken>,
    pub(super) bearer: std::sync::Mutex<Option<String>>,
}

impl Admit for Revocable {
    fn admit(&self, method: Arc<Method>, head: Head) -> BoxFuture<Admitted> {
        let ended = self.ended.clone();
        self.bearer.lock().unwrap().clone_from(&head.bearer);
        let open = Open.admit(method, head);
        Box::pin(async move {
            let admission = open.await?;
            Ok(Admission { entry: Entry::open(Nowhere, ended), ..admission })
        })
    }
}

/// Refuses everybody.
pub(super) struct Shut(pub(super) fn() -> Error);

impl Admit for Shut {
    fn admit(&self, _method: Arc<Method>, _head: Head) -> BoxFuture<Admitted> {
        let refusal = (self.0)();
        Box::pin(async move { Err(refusal.into()) })
    }
}

struct Nowhere;

impl Outlet for Nowhere {
    fn closed(&self, _record: &Closed) {}
}
