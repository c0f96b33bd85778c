//! What a caller takes, by its Accept headers.
//!
//! A newcomer's usual mistake is to look for a media type as text. A caller may name one to say that it does not take it.
//!
//! *Knows:* media ranges, weights of zero. *Does not know:* which answers there are.

use http::{HeaderMap, header};

/// Whether a caller names this media type and takes it.
pub(super) fn names(headers: &HeaderMap, media_type: &str) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case(media_type)) && !parts.any(is_zero)
    })
}

/// Whether a parameter is a weight of zero, which means never.
fn is_zero(parameter: &str) -> bool {
    let weight = parameter.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    weight.is_some_and(|(_, weight)| weight.trim().parse() == Ok(0.0_f32))
}
