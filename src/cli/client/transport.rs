//! HTTP to the gateway.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, ResponseFuture, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::Failure;

/// The body of a request.
pub(super) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A gateway that cannot be reached in this time will not be.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer that is kept as a whole: a page of a list stays far below.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A way to send requests, plain or encrypted.
pub(super) struct Transport(Box<dyn Fn(Request<Body>) -> ResponseFuture + Send + Sync>);

impl Transport {
    /// For `http` URLs.
    pub(super) fn plain() -> Transport {
        let client = Client::builder(TokioExecutor::new()).build(connector());
        Transport(Box::new(move |request| client.request(request)))
    }

    /// For `https` URLs. Trusts whom the system trusts; `SSL_CERT_FILE` adds to that.
    pub(super) fn encrypted() -> Result<Transport, Failure> {
        let mut connector = connector();
        connector.enforce_http(false);
        let builder = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| Failure::Other(format!("no trusted certificates: {error}"), Some(CERTIFICATES)))?;
        let connector = builder.https_only().enable_http1().wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Transport(Box::new(move |request| client.request(request))))
    }

    /// Sends a request; `base` is for the message when that fails.
    pub(super) async fn send(&self, request: Request<Body>, base: &str) -> Result<Response<Incoming>, Failure> {
        (self.0)(request).await.map_err(|error| {
            let story = story(&error);
            match error.is_connect() {
                true => Failure::Other(format!("{base} cannot be reached: {story}"), Some(UNREACHABLE)),
                false => Failure::other(format!("the call to {base} broke off: {story}")),
            }
        })
    }
}

const CERTIFICATES: &str = "install the ca-certificates package, or name a PEM file with SSL_CERT_FILE";
const UNREACHABLE: &str = "start a gateway with `portico serve`, or name one with --url or PORTICO_URL";

/// A body as a whole.
pub(super) async fn collect(body: Incoming) -> Result<Bytes, Failure> {
    match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Failure::other("the gateway's answer is larger than 16 MiB"))
        }
        Err(error) => Err(Failure::other(format!("the answer broke off: {error}"))),
    }
}

/// The connection broke in the middle of an answer.
pub(super) fn broken(error: &hyper::Error) -> Failure {
    Failure::other(format!("the answer broke off: {}", story(error)))
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_PATIENCE));
    connector.set_nodelay(true);
    connector
}

/// The innermost cause, which says most: the outer ones only say that something failed.
fn story(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
