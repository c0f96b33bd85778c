//! Gateway and host prove themselves to each other by certificates of OpenSSL: calls and tunnels pass between the right two,
//! and between no others.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use portico::{
    backend::{
        coordinator::{self, Coordinators},
        local::registry::LocalRegistry,
    },
    base::{Error, Reason, Secret, reason, tasks::Tasks},
    config::{Config, Sources},
    gateway::{Coordinator, Stop},
    port::{
        fleet::{At, Fleet, Frame, HostLoad, State},
        registry::Registry,
    },
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::fleet::{scripted, start};
use crate::support::{
    certificates::{authority, issue},
    gateway::{ADMIN, TestHouse},
    server::free_port,
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long after a renewal it is in use.
const HALF_A_MINUTE: Duration = Duration::from_secs(30);

/// Two authorities, and a host and a gateway of each. The first authority is the installation's.
struct Papers(TempDir);

impl Papers {
    fn new() -> Papers {
        let folder = tempfile::tempdir().unwrap();
        for (issuer, host, gateway) in [("ours", "host", "gateway"), ("theirs", "impostor", "stranger")] {
            authority(folder.path(), issuer);
            issue(folder.path(), issuer, host, "DNS:localhost,IP:127.0.0.1");
            issue(folder.path(), issuer, gateway, "DNS:gateway.internal");
        }
        issue(folder.path(), "ours", "elsewhere", "DNS:elsewhere.internal,IP:127.0.0.9");
        Papers(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    /// A gateway of the installation, by its configuration.
    async fn house(&self, fleet: &str) -> TestHouse {
        let [authority, certificate, key] = ["ours.pem", "gateway.pem", "gateway.key"].map(|name| self.path(name));
        TestHouse::with(&[
            ("PORTICO_FLEET", fleet),
            ("PORTICO_FLEET_CA", &authority),
            ("PORTICO_FLEET_CERTIFICATE", &certificate),
            ("PORTICO_FLEET_KEY", &key),
        ])
        .await
    }

    /// A host that proves itself by this certificate, and lets in gateways of the installation alone.
    async fn host(&self, id: &str, certificate: &str, data: &Path, registry: &LocalRegistry) -> Coordinator {
        Coordinator::announcing_in(self.config(id, certificate, data), Arc::new(registry.clone())).await.unwrap()
    }

    fn config(&self, id: &str, certificate: &str, data: &Path) -> Config {
        let config = Sources::new()
            .set("test", "listen", "127.0.0.1:0")
            .set("test", "data", data.join(id).to_str().unwrap())
            .set("test", "blobs", format!("file:{}", data.display()))
            .set("test", "fleet.id", id)
            .set("test", "tls.certificate", self.path(&format!("{certificate}.pem")))
            .set("test", "tls.key", self.path(&format!("{certificate}.key")))
            .set("test", "tls.client_ca", self.path("ours.pem"));
        config.load().unwrap().config
    }

    /// A gateway that believes hosts of the installation, and proves itself by this certificate; by none when it is empty.
    fn gateway(&self, certificate: &str, registry: &LocalRegistry, tasks: &Tasks) -> Coordinators {
        let has = !certificate.is_empty();
        let config = coordinator::Config {
            listed: Vec::new(),
            environment: "dev".to_owned(),
            token: None,
            networks: vec!["127.0.0.0/8".parse().unwrap()],
            papers: coordinator::Papers {
                authorities: Some(self.text("ours.pem")),
                certificate: has.then(|| self.text(&format!("{certificate}.pem"))),
                key: has.then(|| Secret::new(self.text(&format!("{certificate}.key")))),
            },
            source_base: "blobs:///".to_owned(),
        };
        Coordinators::start(config, Arc::new(registry.clone()), tasks.clone()).unwrap()
    }
}

async fn until(fleet: &Coordinators, is_so: impl Fn(&[HostLoad]) -> bool) {
    let asking = async {
        while !is_so(&fleet.hosts().await.unwrap()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("hosts that are so");
}

/// Why a call is refused, and why a tunnel is.
async fn refusals(fleet: &Coordinators, host: &str) -> [Reason; 2] {
    let at = At::new(host, "agent_1");
    let called = fleet.info(&at).await.map(|_| ());
    let opened = fleet.attach(&at, None, Box::pin(stream::pending())).await.map(|_| ());
    [called, opened].map(|told| told.as_ref().map_err(Error::reason).unwrap_err())
}

#[tokio::test]
async fn calls_and_tunnels_pass_between_a_gateway_and_a_host_with_the_right_certificates_and_no_others() {
    let (papers, registry, tasks) = (Papers::new(), LocalRegistry::new(), Tasks::new());
    let data = tempfile::tempdir().unwrap();
    let host = papers.host("host-1", "host", data.path(), &registry).await;

    let ours = papers.gateway("gateway", &registry, &tasks);
    until(&ours, |hosts| hosts.iter().any(|host| host.healthy)).await;
    ours.create("host-1", start("agent_1", scripted(data.path()).await)).await.unwrap();
    let at = At::new("host-1", "agent_1");
    assert_eq!(ours.settled(&at, PATIENCE).await.unwrap(), State::Ready);
    let ask = json!({"type": "process_message", "content": {"text": "hello", "messages": []}}).to_string();
    let said = stream::iter([Ok(Frame::Text(ask.into()))]).chain(stream::pending());
    let mut tunnel = ours.attach(&at, None, Box::pin(said)).await.unwrap();
    loop {
        let heard = tokio::time::timeout(PATIENCE, tunnel.next()).await.unwrap().unwrap().unwrap();
        let Frame::Text(text) = heard else { panic!("is text") };
        let frame: Value = serde_json::from_str(text.as_str()).unwrap();
        if frame["type"] == "complete" {
            assert_eq!(frame["content"]["text"], "hello");
            break;
        }
    }

    // A caller of another authority does not get through the handshake, which it may hear as an alert or as a connection
    // that breaks; one without a certificate gets as far as the gate.
    let stranger = papers.gateway("stranger", &registry, &tasks);
    for refusal in refusals(&stranger, "host-1").await {
        let says = [reason::COORDINATOR_UNAVAILABLE, reason::COORDINATOR_TIMEOUT, reason::COORDINATOR_ERROR];
        assert!(says.contains(&refusal), "{refusal:?}");
    }
    let nobody = papers.gateway("", &registry, &tasks);
    assert_eq!(refusals(&nobody, "host-1").await, [reason::COORDINATOR_ERROR; 2]);

    // Hosts of another authority, or under another name, are not spoken to.
    let impostor = papers.host("host-2", "impostor", data.path(), &registry).await;
    let elsewhere = papers.host("host-3", "elsewhere", data.path(), &registry).await;
    until(&ours, |hosts| hosts.len() == 3).await;
    for host in ["host-2", "host-3"] {
        assert_eq!(refusals(&ours, host).await, [reason::COORDINATOR_UNAVAILABLE; 2], "{host}");
    }

    // A host takes over new papers without a restart; what they cannot be used for leaves the old ones in use.
    let config = papers.config("host-2", "impostor", data.path());
    std::fs::write(papers.path("impostor.key"), "no key").unwrap();
    assert!(impostor.reload(&config).is_err());
    assert_eq!(refusals(&ours, "host-2").await, [reason::COORDINATOR_UNAVAILABLE; 2]);
    for part in ["pem", "key"] {
        std::fs::copy(papers.path(&format!("host.{part}")), papers.path(&format!("impostor.{part}"))).unwrap();
    }
    impostor.reload(&config).unwrap();
    until(&ours, |hosts| hosts[1].healthy).await;
    assert_eq!(refusals(&ours, "host-2").await, [reason::INSTANCE_NOT_FOUND; 2], "it is spoken to, and holds nothing");

    // What was right is right still.
    assert_eq!(ours.info(&at).await.unwrap().state, State::Ready);
    assert_eq!(registry.live("coordinators").await.unwrap().len(), 3);
    tasks.close();
    for host in [host, impostor, elsewhere] {
        host.drain(Stop::AtOnce).await;
    }
}

#[tokio::test]
async fn a_gateway_proves_itself_by_the_files_that_its_configuration_names() {
    let (papers, data) = (Papers::new(), tempfile::tempdir().unwrap());
    let host = papers.host("host-1", "host", data.path(), &LocalRegistry::new()).await;
    let fleet = format!("coordinator:https://{}", host.address());
    let house = papers.house(&fleet).await;
    // Listed hosts are asked how they are, which is for gateways alone.
    let asking = async {
        while house.ask(ADMIN, "GET", "/health").send().await.expect(200)["checks"]["coordinators"]["healthy"] != 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("a host that lets it in");
    house.close().await;
    host.drain(Stop::AtOnce).await;
}

#[tokio::test]
async fn files_that_are_renewed_in_place_are_in_use_within_half_a_minute_on_both_sides() {
    let (papers, data, registry) = (Papers::new(), tempfile::tempdir().unwrap(), LocalRegistry::new());
    let [first, second] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
    let start = async |id, listen| {
        let config = Config { listen, ..papers.config(id, "host", data.path()) };
        Coordinator::announcing_in(config, Arc::new(registry.clone())).await.unwrap()
    };
    let fleet = format!("coordinator:https://{first},https://{second}");
    let house = papers.house(&fleet).await;
    let healthy = async |hosts: u32| {
        let asking = async {
            while house.ask(ADMIN, "GET", "/health").send().await.json()["checks"]["coordinators"]["healthy"] != hosts {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.is_ok()
    };
    let old = start("host-1", first).await;
    assert!(healthy(1).await, "the host lets it in");

    // Everything is of another authority from now on. A host that starts now knows no other.
    for (from, to) in [("theirs", "ours"), ("impostor", "host"), ("stranger", "gateway")] {
        for part in ["pem", "key"] {
            std::fs::copy(papers.path(&format!("{from}.{part}")), papers.path(&format!("{to}.{part}"))).unwrap();
        }
    }
    let new = start("host-2", second).await;
    tokio::time::pause();
    tokio::time::advance(HALF_A_MINUTE).await;
    tokio::time::resume();
    assert!(healthy(2).await, "the gateway and the first host have the new ones, too");
    house.close().await;
    for host in [old, new] {
        host.drain(Stop::AtOnce).await;
    }
}
