//! The timeout headers, read strictly and written for the engine.
//!
//! A newcomer's usual mistake is to ignore a value that does not parse. A caller that asks for a deadline and silently
//! gets none waits for ever, so a malformed one is refused.
//!
//! *Knows:* the two header grammars. *Does not know:* what is done when time is up.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use portico_base::{Code, Error, Result, reason};

use crate::{Outline, Protocol};

const CONNECT: HeaderName = HeaderName::from_static("connect-timeout-ms");
const GRPC: HeaderName = HeaderName::from_static("grpc-timeout");
/// As the Connect specification says.
const CONNECT_DIGITS_MAX: usize = 10;
/// As the gRPC specification says.
const GRPC_DIGITS_MAX: usize = 8;
/// The largest number of that many digits.
const GRPC_NUMBER_MAX: u128 = 99_999_999;

/// How long the caller waits, if it says so.
///
/// # Errors
/// `invalid_message` when it says so in another form than the protocol has.
pub fn read(outline: &Outline<'_>, protocol: Protocol) -> Result<Option<Duration>> {
    let is_connect = matches!(protocol, Protocol::Connect | Protocol::ConnectStream);
    let Some(value) = (if is_connect { outline.connect_timeout } else { outline.grpc_timeout }) else {
        return Ok(None);
    };
    let (name, parse): (HeaderName, fn(&str) -> Option<Duration>) =
        if is_connect { (CONNECT, connect) } else { (GRPC, grpc) };
    match value.to_str().ok().and_then(parse) {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(Error::new(Code::InvalidArgument, reason::INVALID_MESSAGE, format!("{name} is malformed"))),
    }
}

/// The header that says this to the engine.
pub(super) fn write(left: Duration, protocol: Protocol) -> (HeaderName, HeaderValue) {
    match protocol {
        Protocol::Connect | Protocol::ConnectStream => {
            // Rounded up, so that no deadline becomes an earlier one.
            let milliseconds = left.as_micros().div_ceil(1_000).min(9_999_999_999);
            (CONNECT, HeaderValue::from(u64::try_from(milliseconds).unwrap_or(u64::MAX)))
        }
        Protocol::Grpc | Protocol::GrpcWeb | Protocol::GrpcWebText => {
            let micros = left.as_micros();
            let (number, unit) = match micros {
                ..=GRPC_NUMBER_MAX => (micros, 'u'),
                _ if micros.div_ceil(1_000) <= GRPC_NUMBER_MAX => (micros.div_ceil(1_000), 'm'),
                _ => (u128::from(left.as_secs()).min(GRPC_NUMBER_MAX), 'S'),
            };
            let value = HeaderValue::try_from(format!("{number}{unit}"));
            (GRPC, value.unwrap_or_else(|_| HeaderValue::from_static("0u")))
        }
    }
}

fn connect(text: &str) -> Option<Duration> {
    number(text, CONNECT_DIGITS_MAX).map(Duration::from_millis)
}

fn grpc(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let number = number(text.get(..text.len() - unit.len_utf8())?, GRPC_DIGITS_MAX)?;
    match unit {
        'H' => Some(Duration::from_secs(number * 3_600)),
        'M' => Some(Duration::from_secs(number * 60)),
        'S' => Some(Duration::from_secs(number)),
        'm' => Some(Duration::from_millis(number)),
        'u' => Some(Duration::from_micros(number)),
        'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Digits alone: a sign, which the standard parser takes, is not one.
fn number(digits: &str, digits_max: usize) -> Option<u64> {
    let fits = (1..=digits_max).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if fits { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_grammar_is_taken() {
        assert_eq!(connect("9999999999"), Some(Duration::from_millis(9_999_999_999)));
        assert_eq!(grpc("1H"), Some(Duration::from_secs(3_600)));
        assert_eq!(grpc("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for text in ["", "+1", "-1", "1.5", "10000000000", "1s"] {
            assert_eq!(connect(text), None, "{text}");
        }
        for text in ["", "1", "S", "+1S", "123456789S", "1x", "1µ"] {
            assert_eq!(grpc(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for (left, grpc) in [(1_500, "1500000u"), (200_000, "200000m"), (100_000_000_000, "99999999S")] {
            let (_, value) = write(Duration::from_millis(left), Protocol::Grpc);
            assert_eq!(value.to_str().unwrap(), grpc);
        }
        let (_, value) = write(Duration::from_micros(1_001), Protocol::Connect);
        assert_eq!(value.to_str().unwrap(), "2");
    }
}
