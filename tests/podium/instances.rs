//! `/api/v1/instances`: create, show, stop.

use serde_json::json;

use crate::support::stage::Stage;

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

    // Repeating it changes nothing; the same id for something else is refused.
    assert_eq!(house.ask(tenant, "POST", PATH).json(&body).await.expect(200)["instance_id"], "mine");
    let mut different = body.clone();
    different["config"]["model"] = json!("other");
    let refusal = house.ask(tenant, "POST", PATH).json(&different).await.refusal();
    assert_eq!(refusal, (409, "instance_id_conflict".to_owned()));

    let shown = stage.until("/api/v1/instances/mine", |instance| instance["status"] == "ready").await;
    assert_eq!(shown["config"]["api_key"], "***");
    assert_eq!((&shown["config"]["model"], &shown["tenant_id"]), (&json!("m"), &json!("acme")));
    assert_eq!(shown["chronicle_ws_endpoint"], json!(null));
    assert!(!shown.to_string().contains("ens_hidden"));

    // Another tenant does not learn that it exists.
    let other = house.key("other", &[]).await;
    for verb in ["GET", "DELETE"] {
        let refusal = house.ask(&other, verb, "/api/v1/instances/mine").send().await.refusal();
        assert_eq!(refusal, (404, "instance_not_found".to_owned()), "{verb}");
    }
    assert_eq!(house.ask(&other, "GET", PATH).send().await.expect(200)["instances"], json!([]));

    house.ask(tenant, "DELETE", "/api/v1/instances/mine").send().await.expect(204);
    for verb in ["GET", "DELETE"] {
        let refusal = house.ask(tenant, verb, "/api/v1/instances/mine").send().await.refusal();
        assert_eq!(refusal, (404, "instance_not_found".to_owned()), "{verb}");
    }
    stage.house.close().await;
}

#[tokio::test]
async fn an_instance_of_nothing_is_not_created() {
    let stage = Stage::set().await;
    let (other_hash, local) = ("echo:1.0.0@00000000", "echo:1.0.0@local");
    for (body, status, code) in [
        (json!({}), 422, "missing_field"),
        (json!({"deployment_id": "echo"}), 422, "invalid_deployment_id"),
        (json!({"deployment_id": "other:1.0.0@2b795103"}), 404, "deployment_not_found"),
        (json!({"deployment_id": other_hash}), 409, "deployment_hash_mismatch"),
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
async fn an_idempotency_key_makes_a_retry_safe() {
    let stage = Stage::set().await;
    let create = |model: &'static str| {
        let asking = stage.house.ask(&stage.tenant, "POST", PATH).header("idempotency-key", "once");
        let body = json!({"agent_type": "echo", "config": {"model": model}});
        async move { asking.json(&body).await }
    };
    let made = create("m").await.expect(201);
    assert_eq!(create("m").await.expect(200)["instance_id"], made["instance_id"]);
    assert_eq!(create("n").await.refusal(), (409, "idempotency_conflict".to_owned()));
    stage.house.close().await;
}

#[tokio::test]
async fn a_path_does_not_leave_the_workspace() {
    let stage = Stage::set().await;
    for path in ["..%2Fagent.sock", "a/..%2F..%2Fb", "%2Fetc/passwd"] {
        let answer = stage.house.ask(&stage.tenant, "GET", &format!("{PATH}/echo-1/files/{path}")).send().await;
        assert_eq!(answer.refusal(), (400, "invalid_path".to_owned()), "{path}");
    }
    let answer = stage.house.ask(&stage.tenant, "GET", &format!("{PATH}/echo-1/files/nothing")).send().await;
    assert_eq!(answer.refusal(), (404, "file_not_found".to_owned()));
    stage.house.close().await;
}
