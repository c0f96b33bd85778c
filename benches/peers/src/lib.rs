//! What the peers share: the messages of the stack of three crates, the store read that every server here does, and an echo.
//!
//! A newcomer's usual mistake is to make a peer slower or quicker than it would be alone. Each is what its own
//! documentation shows; only the allocator, the profile, TCP_NODELAY and the store are the gateway's.

pub mod protos {
    //! `deployments.proto` as connectrpc-axum, prost, pbjson and tonic see it.
    #![allow(clippy::all, clippy::pedantic)]
    include!(concat!(env!("OUT_DIR"), "/protos.rs"));
}

use std::{env, error::Error, path::Path, sync::Arc};

use futures_util::{SinkExt, StreamExt};
use portico::{
    backend::sqlite::Sqlite,
    base::clock::SystemClock,
    domain::{deployments::Deployment, table::Table},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{accept_async_with_config, tungstenite::protocol::WebSocketConfig};

/// Answered by every fallible thing here.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The gateway's own store, read the way the gateway reads it.
#[derive(Clone)]
pub struct Store(Table<Deployment>);

impl Store {
    /// Opens the data directory of a gateway that has stopped.
    pub fn open(directory: &str) -> Result<Store> {
        let sqlite = Sqlite::open(Path::new(directory), Arc::new(SystemClock)).map_err(|error| error.report())?;
        Ok(Store(Table::new(Arc::new(sqlite))))
    }

    /// The deployment of this id.
    pub async fn deployment(&self, id: &str) -> Result<Option<Deployment>> {
        let (name, _hash) = id.rsplit_once('@').unwrap_or((id, ""));
        Ok(self.0.get(name).await.map_err(|error| error.report())?.map(|stored| stored.value))
    }
}

/// The words of the command line; answers how to call this when there are fewer.
pub fn words<const N: usize>(usage: &str) -> Result<[String; N]> {
    let words: Vec<String> = env::args().skip(1).collect();
    words.try_into().map_err(|_| format!("usage: {usage}").into())
}

/// A port on this machine.
pub async fn listen(port: &str) -> Result<TcpListener> {
    Ok(TcpListener::bind(("127.0.0.1", port.parse::<u16>()?)).await?)
}

/// A WebSocket that answers each frame with itself. Ends without a word when the peer does.
pub async fn echo(stream: TcpStream) -> Result<()> {
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
