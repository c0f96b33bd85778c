//! The codec as a specification: what is read, what is written, what is refused, in tables.
//!
//! protobuf's own conformance suite covers the ProtoJSON rules case by case; here stands what it leaves open: styles,
//! error paths, field paths, wire bytes in any order, bounds.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::LazyLock;

use portico_json::{Absent, Defaults, FieldPath, Int64, MessageType, Names, Parse, Style, Types, Unknown};
use prost_reflect::DescriptorPool;

#[path = "spec/paths.rs"]
mod paths;
#[path = "spec/read.rs"]
mod read;
#[path = "spec/wire.rs"]
mod wire;
#[path = "spec/write.rs"]
mod write;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/spec");
    let files = protox::compile(["library.proto"], [folder]).unwrap();
    DescriptorPool::from_file_descriptor_set(files).unwrap()
});

static BOOK: LazyLock<MessageType> = LazyLock::new(|| Types::new(&POOL).message("library.Book").unwrap());

const STRICT: Parse = Parse { unknown_fields: Unknown::Refuse };

/// JSON to wire and back, in the default style.
fn canonical(json: &str) -> Result<String, String> {
    let wire = BOOK.decode(json.as_bytes(), STRICT).map_err(|error| error.to_string())?;
    Ok(written(&wire, Style::default()))
}

fn written(wire: &[u8], style: Style) -> String {
    let mut out = b">".to_vec();
    BOOK.encode(wire, style, &mut out).unwrap();
    String::from_utf8(out).unwrap()[1..].to_owned()
}

fn path(dotted: &str) -> FieldPath {
    BOOK.path(dotted).unwrap()
}

#[test]
fn types_are_found_by_full_name() {
    let types = Types::new(&POOL);
    assert_eq!(types.message("library.Author").unwrap().name(), "library.Author");
    assert!(types.message("library.Nobody").is_none());
    assert!(types.message("library.Book.LoansEntry").is_none());
    assert_eq!(format!("{:?}", path("author.name")), "FieldPath(author.name)");
}
