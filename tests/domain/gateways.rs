//! Several gateways over one store: what one removes the others do not bring back, and where an instance runs is remembered
//! no longer than it is true.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use portico::{
    base::{Result, health::Health, reason},
    domain::instances::{Removed, Stop, Window},
    port::{
        Answer,
        fleet::{Fleet, State},
        records::{Expect, Query, Record, Records, Write},
    },
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{
    Ground, NOW,
    instances::House,
    time_stands,
    upkeep::{PaperHost, eventually, field, written},
};

const WINDOW: Window = Window { offset: 0, limit: 1 };

/// A store that counts how often an instance is read.
struct Counted {
    records: Arc<dyn Records>,
    reads: Arc<AtomicUsize>,
}

impl Records for Counted {
    fn get<'a>(&'a self, collection: &'static str, id: &'a str) -> Answer<'a, Option<Record>> {
        if collection == "instances" {
            self.reads.fetch_add(1, Ordering::SeqCst);
        }
        self.records.get(collection, id)
    }

    fn list(&self, query: Query) -> Answer<'_, Vec<Record>> {
        self.records.list(query)
    }

    fn commit(&self, writes: Vec<Write>) -> Answer<'_, Vec<u64>> {
        self.records.commit(writes)
    }

    fn health(&self) -> Answer<'_, Health> {
        self.records.health()
    }
}

/// Changes the record of an instance as another gateway would.
pub(super) async fn noted(ground: &Ground, id: &str, changes: &[(&str, Value)]) {
    let record = ground.records.get("instances", id).await.unwrap().unwrap();
    let mut body: Value = serde_json::from_str(&record.body).unwrap();
    for (name, value) in changes {
        body[*name] = value.clone();
    }
    let expect = Expect::Version(record.version);
    let record = Record { body: body.to_string(), ..record };
    ground.records.commit(vec![Write::Put { collection: "instances", record, expect }]).await.unwrap();
}

/// A host that runs this instance and tells upkeep nothing.
fn paper(id: &str) -> Arc<PaperHost> {
    let host = PaperHost::default();
    host.running.lock().unwrap().insert(id.to_owned(), State::Ready);
    *host.silent.lock().unwrap() = true;
    Arc::new(host)
}

#[tokio::test]
async fn a_removal_wins_over_what_others_note_and_leaves_alone_who_has_the_id_since() {
    for (changes, is_removed) in [
        // Another gateway saw it end.
        (vec![("status", json!("terminated"))], true),
        // Another one removed it and gave the id to a new one.
        (
            vec![
                ("status", json!("ready")),
                ("fingerprint", json!("another")),
                ("incarnation", json!("newer")),
                ("created_at", json!(NOW.plus(Duration::from_secs(1)))),
            ],
            false,
        ),
    ] {
        let (host, until) = (paper("mine"), Arc::new(Semaphore::new(0)));
        *host.until.lock().unwrap() = Some(Arc::clone(&until));
        let house = House::over(Ground::new(), Arc::clone(&host) as Arc<dyn Fleet>).await;
        written(&house.ground, "mine", "ready", false, NOW).await;
        noted(&house.ground, "mine", &[("incarnation", json!("older"))]).await;
        let runs = |word: &str| host.incarnations.lock().unwrap().insert("mine".to_owned(), word.to_owned());
        runs("older");
        let cx = house.call("acme");
        let removing = house.instances.remove(&cx, "mine", Stop::Now);
        let meanwhile = async {
            eventually("the host is told", async || !host.stopped.lock().unwrap().is_empty()).await;
            assert_eq!(field(&house.ground, "mine", "status").await, "shutting_down");
            noted(&house.ground, "mine", &changes).await;
            if !is_removed {
                runs("newer");
            }
            until.add_permits(1);
        };
        let (removed, ()) = tokio::join!(removing, meanwhile);
        assert_eq!(removed.unwrap(), Removed::Now);
        assert_eq!(field(&house.ground, "mine", "deleted_at").await.is_number(), is_removed, "{changes:?}");
        assert_eq!(host.running.lock().unwrap().is_empty(), is_removed, "{changes:?}");
    }
}

#[tokio::test]
async fn of_two_removals_at_once_neither_fails() {
    let (host, until) = (paper("mine"), Arc::new(Semaphore::new(0)));
    *host.until.lock().unwrap() = Some(Arc::clone(&until));
    let house = House::over(Ground::new(), Arc::clone(&host) as Arc<dyn Fleet>).await;
    written(&house.ground, "mine", "ready", false, NOW).await;
    let (one, two) = (house.call("acme"), house.call("acme"));
    let both = async {
        eventually("the host is told twice", async || host.stopped.lock().unwrap().len() == 2).await;
        until.add_permits(2);
    };
    let removals = (house.instances.remove(&one, "mine", Stop::Now), house.instances.remove(&two, "mine", Stop::Now));
    let (one, two, ()) = tokio::join!(removals.0, removals.1, both);
    assert_eq!((one.unwrap(), two.unwrap()), (Removed::Now, Removed::Now));
    assert!(field(&house.ground, "mine", "deleted_at").await.is_number());
    let again = house.instances.remove(&house.call("acme"), "mine", Stop::Now).await;
    assert_eq!(again.unwrap_err().reason(), reason::INSTANCE_NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn where_an_instance_runs_is_remembered_for_five_seconds_and_corrected_when_its_host_does_not_hold_it() {
    let host = paper("mine");
    let runs_on = |name: &str| *host.places.lock().unwrap() = BTreeSet::from([format!("{name}/mine")]);
    let (mut ground, reads) = (Ground::new(), Arc::new(AtomicUsize::new(0)));
    let uncounted = Arc::clone(&ground.records);
    ground.records = Arc::new(Counted { records: Arc::clone(&uncounted), reads: Arc::clone(&reads) });
    let _held = time_stands();
    let house = House::over(ground, Arc::clone(&host) as Arc<dyn Fleet>).await;
    let store = Ground { records: uncounted, ..Ground::new() };
    written(&store, "mine", "ready", false, NOW).await;
    runs_on("paper");
    let cx = house.call("acme");
    let asked = async || -> Result<String> { Ok(house.instances.messages(&cx, "mine", WINDOW).await?.remove(0).text) };
    let read = || reads.swap(0, Ordering::SeqCst);

    assert_eq!((asked().await.unwrap().as_str(), read()), ("paper", 1));
    assert_eq!((asked().await.unwrap().as_str(), read()), ("paper", 0), "it is remembered");
    let strange = house.instances.messages(&house.call("globex"), "mine", WINDOW).await;
    assert_eq!((strange.unwrap_err().reason(), read()), (reason::INSTANCE_NOT_FOUND, 1), "and shown to nobody else");
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!((asked().await.unwrap().as_str(), read()), ("paper", 1), "for a moment");

    // It was removed and created anew on another host, through another gateway.
    runs_on("other");
    noted(&store, "mine", &[("coordinator_id", json!("other"))]).await;
    assert_eq!((asked().await.unwrap().as_str(), read()), ("other", 1), "who is sent to the wrong host is led on");
    assert_eq!((asked().await.unwrap().as_str(), read()), ("other", 0));

    // It was removed while its host was away: gone, and not out of reach.
    *host.away.lock().unwrap() = true;
    assert_eq!(asked().await.unwrap_err().reason(), reason::COORDINATOR_UNAVAILABLE);
    assert_eq!(asked().await.unwrap_err().reason(), reason::COORDINATOR_UNAVAILABLE);
    noted(&store, "mine", &[("deleted_at", json!(NOW)), ("owed", json!(true))]).await;
    assert_eq!(asked().await.unwrap_err().reason(), reason::INSTANCE_NOT_FOUND);
}
