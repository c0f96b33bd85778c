//! A disk that is full.

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
    assert_eq!(listed.json()["deployments"], serde_json::json!([]));
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
    assert_eq!(listed.json()["files"], serde_json::json!([]), "{listed:?}");
    process.logs("cannot be removed and was put aside").await;
}
