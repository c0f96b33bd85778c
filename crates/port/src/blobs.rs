//! Large objects: staged while they arrive, then committed under a key, once and for good.
//!
//! A newcomer's usual mistake is to write to a key and clean up on failure. Nothing is visible before
//! [`Staged::commit`], which creates or does nothing; whoever hangs up before it leaves nothing behind.
//!
//! *Knows:* keys, bytes, sizes, digests, metadata. *Does not know:* what an object means.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use portico_base::{Error, Incoming, Result, health::Health};

use crate::Answer;

/// Longest key, as S3 has it.
pub const KEY_BYTES_MAX: usize = 1_024;
/// Most keys that one list answers.
pub const LIST_KEYS_MAX: usize = 1_000;

/// What comes beside an object: names and values, for people and for other programs that read the store.
pub type Metadata = BTreeMap<String, String>;

/// The SHA-256 of an object. Prints as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest that is written so.
    pub fn from_hex(text: &str) -> Option<Digest> {
        let mut digest = [0; 32];
        if text.len() != 2 * digest.len() || !text.is_ascii() {
            return None;
        }
        for (at, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Digest(digest))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What is known of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many bytes.
    pub size: u64,
    /// Their SHA-256.
    pub digest: Digest,
    /// What was said when it was committed.
    pub metadata: Metadata,
}

/// An object being read.
pub struct Blob {
    /// What is known of the whole object.
    pub head: Head,
    /// The wanted bytes, as they are read.
    pub body: Incoming<Bytes>,
}

/// Which bytes are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// From here on.
    pub offset: u64,
    /// At most this many; to the end if not said.
    pub length: Option<u64>,
}

impl Range {
    /// Everything.
    pub const ALL: Range = Range { offset: 0, length: None };
}

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: String,
    /// How many bytes.
    pub size: u64,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The object is stored and survives a crash.
    Created,
    /// The key was taken, by this object; nothing changed.
    Exists(Head),
}

/// Large objects. Keys are parts between `/`; a part is of letters, digits and `._+=@-` and does not begin with a dot,
/// and no key continues another one.
pub trait Blobs: Send + Sync + 'static {
    /// Begins an object. Waits a little while too many others are being staged.
    ///
    /// Whoever knows the key already says it, and the object can then be committed under no other. Stores that cannot
    /// rename spare a copy.
    fn stage<'a>(&'a self, key: Option<&'a str>) -> Answer<'a, Box<dyn Staging>>;

    /// What is known of the object under this key.
    fn head<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Head>>;

    /// The object under this key.
    ///
    /// # Errors
    /// `OutOfRange` when the range begins behind the object's end.
    fn get<'a>(&'a self, key: &'a str, range: Range) -> Answer<'a, Option<Blob>>;

    /// Keys that begin with the prefix and lie behind `after`, ascending by bytes; at most `limit` and
    /// [`LIST_KEYS_MAX`].
    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>, limit: usize) -> Answer<'a, Vec<Listed>>;

    /// Removes the object under this key. Removing what is not there is fine.
    fn delete<'a>(&'a self, key: &'a str) -> Answer<'a, ()>;

    /// Whether the store answers and takes objects.
    fn health(&self) -> Answer<'_, Health>;
}

/// Whether this is a key. Every backend asks this first.
///
/// # Errors
/// `internal`: keys are made by the domain out of checked words.
pub fn check(key: &str) -> Result<&str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._+=@-".contains(&byte);
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(fits);
    if key.len() <= KEY_BYTES_MAX && key.split('/').all(part) {
        Ok(key)
    } else {
        Err(Error::internal(format!("not a blob key: {key:?}")))
    }
}

/// Whether an object may be committed under this key, given the one that was said when it was begun.
///
/// # Errors
/// `internal`: the domain said another one.
pub fn check_announced(announced: Option<&str>, key: &str) -> Result<()> {
    match announced {
        Some(announced) if announced != key => {
            Err(Error::internal(format!("an object begun for {announced:?} is committed under {key:?}")))
        }
        _ => Ok(()),
    }
}

/// An object that arrives. Dropping it leaves nothing behind.
pub trait Staging: Send {
    /// Takes the next bytes. Waits while the store is behind, so that whoever sends is slowed down to its pace.
    ///
    /// # Errors
    /// `storage_full` when there is no room; the object is lost with any error.
    fn write(&mut self, bytes: Bytes) -> Answer<'_, ()>;

    /// Ends the object. When this answers, its bytes survive a crash, though under no key yet.
    fn seal(self: Box<Self>) -> Answer<'static, Box<dyn Staged>>;
}

/// An object that has arrived. Dropping it removes the staged bytes, not what was committed.
pub trait Staged: Send + Sync {
    /// How many bytes arrived.
    fn size(&self) -> u64;

    /// Their SHA-256.
    fn digest(&self) -> Digest;

    /// Stores the object under the key unless that is taken: of two at the same time exactly one creates.
    fn commit<'a>(&'a self, key: &'a str, metadata: Metadata) -> Answer<'a, Committed>;
}
