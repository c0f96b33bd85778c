//! What an upload costs in memory, however large it is.

use std::time::Duration;

use flate2::{Compression, write::GzEncoder};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    podium::deployments::noise,
    support::{
        gateway::ADMIN,
        installation::alone,
        minio,
        process::{Process, upload},
    },
};

/// The bound that is promised for a gibibyte. What does not grow over a quarter of one does not grow over the rest.
const GROWTH_BYTES_MAX: u64 = 32 << 20;
/// On its way to S3 are up to three parts of 8 MiB, and the allocator keeps some of those before. It stays flat all the same.
const GROWTH_TO_S3_BYTES_MAX: u64 = 64 << 20;
const CHUNK_BYTES: usize = 1 << 20;
/// How much goes to disk, and how much to S3.
const CHUNKS_TO_DISK: usize = 256;
const CHUNKS_TO_S3: usize = 128;
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::test]
async fn an_upload_of_any_size_grows_memory_by_at_most_32_mib_and_to_s3_by_a_bound_of_its_own() {
    let _alone = alone().await;
    let store = minio::minio();
    let on_s3 = format!(
        "blobs = 's3://{}?endpoint=http://{}'\ns3 = {{ access_key_id = '{}', secret_access_key = '{}' }}\n",
        minio::BUCKET,
        store.address(),
        minio::USER,
        minio::PASSWORD
    );
    for (blobs, chunks, growth_max) in
        [("", CHUNKS_TO_DISK, GROWTH_BYTES_MAX), (on_s3.as_str(), CHUNKS_TO_S3, GROWTH_TO_S3_BYTES_MAX)]
    {
        let process = Process::start(&format!("limits = 'off'\n{blobs}uploads = {{ bundle_bytes_max = '2GiB' }}\n"));
        // What the first upload of all brings into memory is not the size's.
        let (header, form) = upload("1.0.0");
        assert_eq!(process.ask("POST", "/api/v1/deployments", &[header], form).await.status, 201);
        let before = process.resident_bytes_peak();
        let answer = tokio::time::timeout(PATIENCE, stream(&process, chunks)).await.expect("an end in time");
        assert!(answer.starts_with("HTTP/1.1 201 ") && answer.contains("large:1.0.0@"), "{answer}");
        let growth = process.resident_bytes_peak().saturating_sub(before);
        assert!(growth <= growth_max, "{blobs:?}: it grew by {} KiB", growth >> 10);
    }
}

/// Uploads a bundle of one large file that does not get smaller, made while it is sent.
async fn stream(process: &Process, chunks: usize) -> String {
    let mut connection = TcpStream::connect(process.address()).await.unwrap();
    let head = format!(
        "POST /api/v1/deployments HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {ADMIN}\r\nconnection: close\r\n\
         content-type: multipart/form-data; boundary=b\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut fields = String::new();
    for (name, value) in [("agent_type", "large"), ("version", "1.0.0")] {
        fields += &format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    fields += "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"b\"\r\n\r\n";
    send(&mut connection, fields.as_bytes()).await;

    let mut packing = GzEncoder::new(Vec::new(), Compression::none());
    let mut header = tar::Header::new_gnu();
    header.set_path("large").unwrap();
    header.set_size((chunks * CHUNK_BYTES) as u64);
    header.set_mode(0o644);
    header.set_cksum();
    std::io::Write::write_all(&mut packing, header.as_bytes()).unwrap();
    let noise = noise(2 * CHUNK_BYTES);
    for at in 0..chunks {
        // Each chunk begins elsewhere in the noise.
        let from = at * 4_099 % CHUNK_BYTES;
        std::io::Write::write_all(&mut packing, &noise[from..from + CHUNK_BYTES]).unwrap();
        let packed = std::mem::take(packing.get_mut());
        send(&mut connection, &packed).await;
    }
    std::io::Write::write_all(&mut packing, &[0; 1_024]).unwrap();
    send(&mut connection, &packing.finish().unwrap()).await;
    send(&mut connection, b"\r\n--b--\r\n").await;
    connection.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Sends a piece of the body.
async fn send(connection: &mut TcpStream, piece: &[u8]) {
    if piece.is_empty() {
        return;
    }
    connection.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
    connection.write_all(piece).await.unwrap();
    connection.write_all(b"\r\n").await.unwrap();
}
