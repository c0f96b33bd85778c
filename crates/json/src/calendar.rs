//! Timestamps and durations as text, both ways.
//!
//! A newcomer would reach for a date library: ProtoJSON's grammar is narrower than theirs (upper-case `T` and `Z`, years 1
//! to 9999, no leap seconds, 0, 3, 6 or 9 digits), so most of the work would be refusing what they accept.
//!
//! Knows: RFC 3339 and the proleptic Gregorian calendar. Does not know: the time of day.

use crate::error::Refusal;

/// 0001-01-01T00:00:00Z.
const TIMESTAMP_SECONDS_MIN: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z.
const TIMESTAMP_SECONDS_MAX: i64 = 253_402_300_799;
/// About 10,000 years, the bound google.protobuf.Duration documents.
const DURATION_SECONDS_MAX: i64 = 315_576_000_000;
const NANOS_PER_SECOND: i32 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Seconds and nanoseconds since 1970 of an RFC 3339 text.
pub(crate) fn read_timestamp(text: &str) -> Result<(i64, i32), Refusal> {
    let (seconds, nanos) =
        timestamp_parts(text.as_bytes()).ok_or("expected a timestamp such as 2026-01-31T12:00:00Z")?;
    if !(TIMESTAMP_SECONDS_MIN..=TIMESTAMP_SECONDS_MAX).contains(&seconds) {
        return Err("the timestamp is outside the years 0001 to 9999".into());
    }
    Ok((seconds, nanos))
}

/// RFC 3339 in UTC, without quotes.
pub(crate) fn write_timestamp(seconds: i64, nanos: i32, out: &mut Vec<u8>) -> Result<(), Refusal> {
    if !(TIMESTAMP_SECONDS_MIN..=TIMESTAMP_SECONDS_MAX).contains(&seconds) {
        return Err("the timestamp is outside the years 0001 to 9999".into());
    }
    if !(0..NANOS_PER_SECOND).contains(&nanos) {
        return Err("the nanoseconds of the timestamp are out of range".into());
    }
    let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
    let second_of_day = seconds.rem_euclid(SECONDS_PER_DAY);
    put_digits::<4>(out, year);
    for (before, value) in [
        (b'-', month),
        (b'-', day),
        (b'T', second_of_day / 3600),
        (b':', second_of_day / 60 % 60),
        (b':', second_of_day % 60),
    ] {
        out.push(before);
        put_digits::<2>(out, value);
    }
    put_fraction(out, nanos);
    out.push(b'Z');
    Ok(())
}

/// Seconds and nanoseconds, of one sign, of a text such as `-1.5s`.
pub(crate) fn read_duration(text: &str) -> Result<(i64, i32), Refusal> {
    let (is_negative, seconds, nanos) = duration_parts(text.as_bytes()).ok_or("expected a duration such as 1.5s")?;
    if seconds > DURATION_SECONDS_MAX {
        return Err("the duration is longer than 10000 years".into());
    }
    Ok(if is_negative { (-seconds, -nanos) } else { (seconds, nanos) })
}

/// Seconds with an `s`, without quotes.
pub(crate) fn write_duration(seconds: i64, nanos: i32, out: &mut Vec<u8>) -> Result<(), Refusal> {
    if !(-DURATION_SECONDS_MAX..=DURATION_SECONDS_MAX).contains(&seconds) {
        return Err("the duration is longer than 10000 years".into());
    }
    if nanos <= -NANOS_PER_SECOND || nanos >= NANOS_PER_SECOND {
        return Err("the nanoseconds of the duration are out of range".into());
    }
    if (seconds < 0 && nanos > 0) || (seconds > 0 && nanos < 0) {
        return Err("the seconds and nanoseconds of the duration differ in sign".into());
    }
    if seconds < 0 || nanos < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(itoa::Buffer::new().format(seconds.unsigned_abs()).as_bytes());
    put_fraction(out, nanos.abs());
    out.push(b's');
    Ok(())
}

fn timestamp_parts(text: &[u8]) -> Option<(i64, i32)> {
    let (date, rest) = text.split_first_chunk::<19>()?;
    let at = |from: usize, to: usize| number(&date[from..to]);
    for (place, separator) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        if date[place] != separator {
            return None;
        }
    }
    let (year, month, day) = (at(0, 4)?, at(5, 7)?, at(8, 10)?);
    let (hour, minute, second) = (at(11, 13)?, at(14, 16)?, at(17, 19)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, zone) = fraction(rest)?;
    let offset = match zone {
        [b'Z'] => 0,
        [sign @ (b'+' | b'-'), zone @ ..] if zone.len() == 5 && zone[2] == b':' => {
            let (hours, minutes) = (number(&zone[..2])?, number(&zone[3..])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let seconds = days_from_civil(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset;
    Some((seconds, nanos))
}

fn duration_parts(text: &[u8]) -> Option<(bool, i64, i32)> {
    let text = text.strip_suffix(b"s")?;
    let (is_negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let whole = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if whole == 0 {
        return None;
    }
    let (whole, rest) = text.split_at(whole);
    let seconds =
        whole.iter().fold(0, |value: i64, digit| value.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    match fraction(rest)? {
        (nanos, []) => Some((is_negative, seconds, nanos)),
        _ => None,
    }
}

/// Nanoseconds of an optional fraction of one to nine digits, and what follows it.
fn fraction(text: &[u8]) -> Option<(i32, &[u8])> {
    let [b'.', rest @ ..] = text else { return Some((0, text)) };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&count) {
        return None;
    }
    let value = number(&rest[..count])? * 10_i64.pow(9 - count as u32);
    Some((i32::try_from(value).ok()?, &rest[count..]))
}

fn put_fraction(out: &mut Vec<u8>, nanos: i32) {
    if nanos == 0 {
        return;
    }
    out.push(b'.');
    let nanos = i64::from(nanos);
    match nanos {
        _ if nanos % 1_000_000 == 0 => put_digits::<3>(out, nanos / 1_000_000),
        _ if nanos % 1_000 == 0 => put_digits::<6>(out, nanos / 1_000),
        _ => put_digits::<9>(out, nanos),
    }
}

/// A number that is not negative and has no more digits than that.
fn put_digits<const WIDTH: usize>(out: &mut Vec<u8>, value: i64) {
    let (mut digits, mut rest) = ([b'0'; WIDTH], value as u32);
    for digit in digits.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits);
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

// Both ways of the calendar count years from March, so that the leap day is the last of its year, in eras of 400 years.

const DAYS_PER_ERA: i64 = 146_097;
/// From 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    year.div_euclid(400) * DAYS_PER_ERA + day_of_era - DAYS_TO_1970
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_1970;
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + days.div_euclid(DAYS_PER_ERA) * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(seconds: i64, nanos: i32) -> String {
        let mut out = Vec::new();
        write_timestamp(seconds, nanos, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_day_of_ten_thousand_years_survives_the_round_trip() {
        let mut previous = (0, 12, 31);
        for day in TIMESTAMP_SECONDS_MIN / SECONDS_PER_DAY..=TIMESTAMP_SECONDS_MAX / SECONDS_PER_DAY {
            let (year, month, date) = civil_from_days(day);
            assert_eq!(days_from_civil(year, month, date), day);
            let next = match previous {
                (y, 12, 31) => (y + 1, 1, 1),
                (y, m, d) if d == days_in_month(y, m) => (y, m + 1, 1),
                (y, m, d) => (y, m, d + 1),
            };
            assert_eq!((year, month, date), next);
            previous = next;
        }
        assert_eq!(previous, (9999, 12, 31));
    }

    #[test]
    fn timestamps_read_and_write() {
        let cases = [
            ("1970-01-01T00:00:00Z", (0, 0), "1970-01-01T00:00:00Z"),
            ("0001-01-01T00:00:00Z", (TIMESTAMP_SECONDS_MIN, 0), "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999999999Z", (TIMESTAMP_SECONDS_MAX, 999_999_999), "9999-12-31T23:59:59.999999999Z"),
            ("1969-12-31T16:00:00.5-08:00", (0, 500_000_000), "1970-01-01T00:00:00.500Z"),
            ("2024-02-29T01:02:03.00001+01:00", (1_709_164_923, 10_000), "2024-02-29T00:02:03.000010Z"),
        ];
        for (text, (seconds, nanos), shown) in cases {
            assert_eq!(read_timestamp(text), Ok((seconds, nanos)), "{text}");
            assert_eq!(timestamp(seconds, nanos), shown);
        }
    }

    #[test]
    fn wrong_timestamps_are_refused() {
        for text in [
            "",
            "2026-01-31",
            "2026-01-31t12:00:00Z",
            "2026-01-31T12:00:00z",
            "2026-01-31 12:00:00Z",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00.1234567890Z",
            "2026-02-29T12:00:00Z",
            "2026-04-31T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:00:60Z",
            "2026-01-31T12:00:00+0100",
            "2026-01-31T12:00:00+24:00",
            "0000-12-31T23:59:59Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "10000-01-01T00:00:00Z",
            "2026-01-31T12:00:00Zé",
        ] {
            assert!(read_timestamp(text).is_err(), "{text}");
        }
        assert!(write_timestamp(0, -1, &mut Vec::new()).is_err());
        assert!(write_timestamp(TIMESTAMP_SECONDS_MAX + 1, 0, &mut Vec::new()).is_err());
    }

    #[test]
    fn durations_read_and_write() {
        let cases = [
            ("0s", (0, 0), "0s"),
            ("-0.5s", (0, -500_000_000), "-0.500s"),
            ("1.000340012s", (1, 340_012), "1.000340012s"),
            ("1.00001s", (1, 10_000), "1.000010s"),
            ("-315576000000.999999999s", (-DURATION_SECONDS_MAX, -999_999_999), "-315576000000.999999999s"),
        ];
        for (text, (seconds, nanos), shown) in cases {
            assert_eq!(read_duration(text), Ok((seconds, nanos)), "{text}");
            let mut out = Vec::new();
            write_duration(seconds, nanos, &mut out).unwrap();
            assert_eq!(out, shown.as_bytes());
        }
        for text in
            ["", "s", "1", "1.s", ".5s", "+1s", "1e3s", "1.0000000001s", "315576000001s", "99999999999999999999s"]
        {
            assert!(read_duration(text).is_err(), "{text}");
        }
        assert!(write_duration(1, -1, &mut Vec::new()).is_err());
    }
}
