//! Wire bytes to JSON text.
//!
//! Encoders write each field once and in one piece, so the first attempt streams: one pass, nothing kept, fields in the
//! order of the wire. The moment something comes twice (a singular field, a list continued elsewhere, a second member of a
//! oneof), or defaults are wanted and a field is out of order, the attempt is given up and the whole document is written
//! again with every message sorted and merged first. Given up at the top, not at the message: starting over at every level
//! would double the work at every level.
//!
//! A newcomer would trust the wire. It may hold fields in any order, lists in pieces, messages in parts to be merged, map
//! keys twice; all of it is legal and must come out right.
//!
//! Knows: tables, wire bytes, JSON. Does not know: Rust message types.

mod fields;
mod map;
mod scalar;
mod well_known;

pub(crate) use fields::{concatenated, records_of};
pub(crate) use scalar::zigzag;

use crate::error::{JsonError, Refusal, Step};
use crate::read::DEPTH_MAX;
use crate::style::Style;
use crate::table::{Message, Shape, Tables};

/// Why writing stopped.
pub(crate) enum Stop {
    Refused(Refusal),
    /// The wire cannot be written as it comes: start over, carefully.
    Disorder,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl From<&'static str> for Stop {
    fn from(message: &'static str) -> Stop {
        Stop::Refused(message.into())
    }
}

/// The state while one document is written.
pub(crate) struct Writer<'t, 'o> {
    tables: &'t Tables,
    style: Style,
    pub(crate) out: &'o mut Vec<u8>,
    depth: u32,
    is_careful: bool,
    trail: Vec<Step>,
}

/// Runs `write`, first trusting the order of the wire, then not. On error `out` is as it was.
pub(crate) fn document(
    tables: &Tables,
    style: Style,
    out: &mut Vec<u8>,
    mut write: impl FnMut(&mut Writer<'_, '_>) -> Result<(), Stop>,
) -> Result<(), JsonError> {
    let start = out.len();
    for is_careful in [false, true] {
        let mut writer = Writer { tables, style, out: &mut *out, depth: 0, is_careful, trail: Vec::new() };
        match write(&mut writer) {
            Ok(()) => return Ok(()),
            Err(Stop::Disorder) => out.truncate(start),
            Err(Stop::Refused(refusal)) => {
                let error = JsonError::new(refusal, &writer.trail, None);
                out.truncate(start);
                return Err(error);
            }
        }
    }
    Err(JsonError::new("the wire bytes cannot be put in order".into(), &[], None))
}

impl<'t> Writer<'t, '_> {
    /// One whole message as one JSON value.
    pub(crate) fn message(&mut self, index: u32, wire: &[u8]) -> Result<(), Stop> {
        self.enter()?;
        let message = self.table(index);
        match message.shape {
            Shape::Plain => {
                self.out.push(b'{');
                self.plain(message, wire, false)?;
                self.out.push(b'}');
            }
            Shape::Any => self.any(wire)?,
            Shape::Duration => self.duration(wire)?,
            Shape::FieldMask => self.field_mask(wire)?,
            Shape::ListValue => self.list_value(&message.fields[0], wire)?,
            Shape::Struct => self.structure(&message.fields[0], wire)?,
            Shape::Timestamp => self.timestamp(wire)?,
            Shape::Value => self.value_message(message, wire)?,
            Shape::Wrapper => self.wrapper(&message.fields[0], wire)?,
        }
        self.depth -= 1;
        Ok(())
    }

    fn enter(&mut self) -> Result<(), Stop> {
        if self.depth > DEPTH_MAX {
            return Err("messages nest too deeply".into());
        }
        self.depth += 1;
        Ok(())
    }

    fn table(&self, index: u32) -> &'t Message {
        let tables: &'t Tables = self.tables;
        tables.message(index)
    }

    #[inline]
    fn at_field<T>(&mut self, json_name: &str, result: Result<T, Stop>) -> Result<T, Stop> {
        if let Err(Stop::Refused(_)) = result {
            self.trail.push(Step::Field(json_name.into()));
        }
        result
    }
}
