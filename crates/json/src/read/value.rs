//! One JSON value into one place: a scalar, a message, or one of the well-known types.
//!
//! A newcomer would write the tag first and then look at the value: a `null` must leave nothing behind, so every branch
//! writes its tag only once it knows what it holds.
//!
//! Knows: which JSON kind each proto kind takes. Does not know: lists and maps of fields.

use std::fmt;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::any::Any;
use super::content::Fields;
use super::{List, Map, Outcome, Reader, Verdict, raw_text};
use crate::table::{Field, Kind, Shape};
use crate::wire::{Frame, close, put_varint};

/// A place for one value of `kind`. Read it as a seed.
pub(crate) struct Value<'r, 't, 'o> {
    pub(crate) reader: &'r mut Reader<'t, 'o>,
    pub(crate) kind: Kind,
    pub(crate) frame: Frame,
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_, '_> {
    type Value = Outcome;

    fn deserialize<D: Deserializer<'de>>(self, tokens: D) -> Result<Outcome, D::Error> {
        if self.kind.is_number() {
            let raw = raw_text(tokens)?;
            let verdict = self.reader.raw_number(self.kind, self.frame, raw);
            return self.reader.settle(verdict);
        }
        match self.kind {
            Kind::Message(index) if self.reader.message(index).shape == Shape::Wrapper => self.wrapper(index, tokens),
            _ => tokens.deserialize_any(self),
        }
    }
}

impl<'t> Value<'_, 't, '_> {
    /// A wrapper looks like the scalar inside it.
    fn wrapper<'de, D: Deserializer<'de>>(self, index: u32, tokens: D) -> Result<Outcome, D::Error> {
        let Value { reader, frame, .. } = self;
        let inner = &reader.message(index).fields[0];
        let start = reader.out.len();
        let mark = frame.open(reader.out);
        let outcome =
            Value { reader: &mut *reader, kind: inner.kind, frame: Frame::Field(inner.tag) }.deserialize(tokens)?;
        match outcome {
            Outcome::Written => close(reader.out, mark),
            Outcome::Null | Outcome::Unknown => reader.out.truncate(start),
        }
        Ok(outcome)
    }

    fn shape(&self) -> Option<Shape> {
        match self.kind {
            Kind::Message(index) => Some(self.reader.message(index).shape),
            _ => None,
        }
    }

    /// One member of google.protobuf.Value, by number, if that is what is read here.
    fn member(&self, number: u32) -> Option<&'t Field> {
        match self.kind {
            Kind::Message(index) => {
                let message = self.reader.message(index);
                (message.shape == Shape::Value).then(|| &message.fields[number as usize - 1])
            }
            _ => None,
        }
    }

    fn expected(&self) -> &'static str {
        match (self.kind, self.shape()) {
            (Kind::Bool, _) => "true or false",
            (Kind::String, _) => "a string",
            (Kind::Bytes, _) => "a base64 string",
            (Kind::Enum(_), _) => "the name or number of an enum value",
            (_, Some(Shape::Timestamp)) => "a timestamp such as \"2026-01-31T12:00:00Z\"",
            (_, Some(Shape::Duration)) => "a duration such as \"1.5s\"",
            (_, Some(Shape::FieldMask)) => "a field mask such as \"name,displayName\"",
            (_, Some(Shape::ListValue)) => "an array",
            (_, Some(_)) => "an object",
            _ => "a number",
        }
    }

    fn refuse(&self, found: &str) -> Verdict {
        Err(format!("expected {}, found {found}", self.expected()).into())
    }

    fn null(&mut self) -> Verdict {
        if let Kind::Enum(index) = self.kind
            && self.reader.enumeration(index).is_null
        {
            return self.put_enum(0);
        }
        match self.member(VALUE_NULL) {
            Some(member) => self.put_member(member, 0),
            None => Ok(Outcome::Null),
        }
    }

    fn boolean(&mut self, value: bool) -> Verdict {
        match self.member(VALUE_BOOL) {
            Some(member) => self.put_member(member, u64::from(value)),
            None if self.kind == Kind::Bool => {
                self.frame.put(self.reader.out);
                self.reader.out.push(u8::from(value));
                Ok(Outcome::Written)
            }
            None => self.refuse("true or false"),
        }
    }

    /// Reached by enums and google.protobuf.Value only; other numbers are read as text.
    fn number(&mut self, value: f64, whole: Option<i32>) -> Verdict {
        if let Some(member) = self.member(VALUE_NUMBER) {
            self.reader.enter()?;
            let mark = self.frame.open(self.reader.out);
            Frame::Field(member.tag).put(self.reader.out);
            self.reader.out.extend_from_slice(&value.to_le_bytes());
            close(self.reader.out, mark);
            self.reader.leave();
            return Ok(Outcome::Written);
        }
        match (self.kind, whole) {
            (Kind::Enum(_), Some(whole)) => self.put_enum(whole),
            (Kind::Enum(_), None) => Err("the number is not a 32-bit integer".into()),
            _ => self.refuse("a number"),
        }
    }

    fn string(&mut self, text: &str) -> Verdict {
        if let Some(member) = self.member(VALUE_STRING) {
            self.reader.enter()?;
            let mark = self.frame.open(self.reader.out);
            let outcome = self.reader.text(Kind::String, Frame::Field(member.tag), text)?;
            close(self.reader.out, mark);
            self.reader.leave();
            return Ok(outcome);
        }
        match (self.kind, self.shape()) {
            (Kind::String | Kind::Bytes | Kind::Enum(_), _)
            | (_, Some(Shape::Timestamp | Shape::Duration | Shape::FieldMask)) => {
                self.reader.text(self.kind, self.frame, text)
            }
            _ => self.refuse("a string"),
        }
    }

    fn put_enum(&mut self, number: i32) -> Verdict {
        self.frame.put(self.reader.out);
        put_varint(self.reader.out, i64::from(number) as u64);
        Ok(Outcome::Written)
    }

    fn put_member(&mut self, member: &Field, value: u64) -> Verdict {
        self.reader.enter()?;
        let mark = self.frame.open(self.reader.out);
        Frame::Field(member.tag).put(self.reader.out);
        put_varint(self.reader.out, value);
        close(self.reader.out, mark);
        self.reader.leave();
        Ok(Outcome::Written)
    }
}

// The members of google.protobuf.Value.
const VALUE_NULL: u32 = 1;
const VALUE_NUMBER: u32 = 2;
const VALUE_STRING: u32 = 3;
const VALUE_BOOL: u32 = 4;
const VALUE_STRUCT: u32 = 5;
const VALUE_LIST: u32 = 6;

impl<'de> Visitor<'de> for Value<'_, '_, '_> {
    type Value = Outcome;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected())
    }

    fn visit_unit<E: de::Error>(mut self) -> Result<Outcome, E> {
        let verdict = self.null();
        self.reader.settle(verdict)
    }

    fn visit_bool<E: de::Error>(mut self, value: bool) -> Result<Outcome, E> {
        let verdict = self.boolean(value);
        self.reader.settle(verdict)
    }

    fn visit_u64<E: de::Error>(mut self, value: u64) -> Result<Outcome, E> {
        let verdict = self.number(value as f64, i32::try_from(value).ok());
        self.reader.settle(verdict)
    }

    fn visit_i64<E: de::Error>(mut self, value: i64) -> Result<Outcome, E> {
        let verdict = self.number(value as f64, i32::try_from(value).ok());
        self.reader.settle(verdict)
    }

    fn visit_f64<E: de::Error>(mut self, value: f64) -> Result<Outcome, E> {
        // The cast saturates, so only a value that is a 32-bit integer comes back unchanged.
        let whole = value as i32;
        let verdict = self.number(value, (f64::from(whole) == value).then_some(whole));
        self.reader.settle(verdict)
    }

    fn visit_str<E: de::Error>(mut self, text: &str) -> Result<Outcome, E> {
        let verdict = self.string(text);
        self.reader.settle(verdict)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Outcome, A::Error> {
        let list = match (self.kind, self.shape()) {
            (Kind::Message(index), Some(Shape::ListValue)) => Some((None, index)),
            _ => self.member(VALUE_LIST).and_then(|member| match member.kind {
                Kind::Message(index) => Some((Some(member), index)),
                _ => None,
            }),
        };
        let Some((member, index)) = list else {
            let verdict = self.refuse("an array");
            return self.reader.settle(verdict);
        };
        let Value { reader, frame, .. } = self;
        let levels = open_levels(reader, frame, member)?;
        let field = &reader.message(index).fields[0];
        List { reader: &mut *reader, field }.visit_seq(elements)?;
        close_levels(reader, levels);
        Ok(Outcome::Written)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Outcome, A::Error> {
        let (member, index) = match (self.kind, self.member(VALUE_STRUCT).map(|member| (member, member.kind))) {
            (_, Some((member, Kind::Message(index)))) => (Some(member), index),
            (Kind::Message(index), _) => (None, index),
            _ => {
                let verdict = self.refuse("an object");
                return self.reader.settle(verdict);
            }
        };
        let message = self.reader.message(index);
        match message.shape {
            Shape::Plain | Shape::Struct | Shape::Any => {}
            _ => {
                let verdict = self.refuse("an object");
                return self.reader.settle(verdict);
            }
        }
        let Value { reader, frame, .. } = self;
        let levels = open_levels(reader, frame, member)?;
        match message.shape {
            Shape::Any => Any { reader: &mut *reader }.read(entries)?,
            Shape::Struct => {
                Map { reader: &mut *reader, field: &message.fields[0] }.visit_map(entries)?;
            }
            _ => Fields { reader: &mut *reader, message, in_any: false }.read(entries)?,
        }
        close_levels(reader, levels);
        Ok(Outcome::Written)
    }
}

/// Opens a message, and inside it, for google.protobuf.Value, the member that holds the content.
fn open_levels<E: de::Error>(reader: &mut Reader<'_, '_>, frame: Frame, member: Option<&Field>) -> Result<Levels, E> {
    let entered = reader.enter();
    reader.settle(entered)?;
    let outer = frame.open(reader.out);
    let inner = match member {
        None => None,
        Some(member) => {
            let entered = reader.enter();
            reader.settle(entered)?;
            Some(Frame::Field(member.tag).open(reader.out))
        }
    };
    Ok((outer, inner))
}

fn close_levels(reader: &mut Reader<'_, '_>, (outer, inner): Levels) {
    if let Some(inner) = inner {
        close(reader.out, inner);
        reader.leave();
    }
    close(reader.out, outer);
    reader.leave();
}

type Levels = (crate::wire::Mark, Option<crate::wire::Mark>);
