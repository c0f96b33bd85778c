//! Half-open lines between gateway and host: connected, and silent for ever.

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use portico::edge::Body;
use tokio::time::Instant;

use crate::support::{
    doors::socket::Socket,
    gateway::{PATIENCE, peer},
    hosts::Cluster,
    line::Way,
};

/// What a gateway takes to notice: its longest silence, and what it asks then.
const NOTICED_AFTER_SECONDS: std::ops::RangeInclusive<u64> = 30..=70;

#[tokio::test]
async fn half_open_tcp_to_a_frozen_host_frees_both_ends_of_tunnels_and_of_followed_logs() {
    let mut cluster = Cluster::start(1, &[]).await;
    cluster.create("mine").await.expect(201);
    cluster.until("/api/v1/instances/mine", |it| it["status"] == "ready").await;
    let socket = Socket::open(&cluster.house, "/agent/mine", &cluster.tenant).await.unwrap();
    let mut log = follow(&cluster).await;
    let host = cluster.host("host-0");
    assert_eq!(in_flight(host.coordinator.edge()).await, (2, 1), "a log and a socket");

    host.line.goes(Way::Frozen);
    let began = Instant::now();
    tokio::time::pause();
    let (code, told) = tokio::join!(socket.closed(), heard(&mut log));
    assert_eq!(code, 1011);
    assert!(told.contains("event: error") && told.contains("coordinator_lost"), "{told}");
    // The host has noticed too: nobody answers its pings, and what nobody reads is given up.
    while in_flight(cluster.host("host-0").coordinator.edge()).await.1 > 0 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    assert!(NOTICED_AFTER_SECONDS.contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    tokio::time::resume();
    cluster.host("host-0").line.cut().await;
    cluster.close().await;
}

/// The log of the instance, as events.
async fn follow(cluster: &Cluster) -> Body {
    let request = Request::get("/api/v1/instances/mine/logs:follow")
        .header("authorization", format!("Bearer {}", cluster.tenant))
        .header("accept", "text/event-stream");
    let answer = cluster.house.call(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status(), 200);
    answer.into_body()
}

/// What is heard until the end.
async fn heard(log: &mut Body) -> String {
    let mut told = Vec::new();
    while let Some(frame) = log.frame().await {
        told.extend_from_slice(frame.unwrap().data_ref().unwrap_or(&Bytes::new()));
    }
    String::from_utf8(told).unwrap()
}

/// The calls that a host serves at the moment, and how many of them are sockets.
async fn in_flight(host: &portico::edge::Edge) -> (u64, u64) {
    let answer = host.call(Request::get("/metrics").body(Body::empty()).unwrap(), peer());
    let text = tokio::time::timeout(PATIENCE, answer).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let read = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap();
    (read("portico_calls_in_flight "), read("portico_sockets_open "))
}
