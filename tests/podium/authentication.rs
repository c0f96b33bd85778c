//! All requests require an API key; administrators' operations one that begins with `pod_admin_`.

use serde_json::json;

use crate::support::gateway::{ADMIN, TestHouse};

#[tokio::test]
async fn without_a_valid_key_there_is_one_answer() {
    let house = TestHouse::start().await;
    for credential in
        ["", "Bearer pod_nothing", "Basic YTpi", "Bearer pod_admin_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"]
    {
        let mut asking = house.ask("", "GET", "/api/v1/config").header("x-request-id", "tests-1");
        if !credential.is_empty() {
            asking = asking.header("authorization", credential);
        }
        let answer = asking.send().await;
        let expected = json!({"error": {
            "code": "unauthorized", "message": "a valid key is required", "request_id": "tests-1", "retryable": false,
        }});
        assert_eq!(answer.expect(401), expected, "{credential}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        assert_eq!(answer.header("x-request-id"), "tests-1");
        assert_eq!(answer.header("content-type"), "application/json");
    }
    // The scheme's case does not matter; an id is made when none came.
    let answer =
        house.ask("", "GET", "/api/v1/config").header("authorization", &format!("bEARER {ADMIN}")).send().await;
    answer.expect(200);
    assert!(!answer.header("x-request-id").is_empty());
}

#[tokio::test]
async fn a_tenants_key_may_what_it_was_given() {
    let house = TestHouse::start().await;
    let key = house.key("acme", &["config:read"]).await;
    assert_eq!(house.ask(&key, "GET", "/api/v1/keys").send().await.refusal(), (403, "admin_required".to_owned()));
    assert_eq!(
        house.ask(&key, "GET", "/api/v1/instances").send().await.refusal(),
        (403, "permission_denied".to_owned())
    );
    house.ask(&key, "GET", "/api/v1/config").send().await.expect(200);
}

#[tokio::test]
async fn a_key_that_calls_too_often_is_told_when_to_come_back() {
    let variables = [("PORTICO_RATE_REQUESTS_PER_MINUTE", "60"), ("PORTICO_RATE_BURST", "3")];
    let house = TestHouse::with(&variables).await;
    let key = house.key("acme", &[]).await;
    for _ in 0..3 {
        house.ask(&key, "GET", "/api/v1/config").send().await.expect(200);
    }
    let answer = house.ask(&key, "GET", "/api/v1/config").send().await;
    assert_eq!(answer.refusal(), (429, "rate_limited".to_owned()));
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(answer.json()["error"]["retryable"], true);
}

#[tokio::test]
async fn what_does_not_exist_and_what_does_not_fit_is_told_apart() {
    let house = TestHouse::start().await;
    assert_eq!(house.ask(ADMIN, "GET", "/api/v1/nothing").send().await.refusal(), (404, "not_found".to_owned()));
    let answer = house.ask(ADMIN, "PATCH", "/api/v1/keys").send().await;
    assert_eq!(answer.refusal(), (405, "method_not_allowed".to_owned()));
    assert_eq!(answer.header("allow"), "GET, HEAD, OPTIONS, POST");
    let keys = || house.ask(ADMIN, "POST", "/api/v1/keys");
    assert_eq!(keys().bytes("application/json", "{").await.refusal(), (400, "invalid_json".to_owned()));
    assert_eq!(keys().bytes("text/plain", "{}").await.refusal(), (415, "unsupported_media_type".to_owned()));
    let large = vec![b' '; (1 << 20) + 1];
    assert_eq!(keys().bytes("application/json", large).await.refusal(), (413, "body_too_large".to_owned()));
    let answer = keys().json(&json!({"tenant_id": 7})).await;
    assert_eq!(answer.refusal(), (422, "validation_failed".to_owned()));
    assert_eq!(answer.json()["error"]["details"]["fields"][0]["path"], "tenant_id");
}
