//! The fields of a message, the elements of a list, the entries of a map.
//!
//! A newcomer would look every name up in the map: callers write fields in the schema's order more often than not, so the
//! field after the last one is tried first.
//!
//! Knows: duplicates, oneofs, `null` in lists and maps. Does not know: what a value looks like.

use std::fmt;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Outcome, Reader, Value, refuse_visits};
use crate::error::{Refusal, Step};
use crate::number;
use crate::table::{Cardinality, Field, Kind, Message, Seen};
use crate::wire::{Frame, Mark, Tag, close, put_varint};

/// The fields of a plain message.
pub(super) struct Fields<'r, 't, 'o> {
    pub(super) reader: &'r mut Reader<'t, 'o>,
    pub(super) message: &'t Message,
    /// Whether the object also holds the `@type` of an `Any`, already read.
    pub(super) in_any: bool,
}

impl Fields<'_, '_, '_> {
    pub(super) fn read<'de, A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Fields { reader, message, in_any } = self;
        let mut seen = Seen::with_room_for(message.fields.len() + message.oneofs);
        let mut likely = 0;
        while let Some(index) = entries.next_key_seed(FieldName { reader: &mut *reader, message, likely, in_any })? {
            let Some(index) = index else {
                skip(reader, &mut entries)?;
                continue;
            };
            likely = index + 1;
            let field = &message.fields[index];
            let read = if seen.insert(index) {
                one_field(reader, field, &mut entries)
            } else {
                reader.settle(Err("the field is given twice".into()))
            };
            let settled = match (read, field.oneof) {
                (Ok(Outcome::Written), Some(oneof)) if !seen.insert(message.fields.len() + oneof as usize) => {
                    reader.settle(Err("another member of the same oneof is given too".into()))
                }
                (read, _) => read,
            };
            if let Err(error) = settled {
                reader.at_field(&field.json_name);
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Passes over the value of a field that is not known. It may not nest deeper than one that is.
pub(super) fn skip<'de, A: MapAccess<'de>>(reader: &mut Reader<'_, '_>, entries: &mut A) -> Result<(), A::Error> {
    let value = entries.next_value::<&RawValue>()?;
    let checked = reader.check_depth(levels(value.get()));
    reader.settle(checked)
}

/// How deeply arrays and objects nest in a JSON value.
fn levels(json: &str) -> u32 {
    let (mut level, mut deepest) = (0_u32, 0);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                level += 1;
                deepest = deepest.max(level);
            }
            b']' | b'}' => level -= 1,
            b'"' => pass_text(&mut bytes),
            _ => {}
        }
    }
    deepest
}

/// Goes to the end of a JSON string that has begun.
fn pass_text(bytes: &mut std::str::Bytes<'_>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            // Whatever is escaped does not end it.
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

fn one_field<'de, A: MapAccess<'de>>(
    reader: &mut Reader<'_, '_>,
    field: &Field,
    entries: &mut A,
) -> Result<Outcome, A::Error> {
    match field.cardinality {
        Cardinality::Singular => {
            entries.next_value_seed(Value { reader, kind: field.kind, frame: Frame::Field(field.tag) })
        }
        Cardinality::Repeated { .. } => entries.next_value_seed(List { reader, field }),
        Cardinality::Map { .. } => entries.next_value_seed(Map { reader, field }),
    }
}

/// Finds the field of a name; `None` for one to be skipped.
struct FieldName<'r, 't, 'o> {
    reader: &'r mut Reader<'t, 'o>,
    message: &'t Message,
    likely: usize,
    in_any: bool,
}

impl<'de> DeserializeSeed<'de> for FieldName<'_, '_, '_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, tokens: D) -> Result<Option<usize>, D::Error> {
        tokens.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName<'_, '_, '_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Option<usize>, E> {
        if self.message.fields.get(self.likely).is_some_and(|field| field.is_named(name)) {
            return Ok(Some(self.likely));
        }
        match self.message.index_of_name(name) {
            Some(index) => Ok(Some(index)),
            None if self.in_any && name == "@type" => self.reader.settle(Err("\"@type\" is given twice".into())),
            None => {
                let checked = self.reader.check_unknown_name(name);
                self.reader.settle(checked).map(|()| None)
            }
        }
    }
}

/// A repeated field, from a JSON array.
pub(crate) struct List<'r, 't, 'o, 'f> {
    pub(crate) reader: &'r mut Reader<'t, 'o>,
    pub(crate) field: &'f Field,
}

impl List<'_, '_, '_, '_> {
    fn expected(&self) -> &'static str {
        "an array"
    }
}

impl<'de> DeserializeSeed<'de> for List<'_, '_, '_, '_> {
    type Value = Outcome;

    fn deserialize<D: Deserializer<'de>>(self, tokens: D) -> Result<Outcome, D::Error> {
        tokens.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_, '_, '_> {
    type Value = Outcome;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Outcome, E> {
        Ok(Outcome::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Outcome, A::Error> {
        let List { reader, field } = self;
        let start = reader.out.len();
        let is_packed = field.cardinality == Cardinality::Repeated { packed: true };
        let mark = is_packed.then(|| Frame::Field(field.packed_tag).open(reader.out));
        let content = reader.out.len();
        let frame = if is_packed { Frame::Bare } else { Frame::Field(field.tag) };
        for index in 0.. {
            let read = elements.next_element_seed(Value { reader: &mut *reader, kind: field.kind, frame });
            let settled = match read {
                Ok(None) => break,
                Ok(Some(Outcome::Null)) => reader.settle(Err("null is not an element".into())),
                Ok(Some(_)) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = settled {
                reader.trail.push(Step::Index(index));
                return Err(error);
            }
        }
        match mark {
            Some(_) if reader.out.len() == content => reader.out.truncate(start),
            Some(mark) => close(reader.out, mark),
            None => {}
        }
        Ok(Outcome::Written)
    }

    refuse_visits!(bool number str map);
}

/// A map field, from a JSON object.
pub(crate) struct Map<'r, 't, 'o, 'f> {
    pub(crate) reader: &'r mut Reader<'t, 'o>,
    pub(crate) field: &'f Field,
}

impl Map<'_, '_, '_, '_> {
    fn expected(&self) -> &'static str {
        "an object"
    }
}

impl<'de> DeserializeSeed<'de> for Map<'_, '_, '_, '_> {
    type Value = Outcome;

    fn deserialize<D: Deserializer<'de>>(self, tokens: D) -> Result<Outcome, D::Error> {
        tokens.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Map<'_, '_, '_, '_> {
    type Value = Outcome;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Outcome, E> {
        Ok(Outcome::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Outcome, A::Error> {
        let Map { reader, field } = self;
        let Cardinality::Map { key, value } = field.cardinality else { return Ok(Outcome::Null) };
        let value_frame = Frame::Field(Tag::new(2, value.wire_type()));
        let keys_before = reader.map_keys.len();
        let entered = reader.enter();
        reader.settle(entered)?;
        while let Some(entry) = entries.next_key_seed(MapKey { reader: &mut *reader, field, kind: key })? {
            let read = entries.next_value_seed(Value { reader: &mut *reader, kind: value, frame: value_frame });
            let settled = match read {
                Ok(Outcome::Written) => {
                    let length = reader.out.len() - entry.key_start;
                    close(reader.out, entry.mark);
                    let key_start = reader.out.len() - length;
                    reader.map_keys.push((key_start, key_start + entry.key_length));
                    Ok(())
                }
                Ok(Outcome::Unknown) => {
                    reader.out.truncate(entry.start);
                    Ok(())
                }
                Ok(Outcome::Null) => reader.settle(Err("null is not a map value".into())),
                Err(error) => Err(error),
            };
            if let Err(error) = settled {
                reader.trail.push(entry.step(reader.out, key));
                return Err(error);
            }
        }
        let checked = check_keys(&mut reader.map_keys[keys_before..], reader.out);
        reader.settle(checked)?;
        reader.map_keys.truncate(keys_before);
        reader.leave();
        Ok(Outcome::Written)
    }

    refuse_visits!(bool number str seq);
}

/// Keys are compared as they lie on the wire, where each has one spelling.
fn check_keys(keys: &mut [(usize, usize)], out: &[u8]) -> Result<(), Refusal> {
    keys.sort_unstable_by(|a, b| out[a.0..a.1].cmp(&out[b.0..b.1]));
    if keys.windows(2).any(|pair| out[pair[0].0..pair[0].1] == out[pair[1].0..pair[1].1]) {
        return Err("a map key is given twice".into());
    }
    Ok(())
}

/// Opens a map entry and writes its key.
struct MapKey<'r, 't, 'o, 'f> {
    reader: &'r mut Reader<'t, 'o>,
    field: &'f Field,
    kind: Kind,
}

struct Entry {
    start: usize,
    mark: Mark,
    key_start: usize,
    key_length: usize,
}

impl Entry {
    fn step(&self, out: &[u8], kind: Kind) -> Step {
        let key = out.get(self.key_start..self.key_start + self.key_length).unwrap_or_default();
        let mut records = crate::wire::Records::new(key);
        let shown = match (kind, records.next()) {
            (Kind::String, Ok(Some(record))) => String::from_utf8_lossy(record.bytes).into_owned(),
            (Kind::Sint32 | Kind::Sint64, Ok(Some(record))) => crate::write::zigzag(record.bits).to_string(),
            (Kind::Bool, Ok(Some(record))) => (record.bits != 0).to_string(),
            (Kind::Sfixed32, Ok(Some(record))) => (record.bits as i32).to_string(),
            (Kind::Int32 | Kind::Int64 | Kind::Sfixed64, Ok(Some(record))) => (record.bits as i64).to_string(),
            (_, Ok(Some(record))) => record.bits.to_string(),
            _ => String::new(),
        };
        Step::Key(shown)
    }
}

impl<'de> DeserializeSeed<'de> for MapKey<'_, '_, '_, '_> {
    type Value = Entry;

    fn deserialize<D: Deserializer<'de>>(self, tokens: D) -> Result<Entry, D::Error> {
        tokens.deserialize_str(self)
    }
}

impl Visitor<'_> for MapKey<'_, '_, '_, '_> {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Entry, E> {
        let MapKey { reader, field, kind } = self;
        let start = reader.out.len();
        let mark = Frame::Field(field.packed_tag).open(reader.out);
        let key_start = reader.out.len();
        let frame = Frame::Field(Tag::new(1, kind.wire_type()));
        let written = match (kind, key) {
            (Kind::String, _) => {
                frame.put(reader.out);
                put_varint(reader.out, key.len() as u64);
                reader.out.extend_from_slice(key.as_bytes());
                Ok(())
            }
            (Kind::Bool, "true" | "false") => {
                frame.put(reader.out);
                reader.out.push(u8::from(key == "true"));
                Ok(())
            }
            (Kind::Bool, _) => Err("a map key is neither \"true\" nor \"false\"".into()),
            _ => number::integer(key)
                .and_then(|_| reader.number(kind, frame, key))
                .map_err(|refusal| refusal.below("a map key is refused")),
        };
        reader.settle(written)?;
        Ok(Entry { start, mark, key_start, key_length: reader.out.len() - key_start })
    }
}
