//! Numbers, to the last digit.
//!
//! A newcomer would parse `1e3` through `f64`: 9007199254740993 and everything beyond would come out wrong. Integers are
//! read from their decimal digits.
//!
//! Knows: decimal text. Does not know: where it stood.

use crate::error::Refusal;

/// An integer written as a JSON number, exactly: `7`, `-7`, `7.0`, `70e-1`.
pub(crate) fn integer(text: &str) -> Result<i128, Refusal> {
    let bytes = text.as_bytes();
    if let Some(plain) = plain_integer(bytes) {
        return Ok(plain);
    }
    let parts = Decimal::parse(bytes).ok_or("expected a number")?;
    let magnitude = parts.whole_value()?;
    Ok(if parts.is_negative { -magnitude } else { magnitude })
}

/// A double written as a JSON number.
pub(crate) fn double(text: &str) -> Result<f64, Refusal> {
    Decimal::parse(text.as_bytes()).ok_or("expected a number")?;
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("the number is out of range for a double".into()),
    }
}

/// A float written as a JSON number. Read as a float at once: through a double it would be rounded twice.
pub(crate) fn float(text: &str) -> Result<f32, Refusal> {
    Decimal::parse(text.as_bytes()).ok_or("expected a number")?;
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("the number is out of range for a float".into()),
    }
}

/// The short and common case: an optional sign and up to eighteen digits.
fn plain_integer(bytes: &[u8]) -> Option<i128> {
    let (is_negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 18 || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    let mut value = 0_i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    Some(i128::from(if is_negative { -value } else { value }))
}

/// A JSON number in its parts.
struct Decimal<'a> {
    is_negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    /// Saturated: no representable number needs an exponent beyond 32 bits.
    exponent: i64,
}

impl<'a> Decimal<'a> {
    /// Follows the JSON grammar strictly: no plus sign, no leading zeros, no lone dot.
    fn parse(bytes: &'a [u8]) -> Option<Decimal<'a>> {
        let (is_negative, rest) = match bytes {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let (whole, rest) = digits(rest);
        if whole.is_empty() || (whole.len() > 1 && whole[0] == b'0') {
            return None;
        }
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => {
                let (fraction, rest) = digits(rest);
                if fraction.is_empty() {
                    return None;
                }
                (fraction, rest)
            }
            rest => (&[] as &[u8], rest),
        };
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', rest @ ..] => exponent(rest)?,
            _ => return None,
        };
        Some(Decimal { is_negative, whole, fraction, exponent })
    }

    fn whole_value(&self) -> Result<i128, Refusal> {
        const OUT_OF_RANGE: &str = "the number is out of range for an integer";
        let digits = || self.whole.iter().chain(self.fraction).copied();
        let trailing_zeros = digits().rev().take_while(|digit| *digit == b'0').count();
        let count = self.whole.len() + self.fraction.len();
        if trailing_zeros == count {
            return Ok(0);
        }
        let scale = self.exponent - self.fraction.len() as i64 + trailing_zeros as i64;
        if scale < 0 {
            return Err("the number is not an integer".into());
        }
        let mut value = 0_i128;
        for digit in digits().take(count - trailing_zeros) {
            value = value * 10 + i128::from(digit - b'0');
            if value > i128::from(u64::MAX) {
                return Err(OUT_OF_RANGE.into());
            }
        }
        for _ in 0..scale {
            value *= 10;
            if value > i128::from(u64::MAX) {
                return Err(OUT_OF_RANGE.into());
            }
        }
        Ok(value)
    }
}

fn digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    let count = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    bytes.split_at(count)
}

fn exponent(bytes: &[u8]) -> Option<i64> {
    let (is_negative, rest) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] | rest => (false, rest),
    };
    let (digits, rest) = digits(rest);
    if digits.is_empty() || !rest.is_empty() {
        return None;
    }
    let value = digits.iter().fold(0_i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(1 << 40));
    Some(if is_negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_exact_in_every_spelling() {
        let cases = [
            ("0", 0),
            ("-0", 0),
            ("0.000", 0),
            ("0e999999999999999999999", 0),
            ("1.0", 1),
            ("1e3", 1000),
            ("1E+3", 1000),
            ("120e-1", 12),
            ("1.5e1", 15),
            ("9007199254740993", 9_007_199_254_740_993),
            ("9223372036854775807.0", i128::from(i64::MAX)),
            ("1.8446744073709551615e19", i128::from(u64::MAX)),
            ("-9223372036854775808", i128::from(i64::MIN)),
            ("18446744073709551615000e-3", i128::from(u64::MAX)),
        ];
        for (text, expected) in cases {
            assert_eq!(integer(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_integer_is_refused() {
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-01",
            "1.",
            ".5",
            "1.5",
            "1e",
            "1e-1",
            "0x1",
            " 1",
            "1 ",
            "NaN",
            "1e20",
            "1e999999999999",
        ] {
            assert!(integer(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_float_is_rounded_once_and_never_to_infinity() {
        assert_eq!(float("3.4028235e38"), Ok(f32::MAX));
        assert!(float("3.502823e+38").is_err());
        assert!(double("1e309").is_err());
        assert!(double("inf").is_err());
        // Through a double this would become 1.0000001.
        assert_eq!(float("1.00000005960464477539062500000000000001").map(f32::to_bits), Ok(0x3f80_0001));
        assert_eq!(float("1.000000059604644775390625").map(f32::to_bits), Ok(0x3f80_0000));
    }
}
