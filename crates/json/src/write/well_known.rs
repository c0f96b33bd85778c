//! The well-known types as JSON.
//!
//! A newcomer would miss that their fields, too, may come in any order, twice, or in parts. Each is read to its end before
//! anything is written.
//!
//! Knows: the members of each type. Does not know: who holds it.

use super::fields::{concatenated, records_of};
use super::{Stop, Writer};
use crate::error::Refusal;
use crate::table::{Field, Kind, Message, Shape};
use crate::wire::{Record, Records, WireType};
use crate::{calendar, mask};

impl Writer<'_, '_> {
    pub(super) fn timestamp(&mut self, wire: &[u8]) -> Result<(), Stop> {
        let (seconds, nanos) = seconds_and_nanos(wire)?;
        self.out.push(b'"');
        calendar::write_timestamp(seconds, nanos, self.out)?;
        self.out.push(b'"');
        Ok(())
    }

    pub(super) fn duration(&mut self, wire: &[u8]) -> Result<(), Stop> {
        let (seconds, nanos) = seconds_and_nanos(wire)?;
        self.out.push(b'"');
        calendar::write_duration(seconds, nanos, self.out)?;
        self.out.push(b'"');
        Ok(())
    }

    pub(super) fn field_mask(&mut self, wire: &[u8]) -> Result<(), Stop> {
        self.out.push(b'"');
        let mut records = Records::new(wire);
        let mut follows = false;
        while let Some(record) = records.next()? {
            if record.number == 1 && record.wire_type == WireType::Bytes {
                if follows {
                    self.out.push(b',');
                }
                follows = true;
                let path = std::str::from_utf8(record.bytes).map_err(|_| "a path of the field mask is not UTF-8")?;
                mask::write(path, self.out)?;
            }
        }
        self.out.push(b'"');
        Ok(())
    }

    pub(super) fn wrapper(&mut self, inner: &Field, wire: &[u8]) -> Result<(), Stop> {
        let mut value = Record::ABSENT;
        let mut records = Records::new(wire);
        while let Some(record) = records.next()? {
            if record.number == inner.number && inner.takes(record.wire_type) {
                value = record;
            }
        }
        self.value(inner.kind, &value)
    }

    pub(super) fn structure(&mut self, fields: &Field, wire: &[u8]) -> Result<(), Stop> {
        self.lone_field(fields, &records_of(fields, wire)?)
    }

    pub(super) fn list_value(&mut self, values: &Field, wire: &[u8]) -> Result<(), Stop> {
        let mut records = Records::new(wire);
        let mut count = 0;
        self.out.push(b'[');
        while let Some(record) = records.next()? {
            if record.number == values.number && values.takes(record.wire_type) {
                self.elements(values, &record, &mut count)?;
            }
        }
        self.out.push(b']');
        Ok(())
    }

    /// google.protobuf.Value. One with no member set is written as `null`, the only thing it can mean.
    pub(super) fn value_message(&mut self, message: &Message, wire: &[u8]) -> Result<(), Stop> {
        let mut held: Vec<Record<'_>> = Vec::new();
        let mut records = Records::new(wire);
        while let Some(record) = records.next()? {
            let Some(index) = message.index_of_number(record.number) else { continue };
            let member = &message.fields[index];
            if member.takes(record.wire_type) {
                // Another member overrules; only parts of the same message add up.
                if !matches!(member.kind, Kind::Message(_)) || held.iter().any(|part| part.number != record.number) {
                    held.clear();
                }
                held.push(record);
            }
        }
        let Some(last) = held.last() else {
            self.out.extend_from_slice(b"null");
            return Ok(());
        };
        let Some(index) = message.index_of_number(last.number) else { return Ok(()) };
        match message.fields[index].kind {
            Kind::Double => {
                let number = f64::from_bits(last.bits);
                if !number.is_finite() {
                    return Err("a google.protobuf.Value cannot hold NaN or Infinity in JSON".into());
                }
                self.finite(number);
                Ok(())
            }
            kind @ Kind::Message(_) => self.value(kind, &Record::of_bytes(&concatenated(&held))),
            kind => self.value(kind, last),
        }
    }

    pub(super) fn any(&mut self, wire: &[u8]) -> Result<(), Stop> {
        let (mut url, mut content): (&[u8], &[u8]) = (&[], &[]);
        let mut records = Records::new(wire);
        while let Some(record) = records.next()? {
            match (record.number, record.wire_type) {
                (1, WireType::Bytes) => url = record.bytes,
                (2, WireType::Bytes) => content = record.bytes,
                _ => {}
            }
        }
        if url.is_empty() && content.is_empty() {
            self.out.extend_from_slice(b"{}");
            return Ok(());
        }
        let url = std::str::from_utf8(url).map_err(|_| "the type URL of an Any is not UTF-8")?;
        let index = self.tables.message_at(url)?;
        self.out.extend_from_slice(b"{\"@type\":");
        self.quoted(url);
        let message = self.table(index);
        if message.shape == Shape::Plain {
            self.enter()?;
            self.plain(message, content, true)?;
            self.depth -= 1;
        } else {
            self.out.extend_from_slice(b",\"value\":");
            let written = self.message(index, content);
            self.at_field("value", written)?;
        }
        self.out.push(b'}');
        Ok(())
    }
}

fn seconds_and_nanos(wire: &[u8]) -> Result<(i64, i32), Refusal> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut records = Records::new(wire);
    while let Some(record) = records.next()? {
        match (record.number, record.wire_type) {
            (1, WireType::Varint) => seconds = record.bits as i64,
            (2, WireType::Varint) => nanos = record.bits as i32,
            _ => {}
        }
    }
    Ok((seconds, nanos))
}
