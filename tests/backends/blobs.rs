//! What large objects promise, whoever keeps them.
//!
//! Each behaviour is a function over `&dyn Blobs`; the tests at the end run all of them against each backend. A behaviour
//! keeps to keys of its own, so that a shared store serves them all.

mod s3;

use std::{fs, path::Path};

use bytes::Bytes;
use futures_util::TryStreamExt;
use portico::{
    backend::disk::Disk,
    base::{Code, health::State, reason},
    port::blobs::{Blobs, Committed, Head, Metadata, Range, Staged},
};

/// SHA-256 of `hello, world`.
const HELLO: &str = "09ca7e4eaa6e8ae9c7d261167129184883644d07dfba7cbfbc4c8a2e08360d5b";

async fn staged(blobs: &dyn Blobs, chunks: &[&'static str]) -> Box<dyn Staged> {
    let mut staging = blobs.stage(None).await.unwrap();
    for chunk in chunks {
        staging.write(Bytes::from_static(chunk.as_bytes())).await.unwrap();
    }
    staging.seal().await.unwrap()
}

async fn store(blobs: &dyn Blobs, key: &str, content: &'static str) {
    let staged = staged(blobs, &[content]).await;
    assert_eq!(staged.commit(key, Metadata::new()).await.unwrap(), Committed::Created);
}

async fn read(blobs: &dyn Blobs, key: &str, range: Range) -> String {
    let blob = blobs.get(key, range).await.unwrap().expect("is stored");
    let chunks: Vec<Bytes> = blob.body.try_collect().await.unwrap();
    String::from_utf8(chunks.concat()).unwrap()
}

async fn keys(blobs: &dyn Blobs, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    blobs.list(prefix, after, limit).await.unwrap().into_iter().map(|listed| listed.key).collect()
}

async fn an_object_reads_back_whole_and_in_part(blobs: &dyn Blobs) {
    let staged = staged(blobs, &["hello", ", ", "", "world"]).await;
    assert_eq!((staged.size(), staged.digest().to_string().as_str()), (12, HELLO));
    let metadata = Metadata::from([("tenant".to_owned(), "ann".to_owned())]);
    assert_eq!(staged.commit("whole/a.b_c+d=e@f-g", metadata.clone()).await.unwrap(), Committed::Created);
    let head = blobs.head("whole/a.b_c+d=e@f-g").await.unwrap().expect("is stored");
    assert_eq!(head, Head { size: 12, digest: staged.digest(), metadata });
    for (offset, length, expected) in
        [(0, None, "hello, world"), (7, None, "world"), (3, Some(4), "lo, "), (7, Some(99), "world"), (12, None, "")]
    {
        assert_eq!(read(blobs, "whole/a.b_c+d=e@f-g", Range { offset, length }).await, expected);
    }
    let beyond = blobs.get("whole/a.b_c+d=e@f-g", Range { offset: 13, length: None }).await;
    assert_eq!(beyond.err().map(|error| error.code()), Some(Code::OutOfRange));
    assert_eq!(blobs.head("whole/other").await.unwrap(), None);
    assert!(blobs.get("whole/other", Range::ALL).await.unwrap().is_none());
}

async fn a_key_is_created_once(blobs: &dyn Blobs) {
    let (first, second) = (staged(blobs, &["first"]).await, staged(blobs, &["second"]).await);
    assert_eq!(blobs.head("once/key").await.unwrap(), None, "nothing is visible before it is committed");
    let (one, other) = tokio::join!(
        first.commit("once/key", Metadata::new()),
        second.commit("once/key", Metadata::from([("who".to_owned(), "second".to_owned())])),
    );
    let (winner, content) = match (one.unwrap(), other.unwrap()) {
        (Committed::Created, Committed::Exists(head)) => (head, "first"),
        (Committed::Exists(head), Committed::Created) => (head, "second"),
        both => panic!("exactly one creates, not {both:?}"),
    };
    assert_eq!(blobs.head("once/key").await.unwrap(), Some(winner.clone()));
    assert_eq!(read(blobs, "once/key", Range::ALL).await, content);
    let again = staged(blobs, &["third"]).await.commit("once/key", Metadata::new()).await.unwrap();
    assert_eq!(again, Committed::Exists(winner));
}

async fn a_removed_key_is_free(blobs: &dyn Blobs) {
    let kept = staged(blobs, &["kept"]).await;
    store(blobs, "freed/key", "first").await;
    assert!(matches!(kept.commit("freed/key", Metadata::new()).await, Ok(Committed::Exists(_))));
    blobs.delete("freed/key").await.unwrap();
    blobs.delete("freed/key").await.unwrap();
    assert_eq!(blobs.head("freed/key").await.unwrap(), None);
    assert_eq!(kept.commit("freed/key", Metadata::new()).await.unwrap(), Committed::Created);
    assert_eq!(read(blobs, "freed/key", Range::ALL).await, "kept");
}

/// Larger than any part in which a store takes it.
async fn a_large_object_is_created_once_and_reads_back(blobs: &dyn Blobs) {
    for (key, announced) in [("large/known", true), ("large/unknown", false)] {
        let (one, other) =
            (large(blobs, announced.then_some(key), 1).await, large(blobs, announced.then_some(key), 2).await);
        assert_eq!(blobs.head(key).await.unwrap(), None, "nothing is visible before it is committed");
        assert_eq!(keys(blobs, "large/", None, 9).await.len(), usize::from(!announced));
        let metadata = Metadata::from([("who".to_owned(), "one".to_owned())]);
        let (first, second) = tokio::join!(one.commit(key, metadata.clone()), other.commit(key, Metadata::new()));
        let (winner, byte) = match (first.unwrap(), second.unwrap()) {
            (Committed::Created, Committed::Exists(head)) => (head, 1),
            (Committed::Exists(head), Committed::Created) => (head, 2),
            both => panic!("exactly one creates, not {both:?}"),
        };
        assert_eq!(blobs.head(key).await.unwrap(), Some(winner.clone()));
        assert_eq!(
            (winner.size, winner.digest),
            (LARGE_BYTES as u64, if byte == 1 { one.digest() } else { other.digest() })
        );
        assert_eq!(winner.metadata, if byte == 1 { metadata } else { Metadata::new() });
        let blob = blobs.get(key, Range { offset: 5, length: None }).await.unwrap().expect("is stored");
        let chunks: Vec<Bytes> = blob.body.try_collect().await.unwrap();
        assert_eq!(chunks.iter().map(Bytes::len).sum::<usize>(), LARGE_BYTES - 5);
        assert!(chunks.iter().flatten().all(|read| *read == byte));
        // The loser may still take the key when it is free.
        let loser = if byte == 1 { other } else { one };
        blobs.delete(key).await.unwrap();
        assert_eq!(loser.commit(key, Metadata::new()).await.unwrap(), Committed::Created);
        assert_eq!(blobs.head(key).await.unwrap().unwrap().digest, loser.digest());
    }
}

const LARGE_BYTES: usize = (20 << 20) + 7;

async fn large(blobs: &dyn Blobs, key: Option<&str>, byte: u8) -> Box<dyn Staged> {
    let mut staging = blobs.stage(key).await.unwrap();
    let content = Bytes::from(vec![byte; LARGE_BYTES]);
    for chunk in 0..LARGE_BYTES.div_ceil(1 << 20) {
        staging.write(content.slice(chunk << 20..((chunk + 1) << 20).min(LARGE_BYTES))).await.unwrap();
    }
    staging.seal().await.unwrap()
}

async fn a_key_that_was_announced_is_kept(blobs: &dyn Blobs) {
    let mut staging = blobs.stage(Some("announced/one")).await.unwrap();
    staging.write(Bytes::from_static(b"x")).await.unwrap();
    let staged = staging.seal().await.unwrap();
    let refused = staged.commit("announced/other", Metadata::new()).await.unwrap_err();
    assert_eq!(refused.reason(), reason::INTERNAL);
    assert_eq!(staged.commit("announced/one", Metadata::new()).await.unwrap(), Committed::Created);
}

async fn lists_are_in_the_order_of_bytes(blobs: &dyn Blobs) {
    for key in ["list/a/x", "list/a-b", "list/a/y/z", "list/b", "list-other"] {
        store(blobs, key, "x").await;
    }
    let all = ["list/a-b", "list/a/x", "list/a/y/z", "list/b"];
    assert_eq!(keys(blobs, "list/", None, 9).await, all);
    assert_eq!(keys(blobs, "list/", None, 2).await, all[..2]);
    assert_eq!(keys(blobs, "list/", Some("list/a/x"), 9).await, all[2..]);
    assert_eq!(keys(blobs, "list/a", None, 9).await, all[..3]);
    assert_eq!(keys(blobs, "list/a/", None, 9).await, all[1..3]);
    assert_eq!(keys(blobs, "list/c", None, 9).await, [""; 0]);
}

async fn keys_are_checked(blobs: &dyn Blobs) {
    for key in ["", "/a", "a/", "a//b", "../a", "a/.hidden", "a b", "a\\b", "ü", &"k".repeat(1_025)] {
        let refused = blobs.head(key).await.expect_err(key);
        assert_eq!(refused.reason(), reason::INTERNAL, "{key}");
    }
}

async fn a_working_store_is_healthy(blobs: &dyn Blobs) {
    assert_eq!(blobs.health().await.unwrap().state, State::Ok);
}

async fn every_behaviour(blobs: &dyn Blobs) {
    an_object_reads_back_whole_and_in_part(blobs).await;
    a_key_is_created_once(blobs).await;
    a_removed_key_is_free(blobs).await;
    a_large_object_is_created_once_and_reads_back(blobs).await;
    a_key_that_was_announced_is_kept(blobs).await;
    lists_are_in_the_order_of_bytes(blobs).await;
    keys_are_checked(blobs).await;
    a_working_store_is_healthy(blobs).await;
}

#[tokio::test]
async fn disk() {
    let data = tempfile::tempdir().unwrap();
    every_behaviour(&Disk::open(data.path()).unwrap()).await;
}

/// Every file below the folder, by its path there.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found
                .extend(files(&path).into_iter().map(|file| format!("{}/{file}", path.file_name().unwrap().display())));
        } else {
            found.push(path.file_name().unwrap().display().to_string());
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn disk_keeps_an_object_as_the_file_of_its_key_and_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let disk = Disk::open(data.path()).unwrap();
    store(&disk, "dev/key", "content").await;
    let mut abandoned = disk.stage(None).await.unwrap();
    abandoned.write(Bytes::from_static(b"half")).await.unwrap();
    drop(abandoned);
    drop(staged(&disk, &["arrived, not wanted"]).await);
    // The writer of what was abandoned ends on its own thread. Until then its place among the stagings is taken, so
    // taking all of them waits for it.
    let mut places = Vec::new();
    for _ in 0..64 {
        places.push(disk.stage(None).await.unwrap());
    }
    assert_eq!(files(data.path()).len(), 64 + 3);
    let blobs = data.path();
    assert_eq!(fs::read_to_string(blobs.join("dev/key")).unwrap(), "content");
    disk.delete("dev/key").await.unwrap();
    assert!(!blobs.join("dev").exists() && !blobs.join(".about").exists());
}

#[tokio::test]
async fn disk_clears_what_a_killed_process_left_and_refuses_a_second_owner() {
    let data = tempfile::tempdir().unwrap();
    let disk = Disk::open(data.path()).unwrap();
    let second = Disk::open(data.path()).err().expect("the folder has an owner");
    assert_eq!(second.code(), Code::FailedPrecondition);
    store(&disk, "dev/key", "hello, world").await;
    drop(disk);
    fs::write(data.path().join(".staging/leftover"), "half").unwrap();
    // A backup that left out hidden files still holds every object.
    fs::remove_dir_all(data.path().join(".about")).unwrap();
    let disk = Disk::open(data.path()).unwrap();
    assert_eq!(files(data.path()), [".lock", "dev/key"]);
    assert_eq!(disk.head("dev/key").await.unwrap().unwrap().digest.to_string(), HELLO);
}
