//! What topics promise, whoever carries them.

use futures_util::StreamExt;
use portico::{
    backend::local::bus::LocalBus,
    base::health::State,
    port::bus::{Bus, Event, From, MESSAGE_BYTES_MAX, Position, RETAINED_MESSAGES_MAX, Subscription},
};

use crate::support::valkey::{self, Maker};

async fn everybody_hears_what_comes_after_they_asked(bus: &dyn Bus) {
    publish(bus, "ask", &["early"]).await;
    let mut one = bus.subscribe("ask", From::Now).await.unwrap();
    let mut two = bus.subscribe("ask", From::Now).await.unwrap();
    publish(bus, "ask", &["late"]).await;
    publish(bus, "ask-elsewhere", &["elsewhere"]).await;
    publish(bus, "ask", &["last"]).await;
    for listener in [&mut one, &mut two] {
        assert_eq!([heard(listener).await, heard(listener).await], ["late", "last"]);
    }
}

async fn a_listener_goes_on_after_its_position(bus: &dyn Bus) {
    let first = publish(bus, "resume", &["1"]).await;
    publish(bus, "resume", &["2", "3"]).await;
    let mut back = bus.subscribe("resume", From::After(first)).await.unwrap();
    assert_eq!([heard(&mut back).await, heard(&mut back).await], ["2", "3"]);
    publish(bus, "resume", &["4"]).await;
    assert_eq!(heard(&mut back).await, "4");
}

async fn who_is_too_late_is_told_and_hears_what_is_kept(bus: &dyn Bus) {
    let mut slow = bus.subscribe("late", From::Now).await.unwrap();
    let mut quick = bus.subscribe("late", From::Now).await.unwrap();
    for number in 0..RETAINED_MESSAGES_MAX + 5 {
        bus.publish("late", number.to_string()).await.unwrap();
    }
    // A bus elsewhere needs its time to bring the last message here.
    let last = (RETAINED_MESSAGES_MAX + 4).to_string();
    while heard(&mut quick).await != last {}
    assert_eq!([heard(&mut slow).await, heard(&mut slow).await], ["missed", "5"]);
    let mut stranger = bus.subscribe("late", From::After(Position::new("nowhere-1"))).await.unwrap();
    assert_eq!([heard(&mut stranger).await, heard(&mut stranger).await], ["missed", "5"]);
}

/// What every bus does.
pub(super) async fn behaves(bus: &dyn Bus) {
    everybody_hears_what_comes_after_they_asked(bus).await;
    a_listener_goes_on_after_its_position(bus).await;
    who_is_too_late_is_told_and_hears_what_is_kept(bus).await;
    assert!(bus.publish("large", "x".repeat(MESSAGE_BYTES_MAX + 1)).await.is_err());
    assert_eq!(bus.health().await.unwrap().state, State::Ok);
}

#[tokio::test]
async fn the_local_bus_keeps_the_promises() {
    behaves(&LocalBus::new()).await;
}

#[tokio::test]
async fn redis_and_valkey_keep_the_promises() {
    for maker in Maker::ALL {
        let server = maker.start(&[]);
        behaves(&valkey::connect(&server).bus()).await;
    }
}

/// Publishes in order. Answers the position of the last message.
async fn publish(bus: &dyn Bus, topic: &str, bodies: &[&str]) -> Position {
    let mut last = None;
    for body in bodies {
        last = Some(bus.publish(topic, (*body).to_owned()).await.unwrap());
    }
    last.expect("something was published")
}

async fn heard(listener: &mut Subscription) -> String {
    match listener.next().await.expect("a bus does not end").expect("is within reach") {
        Event::Message(message) => message.body.to_string(),
        Event::Missed => "missed".to_owned(),
    }
}
