//! What one agent or one caller gets wrong on a host, and that the others there do not notice.

use bytes::Bytes;
use futures_util::{future::join_all, stream};
use portico::{
    base::{Code, Error, reason},
    port::fleet::{NewMessage, Stop, Window, WorkspacePath},
};
use serde_json::{Map, json};

use super::House;

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
