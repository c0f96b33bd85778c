//! A disk that is full.

use flate2::{Compression, write::GzEncoder};
use serde_json::json;

use crate::{
    podium::deployments::{fields, form, noise, packed},
    support::process::{FORM, Process, upload},
};

const PATH: &str = "/api/v1/deployments";

#[tokio::test]
async fn disk_full_on_spool_is_507_and_what_fits_is_still_taken() {
    let process = Process::start_with_a_small_disk(
        1_024,
        "limits = 'off'\nrecords = 'sqlite:{folder}/records'\nblobs = 'file:{folder}/small/blobs'\n",
    );
    let large = packed(&noise(3 << 20));
    let said = process.ask("POST", PATH, &[FORM], form(&fields("1.0.0", &large))).await;
    assert_eq!((said.status.as_u16(), &said.json()["error"]["code"]), (507, &"storage_full".into()));
    let listed = process.ask("GET", PATH, &[], "").await;
    assert_eq!(listed.json()["deployments"], json!([]));
    // What was spooled of it is gone, so there is room again.
    let (header, form) = upload("1.0.0");
    let said = process.ask("POST", PATH, &[header], form).await;
    assert_eq!(said.status, 201, "{said:?}");
    assert_eq!(process.ask("GET", "/health/ready", &[], "").await.status, 200);
}

#[tokio::test]
async fn what_cannot_be_removed_neither_keeps_a_gateway_from_starting_nor_comes_to_a_new_instance() {
    // Nobody can remove a folder that a file system is mounted on.
    let left = "data/fleet/instances/echo-1";
    let process = Process::start_with_a_disk_at(&format!("{left}/workspace/busy"), 64, "limits = 'off'\n");
    process.echo("echo-1").await;
    let listed = process.ask("GET", "/api/v1/instances/echo-1/files", &[], "").await;
    assert_eq!(listed.json()["files"], json!([]), "{listed:?}");
    process.logs("cannot be removed and was put aside").await;
}

#[tokio::test]
async fn bundles_that_nobody_runs_make_room_on_a_full_disk_and_what_does_not_fit_at_all_is_507() {
    let process = Process::start_with_a_disk_at("data/fleet/deployments", 4_096, "limits = 'off'\n");
    // Each takes its size twice while it is unpacked. What is told of an agent that ends at once: it was run.
    for (version, bytes, code) in [
        ("1.0.0", 3 << 19, "deployment_failed"),
        ("2.0.0", (3 << 19) + 1, "deployment_failed"),
        ("3.0.0", 3 << 20, "storage_full"),
        ("1.0.0", 3 << 19, "deployment_failed"),
    ] {
        let bundle = brief(&noise(bytes));
        let uploaded = process.ask("POST", PATH, &[FORM], form(&fields(version, &bundle))).await;
        assert!(uploaded.status.is_success(), "{uploaded:?}");
        let start = json!({"deployment_id": uploaded.json()["deployment_id"]}).to_string();
        let said = process.ask("POST", "/api/v1/instances", &[("content-type", "application/json")], start).await;
        assert_eq!(said.json()["error"]["code"], code, "{said:?}");
    }
}

/// A bundle with an agent that ends at once, and this beside it.
fn brief(content: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, content) in [("agent.json", br#"{"command": ["true"]}"#.as_slice()), ("content", content)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}
