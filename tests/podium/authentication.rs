//! All requests require an API key; administrators' operations one that begins with `pod_admin_`.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request};
use portico::{
    domain::keys::grammar::{self, Kind},
    edge::Body,
    gate::Peer,
};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    domain::time_stands,
    support::gateway::{ADMIN, PATIENCE, TestHouse},
};

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
async fn a_wrong_key_counts_where_none_is_needed_and_when_its_caller_is_gone_before_it_is_known() {
    let house = TestHouse::with(&[("PORTICO_RATE_FAILED_AUTH_PER_MINUTE", "3")]).await;
    let asked = |peer: &Peer, path: &str, key: &str| {
        let request = Request::get(path).header("authorization", format!("Bearer {key}"));
        house.call_from(peer.clone(), request.body(Body::empty()).unwrap())
    };
    // Unknown, but nothing is wrong with it otherwise: it costs a question to the store.
    let wrong = grammar::generate(Kind::Tenant);
    let wrong = wrong.reveal();
    for (address, is_patient) in [("203.0.113.7", true), ("203.0.113.8", false)] {
        let peer = Peer::new(SocketAddr::new(address.parse().unwrap(), 1), None);
        for _ in 0..3 {
            if is_patient {
                assert_eq!(asked(&peer, "/health", wrong).await.status(), 200, "to nobody");
            } else {
                assert!(asked(&peer, "/health", wrong).now_or_never().is_none(), "answered without a question");
            }
        }
        assert_eq!(asked(&peer, "/health", wrong).await.status(), 429, "{address}");
        assert_eq!(asked(&peer, "/api/v1/config", wrong).await.status(), 429);
        // Whoever shares the address is served.
        assert_eq!(asked(&peer, "/api/v1/config", ADMIN).await.status(), 200);
        let unproven = Request::get("/health").body(Body::empty()).unwrap();
        assert_eq!(house.call_from(peer.clone(), unproven).await.status(), 200);

        assert!(!peer.is_guessing());
        for _ in 0..64 - 5 {
            assert!(asked(&peer, "/health", wrong).now_or_never().is_none());
        }
        assert!(peer.is_guessing(), "the connection is to be closed");
    }
    house.close().await;
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
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains("60 such calls a minute, and 3 in a burst"), "{message}");
    assert_eq!(answer.json()["error"]["retryable"], true);
}

#[tokio::test]
async fn a_key_of_few_calls_a_minute_has_no_more_at_once() {
    let house = TestHouse::with(&[("PORTICO_RATE_BURST", "100")]).await;
    let wanted = json!({"tenant_id": "acme", "rate_limit_rpm": 2});
    let made = house.ask(ADMIN, "POST", "/api/v1/keys").json(&wanted).await.expect(201);
    let ask = || house.ask(made["key"].as_str().unwrap(), "GET", "/api/v1/config").send();
    for _ in 0..2 {
        ask().await.expect(200);
    }
    assert_eq!(ask().await.refusal(), (429, "rate_limited".to_owned()));
}

#[tokio::test]
async fn a_refusal_takes_from_no_bucket_so_who_waits_as_told_gets_through() {
    let variables = [
        ("PORTICO_RATE_REQUESTS_PER_MINUTE", "6"),
        ("PORTICO_RATE_BURST", "2"),
        ("PORTICO_RATE_INSTANCES_PER_MINUTE", "1"),
    ];
    let house = TestHouse::with(&variables).await;
    let keys = [house.key("acme", &[]).await, house.key("other", &[]).await];
    let _still = time_stands();
    tokio::time::pause();
    let start = async |key: &str| {
        let answer = house.ask(key, "POST", "/api/v1/instances").json(&json!({"agent_type": "nothing"})).await;
        let bucket = answer.json()["error"]["details"]["bucket"].as_str().unwrap_or_default().to_owned();
        (answer.status.as_u16(), bucket, answer.header("retry-after").parse::<u64>().ok())
    };
    assert_eq!(start(&keys[0]).await.0, 404);
    assert_eq!(start(&keys[0]).await, (429, "instances".to_owned(), Some(60)));
    house.ask(&keys[0], "GET", "/api/v1/config").send().await.expect(200);

    for _ in 0..2 {
        house.ask(&keys[1], "GET", "/api/v1/config").send().await.expect(200);
    }
    assert_eq!(start(&keys[1]).await, (429, "calls".to_owned(), Some(10)));
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(start(&keys[1]).await.0, 404);
    tokio::time::resume();
}

#[tokio::test]
async fn an_address_without_a_key_has_so_many_streams_and_always_learns_how_the_gateway_is() {
    let variables = [("PORTICO_RATE_ANONYMOUS_STREAMS", "1"), ("PORTICO_RATE_ANONYMOUS_STREAMS_PER_MINUTE", "12")];
    let house = TestHouse::with(&variables).await;
    let peer = |address: &str| Peer::new(SocketAddr::new(address.parse().unwrap(), 1), None);
    let watched = async |address: &str| {
        let request = Request::post("/grpc.health.v1.Health/Watch").header("content-type", "application/grpc");
        house.call_from(peer(address), request.body(Body::from(Bytes::from_static(&[0; 5]))).unwrap()).await
    };
    for [here, beside, elsewhere] in
        [["203.0.113.7", "::ffff:203.0.113.7", "203.0.113.8"], ["2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1"]]
    {
        let first = watched(here).await;
        assert_eq!(refusal(first.headers()), None);
        let second = watched(beside).await;
        let second = second.headers();
        assert!(refusal(second).is_some_and(|told| told.contains("at the same time")), "{second:?}");
        assert_eq!(second["retry-after"], "1");
        assert_eq!(refusal(watched(elsewhere).await.headers()), None);
        drop(first);
        // Its place is free when its record is closed, and two begin at once.
        let refused = async {
            loop {
                let again = watched(beside).await;
                if refusal(again.headers()).is_some_and(|told| told.contains("come back later")) {
                    return again.headers().clone();
                }
            }
        };
        let refused = timeout(PATIENCE, refused).await.expect("a limit");
        assert!(refused["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1, "{refused:?}");
        let ready = Request::get("/health/ready").body(Body::empty()).unwrap();
        assert_eq!(house.call_from(peer(here), ready).await.status(), 200);
    }
    let held = [watched("127.0.0.1").await, watched("127.0.0.1").await, watched("::ffff:127.0.0.1").await];
    assert!(held.iter().all(|answer| refusal(answer.headers()).is_none()), "a proxy on this machine");
    house.close().await;
}

/// Why a gRPC call was refused before it began.
fn refusal(head: &HeaderMap) -> Option<&str> {
    head.get("grpc-status").filter(|status| *status == "8")?;
    head["grpc-message"].to_str().ok()
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
