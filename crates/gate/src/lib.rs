//! Who calls, may they, how much, how long; and the record of it.
//!
//! A newcomer's usual mistake is to check something in a door or a handler "as well". A call is admitted here, once,
//! before a byte of its body is read; what comes out is a [`Context`] that the rest of the house trusts.
//!
//! *Knows:* heads of requests, methods, keys, limits. *Does not know:* message bodies, handlers, how a refusal is printed.

mod budget;
mod certificate;
mod credential;
mod entry;
mod failures;
mod guard;
mod ledger;
pub mod limits;
pub mod metrics;
mod open;
mod strangers;
mod trusted;

pub use certificate::Bindings;
pub use entry::{Closed, Entry, Outlet};
pub use guard::Guard;
pub use ledger::Ledger;
pub use metrics::{Format, Metrics, Side, Way};
pub use open::Open;
pub use trusted::{TENANT, TOKEN, Trust, Trusted};

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use http::{HeaderMap, HeaderName, uri::Authority};
use portico_base::{Context, Deadline, Error, RequestId};
use portico_schema::Method;
use portico_wire::BoxFuture;

/// What a door knows of a request before it is admitted.
pub struct Head {
    /// The headers.
    pub headers: HeaderMap,
    /// The host and port that the request is for, as its target has them: over HTTP/2, and from who takes us for a proxy.
    /// Otherwise the `Host` header has them.
    pub authority: Option<Authority>,
    /// Who is at the other end of the connection.
    pub peer: Peer,
    /// Which door it came to, for the record.
    pub door: Door,
    /// The id of the request.
    pub id: RequestId,
    /// When the caller stops waiting.
    pub deadline: Deadline,
    /// The credential that came by another way than the Authorization header (a WebSocket subprotocol).
    pub bearer: Option<String>,
}

/// Carries where a call stands in its trace.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Failed credentials of one connection after which it is closed. A client that has lost its key gives up long before; a
/// proxy that carries many callers connects again.
const FAILURES_OF_CONNECTION_MAX: u32 = 64;

/// Who is at the other end of a connection. Cheap to clone: every request of a connection has the same one.
#[derive(Clone, Debug)]
pub struct Peer(Arc<End>);

#[derive(Debug)]
struct End {
    address: SocketAddr,
    host: String,
    certificate: Option<Box<[u8]>>,
    failures: AtomicU32,
}

impl Peer {
    /// The peer at this address, with its certificate in DER when it proved one by TLS.
    pub fn new(address: SocketAddr, certificate: Option<Box<[u8]>>) -> Peer {
        let host = address.ip().to_string();
        Peer(Arc::new(End { address, host, certificate, failures: AtomicU32::new(0) }))
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Its address without the port, as text: once for a connection, since every call writes it.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// Its certificate in DER, when it proved one.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.0.certificate.as_deref()
    }

    /// Whether so many credentials failed here that the connection is to be closed.
    pub fn is_guessing(&self) -> bool {
        self.0.failures.load(Ordering::Relaxed) >= FAILURES_OF_CONNECTION_MAX
    }

    /// Counts a failed credential.
    fn note_failure(&self) {
        self.0.failures.fetch_add(1, Ordering::Relaxed);
    }
}

/// The doors that a call can come through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// The Connect protocol.
    Connect,
    /// gRPC.
    Grpc,
    /// gRPC-Web.
    GrpcWeb,
    /// REST with JSON.
    Rest,
    /// Server-sent events.
    Sse,
    /// Newline-delimited JSON.
    Ndjson,
    /// A WebSocket.
    Socket,
}

impl Door {
    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Door::Connect => "connect",
            Door::Grpc => "grpc",
            Door::GrpcWeb => "grpc_web",
            Door::Rest => "rest",
            Door::Sse => "sse",
            Door::Ndjson => "ndjson",
            Door::Socket => "socket",
        }
    }
}

/// A call that was let in.
pub struct Admission {
    /// What the handler gets.
    pub context: Context,
    /// The open record of the call. Whoever sends the last byte drops the last clone.
    pub entry: Entry,
}

/// What a gate says of a call.
pub type Admitted = Result<Admission, Refusal>;

/// A call that was not let in.
pub struct Refusal {
    /// Why.
    pub error: Error,
    /// The open record of the refusal, where one is kept. Whoever sends the last byte drops the last clone.
    pub entry: Option<Entry>,
}

impl From<Error> for Refusal {
    /// A refusal that nobody records.
    fn from(error: Error) -> Refusal {
        Refusal { error, entry: None }
    }
}

/// A request that is refused before it is a call: nothing has its path, or not in this way.
pub struct Stray<'s> {
    /// Which door it came to.
    pub door: Door,
    /// The method that it means; empty when there is none.
    pub method: &'static str,
    /// The id of the request.
    pub id: &'s RequestId,
    /// Who is at the other end of the connection.
    pub peer: &'s Peer,
    /// Why it is refused.
    pub error: &'s Error,
}

/// Lets calls in or refuses them. Doors hold one; the house has [`Admit`] implementations for guarded and open use.
pub trait Admit: Send + Sync + 'static {
    /// Decides about one call.
    ///
    /// # Errors
    /// The refusal, with its record.
    fn admit(&self, method: Arc<Method>, head: Head) -> BoxFuture<Admitted>;

    /// Opens the record of a request that is no call, where one is kept.
    fn astray(&self, _stray: &Stray<'_>) -> Option<Entry> {
        None
    }
}
