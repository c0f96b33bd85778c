//! The compiled types and what can be done with one.
//!
//! A newcomer would compile tables per service: one pool, one `Types`, so that an `Any` finds every type.
//!
//! Knows: tables. Does not know: services and methods.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeSeed as _;

use crate::error::JsonError;
use crate::path::FieldPath;
use crate::read::{self, Outcome, Value};
use crate::style::{Parse, Style};
use crate::table::{Kind, Tables};
use crate::wire::Frame;
use crate::write;

/// Every message type of one descriptor pool, compiled for reading and writing JSON. Cheap to clone.
#[derive(Clone)]
pub struct Types {
    tables: Arc<Tables>,
}

impl Types {
    /// Compiles the pool. The tables hold no reference to it.
    pub fn new(pool: &prost_reflect::DescriptorPool) -> Types {
        Types { tables: Arc::new(Tables::compile(pool)) }
    }

    /// The type of this full name, without a leading dot.
    pub fn message(&self, full_name: &str) -> Option<MessageType> {
        self.tables.message_named(full_name).map(|index| MessageType::new(&self.tables, index))
    }
}

impl fmt::Debug for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Types({} messages)", self.tables.messages.len())
    }
}

/// One message type. Cheap to clone.
#[derive(Clone)]
pub struct MessageType {
    tables: Arc<Tables>,
    index: u32,
}

impl MessageType {
    pub(crate) fn new(tables: &Arc<Tables>, index: u32) -> MessageType {
        MessageType { tables: Arc::clone(tables), index }
    }

    /// The full name, `package.Message`.
    pub fn name(&self) -> &str {
        &self.tables.message(self.index).name
    }

    /// Reads JSON and returns the message's wire bytes.
    ///
    /// # Errors
    ///
    /// If the text is not JSON or does not fit the type.
    pub fn decode(&self, json: &[u8], parse: Parse) -> Result<Vec<u8>, JsonError> {
        // Wire bytes are nearly always shorter than the JSON they come from.
        let mut out = Vec::with_capacity(json.len());
        self.decode_into(json, parse, &mut out)?;
        Ok(out)
    }

    /// Reads JSON and appends the message's wire bytes to `out`.
    ///
    /// # Errors
    ///
    /// If the text is not JSON or does not fit the type; `out` is then as it was.
    pub fn decode_into(&self, json: &[u8], parse: Parse, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let outcome = read::document(&self.tables, parse, json, out, |reader, tokens| {
            Value { reader, kind: Kind::Message(self.index), frame: Frame::Bare }.deserialize(tokens)
        })?;
        match outcome {
            Outcome::Written => Ok(()),
            Outcome::Null | Outcome::Unknown => Err(JsonError::new("expected a message, found null".into(), &[], None)),
        }
    }

    /// Writes the message in `wire` as JSON and appends it to `out`.
    ///
    /// # Errors
    ///
    /// If the bytes are not such a message, or it holds what JSON cannot express; `out` is then as it was.
    pub fn encode(&self, wire: &[u8], style: Style, out: &mut Vec<u8>) -> Result<(), JsonError> {
        write::document(&self.tables, style, out, |writer| writer.message(self.index, wire))
    }

    /// A field by its dotted path, `a.b.c`, in proto or JSON names. All but the last must be singular messages.
    pub fn path(&self, dotted: &str) -> Option<FieldPath> {
        FieldPath::resolve(&self.tables, self.index, dotted)
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageType({})", self.name())
    }
}
