//! Sizes with their unit, so that `268435456` need not be counted by eye.

use std::{fmt, str::FromStr};

/// A number of bytes, written `256MiB`, `2GiB`, `64KiB` or as a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl FromStr for ByteSize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<ByteSize, &'static str> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| "is not a size")?;
        let unit = unit.trim_start();
        let factor = match unit {
            "" => 1,
            unit => UNITS.iter().find(|(name, _)| *name == unit).ok_or("has an unknown unit")?.1,
        };
        number.checked_mul(factor).map(ByteSize).ok_or("is too large")
    }
}

/// In the largest unit that divides it.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        match UNITS.iter().find(fits) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_survive_their_text() {
        for (text, bytes) in [("256MiB", 256 << 20), ("2GiB", 2 << 30), ("1025B", 1025), ("0B", 0)] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)));
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
        assert_eq!("4096".parse(), Ok(ByteSize(4096)));
        for text in ["", "MiB", "1.5GiB", "1MB", "-1", "99999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text} was taken");
        }
    }
}
