//! The schema as the interpreter wants it: flat tables, addressed by index.
//!
//! A newcomer would follow a message type by name while reading: every name is resolved once, here, and a request only
//! ever sees indexes.
//!
//! Knows: descriptors. Does not know: JSON text, wire bytes.

mod compile;

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::error::{Refusal, excerpt};
use crate::wire::{Tag, WireType};

/// Static tables are hashed with a fast function: their names come from our own schema, not from callers.
type NameMap<V> = HashMap<Box<str>, V, FixedState>;

/// Every message and enum of one descriptor pool.
pub(crate) struct Tables {
    pub(crate) messages: Vec<Message>,
    pub(crate) enums: Vec<Enum>,
    by_name: NameMap<u32>,
}

impl Tables {
    pub(crate) fn message_named(&self, full_name: &str) -> Option<u32> {
        self.by_name.get(full_name).copied()
    }

    pub(crate) fn message(&self, index: u32) -> &Message {
        &self.messages[index as usize]
    }

    /// The type an `Any` speaks of: what stands behind the last slash of its URL.
    pub(crate) fn message_at(&self, type_url: &str) -> Result<u32, Refusal> {
        let Some((_, name)) = type_url.rsplit_once('/') else {
            return Err(format!("\"{}\" is not a type URL: it has no slash", excerpt(type_url)).into());
        };
        self.message_named(name).ok_or_else(|| format!("the type \"{}\" is not known here", excerpt(name)).into())
    }
}

/// One message type.
pub(crate) struct Message {
    pub(crate) name: Box<str>,
    pub(crate) shape: Shape,
    /// In the order of their numbers, which is the order on the wire.
    pub(crate) fields: Vec<Field>,
    pub(crate) oneofs: usize,
    /// Both spellings of every field.
    by_name: NameMap<u32>,
    /// Field number to index, for the small numbers; larger ones are searched.
    by_small_number: Vec<Option<u32>>,
}

impl Message {
    pub(crate) fn index_of_name(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).map(|index| *index as usize)
    }

    pub(crate) fn index_of_number(&self, number: u32) -> Option<usize> {
        match self.by_small_number.get(number as usize) {
            Some(index) => index.map(|index| index as usize),
            None => self.fields.binary_search_by_key(&number, |field| field.number).ok(),
        }
    }
}

/// How a message looks in JSON. All but [`Shape::Plain`] are google.protobuf's well-known types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Plain,
    Any,
    Duration,
    FieldMask,
    ListValue,
    Struct,
    Timestamp,
    Value,
    Wrapper,
}

/// One field.
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) cardinality: Cardinality,
    /// Whether unset differs from the default value.
    pub(crate) presence: bool,
    pub(crate) oneof: Option<u32>,
    /// The tag of one value.
    pub(crate) tag: Tag,
    /// The tag of a packed list.
    pub(crate) packed_tag: Tag,
    pub(crate) json_name: Box<str>,
    pub(crate) proto_name: Box<str>,
    /// `,"name":` in both spellings, ready to be copied.
    pub(crate) json_key: Box<[u8]>,
    pub(crate) proto_key: Box<[u8]>,
}

impl Field {
    /// Whether a record of this wire type belongs to the field; otherwise it is an unknown field.
    pub(crate) fn takes(&self, wire_type: WireType) -> bool {
        match self.cardinality {
            Cardinality::Map { .. } => wire_type == WireType::Bytes,
            Cardinality::Repeated { .. } if self.kind.is_packable() && wire_type == WireType::Bytes => true,
            _ => wire_type == self.kind.wire_type(),
        }
    }

    pub(crate) fn is_named(&self, name: &str) -> bool {
        *self.json_name == *name || *self.proto_name == *name
    }
}

/// How often a field may occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cardinality {
    Singular,
    Repeated { packed: bool },
    Map { key: Kind, value: Kind },
}

/// The type of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Enum(u32),
    Message(u32),
}

impl Kind {
    pub(crate) fn wire_type(self) -> WireType {
        match self {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => WireType::Fixed64,
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => WireType::Fixed32,
            Kind::String | Kind::Bytes | Kind::Message(_) => WireType::Bytes,
            _ => WireType::Varint,
        }
    }

    pub(crate) fn is_packable(self) -> bool {
        self.wire_type() != WireType::Bytes
    }

    /// Whether JSON writes it as a number, or as text that holds one.
    pub(crate) fn is_number(self) -> bool {
        self.is_packable() && !matches!(self, Kind::Bool | Kind::Enum(_))
    }
}

/// One enum type.
pub(crate) struct Enum {
    /// google.protobuf.NullValue, which is `null` in JSON.
    pub(crate) is_null: bool,
    by_name: NameMap<i32>,
    /// Sorted; of several names for one number the first is kept, with its quotes.
    by_number: Vec<(i32, Box<str>)>,
}

impl Enum {
    pub(crate) fn number_of(&self, name: &str) -> Option<i32> {
        self.by_name.get(name).copied()
    }

    /// The name with its quotes.
    pub(crate) fn quoted_name_of(&self, number: i32) -> Option<&str> {
        // Most enums count up from zero, so the number is the index.
        let guess = usize::try_from(number).ok().and_then(|index| self.by_number.get(index));
        if let Some((found, name)) = guess
            && *found == number
        {
            return Some(name);
        }
        let index = self.by_number.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.by_number.get(index).map(|(_, name)| &**name)
    }
}

/// Which fields of a message were met, without an allocation for messages of ordinary size.
pub(crate) struct Seen {
    few: [u64; Seen::WORDS],
    more: Vec<u64>,
}

impl Seen {
    const WORDS: usize = 4;

    pub(crate) fn with_room_for(count: usize) -> Seen {
        let more = count.saturating_sub(Seen::WORDS * 64).div_ceil(64);
        Seen { few: [0; Seen::WORDS], more: vec![0; more] }
    }

    /// True the first time.
    pub(crate) fn insert(&mut self, index: usize) -> bool {
        let word = match self.few.get_mut(index / 64) {
            Some(word) => word,
            None => &mut self.more[index / 64 - Seen::WORDS],
        };
        let bit = 1 << (index % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_new_once_however_many_there_are() {
        for count in [1, 255, 256, 257, 1000] {
            let mut seen = Seen::with_room_for(count);
            assert!((0..count).all(|index| seen.insert(index)));
            assert!(!(0..count).any(|index| seen.insert(index)));
        }
    }
}
