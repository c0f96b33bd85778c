//! What pages of other origins may do.

use portico::edge::Cors;

use super::*;

const CONSOLE: &str = "https://console.example.com";

fn open_to(origins: &[&str]) -> Edge {
    let config = Config { cors: Cors::new(origins.iter().copied()), ..Config::default() };
    edge_with(&keys(), Arc::new(gate::Open), Tasks::new(), config)
}

fn preflight(origin: &str) -> Builder {
    Request::options(MUTATING).header("origin", origin).header("access-control-request-method", "POST")
}

#[tokio::test]
async fn a_listed_origin_may_call_and_read_trailers() {
    let edge = open_to(&[CONSOLE]);
    let answer = send(&edge, preflight(CONSOLE), "").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (StatusCode::NO_CONTENT, CONSOLE));
    for name in [
        "connect-protocol-version",
        "connect-timeout-ms",
        "x-grpc-web",
        "x-user-agent",
        "grpc-timeout",
        "authorization",
        "traceparent",
        "if-none-match",
    ] {
        assert!(answer.header("access-control-allow-headers").contains(name), "{name}");
    }
    let answer = send(&edge, post(MUTATING, "application/json").header("origin", CONSOLE), "{}").await;
    assert_eq!(answer.header("access-control-allow-origin"), CONSOLE);
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    assert_eq!(answer.header("vary"), "origin");
    for name in [
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "x-request-id",
        "retry-after",
        "ratelimit",
        "ratelimit-policy",
        "age",
        "x-podium-stale",
        "x-podium-deferred",
    ] {
        assert!(answer.header("access-control-expose-headers").contains(name), "{name}");
    }
}

#[tokio::test]
async fn others_may_not_unless_everybody_may() {
    let answer = send(&open_to(&[CONSOLE]), preflight("https://evil.example.com"), "").await;
    assert_eq!((answer.header("access-control-allow-origin"), answer.header("vary")), ("", "origin"));
    let answer = send(&open_to(&[]), preflight(CONSOLE), "").await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    let answer = send(&open_to(&["*"]), preflight(CONSOLE), "").await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("access-control-allow-credentials"), "");
}
