//! Blobs in S3 stores of two makers, and what becomes of objects when the store is in trouble.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use aws_sdk_s3::Client;
use bytes::Bytes;
use portico::{
    backend::s3::{Encryption, Options, S3},
    base::{Clock, Retry, Secret, clock::SystemClock, health::State, reason, tasks::Tasks},
    port::blobs::{Blobs, Committed, Metadata},
};

use super::{every_behaviour, large, read, staged, store};
use crate::support::{
    between::{Between, Fate},
    minio,
};

/// How soon what has returned is used: at once, on a machine that may be busy.
const RETURN_PATIENCE: Duration = Duration::from_secs(5);
/// The bound on a small question, with room for a busy machine.
const PATIENCE: Duration = Duration::from_secs(9);

async fn open(options: Options) -> (S3, Tasks) {
    let tasks = Tasks::new();
    (S3::open(options, Arc::new(SystemClock), &tasks).await, tasks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minio_keeps_the_promises_below_a_prefix_too() {
    let server = minio::minio();
    every_behaviour(&open(minio::options(&server)).await.0).await;
    let below = Options { prefix: "below/here/".to_owned(), ..minio::options(&server) };
    every_behaviour(&open(below).await.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versitygw_keeps_the_promises() {
    let server = minio::versitygw();
    every_behaviour(&open(minio::options(&server)).await.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_of_what_was_abandoned_and_a_later_start_clears_what_was_killed() {
    let server = minio::versitygw();
    let (blobs, tasks) = open(minio::options(&server)).await;
    drop(large(&blobs, Some("ours/gone"), 1).await);
    drop(large(&blobs, None, 2).await);
    let kept = large(&blobs, Some("ours/kept"), 3).await;
    assert_eq!(kept.commit("ours/kept", Metadata::new()).await.unwrap(), Committed::Created);
    let aside = large(&blobs, None, 4).await;
    assert_eq!(aside.commit("kept/two", Metadata::new()).await.unwrap(), Committed::Created);
    drop(aside);
    // Aborts are sent by tasks of their own.
    tasks.close();
    assert_eq!(tasks.wait(PATIENCE).await, 0);
    let client = minio::client(&server);
    assert_eq!(uploads(&client).await, [""; 0]);
    assert!(!names(&client).await.iter().any(|name| name.starts_with(".staging/")));

    let file = server.folder().join("data").join(minio::BUCKET).join("kept/two");
    assert_eq!(std::fs::metadata(file).unwrap().len(), super::LARGE_BYTES as u64);

    // What a killed process leaves: an upload, a staged object, words about nothing. And what is old and somebody else's.
    for key in ["ours/killed", "theirs/large"] {
        client.create_multipart_upload().bucket(minio::BUCKET).key(key).send().await.unwrap();
    }
    let id = "k1lled".repeat(4);
    let killed = [format!(".staging/{id}"), format!(".about/ours/kept/{id}")];
    let theirs = [".staging/theirs", ".about/theirs/kept"].map(str::to_owned);
    for name in killed.iter().chain(&theirs) {
        let put = client.put_object().bucket(minio::BUCKET).key(name).body(Bytes::from_static(b"{}").into());
        put.send().await.unwrap();
    }
    let before = names(&client).await;
    let young = Tasks::new();
    drop(S3::open(minio::options(&server), Arc::new(SystemClock), &young).await);
    assert_eq!(young.wait(PATIENCE).await, 0);
    assert_eq!((uploads(&client).await.len(), names(&client).await), (2, before), "what is young may be somebody's");
    let later = Arc::new(Later);
    let old = Tasks::new();
    drop(S3::open(minio::options(&server), later, &old).await);
    assert_eq!(old.wait(PATIENCE).await, 0);
    assert_eq!(uploads(&client).await, ["theirs/large"]);
    let names = names(&client).await;
    assert!(!names.iter().any(|name| killed.contains(name)), "{names:?}");
    assert!(theirs.iter().all(|name| names.contains(name)), "{names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with(".about/ours/kept/")).count(), 1, "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_passes_over_what_is_hidden_however_much_that_is() {
    let server = minio::versitygw();
    let hidden = server.folder().join("data").join(minio::BUCKET).join(".about/ours/kept");
    std::fs::create_dir_all(&hidden).unwrap();
    for at in 0..2_500 {
        std::fs::write(hidden.join(format!("{at:024}")), "{}").unwrap();
    }
    let between = Between::start(server.address()).await;
    // One that looks for no strays.
    let blobs = S3::open_to_read(through(&between), Arc::new(SystemClock), &Tasks::new()).await;
    store(&blobs, "ours/kept", "bytes").await;
    between.rule(|_| Fate::Passes);
    let listed = blobs.list("", None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|it| it.key.as_str()).collect::<Vec<_>>(), ["ours/kept"]);
    let lists = between.noted(|head| head.uri.query().is_some_and(|query| query.contains("list-type")));
    assert!(lists <= 2, "{lists} pages were read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_killed_in_the_middle_of_an_upload_shows_nothing_of_it_and_serves_again_when_it_is_back() {
    let mut server = minio::minio();
    let (blobs, _tasks) = open(minio::options(&server)).await;
    let mut staging = blobs.stage(Some("killed/key")).await.unwrap();
    staging.write(Bytes::from(vec![1; 17 << 20])).await.unwrap();
    server.kill();
    let mut lost = staging.write(Bytes::from(vec![1; 17 << 20])).await;
    if lost.is_ok() {
        lost = staging.seal().await.map(|_| ());
    }
    assert_eq!(lost.unwrap_err().reason(), reason::STORAGE_UNAVAILABLE);
    assert_eq!(blobs.head("killed/key").await.unwrap_err().reason(), reason::STORAGE_UNAVAILABLE);
    assert_eq!(blobs.health().await.unwrap().state, State::Down);
    server.restart();
    let back = Instant::now();
    assert_eq!(blobs.head("killed/key").await.unwrap(), None);
    store(&blobs, "killed/key", "again").await;
    assert!(back.elapsed() < RETURN_PATIENCE, "{:?}", back.elapsed());
    assert_eq!(read(&blobs, "killed/key", portico::port::blobs::Range::ALL).await, "again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_store_holds_nobody_longer_than_the_bound_and_an_upload_goes_on_when_it_thaws() {
    let server = minio::minio();
    let (blobs, _tasks) = open(minio::options(&server)).await;
    let mut staging = blobs.stage(Some("frozen/key")).await.unwrap();
    staging.write(Bytes::from(vec![1; 9 << 20])).await.unwrap();
    server.freeze();
    let began = Instant::now();
    let (health, head) = tokio::join!(blobs.health(), blobs.head("frozen/other"));
    assert_eq!(health.unwrap().state, State::Down);
    assert_eq!(head.unwrap_err().reason(), reason::STORAGE_TIMEOUT);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    let (sealed, ()) = tokio::join!(
        async {
            staging.write(Bytes::from(vec![1; 9 << 20])).await.unwrap();
            staging.seal().await.unwrap()
        },
        async { server.thaw() },
    );
    assert_eq!(sealed.commit("frozen/key", Metadata::new()).await.unwrap(), Committed::Created);
    assert_eq!(blobs.head("frozen/key").await.unwrap().map(|head| head.size), Some(18 << 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_and_a_missing_bucket_are_told_apart_and_never_look_like_an_absent_object() {
    let server = minio::minio();
    let wrong = Some((minio::USER.to_owned(), Secret::new("wrong-hunter2")));
    let (blobs, _tasks) = open(Options { credentials: wrong, ..minio::options(&server) }).await;
    let refused = blobs.list("", None, 1).await.unwrap_err();
    assert_eq!(
        (refused.reason(), refused.message()),
        (reason::STORAGE_ERROR, "the blob store does not accept the gateway's credentials")
    );
    assert!(!refused.report().contains("hunter2"), "{}", refused.report());
    assert_eq!(blobs.head("any/key").await.unwrap_err().reason(), reason::STORAGE_ERROR);
    assert_eq!(blobs.health().await.unwrap().state, State::Down);

    let (blobs, _tasks) = open(Options { bucket: "nowhere".to_owned(), ..minio::options(&server) }).await;
    let missing = blobs.list("", None, 1).await.unwrap_err();
    assert_eq!(missing.message(), "the bucket of the blob store does not exist");
    let staged = super::staged(&blobs, &["x"]).await;
    assert!(staged.commit("any/key", Metadata::new()).await.is_err());
    assert_eq!(blobs.health().await.unwrap().state, State::Down);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_told_to_encrypt_every_object_and_does() {
    let server = minio::encrypting();
    let between = Between::start(server.address()).await;
    let encrypted = Options { encryption: Some(Encryption::Aes256), ..through(&between) };
    let (blobs, _tasks) = open(encrypted).await;
    store(&blobs, "small/key", "x").await;
    for (key, announced) in [("large/key", Some("large/key")), ("aside/key", None)] {
        let staged = large(&blobs, announced, 1).await;
        assert_eq!(staged.commit(key, Metadata::new()).await.unwrap(), Committed::Created);
    }
    // Whatever makes an object says so: a put, or the beginning of an upload.
    let creates = |head: &http::request::Parts| match head.method.as_str() {
        "PUT" => head.uri.query().is_none_or(|query| !query.contains("partNumber")),
        "POST" => head.uri.query().is_some_and(|query| query.contains("uploads")),
        _ => false,
    };
    let is_told = |head: &http::request::Parts| {
        head.headers.get("x-amz-server-side-encryption").is_some_and(|value| value == "AES256")
    };
    assert!(between.noted(creates) >= 4);
    assert_eq!(between.noted(|head| creates(head) && !is_told(head)), 0);
    let client = minio::client(&server);
    for key in ["small/key", "large/key", "aside/key"] {
        let head = client.head_object().bucket(minio::BUCKET).key(key).send().await.unwrap();
        assert_eq!(head.server_side_encryption().map(|kind| kind.as_str()), Some("AES256"), "{key}");
    }
    assert_eq!(read(&blobs, "small/key", portico::port::blobs::Range::ALL).await, "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_store_is_waited_for_within_the_bound() {
    let server = minio::minio();
    let between = Between::start(server.address()).await;
    let (blobs, _tasks) = open(through(&between)).await;
    between.rule(|_| Fate::Waits(Duration::from_millis(500)));
    let staged = large(&blobs, Some("slow/key"), 1).await;
    assert_eq!(staged.commit("slow/key", Metadata::new()).await.unwrap(), Committed::Created);
    assert_eq!(blobs.head("slow/key").await.unwrap().map(|head| head.size), Some(super::LARGE_BYTES as u64));
    between.rule(|_| Fate::Waits(Duration::from_secs(30)));
    let began = Instant::now();
    let late = blobs.head("slow/key").await.unwrap_err();
    assert_eq!(late.reason(), reason::STORAGE_TIMEOUT);
    assert!(matches!(late.retry_hint(), Retry::After(_)) && began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_throttles_is_asked_again_and_then_callers_are_told_to_come_back() {
    let server = minio::minio();
    let between = Between::start(server.address()).await;
    let (blobs, _tasks) = open(through(&between)).await;
    for (status, code) in [(503, "SlowDown"), (503, "SlowDownWrite"), (429, "TooManyRequests")] {
        // Every other request for the same is one too many.
        let asked = Mutex::new(HashMap::<_, usize>::new());
        between.rule(move |head| {
            let mut asked = asked.lock().unwrap();
            let times = asked.entry((head.method.clone(), head.uri.to_string())).or_default();
            *times += 1;
            if times.is_multiple_of(2) { Fate::Passes } else { Fate::Fails(status, code) }
        });
        if status == 503 {
            store(&blobs, &format!("throttled/{code}"), "x").await;
            assert!(blobs.head(&format!("throttled/{code}")).await.unwrap().is_some());
        }
        between.rule(move |_| Fate::Fails(status, code));
        let refused = blobs.list("", None, 1).await.unwrap_err();
        assert_eq!(
            (refused.reason(), refused.message()),
            (reason::STORAGE_UNAVAILABLE, "the blob store asks for fewer requests")
        );
        assert!(matches!(refused.retry_hint(), Retry::After(_)));
    }
    // Statuses that say nothing, and codes that do.
    for (status, code, reason) in [
        (400, "XMinioAdminBucketQuotaExceeded", reason::STORAGE_FULL),
        (400, "ThrottlingException", reason::STORAGE_UNAVAILABLE),
        (400, "RequestTimeout", reason::STORAGE_TIMEOUT),
    ] {
        between.rule(move |_| Fate::Fails(status, code));
        assert_eq!(blobs.list("", None, 1).await.unwrap_err().reason(), reason, "{code}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_tells_of_an_object_may_be_torn_and_the_object_says_it_all() {
    let server = minio::minio();
    let (blobs, _tasks) = open(minio::options(&server)).await;
    let staged = large(&blobs, Some("ours/large"), 5).await;
    assert_eq!(staged.commit("ours/large", Metadata::new()).await.unwrap(), Committed::Created);
    let told = blobs.head("ours/large").await.unwrap();
    let client = minio::client(&server);
    let names = names(&client).await;
    let about = names.iter().find(|name| name.starts_with(".about/ours/large/")).expect("it is told of");
    let torn = client.put_object().bucket(minio::BUCKET).key(about).body(Bytes::from_static(b"{").into());
    torn.send().await.unwrap();
    assert_eq!(blobs.head("ours/large").await.unwrap(), told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_conditional_writes_creates_a_key_once_in_all_but_a_race() {
    let server = minio::minio();
    let between = Between::start(server.address()).await;
    let (blobs, _tasks) = open(through(&between)).await;
    let has_condition = |head: &http::request::Parts| head.headers.contains_key("if-none-match");
    between.rule(move |head| match has_condition(head) {
        true => Fate::Fails(501, "NotImplemented"),
        false => Fate::Passes,
    });
    // The first to be told is a large one, whose upload is not spent by that.
    for (key, announced) in [("large/key", Some("large/key")), ("aside/key", None)] {
        for expected in [true, false] {
            let outcome = large(&blobs, announced, 1).await.commit(key, Metadata::new()).await.unwrap();
            assert_eq!(outcome == Committed::Created, expected, "{key}");
        }
    }
    store(&blobs, "small/key", "x").await;
    let again = staged(&blobs, &["y"]).await.commit("small/key", Metadata::new()).await.unwrap();
    assert!(matches!(again, Committed::Exists(_)));
    assert_eq!(between.noted(has_condition), 1, "once told, it is not asked for again");
    assert_eq!(read(&blobs, "small/key", portico::port::blobs::Range::ALL).await, "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_501_about_something_else_leaves_the_condition_in_force_and_two_at_once_are_two_retries() {
    let server = minio::minio();
    let between = Between::start(server.address()).await;
    let (blobs, _tasks) = open(through(&between)).await;
    let has_condition = |head: &http::request::Parts| head.headers.contains_key("if-none-match");
    // As of a store without keys of its own that is told to encrypt.
    between
        .rule(|head| if head.method == http::Method::PUT { Fate::Fails(501, "NotImplemented") } else { Fate::Passes });
    let refused = staged(&blobs, &["x"]).await.commit("refused/key", Metadata::new()).await.unwrap_err();
    assert_eq!(refused.reason(), reason::STORAGE_ERROR);
    between.rule(|_| Fate::Passes);
    store(&blobs, "taken/key", "x").await;
    assert_eq!(between.noted(has_condition), 1, "the condition is still sent");

    between.rule(move |head| match has_condition(head) {
        true => Fate::Fails(501, "NotImplemented"),
        false => Fate::Passes,
    });
    tokio::join!(store(&blobs, "both/one", "1"), store(&blobs, "both/two", "2"));
}

/// The bucket of a store, reached through somebody.
fn through(between: &Between) -> Options {
    minio::options_at(between.address)
}

/// Two days from now.
struct Later;

impl Clock for Later {
    fn now(&self) -> portico::base::Timestamp {
        SystemClock.now().plus(Duration::from_secs(2 * 24 * 3600))
    }
}

async fn uploads(client: &Client) -> Vec<String> {
    let listed = client.list_multipart_uploads().bucket(minio::BUCKET).send().await.unwrap();
    listed.uploads().iter().map(|upload| upload.key().unwrap().to_owned()).collect()
}

/// Every name in the bucket.
async fn names(client: &Client) -> Vec<String> {
    let listed = client.list_objects_v2().bucket(minio::BUCKET).send().await.unwrap();
    listed.contents().iter().map(|object| object.key().unwrap().to_owned()).collect()
}
