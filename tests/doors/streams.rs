//! Calls of many messages.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use portico::{
    base::{Incoming, Outgoing},
    gate::{Admission, Closed, Entry, Head, Outlet},
    schema::Method,
    wire::BoxFuture,
};
use tokio_util::sync::CancellationToken;

use super::*;

fn following(messages: fn() -> Outgoing<FollowLogsResponse>) -> Handlers {
    let mut handlers = Handlers::new();
    handlers.server_stream(STREAMING, &Arc::new(messages), |messages, _, _: FollowLogsRequest| async move {
        Ok(messages())
    });
    handlers
}

fn endless() -> Outgoing<FollowLogsResponse> {
    Box::pin(stream::once(async { Ok(FollowLogsResponse::default()) }).chain(stream::pending()))
}

#[tokio::test]
async fn a_deadline_ends_a_stream() {
    let request = post(STREAMING, "application/grpc").header("grpc-timeout", "50m");
    let answer = send(&edge(&following(endless)), request, envelope(0, b"")).await;
    assert_eq!((answer.body.to_vec(), answer.grpc_status()), (envelope(0, b""), "4"));
    let request = post(STREAMING, "application/connect+json").header("connect-timeout-ms", "50");
    let answer = send(&edge(&following(endless)), request, envelope(0, b"{}")).await;
    assert!(String::from_utf8_lossy(&answer.body).contains(r#""code":"deadline_exceeded""#));
}

#[tokio::test]
async fn a_panic_in_a_stream_is_its_last_message() {
    let handlers = following(|| {
        Box::pin(stream::iter(0..).map(|count| {
            assert!(count < 2, "a secret of the handler");
            Ok(FollowLogsResponse::default())
        }))
    });
    let answer = send(&edge(&handlers), post(STREAMING, "application/grpc"), envelope(0, b"")).await;
    assert_eq!((answer.body.to_vec(), answer.grpc_status()), (envelope(0, b"").repeat(2), "13"));
}

/// Lets everybody in until the token is cancelled.
struct UntilRevoked(Arc<CancellationToken>);

impl Admit for UntilRevoked {
    fn admit(&self, method: Arc<Method>, head: Head) -> BoxFuture<Result<Admission>> {
        let (open, revoked) = (gate::Open.admit(method, head), self.0.clone());
        Box::pin(async move { Ok(Admission { context: open.await?.context, entry: Entry::open(Nowhere, revoked) }) })
    }
}

struct Nowhere;

impl Outlet for Nowhere {
    fn closed(&self, _record: &Closed) {}
}

#[tokio::test]
async fn a_stream_ends_when_its_credential_is_revoked() {
    let revoked = Arc::<CancellationToken>::default();
    let admit = Arc::new(UntilRevoked(Arc::clone(&revoked)));
    let edge = edge_with(&following(endless), admit, Tasks::new(), Config::default());
    let request = post(STREAMING, "application/grpc").body(Body::from(Bytes::from(envelope(0, b"")))).unwrap();
    let mut body = edge.call(request, peer()).await.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, envelope(0, b""));
    revoked.cancel();
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "16");
}

#[tokio::test]
async fn an_unknown_flag_in_a_request_stream_reaches_the_handler_as_an_error() {
    let mut handlers = Handlers::new();
    handlers.bidi(DUPLEX, &Arc::new(()), |_, _, mut messages: Incoming<AttachRequest>| async move {
        let answers = async_count(&mut messages).await?;
        Ok(Box::pin(stream::iter((0..answers).map(|_| Ok(AttachResponse::default())))) as Outgoing<AttachResponse>)
    });
    let edge = edge(&handlers);
    let good = envelope(0, b"").repeat(2);
    let answer = send(&edge, post(DUPLEX, "application/grpc"), good.clone()).await;
    assert_eq!((answer.body.to_vec(), answer.grpc_status()), (good.clone(), "0"));
    let answer = send(&edge, post(DUPLEX, "application/grpc"), [good, envelope(0b1000, b"")].concat()).await;
    assert_eq!(answer.grpc_status(), "3");
}

async fn async_count(messages: &mut Incoming<AttachRequest>) -> Result<usize> {
    let mut count = 0;
    while let Some(message) = messages.next().await {
        message?;
        count += 1;
    }
    Ok(count)
}

#[tokio::test]
async fn the_record_closes_with_the_last_byte() {
    let (gate, mut records) = Recording::gate();
    let handlers = following(|| Box::pin(stream::iter([Ok(FollowLogsResponse::default())])));
    let edge = edge_with(&handlers, gate, Tasks::new(), Config::default());
    let request = post(STREAMING, "application/grpc").body(Body::from(Bytes::from(envelope(0, b"")))).unwrap();
    let mut body = edge.call(request, peer()).await.into_body();
    assert!(body.frame().await.unwrap().unwrap().is_data());
    assert!(records.try_recv().is_err(), "the trailers are still to come");
    while body.frame().await.is_some() {}
    let record = tokio::time::timeout(Duration::from_secs(5), records.recv()).await.unwrap();
    assert_eq!(record, Some((5, 5)));
}
