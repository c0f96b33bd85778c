//! How a key is written.
//!
//! ```text
//! key      = kind random checksum
//! kind     = "pod_" | "pod_admin_"
//! random   = 43 base62 digits: 256 random bits as one big-endian number, padded with "0"
//! checksum = 6 base62 digits: CRC-32 (IEEE) of kind and random, padded with "0"
//! base62   = "0".."9" "A".."Z" "a".."z", in this order of value
//! ```
//!
//! Published in `docs/reference/keys.md`, which a test holds. For example `pod_` + 49 digits (53 characters in all) or `pod_admin_` + 49 digits (59). The kind and the first 8 random
//! digits are the *prefix*: it may be shown and is what a key is stored by; it says nothing about the other 208 bits.
//!
//! A newcomer's usual mistake is to ask a store about anything that begins like a key. A text that fails its own checksum
//! was mistyped or guessed, and is refused before any store is asked. The alphabet has no `_`, so a tenant's key can
//! never look like an administrator's.
//!
//! *Knows:* digits and the checksum. *Does not know:* which keys exist.

use portico_base::{Secret, id};

/// What keys of tenants begin with.
pub const TENANT_KIND: &str = "pod_";
/// What keys of administrators begin with.
pub const ADMIN_KIND: &str = "pod_admin_";
/// Digits that carry the 256 random bits.
pub const RANDOM_DIGITS: usize = 43;
/// Digits that carry the checksum.
pub const CHECKSUM_DIGITS: usize = 6;
/// Random digits that belong to the prefix.
pub const PREFIX_DIGITS: usize = 8;
/// Longest text that is looked at; the bootstrap key is the only one that may be longer than the grammar.
pub const CHARACTERS_MAX: usize = 512;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Whom a key says that it is for. Says nothing about rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A tenant.
    Tenant,
    /// An administrator.
    Admin,
}

impl Kind {
    /// What such keys begin with.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Tenant => TENANT_KIND,
            Kind::Admin => ADMIN_KIND,
        }
    }

    /// What this text begins with.
    pub fn of(text: &str) -> Option<Kind> {
        // The longer one begins with the shorter one.
        [Kind::Admin, Kind::Tenant].into_iter().find(|kind| text.starts_with(kind.as_str()))
    }
}

/// A fresh key.
pub fn generate(kind: Kind) -> Secret {
    let mut bits = [0; 32];
    id::fill(&mut bits);
    let mut text = format!("{}{}", kind.as_str(), digits::<RANDOM_DIGITS>(&mut bits));
    let mut sum = crc32(text.as_bytes()).to_be_bytes();
    text.push_str(&digits::<CHECKSUM_DIGITS>(&mut sum));
    Secret::new(text)
}

/// The kind and the prefix of a well-formed key.
pub fn parse(text: &str) -> Option<(Kind, &str)> {
    let kind = Kind::of(text)?;
    let random = kind.as_str().len();
    let checksum = random + RANDOM_DIGITS;
    if text.len() != checksum + CHECKSUM_DIGITS || !text.bytes().skip(random).all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let mut sum = crc32(&text.as_bytes()[..checksum]).to_be_bytes();
    (text[checksum..] == *digits::<CHECKSUM_DIGITS>(&mut sum)).then(|| (kind, &text[..random + PREFIX_DIGITS]))
}

/// The prefix of a text that begins like a key, for showing.
pub fn prefix(text: &str) -> Option<&str> {
    text.get(..Kind::of(text)?.as_str().len() + PREFIX_DIGITS)
}

/// The prefix that a text names: it is that prefix, or the whole well-formed key. What only begins like one names nothing.
pub(super) fn named(text: &str) -> Option<&str> {
    prefix(text).filter(|prefix| *prefix == text || parse(text).is_some())
}

/// What may be shown of a text by which somebody names a key: people paste whole keys, which belong in no log or answer.
pub(super) fn without_secret(text: &str) -> &str {
    prefix(text).unwrap_or(text)
}

/// Divides the big-endian number down to nothing, and writes its remainders as digits.
fn digits<const COUNT: usize>(number: &mut [u8]) -> String {
    let mut digits = [0; COUNT];
    for digit in digits.iter_mut().rev() {
        let mut rest = 0u32;
        for byte in number.iter_mut() {
            let value = rest << 8 | u32::from(*byte);
            // A remainder is below 62, so the quotient of (61 * 256 + 255) / 62 fits into a byte.
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            rest = value % 62;
        }
        *digit = ALPHABET[rest as usize];
    }
    digits.into_iter().map(char::from).collect()
}

/// CRC-32 as in IEEE 802.3, gzip and PNG.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| crc >> 8 ^ CRC_TABLE[(crc as u8 ^ byte) as usize])
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (mut crc, mut bit) = (at as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_key_reads_back() {
        for (kind, length) in [(Kind::Tenant, 53), (Kind::Admin, 59)] {
            let key = generate(kind);
            assert_eq!(key.reveal().len(), length);
            assert_eq!(parse(key.reveal()), Some((kind, prefix(key.reveal()).expect("begins like a key"))));
        }
    }

    #[test]
    fn every_single_mistyped_character_is_noticed() {
        let key = generate(Kind::Tenant);
        for at in 0..key.reveal().len() {
            let mut text = key.reveal().as_bytes().to_vec();
            text[at] = if text[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(parse(std::str::from_utf8(&text).expect("is ASCII")), None, "position {at}");
        }
    }

    #[test]
    fn other_texts_are_no_keys() {
        for text in ["", "pod_", "pod_admin_", "sk_123", "pod_äöü", &"pod_".repeat(14), &"pod_0".repeat(11)[..53]] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_written_form_is_fixed() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(digits::<3>(&mut [1, 0]), "048");
        assert_eq!(digits::<43>(&mut [255; 32]), "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1");
    }
}
