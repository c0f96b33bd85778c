//! How JSON is written and how strictly it is read.
//!
//! A newcomer would look for "accepted names" here: both spellings of every field name are always accepted, as the
//! ProtoJSON specification demands; [`Names`] decides only what is written.
//!
//! Knows: the choices. Does not know: who makes them.

/// How a message is written as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// The spelling of field names.
    pub names: Names,
    /// How 64-bit integers are written.
    pub int64: Int64,
    /// What happens to fields that hold their default value.
    pub defaults: Defaults,
    /// What happens to unset fields with presence, when defaults are shown.
    pub absent: Absent,
}

impl Style {
    /// As the ProtoJSON specification writes by default.
    pub const CANONICAL: Style =
        Style { names: Names::Camel, int64: Int64::Text, defaults: Defaults::Omit, absent: Absent::Omit };
}

/// The spelling of field names in JSON that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// The JSON name: lowerCamelCase, or what `json_name` says. ProtoJSON's default.
    #[default]
    Camel,
    /// The name in the proto file, snake_case by convention.
    Proto,
}

/// How 64-bit integers are written. Both forms are always read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Int64 {
    /// As text, `"123"`, so that JavaScript keeps every digit. ProtoJSON's default.
    #[default]
    Text,
    /// As a number, `123`.
    Number,
}

/// What is written for fields without presence that hold their default value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Defaults {
    /// Nothing. ProtoJSON's default.
    #[default]
    Omit,
    /// Zero, `""`, `false`, the first enum value, `[]` or `{}`. What happens to fields with presence, [`Absent`] says.
    Emit,
}

/// What is written for unset messages and `optional` fields under [`Defaults::Emit`]. Unset members of a oneof are always
/// left out, and so is an unset `google.protobuf.Value`, to which `null` would be a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Absent {
    /// Nothing.
    #[default]
    Omit,
    /// `null`.
    Null,
}

/// How JSON is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parse {
    /// What happens to names and enum values the schema does not know.
    pub unknown_fields: Unknown,
}

/// What happens to field names, and enum values given by name, that the schema does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// They are skipped, so that an older server understands a newer client.
    #[default]
    Ignore,
    /// They are an error.
    Refuse,
}
