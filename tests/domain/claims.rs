//! Who gets an id when several want it: a start that was given up is not taken for another one that has the id since, and who
//! loses waits before it tries again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use portico::{
    base::{Result, Retry, health::Health, reason},
    domain::instances::Created,
    port::{
        Answer,
        fleet::Fleet,
        records::{Expect, Query, Record, Records, Write, conflict},
    },
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{
    Ground, NOW,
    instances::{House, echo, reason_of},
    time_stands,
    upkeep::{PaperHost, eventually, field},
};

/// A store that counts how often an instance is read, and where somebody else is always quicker when it is told so.
struct Contested {
    records: Arc<dyn Records>,
    reads: AtomicUsize,
    quick: AtomicBool,
    lost: AtomicUsize,
}

impl Records for Contested {
    fn get<'a>(&'a self, collection: &'static str, id: &'a str) -> Answer<'a, Option<Record>> {
        Box::pin(async move {
            let read = self.records.get(collection, id).await;
            if collection == "instances" {
                self.reads.fetch_add(1, Ordering::SeqCst);
            }
            read
        })
    }

    fn list(&self, query: Query) -> Answer<'_, Vec<Record>> {
        self.records.list(query)
    }

    fn commit(&self, writes: Vec<Write>) -> Answer<'_, Vec<u64>> {
        let creates = writes.iter().any(|write| matches!(write, Write::Put { collection: "instances", .. }));
        if creates && self.quick.load(Ordering::SeqCst) {
            self.lost.fetch_add(1, Ordering::SeqCst);
            return Box::pin(async { Err(conflict()) });
        }
        self.records.commit(writes)
    }

    fn health(&self) -> Answer<'_, Health> {
        self.records.health()
    }
}

/// A house with one host, the echo agent, and a store that is looked at.
struct Stage {
    house: House,
    host: Arc<PaperHost>,
    /// Instances that the host may yet start.
    begins: Arc<Semaphore>,
    store: Arc<Contested>,
}

impl Stage {
    async fn new(begins: usize) -> Stage {
        let (host, begins) = (Arc::new(PaperHost::default()), Arc::new(Semaphore::new(begins)));
        *host.begins.lock().unwrap() = Some(Arc::clone(&begins));
        // It tells upkeep nothing.
        *host.silent.lock().unwrap() = true;
        let mut ground = Ground::new();
        let store =
            Contested { records: Arc::clone(&ground.records), reads: 0.into(), quick: false.into(), lost: 0.into() };
        let store = Arc::new(store);
        ground.records = Arc::clone(&store) as _;
        let house = House::over(ground, Arc::clone(&host) as Arc<dyn Fleet>).await;
        house.upload("admin", "echo").await;
        Stage { house, host, begins, store }
    }

    async fn create(&self, headers: &[(&'static str, &str)]) -> Result<Created> {
        self.house.instances.create(&self.house.call_with("acme", headers), echo("mine")).await
    }

    async fn field(&self, name: &str) -> Value {
        field(&self.house.ground, "mine", name).await
    }

    /// The start of the instance failed and was forgotten, and another tenant has taken the id. By accident its record has been
    /// written as often.
    async fn given_away(&self, status: &str) {
        let records = &self.store.records;
        let record = records.get("instances", "mine").await.unwrap().unwrap();
        let mut body: Value = serde_json::from_str(&record.body).unwrap();
        for (name, value) in [("tenant_id", "globex"), ("incarnation", "theirs"), ("status", status)] {
            body[name] = json!(value);
        }
        let theirs = Record { body: body.to_string(), ..record.clone() };
        let (collection, expect) = ("instances", Expect::Anything);
        records.commit(vec![Write::Delete { collection, id: "mine".to_owned(), expect }]).await.unwrap();
        for version in 1..=record.version {
            let put = Write::Put { collection, record: theirs.clone(), expect };
            assert_eq!(records.commit(vec![put]).await.unwrap(), [version]);
        }
    }
}

#[tokio::test]
async fn a_repetition_is_not_answered_with_who_got_the_id_since_and_does_not_start_it_either() {
    for status in ["ready", "deploying"] {
        let stage = Stage::new(1).await;
        stage.create(&[]).await.unwrap();
        stage.house.as_a_gateway_leaves_it("mine").await;
        stage.store.reads.store(0, Ordering::SeqCst);
        let given_away = async {
            eventually("it waits", async || stage.store.reads.load(Ordering::SeqCst) >= 2).await;
            stage.given_away(status).await;
        };
        let (repeated, ()) = tokio::join!(stage.create(&[]), given_away);
        assert_eq!(reason_of(repeated), reason::INSTANCE_ID_CONFLICT, "{status}");
        assert_eq!((stage.field("tenant_id").await, stage.field("status").await), (json!("globex"), json!(status)));
        assert_eq!(stage.host.begun.lock().unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_id_is_anothers_by_now_writes_nothing_over_it() {
    let stage = Stage::new(0).await;
    let _held = time_stands();
    let given_away = async {
        eventually("a host is asked", async || !stage.host.begun.lock().unwrap().is_empty()).await;
        stage.given_away("deploying").await;
        let reads = stage.store.reads.load(Ordering::SeqCst);
        // It is time to write down that the start is being worked on.
        tokio::time::advance(Duration::from_millis(1_100)).await;
        eventually("it looks before", async || stage.store.reads.load(Ordering::SeqCst) > reads).await;
        stage.begins.add_permits(1);
    };
    let (created, ()) = tokio::join!(stage.create(&[]), given_away);
    assert_eq!(reason_of(created), reason::INSTANCE_ID_CONFLICT);
    for (name, theirs) in [("tenant_id", "globex"), ("incarnation", "theirs"), ("status", "deploying")] {
        assert_eq!(stage.field(name).await, theirs);
    }
    assert_eq!(*stage.host.stopped.lock().unwrap(), ["mine"], "what was started for nobody");
}

#[tokio::test]
async fn a_key_of_a_request_names_what_that_request_created_and_nothing_later() {
    let stage = Stage::new(2).await;
    let once = [("idempotency-key", "once")];
    let first = stage.create(&once).await.unwrap().instance;
    stage.host.running.lock().unwrap().clear();
    // It has ended by itself, which makes room for the same again: at the same time, as far as this clock tells.
    let second = stage.create(&[]).await.unwrap();
    assert!(!second.existing && second.instance.created_at == first.created_at && first.created_at == NOW);
    let again = stage.create(&once).await.unwrap();
    assert!(again.existing);
    assert_eq!((again.instance.id.as_str(), again.instance.status.as_str()), ("mine", "terminated"));
    assert_eq!(stage.field("status").await, "ready", "the second goes on");
}

#[tokio::test(start_paused = true)]
async fn who_loses_a_claim_waits_and_hears_at_the_end_that_nothing_was_begun() {
    let stage = Stage::new(1).await;
    let _held = time_stands();
    stage.store.quick.store(true, Ordering::SeqCst);
    let passing = async {
        let lost = || stage.store.lost.load(Ordering::SeqCst);
        eventually("it lost", async || lost() == 1).await;
        // A try is a handful of questions to the store. As long as time stands there is no other one.
        for _ in 0..200 {
            stage.field("status").await;
            tokio::task::yield_now().await;
        }
        assert_eq!(lost(), 1);
        tokio::time::advance(Duration::from_millis(11)).await;
        eventually("it lost again", async || lost() == 2).await;
        tokio::time::advance(Duration::from_secs(60)).await;
    };
    let (created, ()) = tokio::join!(stage.create(&[]), passing);
    let error = created.unwrap_err();
    assert_eq!((error.reason(), error.retry_hint()), (reason::CONFLICT, Retry::Safe));
}
