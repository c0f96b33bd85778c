//! Map fields.
//!
//! A newcomer would write entries as they come: a key may come twice, and then the last one holds. Entries are sorted by
//! key, which finds those pairs and makes the text the same every time.
//!
//! Knows: entries. Does not know: what a value looks like.

use super::{Stop, Writer, zigzag};
use crate::error::{Refusal, Step};
use crate::table::Kind;
use crate::wire::{Record, Records};

/// A key, in the order keys are written in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'w> {
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Text(&'w str),
}

struct Entry<'w> {
    key: Key<'w>,
    value: Record<'w>,
    /// A message value that came in parts within its entry.
    merged: Option<Vec<u8>>,
}

impl Writer<'_, '_> {
    pub(super) fn map(&mut self, key: Kind, value: Kind, records: &[Record<'_>]) -> Result<(), Stop> {
        let mut entries =
            records.iter().map(|record| entry(key, value, record.bytes)).collect::<Result<Vec<_>, _>>()?;
        // Stable, so that of equal keys the last on the wire is the last here.
        entries.sort_by_key(|entry| entry.key);
        self.out.push(b'{');
        let mut follows = false;
        for equal in entries.chunk_by(|a, b| a.key == b.key) {
            let Some(entry) = equal.last() else { continue };
            if follows {
                self.out.push(b',');
            }
            follows = true;
            self.map_key(entry.key);
            let written = match &entry.merged {
                Some(whole) => self.value(value, &Record::of_bytes(whole)),
                None => self.value(value, &entry.value),
            };
            if let Err(Stop::Refused(_)) = written {
                self.trail.push(Step::Key(entry.key.to_string()));
            }
            written?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn map_key(&mut self, key: Key<'_>) {
        match key {
            Key::Text(text) => self.quoted(text),
            Key::Bool(true) => self.out.extend_from_slice(b"\"true\""),
            Key::Bool(false) => self.out.extend_from_slice(b"\"false\""),
            Key::Signed(value) => self.quoted_integer(value),
            Key::Unsigned(value) => self.quoted_integer(value),
        }
        self.out.push(b':');
    }
}

impl std::fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Bool(value) => value.fmt(f),
            Key::Signed(value) => value.fmt(f),
            Key::Unsigned(value) => value.fmt(f),
            Key::Text(text) => text.fmt(f),
        }
    }
}

/// A key or value that is missing is the default; of several the last holds, and messages are merged.
fn entry<'w>(key_kind: Kind, value_kind: Kind, wire: &'w [u8]) -> Result<Entry<'w>, Refusal> {
    let (mut key, mut value): (Record<'w>, Record<'w>) = (Record::ABSENT, Record::ABSENT);
    let mut merged: Option<Vec<u8>> = None;
    let mut records = Records::new(wire);
    while let Some(record) = records.next()? {
        match record.number {
            1 if record.wire_type == key_kind.wire_type() => key = record,
            2 if record.wire_type == value_kind.wire_type() => {
                if value.number != 0 && matches!(value_kind, Kind::Message(_)) {
                    merged.get_or_insert_with(|| value.bytes.to_vec()).extend_from_slice(record.bytes);
                }
                value = record;
            }
            _ => {}
        }
    }
    let key = match key_kind {
        Kind::String => Key::Text(std::str::from_utf8(key.bytes).map_err(|_| "a map key is not UTF-8")?),
        Kind::Bool => Key::Bool(key.bits != 0),
        Kind::Int32 | Kind::Sfixed32 => Key::Signed(i64::from(key.bits as i32)),
        Kind::Sint32 => Key::Signed(zigzag(u64::from(key.bits as u32))),
        Kind::Int64 | Kind::Sfixed64 => Key::Signed(key.bits as i64),
        Kind::Sint64 => Key::Signed(zigzag(key.bits)),
        Kind::Uint32 | Kind::Fixed32 => Key::Unsigned(u64::from(key.bits as u32)),
        _ => Key::Unsigned(key.bits),
    };
    Ok(Entry { key, value, merged })
}
