//! One header block of a tar archive: 512 bytes with fields at fixed places.
//!
//! A newcomer's usual mistake is to read the prefix field always; old GNU archives keep times there.
//!
//! *Knows:* the block's fields, old, POSIX and GNU. *Does not know:* what follows the block, or what is permitted.

use portico_base::Result;

use crate::refusal;

/// Everything in a tar archive comes in blocks of this size.
pub(crate) const BLOCK_BYTES: usize = 512;
/// POSIX archives say so here, and only they have a prefix. GNU archives have a space where the zero is.
const POSIX_MAGIC: &[u8] = b"ustar\0";

/// A header block.
pub(crate) struct Header<'a>(&'a [u8; BLOCK_BYTES]);

impl<'a> Header<'a> {
    /// Takes the block if its checksum is right.
    pub(crate) fn parse(block: &'a [u8; BLOCK_BYTES]) -> Option<Header<'a>> {
        let stored = octal(&block[148..156])?;
        let counted = |byte: (usize, &u8)| if (148..156).contains(&byte.0) { b' ' } else { *byte.1 };
        let sum: u64 = block.iter().enumerate().map(|byte| u64::from(counted(byte))).sum();
        // Some old writers summed signed bytes; GNU tar takes both.
        let signed: i64 = block.iter().enumerate().map(|byte| i64::from(counted(byte).cast_signed())).sum();
        (stored == sum || i64::try_from(stored) == Ok(signed)).then_some(Header(block))
    }

    /// The kind of entry, as its letter.
    pub(crate) fn type_flag(&self) -> u8 {
        self.0[156]
    }

    /// The path, prefix included.
    pub(crate) fn path(&self) -> Vec<u8> {
        let name = until_zero(&self.0[..100]);
        let prefix = until_zero(&self.0[345..500]);
        if prefix.is_empty() || &self.0[257..263] != POSIX_MAGIC {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    /// What a link points to.
    pub(crate) fn link(&self) -> Vec<u8> {
        until_zero(&self.0[157..257]).to_vec()
    }

    /// The permission bits.
    pub(crate) fn mode(&self) -> Result<u32> {
        let mode = number(&self.0[100..108]).and_then(|mode| u32::try_from(mode).ok());
        mode.ok_or_else(|| refusal::corrupt_tar("a header has a malformed mode"))
    }

    /// The size of the content.
    pub(crate) fn size(&self) -> Result<u64> {
        number(&self.0[124..136]).ok_or_else(|| refusal::corrupt_tar("a header has a malformed size"))
    }
}

fn until_zero(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in octal text or, for large ones, in base 256 as GNU tar writes it.
fn number(field: &[u8]) -> Option<u64> {
    match field.first()? {
        0x80 => {
            let (high, low) = field.split_at(field.len().saturating_sub(8));
            let fits = high.iter().skip(1).all(|byte| *byte == 0);
            let skipped = usize::from(high.is_empty());
            let value = low.iter().skip(skipped).fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
            fits.then_some(value)
        }
        byte if byte & 0x80 != 0 => None,
        _ => octal(field),
    }
}

/// Octal digits between optional leading blanks and a blank, zero or the field's end. An empty field is zero.
fn octal(field: &[u8]) -> Option<u64> {
    let start = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let field = &field[start..];
    let end = field.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(field.len());
    let (digits, rest) = field.split_at(end);
    if !rest.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return None;
    }
    digits.iter().try_fold(0u64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}
