//! Scalars, and the well-known types that are written as one piece of text.
//!
//! A newcomer would accept what Rust's `parse` accepts (`+1`, `inf`, `01`): the text inside quotes follows JSON's number
//! grammar too.
//!
//! Knows: ranges, encodings, text forms. Does not know: where the text came from; a query string will do.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{Outcome, Reader, Verdict};
use crate::error::{Refusal, excerpt};
use crate::style::Unknown;
use crate::table::{Kind, Shape};
use crate::wire::{Frame, close, put_varint};
use crate::{calendar, mask, number};

/// Padding may be there or not, and what lies in the last, unused bits does not matter.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

impl Reader<'_, '_> {
    /// A value of a number kind, as it stands in the document.
    pub(super) fn raw_number(&mut self, kind: Kind, frame: Frame, raw: &str) -> Verdict {
        match raw.as_bytes() {
            [b'-' | b'0'..=b'9', ..] => self.number(kind, frame, raw)?,
            b"null" => return Ok(Outcome::Null),
            [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => {
                self.quoted_number(kind, frame, &raw[1..raw.len() - 1])?
            }
            [b'"', ..] => {
                let text: String = serde_json::from_str(raw).map_err(|_| "malformed string")?;
                self.quoted_number(kind, frame, &text)?;
            }
            _ => return Err("expected a number".into()),
        }
        Ok(Outcome::Written)
    }

    /// A number in text: what JSON has no number for is named.
    pub(super) fn quoted_number(&mut self, kind: Kind, frame: Frame, text: &str) -> Result<(), Refusal> {
        let special = match text {
            "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            _ => return self.number(kind, frame, text),
        };
        match kind {
            Kind::Double => self.put_fixed64(frame, special.to_bits()),
            Kind::Float => self.put_fixed32(frame, (special as f32).to_bits()),
            _ => return Err("the number is not an integer".into()),
        }
        Ok(())
    }

    pub(super) fn number(&mut self, kind: Kind, frame: Frame, text: &str) -> Result<(), Refusal> {
        match kind {
            Kind::Double => self.put_fixed64(frame, number::double(text)?.to_bits()),
            Kind::Float => self.put_fixed32(frame, number::float(text)?.to_bits()),
            Kind::Int32 => self.put(frame, i64::from(integer::<i32>(text)?) as u64),
            Kind::Int64 => self.put(frame, integer::<i64>(text)? as u64),
            Kind::Uint32 => self.put(frame, u64::from(integer::<u32>(text)?)),
            Kind::Uint64 => self.put(frame, integer(text)?),
            Kind::Sint32 => {
                let value = integer::<i32>(text)?;
                self.put(frame, u64::from((value << 1 ^ value >> 31) as u32));
            }
            Kind::Sint64 => {
                let value = integer::<i64>(text)?;
                self.put(frame, (value << 1 ^ value >> 63) as u64);
            }
            Kind::Fixed32 => self.put_fixed32(frame, integer(text)?),
            Kind::Fixed64 => self.put_fixed64(frame, integer(text)?),
            Kind::Sfixed32 => self.put_fixed32(frame, integer::<i32>(text)? as u32),
            Kind::Sfixed64 => self.put_fixed64(frame, integer::<i64>(text)? as u64),
            Kind::Bool | Kind::String | Kind::Bytes | Kind::Enum(_) | Kind::Message(_) => {
                return Err("expected something other than a number".into());
            }
        }
        Ok(())
    }

    /// A value given as text alone, as in a URL: everything that has a text form, quotes or not.
    pub(crate) fn lone_text(&mut self, kind: Kind, frame: Frame, text: &str) -> Verdict {
        match kind {
            Kind::Message(index) if self.message(index).shape == Shape::Wrapper => {
                let inner = &self.message(index).fields[0];
                let mark = frame.open(self.out);
                let outcome = self.lone_text(inner.kind, Frame::Field(inner.tag), text)?;
                close(self.out, mark);
                Ok(outcome)
            }
            Kind::Bool => match text {
                "true" | "false" => {
                    self.put(frame, u64::from(text == "true"));
                    Ok(Outcome::Written)
                }
                _ => Err("expected true or false".into()),
            },
            Kind::Enum(index) => {
                let named = self.enumeration(index).number_of(text).map(Ok);
                let number = named.unwrap_or_else(|| integer::<i32>(text));
                let number = number.map_err(|_| format!("there is no enum value \"{}\"", excerpt(text)))?;
                self.put(frame, i64::from(number) as u64);
                Ok(Outcome::Written)
            }
            kind if kind.is_number() => self.quoted_number(kind, frame, text).map(|()| Outcome::Written),
            kind => self.text(kind, frame, text),
        }
    }

    /// A value that JSON writes as a string.
    pub(super) fn text(&mut self, kind: Kind, frame: Frame, text: &str) -> Verdict {
        match kind {
            Kind::String => {
                frame.put(self.out);
                put_varint(self.out, text.len() as u64);
                self.out.extend_from_slice(text.as_bytes());
            }
            Kind::Bytes => self.base64(frame, text)?,
            Kind::Enum(index) => match self.enumeration(index).number_of(text) {
                Some(number) => self.put(frame, i64::from(number) as u64),
                None if self.parse.unknown_fields == Unknown::Ignore => return Ok(Outcome::Unknown),
                None => return Err(format!("there is no enum value \"{}\"", excerpt(text)).into()),
            },
            Kind::Message(index) => {
                self.enter()?;
                let mark = frame.open(self.out);
                match self.message(index).shape {
                    Shape::Timestamp => self.seconds_and_nanos(calendar::read_timestamp(text)?),
                    Shape::Duration => self.seconds_and_nanos(calendar::read_duration(text)?),
                    Shape::FieldMask => {
                        let path = Frame::Field(self.message(index).fields[0].tag);
                        let out = &mut *self.out;
                        mask::read(text, |snake| {
                            path.put(out);
                            put_varint(out, snake.len() as u64);
                            out.extend_from_slice(snake.as_bytes());
                        })?;
                    }
                    _ => return Err("expected an object, found a string".into()),
                }
                close(self.out, mark);
                self.leave();
            }
            _ => return Err("expected something other than a string".into()),
        }
        Ok(Outcome::Written)
    }

    fn base64(&mut self, frame: Frame, text: &str) -> Result<(), Refusal> {
        const NOT_BASE64: &str = "expected a base64 string";
        let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
        let digits = text.trim_end_matches('=').len();
        let length = digits / 4 * 3 + [0, 0, 1, 2][digits % 4];
        frame.put(self.out);
        put_varint(self.out, length as u64);
        let start = self.out.len();
        engine.decode_vec(text, self.out).map_err(|_| NOT_BASE64)?;
        if self.out.len() - start != length { Err(NOT_BASE64.into()) } else { Ok(()) }
    }

    /// The content of a Timestamp or a Duration.
    fn seconds_and_nanos(&mut self, (seconds, nanos): (i64, i32)) {
        for (tag, value) in [(1 << 3, seconds), (2 << 3, i64::from(nanos))] {
            if value != 0 {
                self.out.push(tag);
                put_varint(self.out, value as u64);
            }
        }
    }

    fn put(&mut self, frame: Frame, value: u64) {
        frame.put(self.out);
        put_varint(self.out, value);
    }

    fn put_fixed32(&mut self, frame: Frame, bits: u32) {
        frame.put(self.out);
        self.out.extend_from_slice(&bits.to_le_bytes());
    }

    fn put_fixed64(&mut self, frame: Frame, bits: u64) {
        frame.put(self.out);
        self.out.extend_from_slice(&bits.to_le_bytes());
    }
}

fn integer<T: TryFrom<i128>>(text: &str) -> Result<T, Refusal> {
    T::try_from(number::integer(text)?).map_err(|_| "the number is out of range".into())
}
