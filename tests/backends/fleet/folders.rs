//! What lies where a new instance is to live.

use portico::port::fleet::WorkspacePath;

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
