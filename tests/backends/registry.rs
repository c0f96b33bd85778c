//! What facts that expire promise, whoever keeps them.
//!
//! Time passes by the function that each behaviour is given, so that a backend with a clock of its own can join.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use portico::{
    backend::local::registry::LocalRegistry,
    base::health::State,
    port::registry::{Announcement, Rate, Registry, Take},
};

use crate::support::valkey::{self, Maker};

/// A token a minute, so that a pause of the machine does not count.
const RATE: Rate = Rate { per_minute: 1, burst: 3 };

async fn a_bucket_empties_by_calls_and_fills_by_time(registry: &dyn Registry, pass: &impl AsyncFn(Duration)) {
    let take = async || left(registry.take("calls", "ann", RATE).await.unwrap());
    assert_eq!([take().await, take().await, take().await], [Some(2), Some(1), Some(0)]);
    assert_eq!([take().await, take().await], [None, None], "asking in vain costs nothing");
    pass(Duration::from_secs(60)).await;
    assert_eq!([take().await, take().await], [Some(0), None]);
    pass(Duration::from_secs(36_000)).await;
    assert_eq!(take().await, Some(2), "a bucket does not overflow");
    assert_eq!(left(registry.take("calls", "bob", RATE).await.unwrap()), Some(2), "keys do not share");
    assert_eq!(left(registry.take("uploads", "ann", RATE).await.unwrap()), Some(2), "buckets do not share");
    let unlimited = Rate { per_minute: 0, burst: 0 };
    assert_eq!(left(registry.take("calls", "ann", unlimited).await.unwrap()), Some(u32::MAX));
}

async fn a_refusal_says_when_to_come_back(registry: &dyn Registry) {
    let slow = Rate { per_minute: 2, burst: 1 };
    assert_eq!(left(registry.take("slow", "ann", slow).await.unwrap()), Some(0));
    let Take::Later(wait) = registry.take("slow", "ann", slow).await.unwrap() else { panic!("the bucket is empty") };
    assert!(wait > Duration::from_secs(20) && wait <= Duration::from_secs(30), "{wait:?}");
}

async fn what_is_not_said_again_is_gone(registry: &dyn Registry, pass: &impl AsyncFn(Duration)) {
    let say = async |kind, id: &str, body: &str| {
        let host = Announcement { id: id.to_owned(), body: body.to_owned() };
        registry.announce(kind, host, Duration::from_secs(15)).await.unwrap();
    };
    let live = async || {
        let live = registry.live("hosts").await.unwrap();
        live.into_iter().map(|host| format!("{} {}", host.id, host.body)).collect::<Vec<_>>()
    };
    say("hosts", "b", "1").await;
    say("hosts", "a", "1").await;
    say("other", "c", "1").await;
    pass(Duration::from_secs(10)).await;
    say("hosts", "b", "2").await;
    assert_eq!(live().await, ["a 1", "b 2"]);
    pass(Duration::from_secs(5)).await;
    assert_eq!(live().await, ["b 2"]);
    registry.withdraw("hosts", "b").await.unwrap();
    registry.withdraw("hosts", "b").await.unwrap();
    assert!(live().await.is_empty());
}

async fn places_are_reserved_until_given_back_or_forgotten(registry: &dyn Registry, pass: &impl AsyncFn(Duration)) {
    let ttl = Duration::from_secs(90);
    let reserved = async || {
        let say = |id: &str| Announcement { id: id.to_owned(), body: "{}".to_owned() };
        registry.announce("places", say("a"), ttl).await.unwrap();
        registry.announce("places", say("b"), ttl).await.unwrap();
        registry.live("places").await.unwrap().iter().map(|host| host.reserved).collect::<Vec<_>>()
    };
    assert_eq!(registry.reserve("places", "a", ttl).await.unwrap(), 1);
    assert_eq!(registry.reserve("places", "a", ttl).await.unwrap(), 2);
    assert_eq!(registry.reserve("places", "b", ttl).await.unwrap(), 1);
    assert_eq!(reserved().await, [2, 1]);
    registry.release("places", "a").await.unwrap();
    registry.release("places", "b").await.unwrap();
    registry.release("places", "b").await.unwrap();
    assert_eq!(reserved().await, [1, 0], "there is never less than none");
    pass(Duration::from_secs(60)).await;
    assert_eq!(registry.reserve("places", "b", ttl).await.unwrap(), 1);
    pass(Duration::from_secs(60)).await;
    assert_eq!(reserved().await, [0, 1], "a gateway that died gives nothing back");
    registry.reserve("places", "b", ttl).await.unwrap();
    pass(Duration::from_secs(60)).await;
    assert_eq!(reserved().await, [0, 1], "nor is what it took kept by others");
    let at_once = (0..200).map(|_| registry.reserve("places", "a", ttl));
    let counted: BTreeSet<u32> = join_all(at_once).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(counted, (1..=200).collect(), "as many as come at the same time, each for itself");
    assert_eq!(reserved().await, [200, 1]);
}

/// What every registry does.
pub(super) async fn behaves(registry: &dyn Registry, pass: impl AsyncFn(Duration)) {
    a_bucket_empties_by_calls_and_fills_by_time(registry, &pass).await;
    a_refusal_says_when_to_come_back(registry).await;
    what_is_not_said_again_is_gone(registry, &pass).await;
    places_are_reserved_until_given_back_or_forgotten(registry, &pass).await;
    assert_eq!(registry.health().await.unwrap().state, State::Ok);
    registry.reach().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_local_registry_keeps_the_promises() {
    behaves(&LocalRegistry::new(), tokio::time::advance).await;
}

#[tokio::test]
async fn redis_and_valkey_keep_the_promises() {
    for maker in Maker::ALL {
        let server = maker.start(&[]);
        behaves(&valkey::connect(&server).registry(), async |time| valkey::pass(&[&server], time).await).await;
    }
}

/// How many are left after one was taken; none if none was.
fn left(take: Take) -> Option<u32> {
    match take {
        Take::Granted { left } => Some(left),
        Take::Later(_) => None,
    }
}
