//! What lies where a new instance is to live, and what is removed to make room.

use portico::port::fleet::{Bundle, Stop, WorkspacePath};

use super::House;

on_every_fleet! {
    an_instance_begins_with_an_empty_workspace_whatever_lies_in_its_place,
}

async fn an_instance_begins_with_an_empty_workspace_whatever_lies_in_its_place(house: House) {
    let old = house.folder.path().join("fleet/instances/agent_1/workspace");
    std::fs::create_dir_all(&old).unwrap();
    std::fs::write(old.join("secret.txt"), "of another tenant").unwrap();
    let at = house.start("agent_1").await;
    let files = house.fleet.files(&at, &WorkspacePath::root(), 1).await.unwrap();
    assert!(files.entries.is_empty(), "{files:?}");
}

#[tokio::test]
async fn bundles_that_nobody_runs_go_when_there_are_too_many_and_come_back_when_they_are_needed() {
    const BUNDLES_MAX: usize = 64;
    let house = House::embedded();
    let at = house.start("agent_1").await;
    let running = house.scripted().await;
    let mut others = Vec::new();
    for number in 0..BUNDLES_MAX {
        let manifest = format!(r#"{{"command": ["true"], "description": "{number}"}}"#);
        others.push(house.script(&manifest, "").await);
        house.fleet.deploy(&house.host, &others[number]).await.unwrap();
    }
    let folder = house.folder.path().join("fleet/deployments/scripted");
    let lies = |bundle: &Bundle| folder.join(format!("1.0.0-{}", &bundle.checksum[..8])).exists();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), BUNDLES_MAX);
    // The least recently used one that nobody runs.
    assert!(lies(&running) && !lies(&others[0]) && lies(&others[1]));
    assert!(!house.fleet.hosts().await.unwrap()[0].cached.contains(&others[0].deployment_id));

    house.fleet.stop(&at, Stop::Now).await.unwrap();
    house.fleet.deploy(&house.host, &others[0]).await.unwrap();
    assert!(lies(&others[0]) && !lies(&running));
    house.start("agent_2").await;
    assert!(lies(&running) && !lies(&others[1]));
}
