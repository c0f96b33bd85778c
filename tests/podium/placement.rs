//! Where instances come to run: what callers see when hosts are dead, stale, restarted, draining or hold other bytes.

use futures_util::future::join_all;
use portico::gateway::Stop;
use serde_json::json;

use super::deployments::{fields, packed, upload};
use crate::support::{
    doors::socket::Socket,
    gateway::{ADMIN, PATIENCE, TestHouse},
    hosts::{Cluster, ToldHost, announcing, ready},
    line::Line,
    stage::bundle,
    valkey::{self, Maker},
};

const PATH: &str = "/api/v1/instances";

#[tokio::test]
async fn chosen_host_dead_lease_not_yet_expired_and_the_next_of_three_is_asked() {
    // The told ones have more room than the real one, so they are chosen first while they seem to live.
    let mut lines = Vec::new();
    for at in 0..4 {
        let told = ToldHost::called(&format!("told-{at}"), ready()).await;
        lines.push(Line::to(told.address).await);
    }
    let addresses: Vec<_> = lines.iter().map(|line| line.address).collect();
    let two_dead = Cluster::start(1, &addresses[..2]).await;
    let four_dead = Cluster::start(0, &addresses).await;
    for line in &mut lines {
        line.cut().await;
    }
    // Two hosts fail, the third takes it; of four that fail, three are asked.
    let (taken, refused) = tokio::join!(two_dead.create("mine"), four_dead.create("mine"));
    assert_eq!(taken.expect(201)["coordinator_id"], "host-0");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(!refused.header("retry-after").is_empty());
    let gone = four_dead.house.ask(&four_dead.tenant, "GET", &format!("{PATH}/mine")).send().await;
    assert_eq!(gone.refusal(), (404, "instance_not_found".to_owned()));
    two_dead.close().await;
    four_dead.close().await;
}

#[tokio::test]
async fn host_restarts_instance_lost_is_failed_and_its_socket_is_410() {
    let mut cluster = Cluster::start(1, &[]).await;
    cluster.create("mine").await.expect(201);
    let path = format!("{PATH}/mine");
    cluster.until(&path, |it| it["status"] == "ready").await;
    let host = cluster.hosts.remove(0).restarted().await;
    cluster.hosts.push(host);
    cluster.until(&path, |it| it["status"] == "failed").await;
    let (status, body) = Socket::open(&cluster.house, "/agent/mine", &cluster.tenant).await.err().unwrap();
    assert!(status == 410 && body.contains("instance_terminated"), "{status} {body}");
    cluster.close().await;
}

#[tokio::test]
async fn stale_load_numbers_thundering_herd_spreads_all_the_same() {
    // Whatever comes, these hosts go on saying that they run nothing.
    let (mut hosts, each) = (Vec::new(), 20);
    for at in 0..4 {
        hosts.push(ToldHost::called(&format!("told-{at}"), ready()).await);
    }
    let addresses: Vec<_> = hosts.iter().map(|host| host.address).collect();
    let cluster = Cluster::start(0, &addresses).await;
    let all = each * hosts.len();
    let made = join_all((0..all).map(async |at| cluster.create(&format!("agent-{at}")).await)).await;
    made.iter().for_each(|answer| assert_eq!(answer.status, 201, "{answer:?}"));
    let taken: Vec<_> = hosts.iter().map(|host| host.asked("POST /instances").len()).collect();
    assert_eq!(taken.iter().sum::<usize>(), all);
    assert!(taken.iter().all(|count| count.abs_diff(each) <= each / 2), "{taken:?}");
    cluster.close().await;
}

#[tokio::test]
async fn placement_record_lost_is_404_and_a_flushed_valkey_loses_none() {
    let server = Maker::Valkey.start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let (url, blobs) =
        (format!("valkey://{}", server.address()), format!("file:{}", folder.path().join("b").display()));
    let host = announcing(&url, &blobs, &folder.path().join("host")).await;
    let house = TestHouse::with(&[
        ("PORTICO_LIMITS", "off"),
        ("PORTICO_REGISTRY", &url),
        ("PORTICO_BLOBS", &blobs),
        ("PORTICO_FLEET", "coordinator:"),
    ])
    .await;
    upload(&house, ADMIN, &fields("1.0.0", &bundle())).await.expect(201);
    let create = async |id: &str| {
        let body = json!({"agent_type": "echo", "agent_id": id});
        house.ask(ADMIN, "POST", PATH).json(&body).await
    };
    until(async || create("mine").await.status == 201).await;

    let mut direct = valkey::speak(&server).await;
    redis::cmd("FLUSHALL").query_async::<()>(&mut direct).await.unwrap();
    // Known all the while, by whichever gateway; and hosts come back by themselves.
    let shown = house.ask(ADMIN, "GET", &format!("{PATH}/mine")).send().await.expect(200);
    assert_eq!(shown["coordinator_id"], host.id());
    until(async || create("other").await.status == 201).await;
    until(async || house.ask(ADMIN, "GET", &format!("{PATH}/mine")).send().await.expect(200)["status"] == "ready")
        .await;
    let nobody = house.ask(ADMIN, "GET", &format!("{PATH}/nobody")).send().await;
    assert_eq!(nobody.refusal(), (404, "instance_not_found".to_owned()));
    house.close().await;
    host.drain(Stop::AtOnce).await;
}

#[tokio::test]
async fn draining_host_gets_nothing_new_and_keeps_its_sockets() {
    let mut cluster = Cluster::start(2, &[]).await;
    let made = cluster.create("mine").await.expect(201);
    let id = made["coordinator_id"].as_str().unwrap().to_owned();
    cluster.until(&format!("{PATH}/mine"), |it| it["status"] == "ready").await;
    let mut socket = Socket::open(&cluster.house, "/agent/mine", &cluster.tenant).await.unwrap();
    let at = cluster.hosts.iter().position(|host| host.coordinator.id() == id).unwrap();
    let (draining, other) = (cluster.hosts.remove(at), cluster.hosts[0].coordinator.id().to_owned());
    let checks = async {
        for new in ["a", "b"] {
            assert_eq!(cluster.create(new).await.expect(201)["coordinator_id"], *other);
        }
        // The other one is full now.
        assert_eq!(cluster.create("c").await.status, 503);
        let said = json!({"type": "process_message", "content": {"text": "still here", "messages": []}});
        socket.send(said.to_string()).await;
        while !socket.next().await.to_text().unwrap().contains("complete") {}
    };
    // It serves on for the three seconds in which load balancers notice, and waits for its callers after that.
    tokio::select! {
        biased;
        () = checks => {}
        () = draining.coordinator.drain(Stop::WithNotice) => panic!("it ended before its socket was looked at"),
    }
    cluster.close().await;
}

#[tokio::test]
async fn coordinator_downloads_other_bytes_than_uploaded_and_does_not_run_them() {
    let mut cluster = Cluster::start(1, &[]).await;
    // No host fetches it while it is what was uploaded.
    cluster.hosts[0].line.cut().await;
    let told = packed(br#"{"command": ["python3", "agent.py"]}"#);
    let made = upload(&cluster.house, ADMIN, &fields("2.0.0", &told)).await.expect(201);
    let lies = cluster.blobs().join("dev/deployments/echo/2.0.0/echo-2.0.0.tar.gz");
    std::fs::write(&lies, packed(br#"{"command": ["sh", "harm.sh"]}"#)).unwrap();
    cluster.hosts[0].line.join().await;
    let create = async || {
        let body = json!({"deployment_id": made["deployment_id"], "agent_id": "mine"});
        cluster.house.ask(&cluster.tenant, "POST", PATH).json(&body).await
    };
    // The host has to be noticed first.
    until(async || create().await.refusal().0 != 503).await;
    assert_eq!(create().await.refusal(), (502, "deployment_failed".to_owned()));
    assert!(cluster.hosts[0].agents().await.is_empty());
    cluster.close().await;
}

#[tokio::test]
async fn unknown_deployment_is_404_and_no_host_is_asked() {
    let told = ToldHost::start(ready()).await;
    let cluster = Cluster::start(0, &[told.address]).await;
    for wanted in [json!({"deployment_id": "echo:9.9.9@2b795103"}), json!({"agent_type": "unheard-of"})] {
        let answer = cluster.house.ask(&cluster.tenant, "POST", PATH).json(&wanted).await;
        assert_eq!(answer.refusal(), (404, "deployment_not_found".to_owned()), "{wanted}");
    }
    assert_eq!(told.asked("POST /instances").len(), 0);
    cluster.close().await;
}

/// Asks until it is so.
async fn until(is_so: impl AsyncFn() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("it becomes so");
}
