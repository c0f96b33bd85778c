//! How long one message of about a kilobyte takes, beside serde structs (what generated codecs come close to) and
//! prost-reflect's dynamic messages. `cargo bench -p portico-json`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench talks to a terminal")]

use std::hint::black_box;
use std::time::Instant;

use portico_json::{Parse, Style, Types};
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde::{Deserialize, Serialize};

/// Many short rounds, of which the best counts: on a busy machine a long one is always interrupted.
const ROUNDS: usize = 2000;
const CALLS: u32 = 100;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Book {
    title: String,
    page_count: String,
    shelf_rank: i32,
    tags: Vec<String>,
    scores: Vec<i32>,
    author: Author,
    genre: String,
    printed_at: String,
    price: f64,
    barcode: String,
    weight: f32,
    parts: Vec<Part>,
}

#[derive(Serialize, Deserialize)]
struct Author {
    name: String,
    born: i32,
    aliases: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    title: String,
    page_count: String,
    shelf_rank: i32,
    author: Author,
    genre: String,
}

fn main() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/spec");
    let pool = DescriptorPool::from_file_descriptor_set(protox::compile(["library.proto"], [folder]).unwrap()).unwrap();
    let book = Types::new(&pool).message("library.Book").unwrap();
    let described = pool.get_message_by_name("library.Book").unwrap();
    let json = sample();
    let wire = book.decode(json.as_bytes(), Parse::default()).unwrap();
    println!("JSON {} bytes, wire {} bytes", json.len(), wire.len());

    let tree: Book = serde_json::from_str(&json).unwrap();
    let dynamic = DynamicMessage::decode(described.clone(), &*wire).unwrap();
    let mut out = Vec::with_capacity(4096);

    time("write, tables: wire to JSON", || {
        out.clear();
        book.encode(black_box(&wire), Style::default(), &mut out).unwrap();
    });
    time("write, serde structs", || {
        out.clear();
        serde_json::to_writer(&mut out, black_box(&tree)).unwrap();
    });
    time("write, prost-reflect", || {
        out.clear();
        serde_json::to_writer(&mut out, black_box(&dynamic)).unwrap();
    });
    time("read, tables: JSON to wire", || {
        out.clear();
        book.decode_into(black_box(json.as_bytes()), Parse::default(), &mut out).unwrap();
    });
    time("read, serde structs", || {
        black_box(serde_json::from_slice::<Book>(black_box(json.as_bytes())).unwrap());
    });
    time("read, prost-reflect", || {
        let mut tokens = serde_json::Deserializer::from_slice(black_box(json.as_bytes()));
        black_box(DynamicMessage::deserialize(described.clone(), &mut tokens).unwrap());
    });
}

/// An argument, `cargo bench -p portico-json -- "read, tables"`, chooses what is timed.
fn time(name: &str, mut call: impl FnMut()) {
    if std::env::args().skip(1).any(|wanted| !wanted.starts_with('-') && !name.contains(&wanted)) {
        return;
    }
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..CALLS {
            call();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(CALLS));
    }
    println!("{name:32} {best:7.0} ns");
}

fn sample() -> String {
    let author = r#"{"name":"Ada Lovelace","born":1815,"aliases":["Augusta Ada King","Countess of Lovelace"]}"#;
    let part = format!(
        r#"{{"title":"Sketch of the Analytical Engine, with notes","pageCount":"66","shelfRank":4,"author":{author},"genre":"GENRE_POETRY"}}"#
    );
    format!(
        concat!(
            r#"{{"title":"A book about \"books\"","pageCount":"1234","shelfRank":7,"tags":["one","two","three and a half"],"#,
            r#""scores":[1,-20,300,4000,50000],"author":{0},"genre":"GENRE_CRIME","printedAt":"2026-01-31T12:00:00.250Z","#,
            r#""price":12.5,"barcode":"9781234567897","weight":0.75,"parts":[{1},{1},{1}]}}"#
        ),
        author, part
    )
}
