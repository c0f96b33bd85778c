//! WebSockets over real connections: handshakes, frames, closing.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portico::{
    base::{Code, Error, Incoming, Outgoing, reason, tasks::Tasks},
    edge::{Config, Edge, listen},
    schema::Schema,
    wire::{Handlers, podium::v1 as podium},
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error as SocketError, Message as Frame,
        client::IntoClientRequest,
        handshake::client::Response,
        protocol::{CloseFrame, Role},
    },
};

use super::support::{Revocable, guarded};

/// A gateway on a free port, with an agent that repeats what it hears.
struct Gateway {
    address: SocketAddr,
    gate: Arc<Revocable>,
    tasks: Tasks,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.tasks.close();
    }
}

impl Gateway {
    async fn start() -> Gateway {
        let (gate, tasks) = (Arc::new(Revocable::default()), Tasks::new());
        let rest = guarded(Arc::clone(&gate) as _, tasks.clone(), agent);
        let schema = Schema::read(portico::wire::SCHEMA).unwrap();
        let edge = Edge::new(&schema, &Handlers::new(), Arc::clone(&gate) as _, tasks.clone(), Config::default());
        let edge = Arc::new(edge.with_web(Arc::new(rest)));
        let config = listen::Config::plain("127.0.0.1:0".parse().unwrap());
        let listener = listen::Listener::bind(config, tasks.clone()).await.unwrap();
        let address = listener.address();
        tasks.spawn(listener.serve(edge));
        Gateway { address, gate, tasks }
    }

    async fn attach(&self, path: &str, protocols: &str) -> Result<(WebSocketStream<TcpStream>, Response), SocketError> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        if !protocols.is_empty() {
            request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
        }
        client_async(request, TcpStream::connect(self.address).await.unwrap()).await
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
    let gateway = Gateway::start().await;
    let mut socket = gateway.attached("/agent/agent_1?unknown=1").await;
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
    let gateway = Gateway::start().await;
    let (status, body) = gateway.refused("/agent/gone").await;
    assert!(status == 404 && body.contains(r#""code":"instance_not_found""#), "{status} {body}");
    let (status, body) = gateway.refused("/agent/ended").await;
    assert!(status == 410 && body.contains(r#""code":"instance_terminated""#), "{status} {body}");
    assert_eq!(gateway.refused("/nowhere").await.0, 404);
}

#[tokio::test]
async fn browsers_bring_their_key_as_a_subprotocol() {
    let gateway = Gateway::start().await;
    let (_socket, response) = gateway.attach("/agent/a", "podium.native.v1, bearer.pod_secret").await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "podium.native.v1");
    assert_eq!(gateway.gate.bearer.lock().unwrap().as_deref(), Some("pod_secret"));
    let (_socket, response) = gateway.attach("/agent/a", "").await.unwrap();
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
}

#[tokio::test]
async fn every_end_has_its_close_code() {
    let gateway = Gateway::start().await;

    let mut ended = gateway.attached("/agent/a").await;
    ended.send(Frame::text("bye")).await.unwrap();
    assert_eq!(closed(&mut ended).await, (1000, String::new()));

    let mut failed = gateway.attached("/agent/a").await;
    failed.send(Frame::text("die")).await.unwrap();
    assert_eq!(closed(&mut failed).await, (4410, "instance_terminated: it has ended".into()));

    let mut large = gateway.attached("/agent/a").await;
    let frame = Frame::binary(vec![0; (16 << 20) + 1]);
    // The gateway stops reading at the head of the frame, so sending may fail; what counts is what it says.
    let _cut_off = tokio::time::timeout(std::time::Duration::from_secs(1), large.send(frame)).await;
    assert_eq!(closed(&mut large).await.0, 1009);

    let mut revoked = gateway.attached("/agent/a").await;
    assert_eq!(heard(&mut revoked).await, Frame::text("hello from a"));
    gateway.gate.ended.cancel();
    assert_eq!(closed(&mut revoked).await.0, 4401);
}

#[tokio::test]
async fn a_closing_house_sends_its_callers_elsewhere() {
    let gateway = Gateway::start().await;
    let mut socket = gateway.attached("/agent/a").await;
    assert_eq!(heard(&mut socket).await, Frame::text("hello from a"));
    gateway.tasks.close();
    assert_eq!(closed(&mut socket).await.0, 1012);
    assert_eq!(gateway.tasks.wait(std::time::Duration::from_secs(5)).await, 0);
}

#[tokio::test]
async fn http_2_opens_sockets_too() {
    let gateway = Gateway::start().await;
    let stream = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    gateway.tasks.spawn(async move { connection.await.unwrap_or_default() });
    let request = http::Request::builder()
        .method("CONNECT")
        .uri(format!("http://{}/agent/two", gateway.address))
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(http_body_util::Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let upgraded = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
    assert_eq!(heard(&mut socket).await, Frame::text("hello from two"));
    socket.send(Frame::binary(Bytes::from_static(b"over h2"))).await.unwrap();
    assert_eq!(heard(&mut socket).await, Frame::binary(Bytes::from_static(b"over h2")));
}
