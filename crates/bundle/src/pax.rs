//! Extended headers: records like `30 path=a/long/name\n` that override fields of the next header.
//!
//! A newcomer's usual mistake is to honour the path and forget the size; a reader then takes content for headers.
//!
//! *Knows:* records and the keys that change how an entry is read. *Does not know:* entries.

use portico_base::Result;

use crate::refusal;

/// What an extended header overrides.
#[derive(Default)]
pub(crate) struct Overrides {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
}

/// Reads the records of an extended header.
pub(crate) fn read(mut text: &[u8]) -> Result<Overrides> {
    let mut found = Overrides::default();
    while !text.is_empty() {
        let (key, value, rest) = record(text).ok_or_else(malformed)?;
        text = rest;
        match key {
            b"path" => found.path = Some(value.to_vec()),
            b"linkpath" => found.link = Some(value.to_vec()),
            b"size" => found.size = Some(decimal(value).ok_or_else(malformed)?),
            _ if key.starts_with(b"GNU.sparse.") || key == b"SCHILY.realsize" => {
                return Err(refusal::unsafe_entry(key, "sparse files are not taken"));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Splits the first record off: its length in decimal (which counts itself), a blank, key, `=`, value, a line feed.
fn record(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = text.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&text[..blank])?).ok()?;
    let (record, rest) = text.split_at_checked(length)?;
    let body = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((&body[..equals], &body[equals + 1..], rest))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

fn malformed() -> portico_base::Error {
    refusal::corrupt_tar("an extended header is malformed")
}
