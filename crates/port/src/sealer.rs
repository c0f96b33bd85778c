//! Sealing: making text unreadable to whoever holds the store but not the key.
//!
//! A newcomer's usual mistake is to move an envelope. It is bound to its place: what was sealed for one tenant and agent
//! type cannot be opened as another's.
//!
//! *Knows:* envelopes and the place they belong to. *Does not know:* what is sealed, where keys come from.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::Answer;

/// Something sealed. Safe to store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The form of the envelope: 1 is AES-256-GCM.
    pub v: u8,
    /// The key that it was sealed with: the first 8 hex digits of the key's SHA-256.
    pub kid: String,
    /// The nonce, in base64.
    pub nonce: String,
    /// The sealed text with its tag, in base64.
    pub ct: String,
}

/// Seals and opens.
pub trait Sealer: Send + Sync + 'static {
    /// Seals for this place with the current key.
    fn seal<'a>(&'a self, place: &'a str, plain: &'a [u8]) -> Answer<'a, Envelope>;

    /// Opens what was sealed for this place, with the current or an earlier key.
    ///
    /// # Errors
    /// `secrets_undecryptable` when no key fits, or the envelope is damaged or belongs elsewhere.
    fn open<'a>(&'a self, place: &'a str, envelope: &'a Envelope) -> Answer<'a, Zeroizing<Vec<u8>>>;

    /// The id of the current key. An envelope with another one should be sealed anew when it is next written.
    fn kid(&self) -> &str;
}
