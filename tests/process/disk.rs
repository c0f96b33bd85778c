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
