//! Wire bytes that no encoder of today would write, but that are legal.

use super::*;

/// Concatenation is how protobuf merges, so parts written apart and put together in any order make one message.
fn joined(parts: &[&str]) -> Vec<u8> {
    parts.iter().flat_map(|json| BOOK.decode(json.as_bytes(), STRICT).unwrap()).collect()
}

#[test]
fn fields_in_any_order_and_in_pieces_come_out_as_one_message() {
    let cases: [(&[&str], &str); 9] = [
        (&[r#"{"tags":["c"]}"#, r#"{"title":"x"}"#, r#"{"tags":["a"]}"#], r#"{"title":"x","tags":["c","a"]}"#),
        (&[r#"{"title":"x"}"#, r#"{"title":"y"}"#], r#"{"title":"y"}"#),
        (&[r#"{"title":"x"}"#, r#"{"title":""}"#], r#"{}"#),
        (&[r#"{"scores":[1,2]}"#, r#"{"scores":[3]}"#], r#"{"scores":[1,2,3]}"#),
        (
            &[r#"{"author":{"name":"a","aliases":["b"]}}"#, r#"{"author":{"born":1,"aliases":["c"]}}"#],
            r#"{"author":{"name":"a","born":1,"aliases":["b","c"]}}"#,
        ),
        (&[r#"{"loans":{"a":1,"b":2}}"#, r#"{"loans":{"a":3}}"#], r#"{"loans":{"a":3,"b":2}}"#),
        (&[r#"{"leather":{"born":1}}"#, r#"{"paper":"x"}"#], r#"{"paper":"x"}"#),
        (
            &[
                r#"{"leather":{"born":1}}"#,
                r#"{"paper":"x"}"#,
                r#"{"leather":{"name":"a"}}"#,
                r#"{"leather":{"born":3}}"#,
            ],
            r#"{"leather":{"name":"a","born":3}}"#,
        ),
        (
            &[
                r#"{"extra":{"a":1}}"#,
                r#"{"extra":{"b":2}}"#,
                r#"{"printedAt":"1970-01-01T00:00:01Z"}"#,
                r#"{"printedAt":"1970-01-01T00:00:00.5Z"}"#,
            ],
            r#"{"printedAt":"1970-01-01T00:00:01.500Z","extra":{"a":1,"b":2}}"#,
        ),
    ];
    for (parts, expected) in cases {
        assert_eq!(written(&joined(parts), Style::default()), expected, "{parts:?}");
    }
}

#[test]
fn lists_may_be_packed_or_not_in_turns_and_entries_may_lack_parts() {
    assert_eq!(written(&[0x28, 2, 0x2a, 2, 4, 6, 0x28, 8], Style::default()), r#"{"scores":[1,2,3,4]}"#);
    assert_eq!(written(&[0x32, 0], Style::default()), r#"{"loans":{"":0}}"#);
    assert_eq!(written(&[0x32, 5, 0x10, 5, 0x0a, 1, b'k'], Style::default()), r#"{"loans":{"k":5}}"#);
    // A message value in two parts within its entry: they are merged.
    assert_eq!(
        written(&[0x3a, 11, 0x08, 1, 0x12, 3, 0x0a, 1, b'x', 0x12, 2, 0x10, 7], Style::default()),
        r#"{"authorsById":{"1":{"name":"x","born":7}}}"#
    );
}

#[test]
fn unknown_fields_groups_and_foreign_wire_types_are_skipped() {
    let wire = [
        0xf8, 0xff, 0xff, 0xff, 0x0f, 9, // a field number nobody knows
        0xc3, 0x01, 0x0a, 1, b'x', 0xc3, 0x01, 0xc4, 0x01, 0xc4, 0x01, // a group in a group, number 24
        0x08, 7, // the title as a varint
        0x0a, 1, b'a',
    ];
    assert_eq!(written(&wire, Style::default()), r#"{"title":"a"}"#);
}

#[test]
fn malformed_wire_is_refused() {
    let cases: [&[u8]; 9] = [
        &[0x0a],
        &[0x0a, 2, b'a'],
        &[0x10, 0x80],
        &[0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0x00, 1],
        &[0xc4, 0x01],
        &[0xc3, 0x01],
        &[0x0e, 1],
        &[0x2a, 1, 0x80],
    ];
    for wire in cases {
        assert!(BOOK.encode(wire, Style::default(), &mut Vec::new()).is_err(), "{wire:?}");
    }
    assert!(BOOK.encode(&[0xc3, 0x01].repeat(1000), Style::default(), &mut Vec::new()).is_err());
}

#[test]
fn disorder_at_the_bottom_costs_one_more_pass_not_one_per_level() {
    // Every level repeats a field after its nested message; two passes per level would be 2^100 of them.
    let mut wire = vec![0x10, 1, 0x0a, 1, b'a'];
    for _ in 0..90 {
        let mut outer = vec![0xba, 0x01];
        let mut length = wire.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend_from_slice(&wire);
        outer.extend_from_slice(&[0x10, 2, 0x10, 1]);
        wire = outer;
    }
    assert_eq!(written(&wire, Style::default()).matches("pageCount").count(), 91);
}
