//! A gateway over hosts on other machines: what callers see when hosts fill up, vanish, return or talk nonsense.

mod bundles;
mod headers;

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::{
    doors::socket::Socket,
    hosts::{Cluster, ToldHost},
};

const PATH: &str = "/api/v1/instances";

#[tokio::test]
async fn all_full_is_503_once_instances_have_spread_and_tunnels_cross() {
    let cluster = Cluster::start(2, &[]).await;
    let mut by_host = BTreeMap::new();
    for id in ["a", "b", "c", "d"] {
        let made = cluster.create(id).await.expect(201);
        *by_host.entry(made["coordinator_id"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(by_host, BTreeMap::from([("host-0".to_owned(), 2), ("host-1".to_owned(), 2)]));
    assert_eq!(cluster.create("e").await.refusal(), (503, "capacity_exhausted".to_owned()));

    for id in ["a", "b", "c", "d"] {
        cluster.until(&format!("{PATH}/{id}"), |it| it["status"] == "ready").await;
        let mut socket = Socket::open(&cluster.house, &format!("/agent/{id}"), &cluster.tenant).await.unwrap();
        let said = json!({"type": "process_message", "content": {"text": format!("hello {id}"), "messages": []}});
        socket.send(said.to_string()).await;
        loop {
            let frame: serde_json::Value = serde_json::from_str(socket.next().await.to_text().unwrap()).unwrap();
            if frame["type"] == "complete" {
                assert_eq!(
                    (&frame["agent_id"], &frame["content"]["text"]),
                    (&json!(id), &json!(format!("hello {id}")))
                );
                break;
            }
        }
        socket.close().await;
    }
    let health = cluster.house.ask(crate::support::gateway::ADMIN, "GET", "/health").send().await.expect(200);
    assert_eq!(health["checks"]["coordinators"]["total"], 2);
    cluster.close().await;
}

#[tokio::test]
async fn host_dies_with_live_sockets_which_close_with_1011_and_hears_of_deletes_when_it_returns() {
    let mut cluster = Cluster::start(2, &[]).await;
    let made = cluster.create("mine").await.expect(201);
    let host = made["coordinator_id"].as_str().unwrap().to_owned();
    let path = format!("{PATH}/mine");
    cluster.until(&path, |it| it["status"] == "ready").await;
    let socket = Socket::open(&cluster.house, "/agent/mine", &cluster.tenant).await.unwrap();

    cluster.host(&host).line.cut().await;
    assert_eq!(socket.closed().await, 1011);
    let shown = cluster.house.ask(&cluster.tenant, "GET", &path).send().await.expect(200);
    assert_eq!((&shown["status"], &shown["stale"]), (&json!("unreachable"), &json!(true)));
    let (status, body) = Socket::open(&cluster.house, "/agent/mine", &cluster.tenant).await.err().unwrap();
    assert!(status == 503 && body.contains("coordinator_unavailable"), "{status} {body}");
    // New instances go to the host that is there.
    let other = cluster.create("other").await.expect(201);
    assert_ne!(other["coordinator_id"], host.as_str());

    let deleted = cluster.house.ask(&cluster.tenant, "DELETE", &path).send().await;
    assert_eq!((deleted.status.as_u16(), deleted.header("x-podium-deferred")), (204, "true"));
    let gone = cluster.house.ask(&cluster.tenant, "GET", &path).send().await;
    assert_eq!(gone.refusal(), (404, "instance_not_found".to_owned()));
    assert_eq!(cluster.host(&host).agents().await, ["mine"]);

    cluster.host(&host).line.join().await;
    let told = async {
        while !cluster.host(&host).agents().await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::support::gateway::PATIENCE, told).await.expect("the host is told");
    cluster.close().await;
}

#[tokio::test]
async fn host_returns_garbage_html_huge_body_and_callers_get_502() {
    for nonsense in ["<html>It works!</html>".to_owned(), "x".repeat(3 << 20), "{}".repeat(2)] {
        let told = ToldHost::start(Box::new(move |_| Some((200, nonsense.clone())))).await;
        let cluster = Cluster::start(0, &[told.address]).await;
        assert_eq!(cluster.create("mine").await.refusal(), (502, "coordinator_error".to_owned()));
        // Whatever it began, it was told to stop.
        assert_eq!(told.asked("DELETE /instances/mine?force=true").len(), 1);
        let gone = cluster.house.ask(&cluster.tenant, "GET", &format!("{PATH}/mine")).send().await;
        assert_eq!(gone.refusal(), (404, "instance_not_found".to_owned()));
        cluster.close().await;
    }
}

#[tokio::test]
async fn host_dies_during_create_and_the_same_host_is_asked_what_became_of_it() {
    // It breaks off the start; asked, it says what became of it.
    let answers = |info: Option<(u16, &'static str)>| -> Box<crate::support::hosts::Script> {
        Box::new(move |head| match head {
            head if head.starts_with("POST /deploy") => Some((200, "{}".to_owned())),
            head if head.starts_with("POST") => None,
            head if head.starts_with("DELETE") => Some((204, String::new())),
            _ => info.map(|(status, body)| (status, body.to_owned())),
        })
    };
    let there = ToldHost::start(answers(Some((200, r#"{"status": "Initializing"}"#)))).await;
    let cluster = Cluster::start(0, &[there.address]).await;
    let made = cluster.create("mine").await.expect(201);
    assert_eq!((&made["status"], &made["coordinator_id"]), (&json!("initializing"), &json!("told")));
    let head = there.asked("POST /instances").pop().unwrap().to_lowercase();
    assert!(
        head.contains("x-podium-tenant: acme") && head.contains("x-request-id: ") && head.contains("traceparent: 00-")
    );
    assert!(!head.contains("authorization") && head.contains("x-podium-internal-token: both-know-it"), "{head}");
    cluster.close().await;

    for elsewhere in [(404, ""), (200, r#"{"status": "ready", "incarnation": "another"}"#)] {
        let lost = ToldHost::start(answers(Some(elsewhere))).await;
        let cluster = Cluster::start(1, &[lost.address]).await;
        let made = cluster.create("mine").await.expect(201);
        assert_eq!(made["coordinator_id"], "host-0", "it is not there, so it is started elsewhere");
        assert!(lost.asked("DELETE").is_empty(), "what is there is another one, and left alone");
        cluster.close().await;
    }

    let silent = ToldHost::start(answers(None)).await;
    let cluster = Cluster::start(0, &[silent.address]).await;
    let answer = cluster.create("mine").await;
    assert_eq!(answer.refusal(), (504, "coordinator_timeout".to_owned()));
    assert_eq!(answer.json()["error"]["retryable"], false);
    assert_eq!(silent.asked("DELETE /instances/mine?force=true").len(), 1);
    cluster.close().await;
}

#[tokio::test]
async fn no_coordinator_registered_is_503_at_once_with_retry_after_5() {
    let cluster = Cluster::start(0, &["127.0.0.1:9".parse().unwrap()]).await;
    let answer = cluster.create("mine").await;
    assert_eq!(answer.refusal(), (503, "no_coordinator_available".to_owned()));
    assert_eq!(answer.header("retry-after"), "5");
    cluster.close().await;
}

#[tokio::test]
async fn a_host_lets_in_who_knows_the_token() {
    let cluster = Cluster::start(1, &[]).await;
    let edge = cluster.hosts[0].coordinator.edge();
    for (path, token, status) in [
        ("/health", "", 200),
        ("/admin/status", "", 401),
        ("/admin/status", "both-knew-it", 401),
        ("/admin/status", "both-know-it", 200),
        ("/agent/nobody/info", "both-know-it", 404),
        ("/agent/nobody/info", "", 401),
    ] {
        let request = http::Request::get(path).header("x-podium-internal-token", token);
        let request = request.body(portico::edge::Body::empty()).unwrap();
        let answer = edge.call(request, crate::support::gateway::peer()).await;
        assert_eq!(answer.status(), status, "{path} {token}");
    }
    cluster.close().await;
}
