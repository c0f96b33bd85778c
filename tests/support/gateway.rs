//! A whole gateway in this process: everything embedded, in a temporary folder, on a free port of the loopback.
//!
//! A newcomer's usual mistake is to open a socket. Requests go to the doors in memory; only what needs a connection of
//! its own (a WebSocket, somebody who hangs up) dials the address.

use std::{net::SocketAddr, sync::OnceLock, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use portico::{
    config::Sources,
    edge::{Body, Edge},
    gate::Peer,
    gateway::{Gateway, Stop},
    schema::Schema,
    wire::SCHEMA,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::doors::Behind;

/// The operator's key of every test house.
pub(crate) const ADMIN: &str = "pod_admin_tests_0123456789abcdefghij";
/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running gateway.
pub(crate) struct TestHouse {
    gateway: Gateway,
    // Kept: the folder goes with it.
    _folder: TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A REST request in the making.
pub(crate) struct Asking<'h> {
    house: &'h TestHouse,
    request: http::request::Builder,
    body: Bytes,
}

/// The method table, read once.
pub(crate) fn schema() -> &'static Schema {
    static SHARED: OnceLock<Schema> = OnceLock::new();
    SHARED.get_or_init(|| Schema::read(SCHEMA).unwrap())
}

pub(crate) fn peer() -> Peer {
    Peer::new(SocketAddr::from(([127, 0, 0, 1], 1)), None)
}

impl Behind for TestHouse {
    fn edge(&self) -> &Edge {
        self.gateway.edge()
    }

    fn address(&self) -> SocketAddr {
        self.gateway.address()
    }
}

impl TestHouse {
    /// A gateway without rate limits.
    pub(crate) async fn start() -> TestHouse {
        TestHouse::with(&[("PORTICO_LIMITS", "off")]).await
    }

    /// A gateway with these variables set, and no others but those of its own that are not among them.
    pub(crate) async fn with(variables: &[(&str, &str)]) -> TestHouse {
        let folder = tempfile::tempdir().unwrap();
        let own = [
            ("PORTICO_LISTEN", "127.0.0.1:0"),
            ("PORTICO_DATA", folder.path().to_str().unwrap()),
            ("PORTICO_ADMIN_KEY", ADMIN),
        ];
        let own = own.into_iter().filter(|(name, _)| variables.iter().all(|(given, _)| given != name));
        let config = Sources::new().environment(own.chain(variables.iter().copied())).load().unwrap().config;
        TestHouse { gateway: Gateway::start(config).await.unwrap(), _folder: folder }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    /// The folder that everything is kept in.
    pub(crate) fn data(&self) -> &std::path::Path {
        self._folder.path()
    }

    /// Ends in order: instances are stopped.
    pub(crate) async fn close(self) {
        self.gateway.drain(Stop::AtOnce).await;
    }

    /// Hands a request to the doors. What comes back may never end.
    pub(crate) async fn call(&self, request: Request<Body>) -> http::Response<Body> {
        self.call_from(peer(), request).await
    }

    /// The same from somewhere else.
    pub(crate) async fn call_from(&self, peer: Peer, request: Request<Body>) -> http::Response<Body> {
        tokio::time::timeout(PATIENCE, self.gateway.edge().call(request, peer)).await.expect("an answer in time")
    }

    /// Begins a REST request by this key; by nobody's when it is empty.
    pub(crate) fn ask(&self, key: &str, verb: &str, path: &str) -> Asking<'_> {
        let mut request = Request::builder().method(verb).uri(path);
        if !key.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        Asking { house: self, request, body: Bytes::new() }
    }

    /// A new key of a tenant, with these permissions; the default ones when there are none.
    pub(crate) async fn key(&self, tenant: &str, permissions: &[&str]) -> String {
        let body = json!({"tenant_id": tenant, "permissions": permissions});
        let made = self.ask(ADMIN, "POST", "/api/v1/keys").json(&body).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.json()["key"].as_str().unwrap().to_owned()
    }
}

impl Asking<'_> {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) async fn json(self, body: &Value) -> Answer {
        self.bytes("application/json", body.to_string()).await
    }

    pub(crate) async fn bytes(mut self, media_type: &str, body: impl Into<Bytes>) -> Answer {
        self.body = body.into();
        self.header("content-type", media_type).send().await
    }

    pub(crate) async fn send(self) -> Answer {
        let response = self.house.call(self.request.body(Body::from(self.body)).unwrap()).await;
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await.expect("an end in time").unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and error code, for example `(404, "key_not_found")`.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status.as_u16(), self.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
    }

    /// The answer's JSON, if it has this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { self.json() }
    }
}
