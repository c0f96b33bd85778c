//! Loads WebSockets: `round-trip` measures frames there and back, `idle` holds many sockets open.
//!
//! Prints one line of JSON. `idle` prints it when all sockets are open and have answered once, and then holds them until
//! its standard input ends.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt, future::try_join_all};
use portico_peers::{Result, words};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, client::IntoClientRequest, protocol::WebSocketConfig},
};

/// Handshakes at the same time: quick, and within every listener's backlog.
const HANDSHAKES_MAX: usize = 64;
/// An answer that takes longer is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sockets to one instance; more are refused.
const SOCKETS_OF_INSTANCE: usize = 16;

/// What to talk to, and how.
struct Target {
    /// `HOST:PORT/PATH`. A `#` in it becomes the number of the instance: so many sockets are for 0, as many for 1.
    address: String,
    /// Sent as a bearer token; none when empty.
    key: String,
    /// Sent in each round.
    frame: String,
    /// In the frame that ends a round; the first frame does when empty.
    until: String,
}

type Socket = WebSocketStream<TcpStream>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let [what, address, key, frame, until, sockets, rounds] =
        words("drive round-trip|idle HOST:PORT/PATH KEY FRAME UNTIL SOCKETS ROUNDS")?;
    let target = Target { address, key, frame, until };
    let (sockets, rounds): (usize, usize) = (sockets.parse()?, rounds.parse()?);
    match what.as_str() {
        "round-trip" => round_trips(&target, sockets, rounds).await,
        "idle" => idle(&target, sockets).await,
        _ => Err(format!("{what} is neither round-trip nor idle").into()),
    }
}

async fn round_trips(target: &Target, sockets: usize, rounds: usize) -> Result<()> {
    let open = try_join_all((0..sockets).map(|number| target.open(number))).await?;
    let started = Instant::now();
    let taken = try_join_all(open.into_iter().map(|mut socket| async move {
        let mut taken = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let sent = Instant::now();
            target.round(&mut socket).await?;
            taken.push(sent.elapsed());
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(taken)
    }))
    .await?;
    let seconds = started.elapsed().as_secs_f64();
    let mut taken: Vec<f64> = taken.into_iter().flatten().map(|one| one.as_secs_f64() * 1e6).collect();
    taken.sort_by(f64::total_cmp);
    let at = |part: f64| taken.get((taken.len() as f64 * part) as usize).copied().unwrap_or_default();
    let line = serde_json::json!({
        "rounds": taken.len(), "seconds": seconds, "p50_us": at(0.5), "p99_us": at(0.99),
    });
    println!("{line}");
    Ok(())
}

async fn idle(target: &Target, sockets: usize) -> Result<()> {
    let mut open = Vec::with_capacity(sockets);
    while open.len() < sockets {
        let batch = (sockets - open.len()).min(HANDSHAKES_MAX);
        let batch = (open.len()..open.len() + batch).map(|number| async move {
            let mut socket = target.open(number).await?;
            target.round(&mut socket).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(socket)
        });
        open.extend(try_join_all(batch).await?);
    }
    println!("{}", serde_json::json!({"open": open.len()}));
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

impl Target {
    async fn open(&self, number: usize) -> Result<Socket> {
        let address = self.address.replace('#', &(number / SOCKETS_OF_INSTANCE).to_string());
        let (authority, _) = address.split_once('/').ok_or("the address has no path")?;
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{address}").into_client_request()?;
        if !self.key.is_empty() {
            request.headers_mut().insert("authorization", format!("Bearer {}", self.key).parse()?);
        }
        let config = WebSocketConfig::default().read_buffer_size(4 << 10).write_buffer_size(0);
        let handshake = client_async_with_config(request, stream, Some(config));
        Ok(tokio::time::timeout(PATIENCE, handshake).await??.0)
    }

    async fn round(&self, socket: &mut Socket) -> Result<()> {
        socket.send(Message::text(self.frame.clone())).await?;
        loop {
            let frame = tokio::time::timeout(PATIENCE, socket.next()).await?.ok_or("the socket closed")??;
            if let Message::Text(text) = frame
                && text.contains(&self.until)
            {
                return Ok(());
            }
        }
    }
}
