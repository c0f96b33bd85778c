//! `/api/v1/instances`: create, show, stop.

use std::sync::atomic::{AtomicBool, Ordering};

use portico::domain::keys::TENANT_PERMISSIONS;
use serde_json::json;

use super::deployments::{fields, upload};
use crate::support::{
    doors::socket::Socket,
    gateway::{ADMIN, TestHouse},
    hosts::ToldHost,
    stage::{Stage, bundle},
};

const PATH: &str = "/api/v1/instances";

#[tokio::test]
async fn an_instance_shows_its_state_and_keeps_its_secrets() {
    let stage = Stage::set().await;
    let (house, tenant) = (&stage.house, stage.tenant.as_str());
    let body = json!({
        "deployment_id": stage.deployment_id, "agent_id": "mine", "config": {"model": "m", "temperature": 0.7, "api_key": "ens_hidden"},
        "secrets": {"ensemble_api_key": "ens_hidden"},
    });
    let answer = house.ask(tenant, "POST", PATH).json(&body).await;
    let made = answer.expect(201);
    assert_eq!(
        (&made["instance_id"], &made["agent_id"], &made["ws_url"]),
        (&json!("mine"), &json!("mine"), &json!("/agent/mine"))
    );
    assert_eq!(answer.header("location"), "/api/v1/instances/mine");
    assert!(!String::from_utf8_lossy(&answer.body).contains("ens_hidden"));

    let shown = stage.until("/api/v1/instances/mine", |instance| instance["status"] == "ready").await;
    assert_eq!(shown["config"]["api_key"], "***");
    assert_eq!((&shown["config"]["model"], &shown["tenant_id"]), (&json!("m"), &json!("acme")));
    assert_eq!(shown["chronicle_ws_endpoint"], json!(null));
    assert!(!shown.to_string().contains("ens_hidden"));

    house.ask(tenant, "DELETE", "/api/v1/instances/mine").send().await.expect(204);
    for verb in ["GET", "DELETE"] {
        let refusal = house.ask(tenant, verb, "/api/v1/instances/mine").send().await.refusal();
        assert_eq!(refusal, (404, "instance_not_found".to_owned()), "{verb}");
    }
    stage.house.close().await;
}

#[tokio::test]
async fn a_chronicle_is_shown_below_its_public_base_and_without_one_not_at_all() {
    let host = ToldHost::start(Box::new(|head| {
        let told = r#"{"status": "ready", "chronicle_ws_endpoint": "ws://10.0.0.7:7000/mine?at=1"}"#;
        Some(if head.starts_with("DELETE") { (204, String::new()) } else { (200, told.to_owned()) })
    }))
    .await;
    let fleet = format!("coordinator:http://{}", host.address);
    for (base, expected) in
        [("wss://chronicle.example.com/c", json!("wss://chronicle.example.com/c/mine?at=1")), ("", json!(null))]
    {
        let mut variables =
            vec![("PORTICO_LIMITS", "off"), ("PORTICO_FLEET", fleet.as_str()), ("COORDINATOR_TOKEN", "told")];
        if !base.is_empty() {
            variables.push(("PORTICO_CHRONICLE_PUBLIC_BASE", base));
        }
        let house = TestHouse::with(&variables).await;
        let deployed = upload(&house, ADMIN, &fields("1.0.0", &bundle())).await.expect(201);
        let body = json!({"deployment_id": deployed["deployment_id"], "agent_id": "mine"});
        let made = house.ask(ADMIN, "POST", PATH).json(&body).await.expect(201);
        assert_eq!(made["chronicle_ws_endpoint"], expected);
        let shown = house.ask(ADMIN, "GET", "/api/v1/instances/mine").send().await.expect(200);
        assert_eq!(shown["chronicle_ws_endpoint"], expected);
        let listed = house.ask(ADMIN, "GET", PATH).send().await;
        assert_eq!(listed.expect(200)["instances"][0]["chronicle_ws_endpoint"], expected);
        assert!(!String::from_utf8_lossy(&listed.body).contains("10.0.0.7"));
        house.close().await;
    }
}

#[tokio::test]
async fn a_message_to_an_instance_that_is_on_its_way_waits_for_it() {
    let was_asked = AtomicBool::new(false);
    let host = ToldHost::start(Box::new(move |head| {
        Some(if head.starts_with("POST") && head.contains("/messages ") {
            match was_asked.swap(true, Ordering::Relaxed) {
                false => (409, r#"{"error": {"code": "instance_not_ready", "message": "soon"}}"#.to_owned()),
                true => (202, r#"{"message_id": "msg_1"}"#.to_owned()),
            }
        } else {
            (200, r#"{"status": "ready"}"#.to_owned())
        })
    }))
    .await;
    let fleet = format!("coordinator:http://{}", host.address);
    let house =
        TestHouse::with(&[("PORTICO_LIMITS", "off"), ("PORTICO_FLEET", &fleet), ("COORDINATOR_TOKEN", "told")]).await;
    let deployed = upload(&house, ADMIN, &fields("1.0.0", &bundle())).await.expect(201);
    let body = json!({"deployment_id": deployed["deployment_id"], "agent_id": "mine"});
    house.ask(ADMIN, "POST", PATH).json(&body).await.expect(201);
    let sent = house.ask(ADMIN, "POST", "/api/v1/instances/mine/messages").json(&json!({"text": "hello"})).await;
    assert_eq!(sent.expect(202)["message_id"], "msg_1");
    house.close().await;
}

#[tokio::test]
async fn an_instance_of_nothing_is_not_created() {
    let stage = Stage::set().await;
    let local = "echo:1.0.0@local";
    for (body, status, code) in [
        (json!({}), 422, "missing_field"),
        (json!({"deployment_id": "echo"}), 422, "invalid_deployment_id"),
        (json!({"deployment_id": "other:1.0.0@2b795103"}), 404, "deployment_not_found"),
        (json!({"deployment_id": local, "config": {"workspace": "/"}}), 422, "validation_failed"),
        (json!({"deployment_id": local, "environment": {"LD_PRELOAD": "x"}}), 422, "validation_failed"),
        (json!({"deployment_id": local, "agent_id": "a/b"}), 422, "validation_failed"),
    ] {
        let answer = stage.house.ask(&stage.tenant, "POST", PATH).json(&body).await;
        assert_eq!(answer.refusal(), (status, code.to_owned()), "{body}");
    }
    stage.house.close().await;
}

#[tokio::test]
async fn hash_in_id_is_not_stored_hash_is_409() {
    let stage = Stage::set().await;
    let (stored, hash) = stage.deployment_id.split_once('@').unwrap();
    let other = if hash.starts_with('0') { "1" } else { "0" };
    for wrong in [format!("{stored}@{other}{}", &hash[1..]), format!("{stored}@{hash}{}", other.repeat(56))] {
        let answer = stage.house.ask(&stage.tenant, "POST", PATH).json(&json!({"deployment_id": wrong})).await;
        assert_eq!(answer.refusal(), (409, "deployment_hash_mismatch".to_owned()), "{wrong}");
    }
    let listed = stage.house.ask(&stage.tenant, "GET", PATH).send().await.expect(200);
    assert_eq!(listed["instances"].as_array().unwrap().len(), 1, "nothing else was run");
    stage.house.close().await;
}

#[tokio::test]
async fn deployment_owned_by_another_tenant_is_404() {
    let house = TestHouse::start().await;
    let owner = house.key("owner", TENANT_PERMISSIONS).await;
    let other = house.key("other", TENANT_PERMISSIONS).await;
    let made = upload(&house, &owner, &fields("1.0.0", &bundle())).await.expect(201);
    for wanted in [json!({"deployment_id": made["deployment_id"]}), json!({"agent_type": "echo"})] {
        let refusal = house.ask(&other, "POST", PATH).json(&wanted).await.refusal();
        assert_eq!(refusal, (404, "deployment_not_found".to_owned()), "{wanted}");
    }
    house.close().await;
}

#[tokio::test]
async fn instance_id_guessed_by_another_tenant_is_404_by_get_delete_and_socket() {
    let stage = Stage::set().await;
    let other = stage.house.key("other", TENANT_PERMISSIONS).await;
    for verb in ["GET", "DELETE"] {
        let refusal = stage.house.ask(&other, verb, "/api/v1/instances/echo-1").send().await.refusal();
        assert_eq!(refusal, (404, "instance_not_found".to_owned()), "{verb}");
    }
    let (status, body) = Socket::open(&stage.house, "/agent/echo-1", &other).await.err().unwrap();
    assert!(status == 404 && body.contains("instance_not_found"), "{status} {body}");
    assert_eq!(stage.house.ask(&other, "GET", PATH).send().await.expect(200)["instances"], json!([]));
    // It is there all the same.
    stage.house.ask(&stage.tenant, "GET", "/api/v1/instances/echo-1").send().await.expect(200);
    stage.house.close().await;
}

#[tokio::test]
async fn stored_secrets_missing_for_a_type_are_no_obstacle() {
    let stage = Stage::set().await;
    let path = "/api/v1/secrets/echo?tenant_id=acme";
    let missing = stage.house.ask(ADMIN, "GET", path).send().await;
    assert_eq!(missing.refusal(), (404, "secrets_not_found".to_owned()));
    let body = json!({"agent_type": "echo", "agent_id": "mine", "secrets": {"own": "s3cret"}});
    stage.house.ask(&stage.tenant, "POST", PATH).json(&body).await.expect(201);
    stage.until("/api/v1/instances/mine", |instance| instance["status"] == "ready").await;
    stage.house.close().await;
}

#[tokio::test]
async fn duplicate_create_retry_is_200_by_id_and_by_idempotency_key() {
    let stage = Stage::set().await;
    let by_id = |model: &'static str| {
        let body = json!({"agent_type": "echo", "agent_id": "mine", "config": {"model": model}});
        let asking = stage.house.ask(&stage.tenant, "POST", PATH);
        async move { asking.json(&body).await }
    };
    by_id("m").await.expect(201);
    assert_eq!(by_id("m").await.expect(200)["instance_id"], "mine");
    assert_eq!(by_id("n").await.refusal(), (409, "instance_id_conflict".to_owned()));

    let create = |model: &'static str| {
        let asking = stage.house.ask(&stage.tenant, "POST", PATH).header("idempotency-key", "once");
        let body = json!({"agent_type": "echo", "config": {"model": model}});
        async move { asking.json(&body).await }
    };
    let made = create("m").await.expect(201);
    assert_eq!(create("m").await.expect(200)["instance_id"], made["instance_id"]);
    assert_eq!(create("n").await.refusal(), (409, "idempotency_conflict".to_owned()));
    let path = format!("{PATH}/{}", made["instance_id"].as_str().unwrap());
    stage.house.ask(&stage.tenant, "DELETE", &path).send().await.expect(204);
    let gone = create("m").await.expect(200);
    assert_eq!((&gone["instance_id"], &gone["status"]), (&made["instance_id"], &json!("terminated")));
    assert_eq!(gone["coordinator_id"], json!(null));
    stage.house.close().await;
}

#[tokio::test]
async fn a_path_with_encoded_slashes_is_the_same_path() {
    let stage = Stage::set().await;
    let at = |path: &str| format!("{PATH}/echo-1/files/{path}");
    let wrote = stage.house.ask(&stage.tenant, "POST", &at("notes%2Fdeep%2fa.txt")).bytes("text/plain", "a").await;
    assert_eq!(wrote.expect(201)["path"], "notes/deep/a.txt");
    let read = stage.house.ask(&stage.tenant, "GET", &at("notes/deep/a.txt")).send().await;
    assert_eq!((read.status.as_u16(), &*read.body), (200, &b"a"[..]));

    // The folder itself is listed and never written.
    for verb in ["POST", "PUT"] {
        let folder = stage.house.ask(&stage.tenant, verb, &format!("{PATH}/echo-1/files")).send().await;
        assert_eq!(folder.refusal(), (405, "method_not_allowed".to_owned()), "{verb}");
        assert_eq!(folder.header("allow"), "GET, HEAD, OPTIONS", "{verb}");
    }
    stage.house.close().await;
}

#[tokio::test]
async fn a_path_does_not_leave_the_workspace() {
    let stage = Stage::set().await;
    for path in ["..%2Fagent.sock", "a/..%2F..%2Fb", "%2Fetc/passwd", "/etc/passwd", "a//b"] {
        let answer = stage.house.ask(&stage.tenant, "GET", &format!("{PATH}/echo-1/files/{path}")).send().await;
        assert_eq!(answer.refusal(), (400, "invalid_path".to_owned()), "{path}");
    }
    for path in ["%2e%2e/a", "a%2F%2e%2e%2Fb", "a%00b", "%252e%252e/a", "a%252fb", "a%5Cb"] {
        let answer = stage.house.ask(&stage.tenant, "POST", &format!("{PATH}/echo-1/files/{path}")).send().await;
        assert_eq!(answer.refusal(), (400, "invalid_path".to_owned()), "{path}");
    }
    let answer = stage.house.ask(&stage.tenant, "GET", &format!("{PATH}/echo-1/files/nothing")).send().await;
    assert_eq!(answer.refusal(), (404, "file_not_found".to_owned()));
    stage.house.close().await;
}
