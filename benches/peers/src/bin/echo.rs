//! A WebSocket that answers each frame with itself: what a round trip costs without a gateway in between.

use futures_util::{SinkExt, StreamExt};
use portico_peers::{Result, listen, words};
use tokio::net::TcpStream;
use tokio_tungstenite::{accept_async_with_config, tungstenite::protocol::WebSocketConfig};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<()> {
    let [port] = words("echo PORT")?;
    let listener = listen(&port).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream));
    }
}

/// Ends without a word when the peer does.
async fn serve(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    // The default reads into 128 KiB per socket; this is what one would set for many sockets.
    let config = WebSocketConfig::default().read_buffer_size(4 << 10).write_buffer_size(0);
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    while let Some(frame) = socket.next().await {
        let frame = frame?;
        if frame.is_text() || frame.is_binary() {
            socket.send(frame).await?;
        }
    }
    Ok(())
}
