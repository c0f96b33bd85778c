//! What a gateway does when Redis or Valkey is frozen, killed, read-only, refuses it or talks nonsense.

mod groups;
mod leases;
mod slow;
mod told;

use std::{
    io::{Read, Write},
    net::TcpListener,
    time::Duration,
};

use futures_util::StreamExt;
use portico::{
    backend::valkey::{Valkey, ValkeyBus, ValkeyRegistry},
    base::{Code, Retry, health::State, reason},
    port::{
        bus::{Bus, Event, From, Subscription},
        fleet::Announced,
        registry::{Announcement, Rate, Registry, Take},
    },
};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{
    server::Server,
    valkey::{self, Maker},
};

/// `docs/surfaces/podium.md` allows half a second for a command; the rest is for a busy machine.
const COMMAND_PATIENCE: Duration = Duration::from_secs(3);
/// `docs/surfaces/podium.md` allows a second after the return; the rest is for a busy machine.
const RETURN_PATIENCE: Duration = Duration::from_secs(8);
const EVENT_PATIENCE: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(20);
const TTL: Duration = Duration::from_secs(600);

struct Parts {
    registry: ValkeyRegistry,
    bus: ValkeyBus,
    heard: Subscription,
}

impl Parts {
    async fn on(server: &Server) -> Parts {
        Parts::of(&valkey::connect(server)).await
    }

    async fn of(valkey: &Valkey) -> Parts {
        let (registry, bus) = (valkey.registry(), valkey.bus());
        let heard = bus.subscribe("facts", From::Now).await.unwrap();
        let mut parts = Parts { registry, bus, heard };
        parts.announce("a").await.map_err(|error| error.report()).unwrap();
        parts.tell("before").await;
        parts
    }

    async fn announce(&self, id: &str) -> portico::base::Result<()> {
        let host =
            Announcement { id: id.to_owned(), body: format!(r#"{{"id":"{id}","load":0.5,"deployments":["x"]}}"#) };
        self.registry.announce("coordinators", host, TTL).await
    }

    async fn ids(&self) -> Vec<String> {
        self.registry.live("coordinators").await.unwrap().into_iter().map(|host| host.id).collect()
    }

    async fn bus_tells(&self, body: &str) -> portico::base::Result<()> {
        self.bus.publish("facts", body.to_owned()).await.map(|_| ())
    }

    async fn tell(&mut self, body: &str) {
        self.bus_tells(body).await.unwrap();
        assert_eq!(self.next().await, body);
    }

    async fn next(&mut self) -> String {
        match timeout(EVENT_PATIENCE, self.heard.next()).await.expect("something is heard").expect("a bus does not end")
        {
            Ok(Event::Message(message)) => message.body.to_string(),
            Ok(Event::Missed) => "missed".to_owned(),
            Err(_) => "away".to_owned(),
        }
    }

    /// While the server is away: quick refusals that say so, limits kept here, and nobody is told to sign in again.
    async fn is_away(&mut self) {
        assert_eq!(self.next().await, "away");
        self.refuses().await;
    }

    async fn refuses(&mut self) {
        let began = Instant::now();
        let refused = self.announce("b").await.unwrap_err();
        assert!(began.elapsed() < COMMAND_PATIENCE, "{:?}", began.elapsed());
        assert_eq!((refused.code(), refused.reason()), (Code::Unavailable, reason::REGISTRY_UNAVAILABLE));
        assert!(matches!(refused.retry_hint(), Retry::After(_)));
        let rate = Rate { per_minute: 1, burst: 2 };
        let take = async || matches!(self.registry.take("calls", "ann", rate).await.unwrap(), Take::Granted { .. });
        assert_eq!([take().await, take().await, take().await], [true, true, false]);
        let health = self.registry.health().await.unwrap();
        assert_eq!(health.state, State::Down);
        assert!(health.note.unwrap().contains("limits are kept"));
        assert_eq!(self.bus.health().await.unwrap().state, State::Down);
    }

    /// Since the server is back: all works without a restart, and listeners know that they missed something.
    async fn is_back(&mut self, since: Instant) {
        while self.announce("c").await.is_err() {
            sleep(ASK_AGAIN).await;
        }
        assert!(since.elapsed() < RETURN_PATIENCE, "{:?}", since.elapsed());
        assert_eq!(self.registry.health().await.unwrap().state, State::Ok);
        assert!(self.ids().await.contains(&"c".to_owned()));
        assert_eq!(self.next().await, "missed");
        self.tell("after").await;
    }
}

#[tokio::test]
async fn a_frozen_server_is_known_as_away_and_used_again_when_it_thaws() {
    for maker in Maker::ALL {
        let server = maker.start(&[]);
        let mut parts = Parts::on(&server).await;
        server.freeze();
        parts.is_away().await;
        server.thaw();
        parts.is_back(Instant::now()).await;
    }
}

#[tokio::test]
async fn a_killed_server_is_used_again_when_it_returns() {
    for maker in Maker::ALL {
        let mut server = maker.start(&[]);
        let mut parts = Parts::on(&server).await;
        server.kill();
        parts.is_away().await;
        server.restart();
        parts.is_back(Instant::now()).await;
        assert_eq!(parts.ids().await, ["a", "c"], "the server kept what it was told");
    }
}

#[tokio::test]
async fn a_server_that_lost_its_memory_is_read_from_its_new_beginning() {
    let mut server = Maker::Redis.start(&[]);
    let mut parts = Parts::on(&server).await;
    // As if its clock had been ahead before the crash.
    let mut direct = valkey::speak(&server).await;
    redis::cmd("XADD")
        .arg("podium:bus:facts")
        .arg("9999999999999-0")
        .arg("body")
        .arg("far ahead")
        .query_async::<()>(&mut direct)
        .await
        .unwrap();
    assert_eq!(parts.next().await, "far ahead");
    redis::cmd("FLUSHALL").query_async::<()>(&mut direct).await.unwrap();
    server.kill();
    assert_eq!(parts.next().await, "away");
    server.restart();
    assert_eq!(parts.next().await, "missed");
    parts.tell("anew").await;
}

#[tokio::test]
async fn connections_reset_in_the_middle_fail_no_call_that_may_be_repeated() {
    let server = Maker::Valkey.start(&[]);
    let mut parts = Parts::on(&server).await;
    let mut direct = valkey::speak(&server).await;
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").query_async::<()>(&mut direct).await.unwrap();
    parts.announce("b").await.unwrap();
    assert_eq!(parts.ids().await, ["a", "b"]);
    assert_eq!([parts.next().await, parts.next().await], ["away", "missed"]);
    parts.tell("after").await;
}

#[tokio::test]
async fn a_replica_is_known_as_away_until_it_is_promoted() {
    let server = Maker::Redis.start(&[]);
    let mut parts = Parts::on(&server).await;
    let mut direct = valkey::speak(&server).await;
    let mut replica_of = async |host: &str, port: &str| {
        redis::cmd("REPLICAOF").arg(host).arg(port).query_async::<()>(&mut direct).await.unwrap();
    };
    replica_of("127.0.0.1", "1").await;
    assert_eq!(parts.announce("b").await.unwrap_err().reason(), reason::REGISTRY_UNAVAILABLE);
    assert_eq!(parts.registry.health().await.unwrap().state, State::Down);
    replica_of("no", "one").await;
    let since = Instant::now();
    while parts.announce("b").await.is_err() {
        sleep(ASK_AGAIN).await;
    }
    assert!(since.elapsed() < RETURN_PATIENCE);
    parts.bus.publish("facts", "after".to_owned()).await.unwrap();
    // A server that changes its role may end what waits on it.
    while parts.next().await != "after" {}
}

#[tokio::test]
async fn a_refused_password_is_said_without_it_and_tried_again() {
    let server = Maker::Valkey.start(&["--user", "portico", "on", ">right", "~podium:*", "+@all"]);
    let at = |password: &str| format!("valkey://portico:{password}@{}/0", server.address());
    let wrong = valkey::open(&at("mistaken")).registry();
    let health = wrong.health().await.unwrap();
    assert_eq!(health.state, State::Down);
    let note = health.note.unwrap();
    assert!(note.contains("authentication failed") && !note.contains("mistaken"), "{note}");
    let mut direct = valkey::speak(&server).await;
    redis::cmd("ACL").arg("SETUSER").arg("portico").arg(">mistaken").query_async::<()>(&mut direct).await.unwrap();
    let since = Instant::now();
    while wrong.health().await.unwrap().state != State::Ok {
        sleep(ASK_AGAIN).await;
    }
    assert!(since.elapsed() < RETURN_PATIENCE);
    let right = valkey::open(&at("right"));
    assert_eq!(right.registry().health().await.unwrap().state, State::Ok);
}

#[tokio::test]
async fn nonsense_from_the_server_is_a_refusal_and_nothing_worse() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _asked = stream.read(&mut [0; 1_024]);
            let _told = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>\r\n$-7\r\n*x\r\n");
        }
    });
    let registry = valkey::open(&format!("valkey://{address}")).registry();
    let refused = registry.live("coordinators").await.unwrap_err();
    assert_eq!(refused.reason(), reason::REGISTRY_UNAVAILABLE);
    let rate = Rate { per_minute: 1, burst: 1 };
    assert!(matches!(registry.take("calls", "ann", rate).await.unwrap(), Take::Granted { .. }));
}

#[tokio::test]
async fn operators_find_the_fields_of_the_facts_and_hosts_of_other_makes_are_found() {
    let server = Maker::Valkey.start(&[]);
    let parts = Parts::on(&server).await;
    let mut direct = valkey::speak(&server).await;
    let ask = |words: &'static str| {
        let mut asked = redis::Cmd::new();
        words.split(' ').for_each(|word| {
            asked.arg(word);
        });
        asked
    };
    let load: String = ask("HGET podium:coordinators:a load").query_async(&mut direct).await.unwrap();
    assert_eq!(load, "0.5");
    ask("HSET podium:coordinators:z id z max_agents 8 chronicle 1 epoch 77")
        .query_async::<()>(&mut direct)
        .await
        .unwrap();
    ask("SADD podium:coordinators z gone").query_async::<()>(&mut direct).await.unwrap();
    let live = parts.registry.live("coordinators").await.unwrap();
    let body: serde_json::Value = serde_json::from_str(&live.last().unwrap().body).unwrap();
    assert_eq!(body, serde_json::json!({"id": "z", "max_agents": 8, "chronicle": 1, "epoch": "77"}));
    serde_json::from_value::<Announced>(body).unwrap();
    let ids: Vec<String> = ask("SMEMBERS podium:coordinators").query_async(&mut direct).await.unwrap();
    assert!(!ids.contains(&"gone".to_owned()), "what has no hash is dead");
}

#[tokio::test]
async fn a_clock_that_went_back_locks_nobody_out() {
    let server = Maker::Valkey.start(&[]);
    let registry = valkey::connect(&server).registry();
    // What a server wrote whose clock was two hours ahead of the one that has taken over from it.
    let set = "local t = redis.call('TIME') redis.call('SET', KEYS[1], string.format('%.0f', (t[1] + 7200) * 1000000))";
    let mut direct = valkey::speak(&server).await;
    redis::Script::new(set).key("podium:ratelimit:ann:calls").invoke_async::<()>(&mut direct).await.unwrap();
    let rate = Rate { per_minute: 60, burst: 10 };
    let Take::Later(wait) = registry.take("calls", "ann", rate).await.unwrap() else { panic!("it is empty") };
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
}
