//! The end of a process that is still in use.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, future::join_all};
use http_body_util::BodyExt;
use rustix::process::Signal;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message as Frame, client::IntoClientRequest},
};

use crate::support::{
    doors::envelope,
    gateway::{ADMIN, PATIENCE},
    process::{Process, read, send, upload},
};

const FOLLOW: &str = "/api/v1/instances/echo-1/logs:follow";
const TOTAL: Duration = Duration::from_secs(20);
/// Long enough for a busy machine to show that everything is served meanwhile.
const GRACE: Duration = Duration::from_secs(4);
const SOCKETS: usize = 12;

async fn socket(process: &Process) -> WebSocketStream<TcpStream> {
    let mut request = format!("ws://{}/agent/echo-1", process.address()).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {ADMIN}").parse().unwrap());
    client_async(request, TcpStream::connect(process.address()).await.unwrap()).await.unwrap().0
}

/// The close code, and when it came.
async fn closed(mut socket: WebSocketStream<TcpStream>) -> (u16, Instant) {
    let told = async {
        loop {
            match socket.next().await {
                Some(Ok(Frame::Close(Some(frame)))) => return (frame.code.into(), Instant::now()),
                Some(Ok(_)) => {}
                other => panic!("no farewell: {other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("a farewell in time")
}

/// `docs/surfaces/podium.md`, "gateway deploy", and what operate.md promises of a process that stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_deploy_sigterm_ends_readiness_then_accepting_then_sockets_in_waves_and_every_stream_is_told() {
    let process = Process::start(&format!(
        "limits = 'off'\ndrain = {{ seconds = {}, grace_seconds = {} }}\n",
        TOTAL.as_secs(),
        GRACE.as_secs()
    ));
    process.echo("echo-1").await;

    let mut sockets = join_all((0..SOCKETS).map(|_| socket(&process))).await;
    let mut connections = Vec::new();
    let mut streams = Vec::new();
    let follow = br#"{"instance_id":"echo-1"}"#;
    for (verb, path, headers, body) in [
        ("GET", FOLLOW, vec![("accept", "text/event-stream")], Bytes::new()),
        ("GET", FOLLOW, vec![], Bytes::new()),
        (
            "POST",
            "/podium.v1.InstancesService/FollowLogs",
            vec![("content-type", "application/connect+json")],
            envelope(0, follow).into(),
        ),
        (
            "POST",
            "/podium.v1.InstancesService/FollowLogs",
            vec![("content-type", "application/grpc-web+json")],
            envelope(0, follow).into(),
        ),
    ] {
        let mut connection = process.connect().await;
        streams.push(send(&mut connection, verb, path, &headers, body).await.into_body().collect());
        connections.push(connection);
    }
    // Half of an upload.
    let ((name, value), form) = upload("2.0.0");
    let mut uploading = TcpStream::connect(process.address()).await.unwrap();
    let head = format!(
        "POST /api/v1/deployments HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {ADMIN}\r\n{name}: {value}\r\ncontent-length: {}\r\n\r\n",
        form.len()
    );
    uploading.write_all(head.as_bytes()).await.unwrap();
    uploading.write_all(&form[..form.len() / 2]).await.unwrap();

    let began = Instant::now();
    process.signal(Signal::TERM);
    process.logs("draining").await;

    // Within the grace: not ready, and yet everything is served.
    let ready = process.ask("GET", "/health/ready", &[], "").await;
    assert_eq!((ready.status.as_u16(), &ready.json()["status"]), (503, &Value::from("draining")));
    let served = process.ask("GET", "/api/v1/keys", &[], "").await;
    assert_eq!((served.status.as_u16(), served.header("connection")), (200, "close"));
    sockets[0].send(Frame::text("still there?")).await.unwrap();
    assert!(matches!(sockets[0].next().await, Some(Ok(Frame::Text(_)))), "an open tunnel goes on");

    // Then sockets leave, each at its own time.
    let told = join_all(sockets.into_iter().map(closed)).await;
    assert!(told.iter().all(|(code, _)| *code == 1012), "{told:?}");
    let (first, last) = (told.iter().map(|(_, at)| *at).min().unwrap(), told.iter().map(|(_, at)| *at).max().unwrap());
    assert!(last.duration_since(first) > Duration::from_millis(300), "not all at once");
    assert!(first.duration_since(began) >= GRACE - Duration::from_millis(100), "not before the grace is over");

    // Streams end in their own words, with a hint to come back.
    let mut ends = Vec::new();
    for stream in streams {
        let body = tokio::time::timeout(PATIENCE, stream).await.expect("an end in time").unwrap().to_bytes();
        ends.push(String::from_utf8_lossy(&body).into_owned());
    }
    let [events, lines, connect, web] = &ends[..] else { panic!("{ends:?}") };
    assert!(events.contains("event: error\n") && events.contains(r#""code":"draining""#), "{events}");
    assert!(lines.lines().last().unwrap().contains(r#""code":"draining""#), "{lines}");
    assert!(connect.contains(r#""code":"unavailable""#) && connect.contains("google.rpc.RetryInfo"), "{connect}");
    assert!(web.contains("grpc-status: 14"), "{web}");

    // What has begun ends well.
    uploading.write_all(&form[form.len() / 2..]).await.unwrap();
    let mut answer = Vec::new();
    uploading.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 201 "), "{}", String::from_utf8_lossy(&answer));

    assert!(TcpStream::connect(process.address()).await.is_err(), "nobody is let in any more");
    let log = process.log();
    assert_eq!(process.ended().await.code(), Some(0), "{log}");
    assert!(began.elapsed() < TOTAL, "what is done early ends early");
}

#[tokio::test]
async fn a_caller_that_never_leaves_does_not_keep_the_process() {
    let process = Process::start("drain = { seconds = 2, grace_seconds = 0 }\n");
    // An upload that never goes on, on a connection that stays open.
    let mut stuck = TcpStream::connect(process.address()).await.unwrap();
    let head = format!(
        "POST /api/v1/deployments HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {ADMIN}\r\n\
         content-type: multipart/form-data; boundary=b\r\ncontent-length: 999\r\n\r\n--b\r\n"
    );
    stuck.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(process.ask("GET", "/health", &[], "").await.status, 200);
    let began = Instant::now();
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_interrupt_from_a_terminal_waits_for_nobody_to_notice() {
    let process = Process::start("drain = { seconds = 60, grace_seconds = 30 }\n");
    let mut idle = process.connect().await;
    assert_eq!(read(send(&mut idle, "GET", "/health", &[], Bytes::new()).await).await.status, 200);
    let began = Instant::now();
    process.signal(Signal::INT);
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_lies_outside_its_folders_goes_with_a_gateway_or_with_the_next_one() {
    // Sockets have short paths, so those of a gateway whose folder has a long one lie elsewhere.
    let folder = tempfile::Builder::new().prefix(&"long".repeat(20)).tempdir().unwrap();
    let link = folder.path().join("data/fleet/s/far");
    let mut process = Process::start_in(folder, "limits = 'off'\n");
    let killed = std::fs::read_link(&link).unwrap();
    assert!(killed.is_dir());
    process.restart();
    assert!(!killed.exists());
    process.echo("echo-1").await;
    let stopped = std::fs::read_link(&link).unwrap();
    assert!(std::fs::read_dir(&stopped).is_ok());
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
    assert!(!stopped.exists());
}
