//! A host that does nothing: it takes every instance at once, and answers each frame of a socket with itself.
//!
//! What a gateway costs is then measured alone, with as many instances as it takes.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use portico_peers::{Result, echo, listen, words};
use tokio::net::TcpStream;

/// Long enough for any head; a gateway's takes some hundred bytes.
const HEAD_BYTES: usize = 4 << 10;
/// How soon is looked again whether a head has come.
const PAUSE: Duration = Duration::from_millis(1);

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let [port] = words("host PORT")?;
    let listener = listen(&port).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream));
    }
}

/// Ends without a word when the peer does.
async fn serve(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    if asks_for_a_socket(&stream).await? {
        return echo(stream).await;
    }
    Ok(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await?)
}

/// Looks at the first head without taking it.
async fn asks_for_a_socket(stream: &TcpStream) -> Result<bool> {
    let mut head = [0; HEAD_BYTES];
    loop {
        let seen = stream.peek(&mut head).await?;
        let head = String::from_utf8_lossy(&head[..seen]).to_lowercase();
        if seen == 0 || head.contains("\r\n\r\n") {
            return Ok(head.contains("upgrade: websocket"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn answer(request: Request<Incoming>) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let says = match request.uri().path() {
        "/admin/status" => r#"{"coordinator_id":"idler","epoch":"1","max_agents":1000000,"status":"healthy"}"#,
        _ => r#"{"status":"ready"}"#,
    };
    Ok(Response::new(Full::from(says)))
}
