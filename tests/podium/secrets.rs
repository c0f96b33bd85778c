//! `/api/v1/secrets/{agent_type}`: set by tenants, read by administrators.

use serde_json::json;

use crate::support::gateway::{ADMIN, TestHouse};

const PATH: &str = "/api/v1/secrets/echo";

#[tokio::test]
async fn names_come_back_and_values_only_for_administrators() {
    let house = TestHouse::start().await;
    let tenant = house.key("acme", &[]).await;
    let answer = house.ask(&tenant, "PUT", PATH).json(&json!({"B": "two", "A": "one"})).await;
    let set = answer.expect(200);
    assert_eq!((&set["names"], &set["version"], &set["tenant_id"]), (&json!(["A", "B"]), &json!(1), &json!("acme")));
    assert!(!String::from_utf8_lossy(&answer.body).contains("two"));
    assert_eq!(answer.header("cache-control"), "no-store");

    let answer = house.ask(ADMIN, "GET", &format!("{PATH}?tenant_id=acme")).send().await;
    assert_eq!(answer.expect(200)["secrets"], json!({"A": "one", "B": "two"}));
    assert_eq!((answer.header("cache-control"), answer.header("etag")), ("no-store", "\"1\""));
    let names = house.ask(ADMIN, "GET", &format!("{PATH}?tenant_id=acme&reveal=false")).send().await.expect(200);
    assert_eq!((&names["names"], &names["secrets"]), (&json!(["A", "B"]), &json!({})), "an empty value is a value");

    assert_eq!(house.ask(&tenant, "GET", PATH).send().await.refusal(), (403, "admin_required".to_owned()));
    let other = house.ask(ADMIN, "GET", &format!("{PATH}?tenant_id=other")).send().await;
    assert_eq!(other.refusal(), (404, "secrets_not_found".to_owned()));
}

#[tokio::test]
async fn a_change_replaces_or_merges_and_does_not_overwrite_another() {
    let house = TestHouse::start().await;
    let tenant = house.key("acme", &[]).await;
    let put = || house.ask(&tenant, "PUT", PATH);
    put().json(&json!({"secrets": {"A": "1", "B": "2"}})).await.expect(200);
    let merged = put().json(&json!({"secrets": {"B": null, "C": "3"}, "mode": "merge"})).await.expect(200);
    assert_eq!(merged["names"], json!(["A", "C"]));
    let stale = put().header("if-match", "\"1\"").json(&json!({"D": "4"})).await;
    assert_eq!(stale.refusal(), (412, "version_mismatch".to_owned()));
    let replaced = put().header("if-match", "\"2\"").json(&json!({"D": "4"})).await.expect(200);
    assert_eq!((&replaced["names"], &replaced["version"]), (&json!(["D"]), &json!(3)));
    assert_eq!(put().json(&json!({"not a name": "x"})).await.status, 422);
}

#[tokio::test]
async fn a_word_of_the_request_among_bare_names_is_refused_and_changes_nothing() {
    let house = TestHouse::start().await;
    let put = async |body| house.ask(ADMIN, "PUT", PATH).json(&body).await;
    put(json!({"A": "1"})).await.expect(200);
    for (body, field) in [
        (json!({"mode": "merge"}), "mode"),
        (json!({"secrets": "x"}), "secrets"),
        (json!({"B": "2", "tenant_id": "acme"}), "tenant_id"),
        (json!({"agentType": "echo"}), "agentType"),
    ] {
        let refused = put(body.clone()).await;
        assert_eq!(refused.refusal(), (422, "validation_failed".to_owned()), "{body}");
        assert_eq!(refused.json()["error"]["details"]["fields"][0]["path"], field, "{body}");
    }
    let kept = house.ask(ADMIN, "GET", PATH).send().await.expect(200);
    assert_eq!((&kept["secrets"], &kept["names"]), (&json!({"A": "1"}), &json!(["A"])));
    let set = put(json!({"secrets": {"mode": "x"}})).await.expect(200);
    assert_eq!(set["names"], json!(["mode"]), "below `secrets` every name is one");
}

#[tokio::test]
async fn a_query_says_what_the_body_does_not_and_never_something_else() {
    let house = TestHouse::start().await;
    let put = |query: &str| house.ask(ADMIN, "PUT", &format!("{PATH}?{query}"));
    for body in [json!({"A": "1"}), json!({"secrets": {"A": "1"}, "mode": "replace"})] {
        let set = put("tenant_id=acme").json(&body).await.expect(200);
        assert_eq!((&set["tenant_id"], &set["names"]), (&json!("acme"), &json!(["A"])), "{body}");
    }
    let both = json!({"secrets": {"A": "2"}, "tenant_id": "acme", "mode": "merge"});
    for (query, field) in
        [("tenant_id=globex", "tenant_id"), ("tenantId=globex", "tenant_id"), ("mode=replace", "mode")]
    {
        let refused = put(query).json(&both).await;
        assert_eq!(refused.refusal(), (422, "validation_failed".to_owned()), "{query}");
        assert_eq!(refused.json()["error"]["details"]["fields"][0]["path"], field, "{query}");
    }
    let kept = house.ask(ADMIN, "GET", &format!("{PATH}?tenant_id=acme")).send().await.expect(200);
    assert_eq!(kept["secrets"], json!({"A": "1"}));
    let none = house.ask(ADMIN, "GET", &format!("{PATH}?tenant_id=globex")).send().await;
    assert_eq!(none.refusal(), (404, "secrets_not_found".to_owned()));
}

#[tokio::test]
async fn values_are_sealed_where_they_are_kept() {
    let house = TestHouse::start().await;
    house.ask(ADMIN, "PUT", PATH).json(&json!({"A": "a-value-to-look-for"})).await.expect(200);
    let mut files: Vec<_> = std::fs::read_dir(house.data()).unwrap().flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.is_file());
    assert!(!files.is_empty());
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(19).any(|part| part == b"a-value-to-look-for"), "{}", file.display());
    }
}
