//! From descriptors to tables, once, at start-up.
//!
//! A newcomer would expect an error for what proto3 does not have: groups and extensions are left out of the tables, so
//! they are skipped like any unknown field.
//!
//! Knows: descriptors and the well-known names. Does not know: how tables are used.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind as Described, MessageDescriptor};

use super::{Cardinality, Enum, Field, Kind, Message, NameMap, Shape, Tables};
use crate::wire::{Tag, WireType};

/// Above this, or four times the number of fields, a field number is searched instead of looked up.
const SMALL_NUMBER_MIN: usize = 64;

impl Tables {
    pub(crate) fn compile(pool: &DescriptorPool) -> Tables {
        let names = Names { messages: numbered(pool.all_messages()), enums: numbered(pool.all_enums()) };
        Tables {
            messages: pool.all_messages().map(|described| message(&described, &names)).collect(),
            enums: pool.all_enums().map(|described| enumeration(&described)).collect(),
            by_name: pool
                .all_messages()
                .filter(|described| !described.is_map_entry())
                .map(|described| (described.full_name().into(), names.message(&described)))
                .collect(),
        }
    }
}

struct Names {
    messages: HashMap<String, u32>,
    enums: HashMap<String, u32>,
}

impl Names {
    fn message(&self, described: &MessageDescriptor) -> u32 {
        self.messages[described.full_name()]
    }

    fn kind(&self, described: &Described) -> Kind {
        match described {
            Described::Double => Kind::Double,
            Described::Float => Kind::Float,
            Described::Int32 => Kind::Int32,
            Described::Int64 => Kind::Int64,
            Described::Uint32 => Kind::Uint32,
            Described::Uint64 => Kind::Uint64,
            Described::Sint32 => Kind::Sint32,
            Described::Sint64 => Kind::Sint64,
            Described::Fixed32 => Kind::Fixed32,
            Described::Fixed64 => Kind::Fixed64,
            Described::Sfixed32 => Kind::Sfixed32,
            Described::Sfixed64 => Kind::Sfixed64,
            Described::Bool => Kind::Bool,
            Described::String => Kind::String,
            Described::Bytes => Kind::Bytes,
            Described::Enum(described) => Kind::Enum(self.enums[described.full_name()]),
            Described::Message(described) => Kind::Message(self.message(described)),
        }
    }
}

/// The pool lists its types in one fixed order; that order is their index.
fn numbered<T: FullName>(types: impl Iterator<Item = T>) -> HashMap<String, u32> {
    types.zip(0..).map(|(described, index)| (described.full_name_owned(), index)).collect()
}

trait FullName {
    fn full_name_owned(&self) -> String;
}

impl FullName for MessageDescriptor {
    fn full_name_owned(&self) -> String {
        self.full_name().to_owned()
    }
}

impl FullName for EnumDescriptor {
    fn full_name_owned(&self) -> String {
        self.full_name().to_owned()
    }
}

fn message(described: &MessageDescriptor, names: &Names) -> Message {
    // Synthetic oneofs (of `optional` fields) have one member, which excludes no other.
    let declared = described.oneofs().filter(|oneof| !oneof.is_synthetic());
    let oneof_index: HashMap<String, u32> =
        declared.zip(0..).map(|(oneof, index)| (oneof.name().to_owned(), index)).collect();
    let mut fields: Vec<Field> = described
        .fields()
        .filter(|described| !described.is_group())
        .map(|described| field(&described, &oneof_index, names))
        .collect();
    fields.sort_by_key(|field| field.number);

    let mut by_name = NameMap::with_hasher(FixedState::default());
    for spelling in [|field: &Field| field.json_name.clone(), |field: &Field| field.proto_name.clone()] {
        for (field, index) in fields.iter().zip(0..) {
            // The JSON name of one field wins over the proto name of another.
            by_name.entry(spelling(field)).or_insert(index);
        }
    }

    let small =
        fields.last().map_or(0, |field| field.number as usize + 1).min((fields.len() * 4).max(SMALL_NUMBER_MIN));
    let mut by_small_number = vec![None; small];
    for (field, index) in fields.iter().zip(0..) {
        if let Some(place) = by_small_number.get_mut(field.number as usize) {
            *place = Some(index);
        }
    }

    let shape = shape_of(described.full_name(), &fields);
    Message { name: described.full_name().into(), shape, fields, oneofs: oneof_index.len(), by_name, by_small_number }
}

fn field(described: &FieldDescriptor, oneof_index: &HashMap<String, u32>, names: &Names) -> Field {
    let kind = names.kind(&described.kind());
    let cardinality = match described.kind() {
        Described::Message(entry) if described.is_map() => Cardinality::Map {
            key: names.kind(&entry.map_entry_key_field().kind()),
            value: names.kind(&entry.map_entry_value_field().kind()),
        },
        _ if described.is_list() => Cardinality::Repeated { packed: described.is_packed() && kind.is_packable() },
        _ => Cardinality::Singular,
    };
    let key = |name: &str| format!(",{}:", quoted(name)).into_bytes().into_boxed_slice();
    Field {
        number: described.number(),
        kind,
        cardinality,
        presence: described.supports_presence(),
        oneof: described.containing_oneof().and_then(|oneof| oneof_index.get(oneof.name()).copied()),
        tag: Tag::new(described.number(), kind.wire_type()),
        packed_tag: Tag::new(described.number(), WireType::Bytes),
        json_name: described.json_name().into(),
        proto_name: described.name().into(),
        json_key: key(described.json_name()),
        proto_key: key(described.name()),
    }
}

fn enumeration(described: &EnumDescriptor) -> Enum {
    let mut by_number: Vec<(i32, Box<str>)> = Vec::new();
    let mut by_name = NameMap::with_hasher(FixedState::default());
    for value in described.values() {
        by_name.insert(value.name().into(), value.number());
        if by_number.iter().all(|(number, _)| *number != value.number()) {
            by_number.push((value.number(), quoted(value.name()).into()));
        }
    }
    by_number.sort_by_key(|(number, _)| *number);
    Enum { is_null: described.full_name() == "google.protobuf.NullValue", by_name, by_number }
}

/// Names of fields may hold anything through `json_name`, so they are escaped like any other text.
fn quoted(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}

/// A type that bears a well-known name but lacks its fields is treated as what it is: a plain message.
fn shape_of(full_name: &str, fields: &[Field]) -> Shape {
    use Cardinality::{Map, Repeated, Singular};
    let layout: Vec<_> = fields.iter().map(|field| (field.number, field.kind, field.cardinality)).collect();
    match (full_name.strip_prefix("google.protobuf."), &layout[..]) {
        (Some("Any"), [(1, Kind::String, Singular), (2, Kind::Bytes, Singular)]) => Shape::Any,
        (Some("Duration"), [(1, Kind::Int64, Singular), (2, Kind::Int32, Singular)]) => Shape::Duration,
        (Some("Timestamp"), [(1, Kind::Int64, Singular), (2, Kind::Int32, Singular)]) => Shape::Timestamp,
        (Some("FieldMask"), [(1, Kind::String, Repeated { .. })]) => Shape::FieldMask,
        (Some("ListValue"), [(1, Kind::Message(_), Repeated { .. })]) => Shape::ListValue,
        (Some("Struct"), [(1, _, Map { key: Kind::String, value: Kind::Message(_) })]) => Shape::Struct,
        (
            Some("Value"),
            [
                (1, Kind::Enum(_), Singular),
                (2, Kind::Double, Singular),
                (3, Kind::String, Singular),
                (4, Kind::Bool, Singular),
                (5, Kind::Message(_), Singular),
                (6, Kind::Message(_), Singular),
            ],
        ) => Shape::Value,
        (Some("BoolValue"), [(1, Kind::Bool, Singular)])
        | (Some("BytesValue"), [(1, Kind::Bytes, Singular)])
        | (Some("DoubleValue"), [(1, Kind::Double, Singular)])
        | (Some("FloatValue"), [(1, Kind::Float, Singular)])
        | (Some("Int32Value"), [(1, Kind::Int32, Singular)])
        | (Some("Int64Value"), [(1, Kind::Int64, Singular)])
        | (Some("StringValue"), [(1, Kind::String, Singular)])
        | (Some("UInt32Value"), [(1, Kind::Uint32, Singular)])
        | (Some("UInt64Value"), [(1, Kind::Uint64, Singular)]) => Shape::Wrapper,
        _ => Shape::Plain,
    }
}
