//! What callers of a whole gateway see while Valkey is away, before and after (`docs/surfaces/podium.md`).

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{
    doors::{Call, Door, socket::Socket},
    gateway::{ADMIN, PATIENCE, TestHouse, schema},
    server::Server,
    stage::Stage,
    valkey::{
        Maker,
        group::{Members, Watched},
        tls::Certificates,
    },
};

const ASK_AGAIN: Duration = Duration::from_millis(20);
/// `docs/surfaces/podium.md` allows a second after the return; the rest is for a busy machine.
const RETURN_PATIENCE: Duration = Duration::from_secs(8);

/// A house with registry and bus on this server, and with limits, so that each call has to do with it.
async fn house(server: &Server) -> TestHouse {
    let url = format!("valkey://{}", server.address());
    TestHouse::with(&[("PORTICO_REGISTRY", &url), ("PORTICO_BUS", &url)]).await
}

/// The status of `/health`, and what it says of Valkey.
async fn health(house: &TestHouse) -> (u16, Value, Value) {
    let answer = house.ask(ADMIN, "GET", "/health").send().await;
    let checks = &answer.json()["checks"];
    (answer.status.as_u16(), checks["registry"]["status"].clone(), checks["bus"]["status"].clone())
}

/// Waits until all of it is well, or none.
async fn becomes(house: &TestHouse, well: bool) -> Duration {
    let began = Instant::now();
    let (status, word) = if well { (200, "healthy") } else { (503, "unhealthy") };
    let asked = async {
        while health(house).await != (status, word.into(), word.into()) {
            sleep(ASK_AGAIN).await;
        }
    };
    let in_time = timeout(PATIENCE, asked).await;
    assert!(in_time.is_ok(), "never {word}: {:?}", health(house).await);
    began.elapsed()
}

async fn makes_a_key(house: &TestHouse) -> crate::support::gateway::Answer {
    house.ask(ADMIN, "POST", "/api/v1/keys").json(&json!({"tenant_id": "acme"})).await
}

#[tokio::test]
async fn valkey_down_at_start_the_gateway_starts_says_so_and_is_well_within_a_second_of_the_return() {
    for maker in Maker::ALL {
        let mut server = maker.start(&[]);
        server.kill();
        let house = house(&server).await;
        assert_eq!(health(&house).await.0, 503);
        assert_eq!(house.ask("", "GET", "/health/ready").send().await.status, 503);
        assert_eq!(house.ask("", "GET", "/health/live").send().await.status, 200);
        house.ask(ADMIN, "GET", "/api/v1/keys").send().await.expect(200);
        assert_eq!(makes_a_key(&house).await.refusal(), (503, "registry_unavailable".to_owned()));

        server.restart();
        let since = Instant::now();
        becomes(&house, true).await;
        makes_a_key(&house).await.expect(201);
        assert!(since.elapsed() < RETURN_PATIENCE, "{:?}", since.elapsed());
        house.close().await;
    }
}

#[tokio::test]
async fn valkey_down_later_reads_and_open_sockets_go_on_and_writes_are_refused_through_every_door() {
    let mut server = Maker::Valkey.start(&[]);
    let stage = Stage::set_in(house(&server).await).await;
    let (house, tenant) = (&stage.house, stage.tenant.as_str());
    let stolen = makes_a_key(house).await.expect(201);
    let mut socket = Socket::open(house, "/agent/echo-1", tenant).await.unwrap();
    socket.echo("before").await;

    server.kill();
    becomes(house, false).await;

    // Reads by keys that are known, and by one that is not known here yet.
    house.ask(tenant, "GET", "/api/v1/instances/echo-1").send().await.expect(200);
    house.ask(stolen["key"].as_str().unwrap(), "GET", "/api/v1/instances").send().await.expect(200);
    socket.echo("during").await;
    Socket::open(house, "/agent/echo-1", tenant).await.unwrap().close().await;

    // Writes: never a 401, and a time to come back.
    let refused = makes_a_key(house).await;
    assert_eq!(refused.refusal(), (503, "registry_unavailable".to_owned()));
    assert_eq!(refused.header("retry-after"), "1");
    let method = schema().method("/podium.v1.InstancesService/CreateInstance").unwrap();
    let message = json!({"deployment_id": stage.deployment_id, "agent_id": "echo-2"});
    for door in Door::of(method) {
        let call = Call { method, messages: vec![message.clone()], key: tenant, answers_max: 1 };
        let told = door.call(house, &call).await;
        assert!(["unavailable", "http 503"].contains(&told.code.as_str()), "{door:?}: {told:?}");
        assert_eq!(told.headers.get("retry-after").unwrap(), "1", "{door:?}: {told:?}");
    }
    for (verb, path, kind) in [
        ("POST", "/api/v1/deployments", "multipart/form-data; boundary=b"),
        ("DELETE", "/api/v1/instances/echo-1", "application/json"),
        ("PUT", "/api/v1/secrets/echo", "application/json"),
        ("PUT", "/api/v1/config", "application/json"),
    ] {
        let refused = house.ask(ADMIN, verb, path).bytes(kind, "{}").await;
        assert_eq!(refused.refusal(), (503, "registry_unavailable".to_owned()), "{verb} {path}");
    }
    // Who has no right to it is told that, and a stolen key is ended even now.
    assert_eq!(house.ask("pod_nothing", "DELETE", "/api/v1/instances/echo-1").send().await.status, 401);
    let path = format!("/api/v1/keys/{}", stolen["key_id"].as_str().unwrap());
    house.ask(ADMIN, "DELETE", &path).send().await.expect(204);
    assert_eq!(
        house.ask(stolen["key"].as_str().unwrap(), "GET", "/api/v1/instances").send().await.refusal(),
        (401, "unauthorized".to_owned())
    );

    server.restart();
    let since = Instant::now();
    while makes_a_key(house).await.status != 201 {
        sleep(ASK_AGAIN).await;
    }
    assert!(since.elapsed() < RETURN_PATIENCE, "{:?}", since.elapsed());
    becomes(house, true).await;
    socket.echo("after").await;
    stage.house.close().await;
}

#[tokio::test]
async fn valkey_frozen_calls_are_answered_and_the_gateway_says_that_it_is_not_ready() {
    let server = Maker::Redis.start(&[]);
    let house = house(&server).await;
    let key = house.key("acme", &[]).await;
    server.freeze();
    becomes(&house, false).await;
    house.ask(&key, "GET", "/api/v1/instances").send().await.expect(200);
    assert_eq!(makes_a_key(&house).await.refusal(), (503, "registry_unavailable".to_owned()));
    server.thaw();
    let took = becomes(&house, true).await;
    assert!(took < RETURN_PATIENCE, "{took:?}");
    makes_a_key(&house).await.expect(201);
    house.close().await;
}

#[tokio::test]
async fn the_urls_of_tls_sentinels_and_clusters_are_taken_from_the_configuration() {
    let files = Certificates::issue();
    let secure = Maker::Redis.start_secure(&files, &[]);
    let (watched, members) =
        futures_util::future::join(Watched::start(Maker::Valkey), Members::start(Maker::Valkey, "any")).await;
    let secure = format!("rediss://localhost:{}/0?{}", secure.address().port(), files.query());
    for url in [secure, watched.url(), members.url()] {
        let house = TestHouse::with(&[("PORTICO_REGISTRY", &url), ("PORTICO_BUS", &url)]).await;
        becomes(&house, true).await;
        makes_a_key(&house).await.expect(201);
        house.close().await;
    }
}
