//! The listener, over a real socket.

use std::time::Duration;

use futures_util::stream;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use portico::{
    base::Outgoing,
    edge::listen::{self, Listener},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use super::*;

#[tokio::test]
async fn a_connection_is_served_and_closed_in_order() {
    let tasks = Tasks::new();
    let config = listen::Config::plain(SocketAddr::from(([127, 0, 0, 1], 0)));
    let listener = Listener::bind(config, tasks.clone()).await.unwrap();
    let address = listener.address();
    let edge = Arc::new(edge_with(&keys(), Arc::new(gate::Open), tasks.clone(), Config::default()));
    let serving = tasks.spawn(listener.serve(edge));

    let mut client = TcpStream::connect(address).await.unwrap();
    let call =
        format!("POST {MUTATING} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n");
    client.write_all(call.as_bytes()).await.unwrap();
    client.write_all(br#"{"name":"ci"}"#).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(br#"{"name":"ci"}"#) {
        assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0);
    }
    let head = String::from_utf8_lossy(&answer).to_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("content-length: 13"), "{head}");

    tasks.close();
    serving.await.unwrap();
    assert_eq!(client.read_buf(&mut answer).await.unwrap(), 0, "an idle connection is closed at once");
    assert_eq!(tasks.wait(Duration::from_secs(5)).await, 0);
}

/// A house that tells of every record that closes, on a free port.
async fn recorded(handlers: &Handlers, tasks: &Tasks) -> (SocketAddr, UnboundedReceiver<(u64, u64)>) {
    let (gate, records) = Recording::gate();
    let config = listen::Config::plain(SocketAddr::from(([127, 0, 0, 1], 0)));
    let listener = Listener::bind(config, tasks.clone()).await.unwrap();
    let address = listener.address();
    tasks.spawn(listener.serve(Arc::new(edge_with(handlers, gate, tasks.clone(), Config::default()))));
    (address, records)
}

#[tokio::test]
async fn a_refused_caller_who_waits_to_be_told_to_send_is_not_told() {
    let tasks = Tasks::new();
    let (address, _records) = recorded(&keys(), &tasks).await;
    let host = "host: x\r\n";
    for (path, host, kind, status) in [
        ("/a.B/C", host, "application/proto", "404"),
        ("/a.B/C", host, "application/grpc-web+proto", "200"),
        (MUTATING, host, "text/plain", "415"),
        (MUTATING, host, "application/json\r\nconnect-timeout-ms: soon", "400"),
        (MUTATING, "", "application/json", "400"),
    ] {
        let mut caller = TcpStream::connect(address).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\n{host}content-type: {kind}\r\ncontent-length: 5\r\n");
        caller.write_all(format!("{head}expect: 100-continue\r\n\r\n").as_bytes()).await.unwrap();
        let mut line = [0; 12];
        caller.read_exact(&mut line).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&line), format!("HTTP/1.1 {status}"), "{path} {kind}");
    }
    tasks.close();
}

#[tokio::test]
async fn tiny_windows_hold_an_answer_for_a_minute_and_lose_it_then() {
    const STREAMS: usize = 50;
    let tasks = Tasks::new();
    let (address, mut records) = recorded(&keys(), &tasks).await;
    let (mut calls, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1)
        .handshake(TokioIo::new(TcpStream::connect(address).await.unwrap()))
        .await
        .unwrap();
    tasks.spawn(connection);
    let large = CreateKeyRequest { name: "x".repeat(100 << 10), ..Default::default() }.to_wire();
    let url = format!("http://{address}{MUTATING}");
    let mut answers = Vec::new();
    for _ in 0..STREAMS {
        let call = post(&url, "application/proto").body(Full::new(large.clone())).unwrap();
        let answer = calls.send_request(call).await.unwrap();
        assert_eq!((answer.status(), answer.headers()["content-length"].to_str().unwrap()), (StatusCode::OK, "102404"));
        answers.push(answer);
    }
    assert!(records.try_recv().is_err(), "none of them was taken");
    let began = Instant::now();
    tokio::time::pause();
    for _ in 0..STREAMS {
        let (_, sent) = records.recv().await.unwrap();
        assert!(sent < 64 << 10, "{sent} bytes left although nobody took them");
    }
    // They began a little before.
    assert!((55..=61).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    for answer in answers {
        assert!(answer.into_body().collect().await.is_err(), "half an answer is no answer");
    }
    let small = post(&url, "application/proto").body(Full::default()).unwrap();
    let answer = calls.send_request(small).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "", "the connection serves on");
    tasks.close();
}

#[tokio::test]
async fn a_reader_that_stands_still_for_a_minute_loses_its_connection() {
    let mut handlers = Handlers::new();
    handlers.server_stream(STREAMING, &Arc::new(()), |_, _, _: FollowLogsRequest| async {
        let entry = || {
            Ok(FollowLogsResponse {
                sequence: i64::MAX,
                entry: Some(LogEntry { message: "x".repeat(1 << 14), ..Default::default() }),
            })
        };
        Ok(Box::pin(stream::repeat_with(entry)) as Outgoing<FollowLogsResponse>)
    });
    let tasks = Tasks::new();
    let (address, mut records) = recorded(&handlers, &tasks).await;
    let mut reader = TcpStream::connect(address).await.unwrap();
    let head = format!("POST {STREAMING} HTTP/1.1\r\nhost: x\r\ncontent-type: application/connect+proto\r\n");
    reader.write_all(format!("{head}content-length: 5\r\n\r\n\0\0\0\0\0").as_bytes()).await.unwrap();
    reader.read_exact(&mut [0; 64]).await.unwrap();
    let began = Instant::now();
    tokio::time::pause();
    assert!(records.recv().await.is_some());
    assert!((58..=62).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    tasks.close();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn half_open_tcp_the_kernel_asks_silent_peers_whether_they_are_there() {
    let tasks = Tasks::new();
    let (address, _records) = recorded(&keys(), &tasks).await;
    let mut peer = TcpStream::connect(address).await.unwrap();
    peer.write_all(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    peer.read_exact(&mut [0; 12]).await.unwrap();
    // Each line: number, ours, theirs, state, queues, which timer and when it rings in hundredths of a second.
    let [ours, theirs] = [address, peer.local_addr().unwrap()].map(|end| format!("0100007F:{:04X}", end.port()));
    let asks = || {
        let lines = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let words: Vec<&str> =
            lines.lines().find(|line| line.contains(&format!("{ours} {theirs}")))?.split_whitespace().collect();
        let (timer, rings) = words[5].split_once(':').unwrap();
        Some((timer == "02").then(|| u64::from_str_radix(rings, 16).unwrap()))
    };
    // Until what was said last is acknowledged, another timer runs.
    let until = Instant::now() + Duration::from_secs(20);
    while asks().expect("the connection is there").is_none() {
        assert!(Instant::now() < until, "nobody will ask");
        tokio::task::yield_now().await;
    }
    assert!(asks().flatten().is_some_and(|rings| rings <= 3_100));
    tasks.close();
}

#[tokio::test]
async fn a_call_whose_chunks_are_malformed_is_the_callers_fault() {
    let tasks = Tasks::new();
    let (address, _records) = recorded(&keys(), &tasks).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("POST {MUTATING} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n");
    let body = "transfer-encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n";
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(r#""code":"invalid_argument""#), "{answer}");
    tasks.close();
}
