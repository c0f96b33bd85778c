//! What one agent or one caller gets wrong on a host, and that the others there do not notice.

use futures_util::future::join_all;
use portico::{
    base::reason,
    port::fleet::{NewMessage, Stop},
};
use serde_json::{Map, json};

use super::House;

/// As many failures of a host in a row as make gateways leave it alone.
const FAILURES: usize = 5;

on_every_fleet! {
    an_agent_that_does_not_read_is_busy_and_its_host_serves_the_others,
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
