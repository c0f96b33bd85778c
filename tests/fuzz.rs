//! What strangers may send, bent out of shape: every parser that meets it answers or refuses, and none breaks.
//!
//! `tests/fuzz/corpus/` holds well-formed inputs and inputs that broke a parser, a folder for each parser; each run bends
//! some of them at random. `PROPTEST_CASES` says how many; a failure prints the bytes to be kept as a new file.

use std::path::Path;

use portico::{domain::keys::grammar, schema::Template};
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestRunner},
};

use crate::support::gateway::{ADMIN, TestHouse, schema};

/// One change to an input.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Insert(Index, u8),
    Cut(Index),
    Remove(Index),
    Repeat(Index),
}

#[test]
fn path_templates() {
    bent("template", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(template) = Template::parse(&text) {
            assert_eq!(template.to_string(), text, "what was taken is kept as it was written");
            assert!(template.shape().starts_with('/'));
        }
    });
}

#[test]
fn keys() {
    bent("key", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Some((_, prefix)) = grammar::parse(&text) {
            assert!(text.starts_with(prefix));
        }
    });
}

#[test]
fn bundles() {
    bent("bundle", |bytes| {
        if let Err(refusal) = portico_bundle::check(bytes, portico_bundle::Limits::default()) {
            assert!(!refusal.to_string().is_empty());
        }
    });
}

#[test]
fn json() {
    let message = schema().types().message("podium.v1.CreateInstanceRequest").unwrap();
    bent("json", |bytes| {
        if let Ok(wire) = message.decode(bytes, portico_json::Parse::default()) {
            let mut written = Vec::new();
            message.encode(&wire, portico_json::Style::CANONICAL, &mut written).expect("what was read can be written");
            message.decode(&written, portico_json::Parse::default()).expect("what was written can be read");
        }
    });
}

#[test]
fn multipart_forms() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let house = runtime.block_on(TestHouse::start());
    bent("multipart", |bytes| {
        let asked = house.ask(ADMIN, "POST", "/api/v1/deployments");
        let answer = runtime.block_on(asked.bytes("multipart/form-data; boundary=x", bytes.to_vec()));
        assert!(answer.status.is_client_error(), "{answer:?}");
    });
}

#[test]
fn envelopes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let house = runtime.block_on(TestHouse::start());
    for media in ["application/connect+json", "application/grpc-web+json", "application/grpc+json"] {
        bent("envelope", |bytes| {
            let asked = house
                .ask(ADMIN, "POST", "/podium.v1.InstancesService/FollowLogs")
                .header("connect-content-encoding", "gzip");
            let asked = asked.header("grpc-encoding", "gzip");
            let answer = runtime.block_on(asked.bytes(media, bytes.to_vec()));
            let said = format!("{answer:?}");
            assert!(!answer.status.is_server_error() && !said.contains("\"internal\""), "{said}");
        });
    }
}

/// Tries inputs of the corpus, first as they are, then bent.
fn bent(parser: &str, attempt: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(parser);
    let mut corpus: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    corpus.sort();
    let corpus: Vec<Vec<u8>> = corpus.iter().map(|path| std::fs::read(path).unwrap()).collect();
    corpus.iter().for_each(|input| attempt(input));
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let inputs = (any::<Index>(), prop::collection::vec(change(), 1..6));
    let outcome = runner.run(&inputs, |(input, changes)| {
        let bytes = changes.iter().fold(corpus[input.index(corpus.len())].clone(), apply);
        attempt(&bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{parser}: {failure}"));
}

fn change() -> impl Strategy<Value = Change> {
    let place = any::<Index>();
    prop_oneof![
        (place, any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        any::<Index>().prop_map(Change::Cut),
        any::<Index>().prop_map(Change::Remove),
        any::<Index>().prop_map(Change::Repeat),
    ]
}

fn apply(mut bytes: Vec<u8>, change: &Change) -> Vec<u8> {
    if bytes.is_empty() {
        return bytes;
    }
    let length = bytes.len();
    match change {
        Change::Set(at, byte) => bytes[at.index(length)] = *byte,
        Change::Insert(at, byte) => bytes.insert(at.index(length), *byte),
        Change::Cut(at) => bytes.truncate(at.index(length)),
        Change::Remove(at) => {
            bytes.remove(at.index(length));
        }
        Change::Repeat(at) => bytes.extend_from_within(at.index(length)..),
    }
    bytes
}
