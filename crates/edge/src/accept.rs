//! What a caller takes, by its Accept headers.
//!
//! A newcomer's usual mistake is to look for a media type as text. A caller may name one to say that it does not take it, or
//! that it likes another one better.
//!
//! *Knows:* media ranges, codings, weights. *Does not know:* which answers there are.

use http::{HeaderMap, HeaderName, header};

/// How much a caller wants a media type, and how closely it has said so.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Wish {
    closeness: Closeness,
    weight: f32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
enum Closeness {
    /// Not at all.
    #[default]
    Unsaid,
    /// By a range of all types.
    Any,
    /// By a range of its kind.
    Kind,
    /// By its name.
    Name,
}

/// Whether a caller would rather have this media type than the usual one. Of two that it likes as much it gets the usual
/// one, unless it names the other.
pub(super) fn prefers(headers: &HeaderMap, media_type: &str, usual: &str) -> bool {
    if !headers.contains_key(header::ACCEPT) {
        return false;
    }
    let (wish, usual) = (wish(headers, media_type), wish(headers, usual));
    wish.weight > usual.weight
        || (wish.weight == usual.weight && wish.weight > 0.0 && wish.closeness == Closeness::Name)
}

/// The same of one that nobody gets who does not name it.
pub(super) fn names(headers: &HeaderMap, media_type: &str, usual: &str) -> bool {
    wish(headers, media_type).closeness == Closeness::Name && prefers(headers, media_type, usual)
}

/// Whether a caller takes this content coding, and likes it as much as none (RFC 9110, section 12.5.3). Who says nothing of
/// codings gets none.
pub(super) fn takes_coding(headers: &HeaderMap, coding: &str) -> bool {
    let said = |name: &str| {
        let mut wishes = wishes(headers, &header::ACCEPT_ENCODING);
        wishes.find_map(|(said, weight)| said.eq_ignore_ascii_case(name).then_some(weight))
    };
    let others = said("*");
    let weight = said(coding).or(others).unwrap_or(0.0);
    weight > 0.0 && weight >= said("identity").or(others).unwrap_or(0.0)
}

/// What the closest range says (RFC 9110, section 12.5.1).
fn wish(headers: &HeaderMap, media_type: &str) -> Wish {
    let wishes = wishes(headers, &header::ACCEPT);
    let wishes = wishes.map(|(range, weight)| Wish { closeness: closeness(range, media_type), weight });
    wishes.fold(Wish::default(), |best, wish| if wish.closeness > best.closeness { wish } else { best })
}

/// What a header lists, each with its weight.
fn wishes<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = (&'h str, f32)> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|wish| {
        let mut parts = wish.split(';').map(str::trim);
        (parts.next().unwrap_or_default(), parts.find_map(weight).unwrap_or(1.0))
    })
}

fn closeness(range: &str, media_type: &str) -> Closeness {
    if range.eq_ignore_ascii_case(media_type) {
        return Closeness::Name;
    }
    let kind = |text: &str| text.split_once('/').map(|(kind, _)| kind.to_ascii_lowercase());
    match range.strip_suffix("/*") {
        Some("*") => Closeness::Any,
        Some(_) if kind(range) == kind(media_type) => Closeness::Kind,
        _ => Closeness::Unsaid,
    }
}

/// The weight in a parameter, where it is one. What is not a number is not wanted.
fn weight(parameter: &str) -> Option<f32> {
    let (name, weight) = parameter.split_once('=')?;
    name.trim().eq_ignore_ascii_case("q").then(|| weight.trim().parse().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_decides_and_then_the_name() {
        let cases = [
            ("text/event-stream", true),
            ("text/event-stream, */*", true),
            ("text/*", true),
            ("text/event-stream;q=0.5, */*;q=0.1", true),
            ("TEXT/Event-Stream; Q=0.9, application/x-ndjson;q=0.8", true),
            ("text/event-stream, application/x-ndjson", true),
            ("*/*", false),
            ("text/event-stream;q=0", false),
            ("text/event-stream;q=0, text/*", false),
            ("text/event-stream;q=0.1, application/x-ndjson", false),
            ("application/x-ndjson", false),
            ("application/json", false),
        ];
        for (accepted, expected) in cases {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accepted.parse().unwrap())]);
            assert_eq!(prefers(&headers, "text/event-stream", "application/x-ndjson"), expected, "{accepted}");
        }
        assert!(!prefers(&HeaderMap::new(), "text/event-stream", "application/x-ndjson"));
    }

    #[test]
    fn a_coding_is_taken_unless_its_weight_is_nothing_or_less_than_that_of_none() {
        let cases = [
            ("gzip", true),
            ("deflate, GZip;q=0.5, br", true),
            ("*", true),
            ("gzip;q=0.5, identity;q=0.5", true),
            ("identity;q=0, *", true),
            ("gzip;q=0", false),
            ("gzip; Q=0.000, *", false),
            ("*;q=0", false),
            ("identity, gzip;q=0.5", false),
            ("gzip;q=0.5, *", false),
            ("deflate, not-gzip", false),
            ("", false),
        ];
        for (accepted, expected) in cases {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, accepted.parse().unwrap())]);
            assert_eq!(takes_coding(&headers, "gzip"), expected, "{accepted}");
        }
        assert!(!takes_coding(&HeaderMap::new(), "gzip"));
    }
}
