//! `WS /agent/{id}` across hosts: what one side does, and what the other one hears of it.

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message as Frame, protocol::CloseFrame},
};

use crate::support::{
    doors::socket::Socket,
    gateway::PATIENCE,
    hosts::{Cluster, ToldHost, ready},
};

/// A frame of more than 16 MiB.
const GIANT_BYTES: usize = (16 << 20) + 1;

/// A gateway, and a host that runs the instance `mine`.
struct Stage {
    cluster: Cluster,
    host: ToldHost,
}

impl Stage {
    async fn set() -> Stage {
        let host = ToldHost::start(ready()).await;
        let cluster = Cluster::start(0, &[host.address]).await;
        cluster.create("mine").await.expect(201);
        Stage { cluster, host }
    }

    /// A client's socket, and the host's end of it.
    async fn attached(&self) -> (Socket, WebSocketStream<TcpStream>) {
        let opening = Socket::open(&self.cluster.house, "/agent/mine", &self.cluster.tenant);
        let (near, far) = tokio::join!(opening, async { self.host.dialled().await.accept().await });
        (near.unwrap(), far)
    }
}

/// The next frame that is no ping.
async fn heard(far: &mut WebSocketStream<TcpStream>) -> Option<Frame> {
    loop {
        match tokio::time::timeout(PATIENCE, far.next()).await.expect("a frame in time")?.ok()? {
            Frame::Ping(_) | Frame::Pong(_) => {}
            frame => return Some(frame),
        }
    }
}

/// How the host's end is closed, whatever else comes before.
async fn farewell(mut far: WebSocketStream<TcpStream>) -> (u16, String) {
    loop {
        if let Frame::Close(frame) = heard(&mut far).await.expect("a farewell before the end") {
            let frame = frame.expect("a code");
            return (frame.code.into(), frame.reason.to_string());
        }
    }
}

#[tokio::test]
async fn upstream_closes_cleanly_and_code_and_reason_cross_both_ways() {
    let stage = Stage::set().await;
    for (code, reason) in [(1000, "done"), (1001, "going away"), (3000, ""), (4000, "the agent has had enough")] {
        let (near, mut far) = stage.attached().await;
        far.send(Frame::text("last words")).await.unwrap();
        far.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await.unwrap();
        assert_eq!(near.farewell().await, (code, reason.to_owned()));
        assert!(matches!(heard(&mut far).await, Some(Frame::Close(_))), "the host's farewell is answered");

        let (near, far) = stage.attached().await;
        near.leave(code, reason).await;
        assert_eq!(farewell(far).await, (code, reason.to_owned()));
    }
    stage.cluster.close().await;
}

#[tokio::test]
async fn giant_frame_is_1009_to_its_sender_and_1011_to_the_other() {
    let stage = Stage::set().await;
    let (mut near, far) = stage.attached().await;
    near.try_send(Frame::binary(vec![0; GIANT_BYTES])).await;
    assert_eq!(near.closed().await, 1009);
    assert_eq!(farewell(far).await, (1011, "peer_error".to_owned()));

    let (near, mut far) = stage.attached().await;
    let _refused = far.send(Frame::binary(vec![0; GIANT_BYTES])).await.is_err();
    let (code, reason) = near.farewell().await;
    assert!(code == 1011 && reason.starts_with("peer_error"), "{code} {reason}");
    assert_eq!(farewell(far).await.0, 1009);
    stage.cluster.close().await;
}

#[tokio::test]
async fn instance_deleted_while_attached_closes_with_4410_across_hosts() {
    let cluster = Cluster::start(1, &[]).await;
    cluster.create("mine").await.expect(201);
    cluster.until("/api/v1/instances/mine", |it| it["status"] == "ready").await;
    let near = Socket::open(&cluster.house, "/agent/mine", &cluster.tenant).await.unwrap();
    cluster.house.ask(&cluster.tenant, "DELETE", "/api/v1/instances/mine").send().await.expect(204);
    assert_eq!(near.closed().await, 4410);
    cluster.close().await;
}

#[tokio::test]
async fn client_sends_before_upstream_is_ready_and_nothing_is_lost() {
    let stage = Stage::set().await;
    // A client that does not wait for the answer to its handshake.
    let mut near = TcpStream::connect(stage.cluster.house.address()).await.unwrap();
    let head = format!(
        "GET /agent/mine HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        stage.cluster.tenant
    );
    near.write_all(head.as_bytes()).await.unwrap();
    // A whole text frame; its mask is zero.
    near.write_all(b"\x81\x85\0\0\0\0early").await.unwrap();
    let dialled = stage.host.dialled().await;
    let nothing = near.try_read(&mut [0; 1]).expect_err("no answer before the host's");
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);

    let mut far = dialled.accept().await;
    let mut answer = [0; 12];
    near.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    assert_eq!(heard(&mut far).await, Some(Frame::text("early")));
    stage.cluster.close().await;
}
