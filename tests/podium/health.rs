//! `/health`: one word for everybody, more with a key.

use serde_json::json;

use crate::support::gateway::{ADMIN, TestHouse};

#[tokio::test]
async fn everybody_gets_a_word_and_a_key_gets_the_parts() {
    let house = TestHouse::start().await;
    let minimal = house.ask("", "GET", "/health").send().await.expect(200);
    assert!(matches!(minimal["status"].as_str(), Some("healthy" | "degraded")), "{minimal}");
    assert_eq!(minimal.as_object().unwrap().len(), 1, "{minimal}");
    // A key that does not hold is as good as none.
    assert_eq!(house.ask("pod_nothing", "GET", "/health").send().await.expect(200), minimal);

    let full = house.ask(ADMIN, "GET", "/health").send().await.expect(200);
    assert_eq!((&full["environment"], &full["checks"]["records"]["status"]), (&json!("dev"), &json!("healthy")));
    assert_eq!(full["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(full["active_websockets"], 0, "what a key gets to see it sees when it is zero, too");
    assert_eq!(house.ask("", "GET", "/health/live").send().await.expect(200), json!({"status": "alive"}));
    assert_eq!(house.ask("", "GET", "/health/ready").send().await.expect(200), json!({"status": "ready"}));
}
