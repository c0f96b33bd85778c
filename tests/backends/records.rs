//! What durable facts promise, whoever keeps them.
//!
//! Each behaviour is a function over `&dyn Records`; the tests at the end run all of them against each backend. A
//! collection belongs to one behaviour, so that a shared database serves them all.

use std::{sync::Arc, time::Duration};

use portico::{
    backend::{postgres::Postgres, sqlite::Sqlite},
    base::{Clock, Timestamp, clock::StillClock, health::State, reason, tasks::Tasks},
    port::records::{BODY_BYTES_MAX, COMMIT_WRITES_MAX, Expect, LIST_RECORDS_MAX, Query, Record, Records, Write},
};

use crate::support::postgres;

mod faults;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

async fn a_record_reads_back_whole(records: &dyn Records) {
    let mut written = record("one", "b", &[("owner", "ann"), ("state", "new")]);
    written.expires_at = Some(NOW.plus(Duration::from_secs(9)));
    written.body = "{\"text\":\"späß\\u0000\"}".to_owned();
    assert_eq!(commit(records, vec![put("whole", &written, Expect::Absent)]).await, Ok(vec![1]));
    let read = records.get("whole", "one").await.unwrap().expect("was stored");
    written.version = 1;
    assert_eq!(read, written);
    assert_eq!(records.get("whole", "two").await.unwrap(), None);
    assert_eq!(records.get("whole-other", "one").await.unwrap(), None);
}

async fn lists_are_in_order_and_go_on_after_a_place(records: &dyn Records) {
    // The order is by bytes, and by id where sort keys are the same.
    for (id, sort) in [("5", "é"), ("1", "A"), ("4", "a"), ("3", "B"), ("2", "B")] {
        commit(records, vec![put("order", &record(id, sort, &[]), Expect::Absent)]).await.unwrap();
    }
    let query = Query { collection: "order", facet: None, after: None, newest_first: false, limit: 10 };
    assert_eq!(ids(records, query.clone()).await, ["1", "2", "3", "4", "5"]);
    assert_eq!(ids(records, Query { newest_first: true, ..query.clone() }).await, ["5", "4", "3", "2", "1"]);
    assert_eq!(ids(records, Query { limit: 2, ..query.clone() }).await, ["1", "2"]);
    let after = Some(("B".to_owned(), "2".to_owned()));
    assert_eq!(ids(records, Query { after: after.clone(), ..query.clone() }).await, ["3", "4", "5"]);
    assert_eq!(ids(records, Query { after, newest_first: true, ..query }).await, ["1"]);
}

async fn facets_list_what_has_them_now(records: &dyn Records) {
    let one = record("one", "1", &[("owner", "ann"), ("state", "new")]);
    let two = record("two", "2", &[("owner", "bob"), ("state", "new")]);
    commit(records, vec![put("facets", &one, Expect::Absent), put("facets", &two, Expect::Absent)]).await.unwrap();
    let by = |name, value: &str| Query {
        collection: "facets",
        facet: Some((name, value.to_owned())),
        after: None,
        newest_first: true,
        limit: 10,
    };
    assert_eq!(ids(records, by("state", "new")).await, ["two", "one"]);
    assert_eq!(ids(records, by("owner", "ann")).await, ["one"]);
    assert_eq!(ids(records, by("owner", "")).await, [""; 0]);
    // Another value, another place, and gone: the lists follow.
    let moved = record("one", "3", &[("owner", "bob")]);
    commit(records, vec![put("facets", &moved, Expect::Version(1))]).await.unwrap();
    assert_eq!(ids(records, by("owner", "bob")).await, ["one", "two"]);
    assert_eq!(ids(records, by("state", "new")).await, ["two"]);
    let after = Query { after: Some(("3".to_owned(), "one".to_owned())), ..by("owner", "bob") };
    assert_eq!(ids(records, after).await, ["two"]);
    commit(records, vec![delete("facets", "two", Expect::Anything)]).await.unwrap();
    assert_eq!(ids(records, by("owner", "bob")).await, ["one"]);
    assert_eq!(ids(records, by("state", "new")).await, [""; 0]);
}

async fn versions_guard_against_lost_updates(records: &dyn Records) {
    let record = record("one", "", &[]);
    assert_eq!(commit(records, vec![put("versions", &record, Expect::Version(1))]).await, Err("conflict"));
    assert_eq!(commit(records, vec![put("versions", &record, Expect::Absent)]).await, Ok(vec![1]));
    assert_eq!(commit(records, vec![put("versions", &record, Expect::Absent)]).await, Err("conflict"));
    assert_eq!(commit(records, vec![put("versions", &record, Expect::Version(1))]).await, Ok(vec![2]));
    assert_eq!(commit(records, vec![put("versions", &record, Expect::Version(1))]).await, Err("conflict"));
    assert_eq!(commit(records, vec![put("versions", &record, Expect::Anything)]).await, Ok(vec![3]));
    assert_eq!(commit(records, vec![delete("versions", "one", Expect::Version(2))]).await, Err("conflict"));
    assert_eq!(commit(records, vec![delete("versions", "one", Expect::Version(3))]).await, Ok(vec![0]));
    assert_eq!(commit(records, vec![delete("versions", "one", Expect::Version(3))]).await, Err("conflict"));
    assert_eq!(commit(records, vec![delete("versions", "one", Expect::Anything)]).await, Ok(vec![0]));
}

async fn a_commit_is_done_whole_or_not_at_all(records: &dyn Records) {
    let (one, two) = (record("one", "1", &[("of", "pair")]), record("two", "2", &[("of", "pair")]));
    let refused = vec![put("whole-or-not", &one, Expect::Absent), put("whole-or-not", &two, Expect::Version(7))];
    assert_eq!(commit(records, refused).await, Err("conflict"));
    assert_eq!(records.get("whole-or-not", "one").await.unwrap(), None);
    let done = vec![
        put("whole-or-not", &one, Expect::Absent),
        put("whole-or-not", &two, Expect::Absent),
        delete("whole-or-not", "one", Expect::Version(1)),
    ];
    assert_eq!(commit(records, done).await, Ok(vec![1, 1, 0]));
    let pair = Some(("of", "pair".to_owned()));
    let query = Query { collection: "whole-or-not", facet: pair, after: None, newest_first: false, limit: 10 };
    assert_eq!(ids(records, query).await, ["two"]);
}

async fn bounds_hold(records: &dyn Records) {
    let mut large = record("large", "", &[]);
    large.body = "x".repeat(BODY_BYTES_MAX);
    assert_eq!(commit(records, vec![put("bounds", &large, Expect::Absent)]).await, Ok(vec![1]));
    large.body.push('x');
    assert_eq!(commit(records, vec![put("bounds", &large, Expect::Anything)]).await, Err("validation_failed"));
    let many = |count: usize| (0..count).map(|at| put("bounds", &record(&at.to_string(), "", &[]), Expect::Anything));
    assert_eq!(commit(records, many(COMMIT_WRITES_MAX).collect()).await.map(|versions| versions.len()), Ok(64));
    assert_eq!(commit(records, many(COMMIT_WRITES_MAX + 1).collect()).await, Err("internal"));
    let query = Query { collection: "bounds", facet: None, after: None, newest_first: false, limit: usize::MAX };
    assert!(ids(records, query).await.len() <= LIST_RECORDS_MAX);
}

async fn what_expires_is_gone_at_that_moment(records: &dyn Records, clock: &StillClock) {
    let mut brief = record("one", "1", &[("of", "brief")]);
    brief.expires_at = Some(clock.now().plus(Duration::from_secs(60)));
    let lasting = record("two", "2", &[("of", "brief")]);
    commit(records, vec![put("expiry", &brief, Expect::Absent), put("expiry", &lasting, Expect::Absent)])
        .await
        .unwrap();
    let all = Query { collection: "expiry", facet: None, after: None, newest_first: false, limit: 10 };
    let faceted = Query { facet: Some(("of", "brief".to_owned())), ..all.clone() };
    assert_eq!(ids(records, all.clone()).await, ["one", "two"]);
    clock.advance(Duration::from_secs(60));
    assert_eq!(records.get("expiry", "one").await.unwrap(), None);
    assert_eq!(ids(records, all).await, ["two"]);
    assert_eq!(ids(records, faceted.clone()).await, ["two"]);
    // Its place is free again, and it begins anew.
    brief.expires_at = None;
    assert_eq!(commit(records, vec![put("expiry", &brief, Expect::Version(1))]).await, Err("conflict"));
    assert_eq!(commit(records, vec![put("expiry", &brief, Expect::Absent)]).await, Ok(vec![1]));
    assert_eq!(ids(records, faceted).await, ["one", "two"]);
}

async fn concurrent_increments_lose_nothing(records: Arc<dyn Records>) {
    const TASKS: u64 = 16;
    const INCREMENTS: u64 = 25;
    let mut counter = record("counter", "", &[]);
    counter.body = "0".to_owned();
    commit(&*records, vec![put("counting", &counter, Expect::Absent)]).await.unwrap();
    let count = |records: Arc<dyn Records>| async move {
        for _ in 0..INCREMENTS {
            loop {
                let mut read = records.get("counting", "counter").await.unwrap().expect("is there");
                read.body = (read.body.parse::<u64>().unwrap() + 1).to_string();
                let expect = Expect::Version(read.version);
                match records.commit(vec![put("counting", &read, expect)]).await {
                    Ok(_) => break,
                    Err(error) => assert_eq!(error.reason(), reason::CONFLICT),
                }
            }
        }
    };
    let tasks: Vec<_> = (0..TASKS).map(|_| spawn(count(Arc::clone(&records)))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let read = records.get("counting", "counter").await.unwrap().expect("is there");
    assert_eq!((read.body, read.version), ((TASKS * INCREMENTS).to_string(), TASKS * INCREMENTS + 1));
}

async fn behaves(records: Arc<dyn Records>, clock: &StillClock) {
    a_record_reads_back_whole(&*records).await;
    lists_are_in_order_and_go_on_after_a_place(&*records).await;
    facets_list_what_has_them_now(&*records).await;
    versions_guard_against_lost_updates(&*records).await;
    a_commit_is_done_whole_or_not_at_all(&*records).await;
    bounds_hold(&*records).await;
    what_expires_is_gone_at_that_moment(&*records, clock).await;
    concurrent_increments_lose_nothing(Arc::clone(&records)).await;
    assert_eq!(records.health().await.unwrap().state, State::Ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_keeps_the_promises() {
    let clock = StillClock::at(NOW);
    behaves(Arc::new(Sqlite::temporary(Arc::new(clock.clone())).unwrap()), &clock).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_keeps_the_promises() {
    let clock = StillClock::at(NOW);
    let (url, tasks) = (postgres::database(), Tasks::new());
    // Several gateways start at the same moment, and one of them makes the tables.
    let (one, two, three) = tokio::join!(
        Postgres::connect(&url, Arc::new(clock.clone()), &tasks),
        Postgres::connect(&url, Arc::new(clock.clone()), &tasks),
        Postgres::connect(&url, Arc::new(clock.clone()), &tasks),
    );
    let (one, _two, three) = (one.unwrap(), two.unwrap(), three.unwrap());
    behaves(Arc::new(one), &clock).await;
    let read = three.get("counting", "counter").await.unwrap();
    assert_eq!(read.map(|counter| counter.body), Some("400".to_owned()), "every gateway sees the same");
    tasks.close();
}

/// Commits that touch the same records in opposite orders neither wait for each other nor fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_lets_commits_cross() {
    let tasks = Tasks::new();
    let clock = Arc::new(StillClock::at(NOW));
    let records = Arc::new(Postgres::connect(&postgres::database(), clock, &tasks).await.unwrap());
    let crossing = (0..8_usize).map(|task| {
        let records = Arc::clone(&records);
        spawn(async move {
            for _ in 0..20 {
                let names =
                    ["a", "b", "c", "d"].map(|id| put("crossing", &record(id, "", &[("of", id)]), Expect::Anything));
                let mut writes = names.to_vec();
                writes.rotate_left(task % 4);
                if task % 3 == 0 {
                    writes.push(delete("crossing", "b", Expect::Anything));
                }
                commit(&*records, writes).await.unwrap();
            }
        })
    });
    for task in crossing.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    tasks.close();
}

#[tokio::test]
async fn sqlite_remembers_what_it_acknowledged_after_reopening() {
    let directory = std::env::temp_dir().join(portico::base::id::random("portico-test-", 20));
    let clock: Arc<dyn Clock> = Arc::new(StillClock::at(NOW));
    let first = Sqlite::open(&directory, Arc::clone(&clock)).unwrap();
    commit(&first, vec![put("kept", &record("one", "1", &[("of", "kept")]), Expect::Absent)]).await.unwrap();
    // The first one is still open, as after a crash: nothing is flushed by closing.
    let second = Sqlite::open(&directory, clock).unwrap();
    let facet = Some(("of", "kept".to_owned()));
    let query = Query { collection: "kept", facet, after: None, newest_first: false, limit: 10 };
    assert_eq!(ids(&second, query).await, ["one"]);
    assert_eq!(commit(&second, vec![put("kept", &record("one", "1", &[]), Expect::Version(1))]).await, Ok(vec![2]));
    assert_eq!(first.get("kept", "one").await.unwrap().map(|record| record.version), Some(2));
    drop((first, second));
    std::fs::remove_dir_all(directory).unwrap();
}

fn record(id: &str, sort: &str, facets: &[(&'static str, &str)]) -> Record {
    Record {
        id: id.to_owned(),
        version: 0,
        sort: sort.to_owned(),
        facets: facets.iter().map(|&(name, value)| (name.into(), value.to_owned())).collect(),
        expires_at: None,
        body: "{}".to_owned(),
    }
}

fn put(collection: &'static str, record: &Record, expect: Expect) -> Write {
    Write::Put { collection, record: record.clone(), expect }
}

fn delete(collection: &'static str, id: &str, expect: Expect) -> Write {
    Write::Delete { collection, id: id.to_owned(), expect }
}

/// The versions, or the reason of the refusal.
async fn commit(records: &dyn Records, writes: Vec<Write>) -> Result<Vec<u64>, &'static str> {
    records.commit(writes).await.map_err(|error| error.reason().as_str())
}

async fn ids(records: &dyn Records, query: Query) -> Vec<String> {
    records.list(query).await.unwrap().into_iter().map(|record| record.id).collect()
}

#[expect(clippy::disallowed_methods, reason = "a test awaits what it spawns")]
fn spawn(work: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::spawn(work)
}
