//! Single fields from text and JSON, as `google.api.http` binds them.

use super::*;

fn from_text(bindings: &[(&str, &str)]) -> Result<String, String> {
    let mut wire = Vec::new();
    for (dotted, text) in bindings {
        path(dotted).append_text(text, &mut wire).map_err(|error| error.to_string())?;
    }
    Ok(written(&wire, Style::default()))
}

#[test]
fn text_becomes_the_field_it_names() {
    let cases: [(&[(&str, &str)], &str); 17] = [
        (&[("title", "a/b \"c\"")], r#"{"title":"a/b \"c\""}"#),
        (&[("page_count", "7"), ("pageCount", "8")], r#"{"pageCount":"8"}"#),
        (&[("shelf_rank", "0")], r#"{"shelfRank":0}"#),
        (&[("tags", "a"), ("tags", ""), ("scores", "-1"), ("scores", "2")], r#"{"tags":["a",""],"scores":[-1,2]}"#),
        (&[("genre", "GENRE_CRIME")], r#"{"genre":"GENRE_CRIME"}"#),
        (&[("genre", "77")], r#"{"genre":77}"#),
        (&[("scan", "-_8")], r#"{"scan":"+/8="}"#),
        (&[("price", "Infinity"), ("weight", "1.5e0")], r#"{"price":"Infinity","weight":1.5}"#),
        (&[("printed_at", "1970-01-01T00:00:00Z")], r#"{"printedAt":"1970-01-01T00:00:00Z"}"#),
        (&[("lentFor", "3s")], r#"{"lentFor":"3s"}"#),
        (&[("changed", "title,pageCount")], r#"{"changed":"title,pageCount"}"#),
        (&[("nickname", ""), ("stock", "5")], r#"{"nickname":"","stock":"5"}"#),
        (&[("no_cover", "NULL_VALUE")], r#"{"noCover":null}"#),
        (&[("paper", "x"), ("leather.name", "y")], r#"{"leather":{"name":"y"}}"#),
        (&[("author.name", "x"), ("author.born", "3")], r#"{"author":{"name":"x","born":3}}"#),
        (&[("author.teacher.teacher.aliases", "x")], r#"{"author":{"teacher":{"teacher":{"aliases":["x"]}}}}"#),
        (&[("sequel.stock", "1")], r#"{"sequel":{"stock":"1"}}"#),
    ];
    for (bindings, expected) in cases {
        assert_eq!(from_text(bindings).as_deref(), Ok(expected), "{bindings:?}");
    }
    let long = "x".repeat(300);
    assert_eq!(
        from_text(&[("author.teacher.name", &long)]),
        Ok(format!(r#"{{"author":{{"teacher":{{"name":"{long}"}}}}}}"#))
    );
}

#[test]
fn text_that_does_not_fit_is_refused_by_name() {
    let cases = [
        ("author.born", "x", "author.born: expected a number"),
        ("author.born", "2147483648", "author.born: the number is out of range"),
        ("genre", "GENRE_NEW", "genre: there is no enum value \"GENRE_NEW\""),
        ("sequel.printed_at", "now", "sequel.printedAt: expected a timestamp such as 2026-01-31T12:00:00Z"),
        ("author", "x", "author: the field cannot be given as text"),
        ("loans", "x", "loans: the field cannot be given as text"),
        ("facts", "x", "facts: the field cannot be given as text"),
        ("stock", "", "stock: expected a number"),
    ];
    for (dotted, text, expected) in cases {
        let mut wire = vec![1];
        assert_eq!(path(dotted).append_text(text, &mut wire).unwrap_err().to_string(), expected);
        assert_eq!(wire, [1]);
        assert_eq!(path(dotted).is_text(), !expected.contains("as text"));
    }
}

#[test]
fn json_becomes_a_field_of_any_kind() {
    let cases = [
        ("author", r#"{"name":"x"}"#, r#"{"author":{"name":"x"}}"#),
        ("author.teacher", r#"{"born":1}"#, r#"{"author":{"teacher":{"born":1}}}"#),
        ("tags", r#"["a","b"]"#, r#"{"tags":["a","b"]}"#),
        ("scores", r#"[1,2]"#, r#"{"scores":[1,2]}"#),
        ("loans", r#"{"a":1}"#, r#"{"loans":{"a":1}}"#),
        ("extra", "null", r#"{"extra":null}"#),
        ("author", "null", "{}"),
        ("author.teacher", "null", "{}"),
        ("stock", "5", r#"{"stock":"5"}"#),
        ("title", r#""x""#, r#"{"title":"x"}"#),
    ];
    for (dotted, json, expected) in cases {
        let mut wire = Vec::new();
        path(dotted).append_json(json.as_bytes(), STRICT, &mut wire).unwrap();
        assert_eq!(written(&wire, Style::default()), expected, "{dotted}");
    }
    let error = |dotted: &str, json: &str| {
        path(dotted).append_json(json.as_bytes(), STRICT, &mut Vec::new()).unwrap_err().to_string()
    };
    assert_eq!(
        error("author.teacher", r#"{"born":"x"}"#),
        "author.teacher.born: expected a number (line 1, column 12)"
    );
    assert_eq!(error("tags", "[1]"), "tags[0]: expected a string, found a number (line 1, column 2)");
    assert_eq!(error("tags", "[] 1"), "tags: malformed JSON: trailing characters (line 1, column 4)");
}

#[test]
fn a_field_is_written_alone() {
    let wire = BOOK
        .decode(
            br#"{"title":"x","tags":["a"],"loans":{"a":1},"author":{"name":"y","teacher":{"born":3}},"stock":"5"}"#,
            STRICT,
        )
        .unwrap();
    let parted: Vec<u8> =
        wire.iter().copied().chain(BOOK.decode(br#"{"author":{"teacher":{"name":"z"}}}"#, STRICT).unwrap()).collect();
    let cases = [
        ("title", r#""x""#),
        ("tags", r#"["a"]"#),
        ("loans", r#"{"a":1}"#),
        ("author.teacher", r#"{"born":3,"name":"z"}"#),
        ("author.teacher.born", "3"),
        ("stock", r#""5""#),
        ("scores", "[]"),
        ("moods", "{}"),
        ("page_count", r#""0""#),
        ("genre", r#""GENRE_UNSPECIFIED""#),
        ("scan", r#""""#),
        ("shelf_rank", "null"),
        ("sequel", "null"),
        ("sequel.title", r#""""#),
    ];
    for (dotted, expected) in cases {
        let mut out = Vec::new();
        path(dotted).encode(&parted, Style::default(), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{dotted}");
    }
}

#[test]
fn only_singular_messages_lead_further() {
    for dotted in [
        "",
        "nobody",
        "title.x",
        "tags.x",
        "parts.title",
        "loans.a",
        "stock.value",
        "printed_at.seconds",
        "author.",
        ".author",
    ] {
        assert!(BOOK.path(dotted).is_none(), "{dotted}");
    }
    assert!(
        path("tags").is_repeated()
            && path("loans").is_repeated()
            && path("loans").is_map()
            && !path("title").is_repeated()
    );
    assert!(path("author").is_message() && path("stock").is_message() && !path("title").is_message());
    assert_eq!(path("author.teacher").leaf_message().unwrap().name(), "library.Author");
    assert_eq!(path("parts").leaf_message().unwrap().name(), "library.Book");
    assert!(path("loans").leaf_message().is_none());
}
