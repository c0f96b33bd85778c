//! What is read, and what is refused, and how that is said.

use super::*;

#[test]
fn every_spelling_of_a_value_has_one_canonical_form() {
    let cases = [
        // Names: both spellings, in any order; what is null is unset.
        (r#"{}"#, r#"{}"#),
        (r#" { "page_count" : 7 , "title" : "a" } "#, r#"{"pageCount":"7","title":"a"}"#),
        (r#"{"the \"name\"":"x"}"#, r#"{"the \"name\"":"x"}"#),
        (
            r#"{"title":null,"tags":null,"loans":null,"author":null,"genre":null,"printedAt":null,"stock":null}"#,
            r#"{}"#,
        ),
        // Presence: a default value shows only where unset means something else.
        (r#"{"title":"","pageCount":0,"genre":0,"tags":[],"loans":{}}"#, r#"{}"#),
        (r#"{"shelfRank":0,"author":{},"paper":""}"#, r#"{"shelfRank":0,"author":{},"paper":""}"#),
        // Integers, exactly.
        (r#"{"pageCount":"9223372036854775807"}"#, r#"{"pageCount":"9223372036854775807"}"#),
        (r#"{"pageCount":-9223372036854775808.0}"#, r#"{"pageCount":"-9223372036854775808"}"#),
        (r#"{"barcode":1.8446744073709551615E19}"#, r#"{"barcode":"18446744073709551615"}"#),
        (
            r#"{"shelfRank":"1e3","scores":[1.0,-2,"\u0033",-2147483648]}"#,
            r#"{"shelfRank":1000,"scores":[1,-2,3,-2147483648]}"#,
        ),
        (r#"{"crc":4294967295}"#, r#"{"crc":4294967295}"#),
        // Floating point.
        (r#"{"price":1,"weight":"0.1"}"#, r#"{"price":1,"weight":0.1}"#),
        (r#"{"price":-0.0,"weight":16777217}"#, r#"{"price":-0,"weight":16777216}"#),
        (r#"{"price":"NaN","weight":"-Infinity"}"#, r#"{"price":"NaN","weight":"-Infinity"}"#),
        (r#"{"price":5e-324}"#, r#"{"price":5e-324}"#),
        // Strings and bytes.
        (r#"{"title":"\ud83d\ude00\n\u0000"}"#, "{\"title\":\"😀\\n\\u0000\"}"),
        (r#"{"scan":"-_8"}"#, r#"{"scan":"+/8="}"#),
        (r#"{"scan":"+/8="}"#, r#"{"scan":"+/8="}"#),
        (r#"{"scan":"AA"}"#, r#"{"scan":"AA=="}"#),
        // Enums, by name and number, known or not.
        (
            r#"{"genre":"GENRE_CRIME","genres":[2,"GENRE_OLD",-1,77]}"#,
            r#"{"genre":"GENRE_CRIME","genres":["GENRE_POETRY","GENRE_OLD","GENRE_OLD",77]}"#,
        ),
        // Maps, sorted by key.
        (r#"{"loans":{"b":1,"a":0}}"#, r#"{"loans":{"a":0,"b":1}}"#),
        (
            r#"{"authorsById":{"10":{"name":"x"},"-9":{},"2":{}}}"#,
            r#"{"authorsById":{"-9":{},"2":{},"10":{"name":"x"}}}"#,
        ),
        (
            r#"{"moods":{"true":"GENRE_OLD","false":0}}"#,
            r#"{"moods":{"false":"GENRE_UNSPECIFIED","true":"GENRE_OLD"}}"#,
        ),
        // A oneof: null is the NullValue member's value, and nothing for the others.
        (r#"{"paper":null,"noCover":null}"#, r#"{"noCover":null}"#),
        (r#"{"noCover":"NULL_VALUE"}"#, r#"{"noCover":null}"#),
        (r#"{"paper":"x","leather":null}"#, r#"{"paper":"x"}"#),
        // Well-known types.
        (r#"{"printedAt":"2026-01-31T13:00:00.5+01:00"}"#, r#"{"printedAt":"2026-01-31T12:00:00.500Z"}"#),
        (r#"{"lentFor":"-0.5s"}"#, r#"{"lentFor":"-0.500s"}"#),
        (r#"{"changed":"title,author.bornAt"}"#, r#"{"changed":"title,author.bornAt"}"#),
        (r#"{"changed":""}"#, r#"{"changed":""}"#),
        (r#"{"nickname":"","stock":"5","nothing":{}}"#, r#"{"nickname":"","stock":"5","nothing":{}}"#),
        (r#"{"extra":null}"#, r#"{"extra":null}"#),
        (
            r#"{"extra":{"b":[1,"x",null,{"c":0.1},[]],"a":false}}"#,
            r#"{"extra":{"a":false,"b":[1,"x",null,{"c":0.1},[]]}}"#,
        ),
        (r#"{"extra":123456789012345678901}"#, r#"{"extra":1.2345678901234568e+20}"#),
        (r#"{"facts":{"k":null},"list":[null,[]]}"#, r#"{"facts":{"k":null},"list":[null,[]]}"#),
        // Any: wherever its type stands.
        (r#"{"note":{}}"#, r#"{"note":{}}"#),
        (
            r#"{"note":{"name":"x","@type":"t/library.Author","born":1}}"#,
            r#"{"note":{"@type":"t/library.Author","name":"x","born":1}}"#,
        ),
        (
            r#"{"note":{"@type":"a/b/google.protobuf.Duration","value":"1s"}}"#,
            r#"{"note":{"@type":"a/b/google.protobuf.Duration","value":"1s"}}"#,
        ),
        (
            r#"{"note":{"value":{"value":null,"@type":"t/google.protobuf.Value"},"@type":"t/google.protobuf.Any"}}"#,
            r#"{"note":{"@type":"t/google.protobuf.Any","value":{"@type":"t/google.protobuf.Value","value":null}}}"#,
        ),
        (r#"{"note":{"@type":"t/google.protobuf.Empty"}}"#, r#"{"note":{"@type":"t/google.protobuf.Empty"}}"#),
    ];
    for (json, expected) in cases {
        assert_eq!(canonical(json).as_deref(), Ok(expected), "{json}");
        assert_eq!(canonical(expected).as_deref(), Ok(expected), "canonical text must be read as it is");
    }
}

#[test]
fn errors_say_where_and_what_but_not_the_value() {
    let cases = [
        ("", "malformed JSON: EOF while parsing a value (line 1, column 0)"),
        ("null", "expected a message, found null"),
        ("[]", "expected an object, found an array (line 1, column 2)"),
        ("{} x", "malformed JSON: trailing characters (line 1, column 4)"),
        (r#"{"title":"a",}"#, "malformed JSON: trailing comma (line 1, column 14)"),
        (
            "{\"title\":\"a\nb\"}",
            "title: malformed JSON: control character (\\u0000-\\u001F) found while pa… (line 2, column 0)",
        ),
        (r#"{"title":"\ud800"}"#, "title: malformed JSON: unexpected end of hex escape (line 1, column 17)"),
        (r#"{"title":1}"#, "title: expected a string, found a number (line 1, column 10)"),
        (r#"{"pageCount":true}"#, "pageCount: expected a number (line 1, column 18)"),
        (r#"{"pageCount":1.5}"#, "pageCount: the number is not an integer (line 1, column 17)"),
        (r#"{"shelfRank":2147483648}"#, "shelfRank: the number is out of range (line 1, column 24)"),
        (r#"{"barcode":-1}"#, "barcode: the number is out of range (line 1, column 14)"),
        (r#"{"barcode":"NaN"}"#, "barcode: the number is not an integer (line 1, column 17)"),
        (r#"{"pageCount":""}"#, "pageCount: expected a number (line 1, column 16)"),
        (r#"{"weight":3.5e38}"#, "weight: the number is out of range for a float (line 1, column 17)"),
        (r#"{"price":1e309}"#, "price: the number is out of range for a double (line 1, column 15)"),
        (r#"{"extra":1e309}"#, "extra: malformed JSON: number out of range (line 1, column 14)"),
        (r#"{"genre":1.5}"#, "genre: the number is not a 32-bit integer (line 1, column 12)"),
        (r#"{"genre":"CRIME"}"#, "genre: there is no enum value \"CRIME\" (line 1, column 16)"),
        (r#"{"scan":"a!"}"#, "scan: expected a base64 string (line 1, column 12)"),
        (r#"{"scan":"+_8="}"#, "scan: expected a base64 string (line 1, column 14)"),
        (r#"{"scan":"AAAAA"}"#, "scan: expected a base64 string (line 1, column 15)"),
        (r#"{"tags":"x"}"#, "tags: expected an array, found a string (line 1, column 11)"),
        (r#"{"tags":["a",null]}"#, "tags[1]: null is not an element (line 1, column 18)"),
        (r#"{"loans":[]}"#, "loans: expected an object, found an array (line 1, column 11)"),
        (r#"{"loans":{"a":null}}"#, "loans[\"a\"]: null is not a map value (line 1, column 19)"),
        (r#"{"loans":{"a":1,"\u0061":2}}"#, "loans: a map key is given twice (line 1, column 27)"),
        (r#"{"authorsById":{"1":{},"1.0":{}}}"#, "authorsById: a map key is given twice (line 1, column 32)"),
        (r#"{"authorsById":{"7":{"born":"x"}}}"#, "authorsById[\"7\"].born: expected a number (line 1, column 32)"),
        (r#"{"authorsById":{"x":{}}}"#, "authorsById: a map key is refused: expected a number (line 1, column 19)"),
        (r#"{"moods":{"yes":0}}"#, "moods: a map key is neither \"true\" nor \"false\" (line 1, column 15)"),
        (r#"{"title":"a","title":"b"}"#, "title: the field is given twice (line 1, column 20)"),
        (r#"{"pageCount":1,"page_count":1}"#, "pageCount: the field is given twice (line 1, column 27)"),
        (r#"{"paper":"a","leather":{}}"#, "leather: another member of the same oneof is given too (line 1, column 26)"),
        (r#"{"author":{"nmae":1}}"#, "author: there is no field \"nmae\" (line 1, column 17)"),
        (r#"{"parts":[{},{"author":{"born":[]}}]}"#, "parts[1].author.born: expected a number (line 1, column 34)"),
        (
            r#"{"printedAt":"yesterday"}"#,
            "printedAt: expected a timestamp such as 2026-01-31T12:00:00Z (line 1, column 24)",
        ),
        (r#"{"lentFor":3}"#, "lentFor: expected a duration such as \"1.5s\", found a number (line 1, column 12)"),
        (
            r#"{"changed":"page_count"}"#,
            "changed: a path of the field mask is not in lowerCamelCase (line 1, column 23)",
        ),
        (r#"{"note":{"name":"x"}}"#, "note: the \"@type\" of an Any is missing (line 1, column 20)"),
        (r#"{"note":{"@type":"x"}}"#, "note: \"x\" is not a type URL: it has no slash (line 1, column 20)"),
        (r#"{"note":{"@type":"t/x.Y"}}"#, "note: the type \"x.Y\" is not known here (line 1, column 24)"),
        (
            r#"{"note":{"@type":"t/google.protobuf.Duration"}}"#,
            "note: the \"value\" of an Any is missing (line 1, column 46)",
        ),
        (r#"{"note":{"born":"x","@type":"t/library.Author"}}"#, "note.born: expected a number"),
        (r#"{"stock":"x"}"#, "stock: expected a number (line 1, column 13)"),
    ];
    for (json, expected) in cases {
        assert_eq!(canonical(json).unwrap_err(), expected, "{json}");
    }
    let long = format!(r#"{{"{}":1}}"#, "secret".repeat(1000));
    assert!(canonical(&long).unwrap_err().len() < 120);
    assert_eq!(BOOK.decode(b"{\"x\":\"\xff\"}", Parse::default()).unwrap_err().to_string(), "the text is not UTF-8");
}

#[test]
fn unknown_names_are_skipped_unless_refused() {
    let json = r#"{"x":{"y":[1e999,{"z":null}]},"genre":"GENRE_NEW","genres":["GENRE_NEW",1],"moods":{"true":"GENRE_NEW"},"title":"a"}"#;
    let wire = BOOK.decode(json.as_bytes(), Parse::default()).unwrap();
    assert_eq!(written(&wire, Style::default()), r#"{"genres":["GENRE_CRIME"],"title":"a"}"#);
    assert!(canonical(json).is_err());
}

#[test]
fn nesting_is_bounded_where_prost_bounds_it() {
    let nested = |levels: usize| format!("{}{{}}{}", r#"{"sequel":"#.repeat(levels), "}".repeat(levels));
    assert!(canonical(&nested(100)).is_ok());
    assert_eq!(
        canonical(&nested(101)).unwrap_err().rsplit_once(": ").unwrap().1,
        "messages nest too deeply (line 1, column 1012)"
    );

    let unknown = |levels: usize| {
        let json = format!(r#"{{"x":"]\"[","y":{}{}}}"#, r#"[{"z":"#.repeat(levels / 2), "}]".repeat(levels / 2));
        let json = json.replace(r#":}"#, ":0}");
        BOOK.decode(json.as_bytes(), Parse::default()).map_err(|error| error.to_string())
    };
    assert!(unknown(100).is_ok());
    for levels in [102, 500_000] {
        assert!(unknown(levels).unwrap_err().contains("messages nest too deeply"), "{levels}");
    }

    let list = |levels: usize| format!(r#"{{"extra":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert!(canonical(&list(50)).is_ok());
    assert!(canonical(&list(51)).is_err());
    assert!(canonical(&list(100_000)).is_err());

    let late = |levels: usize| {
        (0..levels).fold(r#"{"value":"x","@type":"t/google.protobuf.StringValue"}"#.to_owned(), |inner, _| {
            format!(r#"{{"value":{inner},"@type":"t/google.protobuf.Any"}}"#)
        })
    };
    assert!(canonical(&format!(r#"{{"note":{}}}"#, late(7))).is_ok());
    assert!(canonical(&format!(r#"{{"note":{}}}"#, late(8))).is_err());
}

#[test]
fn an_error_leaves_the_buffer_as_it_was() {
    let mut out = b"before".to_vec();
    assert!(BOOK.decode_into(br#"{"title":"a","pageCount":"x"}"#, STRICT, &mut out).is_err());
    assert!(BOOK.encode(&[0x0a, 5, b'a'], Style::default(), &mut out).is_err());
    assert_eq!(out, b"before");
}
