//! What callers see of the doors, whatever is behind them.

#![expect(clippy::unwrap_used, reason = "what fails here fails a test")]

mod browsers;
mod described;
mod hosts;
pub(crate) mod live;
mod matrix;
mod pages;
mod panics;
mod refusals;
mod slow;
mod sockets;
mod streams;
mod unary;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, request::Builder};
use http_body_util::BodyExt;
use portico::{
    base::{Context, Result, tasks::Tasks},
    edge::{Body, Config, Edge},
    gate::{self, Admission, Admit, Admitted, Closed, Entry, Head, Outlet, Peer},
    schema::{Method, Schema},
    wire::{BoxFuture, Handlers, SCHEMA, Wire, podium::v1::*},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const MUTATING: &str = "/podium.v1.KeysService/CreateKey";
const READING: &str = "/podium.v1.KeysService/ListKeys";
const STREAMING: &str = "/podium.v1.InstancesService/FollowLogs";
const UPLOADING: &str = "/podium.v1.DeploymentsService/UploadDeployment";
const DUPLEX: &str = "/podium.v1.AgentService/Attach";

/// An answer, read to its end.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    trailers: HeaderMap,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The gRPC status, wherever it came.
    fn grpc_status(&self) -> &str {
        let sent = self.headers.get("grpc-status").or_else(|| self.trailers.get("grpc-status"));
        sent.map_or("", |value| value.to_str().unwrap())
    }

    /// The Connect error code of a unary answer.
    fn connect_code(&self) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        json["code"].as_str().unwrap_or_default().to_owned()
    }
}

fn post(path: &str, media_type: &str) -> Builder {
    Request::post(path).header("content-type", media_type)
}

fn edge(handlers: &Handlers) -> Edge {
    edge_with(handlers, Arc::new(gate::Open), Tasks::new(), Config::default())
}

fn edge_with(handlers: &Handlers, admit: Arc<dyn Admit>, tasks: Tasks, config: Config) -> Edge {
    Edge::new(&Schema::read(SCHEMA).unwrap(), handlers, admit, tasks, config)
}

fn peer() -> Peer {
    Peer::new(SocketAddr::from(([127, 0, 0, 1], 1)), None)
}

async fn send(edge: &Edge, request: Builder, body: impl Into<Bytes>) -> Answer {
    read(edge.call(request.body(Body::from(body.into())).unwrap(), peer()).await).await
}

async fn read(response: http::Response<Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Answer { status: parts.status, headers: parts.headers, body: collected.to_bytes(), trailers }
}

fn envelope(flags: u8, message: &[u8]) -> Vec<u8> {
    let size = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flags], size.as_slice(), message].concat()
}

/// A gate that lets everybody in and tells of every record that closes: bytes in, bytes out.
struct Recording(UnboundedSender<(u64, u64)>);

impl Recording {
    fn gate() -> (Arc<dyn Admit>, UnboundedReceiver<(u64, u64)>) {
        let (told, records) = unbounded_channel();
        (Arc::new(Recording(told)), records)
    }
}

impl Admit for Recording {
    fn admit(&self, method: Arc<Method>, head: Head) -> BoxFuture<Admitted> {
        let (open, told) = (gate::Open.admit(method, head), Told(self.0.clone()));
        Box::pin(async move {
            let entry = Entry::open(told, Arc::default());
            Ok(Admission { context: open.await?.context, entry })
        })
    }
}

struct Told(UnboundedSender<(u64, u64)>);

impl Outlet for Told {
    fn closed(&self, record: &Closed) {
        // A test that has ended does not listen any more.
        let _heard = self.0.send((record.bytes_in, record.bytes_out)).is_ok();
    }
}

/// A house where creating a key answers with the label that came, and listing answers with nothing.
fn keys() -> Handlers {
    let mut handlers = Handlers::new();
    on(&mut handlers, MUTATING, |_, request: CreateKeyRequest| async move {
        Ok(CreateKeyResponse { name: request.name, ..Default::default() })
    });
    on(&mut handlers, READING, |_, _: ListKeysRequest| async move { Ok(ListKeysResponse::default()) });
    handlers
}

/// Mounts a unary method.
fn on<Q: Wire, R: Wire, F: Future<Output = Result<R>> + Send + 'static>(
    handlers: &mut Handlers,
    path: &'static str,
    call: impl Fn(Context, Q) -> F + Send + Sync + 'static,
) {
    handlers.unary(path, &Arc::new(call), |call, cx, request| call(cx, request));
}
