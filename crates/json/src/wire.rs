//! The protobuf wire format, as far as the codec needs it.
//!
//! A newcomer would reserve five bytes for the length of a nested message: one byte is reserved, and only a message of
//! 128 bytes or more is moved when its length turns out longer.
//!
//! Knows: varints, tags, records. Does not know: schemas, JSON.

use crate::error::Refusal;

/// Groups are obsolete and only skipped; this bounds how deeply they nest.
const GROUP_DEPTH_MAX: u32 = 100;

/// How a record's payload is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

/// A field number and a wire type, as they are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag {
    bytes: [u8; 5],
    length: u8,
}

impl Tag {
    pub(crate) fn new(number: u32, wire_type: WireType) -> Tag {
        let mut rest = number << 3 | wire_type as u32;
        let mut tag = Tag { bytes: [0; 5], length: 0 };
        for byte in &mut tag.bytes {
            tag.length += 1;
            *byte = (rest & 0x7f) as u8;
            rest >>= 7;
            if rest == 0 {
                break;
            }
            *byte |= 0x80;
        }
        tag
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The place of a length that is not known yet.
#[derive(Clone, Copy)]
#[must_use]
pub(crate) struct Mark(Option<usize>);

/// What stands before a value: a tag (and for messages a length), or nothing at all, as in a packed list or a whole message.
#[derive(Clone, Copy)]
pub(crate) enum Frame {
    Field(Tag),
    Bare,
}

impl Frame {
    /// Writes what stands before a scalar.
    pub(crate) fn put(self, out: &mut Vec<u8>) {
        if let Frame::Field(tag) = self {
            out.extend_from_slice(tag.as_bytes());
        }
    }

    /// Writes what stands before content whose length is not known yet. To be closed by [`close`].
    pub(crate) fn open(self, out: &mut Vec<u8>) -> Mark {
        match self {
            Frame::Bare => Mark(None),
            Frame::Field(tag) => {
                out.extend_from_slice(tag.as_bytes());
                out.push(0);
                Mark(Some(out.len()))
            }
        }
    }
}

/// Fills in the length of what was written since `mark`.
pub(crate) fn close(out: &mut Vec<u8>, mark: Mark) {
    let Mark(Some(start)) = mark else { return };
    let mut length = out.len() - start;
    if length < 0x80 {
        out[start - 1] = length as u8;
        return;
    }
    let end = out.len();
    let more = (length.ilog2() / 7) as usize;
    out.resize(end + more, 0);
    out.copy_within(start..end, start + more);
    for byte in &mut out[start - 1..start + more] {
        *byte = (length & 0x7f) as u8 | 0x80;
        length >>= 7;
    }
    out[start + more - 1] &= 0x7f;
}

/// One field on the wire. `number` of zero does not exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'w> {
    pub(crate) number: u32,
    pub(crate) wire_type: WireType,
    /// The varint or the fixed bits.
    pub(crate) bits: u64,
    /// The payload of a length-delimited record.
    pub(crate) bytes: &'w [u8],
}

impl<'w> Record<'w> {
    /// What stands for an absent map key or value.
    pub(crate) const ABSENT: Record<'static> = Record { number: 0, wire_type: WireType::Varint, bits: 0, bytes: &[] };

    pub(crate) fn of_bits(bits: u64) -> Record<'static> {
        Record { bits, ..Record::ABSENT }
    }

    pub(crate) fn of_bytes(bytes: &'w [u8]) -> Record<'w> {
        Record { bytes, wire_type: WireType::Bytes, ..Record::ABSENT }
    }
}

/// The fields of one message, in the order of the wire. Groups are skipped.
pub(crate) struct Records<'w> {
    rest: &'w [u8],
}

impl<'w> Records<'w> {
    pub(crate) fn new(wire: &'w [u8]) -> Records<'w> {
        Records { rest: wire }
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Record<'w>>, Refusal> {
        while !self.rest.is_empty() {
            let (number, kind) = self.tag()?;
            if kind == 3 {
                self.skip_group(number)?;
                continue;
            }
            return self.payload(number, kind).map(Some);
        }
        Ok(None)
    }

    /// The next record, if it has this tag. Cheaper than `next` and used to stay inside a repeated field.
    #[inline]
    pub(crate) fn next_if(
        &mut self,
        tag: &Tag,
        number: u32,
        wire_type: WireType,
    ) -> Result<Option<Record<'w>>, Refusal> {
        // Seldom the same field again: one byte tells, mostly.
        if self.rest.first() != tag.bytes.first() {
            return Ok(None);
        }
        match self.rest.strip_prefix(tag.as_bytes()) {
            None => Ok(None),
            Some(rest) => {
                self.rest = rest;
                self.payload(number, wire_type as u8).map(Some)
            }
        }
    }

    #[inline]
    fn tag(&mut self) -> Result<(u32, u8), Refusal> {
        let tag = u32::try_from(take_varint(&mut self.rest)?).map_err(|_| "a field number is out of range")?;
        if tag >> 3 == 0 {
            return Err("a field number is zero".into());
        }
        Ok((tag >> 3, (tag & 7) as u8))
    }

    #[inline]
    fn payload(&mut self, number: u32, kind: u8) -> Result<Record<'w>, Refusal> {
        let (wire_type, bits, bytes): (_, _, &[u8]) = match kind {
            0 => (WireType::Varint, take_varint(&mut self.rest)?, &[]),
            1 => (WireType::Fixed64, take_fixed64(&mut self.rest)?, &[]),
            2 => (WireType::Bytes, 0, self.take_bytes()?),
            5 => (WireType::Fixed32, take_fixed32(&mut self.rest)?, &[]),
            4 => return Err("a group ends that never began".into()),
            _ => return Err("a wire type does not exist".into()),
        };
        Ok(Record { number, wire_type, bits, bytes })
    }

    fn take_bytes(&mut self) -> Result<&'w [u8], Refusal> {
        let length = take_varint(&mut self.rest)?;
        let (bytes, rest) =
            usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length)).ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn skip_group(&mut self, number: u32) -> Result<(), Refusal> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            match self.tag()? {
                (number, 3) if open.len() < GROUP_DEPTH_MAX as usize => open.push(number),
                (_, 3) => return Err("groups nest too deeply".into()),
                (number, 4) if number == innermost => drop(open.pop()),
                (number, kind) => drop(self.payload(number, kind)?),
            }
        }
        Ok(())
    }
}

const TRUNCATED: &str = "the wire bytes end in the middle of a field";

#[inline]
pub(crate) fn take_varint(rest: &mut &[u8]) -> Result<u64, Refusal> {
    if let [byte, after @ ..] = *rest
        && *byte < 0x80
    {
        *rest = after;
        return Ok(u64::from(*byte));
    }
    let mut value = 0_u64;
    for (place, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (place * 7);
        if *byte < 0x80 {
            *rest = &rest[place + 1..];
            return Ok(value);
        }
    }
    Err(if rest.len() < 10 { TRUNCATED.into() } else { "a varint is longer than ten bytes".into() })
}

pub(crate) fn take_fixed32(rest: &mut &[u8]) -> Result<u64, Refusal> {
    let (bytes, after) = rest.split_first_chunk::<4>().ok_or(TRUNCATED)?;
    *rest = after;
    Ok(u64::from(u32::from_le_bytes(*bytes)))
}

pub(crate) fn take_fixed64(rest: &mut &[u8]) -> Result<u64, Refusal> {
    let (bytes, after) = rest.split_first_chunk::<8>().ok_or(TRUNCATED)?;
    *rest = after;
    Ok(u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_filled_in_at_every_width() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let mut out = vec![9];
            let mark = Frame::Field(Tag::new(1, WireType::Bytes)).open(&mut out);
            out.resize(out.len() + length, 7);
            close(&mut out, mark);
            out.push(0x10);
            out.push(5);

            let mut records = Records::new(&out[1..]);
            let first = records.next().unwrap().unwrap();
            assert_eq!((first.number, first.bytes.len()), (1, length));
            assert!(first.bytes.iter().all(|byte| *byte == 7));
            assert_eq!(records.next().unwrap().unwrap().bits, 5);
        }
    }

    #[test]
    fn a_tag_is_its_varint() {
        for number in [1, 15, 16, 2047, 2048, (1 << 29) - 1] {
            let mut expected = Vec::new();
            put_varint(&mut expected, u64::from(number) << 3 | 5);
            assert_eq!(Tag::new(number, WireType::Fixed32).as_bytes(), expected);
        }
    }
}
