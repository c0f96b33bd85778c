//! Sealing with keys from the configuration or from a file.
//!
//! A newcomer's usual mistake is to throw the old key away when it is replaced. It stays in the ring, behind the new one,
//! until everything that it sealed has been written again.
//!
//! *Knows:* AES-256-GCM, key files. *Does not know:* what is sealed.

mod file;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
};
use base64::{
    Engine,
    engine::general_purpose::{GeneralPurpose, STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use portico_base::{Code, Error, Result, Secret, id, reason};
use portico_port::{
    Answer,
    sealer::{Envelope, Sealer},
};
use zeroize::Zeroizing;

/// The form of envelopes that this backend makes.
const VERSION: u8 = 1;
/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Hex digits of a key's id.
const KID_DIGITS: usize = 8;

/// The current key and earlier ones.
pub struct Keyring {
    current: Key,
    earlier: Vec<Key>,
}

struct Key {
    kid: String,
    key: LessSafeKey,
}

impl Keyring {
    /// A ring of these keys, each 32 bytes in base64 or hex.
    ///
    /// # Errors
    /// `validation_failed` when one is not such a key. The message does not contain it.
    pub fn parse(current: &Secret, earlier: &[Secret]) -> Result<Keyring> {
        let earlier = earlier.iter().map(|key| Key::parse("secrets_key_previous", key)).collect::<Result<_>>()?;
        Ok(Keyring { current: Key::parse("secrets_key", current)?, earlier })
    }

    fn key(&self, kid: &str) -> Option<&Key> {
        std::iter::once(&self.current).chain(&self.earlier).find(|key| key.kid == kid)
    }
}

impl Sealer for Keyring {
    fn seal<'a>(&'a self, place: &'a str, plain: &'a [u8]) -> Answer<'a, Envelope> {
        Box::pin(async move { self.current.seal(place, plain) })
    }

    fn open<'a>(&'a self, place: &'a str, envelope: &'a Envelope) -> Answer<'a, Zeroizing<Vec<u8>>> {
        Box::pin(async move {
            let key = self.key(&envelope.kid).filter(|_| envelope.v == VERSION);
            key.and_then(|key| key.open(place, envelope)).ok_or_else(|| {
                Error::new(Code::Internal, reason::SECRETS_UNDECRYPTABLE, "what is stored cannot be opened")
                    .caused_by(format!("sealed with key {}, the current key is {}", envelope.kid, self.current.kid))
            })
        })
    }

    fn kid(&self) -> &str {
        &self.current.kid
    }
}

impl Key {
    fn parse(name: &str, text: &Secret) -> Result<Key> {
        let bytes =
            decode(text.reveal().trim()).ok_or_else(|| Error::invalid(name, "must be 32 bytes in base64 or hex"))?;
        let key = UnboundKey::new(&AES_256_GCM, &*bytes).map_err(Error::internal)?;
        let mut kid = hex(digest::digest(&digest::SHA256, &*bytes).as_ref());
        kid.truncate(KID_DIGITS);
        Ok(Key { kid, key: LessSafeKey::new(key) })
    }

    fn seal(&self, place: &str, plain: &[u8]) -> Result<Envelope> {
        let mut nonce = [0; NONCE_LEN];
        id::fill(&mut nonce);
        // With room for the tag from the start, no copy of the plain text is left behind by growing.
        let mut text = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
        text.extend_from_slice(plain);
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut text)
            .map_err(Error::internal)?;
        Ok(Envelope { v: VERSION, kid: self.kid.clone(), nonce: STANDARD.encode(nonce), ct: STANDARD.encode(text) })
    }

    fn open(&self, place: &str, envelope: &Envelope) -> Option<Zeroizing<Vec<u8>>> {
        let nonce = Nonce::try_assume_unique_for_key(&STANDARD.decode(&envelope.nonce).ok()?).ok()?;
        let mut text = Zeroizing::new(STANDARD.decode(&envelope.ct).ok()?);
        let length = self.key.open_in_place(nonce, Aad::from(place), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

/// 32 bytes, written in hex or in any of the usual forms of base64.
fn decode(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    if text.len() == 2 * KEY_BYTES {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        return Some(bytes);
    }
    let forms: [GeneralPurpose; 4] = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD];
    let bytes = Zeroizing::new(forms.iter().find_map(|form| form.decode(text).ok())?);
    bytes.as_slice().try_into().ok().map(Zeroizing::new)
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(current: u8, earlier: &[u8]) -> Keyring {
        let key = |byte: u8| Secret::new(STANDARD.encode([byte; KEY_BYTES]));
        Keyring::parse(&key(current), &earlier.iter().map(|byte| key(*byte)).collect::<Vec<_>>()).expect("are keys")
    }

    #[tokio::test]
    async fn what_is_sealed_opens_in_its_place_alone() {
        let envelope = ring(1, &[]).seal("a|b", b"plain").await.unwrap();
        assert_eq!(ring(1, &[]).open("a|b", &envelope).await.unwrap().as_slice(), b"plain");
        assert_eq!(ring(2, &[1]).open("a|b", &envelope).await.unwrap().as_slice(), b"plain");
        let mut damaged = envelope.clone();
        damaged.ct.replace_range(0..1, if damaged.ct.starts_with('A') { "B" } else { "A" });
        for (ring, place, envelope) in [
            (ring(1, &[]), "a|c", &envelope),
            (ring(2, &[]), "a|b", &envelope),
            (ring(1, &[]), "a|b", &damaged),
            (ring(1, &[]), "a|b", &Envelope { v: 2, ..envelope.clone() }),
        ] {
            let error = ring.open(place, envelope).await.unwrap_err();
            assert_eq!(error.reason(), reason::SECRETS_UNDECRYPTABLE);
        }
    }

    #[test]
    fn keys_are_read_in_hex_and_base64_and_named_alike() {
        let hex = Keyring::parse(&Secret::new("01".repeat(32)), &[]).unwrap();
        assert_eq!(hex.kid(), ring(1, &[]).kid());
        assert_eq!(hex.kid(), "72cd6e84", "the beginning of the SHA-256 of 32 bytes of 1");
        for text in ["", "short", &"01".repeat(31), &"zz".repeat(32)] {
            assert!(Keyring::parse(&Secret::new(text), &[]).is_err(), "{text}");
        }
    }
}
