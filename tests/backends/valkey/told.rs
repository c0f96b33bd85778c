//! What the server tells tools: who comes and goes, and that settings were changed.

use std::time::Duration;

use futures_util::StreamExt;
use portico::{
    backend::valkey::ValkeyRegistry,
    port::{
        bus::Bus,
        registry::{Announcement, Registry},
    },
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::EVENT_PATIENCE;
use crate::support::valkey::{self, Maker, pass};

const TTL: Duration = Duration::from_secs(15);

async fn announce(registry: &ValkeyRegistry, status: &str, epoch: &str) {
    let body = json!({"id": "a", "status": status, "epoch": epoch}).to_string();
    registry.announce("coordinators", Announcement { id: "a".to_owned(), body }, TTL).await.unwrap();
}

/// `docs/guides/deploy.md`, `podium:events:coordinators`.
#[tokio::test]
async fn listeners_are_told_once_of_hosts_that_register_drain_vanish_and_leave() {
    for maker in Maker::ALL {
        // This user hears and tells; the one below may only keep keys.
        let server = maker.start(&["--user", "mute", "on", "nopass", "~podium:*", "resetchannels", "+@all"]);
        let registry = valkey::connect(&server).registry();
        let client = redis::Client::open(format!("redis://{}", server.address())).unwrap();
        let mut heard = client.get_async_pubsub().await.unwrap();
        heard.subscribe("podium:events:coordinators").await.unwrap();
        let mut heard = heard.into_on_message();
        let mut next = async || {
            let message = timeout(EVENT_PATIENCE, heard.next()).await.expect("something is told").unwrap();
            serde_json::from_str::<Value>(&message.get_payload::<String>().unwrap()).unwrap()
        };
        let event = |event: &str, epoch: &str| json!({"event": event, "id": "a", "epoch": epoch});

        announce(&registry, "healthy", "1").await;
        announce(&registry, "healthy", "1").await;
        assert_eq!(next().await, event("registered", "1"));
        announce(&registry, "healthy", "2").await;
        assert_eq!(next().await, event("registered", "2"), "a host that started anew");
        announce(&registry, "draining", "2").await;
        announce(&registry, "draining", "2").await;
        assert_eq!(next().await, event("draining", "2"));
        pass(&[&server], TTL).await;
        for _ in 0..2 {
            assert!(registry.live("coordinators").await.unwrap().is_empty());
        }
        assert_eq!(next().await, event("heartbeat_lost", "2"));
        announce(&registry, "healthy", "2").await;
        assert_eq!(next().await, event("registered", "2"));
        registry.withdraw("coordinators", "a").await.unwrap();
        registry.withdraw("coordinators", "a").await.unwrap();
        assert_eq!(next().await, event("deregistered", "2"));

        let mute = valkey::open(&format!("valkey://mute:any@{}", server.address())).registry();
        announce(&mute, "healthy", "3").await;
        assert_eq!(mute.live("coordinators").await.unwrap().len(), 1, "who may not tell is here all the same");
    }
}

/// `docs/guides/deploy.md`, `framework.config_update`.
#[tokio::test]
async fn tools_hear_topics_on_channels_of_their_names_and_who_may_not_tell_them_publishes_all_the_same() {
    let server = Maker::Valkey.start(&["--user", "mute", "on", "nopass", "~podium:*", "resetchannels", "+@all"]);
    let client = redis::Client::open(format!("redis://{}", server.address())).unwrap();
    let mut heard = client.get_async_pubsub().await.unwrap();
    heard.subscribe("framework.config_update").await.unwrap();
    let mut heard = heard.into_on_message();
    let mute = valkey::open(&format!("valkey://mute:any@{}", server.address())).bus();
    mute.publish("framework.config_update", "unheard".to_owned()).await.unwrap();
    valkey::connect(&server).bus().publish("framework.config_update", "heard".to_owned()).await.unwrap();
    let message = timeout(EVENT_PATIENCE, heard.next()).await.expect("something is told").unwrap();
    assert_eq!(message.get_payload::<String>().unwrap(), "heard");
}
