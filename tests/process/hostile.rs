//! Callers that mean harm: each is closed or refused, memory stays bounded, and healthy callers are served.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{doors::envelope, process::Process};

/// The patience for a head and for a greeting, and some for a busy machine.
const CLOSED_WITHIN: Duration = Duration::from_secs(20);
const GROWTH_BYTES_MAX: u64 = 64 << 20;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `GET http://g/` in HPACK.
const HEAD: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'g'];

#[tokio::test]
async fn header_read_timeout_10_s_closes_slow_heads_and_half_open_sockets() {
    let process = Process::start("");
    let before = process.resident_bytes_peak();
    let began = Instant::now();
    let starts: [&[u8]; 4] = [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nhost: g\r\nx-a: ", &PREFACE[..9]];
    join_all(starts.iter().cycle().take(40).map(|start| attack(&process, start, 0, |_| Vec::new()))).await;
    assert!(began.elapsed() > Duration::from_secs(8), "a slow caller is not a hostile one yet");
    well(&process, before).await;
}

#[tokio::test]
async fn general_hardening_rapid_reset_closes_the_connection() {
    let process = Process::start("");
    let before = process.resident_bytes_peak();
    attack(&process, PREFACE, 200, |round| {
        let streams = (0..100).map(|stream| (round * 100 + stream) * 2 + 1);
        let frames = streams.flat_map(|stream| {
            [frame(1, END_STREAM | END_HEADERS, stream, HEAD), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
        });
        frames.collect()
    })
    .await;
    well(&process, before).await;
}

#[tokio::test]
async fn general_hardening_a_continuation_flood_closes_the_connection() {
    let process = Process::start("");
    let before = process.resident_bytes_peak();
    let more = [0, 1, b'a', 1, b'b'].repeat(3_000);
    let start = [PREFACE, &frame(1, END_STREAM, 1, HEAD)].concat();
    attack(&process, &start, 5_000, |_| frame(9, 0, 1, &more)).await;
    well(&process, before).await;
}

#[tokio::test]
async fn general_hardening_a_settings_flood_by_a_peer_that_never_reads_takes_no_memory() {
    let process = Process::start("");
    let before = process.resident_bytes_peak();
    let mut peer = TcpStream::connect(process.address()).await.unwrap();
    peer.write_all(PREFACE).await.unwrap();
    let flood = frame(4, 0, 0, &[]).repeat(4_000_000);
    // The process stops to read when its acknowledgements are not read, or it closes: both are fine.
    let _written = tokio::time::timeout(Duration::from_secs(3), peer.write_all(&flood)).await.is_ok();
    well(&process, before).await;
}

#[tokio::test]
async fn max_headers_64_kib_larger_ones_are_431() {
    let process = Process::start("");
    let huge = "a".repeat(128 << 10);
    let said = process.ask("GET", "/health", &[("x-huge", &huge)], "").await;
    assert_eq!(said.status, 431, "{said:?}");
}

#[tokio::test]
async fn body_caps_hold_for_what_a_compressed_bomb_becomes() {
    let process = Process::start("");
    let before = process.resident_bytes_peak();
    let mut packing = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..256 {
        packing.write_all(&[b' '; 1 << 20]).unwrap();
    }
    let bomb = packing.finish().unwrap();
    let path = "/podium.v1.InstancesService/FollowLogs";
    let stream = [("content-type", "application/connect+json"), ("connect-content-encoding", "gzip")];
    let web = [("content-type", "application/grpc-web+json"), ("grpc-encoding", "gzip")];
    let said = process.ask("POST", path, &stream, envelope(1, &bomb)).await;
    assert!(String::from_utf8_lossy(&said.body).contains("resource_exhausted"), "{said:?}");
    let said = process.ask("POST", path, &web, envelope(1, &bomb)).await;
    let told = format!("{said:?}");
    assert!(told.contains("grpc-status: 8") || told.contains("\"grpc-status\": \"8\""), "{told}");
    well(&process, before).await;
}

#[tokio::test]
async fn malformed_envelopes_are_refused_before_their_length_is_believed() {
    let process = Process::start("");
    let before = process.resident_bytes_peak();
    let unknown_flags = envelope(0xfc, b"{}");
    let huge_length = [&[0, 0xff, 0xff, 0xff, 0xff][..], b"{}"].concat();
    let cut = envelope(0, b"{}")[..4].to_vec();
    for (body, codes) in [
        (unknown_flags, &["invalid_argument"][..]),
        (huge_length, &["resource_exhausted"]),
        (cut, &["invalid_argument", "internal"]),
    ] {
        let stream = [("content-type", "application/connect+json")];
        let said = process.ask("POST", "/podium.v1.InstancesService/FollowLogs", &stream, body).await;
        let told = String::from_utf8_lossy(&said.body);
        assert!(codes.iter().any(|code| told.contains(code)), "{codes:?}: {told}");
    }
    well(&process, before).await;
}

#[tokio::test]
async fn tiny_windows_keep_no_answer_in_memory_without_a_bound() {
    let process = Process::start("");
    // A document that needs no key and is far larger than any window here.
    let document = process.ask("GET", "/openapi.json", &[], "").await;
    assert!(document.body.len() > 32 << 10, "{} bytes", document.body.len());
    let before = process.resident_bytes_peak();
    // A window of one byte for each stream, and as many streams as may be open, none of which is ever read.
    let window = frame(4, 0, 0, &[0, 4, 0, 0, 0, 1]);
    let ask = [&[0x82, 0x86, 0x41, 1, b'g', 0x04, 13][..], b"/openapi.json"].concat();
    let streams = (0..250).flat_map(|stream| frame(1, END_STREAM | END_HEADERS, stream * 2 + 1, &ask));
    let bytes: Vec<u8> = PREFACE.iter().copied().chain(window).chain(streams).collect();
    let mut peers = Vec::new();
    for _ in 0..8 {
        let mut peer = TcpStream::connect(process.address()).await.unwrap();
        peer.write_all(&bytes).await.unwrap();
        // The head of an answer takes some 50 bytes: nearly all have begun.
        peer.read_exact(&mut [0; 200 * 30]).await.unwrap();
        peers.push(peer);
    }
    well(&process, before).await;
}

/// Sends until it is closed, which must be soon.
async fn attack(process: &Process, start: &[u8], rounds: u32, round: impl Fn(u32) -> Vec<u8>) {
    let mut peer = TcpStream::connect(process.address()).await.unwrap();
    peer.write_all(start).await.unwrap();
    let (mut from, mut to) = peer.split();
    let write = async {
        for number in 0..rounds {
            if to.write_all(&round(number)).await.is_err() {
                return;
            }
        }
    };
    let mut answer = Vec::new();
    // An end and a reset are both a closed connection.
    let closed = async { tokio::join!(write, from.read_to_end(&mut answer)).1.is_ok() };
    assert!(tokio::time::timeout(CLOSED_WITHIN, closed).await.is_ok(), "the attacker is still there");
}

/// A healthy caller is served, and memory is bounded.
async fn well(process: &Process, before: u64) {
    assert_eq!(process.ask("GET", "/api/v1/keys", &[], "").await.status, 200);
    let growth = process.resident_bytes_peak().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "it grew by {growth} bytes");
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}
