//! A WebSocket that answers each frame with itself: what a round trip costs without a gateway in between.

use portico_peers::{Result, echo, listen, words};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<()> {
    let [port] = words("echo PORT")?;
    let listener = listen(&port).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(echo(stream));
    }
}
