//! Hosts that the registry knows: what is announced is found, and what may not be dialled is not.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use portico::{
    backend::{
        coordinator::{Config, Coordinators, Papers},
        local::registry::LocalRegistry,
    },
    base::{Error, Outgoing, Result, health::Health, reason, tasks::Tasks},
    config::Sources,
    gateway::{Coordinator, Stop},
    port::{
        Answer,
        fleet::{ANNOUNCED, Announced, At, Bundle, Fleet, Frame, HostLoad},
        registry::{Announcement, Present, Rate, Registry, Take},
    },
};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, tungstenite};

use super::fleet::start;
use crate::support::{
    hosts::{HANGS, ToldHost, ready},
    valkey::{self, Maker},
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any test.
const TTL: Duration = Duration::from_secs(600);

fn config() -> Config {
    Config {
        listed: Vec::new(),
        environment: "dev".to_owned(),
        token: None,
        networks: vec!["127.0.0.0/8".parse().unwrap()],
        papers: Papers::default(),
        source_base: "blobs:///".to_owned(),
    }
}

fn gateway(registry: &(impl Registry + Clone), tasks: &Tasks) -> Coordinators {
    Coordinators::start(config(), Arc::new(registry.clone()), tasks.clone()).unwrap()
}

/// Announces a host by hand, whose clock shows this.
async fn announce(registry: &impl Registry, id: &str, address: SocketAddr, at: i64) {
    let said = Announced {
        url: format!("http://{address}"),
        environment: "dev".to_owned(),
        status: "healthy".to_owned(),
        max_agents: 9,
        started_at: at,
        heartbeat_at: at,
        ..Announced::default()
    };
    let announcement = Announcement { id: id.to_owned(), body: serde_json::to_string(&said).unwrap() };
    registry.announce(ANNOUNCED, announcement, TTL).await.unwrap();
}

fn bundle() -> Bundle {
    Bundle {
        deployment_id: "echo:1.0.0@2b795103".to_owned(),
        agent_type: "echo".to_owned(),
        version: "1.0.0".to_owned(),
        checksum: "0".repeat(64),
        blob_key: "echo".to_owned(),
    }
}

async fn until(fleet: &Coordinators, is_so: impl Fn(&[HostLoad]) -> bool) -> Arc<[HostLoad]> {
    let asking = async {
        loop {
            let hosts = fleet.hosts().await.unwrap();
            if is_so(&hosts) {
                return hosts;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("hosts that are so")
}

#[tokio::test]
async fn a_host_announces_itself_says_that_it_drains_and_is_gone() {
    let (registry, tasks, folder) = (LocalRegistry::new(), Tasks::new(), tempfile::tempdir().unwrap());
    let config = Sources::new()
        .set("test", "listen", "127.0.0.1:0")
        .set("test", "data", folder.path().to_str().unwrap())
        .set("test", "fleet.id", "host-1");
    let config = config.load().unwrap().config;
    let host = Coordinator::announcing_in(config, Arc::new(registry.clone())).await.unwrap();
    let fleet = gateway(&registry, &tasks);

    let hosts = until(&fleet, |hosts| hosts.iter().any(|host| host.healthy)).await;
    assert_eq!((hosts[0].id.as_str(), hosts[0].active_max, hosts[0].draining), ("host-1", 64, false));
    let said: Announced = serde_json::from_str(&registry.live(ANNOUNCED).await.unwrap()[0].body).unwrap();
    assert_eq!((said.url, said.status.as_str()), (format!("http://{}", host.address()), "healthy"));
    assert!(said.epoch.starts_with("epoch_") && said.heartbeat_at >= said.started_at && said.environment == "dev");

    host.drain(Stop::AtOnce).await;
    assert!(registry.live(ANNOUNCED).await.unwrap().is_empty());
    until(&fleet, <[HostLoad]>::is_empty).await;
    let error = fleet.info(&At::new("host-1", "a")).await.map(|_| ()).unwrap_err();
    assert_eq!(error.reason(), reason::COORDINATOR_UNAVAILABLE);
    tasks.close();
}

#[tokio::test]
async fn what_runs_on_a_host_that_the_registry_forgot_is_still_asked_for_and_nothing_new_is_sent_there() {
    let (registry, tasks, folder) = (LocalRegistry::new(), Tasks::new(), tempfile::tempdir().unwrap());
    let config = Sources::new()
        .set("test", "listen", "127.0.0.1:0")
        .set("test", "data", folder.path().to_str().unwrap())
        .set("test", "fleet.id", "host-1");
    // It announces itself in a registry of its own, and is announced here by hand.
    let host = Coordinator::start(config.load().unwrap().config).await.unwrap();
    announce(&registry, "host-1", host.address(), 0).await;
    let fleet = gateway(&registry, &tasks);
    until(&fleet, |hosts| hosts.iter().any(|host| host.healthy)).await;

    registry.withdraw(ANNOUNCED, "host-1").await.unwrap();
    until(&fleet, <[HostLoad]>::is_empty).await;
    let answered = fleet.info(&At::new("host-1", "nobody")).await.map(|_| ()).unwrap_err();
    assert_eq!(answered.reason(), reason::INSTANCE_NOT_FOUND, "it says so itself");
    host.drain(Stop::AtOnce).await;
    let away = fleet.info(&At::new("host-1", "nobody")).await.map(|_| ()).unwrap_err();
    assert_eq!(away.reason(), reason::COORDINATOR_UNAVAILABLE);
    tasks.close();
}

#[tokio::test]
async fn a_valkey_without_a_memory_comes_back_and_hosts_that_it_forgot_are_here_all_the_while() {
    let mut server = Maker::Valkey.start(&["--appendonly", "no"]);
    let (tasks, folder) = (Tasks::new(), tempfile::tempdir().unwrap());
    let config = Sources::new()
        .set("test", "listen", "127.0.0.1:0")
        .set("test", "data", folder.path().to_str().unwrap())
        .set("test", "fleet.id", "host-1");
    let registry = valkey::connect(&server).registry();
    let announced = Arc::new(valkey::connect(&server).registry());
    let host = Coordinator::announcing_in(config.load().unwrap().config, announced).await.unwrap();
    let fleet = gateway(&registry, &tasks);
    until(&fleet, |hosts| hosts.iter().any(|host| host.healthy)).await;

    server.restart();
    let announces_itself = async {
        while !registry.live(ANNOUNCED).await.is_ok_and(|live| live.len() == 1) {
            assert_eq!(fleet.hosts().await.unwrap().len(), 1, "it was taken for gone");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, announces_itself).await.expect("an announcement");
    assert!(fleet.hosts().await.unwrap()[0].healthy);
    host.drain(Stop::AtOnce).await;
    tasks.close();
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_any_more_gives_its_place_back() {
    let (registry, tasks) = (LocalRegistry::new(), Tasks::new());
    let silent = ToldHost::start(Box::new(|head| match head.starts_with("POST") {
        true => Some((HANGS, String::new())),
        false => (ready())(head),
    }));
    let silent = silent.await;
    announce(&registry, "host-1", silent.address, 0).await;
    let fleet = gateway(&registry, &tasks);
    until(&fleet, |hosts| hosts.iter().any(|host| host.healthy)).await;

    let starting = fleet.create("host-1", start("agent_1", bundle()));
    let reserved = async || registry.live(ANNOUNCED).await.unwrap()[0].reserved;
    let asked = async {
        while silent.asked("POST").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(reserved().await, 1);
    };
    tokio::select! {
        _ = starting => panic!("it is not answered"),
        asked = tokio::time::timeout(PATIENCE, asked) => asked.expect("the host is asked"),
    }
    let given_back = async {
        while reserved().await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, given_back).await.expect("the place is given back");
    tasks.close();
}

/// A registry in which no place can be reserved.
#[derive(Clone)]
struct Unreserving(LocalRegistry);

impl Registry for Unreserving {
    fn announce<'a>(&'a self, kind: &'static str, announcement: Announcement, ttl: Duration) -> Answer<'a, ()> {
        self.0.announce(kind, announcement, ttl)
    }

    fn withdraw<'a>(&'a self, kind: &'static str, id: &'a str) -> Answer<'a, ()> {
        self.0.withdraw(kind, id)
    }

    fn live(&self, kind: &'static str) -> Answer<'_, Vec<Present>> {
        self.0.live(kind)
    }

    fn reserve<'a>(&'a self, _kind: &'static str, _id: &'a str, _ttl: Duration) -> Answer<'a, u32> {
        Box::pin(async { Err(Error::unavailable(reason::REGISTRY_UNAVAILABLE, "out of reach", "just then")) })
    }

    fn release<'a>(&'a self, kind: &'static str, id: &'a str) -> Answer<'a, ()> {
        self.0.release(kind, id)
    }

    fn take<'a>(&'a self, bucket: &'static str, key: &'a str, rate: Rate) -> Answer<'a, Take> {
        self.0.take(bucket, key, rate)
    }

    fn returned(&self, before: u64) -> Answer<'_, u64> {
        self.0.returned(before)
    }

    fn reach(&self) -> Result<()> {
        self.0.reach()
    }

    fn health(&self) -> Answer<'_, Health> {
        self.0.health()
    }
}

#[tokio::test]
async fn a_start_without_a_place_gives_no_other_ones_place_back() {
    let (registry, tasks) = (LocalRegistry::new(), Tasks::new());
    let refusing = ToldHost::start(Box::new(|head| match head.starts_with("POST") {
        true => Some((503, String::new())),
        false => (ready())(head),
    }));
    let refusing = refusing.await;
    announce(&registry, "host-1", refusing.address, 0).await;
    let fleet = gateway(&Unreserving(registry.clone()), &tasks);
    until(&fleet, |hosts| hosts.iter().any(|host| host.healthy)).await;
    assert_eq!(registry.reserve(ANNOUNCED, "host-1", TTL).await.unwrap(), 1, "another gateway's start");
    let refused = fleet.create("host-1", start("agent_1", bundle())).await;
    assert_eq!(refused.unwrap_err().reason(), reason::COORDINATOR_UNAVAILABLE);
    // A place is given back by a task of its own.
    tasks.close();
    assert_eq!(tasks.wait(PATIENCE).await, 0);
    assert_eq!(registry.live(ANNOUNCED).await.unwrap()[0].reserved, 1);
}

#[tokio::test]
async fn what_was_started_is_counted_until_the_host_says_something_new() {
    let (registry, tasks) = (LocalRegistry::new(), Tasks::new());
    let told = ToldHost::start(ready()).await;
    announce(&registry, "host-1", told.address, 1).await;
    let fleet = gateway(&registry, &tasks);
    until(&fleet, |hosts| hosts.iter().any(|host| host.healthy)).await;

    fleet.create("host-1", start("agent_1", bundle())).await.unwrap();
    // Two looks later, each of which finds a host that was not there before.
    for id in ["host-2", "host-3"] {
        announce(&registry, id, told.address, 1).await;
        let hosts = until(&fleet, |hosts| hosts.iter().any(|host| host.id == id)).await;
        assert_eq!(hosts.iter().find(|host| host.id == "host-1").unwrap().active, 1);
    }
    announce(&registry, "host-1", told.address, 2).await;
    until(&fleet, |hosts| hosts.iter().all(|host| host.active == 0)).await;
    tasks.close();
}

#[tokio::test]
async fn coordinator_url_in_valkey_points_to_an_odd_place_and_nothing_is_dialled() {
    let server = Maker::Valkey.start(&[]);
    let (registry, tasks) = (valkey::connect(&server).registry(), Tasks::new());
    let say = async |id: &str, body: String| {
        registry.announce(ANNOUNCED, Announcement { id: id.to_owned(), body }, TTL).await.unwrap();
    };
    let at = |url: &str, environment: &str| {
        let said = Announced {
            url: url.to_owned(),
            environment: environment.to_owned(),
            status: "healthy".to_owned(),
            max_agents: 9,
            ..Announced::default()
        };
        serde_json::to_string(&said).unwrap()
    };
    say("metadata", at("http://169.254.169.254", "dev")).await;
    say("file", at("file:///etc/passwd", "dev")).await;
    say("name", at("http://localhost.invalid:1", "dev")).await;
    say("elsewhere", at("http://127.0.0.1:1", "production")).await;
    say("garbage", "<html>".to_owned()).await;
    // One that is where it may be leads elsewhere.
    let told = ToldHost::start(Box::new(|_| Some((302, String::new())))).await;
    say("redirects", at(&format!("http://{}", told.address), "dev")).await;
    let fleet = gateway(&registry, &tasks);
    // One that is called by a name is found out when it is resolved, as often as a host that fails.
    let hosts = until(&fleet, |hosts| hosts.iter().all(|host| !host.healthy)).await;
    let ids: Vec<_> = hosts.iter().map(|host| host.id.as_str()).collect();
    assert_eq!(ids, ["file", "metadata", "name", "redirects"]);
    for outside in ["metadata", "file"] {
        let at = At::new(outside, "a");
        let (called, opened) =
            (fleet.info(&at).await, fleet.attach(&at, None, Box::pin(futures_util::stream::pending())).await);
        for refused in [called.map(|_| ()), opened.map(|_| ())] {
            assert_eq!(refused.unwrap_err().reason(), reason::COORDINATOR_ERROR, "{outside}");
        }
    }
    assert!(!told.asked("GET /health").is_empty());
    tasks.close();
}

#[tokio::test]
async fn a_listed_url_outside_of_the_allowed_schemes_and_networks_is_refused_at_the_start() {
    let tasks = Tasks::new();
    for url in ["http://169.254.169.254", "http://8.8.8.8:9090", "file:///etc/passwd", "gopher://127.0.0.1:9090"] {
        let config = Config { listed: vec![url.to_owned()], ..config() };
        let refused = Coordinators::start(config, Arc::new(LocalRegistry::new()), tasks.clone()).map(|_| ());
        assert!(refused.unwrap_err().message().contains("outside of fleet.networks"), "{url}");
    }
    let config = Config { listed: vec!["http://127.0.0.1:9".to_owned()], ..config() };
    assert!(Coordinators::start(config, Arc::new(LocalRegistry::new()), tasks.clone()).is_ok());
    tasks.close();
}

#[tokio::test]
async fn clock_skew_says_nothing_of_a_host_since_only_its_lease_does() {
    let server = Maker::Valkey.start(&[]);
    let (registry, tasks) = (valkey::connect(&server).registry(), Tasks::new());
    let told = ToldHost::start(ready()).await;
    announce(&registry, "long-ago", told.address, 1_000).await;
    announce(&registry, "far-ahead", told.address, 99_999_999_999_999).await;
    let fleet = gateway(&registry, &tasks);
    let both = |hosts: &[HostLoad]| hosts.len() == 2 && hosts.iter().all(|host| host.healthy);
    until(&fleet, both).await;
    // Both stay while their leases do, and are gone with them.
    valkey::pass(&[&server], TTL).await;
    until(&fleet, <[HostLoad]>::is_empty).await;
    tasks.close();
}

/// A stream of an instance on a host that says what it is told to, and the other end of it.
async fn tunnel(tasks: &Tasks) -> (Outgoing<Frame>, WebSocketStream<TcpStream>) {
    let registry = LocalRegistry::new();
    let told = ToldHost::start(ready()).await;
    announce(&registry, "told", told.address, 0).await;
    let fleet = gateway(&registry, tasks);
    until(&fleet, |hosts| hosts.iter().any(|host| host.healthy)).await;
    let at = At::new("told", "mine");
    let (stream, far) = tokio::join!(fleet.attach(&at, None, Box::pin(futures_util::stream::pending())), async {
        told.dialled().await.accept().await
    });
    (stream.unwrap(), far)
}

#[tokio::test]
async fn host_dies_with_live_sockets_unheard_and_45_s_of_silence_tell() {
    let tasks = Tasks::new();
    let (mut stream, far) = tunnel(&tasks).await;
    // Its connection stays open, and nothing comes over it any more, pongs neither.
    let began = tokio::time::Instant::now();
    tokio::time::pause();
    let lost = stream.next().await.unwrap().unwrap_err();
    assert_eq!(lost.reason(), reason::COORDINATOR_LOST);
    assert!((44..=47).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    drop(far);
    tasks.close();
}

#[tokio::test]
async fn what_a_host_said_while_the_gateway_stood_still_is_heard_before_it_is_called_silent() {
    let tasks = Tasks::new();
    let (mut stream, mut far) = tunnel(&tasks).await;
    far.send(tungstenite::Message::text("there you are")).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(600)).await;
    let Frame::Text(heard) = stream.next().await.unwrap().unwrap() else { panic!("it is text") };
    assert_eq!(heard.as_str(), "there you are");
    assert_eq!(stream.next().await.unwrap().unwrap_err().reason(), reason::COORDINATOR_LOST, "and 45 s later it is");
    tasks.close();
}
