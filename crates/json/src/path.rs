//! One field of a message, resolved at start-up and then filled from text or JSON, or written alone.
//!
//! This is what `google.api.http` needs: a path capture or query parameter becomes wire bytes appended to those of the
//! body. Protobuf merges what is appended, so several paths into one nested message add up.
//!
//! A newcomer would check whether the field is set already: appending is enough, the last scalar holds.
//!
//! Knows: tables, wire bytes. Does not know: URLs.

use std::borrow::Cow;
use std::sync::Arc;

use crate::error::{JsonError, Step};
use crate::read::{self, List, Map, Outcome, Reader, Value};
use crate::style::{Parse, Style, Unknown};
use crate::table::{Cardinality, Field, Kind, Shape, Tables};
use crate::types::MessageType;
use crate::wire::{Frame, close};
use crate::write::{self, Stop, concatenated, records_of};
use serde::de::DeserializeSeed as _;

/// A field, reached from a message through singular message fields.
#[derive(Clone)]
pub struct FieldPath {
    tables: Arc<Tables>,
    /// Message and field index of every step; the last is the leaf.
    steps: Arc<[(u32, usize)]>,
}

impl std::fmt::Debug for FieldPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FieldPath({})", self.proto_path())
    }
}

impl FieldPath {
    pub(crate) fn resolve(tables: &Arc<Tables>, root: u32, dotted: &str) -> Option<FieldPath> {
        let mut steps = Vec::new();
        let mut at = Some(root);
        for name in dotted.split('.') {
            let message = tables.message(at?);
            let index = message.index_of_name(name)?;
            steps.push((at?, index));
            let field = &message.fields[index];
            at = match (field.cardinality, field.kind) {
                (Cardinality::Singular, Kind::Message(inner)) if tables.message(inner).shape == Shape::Plain => {
                    Some(inner)
                }
                _ => None,
            };
        }
        Some(FieldPath { tables: Arc::clone(tables), steps: steps.into() })
    }

    /// The path by proto names, `a.b_c`.
    pub fn proto_path(&self) -> String {
        let names: Vec<&str> = self.fields().map(|field| &*field.proto_name).collect();
        names.join(".")
    }

    /// Whether the field is a list or a map.
    pub fn is_repeated(&self) -> bool {
        self.leaf().cardinality != Cardinality::Singular
    }

    /// Whether the field, or one on the way to it, is one of several that exclude each other.
    pub fn is_in_oneof(&self) -> bool {
        self.steps.iter().any(|&(message, field)| self.tables.message(message).fields[field].oneof.is_some())
    }

    /// Whether the field is a map.
    pub fn is_map(&self) -> bool {
        matches!(self.leaf().cardinality, Cardinality::Map { .. })
    }

    /// Whether one value of the field is a message, well-known types included.
    pub fn is_message(&self) -> bool {
        matches!(self.leaf().kind, Kind::Message(_))
    }

    /// Whether one value can be given as text by [`FieldPath::append_text`]: scalars, enums, wrappers, timestamps,
    /// durations and field masks.
    pub fn is_text(&self) -> bool {
        !self.is_map()
            && match self.leaf().kind {
                Kind::Message(index) => matches!(
                    self.tables.message(index).shape,
                    Shape::Wrapper | Shape::Timestamp | Shape::Duration | Shape::FieldMask
                ),
                _ => true,
            }
    }

    /// The type of the field's messages, unless it holds scalars or is a map.
    pub fn leaf_message(&self) -> Option<MessageType> {
        match self.leaf().kind {
            Kind::Message(index) if !self.is_map() => Some(MessageType::new(&self.tables, index)),
            _ => None,
        }
    }

    /// Appends one value given as text: `true`, `7`, an enum's name or number, base64, `2026-01-31T12:00:00Z`, `3s`,
    /// a field mask; strings are taken as they are. On a list it appends one element.
    ///
    /// # Errors
    ///
    /// If the text is no such value, or the field takes no text ([`FieldPath::is_text`]).
    pub fn append_text(&self, text: &str, out: &mut Vec<u8>) -> Result<(), JsonError> {
        // An unknown enum value is always an error here: somebody typed it.
        let parse = Parse { unknown_fields: Unknown::Refuse };
        let start = out.len();
        let mut reader = Reader::new(&self.tables, parse, out);
        let mut marks = Vec::new();
        for parent in self.parents() {
            marks.push(Frame::Field(parent.tag).open(reader.out));
        }
        let leaf = self.leaf();
        let written = if self.is_text() {
            reader.lone_text(leaf.kind, Frame::Field(leaf.tag), text)
        } else {
            Err("the field cannot be given as text".into())
        };
        match written {
            Ok(_) => {
                marks.into_iter().rev().for_each(|mark| close(out, mark));
                Ok(())
            }
            Err(refusal) => {
                out.truncate(start);
                Err(JsonError::new(refusal, &self.trail(), None))
            }
        }
    }

    /// Appends the whole field, given as JSON: an array for a list, an object for a map or a message. `null` appends
    /// nothing.
    ///
    /// # Errors
    ///
    /// If the JSON does not fit the field; `out` is then as it was.
    pub fn append_json(&self, json: &[u8], parse: Parse, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let start = out.len();
        let outcome = read::document(&self.tables, parse, json, out, |reader, tokens| {
            let marks: Vec<_> = self.parents().map(|parent| Frame::Field(parent.tag).open(reader.out)).collect();
            let field = self.leaf();
            let outcome = match field.cardinality {
                Cardinality::Singular => {
                    let frame = Frame::Field(field.tag);
                    Value { reader: &mut *reader, kind: field.kind, frame }.deserialize(tokens)
                }
                Cardinality::Repeated { .. } => List { reader: &mut *reader, field }.deserialize(tokens),
                Cardinality::Map { .. } => Map { reader: &mut *reader, field }.deserialize(tokens),
            }?;
            marks.into_iter().rev().for_each(|mark| close(reader.out, mark));
            Ok(outcome)
        });
        match outcome {
            Ok(Outcome::Written) => Ok(()),
            Ok(Outcome::Null | Outcome::Unknown) => {
                out.truncate(start);
                Ok(())
            }
            Err(error) => Err(error.below(&self.trail())),
        }
    }

    /// Writes the field of the message in `wire` as one JSON value. Where it is unset: `[]`, `{}`, the default value, or
    /// `null` for a field with presence.
    ///
    /// # Errors
    ///
    /// If `wire` is not a message of the type the path starts from; `out` is then as it was.
    pub fn encode(&self, wire: &[u8], style: Style, out: &mut Vec<u8>) -> Result<(), JsonError> {
        write::document(&self.tables, style, out, |writer| {
            writer.lone_field(self.leaf(), &records_of(self.leaf(), &self.holder(wire)?)?)
        })
    }

    /// Whether the message in `wire` says the field. Bytes that are no message say nothing.
    pub fn is_said(&self, wire: &[u8]) -> bool {
        let holder = self.holder(wire);
        holder.is_ok_and(|holder| records_of(self.leaf(), &holder).is_ok_and(|records| !records.is_empty()))
    }

    /// The message that has the field itself, all its parts together.
    fn holder<'w>(&self, wire: &'w [u8]) -> Result<Cow<'w, [u8]>, Stop> {
        let mut at = Cow::Borrowed(wire);
        for parent in self.parents() {
            at = match at {
                Cow::Borrowed(wire) => concatenated(&records_of(parent, wire)?),
                Cow::Owned(wire) => Cow::Owned(concatenated(&records_of(parent, &wire)?).into_owned()),
            };
        }
        Ok(at)
    }

    fn fields(&self) -> impl DoubleEndedIterator<Item = &Field> {
        self.steps.iter().map(|(message, field)| &self.tables.message(*message).fields[*field])
    }

    fn parents(&self) -> impl Iterator<Item = &Field> {
        self.fields().take(self.steps.len() - 1)
    }

    fn leaf(&self) -> &Field {
        let (message, field) = self.steps[self.steps.len() - 1];
        &self.tables.message(message).fields[field]
    }

    fn trail(&self) -> Vec<Step> {
        self.fields().rev().map(|field| Step::Field(field.json_name.clone())).collect()
    }
}
