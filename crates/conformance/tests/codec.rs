//! The codec against prost, on messages nobody wrote by hand.
//!
//! prost decides what wire bytes mean; the codec must agree with it on every legal message, however it is laid out, and
//! must survive every illegal one.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "codec/dice.rs"]
mod dice;

use portico_conformance::{DESCRIPTORS, TEST_ALL_TYPES, Testee, proto3::TestAllTypesProto3};
use portico_json::{Absent, Defaults, Int64, Names, Parse, Style, Unknown};
use proptest::prelude::*;
use prost::Message;
use prost_reflect::DescriptorPool;
use std::sync::LazyLock;

use dice::Dice;

static TESTEE: LazyLock<Testee> = LazyLock::new(|| Testee::new().unwrap());
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).unwrap());

const STYLES: [Style; 2] = [
    Style { names: Names::Camel, int64: Int64::Text, ..Style::CANONICAL },
    Style { names: Names::Proto, int64: Int64::Number, defaults: Defaults::Emit, absent: Absent::Null },
];
const STRICT: Parse = Parse { unknown_fields: Unknown::Refuse };

/// Legal wire bytes: fields in any order, lists in pieces, messages in parts, unknown fields between.
fn legal_wire(seed: u64) -> Vec<u8> {
    let mut wire = Vec::new();
    Dice::new(seed).message(&POOL.get_message_by_name(TEST_ALL_TYPES).unwrap(), 0, &mut wire);
    wire
}

fn json(wire: &[u8], style: Style) -> Vec<u8> {
    let mut json = Vec::new();
    if let Err(error) = TESTEE.all_types().encode(wire, style, &mut json) {
        panic!("{error}: {wire:x?}");
    }
    json
}

fn mutated(mut bytes: Vec<u8>, changes: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    for (place, byte) in changes {
        if !bytes.is_empty() {
            let place = place.index(bytes.len());
            match byte % 4 {
                0 => drop(bytes.remove(place)),
                1 => bytes.insert(place, *byte),
                2 => bytes[place] ^= 1 << (byte >> 5),
                _ => bytes[place] = b"{}[]\",:0-e\\n@"[usize::from(byte >> 2) % 13],
            }
        }
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4)
}

/// The lines in which two messages differ: whole, they fill the screen.
fn difference(found: &TestAllTypesProto3, expected: &TestAllTypesProto3) -> String {
    let (found, expected) = (format!("{found:#?}"), format!("{expected:#?}"));
    let lines = found.lines().zip(expected.lines()).filter(|(found, expected)| found != expected).take(5);
    lines.map(|(found, expected)| format!("found {found}, expected {expected}\n")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prost_and_the_codec_agree_on_what_wire_bytes_mean(seed: u64) {
        let wire = legal_wire(seed);
        let expected = TestAllTypesProto3::decode(&*wire).unwrap();
        for style in STYLES {
            let json = json(&wire, style);
            let back = TESTEE.all_types().decode(&json, STRICT).unwrap();
            let back = TestAllTypesProto3::decode(&*back).unwrap();
            prop_assert!(back == expected, "{}{}", difference(&back, &expected), String::from_utf8_lossy(&json));
        }
    }

    #[test]
    fn what_is_read_from_damaged_json_can_be_decoded_and_written(seed: u64, changes in changes()) {
        let json_bytes = mutated(json(&legal_wire(seed), STYLES[0]), &changes);
        for parse in [STRICT, Parse::default()] {
            if let Ok(wire) = TESTEE.all_types().decode(&json_bytes, parse) {
                prop_assert!(TestAllTypesProto3::decode(&*wire).is_ok());
                json(&wire, STYLES[0]);
            }
        }
    }

    #[test]
    fn damaged_wire_never_panics_and_yields_json_or_an_error(seed: u64, changes in changes()) {
        let wire = mutated(legal_wire(seed), &changes);
        let mut out = Vec::new();
        if TESTEE.all_types().encode(&wire, STYLES[0], &mut out).is_ok() {
            prop_assert!(TESTEE.all_types().decode(&out, STRICT).is_ok(), "{}", String::from_utf8_lossy(&out));
        } else {
            prop_assert!(out.is_empty());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = TESTEE.all_types().decode(&bytes, Parse::default());
        let _ = TESTEE.all_types().encode(&bytes, STYLES[1], &mut Vec::new());
    }
}

#[test]
fn what_the_codec_nests_prost_can_read() {
    // A list in a list is two messages deeper on the wire, a struct in a struct three.
    for (before, open, between, close, levels_max) in [
        ("", r#"{"recursiveMessage":"#, "{}", "}", 100),
        (r#"{"optionalValue":"#, "[", "", "]", 50),
        (r#"{"optionalValue":"#, r#"{"a":"#, "1", "}", 33),
    ] {
        let nested = |levels: usize| {
            let end = if before.is_empty() { "" } else { "}" };
            format!("{before}{}{between}{}{end}", open.repeat(levels), close.repeat(levels))
        };
        let wire = TESTEE.all_types().decode(nested(levels_max).as_bytes(), STRICT).unwrap();
        assert!(TestAllTypesProto3::decode(&*wire).is_ok());
        assert_eq!(json(&wire, STYLES[0]), nested(levels_max).as_bytes());
        assert!(TESTEE.all_types().decode(nested(levels_max + 1).as_bytes(), STRICT).is_err());
    }
}
