//! The published grammar of keys is the one that keys are written by.

use std::process::Command;

use portico::domain::keys::grammar::{self, CHECKSUM_DIGITS, Kind, PREFIX_DIGITS, RANDOM_DIGITS};

use crate::support::source;

const DOCUMENT: &str = "docs/reference/keys.md";

/// The text between these two.
fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("{DOCUMENT} has no {before:?}"));
    rest.split_once(after).unwrap().0
}

#[test]
fn the_reference_of_keys_says_how_they_are_written() {
    let text = source::read(DOCUMENT);
    let all = RANDOM_DIGITS + CHECKSUM_DIGITS;
    for said in [
        format!("random   = {RANDOM_DIGITS} digits"),
        format!("checksum = {CHECKSUM_DIGITS} digits"),
        format!("the first {PREFIX_DIGITS} random digits"),
        format!("| `pod_` | {} |", Kind::Tenant.as_str().len() + all),
        format!("| `pod_admin_` | {} |", Kind::Admin.as_str().len() + all),
        format!("```regex\n\\bpod_(?:admin_)?[0-9A-Za-z]{{{all}}}\\b\n```"),
    ] {
        assert!(text.contains(&said), "{DOCUMENT} does not say {said:?}");
    }
    // The worked example, step by step.
    let example = between(&text, "## Verify one offline\n\n`", "`");
    let (kind, prefix) = grammar::parse(example).expect("the example is well-formed");
    assert_eq!((kind, prefix.len()), (Kind::Tenant, 4 + PREFIX_DIGITS));
    let (body, checksum) = example.split_at(example.len() - CHECKSUM_DIGITS);
    for said in [
        &format!("`{}`, and the checksum", &body[4..]),
        &format!("The CRC-32 of `{body}` is"),
        &format!("that is `{checksum}`"),
    ] {
        assert!(text.contains(said.as_str()), "{DOCUMENT} does not say {said:?}");
    }
}

#[test]
fn the_published_check_takes_every_key_and_nothing_that_was_mistyped() {
    let text = source::read(DOCUMENT);
    let script = between(&text, "```python\n", "```");
    let passes = |key: &str| Command::new("python3").args(["-c", script, key]).status().unwrap().success();
    for kind in [Kind::Tenant, Kind::Admin] {
        let key = grammar::generate(kind);
        assert!(passes(key.reveal()));
        let (rest, last) = key.reveal().split_at(key.reveal().len() - 1);
        let mistyped = format!("{rest}{}", if last == "x" { "y" } else { "x" });
        assert!(!passes(&mistyped) && !passes(rest));
    }
    assert!(passes(between(&text, "## Verify one offline\n\n`", "`")));
}
