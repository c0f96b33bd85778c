//! How a message is written, in each style.

use super::*;

const JSON: &str =
    r#"{"title":"a","pageCount":"12","stock":"5","authorsById":{"3":{"name":"x"}},"sequel":{"shelfRank":0}}"#;

#[test]
fn names_and_64_bit_integers_follow_the_style() {
    let wire = BOOK.decode(JSON.as_bytes(), STRICT).unwrap();
    let style = Style { names: Names::Proto, int64: Int64::Number, ..Style::default() };
    assert_eq!(
        written(&wire, style),
        r#"{"title":"a","page_count":12,"stock":5,"authors_by_id":{"3":{"name":"x"}},"sequel":{"shelf_rank":0}}"#
    );
}

#[test]
fn defaults_are_emitted_in_order_and_only_where_unset_means_default() {
    let style = Style { defaults: Defaults::Emit, ..Style::default() };
    let everything = concat!(
        r#"{"title":"","pageCount":"0","tags":[],"scores":[],"loans":{},"authorsById":{},"#,
        r#""genre":"GENRE_UNSPECIFIED","scan":"","the \"name\"":"","price":0,"moods":{},"barcode":"0","#,
        r#""genres":[],"weight":0,"parts":[],"crc":0}"#
    );
    assert_eq!(written(&[], style), everything);
    // The same when the wire spells the defaults out, an empty packed list included.
    assert_eq!(written(&[0x0a, 0, 0x10, 0, 0x2a, 0, 0x60, 0], style), everything);

    let wire = BOOK.decode(br#"{"author":{"born":3},"leather":{}}"#, STRICT).unwrap();
    let shown = written(&wire, style);
    assert!(
        shown.contains(r#""author":{"name":"","born":3,"aliases":[]},"leather":{"name":"","born":0,"aliases":[]},"#)
    );
    assert!(!shown.contains("paper") && !shown.contains("shelfRank") && !shown.contains("teacher"));
}

#[test]
fn absence_can_be_shown_as_null_but_not_within_a_oneof() {
    let style = Style { defaults: Defaults::Emit, absent: Absent::Null, ..Style::default() };
    let shown = written(&[], style);
    assert!(shown.contains(r#""sequel":null"#) || shown.contains(r#""author":null"#), "{shown}");
    assert!(!shown.contains("leather") && !shown.contains("paper"), "{shown}");
}

#[test]
fn what_json_cannot_hold_is_refused_with_its_place() {
    let cases: [(&[u8], &str); 6] = [
        (&[0x0a, 1, 0xff], "title: the string is not UTF-8"),
        (&[0x72, 2, 0x10, 0x7f, 0x0a], "the wire bytes end in the middle of a field"),
        (&[0x7a, 4, 0x08, 1, 0x10, 0], ""),
        (
            &[0x82, 1, 4, 0x0a, 2, b'a', b'B'],
            "changed: a path of the field mask has no lowerCamelCase form that leads back to it",
        ),
        (
            &[0x8a, 1, 9, 0x11, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f],
            "extra: a google.protobuf.Value cannot hold NaN or Infinity in JSON",
        ),
        (&[0x92, 1, 5, 0x0a, 3, b't', b'/', b'x'], "note: the type \"x\" is not known here"),
    ];
    for (wire, expected) in cases {
        let error = BOOK
            .encode(wire, Style::default(), &mut Vec::new())
            .map_or_else(|error| error.to_string(), |()| String::new());
        assert_eq!(error, expected);
    }
}
