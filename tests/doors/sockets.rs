//! The listener, over a real socket.

use std::time::Duration;

use portico::edge::listen::{self, Listener};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
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
