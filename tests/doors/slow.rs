//! Callers that begin a message and do not end it, through every door.

use std::{io::Write, time::Duration};

use flate2::{Compression, write::GzEncoder};
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use portico::base::{Error, Incoming, Outgoing};
use tokio::time::Instant;

use super::*;

/// A house that reads what it is sent to the end, in every shape.
fn listening() -> Handlers {
    let mut handlers = keys();
    handlers.client_stream(UPLOADING, &Arc::new(()), |_, _, messages: Incoming<UploadDeploymentRequest>| async {
        heard(messages).await?;
        Ok(UploadDeploymentResponse::default())
    });
    handlers.server_stream(STREAMING, &Arc::new(()), |_, _, _: FollowLogsRequest| async {
        Ok(Box::pin(stream::empty()) as Outgoing<FollowLogsResponse>)
    });
    handlers.bidi(DUPLEX, &Arc::new(()), |_, _, messages: Incoming<AttachRequest>| async {
        let echo = messages.map(|message| message.map(|_| AttachResponse::default()));
        Ok(Box::pin(echo) as Outgoing<AttachResponse>)
    });
    handlers
}

async fn heard<T>(mut messages: Incoming<T>) -> Result<()> {
    while let Some(message) = messages.next().await {
        message?;
    }
    Ok(())
}

/// A body that begins like this, and then comes by one byte every so often, or not at all.
fn slow(start: Vec<u8>, every: Option<Duration>) -> Body {
    let first = stream::iter([start]);
    let rest = stream::unfold((), move |()| async move {
        match every {
            Some(every) => tokio::time::sleep(every).await,
            None => std::future::pending().await,
        }
        Some((vec![0], ()))
    });
    Body::boxed(StreamBody::new(first.chain(rest).map(|bytes| Ok::<_, Error>(Frame::data(Bytes::from(bytes))))))
}

fn packed(text: &str) -> Vec<u8> {
    let mut packing = GzEncoder::new(Vec::new(), Compression::default());
    packing.write_all(text.as_bytes()).unwrap();
    packing.finish().unwrap()
}

/// What every door calls the same trouble.
fn tells_of_lateness(answer: &Answer) -> bool {
    let body = String::from_utf8_lossy(&answer.body);
    answer.grpc_status() == "4" || body.contains("deadline_exceeded") || body.contains("grpc-status: 4")
}

#[tokio::test(start_paused = true)]
async fn slow_bodies_end_with_an_error_of_their_protocol_through_every_door() {
    let edge = edge(&listening());
    let half = |flags, message: &[u8]| envelope(flags, message)[..6].to_vec();
    let (gzip, proto) = (packed(r#"{"name":"a"}"#), packed(""));
    let cut = |bytes: &[u8]| bytes[..bytes.len() - 1].to_vec();
    let doors = [
        (post(MUTATING, "application/json"), br#"{"na"#.to_vec()),
        (post(MUTATING, "application/json").header("content-encoding", "gzip"), cut(&gzip)),
        (post(MUTATING, "application/grpc"), half(0, b"\x0a\x01a")),
        (post(MUTATING, "application/grpc").header("grpc-encoding", "gzip"), half(1, &proto)),
        (post(MUTATING, "application/grpc-web"), half(0, b"\x0a\x01a")),
        (post(MUTATING, "application/grpc-web+json"), half(0, b"{}")),
        (post(STREAMING, "application/connect+json"), half(0, b"{}")),
        (post(STREAMING, "application/grpc"), half(0, b"\x0a\x01a")),
        (post(UPLOADING, "application/connect+proto"), envelope(0, b"")),
        (post(UPLOADING, "application/grpc"), envelope(0, b"")),
        (post(DUPLEX, "application/connect+proto"), half(0, b"\x0a\x01a")),
        (post(DUPLEX, "application/grpc"), vec![0, 0, 0, 0xff, 0]),
    ];
    for (number, (request, start)) in doors.into_iter().enumerate() {
        let silent = number % 2 == 0;
        let every = (!silent).then_some(Duration::from_secs(20));
        let began = Instant::now();
        let response = edge.call(request.body(slow(start, every)).unwrap(), peer()).await;
        let answer = read(response).await;
        assert!(tells_of_lateness(&answer), "door {number}: {} {:?} {:?}", answer.status, answer.headers, answer.body);
        let expected = if silent { 30..=31 } else { 20..=600 };
        assert!(expected.contains(&began.elapsed().as_secs()), "door {number}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_conversation_may_be_quiet_between_its_messages_but_not_within_one() {
    let edge = edge(&listening());
    let pauses = [(Duration::from_secs(7_200), envelope(0, b"")), (Duration::from_secs(7_200), vec![0, 0])];
    let messages = stream::iter(pauses).then(|(pause, bytes)| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, Error>(Frame::data(Bytes::from(bytes)))
    });
    let body = Body::boxed(StreamBody::new(messages.chain(stream::pending())));
    let began = Instant::now();
    let answer = read(edge.call(post(DUPLEX, "application/grpc").body(body).unwrap(), peer()).await).await;
    assert_eq!(answer.grpc_status(), "4");
    assert_eq!(answer.body, envelope(0, b""), "the whole message was answered");
    assert_eq!(began.elapsed().as_secs(), 2 * 7_200 + 30);
}
