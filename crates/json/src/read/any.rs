//! google.protobuf.Any: an object whose `@type` says what the rest of it is.
//!
//! A newcomer would ask for `@type` to come first. It usually does, and then the rest streams; when it does not, the
//! entries before it wait as borrowed text.
//!
//! Knows: `@type` and `value`. Does not know: where types come from, beyond the tables.

use std::fmt;

use serde::Deserializer;
use serde::de::value::MapDeserializer;
use serde::de::{self, DeserializeSeed, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::content::{Fields, skip};
use super::{LATE_TYPE_DEPTH_MAX, Outcome, Reader, Value, refuse_visits};
use crate::error::Refusal;
use crate::table::{Kind, Shape};
use crate::wire::{Frame, Tag, WireType, close, put_varint};

const TYPE: &str = "@type";

/// The content of an `Any`.
pub(super) struct Any<'r, 't, 'o> {
    pub(super) reader: &'r mut Reader<'t, 'o>,
}

impl Any<'_, '_, '_> {
    pub(super) fn read<'de, A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Any { reader } = self;
        match entries.next_key::<String>()? {
            // An object without entries is an Any that was never set.
            None => Ok(()),
            Some(key) if key == TYPE => {
                let index = entries.next_value_seed(TypeUrl { reader: &mut *reader })?;
                content(reader, index, entries)
            }
            Some(key) => late(reader, key, entries),
        }
    }
}

/// `@type` is not in first place: read the entries as text until the type is known.
fn late<'de, A: MapAccess<'de>>(reader: &mut Reader<'_, '_>, key: String, mut entries: A) -> Result<(), A::Error> {
    reader.late_type_depth += 1;
    if reader.late_type_depth > LATE_TYPE_DEPTH_MAX {
        return reader.settle(Err("too many Any values nest without their \"@type\" in first place".into()));
    }
    let mut waiting: Vec<(String, &'de RawValue)> = vec![(key, entries.next_value()?)];
    while let Some(entry) = entries.next_entry()? {
        waiting.push(entry);
    }
    let Some(place) = waiting.iter().position(|(key, _)| key == TYPE) else {
        reader.late_type_depth -= 1;
        return reader.settle(Err("the \"@type\" of an Any is missing".into()));
    };
    let (_, type_url) = waiting.remove(place);
    let read = TypeUrl { reader: &mut *reader }
        .deserialize(type_url)
        .and_then(|index| content(reader, index, MapDeserializer::new(waiting.into_iter())));
    read.map_err(|error| {
        reader.refusal.get_or_insert_with(|| super::syntax(&error));
        A::Error::custom("refused")
    })?;
    reader.late_type_depth -= 1;
    Ok(())
}

/// What stands beside `@type`, written as the bytes of the `Any`.
fn content<'de, A: MapAccess<'de>>(reader: &mut Reader<'_, '_>, index: u32, mut entries: A) -> Result<(), A::Error> {
    let message = reader.message(index);
    let mark = Frame::Field(Tag::new(2, WireType::Bytes)).open(reader.out);
    if message.shape == Shape::Plain {
        let entered = reader.enter();
        reader.settle(entered)?;
        Fields { reader: &mut *reader, message, in_any: true }.read(entries)?;
        reader.leave();
    } else {
        let mut is_given = false;
        while let Some(key) = entries.next_key::<String>()? {
            match &*key {
                "value" if is_given => return reader.settle(Err("\"value\" is given twice".into())),
                "value" => {
                    let place = Value { reader: &mut *reader, kind: Kind::Message(index), frame: Frame::Bare };
                    is_given = match entries.next_value_seed(place) {
                        Ok(outcome) => outcome == Outcome::Written,
                        Err(error) => {
                            reader.at_field("value");
                            return Err(error);
                        }
                    };
                }
                TYPE => return reader.settle(Err("\"@type\" is given twice".into())),
                unknown => {
                    let checked = reader.check_unknown_name(unknown);
                    reader.settle(checked)?;
                    skip(reader, &mut entries)?;
                }
            }
        }
        if !is_given {
            return reader.settle(Err("the \"value\" of an Any is missing".into()));
        }
    }
    close(reader.out, mark);
    Ok(())
}

/// Resolves the type and writes its URL.
struct TypeUrl<'r, 't, 'o> {
    reader: &'r mut Reader<'t, 'o>,
}

impl TypeUrl<'_, '_, '_> {
    fn expected(&self) -> &'static str {
        "a type URL"
    }

    fn resolve(&mut self, url: &str) -> Result<u32, Refusal> {
        let index = self.reader.tables.message_at(url)?;
        Frame::Field(Tag::new(1, WireType::Bytes)).put(self.reader.out);
        put_varint(self.reader.out, url.len() as u64);
        self.reader.out.extend_from_slice(url.as_bytes());
        Ok(index)
    }
}

impl<'de> DeserializeSeed<'de> for TypeUrl<'_, '_, '_> {
    type Value = u32;

    fn deserialize<D: Deserializer<'de>>(self, tokens: D) -> Result<u32, D::Error> {
        tokens.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TypeUrl<'_, '_, '_> {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected())
    }

    fn visit_str<E: de::Error>(mut self, url: &str) -> Result<u32, E> {
        let resolved = self.resolve(url);
        self.reader.settle(resolved)
    }

    refuse_visits!(bool number unit seq map);
}
