//! `POST /api/v1/deployments`: what is too much, too slow, too clever or somebody else's.

use std::{io::Read, time::Duration};

use flate2::{Compression, write::GzEncoder};
use portico::domain::keys::TENANT_PERMISSIONS;
use serde_json::json;
use tar::{EntryType, Header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::deployments::{fields, form, noise, packed, upload};
use crate::support::{
    gateway::{ADMIN, PATIENCE, TestHouse},
    stage::{Stage, bundle},
};

const PATH: &str = "/api/v1/deployments";
/// How long an upload may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// Begins an upload over a connection of its own.
async fn begin(house: &TestHouse, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(house.address()).await.unwrap();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\n\
         content-type: multipart/form-data; boundary=b\r\n{headers}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// What is answered, up to the code of the error.
async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&answer).contains("\"code\"") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("an answer in time");
    String::from_utf8(answer).unwrap()
}

/// An archive with this entry beside an ordinary file. The name is written as it is.
fn archive(name: &str, kind: EntryType, target: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut plain = Header::new_gnu();
    plain.set_size(2);
    plain.set_mode(0o644);
    archive.append_data(&mut plain, "agent.json", &b"{}"[..]).unwrap();
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(0);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    archive.append(&header, &[][..]).unwrap();
    archive.into_inner().unwrap().finish().unwrap()
}

#[tokio::test]
async fn different_tenants_same_agent_type_belongs_to_the_first() {
    let house = TestHouse::start().await;
    let first = house.key("first", TENANT_PERMISSIONS).await;
    let second = house.key("second", TENANT_PERMISSIONS).await;
    upload(&house, &first, &fields("1.0.0", &bundle())).await.expect(201);
    for version in ["1.0.0", "2.0.0"] {
        let refused = upload(&house, &second, &fields(version, &bundle())).await;
        assert_eq!(refused.refusal(), (403, "agent_type_owned".to_owned()), "{version}");
    }
    upload(&house, &first, &fields("2.0.0", &bundle())).await.expect(201);
    house.close().await;
}

#[tokio::test]
async fn an_8_hex_prefix_collision_is_told_apart_by_version_and_by_more_digits() {
    let stage = Stage::set().await;
    // The same bytes under another version: the whole hash collides, its first 8 digits with it.
    let made = upload(&stage.house, ADMIN, &fields("1.1.0", &bundle())).await.expect(201);
    let (_, prefix) = stage.deployment_id.split_once('@').unwrap();
    assert_eq!(made["deployment_id"], format!("echo:1.1.0@{prefix}"));
    let checksum = made["checksum"].as_str().unwrap();
    for (at, version) in ["1.0.0", "1.1.0"].into_iter().enumerate() {
        for (number, hash) in [&checksum[..8], checksum].into_iter().enumerate() {
            let id = format!("agent-{at}-{number}");
            let body = json!({"deployment_id": format!("echo:{version}@{hash}"), "agent_id": id});
            stage.house.ask(&stage.tenant, "POST", "/api/v1/instances").json(&body).await.expect(201);
            let shown = stage.house.ask(&stage.tenant, "GET", &format!("/api/v1/instances/{id}")).send().await;
            assert_eq!(shown.expect(200)["version"], version);
        }
    }
    let ninth = if checksum.as_bytes()[8] == b'0' { '1' } else { '0' };
    let body = json!({"deployment_id": format!("echo:1.1.0@{prefix}{ninth}")});
    let refused = stage.house.ask(&stage.tenant, "POST", "/api/v1/instances").json(&body).await;
    assert_eq!(refused.refusal(), (409, "deployment_hash_mismatch".to_owned()));
    stage.house.close().await;
}

#[tokio::test]
async fn huge_bundle_is_413_by_its_length_and_while_it_streams() {
    let house = TestHouse::with(&[("PORTICO_LIMITS", "off"), ("PORTICO_UPLOADS_BUNDLE_BYTES_MAX", "1MiB")]).await;
    // By its length: the caller is not even told to go on.
    let mut waiting = begin(&house, "content-length: 3000000\r\nexpect: 100-continue").await;
    let told = answer(&mut waiting).await;
    assert!(told.starts_with("HTTP/1.1 413 ") && told.contains("bundle_too_large"), "{told}");

    // While it streams: 4 MiB of which nobody knew.
    let form = form(&fields("1.0.0", &packed(&noise(4 << 20))));
    let mut streaming = begin(&house, "transfer-encoding: chunked").await;
    let (mut from, mut to) = streaming.split();
    let sending = async {
        for chunk in form.chunks(64 << 10) {
            let written = to.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await;
            if written.and(to.write_all(&[chunk, b"\r\n"].concat()).await).is_err() {
                return;
            }
        }
    };
    let mut told = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&told).contains("bundle_too_large") {
            assert_ne!(from.read_buf(&mut told).await.unwrap(), 0, "{}", String::from_utf8_lossy(&told));
        }
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(sending, reading) }).await.expect("an answer in time");
    assert!(told.starts_with(b"HTTP/1.1 413 "), "{}", String::from_utf8_lossy(&told));
    house.close().await;
}

#[tokio::test]
async fn slow_loris_upload_is_408_after_30_s_without_a_byte() {
    let house = TestHouse::start().await;
    let mut loris = begin(&house, "content-length: 1000000").await;
    loris.write_all(b"--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n").await.unwrap();
    loris.write_all(&bundle()).await.unwrap();
    crate::doors::live::until_spooled(&house, true).await;
    // The thread that writes the file keeps paused time from running ahead by itself.
    tokio::time::pause();
    tokio::time::advance(SILENCE - Duration::from_secs(2)).await;
    assert_eq!(loris.try_read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it may still come");
    tokio::time::advance(Duration::from_secs(3)).await;
    let told = answer(&mut loris).await;
    tokio::time::resume();
    assert!(told.starts_with("HTTP/1.1 408 ") && told.contains("upload_timeout"), "{told}");
    crate::doors::live::until_spooled(&house, false).await;
    house.close().await;
}

#[tokio::test]
async fn traversal_links_out_of_root_devices_are_400_and_named() {
    let house = TestHouse::start().await;
    for (name, kind, target) in [
        ("../escape", EntryType::Regular, ""),
        ("/absolute", EntryType::Regular, ""),
        ("a/../../escape", EntryType::Regular, ""),
        ("out", EntryType::Symlink, "../../etc/passwd"),
        ("absolute", EntryType::Symlink, "/etc/passwd"),
        ("hard", EntryType::Link, "/etc/passwd"),
        ("device", EntryType::Char, ""),
        ("block", EntryType::Block, ""),
        ("pipe", EntryType::Fifo, ""),
        ("back\\slash", EntryType::Fifo, ""),
    ] {
        let answer = upload(&house, ADMIN, &fields("1.0.0", &archive(name, kind, target))).await;
        assert_eq!(answer.refusal(), (400, "unsafe_archive_entry".to_owned()), "{name}");
        assert_eq!(answer.json()["error"]["details"]["entry"], name, "{answer:?}");
    }
    let listed = house.ask(ADMIN, "GET", PATH).send().await.expect(200);
    assert_eq!(listed["deployments"], json!([]));
    house.close().await;
}

#[tokio::test]
async fn decompression_bomb_is_413_while_it_is_read() {
    let house = TestHouse::start().await;
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    let mut header = Header::new_gnu();
    header.set_size(80 << 20);
    header.set_mode(0o644);
    archive.append_data(&mut header, "zeros", std::io::repeat(0).take(80 << 20)).unwrap();
    let bomb = archive.into_inner().unwrap().finish().unwrap();
    assert!(bomb.len() < 200 << 10, "{}", bomb.len());
    let answer = upload(&house, ADMIN, &fields("1.0.0", &bomb)).await;
    assert_eq!(answer.refusal(), (413, "bundle_expands_too_large".to_owned()));
    house.close().await;
}

#[tokio::test]
async fn per_route_body_caps_let_a_bundle_be_larger_than_any_message() {
    let house = TestHouse::start().await;
    let large = noise(3 << 20);
    upload(&house, ADMIN, &fields("1.0.0", &packed(&large))).await.expect(201);
    let text: String = large.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    for (verb, path, body) in [
        ("POST", "/api/v1/keys", json!({"tenant_id": "acme", "name": text})),
        ("POST", "/api/v1/instances", json!({"agent_type": "echo", "config": {"text": text}})),
        ("PUT", "/api/v1/secrets/echo", json!({"A": text})),
        ("PUT", "/api/v1/config", json!({"defaults": {"system_prompt": text}})),
    ] {
        let answer = house.ask(ADMIN, verb, path).json(&body).await;
        assert_eq!(answer.refusal(), (413, "body_too_large".to_owned()), "{verb} {path}");
    }
    house.close().await;
}
