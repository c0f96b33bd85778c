//! A gateway that is killed in the middle of something, and what the next one makes of it.

use std::fs;

use portico::base::Secret;
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    podium::deployments::{fields, form},
    support::{
        gateway::{ADMIN, PATIENCE},
        hosts::{HANGS, ToldHost},
        postgres,
        process::{FORM, JSON, Process, upload},
        stage::bundle,
    },
};

const DEPLOYMENTS: &str = "/api/v1/deployments";
const INSTANCES: &str = "/api/v1/instances";

/// Begins a request whose answer nobody waits for.
async fn begin(process: &Process, path: &str, header: (&str, &str), body: &[u8], length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(process.address()).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\n{}: {}\r\ncontent-length: {length}\r\n\r\n",
        header.0, header.1
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    stream
}

/// Asks until it is so.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never {what}"));
}

#[tokio::test]
async fn gateway_killed_mid_upload_leaves_nothing_but_a_claim() {
    let mut process = Process::start("limits = 'off'\n");
    let bytes = bundle();
    let form = form(&fields("1.0.0", &bytes));
    let _half = begin(&process, DEPLOYMENTS, FORM, &form[..form.len() / 2], form.len()).await;
    let staging = process.folder().join("data/blobs/.staging");
    let is_spooled = || fs::read_dir(&staging).is_ok_and(|mut found| found.next().is_some());
    until("spooled", async || is_spooled()).await;

    process.restart();
    assert!(!is_spooled(), "a start removes what was spooled");
    let (header, again) = upload("1.0.0");
    let said = process.ask("POST", DEPLOYMENTS, &[header], again).await;
    assert_eq!((said.status.as_u16(), &said.json()["error"]["code"]), (409, &"upload_in_progress".into()));
    let seconds: u32 = said.header("retry-after").parse().unwrap();
    assert!(seconds <= 60, "{said:?}");
    // Every other name is free.
    let (header, other) = upload("1.0.1");
    assert_eq!(process.ask("POST", DEPLOYMENTS, &[header], other).await.status, 201);
    let listed = process.ask("GET", DEPLOYMENTS, &[], "").await.json();
    assert_eq!(listed["deployments"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn crash_between_placement_record_and_coordinator_call_is_settled_by_asking_the_host() {
    // It takes a start and says nothing; asked later, it knows one of the two.
    let host = ToldHost::start(Box::new(|head| match head {
        head if head.starts_with("POST /instances") => Some((HANGS, String::new())),
        head if head.starts_with("GET /agent/there/") => Some((200, r#"{"status": "ready"}"#.to_owned())),
        head if head.starts_with("GET /agent/") => Some((404, String::new())),
        _ => Some((200, "{}".to_owned())),
    }))
    .await;
    let records: Secret = postgres::database();
    let mut process = Process::start(&format!(
        "limits = 'off'\nrecords = '{}'\nfleet = 'coordinator:http://{}'\n",
        records.reveal(),
        host.address
    ));
    process.reaches(1).await;
    let (header, form) = upload("1.0.0");
    assert_eq!(process.ask("POST", DEPLOYMENTS, &[header], form).await.status, 201);
    let mut waiting = Vec::new();
    for id in ["there", "lost"] {
        let body = json!({"agent_type": "echo", "agent_id": id}).to_string();
        waiting.push(begin(&process, INSTANCES, JSON, body.as_bytes(), body.len()).await);
    }
    until("asked", async || host.asked("POST /instances").len() == 2).await;
    process.restart();
    let status = async |process: &Process, id: &str| {
        let said = process.ask("GET", &format!("{INSTANCES}/{id}"), &[], "").await;
        (said.status.as_u16(), said.json()["status"].as_str().unwrap_or_default().to_owned())
    };
    // It may still be on its way, for all that the next gateway knows.
    assert_eq!(postgres::sql(&records, "SELECT count(*) FROM portico_records WHERE collection = 'instances'"), "2\n");

    // As after a minute and a half.
    let aged = "UPDATE portico_records SET body = jsonb_set(body::jsonb, '{updated_at}', '1000')::text WHERE collection = 'instances'";
    postgres::sql(&records, aged);
    process.restart();
    until("written down", async || status(&process, "there").await == (200, "ready".to_owned())).await;
    until("removed", async || status(&process, "lost").await.0 == 404).await;
    let written = postgres::sql(&records, "SELECT id FROM portico_records WHERE collection = 'instances'");
    assert_eq!(written, "there\n");
}
