//! JSON text to wire bytes.
//!
//! The tokens come from `serde_json`, the meaning from the tables: each JSON value is met by one of four visitors
//! (a value, a list, a map, a message's fields) that writes wire bytes at once. Nothing is built in between.
//!
//! A newcomer would wonder why numbers are borrowed as text (`RawValue`): a visitor would be handed an `f64`, and the
//! digits of `9223372036854775807.0` would be gone.
//!
//! Knows: tables, JSON, wire bytes. Does not know: Rust message types.

mod any;
mod content;
mod scalar;
mod value;

pub(crate) use content::{List, Map};
pub(crate) use value::Value;

use serde::Deserialize as _;
use serde::de::{self, Deserializer};
use serde_json::de::StrRead;
use serde_json::value::RawValue;

use crate::error::{JsonError, Position, Refusal, Step, excerpt};
use crate::style::{Parse, Unknown};
use crate::table::{Enum, Message, Tables};

/// How deeply messages nest below the outermost, in wire terms: every message, list value, struct and map entry is one
/// level. prost refuses what is deeper, so nothing is written that it could not read.
pub(crate) const DEPTH_MAX: u32 = 100;

/// How many `Any` values may lie inside one another with `@type` not in first place. Each such level is read twice more.
const LATE_TYPE_DEPTH_MAX: u32 = 8;

/// What became of a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Written,
    /// It was `null`, which means unset; nothing was written.
    Null,
    /// It was the name of an unknown enum value, to be ignored; nothing was written.
    Unknown,
}

type Verdict = Result<Outcome, Refusal>;

/// The state while one document is read.
pub(crate) struct Reader<'t, 'o> {
    tables: &'t Tables,
    parse: Parse,
    pub(crate) out: &'o mut Vec<u8>,
    depth: u32,
    late_type_depth: u32,
    /// Where the keys of the maps now open lie in `out`: start and end.
    map_keys: Vec<(usize, usize)>,
    /// Our own errors wait here while a serde error unwinds.
    refusal: Option<Refusal>,
    trail: Vec<Step>,
}

impl<'t, 'o> Reader<'t, 'o> {
    pub(crate) fn new(tables: &'t Tables, parse: Parse, out: &'o mut Vec<u8>) -> Reader<'t, 'o> {
        Reader {
            tables,
            parse,
            out,
            depth: 0,
            late_type_depth: 0,
            map_keys: Vec::new(),
            refusal: None,
            trail: Vec::new(),
        }
    }

    fn message(&self, index: u32) -> &'t Message {
        let tables: &'t Tables = self.tables;
        tables.message(index)
    }

    fn enumeration(&self, index: u32) -> &'t Enum {
        let tables: &'t Tables = self.tables;
        &tables.enums[index as usize]
    }

    fn enter(&mut self) -> Result<(), Refusal> {
        self.check_depth(1)?;
        self.depth += 1;
        Ok(())
    }

    /// Whether so many levels may follow.
    fn check_depth(&self, levels: u32) -> Result<(), Refusal> {
        if self.depth.saturating_add(levels) > DEPTH_MAX + 1 {
            return Err("messages nest too deeply".into());
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Turns our own error into one that serde can carry.
    fn settle<T, E: de::Error>(&mut self, result: Result<T, Refusal>) -> Result<T, E> {
        result.map_err(|refusal| {
            self.refusal.get_or_insert(refusal);
            E::custom("refused")
        })
    }

    fn at_field(&mut self, json_name: &str) {
        self.trail.push(Step::Field(json_name.into()));
    }

    fn check_unknown_name(&self, name: &str) -> Result<(), Refusal> {
        match self.parse.unknown_fields {
            Unknown::Ignore => Ok(()),
            Unknown::Refuse => Err(format!("there is no field \"{}\"", excerpt(name)).into()),
        }
    }
}

/// Reads one whole document by `read` and appends what it writes to `out`; on error `out` is as it was.
pub(crate) fn document(
    tables: &Tables,
    parse: Parse,
    json: &[u8],
    out: &mut Vec<u8>,
    read: impl FnOnce(&mut Reader<'_, '_>, &mut serde_json::Deserializer<StrRead<'_>>) -> serde_json::Result<Outcome>,
) -> Result<Outcome, JsonError> {
    let start = out.len();
    let mut reader = Reader::new(tables, parse, out);
    // Checked once and for all, so that skipped values are UTF-8 too.
    let text = match std::str::from_utf8(json) {
        Ok(text) => text,
        Err(_) => return Err(JsonError::new("the text is not UTF-8".into(), &[], None).of_malformed()),
    };
    let mut tokens = serde_json::Deserializer::from_str(text);
    match read(&mut reader, &mut tokens).and_then(|outcome| tokens.end().map(|()| outcome)) {
        Ok(outcome) => Ok(outcome),
        Err(error) => {
            let position = (error.line() > 0 && reader.late_type_depth == 0)
                .then(|| Position { line: error.line(), column: error.column() });
            let refusal = reader.refusal.take();
            let is_malformed = refusal.is_none() && !error.is_data() && !is_limit(&error);
            let found = JsonError::new(refusal.unwrap_or_else(|| syntax(&error)), &reader.trail, position);
            out.truncate(start);
            Err(if is_malformed { found.of_malformed() } else { found })
        }
    }
}

/// Whether serde_json met a limit of its own, which the grammar of JSON does not have. It tells them by their words alone.
fn is_limit(error: &serde_json::Error) -> bool {
    let text = error.to_string();
    ["number out of range", "recursion limit exceeded"].iter().any(|limit| text.starts_with(limit))
}

/// What serde_json says of malformed text, without the position, which is told apart.
fn syntax(error: &serde_json::Error) -> Refusal {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    format!("malformed JSON: {}", excerpt(&text[..end])).into()
}

/// The text of a JSON value that must be a number, `null`, or text that holds a number.
fn raw_text<'de, D: Deserializer<'de>>(tokens: D) -> Result<&'de str, D::Error> {
    <&RawValue>::deserialize(tokens).map(RawValue::get)
}

/// Refuses the kinds of JSON value a visitor has no use for, without repeating the value.
macro_rules! refuse_visits {
    ($($visit:ident)*) => {
        $(crate::read::refuse_visits!(@ $visit);)*
    };
    (@ bool) => { crate::read::refuse_visits!(@@ visit_bool, bool, "true or false"); };
    (@ number) => {
        crate::read::refuse_visits!(@@ visit_u64, u64, "a number");
        crate::read::refuse_visits!(@@ visit_i64, i64, "a number");
        crate::read::refuse_visits!(@@ visit_f64, f64, "a number");
    };
    (@ str) => { crate::read::refuse_visits!(@@ visit_str, &str, "a string"); };
    (@ unit) => {
        fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            let refusal = format!("expected {}, found null", self.expected());
            self.reader.settle(Err(refusal.into()))
        }
    };
    (@ seq) => {
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            let refusal = format!("expected {}, found an array", self.expected());
            self.reader.settle(Err(refusal.into()))
        }
    };
    (@ map) => {
        fn visit_map<A: serde::de::MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            let refusal = format!("expected {}, found an object", self.expected());
            self.reader.settle(Err(refusal.into()))
        }
    };
    (@@ $name:ident, $type:ty, $found:literal) => {
        fn $name<E: serde::de::Error>(self, _: $type) -> Result<Self::Value, E> {
            let refusal = format!("expected {}, found {}", self.expected(), $found);
            self.reader.settle(Err(refusal.into()))
        }
    };
}
use refuse_visits;
