//! The OpenAPI document says what is served, and is one.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{
    gateway::{TestHouse, schema},
    source::enclosed,
};

/// Every path with its verbs. A change here is a change of the interface.
const PATHS: &str = "\
/agent/{instance_id} get
/api/v1/config get put
/api/v1/config/models get
/api/v1/deployments get post
/api/v1/deployments/{deployment_id} get
/api/v1/instances get post
/api/v1/instances/{instance_id} delete get
/api/v1/instances/{instance_id}/files get
/api/v1/instances/{instance_id}/files/{path} get post
/api/v1/instances/{instance_id}/logs get
/api/v1/instances/{instance_id}/logs:follow get
/api/v1/instances/{instance_id}/messages get post
/api/v1/keys get post
/api/v1/keys/{key_id} delete
/api/v1/peppers get post
/api/v1/secrets/{agent_type} get put
/health get
/health/live get
/health/ready get
";

#[tokio::test]
async fn openapi_file_generated_from_the_code_is_whole() {
    let house = TestHouse::start().await;
    let document = house.ask("", "GET", "/openapi.json").send().await.expect(200);
    assert_eq!(document["openapi"], "3.1.0");

    let mut paths = String::new();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let verbs: BTreeSet<&str> = item.as_object().unwrap().keys().map(String::as_str).collect();
        paths += &format!("{path} {}\n", verbs.into_iter().collect::<Vec<_>>().join(" "));
        for (verb, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} is used twice");
            assert!(!operation["responses"].as_object().unwrap().is_empty(), "{verb} {path}");
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{verb} {path}");
            let declared: BTreeSet<&str> = operation["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|it| it["in"] == "path" && it["required"] == true)
                .map(|it| it["name"].as_str().unwrap())
                .collect();
            // What stands between braces: every second part.
            let parts = path.split(['{', '}']).enumerate();
            let named: BTreeSet<&str> = parts.filter(|(at, _)| at % 2 == 1).map(|(_, name)| name).collect();
            assert_eq!(declared, named, "{verb} {path}");
        }
    }
    assert_eq!(paths, PATHS);
    let served: usize = schema().methods().iter().map(|it| it.bindings.len() + usize::from(it.socket.is_some())).sum();
    assert_eq!(ids.len(), served, "a route is missing");

    // What a flat body has no room for is asked in the query, and headers that mean something are told.
    let parameters = document["paths"]["/api/v1/secrets/{agent_type}"]["put"]["parameters"].as_array().unwrap();
    let named: Vec<&str> = parameters.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(named, ["agent_type", "If-Match", "mode", "tenant_id"]);
    let parameters = document["paths"]["/agent/{instance_id}"]["get"]["parameters"].as_array().unwrap();
    let named: Vec<&str> = parameters.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(named, ["instance_id", "Sec-WebSocket-Protocol", "since_seq"], "and no frame");

    // Forms that patterns name are written out.
    let text = document.to_string();
    let patterns: Vec<&str> = enclosed(&text, r#""pattern":""#, '"').collect();
    assert!(patterns.len() > 9 && patterns.iter().all(|pattern| !pattern.contains('<')), "{patterns:?}");

    // What may be left out, may be null, and may go wrong.
    let body = |pointer: &str| &document["paths"][pointer];
    assert_eq!(body("/api/v1/config")["put"]["requestBody"]["required"], true);
    assert_eq!(body("/api/v1/peppers")["post"]["requestBody"]["required"], false);
    let key = &body("/api/v1/keys")["post"]["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(key["required"], json!(["tenant_id"]));
    let rate = &key["properties"]["rate_limit_rpm"];
    assert_eq!((&rate["type"], &rate["minimum"]), (&json!(["integer", "null"]), &json!(0)));
    let statuses = |path: &str, verb: &str| -> Vec<String> {
        document["paths"][path][verb]["responses"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(statuses("/health/live", "get"), ["200", "429", "default"]);
    assert_eq!(statuses("/api/v1/peppers", "get"), ["200", "400", "401", "403", "429", "503", "default"]);
    assert_eq!(
        statuses("/api/v1/config", "put"),
        ["200", "400", "401", "403", "404", "408", "409", "412", "413", "415", "422", "429", "503", "default"]
    );

    // Who needs a key, and who is told more with one.
    assert_eq!(body("/health")["get"]["security"], json!([{}, {"key": []}]));
    assert_eq!(body("/health/live")["get"]["security"], json!([]));
    assert_eq!(body("/api/v1/config")["get"]["security"], json!([{"key": []}]));
    for (name, response) in document["components"]["responses"].as_object().unwrap() {
        let example = &response["content"]["application/json"]["example"];
        assert!(example["error"]["code"].is_string() || example["code"].is_string(), "{name}");
    }

    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads elsewhere"));
        assert!(document.pointer(pointer).is_some_and(|it| !it.is_null()), "{reference} leads nowhere");
    }
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| match (name.as_str(), value) {
            ("$ref", Value::String(reference)) => drop(references.insert(reference.clone())),
            _ => collect(value, references),
        }),
        Value::Array(elements) => elements.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}
