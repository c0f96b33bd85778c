//! Small requests that become large: refused while they grow, over real HTTP/2 too.

use std::io::Write;

use bytes::Bytes;
use connectrpc::compression::{CompressionProvider, ZstdProvider};
use flate2::{Compression, write::GzEncoder};
use futures_util::future::join_all;

use crate::support::{
    doors::envelope,
    installation::alone,
    process::{Process, call},
};

/// What each bomb becomes.
const BOMB_BYTES: usize = 64 << 20;
/// Eight at the same time would take 512 MiB; unpacked to the limit of a message they take this, with what unpacks them.
const GROWTH_BYTES_MAX: u64 = 128 << 20;
const UNARY: &str = "/podium.v1.KeysService/CreateKey";

/// Blanks, which are JSON's idea of nothing, packed in every way that is understood.
fn bombs() -> [(&'static str, Bytes); 3] {
    let blanks = vec![b' '; BOMB_BYTES];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&blanks).unwrap();
    let mut br = brotli::CompressorWriter::new(Vec::new(), 1 << 16, 1, 22);
    br.write_all(&blanks).unwrap();
    [
        ("gzip", gzip.finish().unwrap().into()),
        ("br", br.into_inner().into()),
        ("zstd", ZstdProvider::default().compress(&blanks).unwrap()),
    ]
}

#[tokio::test]
async fn compressed_bombs_in_every_coding_are_refused_while_they_grow() {
    let _alone = alone().await;
    let process = Process::start("limits = 'off'\n");
    let bombs = bombs();
    let before = process.resident_bytes_peak();
    for (coding, bomb) in &bombs {
        assert!(bomb.len() < 4 << 20, "{coding}: it comes in whole");
        let unary = [("content-type", "application/json"), ("content-encoding", coding)];
        let said = process.ask("POST", UNARY, &unary, bomb.clone()).await;
        assert!(String::from_utf8_lossy(&said.body).contains("resource_exhausted"), "{coding}: {said:?}");

        let grpc = [("content-type", "application/grpc+json"), ("te", "trailers"), ("grpc-encoding", coding)];
        let connection = process.connect_http2().await;
        // Several at the same time, as one connection can.
        let calls = (0..8).map(|_| call(&connection, UNARY, &grpc, envelope(1, bomb).into()));
        for said in join_all(calls).await {
            assert_eq!(said.header("grpc-status"), "8", "{coding}: {said:?}");
        }
    }
    assert_eq!(process.ask("GET", "/api/v1/keys", &[], "").await.status, 200);
    let growth = process.resident_bytes_peak().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "it grew by {growth} bytes");
}
