//! WebSockets over real connections: handshakes, frames, closing.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use portico::{
    base::{Code, Error, Incoming, Outgoing, Result, reason, tasks::Tasks},
    edge::Rest,
    gate::Open,
    schema::{Schema, Surface},
    wire::{Handlers, Wire, podium::v1 as podium},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error as SocketError, Message as Frame,
        client::IntoClientRequest,
        handshake::client::Response,
        protocol::{CloseFrame, Role},
    },
};

use super::support::{Gateway, Revocable};
use crate::support::gateway::PATIENCE;

/// A gateway with an agent that repeats what it hears.
struct House {
    gateway: Gateway,
    gate: Arc<Revocable>,
}

impl House {
    async fn start() -> House {
        let gate = Arc::new(Revocable::default());
        House { gateway: Gateway::start(Arc::clone(&gate) as _, agent).await, gate }
    }

    async fn attach(&self, path: &str, protocols: &str) -> Result<(WebSocketStream<TcpStream>, Response), SocketError> {
        let mut request = format!("ws://{}{path}", self.gateway.address).into_client_request().unwrap();
        if !protocols.is_empty() {
            request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
        }
        client_async(request, TcpStream::connect(self.gateway.address).await.unwrap()).await
    }

    async fn attached(&self, path: &str) -> WebSocketStream<TcpStream> {
        self.attach(path, "").await.unwrap().0
    }

    async fn refused(&self, path: &str) -> (u16, String) {
        match self.attach(path, "").await {
            Err(SocketError::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                (response.status().as_u16(), String::from_utf8(body).unwrap())
            }
            other => panic!("not refused: {other:?}"),
        }
    }
}

fn agent(handlers: &mut Handlers) {
    handlers.bidi(
        "/podium.v1.AgentService/Attach",
        &Arc::new(()),
        |_, _, mut heard: Incoming<podium::AttachRequest>| async move {
            let first = heard.next().await.unwrap()?;
            match &*first.instance_id {
                "gone" => return Err(Error::not_found(reason::INSTANCE_NOT_FOUND, "instance", "gone")),
                "ended" => {
                    return Err(Error::new(Code::FailedPrecondition, reason::INSTANCE_TERMINATED, "it has ended"));
                }
                _ => {}
            }
            let greeting = Ok(said(podium::attach_response::Frame::Text(format!("hello from {}", first.instance_id))));
            let echo = heard.map(|message| match message?.frame {
                Some(podium::attach_request::Frame::Text(text)) if text == "die" => {
                    Err(Error::new(Code::NotFound, reason::INSTANCE_TERMINATED, "it has ended"))
                }
                Some(podium::attach_request::Frame::Text(text)) => Ok(said(podium::attach_response::Frame::Text(text))),
                Some(podium::attach_request::Frame::Binary(bytes)) => {
                    Ok(said(podium::attach_response::Frame::Binary(bytes)))
                }
                // It says farewell by ending.
                Some(podium::attach_request::Frame::Close(_)) => {
                    Ok(said(podium::attach_response::Frame::Text("bye".into())))
                }
                None => Err(Error::internal("a frame without content")),
            });
            let until_bye = echo.take_while(|message| {
                let is_bye = message
                    .as_ref()
                    .is_ok_and(|message| *message == said(podium::attach_response::Frame::Text("bye".into())));
                std::future::ready(!is_bye)
            });
            Ok(Box::pin(stream::iter([greeting]).chain(until_bye)) as Outgoing<podium::AttachResponse>)
        },
    );
}

fn said(frame: podium::attach_response::Frame) -> podium::AttachResponse {
    podium::AttachResponse { frame: Some(frame) }
}

async fn heard<S>(socket: &mut WebSocketStream<S>) -> Frame
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    socket.next().await.unwrap().unwrap()
}

/// The code and reason that the gateway closes with.
async fn closed(socket: &mut WebSocketStream<TcpStream>) -> (u16, String) {
    loop {
        if let Frame::Close(frame) = heard(socket).await {
            let CloseFrame { code, reason } = frame.unwrap();
            return (code.into(), reason.to_string());
        }
    }
}

#[tokio::test]
async fn frames_pass_as_they_are_and_in_order() {
    let house = House::start().await;
    let mut socket = house.attached("/agent/agent_1?unknown=1").await;
    assert_eq!(heard(&mut socket).await, Frame::text("hello from agent_1"));
    let frames = [
        Frame::text("{\"type\":\"process_message\"}"),
        Frame::binary(Bytes::from_static(&[0, 0xff, 1])),
        Frame::text(""),
        Frame::binary(Bytes::new()),
        Frame::text("x".repeat(1 << 20)),
    ];
    for frame in &frames {
        socket.feed(frame.clone()).await.unwrap();
    }
    socket.flush().await.unwrap();
    for frame in frames {
        assert!(heard(&mut socket).await == frame, "another frame than {} bytes", frame.len());
    }
    socket.send(Frame::Ping(Bytes::from_static(b"?"))).await.unwrap();
    assert_eq!(heard(&mut socket).await, Frame::Pong(Bytes::from_static(b"?")));
    socket.close(None).await.unwrap();
    assert_eq!(heard(&mut socket).await, Frame::Close(None));
    assert!(socket.next().await.is_none());
}

#[tokio::test]
async fn a_socket_that_cannot_be_is_an_ordinary_answer() {
    let house = House::start().await;
    let (status, body) = house.refused("/agent/gone").await;
    assert!(status == 404 && body.contains(r#""code":"instance_not_found""#), "{status} {body}");
    let (status, body) = house.refused("/agent/ended").await;
    assert!(status == 410 && body.contains(r#""code":"instance_terminated""#), "{status} {body}");
    assert_eq!(house.refused("/nowhere").await.0, 404);
}

#[tokio::test]
async fn browsers_bring_their_key_as_a_subprotocol() {
    let house = House::start().await;
    let (_socket, response) = house.attach("/agent/a", "podium.native.v1, bearer.pod_secret").await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "podium.native.v1");
    assert_eq!(house.gate.bearer.lock().unwrap().as_deref(), Some("pod_secret"));
    let (_socket, response) = house.attach("/agent/a", "").await.unwrap();
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
}

#[tokio::test]
async fn every_end_has_its_close_code() {
    let house = House::start().await;

    let mut ended = house.attached("/agent/a").await;
    ended.send(Frame::text("bye")).await.unwrap();
    assert_eq!(closed(&mut ended).await, (1000, String::new()));

    let mut failed = house.attached("/agent/a").await;
    failed.send(Frame::text("die")).await.unwrap();
    assert_eq!(closed(&mut failed).await, (4410, "instance_terminated: it has ended".into()));

    let mut large = house.attached("/agent/a").await;
    let frame = Frame::binary(vec![0; (16 << 20) + 1]);
    // The gateway stops reading at the head of the frame, so sending may fail; what counts is what it says.
    let _cut_off = tokio::time::timeout(Duration::from_secs(1), large.send(frame)).await;
    assert_eq!(closed(&mut large).await.0, 1009);

    let mut revoked = house.attached("/agent/a").await;
    assert_eq!(heard(&mut revoked).await, Frame::text("hello from a"));
    house.gate.ended.cancel();
    assert_eq!(closed(&mut revoked).await.0, 4401);
}

#[tokio::test]
async fn a_closing_house_sends_its_callers_elsewhere() {
    let house = House::start().await;
    let mut socket = house.attached("/agent/a").await;
    assert_eq!(heard(&mut socket).await, Frame::text("hello from a"));
    // Callers leave one by one; nobody waits for that here.
    tokio::time::pause();
    house.gateway.tasks.close();
    assert_eq!(closed(&mut socket).await.0, 1012);
    assert_eq!(house.gateway.tasks.wait(Duration::from_secs(5)).await, 0);
}

#[tokio::test]
async fn http_2_client_opens_a_socket_too() {
    let house = House::start().await;
    let stream = TokioIo::new(TcpStream::connect(house.gateway.address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    house.gateway.tasks.spawn(async move { connection.await.unwrap_or_default() });
    let request = attaching(house.gateway.address, "two");
    let mut old = request.clone();
    old.headers_mut().insert("sec-websocket-version", "8".parse().unwrap());
    let refused = sender.send_request(old).await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["sec-websocket-version"]), (426, &"13".parse().unwrap()));
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let upgraded = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
    assert_eq!(heard(&mut socket).await, Frame::text("hello from two"));
    socket.send(Frame::binary(Bytes::from_static(b"over h2"))).await.unwrap();
    assert_eq!(heard(&mut socket).await, Frame::binary(Bytes::from_static(b"over h2")));
}

/// A handshake over HTTP/2.
fn attaching(address: SocketAddr, instance: &str) -> http::Request<Empty<Bytes>> {
    http::Request::builder()
        .method("CONNECT")
        .uri(format!("http://{address}/agent/{instance}"))
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(Empty::new())
        .unwrap()
}

/// Reads frames of a socket that speaks no WebSocket itself: kind and payload.
async fn raw_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; usize::from(head[1])];
    stream.read_exact(&mut payload).await.unwrap();
    (head[0] & 0xf, payload)
}

#[tokio::test]
async fn half_open_tcp_is_noticed_by_pings_and_closed_with_4408() {
    let house = House::start().await;
    let mut stream = TcpStream::connect(house.gateway.address).await.unwrap();
    let request = "GET /agent/a HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101") && answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    assert_eq!(raw_frame(&mut stream).await, (1, b"hello from a".to_vec()));

    let began = tokio::time::Instant::now();
    tokio::time::pause();
    assert_eq!(raw_frame(&mut stream).await, (9, Vec::new()));
    assert_eq!(raw_frame(&mut stream).await, (9, Vec::new()));
    let (kind, payload) = raw_frame(&mut stream).await;
    assert_eq!((kind, u16::from_be_bytes([payload[0], payload[1]])), (8, 4408));
    // Its patience began a little before ours, and paused time runs ahead while the frame travels.
    assert!((44..=47).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

/// Tells when a handler's streams were dropped.
struct Farewell(Arc<tokio::sync::Notify>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn slow_client_holds_up_its_agent_and_is_closed_with_1013_after_30_s() {
    let (left, said_bytes) = (Arc::new(tokio::sync::Notify::new()), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&said_bytes);
    let gateway = Gateway::start(Arc::new(Open), |handlers| {
        let shared = Arc::new((Arc::clone(&left), counter));
        handlers.bidi(
            "/podium.v1.AgentService/Attach",
            &shared,
            |shared, _, _: Incoming<podium::AttachRequest>| async move {
                let (farewell, counter) = (Farewell(Arc::clone(&shared.0)), Arc::clone(&shared.1));
                let flood = stream::repeat_with(move || {
                    let Farewell(_) = &farewell;
                    counter.fetch_add(1 << 16, Ordering::Relaxed);
                    Ok(said(podium::attach_response::Frame::Binary(Bytes::from_static(&[0; 1 << 16]))))
                });
                Ok(Box::pin(flood) as Outgoing<podium::AttachResponse>)
            },
        );
    })
    .await;
    let request = format!("ws://{}/agent/a", gateway.address).into_client_request().unwrap();
    let (mut deaf, _) = client_async(request, TcpStream::connect(gateway.address).await.unwrap()).await.unwrap();
    let began = tokio::time::Instant::now();
    tokio::time::pause();
    left.notified().await;
    // It may have been blocked before we looked at the clock.
    assert!((28..=33).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    // The agent was held up: no more was taken from it than what fits into buffers on the way.
    assert!(said_bytes.load(Ordering::Relaxed) < 64 << 20, "{said_bytes:?}");
    tokio::time::resume();
    assert_eq!(closed(&mut deaf).await, (1013, "slow_consumer".into()));
}

#[tokio::test]
async fn one_large_frame_over_http_2_is_not_sent_until_it_is_taken() {
    let left = Arc::new(tokio::sync::Notify::new());
    let gateway = Gateway::start(Arc::new(Open), |handlers| {
        handlers.bidi(
            "/podium.v1.AgentService/Attach",
            &left,
            |left, _, _: Incoming<podium::AttachRequest>| async move {
                let farewell = Farewell(left);
                let frame = Bytes::from_static(&[0; 1 << 20]);
                let rest = stream::poll_fn(move |_| {
                    let Farewell(_) = &farewell;
                    std::task::Poll::Pending
                });
                let frames = stream::iter([Ok(said(podium::attach_response::Frame::Binary(frame)))]).chain(rest);
                Ok(Box::pin(frames) as Outgoing<podium::AttachResponse>)
            },
        );
    })
    .await;
    let stream = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let mut client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = client.initial_stream_window_size(1).handshake(stream).await.unwrap();
    gateway.tasks.spawn(async move { connection.await.unwrap_or_default() });
    let response = sender.send_request(attaching(gateway.address, "one")).await.unwrap();
    let _deaf = hyper::upgrade::on(response).await.unwrap();
    let began = tokio::time::Instant::now();
    tokio::time::pause();
    left.notified().await;
    // As slow as a caller who takes none of many frames, and not as one who does not answer pings.
    assert!((28..=33).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_handler_who_does_not_listen_ends_the_socket() {
    let gateway = Gateway::start(Arc::new(Open), |handlers| {
        handlers.bidi(
            "/podium.v1.AgentService/Attach",
            &Arc::new(()),
            |_, _, heard: Incoming<podium::AttachRequest>| async {
                let deaf = stream::poll_fn(move |_| {
                    let _held = &heard;
                    std::task::Poll::Pending
                });
                Ok(Box::pin(deaf) as Outgoing<podium::AttachResponse>)
            },
        );
    })
    .await;
    let request = format!("ws://{}/agent/a", gateway.address).into_client_request().unwrap();
    let (mut socket, _) = client_async(request, TcpStream::connect(gateway.address).await.unwrap()).await.unwrap();
    for _ in 0..3 {
        socket.send(Frame::text("anybody there?")).await.unwrap();
    }
    tokio::time::pause();
    assert_eq!(closed(&mut socket).await, (1011, "upstream_blocked".into()));
}

const ROOM: &str = r#"
syntax = "proto3";
package room.v1;
import "portico/v1/options.proto";
service RoomService {
  rpc Talk(stream Word) returns (stream Word) {
    option (portico.v1.access) = {public: true};
    option (portico.v1.socket) = {path: "/rooms/{room}"};
  }
  rpc Listen(Word) returns (stream Word) {
    option (portico.v1.access) = {public: true};
    option (portico.v1.socket) = {path: "/rooms/{room}/words"};
  }
}
message Word {
  string room = 1;
  int64 count = 2;
}
"#;

/// A message that stays bytes.
struct Opaque(Bytes);

impl Wire for Opaque {
    fn from_wire(bytes: Bytes) -> Result<Self> {
        Ok(Opaque(bytes))
    }

    fn to_wire(&self) -> Bytes {
        self.0.clone()
    }
}

/// A gateway for proto text that no Rust type knows.
async fn room() -> Gateway {
    let folder = std::env::temp_dir().join(format!("portico-room-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("room.proto"), ROOM).unwrap();
    let mut compiler = protox::Compiler::new([&*folder, std::path::Path::new("proto")]).unwrap();
    let schema = compiler.include_imports(true).open_file("room.proto").unwrap().encode_file_descriptor_set();
    std::fs::remove_dir_all(&folder).unwrap();

    let mut handlers = Handlers::new();
    handlers.bidi("/room.v1.RoomService/Talk", &Arc::new(()), |_, _, words: Incoming<Opaque>| async { Ok(words) });
    handlers.server_stream("/room.v1.RoomService/Listen", &Arc::new(()), |_, _, word: Opaque| async {
        Ok(Box::pin(stream::iter([Ok(word)])) as Outgoing<Opaque>)
    });
    let (tasks, schema) = (Tasks::new(), Schema::read(&schema).unwrap());
    let rest = Rest::new(&schema, &handlers, Arc::new(Open), tasks.clone(), Surface::NEUTRAL).unwrap();
    Gateway::serve(rest, Arc::new(Open), tasks).await
}

#[tokio::test]
async fn messages_are_json_where_frames_are_not_raw() {
    let gateway = room().await;
    let attach = async |path: &str| {
        let request = format!("ws://{}{path}", gateway.address).into_client_request().unwrap();
        client_async(request, TcpStream::connect(gateway.address).await.unwrap()).await.unwrap().0
    };
    let mut talk = attach("/rooms/blue?count=1").await;
    let first: serde_json::Value = serde_json::from_str(heard(&mut talk).await.to_text().unwrap()).unwrap();
    assert_eq!(first, serde_json::json!({ "room": "blue", "count": "1" }));
    talk.send(Frame::text(r#"{"count": 2}"#)).await.unwrap();
    assert_eq!(heard(&mut talk).await, Frame::text(r#"{"count":"2"}"#));
    talk.send(Frame::text("{")).await.unwrap();
    let (code, reason) = closed(&mut talk).await;
    assert!(code == 1007 && reason.starts_with("invalid_json: "), "{code} {reason}");

    let mut listen = attach("/rooms/red/words").await;
    assert_eq!(heard(&mut listen).await, Frame::text(r#"{"room":"red"}"#));
    assert_eq!(closed(&mut listen).await, (1000, String::new()));
}

#[tokio::test]
async fn a_socket_is_a_connection_until_it_ends() {
    let house = House { gateway: Gateway::with_room_for(1, agent).await, gate: Arc::default() };
    let mut socket = house.attached("/agent/a").await;
    let mut next = TcpStream::connect(house.gateway.address).await.unwrap();
    next.write_all(b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    for word in ["hello from a"].into_iter().chain(std::iter::repeat_n("again", 100)) {
        assert_eq!(heard(&mut socket).await, Frame::text(word));
        socket.send(Frame::text("again")).await.unwrap();
    }
    let mut answer = [0; 12];
    assert!(next.try_read(&mut answer).is_err(), "nobody else is served beside it");
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    timeout(PATIENCE, next.read_exact(&mut answer)).await.expect("its place is free").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
}
