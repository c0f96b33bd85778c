//! A healthy caller, first alone and then beside guessers that try so many bad keys a second.
//!
//! Prints one line of JSON: what the caller waited, before and during the attack, and what became of the guesses.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use portico_peers::{Result, words};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{MissedTickBehavior, interval, sleep},
};

/// Connections that guess, each of them in bursts.
const GUESSERS: u32 = 20;
/// How often a burst goes out.
const BURST_EVERY: Duration = Duration::from_millis(20);
/// The healthy caller's pause between its calls.
const PAUSE: Duration = Duration::from_millis(2);

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What became of the guesses.
#[derive(Default)]
struct Attack {
    sent: Cell<u64>,
    refused: Cell<u64>,
    closed: Cell<u64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let [address, key, per_second, seconds] = words("guess HOST:PORT GOOD-KEY GUESSES-PER-SECOND SECONDS")?;
    let (per_second, seconds): (u32, u64) = (per_second.parse()?, seconds.parse()?);
    let time = Duration::from_secs(seconds);
    let alone = healthy(&address, &key, time).await?;
    let attack = Attack::default();
    let burst = per_second / GUESSERS * u32::try_from(BURST_EVERY.as_millis())? / 1_000;
    let guessing = async {
        join_all((0..GUESSERS).map(|guesser| guess(&address, guesser, burst, &attack))).await;
        Err("the guessers gave up".into())
    };
    let beside = tokio::select! {
        beside = healthy(&address, &key, time) => beside?,
        ended = guessing => return ended,
    };
    let line = serde_json::json!({
        "alone": alone, "beside": beside, "sent_per_second": attack.sent.get() / seconds,
        "refused_per_second": attack.refused.get() / seconds, "closed": attack.closed.get(),
    });
    println!("{line}");
    Ok(())
}

/// Calls for so long and answers what calls took.
async fn healthy(address: &str, key: &str, time: Duration) -> Result<serde_json::Value> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!("GET /api/v1/config HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\n\r\n");
    let (mut taken, until) = (Vec::new(), Instant::now() + time);
    while Instant::now() < until {
        let sent = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        if answers(&mut stream, 1).await? != (1, 1) {
            return Err("the healthy caller was refused".into());
        }
        taken.push(sent.elapsed().as_secs_f64() * 1e6);
        sleep(PAUSE).await;
    }
    taken.sort_by(f64::total_cmp);
    let at = |part: f64| taken[(taken.len() as f64 * part) as usize];
    Ok(serde_json::json!({"calls": taken.len(), "p50_us": at(0.5), "p99_us": at(0.99)}))
}

/// Sends bursts of bad keys for as long as it is let, and connects again when it is closed.
async fn guess(address: &str, guesser: u32, burst: u32, attack: &Attack) {
    // Each at a moment of its own, as strangers do.
    sleep(BURST_EVERY / GUESSERS * guesser).await;
    let mut tick = interval(BURST_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = 0;
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else { return };
        loop {
            tick.tick().await;
            let requests: String = (0..burst)
                .map(|_| {
                    number += 1;
                    let key = format!("pod_{guesser:03}{number:046}");
                    format!("GET /api/v1/config HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\n\r\n")
                })
                .collect();
            attack.sent.set(attack.sent.get() + u64::from(burst));
            if stream.write_all(requests.as_bytes()).await.is_err() {
                break;
            }
            let Ok((answers, _)) = answers(&mut stream, burst as usize).await else { break };
            attack.refused.set(attack.refused.get() + answers as u64);
            if answers < burst as usize {
                break;
            }
        }
        attack.closed.set(attack.closed.get() + 1);
    }
}

/// Reads this many answers, fewer when the connection ends. How many there were, and how many of them were good.
async fn answers(stream: &mut TcpStream, wanted: usize) -> Result<(usize, usize)> {
    let (mut heard, mut count, mut good) = (Vec::new(), 0, 0);
    while count < wanted {
        let Some(end) = heard.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) else {
            if stream.read_buf(&mut heard).await? == 0 {
                break;
            }
            continue;
        };
        let head = String::from_utf8_lossy(&heard[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let whole = end + length.ok_or("an answer without a length")?;
        while heard.len() < whole {
            if stream.read_buf(&mut heard).await? == 0 {
                return Ok((count, good));
            }
        }
        good += usize::from(head.starts_with("http/1.1 200"));
        count += 1;
        heard.drain(..whole);
    }
    Ok((count, good))
}
