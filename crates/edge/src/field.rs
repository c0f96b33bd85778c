//! One field of a message, seen through the message's bytes.
//!
//! A newcomer's usual mistake is to decode a message to look at one field. Doors carry bytes; a payload is found in them
//! and put into them without knowing the rest, and shared, not copied.
//!
//! *Knows:* tags and lengths. *Does not know:* what a field means.

use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field};
use prost_reflect::{Kind, MessageDescriptor};

/// A singular field of a message. Found once, at start-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    number: u32,
}

impl Field {
    /// The `bytes` or `string` field of this name.
    pub(super) fn payload(message: &MessageDescriptor, name: &str) -> Option<Field> {
        Field::of(message, name, |kind| matches!(kind, Kind::Bytes | Kind::String))
    }

    /// The `bytes` field of this name.
    pub(super) fn bytes(message: &MessageDescriptor, name: &str) -> Option<Field> {
        Field::of(message, name, |kind| matches!(kind, Kind::Bytes))
    }

    /// The field of this name that holds a message.
    pub(super) fn nested(message: &MessageDescriptor, name: &str) -> Option<Field> {
        Field::of(message, name, |kind| matches!(kind, Kind::Message(_)))
    }

    /// The field of this name that holds an unsigned number of 32 bits.
    pub(super) fn number(message: &MessageDescriptor, name: &str) -> Option<Field> {
        Field::of(message, name, |kind| matches!(kind, Kind::Uint32))
    }

    /// The field of this name, if it can be the id of an event.
    pub(super) fn event_id(message: &MessageDescriptor, name: &str) -> Option<Field> {
        Field::of(message, name, |kind| matches!(kind, Kind::String | Kind::Int64 | Kind::Uint64))
    }

    fn of(message: &MessageDescriptor, name: &str, fits: impl Fn(&Kind) -> bool) -> Option<Field> {
        let field = message.get_field_by_name(name)?;
        (!field.is_list() && fits(&field.kind())).then(|| Field { number: field.number() })
    }

    /// The payload of a `bytes` or `string` field, shared with the message. `None` when the field is not there, or when
    /// the bytes are no message.
    pub(super) fn find(self, message: &Bytes) -> Option<Bytes> {
        match self.value(message)? {
            Value::Payload(payload) => Some(payload),
            Value::Number(_) => None,
        }
    }

    /// The value of a number. `None` when the field is not there, or when the bytes are no message.
    pub(super) fn count(self, message: &Bytes) -> Option<u64> {
        match self.value(message)? {
            Value::Number(number) => Some(number),
            Value::Payload(_) => None,
        }
    }

    /// Appends a number to a message.
    pub(super) fn append_count(self, number: u64, message: &mut Vec<u8>) {
        encode_key(self.number, WireType::Varint, message);
        encode_varint(number, message);
    }

    /// The value as text, as event ids are written.
    pub(super) fn text(self, message: &Bytes) -> Option<String> {
        match self.value(message)? {
            Value::Payload(payload) => String::from_utf8(payload.into()).ok(),
            Value::Number(number) => Some(number.cast_signed().to_string()),
        }
    }

    /// Appends the field to a message.
    pub(super) fn append(self, payload: &[u8], message: &mut Vec<u8>) {
        message.reserve(payload.len() + 2 * VARINT_BYTES_MAX);
        encode_key(self.number, WireType::LengthDelimited, message);
        encode_varint(payload.len() as u64, message);
        message.extend_from_slice(payload);
    }

    /// A message that holds this field alone.
    pub(super) fn message(self, payload: &[u8]) -> Bytes {
        let mut message = Vec::new();
        self.append(payload, &mut message);
        message.into()
    }

    /// The last occurrence holds, as everywhere in protobuf.
    fn value(self, message: &Bytes) -> Option<Value> {
        let mut rest = message.clone();
        let mut value = None;
        while rest.has_remaining() {
            let (number, wire_type) = decode_key(&mut rest).ok()?;
            match wire_type {
                WireType::LengthDelimited if number == self.number => {
                    let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                    if length > rest.len() {
                        return None;
                    }
                    value = Some(Value::Payload(rest.split_to(length)));
                }
                WireType::Varint if number == self.number => {
                    value = Some(Value::Number(decode_varint(&mut rest).ok()?));
                }
                _ => skip_field(wire_type, number, &mut rest, DecodeContext::default()).ok()?,
            }
        }
        value
    }
}

/// A varint of 64 bits takes ten bytes.
const VARINT_BYTES_MAX: usize = 10;

enum Value {
    Payload(Bytes),
    Number(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_found_where_it_was_put() {
        let (one, two) = (Field { number: 1 }, Field { number: 200 });
        let mut message = Vec::new();
        one.append(b"first", &mut message);
        two.append(b"", &mut message);
        one.append(b"last", &mut message);
        let message = Bytes::from(message);
        assert_eq!(one.find(&message).as_deref(), Some(&b"last"[..]));
        assert_eq!(two.find(&message).as_deref(), Some(&b""[..]));
        assert_eq!(Field { number: 3 }.find(&message), None);
        assert_eq!(one.find(&message.slice(..message.len() - 1)), None);
    }
}
