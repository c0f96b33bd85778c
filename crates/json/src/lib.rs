//! ProtoJSON: stand-in with the signatures only, until the codec lands.
#![allow(
    missing_docs,
    clippy::unimplemented,
    clippy::allow_attributes,
    unused_variables,
    missing_debug_implementations
)]
use std::fmt;
#[derive(Clone)]
pub struct Types;
impl Types {
    pub fn new(pool: &prost_reflect::DescriptorPool) -> Types {
        Types
    }
    pub fn message(&self, full_name: &str) -> Option<MessageType> {
        unimplemented!()
    }
}
#[derive(Clone)]
pub struct MessageType;
impl MessageType {
    pub fn name(&self) -> &str {
        unimplemented!()
    }
    pub fn decode(&self, json: &[u8], parse: Parse) -> Result<Vec<u8>, JsonError> {
        unimplemented!()
    }
    pub fn decode_into(&self, json: &[u8], parse: Parse, out: &mut Vec<u8>) -> Result<(), JsonError> {
        unimplemented!()
    }
    pub fn encode(&self, wire: &[u8], style: Style, out: &mut Vec<u8>) -> Result<(), JsonError> {
        unimplemented!()
    }
    pub fn path(&self, dotted: &str) -> Option<FieldPath> {
        unimplemented!()
    }
}
pub struct FieldPath;
impl FieldPath {
    pub fn is_repeated(&self) -> bool {
        unimplemented!()
    }
    pub fn is_message(&self) -> bool {
        unimplemented!()
    }
    pub fn leaf_message(&self) -> Option<MessageType> {
        unimplemented!()
    }
    pub fn append_text(&self, text: &str, out: &mut Vec<u8>) -> Result<(), JsonError> {
        unimplemented!()
    }
    pub fn append_json(&self, json: &[u8], parse: Parse, out: &mut Vec<u8>) -> Result<(), JsonError> {
        unimplemented!()
    }
    pub fn encode(&self, wire: &[u8], style: Style, out: &mut Vec<u8>) -> Result<(), JsonError> {
        unimplemented!()
    }
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub names: Names,
    pub int64: Int64,
    pub defaults: Defaults,
    pub absent: Absent,
}
impl Style {
    pub const CANONICAL: Style =
        Style { names: Names::Camel, int64: Int64::Text, defaults: Defaults::Omit, absent: Absent::Omit };
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    Camel,
    Proto,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int64 {
    Text,
    Number,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defaults {
    Omit,
    Emit,
}
/// What becomes of unset optional and message fields under `Defaults::Emit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    Omit,
    Null,
}
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parse {
    pub unknown_fields: Unknown,
}
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    #[default]
    Ignore,
    Refuse,
}
#[derive(Debug)]
pub struct JsonError;
impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}
impl std::error::Error for JsonError {}
