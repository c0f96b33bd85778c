//! Hosts that the registry knows: what is announced is found, and what may not be dialled is not.

use std::{sync::Arc, time::Duration};

use portico::{
    backend::{
        coordinator::{Config, Coordinators},
        local::registry::LocalRegistry,
    },
    base::{reason, tasks::Tasks},
    config::Sources,
    gateway::{Coordinator, Stop},
    port::{
        fleet::{ANNOUNCED, Announced, At, Fleet, HostLoad},
        registry::{Announcement, Registry},
    },
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any test.
const TTL: Duration = Duration::from_secs(600);

fn gateway(registry: &LocalRegistry, tasks: &Tasks) -> Coordinators {
    let config = Config {
        listed: Vec::new(),
        environment: "dev".to_owned(),
        token: None,
        networks: vec!["127.0.0.0/8".parse().unwrap()],
        authorities: None,
        certificate: None,
        key: None,
        source_base: "blobs:///".to_owned(),
    };
    Coordinators::start(config, Arc::new(registry.clone()), tasks.clone()).unwrap()
}

async fn until(fleet: &Coordinators, is_so: impl Fn(&[HostLoad]) -> bool) -> Vec<HostLoad> {
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
async fn a_registry_that_somebody_poisoned_leads_nowhere() {
    let (registry, tasks) = (LocalRegistry::new(), Tasks::new());
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
    let fleet = gateway(&registry, &tasks);
    // One that is called by a name is found out when it is resolved, as often as a host that fails.
    let hosts = until(&fleet, |hosts| hosts.iter().all(|host| !host.healthy)).await;
    let ids: Vec<_> = hosts.iter().map(|host| host.id.as_str()).collect();
    assert_eq!(ids, ["file", "metadata", "name"]);
    let refused = fleet.info(&At::new("metadata", "a")).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.reason(), reason::COORDINATOR_ERROR);
    tasks.close();
}
