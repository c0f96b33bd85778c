//! Where things lie in the folder, and what a sidecar says.
//!
//! ```text
//! .lock             held by the process that owns the folder
//! .staging/{id}     an object that arrives
//! .about/{key}      what is known of an object, as JSON
//! {key}             the object
//! ```
//!
//! *Knows:* paths of keys. *Does not know:* who writes or reads them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};
use portico_base::Result;
use portico_port::blobs::{self, Digest, Head, Metadata};
use serde::{Deserialize, Serialize};

use super::files::refused;
use crate::sha256::finished;

/// Read at once where an object is hashed anew.
const HASH_BYTES: usize = 64 << 10;

/// The paths of one folder.
pub(super) struct Layout {
    root: PathBuf,
    staging: PathBuf,
    about: PathBuf,
}

impl Layout {
    pub(super) fn of(folder: &Path) -> Layout {
        let root = folder.to_owned();
        Layout { staging: root.join(".staging"), about: root.join(".about"), root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn staging(&self) -> &Path {
        &self.staging
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.root.join(".lock")
    }

    /// The file of an object.
    pub(super) fn content(&self, key: &str) -> Result<PathBuf> {
        blobs::check(key).map(|key| self.root.join(key))
    }

    /// The file that tells of an object.
    pub(super) fn sidecar(&self, key: &str) -> Result<PathBuf> {
        blobs::check(key).map(|key| self.about.join(key))
    }

    /// What is known of an object.
    pub(super) fn head(&self, key: &str) -> Result<Option<Head>> {
        let (content, sidecar) = (self.content(key)?, self.sidecar(key)?);
        let found = || -> io::Result<Option<Head>> {
            let size = match fs::metadata(&content) {
                Ok(found) if found.is_file() => found.len(),
                Ok(_) => return Ok(None),
                Err(error) if is_absent(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            let told = match fs::read(&sidecar) {
                Ok(text) => serde_json::from_slice::<Sidecar>(&text).ok().and_then(|sidecar| sidecar.head()),
                Err(error) if is_absent(&error) => None,
                Err(error) => return Err(error),
            };
            match told.filter(|head| head.size == size) {
                Some(head) => Ok(Some(head)),
                // The sidecar is lost, for example in a backup that left out hidden files. The object says it all.
                None => Ok(Some(Head { size, digest: hash(&content)?, metadata: Metadata::new() })),
            }
        };
        found().map_err(|error| refused("read an object", error))
    }
}

/// What is written beside an object.
#[derive(Serialize, Deserialize)]
pub(super) struct Sidecar {
    size: u64,
    sha256: String,
    metadata: BTreeMap<String, String>,
}

impl Sidecar {
    pub(super) fn new(size: u64, digest: Digest, metadata: Metadata) -> Sidecar {
        Sidecar { size, sha256: digest.to_string(), metadata }
    }

    pub(super) fn to_json(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    fn head(self) -> Option<Head> {
        let digest = Digest::from_hex(&self.sha256)?;
        Some(Head { size: self.size, digest, metadata: self.metadata })
    }
}

fn hash(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; HASH_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(finished(context)),
            read => context.update(&buffer[..read]),
        }
    }
}

/// Nothing there, or a file where the path needs a folder.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
