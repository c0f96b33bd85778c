//! What is stored instead of a key: a keyed digest.
//!
//! A newcomer's usual mistake is a slow password hash. Keys carry 256 random bits, so nobody can try them out; what the
//! pepper adds is that a stolen store alone cannot even confirm a key.
//!
//! *Knows:* HMAC-SHA-256, SHA-256 and constant-time comparison. *Does not know:* which keys exist.

use std::hash::{Hash, Hasher};

use aws_lc_rs::{constant_time, digest, hmac};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use portico_base::id;
use zeroize::Zeroizing;

/// The digest of a key under one pepper.
#[derive(Clone, Copy)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    /// Reads what [`Digest::stored`] wrote.
    pub(super) fn read(text: &str) -> Option<Digest> {
        STANDARD_NO_PAD.decode(text).ok()?.try_into().ok().map(Digest)
    }

    /// The digest as text, to store.
    pub(super) fn stored(&self) -> String {
        STANDARD_NO_PAD.encode(self.0)
    }

    /// Both algorithms give 32 bytes.
    fn of(bytes: &[u8]) -> Digest {
        let mut digest = [0; 32];
        for (to, from) in digest.iter_mut().zip(bytes) {
            *to = *from;
        }
        Digest(digest)
    }

    /// A byte that spreads evenly and is not used for hashing.
    pub(super) fn shard(&self) -> usize {
        usize::from(self.0[31])
    }
}

/// In constant time, because one side comes from a stranger.
impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Digest {}

/// Strangers cannot choose digests, so a part of one is as good a hash as any.
impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// A hasher for [`Digest`]s, which are hashes already.
#[derive(Clone, Copy, Default)]
pub(super) struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Digests do not come this way; any other use would still be right, only slow.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Makes digests under one pepper.
pub(super) struct Digester(hmac::Key);

impl Digester {
    /// With this pepper.
    pub(super) fn new(pepper: &[u8; 32]) -> Digester {
        Digester(hmac::Key::new(hmac::HMAC_SHA256, pepper))
    }

    pub(super) fn digest(&self, key: &str) -> Digest {
        Digest::of(hmac::sign(&self.0, key.as_bytes()).as_ref())
    }
}

/// Names credentials within this process: nobody else can tell what a name is of, and nothing is stored under one.
///
/// What names prove is that two credentials are the same, so a hash behind a secret is enough, and every call needs one.
pub(super) struct Names(Zeroizing<[u8; 32]>);

impl Names {
    /// Under a fresh secret.
    pub(super) fn new() -> Names {
        let mut secret = Zeroizing::new([0; 32]);
        id::fill(&mut *secret);
        Names(secret)
    }

    pub(super) fn name(&self, credential: &str) -> Digest {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&*self.0);
        hash.update(credential.as_bytes());
        Digest::of(hash.finish().as_ref())
    }
}
