//! Calls of many messages.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use portico::{
    base::{Error, Incoming, Outgoing},
    gate::{Admission, Admitted, Closed, Entry, Head, Outlet},
    schema::Method,
    wire::BoxFuture,
};
use tokio::sync::{mpsc, watch};
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
    let request = post(STREAMING, "application/grpc").header("grpc-timeout", "500m");
    let answer = send(&edge(&following(endless)), request, envelope(0, b"")).await;
    assert_eq!((answer.body.to_vec(), answer.grpc_status()), (envelope(0, b""), "4"));
    let request = post(STREAMING, "application/connect+json").header("connect-timeout-ms", "500");
    let answer = send(&edge(&following(endless)), request, envelope(0, b"{}")).await;
    assert!(String::from_utf8_lossy(&answer.body).contains(r#""code":"deadline_exceeded""#));
}

/// A house whose calls of every shape last as long as their callers wait, or send.
fn lasting() -> Handlers {
    let mut handlers = following(endless);
    on(&mut handlers, MUTATING, |_, _: CreateKeyRequest| async { Ok(CreateKeyResponse::default()) });
    handlers.client_stream(
        UPLOADING,
        &Arc::new(()),
        |_, _, mut messages: Incoming<UploadDeploymentRequest>| async move {
            while let Some(message) = messages.next().await {
                message?;
            }
            Ok(UploadDeploymentResponse::default())
        },
    );
    handlers.bidi(DUPLEX, &Arc::new(()), |_, _, _: Incoming<AttachRequest>| async move {
        Ok(Box::pin(stream::pending()) as Outgoing<AttachResponse>)
    });
    handlers
}

#[tokio::test]
async fn a_deadline_that_passes_is_on_record_as_one_whatever_the_call() {
    let (recording, mut records) = crate::support::record::Recording::new();
    let edge = edge_with(&lasting(), recording, Tasks::new(), Config::default());
    let grpc = ["application/grpc", "application/grpc-web", "application/grpc-web-text"];
    let mut calls: Vec<_> = [MUTATING, STREAMING, UPLOADING, DUPLEX]
        .into_iter()
        .flat_map(|path| grpc.map(|media_type| (path, media_type)))
        .collect();
    calls.extend(["application/json", "application/json; charset=utf-8"].map(|media_type| (MUTATING, media_type)));
    calls.extend([STREAMING, UPLOADING, DUPLEX].map(|path| (path, "application/connect+json")));
    for (path, media_type) in calls {
        // All is sent where one message is asked for and many come back; elsewhere the caller never comes to an end.
        let (sending, mut sends) = mpsc::channel::<Result<Frame<Bytes>>>(1);
        let sent = match (path, media_type) {
            (STREAMING, "application/connect+json") => Body::from(Bytes::from(envelope(0, b"{}"))),
            (STREAMING, "application/grpc-web-text") => Body::from(Bytes::from("AAAAAAA=")),
            (STREAMING, _) => Body::from(Bytes::from(envelope(0, b""))),
            _ => Body::boxed(StreamBody::new(stream::poll_fn(move |cx| sends.poll_recv(cx)))),
        };
        let request = post(path, media_type).header("connect-timeout-ms", "500").header("grpc-timeout", "500m");
        let answer = read(edge.call(request.body(sent).unwrap(), peer()).await).await;
        assert!(!answer.headers.contains_key("grpc-status") || answer.grpc_status() == "4", "{path} {media_type}");
        drop(sending);
        let record = tokio::time::timeout(Duration::from_secs(5), records.recv()).await.unwrap().unwrap();
        assert_eq!(record.code, "deadline_exceeded", "{path} {media_type}");
        assert!(matches!(record.work, None | Some("deadline_exceeded")), "{path} {media_type} {:?}", record.work);
    }
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
    fn admit(&self, method: Arc<Method>, head: Head) -> BoxFuture<Admitted> {
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

/// A house that takes an upload to its end, says so, and then has more to do until it is let go. It tells of every step.
fn taking(told: mpsc::UnboundedSender<String>, go: watch::Receiver<bool>) -> Handlers {
    let mut handlers = Handlers::new();
    let take = Arc::new((told, go));
    handlers.client_stream(UPLOADING, &take, |take, _, mut messages: Incoming<UploadDeploymentRequest>| async move {
        let (told, mut go) = (take.0.clone(), take.1.clone());
        while let Some(message) = messages.next().await {
            let message = message.inspect_err(|error| told.send(error.reason().as_str().to_owned()).unwrap())?;
            told.send(message.version).unwrap();
        }
        told.send("all".to_owned()).unwrap();
        go.wait_for(|go| *go).await.unwrap();
        told.send("done".to_owned()).unwrap();
        Ok(UploadDeploymentResponse::default())
    });
    handlers
}

#[tokio::test]
async fn an_upload_completes_when_its_caller_hangs_up_after_the_last_byte() {
    let (told, mut tells) = mpsc::unbounded_channel();
    let (go, gone) = watch::channel(false);
    let (recording, mut records) = crate::support::record::Recording::new();
    let edge = Arc::new(edge_with(&taking(told, gone), recording, Tasks::new(), Config::default()));
    let message = UploadDeploymentRequest { version: "1.0.0".into(), ..Default::default() }.to_wire();
    for media_type in ["application/grpc", "application/connect+proto", "application/grpc-web"] {
        let (edge, body) = (Arc::clone(&edge), envelope(0, &message));
        let call = Tasks::new().spawn(async move { send(&edge, post(UPLOADING, media_type), body).await });
        for step in ["1.0.0", "all"] {
            assert_eq!(tells.recv().await.unwrap(), step, "{media_type}");
        }
        call.abort();
        assert!(call.await.is_err(), "the caller is gone");
    }
    go.send(true).unwrap();
    for _ in 0..3 {
        assert_eq!(tells.recv().await.unwrap(), "done");
        let record = records.recv().await.unwrap();
        assert_eq!((record.code, record.work), ("canceled", Some("done")), "the record has both");
    }
}

#[tokio::test]
async fn an_upload_ends_when_its_credential_is_revoked_before_the_last_byte() {
    let (told, mut tells) = mpsc::unbounded_channel();
    let (_go, gone) = watch::channel(false);
    let revoked = Arc::new(CancellationToken::new());
    let admit = Arc::new(UntilRevoked(Arc::clone(&revoked)));
    let edge = edge_with(&taking(told, gone), admit, Tasks::new(), Config::default());
    let message = UploadDeploymentRequest { version: "1.0.0".into(), ..Default::default() }.to_wire();
    let begun = stream::iter([Ok::<_, Error>(Frame::data(Bytes::from(envelope(0, &message))))]);
    let body = Body::boxed(StreamBody::new(begun.chain(stream::pending())));
    let request = post(UPLOADING, "application/grpc").body(body).unwrap();
    let steps = async {
        assert_eq!(tells.recv().await.unwrap(), "1.0.0");
        revoked.cancel();
        assert_eq!(tells.recv().await.unwrap(), "unauthorized");
    };
    let (response, ()) = tokio::join!(edge.call(request, peer()), steps);
    assert_eq!(read(response).await.grpc_status(), "16");
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
