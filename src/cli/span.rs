//! Spans of time as people type them.

use std::time::Duration;

/// A century: longer is a typing error.
const SECONDS_MAX: u64 = 100 * 365 * 86_400;

/// Reads `90s`, `15m`, `12h` or `30d`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is not a span of time such as 90s, 15m, 12h or 30d");
    let unit = text.chars().last().ok_or_else(refused)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(refused()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| refused())?;
    match number.checked_mul(seconds) {
        Some(total) if (1..=SECONDS_MAX).contains(&total) => Ok(Duration::from_secs(total)),
        _ => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_unit() {
        assert_eq!(parse("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(parse("15m"), Ok(Duration::from_secs(900)));
        for text in ["", "d", "30", "1.5h", "-1s", "0s", "99999999999999d", "3日"] {
            assert!(parse(text).is_err(), "{text} was taken");
        }
    }
}
