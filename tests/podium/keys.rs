//! `/api/v1/keys`: create, list, revoke.

use serde_json::json;

use crate::support::gateway::{ADMIN, TestHouse};

#[tokio::test]
async fn a_key_is_shown_once_and_listed_without_its_secret() {
    let house = TestHouse::start().await;
    let body = json!({"tenant_id": "acme", "name": "ci", "permissions": ["instances:read"], "expires_at": "2036-01-01T00:00:00Z"});
    let answer = house.ask(ADMIN, "POST", "/api/v1/keys").json(&body).await;
    let made = answer.expect(201);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("location"), format!("/api/v1/keys/{}", made["key_id"].as_str().unwrap()));
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("pod_") && !key.starts_with("pod_admin_"));
    assert!(key.starts_with(made["prefix"].as_str().unwrap()));
    assert_eq!((&made["role"], &made["expires_at"]), (&json!("tenant"), &json!("2036-01-01T00:00:00Z")));

    let answer = house.ask(ADMIN, "GET", "/api/v1/keys?tenant_id=acme").send().await;
    let listed = answer.expect(200);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1);
    assert_eq!(listed["keys"][0]["key_id"], made["key_id"]);
    assert!(!String::from_utf8_lossy(&answer.body).contains(key));
    // The operator's key is listed by its name.
    let all = house.ask(ADMIN, "GET", "/api/v1/keys").send().await.expect(200);
    let bootstrap = all["keys"].as_array().unwrap().iter().find(|key| key["key_id"] == "bootstrap").unwrap();
    assert!(bootstrap["last_used_at"].is_string(), "it asks this: {bootstrap}");
}

#[tokio::test]
async fn a_key_is_revoked_by_its_id_its_prefix_or_the_whole_of_it_and_only_once() {
    let house = TestHouse::start().await;
    for name in ["key_id", "prefix", "key"] {
        let made = house.ask(ADMIN, "POST", "/api/v1/keys").json(&json!({"tenant_id": "acme"})).await.expect(201);
        let key = made["key"].as_str().unwrap();
        house.ask(key, "GET", "/api/v1/config").send().await.expect(200);
        let path = format!("/api/v1/keys/{}", made[name].as_str().unwrap());
        // What only begins like it names another key, if any.
        for more in ["x", "!", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"] {
            let refusal = house.ask(ADMIN, "DELETE", &format!("{path}{more}")).send().await.refusal();
            assert_eq!(refusal, (404, "key_not_found".to_owned()), "{name}{more}");
        }
        assert_eq!(house.ask(ADMIN, "DELETE", &path).send().await.expect(204), json!(null));
        assert_eq!(house.ask(key, "GET", "/api/v1/config").send().await.refusal(), (401, "unauthorized".to_owned()));
        assert_eq!(house.ask(ADMIN, "DELETE", &path).send().await.refusal(), (404, "key_not_found".to_owned()));
    }
    let refusal = house.ask(ADMIN, "DELETE", "/api/v1/keys/bootstrap").send().await.refusal();
    assert_eq!(refusal, (409, "cannot_revoke_bootstrap".to_owned()));
}

#[tokio::test]
async fn a_cursor_is_good_for_the_list_that_it_was_made_for() {
    let house = TestHouse::start().await;
    for _ in 0..2 {
        house.key("acme", &[]).await;
    }
    let page = house.ask(ADMIN, "GET", "/api/v1/keys?limit=1&tenant_id=acme").send().await.expect(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    let ask = |list: &str| house.ask(ADMIN, "GET", &format!("/api/v1/{list}cursor={cursor}")).send();
    let next = ask("keys?limit=1&tenant_id=acme&").await.expect(200);
    assert_ne!(next["keys"][0]["key_id"], page["keys"][0]["key_id"]);
    for other in
        ["keys?", "keys?tenant_id=globex&", "keys?tenant_id=acme&include_revoked=true&", "instances?", "deployments?"]
    {
        assert_eq!(ask(other).await.refusal(), (400, "invalid_cursor".to_owned()), "{other}");
    }
}

#[tokio::test]
async fn a_key_that_makes_no_sense_is_not_made() {
    let house = TestHouse::start().await;
    for body in [
        json!({}),
        json!({"tenant_id": "a b"}),
        json!({"tenant_id": "acme", "permissions": ["everything"]}),
        json!({"tenant_id": "acme", "role": "king"}),
        json!({"tenant_id": "acme", "role": "admin", "permissions": ["instances:read"]}),
        json!({"tenant_id": "acme", "name": "n".repeat(101)}),
        json!({"tenant_id": "acme", "expires_at": "2001-01-01T00:00:00Z"}),
    ] {
        let answer = house.ask(ADMIN, "POST", "/api/v1/keys").json(&body).await;
        assert_eq!(answer.status, 422, "{body}: {answer:?}");
    }
    // What the body is for, the query cannot overrule.
    let answer = house.ask(ADMIN, "POST", "/api/v1/keys?role=admin").json(&json!({"tenant_id": "acme"})).await;
    assert_eq!(answer.refusal(), (422, "validation_failed".to_owned()));
    assert_eq!(answer.json()["error"]["details"]["fields"][0]["path"], "role");
}
