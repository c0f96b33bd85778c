//! Secrets that must not come out, and a sealing key that is not the right one.

use serde_json::{Value, json};

use crate::support::{
    collector::Collector,
    gateway::ADMIN,
    postgres,
    process::{JSON, Process, upload},
};

const STORED: &str = "s3cret-that-is-stored";
const GIVEN: &str = "s3cret-of-the-request";

#[tokio::test]
async fn secret_leaks_into_no_log_error_span_or_answer() {
    let mut collector = Collector::start().await;
    let sealing = "0a".repeat(32);
    let process = Process::start(&format!(
        "limits = 'off'\nsecrets_key = '{sealing}'\notlp = {{ endpoint = '{}' }}\nlog = {{ level = 'trace', format = 'json' }}\n",
        collector.endpoint()
    ));
    let (header, form) = upload("1.0.0");
    process.ask("POST", "/api/v1/deployments", &[header], form).await;
    let made = process.ask("POST", "/api/v1/keys", &[JSON], json!({"tenant_id": "acme"}).to_string()).await.json();
    let key = made["key"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {key}");

    // Whatever is asked with a secret in it, well or badly, and whatever shows what it belongs to.
    let config = json!({"model": "m", "api_key": GIVEN, "nested": {"token": GIVEN}});
    let mut answers = String::new();
    for (verb, path, body) in [
        ("PUT", "/api/v1/secrets/echo", json!({"API_KEY": STORED}).to_string()),
        ("PUT", "/api/v1/secrets/echo", json!({"not a name": STORED}).to_string()),
        ("PUT", "/api/v1/secrets/echo", json!({"API_KEY": [STORED]}).to_string()),
        ("PUT", "/api/v1/secrets/echo", format!("{{\"API_KEY\": \"{STORED}\"")),
        (
            "POST",
            "/api/v1/instances",
            json!({"agent_type": "echo", "agent_id": "mine", "config": config, "secrets": {"given": GIVEN}})
                .to_string(),
        ),
        (
            "POST",
            "/api/v1/instances",
            json!({"agent_type": "echo", "agent_id": "mine", "secrets": {"other": GIVEN}}).to_string(),
        ),
        ("POST", "/api/v1/instances", json!({"agent_type": "nothing", "secrets": {"given": GIVEN}}).to_string()),
        ("POST", "/api/v1/instances", json!({"agent_type": "echo", "secrets": {"given": {"deep": GIVEN}}}).to_string()),
        ("PUT", "/api/v1/config", json!({"defaults": {"api_key": GIVEN}}).to_string()),
        ("GET", "/api/v1/instances/mine", String::new()),
        ("GET", "/api/v1/instances", String::new()),
        ("GET", "/api/v1/instances/mine/logs", String::new()),
        ("GET", "/api/v1/secrets/echo", String::new()),
        ("GET", "/health", String::new()),
        ("GET", "/metrics", String::new()),
        ("DELETE", "/api/v1/instances/mine", String::new()),
    ] {
        let headers = [JSON, ("authorization", bearer.as_str()), ("traceparent", TRACE)];
        let said = process.ask(verb, path, &headers, body).await;
        answers += &format!("{verb} {path} {}: {}\n", said.status, String::from_utf8_lossy(&said.body));
    }
    // Names alone, also for an administrator who asks for no more.
    let path = "/api/v1/secrets/echo?tenant_id=acme&reveal=false";
    let headers = [("traceparent", TRACE)];
    answers += &String::from_utf8_lossy(&process.ask("GET", path, &headers, "").await.body);

    let mut spans = String::new();
    while !spans.contains("DeleteInstance") {
        spans += &collector.next().await.to_string();
    }
    for (place, text) in [("answers", &answers), ("log", &process.log()), ("spans", &spans)] {
        for secret in [STORED, GIVEN, &key, ADMIN, &sealing] {
            assert!(!text.contains(secret), "{secret} is in the {place}: {}", around(text, secret));
        }
    }
    assert!(answers.contains("***") && process.log().contains("CreateInstance"), "{answers}");
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What stands around the first place of a word.
fn around<'a>(text: &'a str, word: &str) -> &'a str {
    text.lines().find(|line| line.contains(word)).unwrap_or_default()
}

#[tokio::test]
async fn wrong_secrets_key_after_redeploy_does_not_start_and_one_lost_record_is_500() {
    let records = postgres::database();
    let file =
        |key: &str| format!("limits = 'off'\nrecords = '{}'\nsecrets_key = '{}'\n", records.reveal(), key.repeat(32));
    let mut process = Process::start(&file("01"));
    for agent_type in ["echo", "other"] {
        let path = format!("/api/v1/secrets/{agent_type}");
        let said = process.ask("PUT", &path, &[JSON], json!({"A": STORED}).to_string()).await;
        assert_eq!(said.status, 200, "{said:?}");
    }
    process.configure(&file("02"));
    let why = process.refuses_to_restart();
    // The id of the key that it needs: the beginning of the SHA-256 of 32 bytes of 1.
    assert!(why.contains("72cd6e84") && why.contains("configure the right key"), "{why}");

    process.configure(&file("01"));
    let lost = r#"UPDATE portico_records SET body = regexp_replace(body, '"kid":"[0-9a-f]{8}"', '"kid":"00000000"')
                  WHERE collection = 'secrets' AND id LIKE '%/echo'"#;
    postgres::sql(&records, lost);
    process.restart();
    let said = process.ask("GET", "/api/v1/secrets/echo", &[], "").await;
    assert_eq!((said.status.as_u16(), &said.json()["error"]["code"]), (500, &Value::from("secrets_undecryptable")));
    let said = process.ask("GET", "/api/v1/secrets/other", &[], "").await;
    assert_eq!((said.status.as_u16(), &said.json()["secrets"]["A"]), (200, &Value::from(STORED)));
}
