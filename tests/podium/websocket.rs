//! `WS /agent/{id}`: what is told before the connection becomes a socket, and what a client gets that comes back. What
//! passes else is in `doors::live`.

use portico::port::fleet::FRAME_BYTES_MAX;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::support::{doors::socket::Socket, gateway::ADMIN, stage::Stage};

#[tokio::test]
async fn a_socket_that_cannot_be_is_refused_by_a_status() {
    let stage = Stage::set().await;
    let other = stage.house.key("other", &[]).await;
    let silent = stage.house.key("acme", &["instances:read"]).await;
    for (path, key, status, code) in [
        ("/agent/echo-1", "", 401, "unauthorized"),
        ("/agent/echo-1", silent.as_str(), 403, "permission_denied"),
        ("/agent/echo-1", other.as_str(), 404, "instance_not_found"),
        ("/agent/nobody", ADMIN, 404, "instance_not_found"),
        ("/agent/echo-1?since_seq=-1", ADMIN, 422, "validation_failed"),
    ] {
        let (answered, body) = Socket::open(&stage.house, path, key).await.err().unwrap();
        assert_eq!(answered, status, "{path} {body}");
        assert!(body.contains(code), "{path} {body}");
    }
    Socket::open(&stage.house, "/agent/echo-1", &stage.tenant).await.unwrap().close().await;
    stage.house.close().await;
}

#[tokio::test]
async fn who_says_what_was_seen_last_gets_what_came_after_it() {
    let stage = Stage::set().await;
    let mut socket = Socket::open(&stage.house, "/agent/echo-1", &stage.tenant).await.unwrap();
    let command = json!({"type": "process_message", "content": {"text": "hello", "messages": []}});
    socket.send(command.to_string()).await;
    let mut frames = vec![heard(&mut socket).await];
    while frames.last().unwrap()["type"] != "complete" {
        frames.push(heard(&mut socket).await);
    }
    socket.close().await;

    // What a query says is no frame: nothing of this one reaches the agent.
    let path = format!("/agent/echo-1?since_seq={}&text=unsaid&close.code=4000", frames[0]["seq"]);
    let mut back = Socket::open(&stage.house, &path, &stage.tenant).await.unwrap();
    for frame in &frames[1..] {
        assert_eq!(heard(&mut back).await, *frame);
    }
    back.echo("again").await;
    back.close().await;
    stage.house.close().await;
}

async fn heard(socket: &mut Socket) -> Value {
    let Frame::Text(text) = socket.next().await else { panic!("not text") };
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn the_largest_binary_frame_comes_back_whole() {
    let stage = Stage::set().await;
    let mut socket = Socket::open(&stage.house, "/agent/echo-1", &stage.tenant).await.unwrap();
    let largest = vec![7; FRAME_BYTES_MAX];
    socket.send(largest.clone()).await;
    assert!(socket.next().await == Frame::binary(largest), "another one");
    socket.echo("again").await;
    socket.close().await;
    stage.house.close().await;
}

#[tokio::test]
async fn proxies_stripping_upgrade_are_told_so_with_426() {
    let stage = Stage::set().await;
    // What a proxy leaves of a handshake that takes `Upgrade` for its own business.
    let asked = stage.house.ask(&stage.tenant, "GET", "/agent/echo-1");
    let asked = asked.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let plain = asked.send().await;
    assert_eq!(plain.refusal(), (426, "upgrade_required".to_owned()));
    assert!(plain.json()["error"]["message"].as_str().unwrap().contains("WebSocket handshake"), "{plain:?}");
    // Who may not open one is told that first.
    let stranger = stage.house.ask("", "GET", "/agent/echo-1").send().await;
    assert_eq!(stranger.refusal(), (401, "unauthorized".to_owned()));
    stage.house.close().await;
}
