//! One value as JSON.
//!
//! A newcomer would escape strings byte by byte: most need no escaping, which one look over the whole text tells.
//!
//! Knows: every kind. Does not know: fields.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Stop, Writer};
use crate::style::Int64;
use crate::table::Kind;
use crate::wire::Record;

impl Writer<'_, '_> {
    pub(super) fn value(&mut self, kind: Kind, record: &Record<'_>) -> Result<(), Stop> {
        let bits = record.bits;
        match kind {
            Kind::Double => self.double(f64::from_bits(bits)),
            Kind::Float => self.float(f32::from_bits(bits as u32)),
            Kind::Int32 | Kind::Sfixed32 => self.integer(bits as i32),
            Kind::Uint32 | Kind::Fixed32 => self.integer(bits as u32),
            Kind::Sint32 => self.integer(zigzag(u64::from(bits as u32)) as i32),
            Kind::Int64 | Kind::Sfixed64 => self.long(bits as i64),
            Kind::Uint64 | Kind::Fixed64 => self.long(bits),
            Kind::Sint64 => self.long(zigzag(bits)),
            Kind::Bool => self.out.extend_from_slice(if bits == 0 { b"false" } else { b"true" }),
            Kind::String => return self.string(record.bytes),
            Kind::Bytes => self.base64(record.bytes),
            Kind::Enum(index) => self.enumeration(index, bits as i32),
            Kind::Message(index) => return self.message(index, record.bytes),
        }
        Ok(())
    }

    pub(super) fn default_scalar(&mut self, kind: Kind) {
        match kind {
            Kind::String | Kind::Bytes => self.out.extend_from_slice(b"\"\""),
            Kind::Enum(index) => self.enumeration(index, 0),
            Kind::Bool => self.out.extend_from_slice(b"false"),
            Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64 => self.long(0),
            _ => self.out.push(b'0'),
        }
    }

    /// A string of the wire, with its quotes.
    fn string(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        if is_plain(bytes) {
            self.put_quoted(bytes);
        } else {
            self.quoted(std::str::from_utf8(bytes).map_err(|_| "the string is not UTF-8")?);
        }
        Ok(())
    }

    /// A string with its quotes.
    pub(super) fn quoted(&mut self, text: &str) {
        if is_plain(text.as_bytes()) {
            return self.put_quoted(text.as_bytes());
        }
        // Writing text into a vector cannot fail; if it ever did, an empty string would still be JSON.
        let start = self.out.len();
        if serde_json::to_writer(&mut *self.out, text).is_err() {
            self.out.truncate(start);
            self.out.extend_from_slice(b"\"\"");
        }
    }

    fn put_quoted(&mut self, plain: &[u8]) {
        self.out.reserve(plain.len() + 2);
        self.out.push(b'"');
        self.out.extend_from_slice(plain);
        self.out.push(b'"');
    }

    pub(super) fn quoted_integer(&mut self, value: impl itoa::Integer) {
        self.out.push(b'"');
        self.integer(value);
        self.out.push(b'"');
    }

    /// A double that may be infinite or not a number.
    fn double(&mut self, value: f64) {
        match value {
            value if value.is_finite() => self.finite(value),
            value if value.is_nan() => self.out.extend_from_slice(b"\"NaN\""),
            value if value > 0.0 => self.out.extend_from_slice(b"\"Infinity\""),
            _ => self.out.extend_from_slice(b"\"-Infinity\""),
        }
    }

    fn float(&mut self, value: f32) {
        // The shortest text that reads back as this float, not as the double nearest to it.
        if value.is_finite() { self.finite(value) } else { self.double(f64::from(value)) }
    }

    pub(super) fn finite(&mut self, value: impl zmij::Float) {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(value);
        self.out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    }

    fn long(&mut self, value: impl itoa::Integer) {
        match self.style.int64 {
            Int64::Text => self.quoted_integer(value),
            Int64::Number => self.integer(value),
        }
    }

    fn integer(&mut self, value: impl itoa::Integer) {
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn enumeration(&mut self, index: u32, number: i32) {
        let table = &self.tables.enums[index as usize];
        match table.quoted_name_of(number) {
            _ if table.is_null => self.out.extend_from_slice(b"null"),
            Some(name) => self.out.extend_from_slice(name.as_bytes()),
            None => self.integer(number),
        }
    }

    fn base64(&mut self, bytes: &[u8]) {
        self.out.push(b'"');
        let start = self.out.len();
        self.out.resize(start + bytes.len().div_ceil(3) * 4, 0);
        // The slice has exactly the length standard base64 needs.
        let written = STANDARD.encode_slice(bytes, &mut self.out[start..]).unwrap_or(0);
        self.out.truncate(start + written);
        self.out.push(b'"');
    }
}

/// Whether these bytes are ASCII that needs no escape.
fn is_plain(bytes: &[u8]) -> bool {
    // No branch inside a chunk, so that the compiler looks at many bytes at once.
    let has_other = |chunk: &[u8]| {
        chunk
            .iter()
            .fold(false, |found, byte| found | (*byte < 0x20) | (*byte >= 0x80) | (*byte == b'"') | (*byte == b'\\'))
    };
    !bytes.chunks(32).any(has_other)
}

/// The signed number of a zigzag varint.
pub(crate) fn zigzag(bits: u64) -> i64 {
    (bits >> 1) as i64 ^ -((bits & 1) as i64)
}
