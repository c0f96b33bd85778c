//! `/api/v1/config` and `/api/v1/config/models`.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message as Frame;

use super::deployments::{fields, noise, packed, upload};
use crate::support::{
    doors::socket::Socket,
    ensemble::{Ensemble, MODELS},
    gateway::{ADMIN, TestHouse},
    stage::Stage,
};

const PATH: &str = "/api/v1/config";
const MODELS_PATH: &str = "/api/v1/config/models";

async fn with(ensemble: &Ensemble) -> TestHouse {
    let url = ensemble.url();
    TestHouse::with(&[("PORTICO_LIMITS", "off"), ("PORTICO_ENSEMBLE_URL", &url), ("PORTICO_ENSEMBLE_KEY", "ens_own")])
        .await
}

#[tokio::test]
async fn a_change_without_a_body_is_none_and_changes_nothing() {
    let house = TestHouse::start().await;
    let bare = house.ask(ADMIN, "PUT", PATH).send().await;
    assert_eq!(bare.refusal(), (400, "invalid_json".to_owned()));
    let empty = house.ask(ADMIN, "PUT", PATH).bytes("application/json", "").await;
    assert_eq!(empty.refusal(), (400, "invalid_json".to_owned()));
    assert_eq!(house.ask(ADMIN, "PUT", PATH).json(&json!(null)).await.refusal(), (422, "validation_failed".to_owned()));
    assert_eq!(house.ask(ADMIN, "GET", PATH).send().await.expect(200)["version"], 0);
    house.close().await;
}

#[tokio::test]
async fn a_change_merges_and_guards_against_lost_updates() {
    let house = TestHouse::start().await;
    let tenant = house.key("acme", &[]).await;
    let before = house.ask(&tenant, "GET", PATH).send().await;
    assert_eq!(before.header("etag"), "\"0\"");
    assert_eq!((&before.json()["version"], &before.json()["models_status"]), (&json!(0), &json!("unavailable")));
    // The version says nothing of the models, so nobody is told that they know it all.
    house.ask(&tenant, "GET", PATH).header("if-none-match", "\"0\"").send().await.expect(200);

    let unchanged = house.ask(ADMIN, "GET", PATH).send().await.expect(200);
    assert_eq!((&unchanged["updated_by"], &unchanged["updated_at"]), (&Value::Null, &Value::Null));

    let put = |body: Value, tag: &'static str| {
        let asking = house.ask(ADMIN, "PUT", PATH);
        let asking = if tag.is_empty() { asking } else { asking.header("if-match", tag) };
        async move { asking.json(&body).await }
    };
    let patch = json!({"defaults": {"model": "large", "temperature": 0.5}, "features": {"fast": true}});
    let changed = put(patch, "\"0\"").await.expect(200);
    assert_eq!((&changed["version"], &changed["updated_by"]), (&json!(1), &json!("bootstrap")));
    let changed = put(json!({"defaults": {"temperature": null}}), "").await.expect(200);
    assert_eq!(changed["defaults"], json!({"model": "large"}));
    assert_eq!(
        put(json!({"features": {"fast": false}}), "\"1\"").await.refusal(),
        (412, "version_mismatch".to_owned())
    );
    for (body, code) in [
        (json!({"default": {}}), "validation_failed"),
        (json!({"defaults": {"temperature": 3}}), "validation_failed"),
        (json!({"environment": "production"}), "read_only_field"),
        (json!({"models": [1]}), "read_only_field"),
        (json!({"models_status": "ok"}), "read_only_field"),
        (json!({"defaults": {"agent_id": "x"}}), "validation_failed"),
        (json!({"agent_types": {"echo": {"workspace": "/x"}}}), "validation_failed"),
        (json!({"agent_types": {"bad.type": {}}}), "validation_failed"),
        (json!({"defaults": {"api_key": "x"}}), "validation_failed"),
    ] {
        assert_eq!(put(body.clone(), "").await.refusal(), (422, code.to_owned()), "{body}");
    }
    // A version may be bare, and what was shown may be sent back as it is.
    let shown = house.ask(ADMIN, "GET", PATH).send().await.expect(200);
    assert_eq!(put(shown, "2").await.expect(200)["version"], 3);
    assert_eq!(house.ask(&tenant, "PUT", PATH).json(&json!({})).await.refusal(), (403, "admin_required".to_owned()));
    // Who changed it is shown to administrators alone.
    assert_eq!(house.ask(&tenant, "GET", PATH).send().await.expect(200)["updated_by"], Value::Null);
}

#[tokio::test]
async fn limits_of_bundles_and_of_messages_hold_from_the_next_call_on() {
    let stage = Stage::set().await;
    let (small, large) = (vec![7; 1_000], vec![7; 1_001]);
    let packed = packed(&noise(4 << 10));
    let mut before = Socket::open(&stage.house, "/agent/echo-1", &stage.tenant).await.unwrap();
    let limits = json!({"limits": {"max_bundle_bytes": 2_000, "ws_max_message_bytes": 1_000}});
    stage.house.ask(ADMIN, "PUT", PATH).json(&limits).await.expect(200);

    let refused = upload(&stage.house, ADMIN, &fields("2.0.0", &packed)).await;
    assert_eq!(refused.refusal(), (413, "bundle_too_large".to_owned()));
    assert_eq!(refused.json()["error"]["details"]["limit"], "2000");
    let mut socket = Socket::open(&stage.house, "/agent/echo-1", &stage.tenant).await.unwrap();
    socket.send(Frame::binary(small.clone())).await;
    assert_eq!(socket.next().await.into_data(), small);
    socket.try_send(Frame::binary(large.clone())).await;
    assert_eq!(socket.closed().await, 1009);
    // Who was there before goes on as it began, and hears what its agent says to everybody.
    assert_eq!(before.next().await.into_data(), small);
    before.send(Frame::binary(large.clone())).await;
    assert_eq!(before.next().await.into_data(), large);

    let limits = json!({"limits": {"max_bundle_bytes": null, "ws_max_message_bytes": null}});
    stage.house.ask(ADMIN, "PUT", PATH).json(&limits).await.expect(200);
    upload(&stage.house, ADMIN, &fields("2.0.0", &packed)).await.expect(201);
    stage.house.close().await;
}

#[tokio::test]
async fn models_pass_unchanged_and_many_askers_are_one_question() {
    let ensemble = Ensemble::start().await;
    let house = with(&ensemble).await;
    ensemble.hold();
    let asking = futures_util::future::join_all((0..8).map(|_| house.ask(ADMIN, "GET", MODELS_PATH).send()));
    let release = async {
        while ensemble.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        ensemble.release();
    };
    let (answers, ()) = tokio::join!(asking, release);
    for answer in answers {
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
        assert_eq!(answer.body, MODELS, "byte for byte");
    }
    let asked = ensemble.asked();
    assert_eq!(asked.iter().filter(|head| head.starts_with("get /api/v1/models")).count(), 1, "{asked:?}");
    // The gateway asks with its own key, never with a caller's.
    assert!(asked.iter().all(|head| !head.contains(ADMIN)));
    assert!(asked.iter().any(|head| head.contains("authorization: bearer ens_own")));

    // Who has the list already is told so.
    let tag = house.ask(ADMIN, "GET", MODELS_PATH).send().await.header("etag").to_owned();
    let known = house.ask(ADMIN, "GET", MODELS_PATH).header("if-none-match", &tag).send().await;
    assert_eq!((known.status.as_u16(), known.body.len()), (304, 0));

    let config = house.ask(ADMIN, "GET", PATH).send().await.expect(200);
    assert_eq!((&config["models_status"], &config["models"][0]["provider"]), (&json!("ok"), &json!("anthropic")));
}

#[tokio::test]
async fn ensemble_gets_the_query_and_the_call_and_answers_each_query_once() {
    let ensemble = Ensemble::start().await;
    let house = with(&ensemble).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for query in ["", "?provider=x&tools=1", "?provider=x&tools=1", "?provider=y"] {
        let asking = house.ask(ADMIN, "GET", &format!("{MODELS_PATH}{query}"));
        asking.header("x-request-id", "tests-7").header("traceparent", trace).send().await.expect(200);
    }
    let asked: Vec<String> = ensemble.asked().into_iter().filter(|head| head.contains("/models")).collect();
    let lines: Vec<&str> = asked.iter().map(|head| head.lines().next().unwrap()).collect();
    let line = |query: &str| format!("get /api/v1/models{query} http/1.1");
    assert_eq!(lines, [line(""), line("?provider=x&tools=1"), line("?provider=y")]);
    for head in asked {
        assert!(head.contains("x-request-id: tests-7\r\n"), "{head}");
        assert!(head.contains("traceparent: 00-0af7651916cd43dd8448eb211c80319c-"), "{head}");
    }
    // What could not stand in a URL as it is comes by the other doors alone.
    let listed = "/podium.v1.ConfigService/ListModels";
    let refused = house.ask(ADMIN, "POST", listed).json(&json!({"query": "a b#c"})).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (400, &json!("invalid_argument")));
}

#[tokio::test]
async fn troubles_of_ensemble_are_not_the_callers() {
    let none = TestHouse::start().await;
    let answer = none.ask(ADMIN, "GET", MODELS_PATH).send().await;
    assert_eq!(answer.refusal(), (503, "ensemble_not_configured".to_owned()));
    for (status, body, expected) in [
        (401, "{}", (502, "ensemble_auth_failed")),
        (404, "{}", (502, "ensemble_bad_response")),
        (500, "{}", (502, "ensemble_error")),
        (200, "<html>", (502, "ensemble_bad_response")),
    ] {
        let ensemble = Ensemble::start().await;
        ensemble.answers(status, body);
        let house = with(&ensemble).await;
        let (status, code) = house.ask(ADMIN, "GET", MODELS_PATH).send().await.refusal();
        assert_eq!((status, code.as_str()), expected, "{body}");
        // The configuration is ours, and is told all the same.
        let config = house.ask(ADMIN, "GET", PATH).send().await.expect(200);
        assert_eq!((&config["models_status"], &config["models"]), (&json!("unavailable"), &json!([])));
    }
}
