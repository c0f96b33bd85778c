//! The fields of a plain message.
//!
//! A newcomer would write the careful way only. It needs a list of all records and a sort; the streaming way needs
//! neither, and serves nearly every message.
//!
//! Knows: order, presence, defaults, oneofs, merging. Does not know: what a value looks like.

use std::borrow::Cow;

use super::{Stop, Writer};
use crate::error::Step;
use crate::style::{Absent, Defaults, Names};
use crate::table::{Cardinality, Field, Kind, Message, Seen, Shape};
use crate::wire::{Record, Records, WireType, take_fixed32, take_fixed64, take_varint};

impl Writer<'_, '_> {
    /// The fields, without the braces. `follows` says whether something stands before them.
    pub(super) fn plain(&mut self, message: &Message, wire: &[u8], mut follows: bool) -> Result<(), Stop> {
        if self.is_careful {
            return self.plain_carefully(message, wire, follows);
        }
        let mut records = Records::new(wire);
        let mut seen = Seen::with_room_for(message.fields.len() + message.oneofs);
        let mut next = 0;
        while let Some(record) = records.next()? {
            let Some((index, field)) = known(message, &record) else { continue };
            // Out of order alone does no harm, unless defaults are to be written in between.
            if !seen.insert(index) || (index < next && self.style.defaults == Defaults::Emit) {
                return Err(Stop::Disorder);
            }
            if index >= next {
                self.absent(&message.fields[next..index], &mut follows);
                next = index + 1;
            }
            let written = match field.cardinality {
                Cardinality::Singular => {
                    if let Some(oneof) = field.oneof
                        && !seen.insert(message.fields.len() + oneof as usize)
                    {
                        return Err(Stop::Disorder);
                    }
                    self.singular(field, &record, &mut follows)
                }
                Cardinality::Repeated { .. } => self.streamed_list(field, &record, &mut records, &mut follows),
                Cardinality::Map { key, value } => {
                    let mut entries = vec![record];
                    while let Some(entry) = records.next_if(&field.packed_tag, field.number, WireType::Bytes)? {
                        entries.push(entry);
                    }
                    self.key(field, &mut follows);
                    self.map(key, value, &entries)
                }
            };
            self.at_field(&field.json_name, written)?;
        }
        self.absent(&message.fields[next..], &mut follows);
        Ok(())
    }

    fn plain_carefully(&mut self, message: &Message, wire: &[u8], mut follows: bool) -> Result<(), Stop> {
        let mut next = 0;
        let sorted = sorted_records(message, wire)?;
        for group in sorted.chunk_by(|a, b| a.0 == b.0) {
            let Some((index, _)) = group.first() else { continue };
            let field = &message.fields[*index];
            self.absent(&message.fields[next..*index], &mut follows);
            next = index + 1;
            let records: Vec<Record<'_>> = group.iter().map(|(_, record)| *record).collect();
            let written = self.field(field, &records, &mut follows);
            self.at_field(&field.json_name, written)?;
        }
        self.absent(&message.fields[next..], &mut follows);
        Ok(())
    }

    /// One field with its key, from all its records.
    fn field(&mut self, field: &Field, records: &[Record<'_>], follows: &mut bool) -> Result<(), Stop> {
        match field.cardinality {
            Cardinality::Singular => {
                self.merged(field, records, |writer, record| writer.singular(field, record, follows))
            }
            Cardinality::Repeated { .. } => {
                let start = (self.out.len(), *follows);
                self.key(field, follows);
                let is_empty = self.list(field, records)?;
                self.forget_empty(is_empty, start, follows);
                Ok(())
            }
            Cardinality::Map { key, value } => {
                self.key(field, follows);
                self.map(key, value, records)
            }
        }
    }

    /// The value of one field without its key, from all its records, as it stands alone.
    pub(crate) fn lone_field(&mut self, field: &Field, records: &[Record<'_>]) -> Result<(), Stop> {
        let written = match field.cardinality {
            Cardinality::Repeated { .. } => self.list(field, records).map(|_| ()),
            Cardinality::Map { key, value } => self.map(key, value, records),
            Cardinality::Singular if records.is_empty() && field.presence => {
                self.out.extend_from_slice(b"null");
                Ok(())
            }
            Cardinality::Singular if records.is_empty() => self.value(field.kind, &Record::ABSENT),
            Cardinality::Singular => self.merged(field, records, |writer, record| writer.value(field.kind, record)),
        };
        self.at_field(&field.json_name, written)
    }

    /// Several records of a singular field are one value: the last scalar, or all messages merged, which on the wire is
    /// their concatenation.
    fn merged(
        &mut self,
        field: &Field,
        records: &[Record<'_>],
        write: impl FnOnce(&mut Self, &Record<'_>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let Some(last) = records.last() else { return Ok(()) };
        if records.len() > 1 && matches!(field.kind, Kind::Message(_)) {
            let whole: Vec<u8> = records.iter().flat_map(|record| record.bytes).copied().collect();
            return write(self, &Record::of_bytes(&whole));
        }
        write(self, last)
    }

    fn singular(&mut self, field: &Field, record: &Record<'_>, follows: &mut bool) -> Result<(), Stop> {
        if !field.presence && self.style.defaults == Defaults::Omit && is_default(field.kind, record) {
            return Ok(());
        }
        self.key(field, follows);
        self.value(field.kind, record)
    }

    fn list(&mut self, field: &Field, records: &[Record<'_>]) -> Result<bool, Stop> {
        self.out.push(b'[');
        let mut count = 0;
        for record in records {
            self.elements(field, record, &mut count)?;
        }
        self.out.push(b']');
        Ok(count == 0)
    }

    fn streamed_list(
        &mut self,
        field: &Field,
        first: &Record<'_>,
        records: &mut Records<'_>,
        follows: &mut bool,
    ) -> Result<(), Stop> {
        let start = (self.out.len(), *follows);
        self.key(field, follows);
        self.out.push(b'[');
        let mut count = 0;
        self.elements(field, first, &mut count)?;
        let (tag, wire_type) = match first.wire_type {
            WireType::Bytes => (&field.packed_tag, WireType::Bytes),
            other => (&field.tag, other),
        };
        while let Some(record) = records.next_if(tag, field.number, wire_type)? {
            self.elements(field, &record, &mut count)?;
        }
        self.out.push(b']');
        self.forget_empty(count == 0, start, follows);
        Ok(())
    }

    /// A packed record may hold no element at all, and an empty list is a default.
    fn forget_empty(&mut self, is_empty: bool, (length, followed): (usize, bool), follows: &mut bool) {
        if is_empty && self.style.defaults == Defaults::Omit {
            self.out.truncate(length);
            *follows = followed;
        }
    }

    /// One record of a repeated field: one element, or a packed run of them.
    pub(super) fn elements(&mut self, field: &Field, record: &Record<'_>, count: &mut usize) -> Result<(), Stop> {
        if record.wire_type != WireType::Bytes || !field.kind.is_packable() {
            return self.element(field.kind, record, count);
        }
        let mut rest = record.bytes;
        while !rest.is_empty() {
            let bits = match field.kind.wire_type() {
                WireType::Fixed32 => take_fixed32(&mut rest),
                WireType::Fixed64 => take_fixed64(&mut rest),
                _ => take_varint(&mut rest),
            }?;
            self.element(field.kind, &Record::of_bits(bits), count)?;
        }
        Ok(())
    }

    fn element(&mut self, kind: Kind, record: &Record<'_>, count: &mut usize) -> Result<(), Stop> {
        if *count > 0 {
            self.out.push(b',');
        }
        let written = self.value(kind, record);
        if let Err(Stop::Refused(_)) = written {
            self.trail.push(Step::Index(*count));
        }
        *count += 1;
        written
    }

    #[inline]
    fn absent(&mut self, fields: &[Field], follows: &mut bool) {
        if self.style.defaults == Defaults::Emit {
            self.write_defaults(fields, follows);
        }
    }

    fn write_defaults(&mut self, fields: &[Field], follows: &mut bool) {
        for field in fields {
            match field.cardinality {
                Cardinality::Singular if field.presence => {
                    // Of a oneof at most one member is there, so the others' absence says nothing; and to a
                    // google.protobuf.Value `null` is a value.
                    if self.style.absent == Absent::Null && field.oneof.is_none() && !self.takes_null(field) {
                        self.key(field, follows);
                        self.out.extend_from_slice(b"null");
                    }
                }
                Cardinality::Singular => {
                    self.key(field, follows);
                    self.default_scalar(field.kind);
                }
                Cardinality::Repeated { .. } => {
                    self.key(field, follows);
                    self.out.extend_from_slice(b"[]");
                }
                Cardinality::Map { .. } => {
                    self.key(field, follows);
                    self.out.extend_from_slice(b"{}");
                }
            }
        }
    }

    fn takes_null(&self, field: &Field) -> bool {
        matches!(field.kind, Kind::Message(index) if matches!(self.tables.message(index).shape, Shape::Value))
    }

    fn key(&mut self, field: &Field, follows: &mut bool) {
        let key = match self.style.names {
            Names::Camel => &field.json_key,
            Names::Proto => &field.proto_key,
        };
        self.out.extend_from_slice(if *follows { key } else { &key[1..] });
        *follows = true;
    }
}

#[inline]
fn known<'m>(message: &'m Message, record: &Record<'_>) -> Option<(usize, &'m Field)> {
    let index = message.index_of_number(record.number)?;
    let field = &message.fields[index];
    field.takes(record.wire_type).then_some((index, field))
}

/// All known records, sorted by field and otherwise in the order of the wire, without those that a later member of the
/// same oneof has overruled.
fn sorted_records<'w>(message: &Message, wire: &'w [u8]) -> Result<Vec<(usize, Record<'w>)>, Stop> {
    let mut all = Vec::new();
    let mut records = Records::new(wire);
    while let Some(record) = records.next()? {
        if let Some((index, _)) = known(message, &record) {
            all.push((index, record));
        }
    }
    // From the end: the first member met is the one that holds, until another member is met; what is before that is void.
    let mut holders: Vec<Option<usize>> = vec![None; message.oneofs];
    let mut closed = Seen::with_room_for(message.oneofs);
    let mut is_closed = vec![false; message.oneofs];
    all.reverse();
    all.retain(|(index, _)| {
        let Some(oneof) = message.fields[*index].oneof.map(|oneof| oneof as usize) else { return true };
        let holder = *holders[oneof].get_or_insert(*index);
        if holder != *index && closed.insert(oneof) {
            is_closed[oneof] = true;
        }
        !is_closed[oneof]
    });
    all.reverse();
    all.sort_by_key(|(index, _)| *index);
    Ok(all)
}

/// The records of one field, in the order of the wire, and the bytes a message field holds when they are merged.
pub(crate) fn records_of<'w>(field: &Field, wire: &'w [u8]) -> Result<Vec<Record<'w>>, Stop> {
    let mut found = Vec::new();
    let mut records = Records::new(wire);
    while let Some(record) = records.next()? {
        if record.number == field.number && field.takes(record.wire_type) {
            found.push(record);
        }
    }
    Ok(found)
}

/// All parts of one message.
pub(crate) fn concatenated<'w>(records: &[Record<'w>]) -> Cow<'w, [u8]> {
    match records {
        [] => Cow::Borrowed(&[]),
        [only] => Cow::Borrowed(only.bytes),
        parts => parts.iter().flat_map(|part| part.bytes).copied().collect(),
    }
}

fn is_default(kind: Kind, record: &Record<'_>) -> bool {
    match kind {
        Kind::String | Kind::Bytes => record.bytes.is_empty(),
        Kind::Int32 | Kind::Uint32 | Kind::Sint32 | Kind::Enum(_) => record.bits as u32 == 0,
        Kind::Message(_) => false,
        _ => record.bits == 0,
    }
}
