//! What one agent or one caller gets wrong on a host, and that the others there do not notice.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{future::join_all, stream};
use portico::{
    backend::{disk::Disk, local_fleet::HOST},
    base::{Code, Error, health::Health, reason, tasks::Tasks},
    port::{
        Answer,
        blobs::{Blob, Blobs, Head, Listed, Range, Staging},
        fleet::{At, NewMessage, State, Stop, Window, WorkspacePath},
    },
};
use serde_json::{Map, json};

use super::{House, PATIENCE, open, start};

/// As many failures of a host in a row as make gateways leave it alone.
const FAILURES: usize = 5;

on_every_fleet! {
    an_agent_that_does_not_read_is_busy_and_its_host_serves_the_others,
    what_callers_get_wrong_is_not_blamed_on_their_host,
}

async fn an_agent_that_does_not_read_is_busy_and_its_host_serves_the_others(house: House) {
    let (deaf, other) = (house.start("deaf").await, house.start("other").await);
    house.attach(&deaf).await.answer("deaf").await;
    let message = |bytes: usize| NewMessage { text: "x".repeat(bytes), messages: Vec::new() };
    // What waits for an agent takes 4 MiB at most; here is room for some 23,000 bytes more.
    for bytes in [512 << 10; 7].into_iter().chain([500_000]) {
        house.fleet.send(&deaf, message(bytes)).await.unwrap();
    }
    let crowd = (0..FAILURES).map(|_| house.fleet.send(&deaf, message(32 << 10)));
    for refused in join_all(crowd).await {
        assert_eq!(refused.unwrap_err().reason(), reason::INSTANCE_BUSY);
    }
    // Whoever tells agents of changed settings comes to an end with this one too.
    let changes = Map::from_iter([("model".to_owned(), json!("m".repeat(32 << 10)))]);
    assert_eq!(house.fleet.configure(&deaf, changes).await.unwrap_err().reason(), reason::INSTANCE_BUSY);
    house.fleet.send(&other, message(1)).await.unwrap();
    house.fleet.stop(&deaf, Stop::Now).await.unwrap();
}

async fn what_callers_get_wrong_is_not_blamed_on_their_host(house: House) {
    let at = house.start("agent_1").await;
    let (long, path) = (WorkspacePath::parse(&"x".repeat(300)).unwrap(), WorkspacePath::parse("a").unwrap());
    for _ in 0..FAILURES {
        let unnamed = house.fleet.read_file(&at, &long).await.map(|_| ()).unwrap_err();
        assert_eq!(unnamed.reason(), reason::INVALID_PATH);
        let too_large = Error::new(Code::ResourceExhausted, reason::FILE_TOO_LARGE, "a file must be smaller");
        let content = stream::iter([Ok(Bytes::from("half")), Err(too_large)]);
        let broken_off = house.fleet.write_file(&at, &path, Box::pin(content)).await.unwrap_err();
        assert_eq!(broken_off.reason(), reason::FILE_TOO_LARGE);
    }
    // Long lists are no nonsense.
    let mut client = house.attach(&at).await;
    let long = "x".repeat(900_000);
    client.answer(&long).await;
    let messages = house.fleet.messages(&at, Window { offset: 0, limit: 100 }).await.unwrap();
    assert_eq!(messages.iter().map(|message| message.text.len()).collect::<Vec<_>>(), [long.len(); 2]);
}

/// A store in which one object never comes.
struct Stuck {
    disk: Disk,
    key: String,
}

impl Blobs for Stuck {
    fn stage<'a>(&'a self, key: Option<&'a str>) -> Answer<'a, Box<dyn Staging>> {
        self.disk.stage(key)
    }

    fn head<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Head>> {
        self.disk.head(key)
    }

    fn get<'a>(&'a self, key: &'a str, range: Range) -> Answer<'a, Option<Blob>> {
        if key == self.key { Box::pin(std::future::pending()) } else { self.disk.get(key, range) }
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>, limit: usize) -> Answer<'a, Vec<Listed>> {
        self.disk.list(prefix, after, limit)
    }

    fn delete<'a>(&'a self, key: &'a str) -> Answer<'a, ()> {
        self.disk.delete(key)
    }

    fn health(&self) -> Answer<'_, Health> {
        self.disk.health()
    }
}

#[tokio::test]
async fn a_bundle_that_does_not_come_holds_up_no_other_and_its_instance_can_be_deleted() {
    let House { folder, tasks, blobs, fleet, .. } = House::embedded();
    let slow = super::stored(&*blobs, std::path::Path::new("examples/agents/echo")).await;
    drop((fleet, blobs));
    let stuck = Stuck { disk: Disk::open(folder.path()).unwrap(), key: slow.blob_key.clone() };
    let blobs: std::sync::Arc<dyn Blobs> = std::sync::Arc::new(stuck);
    let fleet = std::sync::Arc::new(open(folder.path(), &blobs, &tasks).unwrap());
    let house = House { folder, blobs, fleet, host: HOST.to_owned(), tasks, _coordinator: None };

    let fleet = house.fleet.clone();
    let creating = house.tasks.spawn(async move { fleet.create(HOST, start("slow", slow)).await.map(|_| ()) });
    let seen = async {
        while house.fleet.running(HOST).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("the start begins");
    tokio::time::timeout(PATIENCE, house.start("quick")).await.expect("another bundle");
    assert!(!creating.is_finished());

    house.fleet.stop(&At::new(HOST, "slow"), Stop::Within(Duration::from_secs(1))).await.unwrap();
    assert_eq!(creating.await.unwrap().unwrap_err().reason(), reason::INSTANCE_TERMINATED);
    assert_eq!(house.fleet.running(HOST).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_power_loss_left_of_a_bundle_is_not_run_but_fetched_anew() {
    let mut house = House::embedded();
    let bundle = house.scripted().await;
    let place = format!("fleet/deployments/scripted/1.0.0-{}", &bundle.checksum[..8]);
    let place = house.folder.path().join(place);
    for checksum in ["", bundle.checksum.as_str()] {
        let at = house.start("agent_1").await;
        house.fleet.stop(&at, Stop::Now).await.unwrap();
        house.tasks.close();
        assert_eq!(house.tasks.wait(PATIENCE).await, 0);
        // Files that were written last are empty, or not there.
        std::fs::write(place.join("checksum"), checksum).unwrap();
        std::fs::write(place.join("code/main.py"), "").unwrap();
        std::fs::remove_file(place.join("synced")).unwrap();
        let House { folder, blobs, fleet, .. } = house;
        drop(fleet);
        let tasks = Tasks::new();
        let fleet = std::sync::Arc::new(open(folder.path(), &blobs, &tasks).unwrap());
        house = House { folder, blobs, fleet, host: HOST.to_owned(), tasks, _coordinator: None };
    }
    let at = house.start("agent_1").await;
    assert_eq!(house.fleet.info(&at).await.unwrap().state, State::Ready);
}
