//! Bundles on this machine: fetched, verified, unpacked, once per digest.
//!
//! A folder that exists is complete: it is made beside its place and renamed. A newcomer's usual mistake is to look a
//! bundle up by type and version alone; other bytes under the same name must never run, so the whole checksum is compared.
//!
//! *Knows:* folders, checksums, manifests. *Does not know:* who runs the code.

use std::{
    collections::HashMap,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest;
use futures_util::StreamExt;
use tokio::task::spawn_blocking;

use super::manifest::Manifest;
use crate::{
    base::{Code, Error, Result, id, reason},
    port::{
        blobs::{Blobs, Range},
        fleet::{Bundle, Cached, failure},
    },
};

/// Holds the whole checksum of what is unpacked beside it.
const CHECKSUM_FILE: &str = "checksum";
/// Holds what was unpacked.
const CODE_FOLDER: &str = "code";
/// Hexadecimal digits of the checksum in a folder's name.
const PREFIX_DIGITS: usize = 8;

/// A bundle that can be run.
#[derive(Debug)]
pub(super) struct Deployed {
    /// Where its files lie.
    pub(super) folder: PathBuf,
    /// What to run.
    pub(super) manifest: Manifest,
}

/// The bundles on this machine.
pub(super) struct Deployments {
    root: PathBuf,
    blobs: Arc<dyn Blobs>,
    ready: Mutex<HashMap<String, (String, Arc<Deployed>)>>,
    /// One fetch at a time: two of the same bundle would do the work twice, and a cold host has one disk and one line.
    fetching: tokio::sync::Mutex<()>,
}

impl Deployments {
    /// The bundles below this folder, which exists.
    pub(super) fn new(root: PathBuf, blobs: Arc<dyn Blobs>) -> Deployments {
        Deployments { root, blobs, ready: Mutex::default(), fetching: tokio::sync::Mutex::default() }
    }

    /// The deployment ids that need no fetching.
    pub(super) fn cached(&self) -> Cached {
        self.with(|ready| ready.values().map(|(id, _)| id.clone()).collect())
    }

    /// The bundle, fetched and unpacked if it is not there.
    pub(super) async fn ensure(&self, bundle: &Bundle) -> Result<Arc<Deployed>> {
        if let Some(deployed) = self.ready(bundle) {
            return Ok(deployed);
        }
        let _turn = self.fetching.lock().await;
        if let Some(deployed) = self.ready(bundle) {
            return Ok(deployed);
        }
        let place = self.place(bundle)?;
        if !complete(&place, &bundle.checksum)? {
            self.fetch(bundle, &place).await?;
        }
        let folder = place.join(CODE_FOLDER);
        let manifest = Manifest::read(&folder)?;
        let deployed = Arc::new(Deployed { folder, manifest });
        let entry = (bundle.deployment_id.clone(), Arc::clone(&deployed));
        self.with(|ready| ready.insert(bundle.checksum.clone(), entry));
        Ok(deployed)
    }

    fn ready(&self, bundle: &Bundle) -> Option<Arc<Deployed>> {
        self.with(|ready| ready.get(&bundle.checksum).map(|(_, deployed)| Arc::clone(deployed)))
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<String, (String, Arc<Deployed>)>) -> T) -> T {
        change(&mut self.ready.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where the bundle lies or will lie. Its names come from outside and become folder names here.
    fn place(&self, bundle: &Bundle) -> Result<PathBuf> {
        let plain = |name: &str| {
            (1..=128).contains(&name.len())
                && !name.starts_with('.')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
        };
        let digits = bundle.checksum.len() == 64 && bundle.checksum.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !plain(&bundle.agent_type) || !plain(&bundle.version) || !digits {
            return Err(failure::undeployable("the deployment's type, version or checksum is malformed"));
        }
        let name = format!("{}-{}", bundle.version, &bundle.checksum[..PREFIX_DIGITS]);
        Ok(self.root.join(&bundle.agent_type).join(name))
    }

    async fn fetch(&self, bundle: &Bundle, place: &Path) -> Result<()> {
        let staging = Staging(self.root.join(id::random(".incoming-", 20)));
        std::fs::create_dir_all(&staging.0).map_err(disk)?;
        let archive = staging.0.join("archive");
        self.download(bundle, &archive).await?;
        let (folder, place, checksum) = (staging.0.clone(), place.to_owned(), bundle.checksum.clone());
        spawn_blocking(move || {
            let code = folder.join(CODE_FOLDER);
            unpack(&archive, &code)?;
            std::fs::remove_file(&archive).map_err(disk)?;
            std::fs::write(folder.join(CHECKSUM_FILE), checksum).map_err(disk)?;
            if let Some(parent) = place.parent() {
                std::fs::create_dir_all(parent).map_err(disk)?;
            }
            std::fs::rename(&folder, &place).map_err(disk)
        })
        .await
        .map_err(failure::broken)?
    }

    /// Fetches the archive and verifies its checksum.
    async fn download(&self, bundle: &Bundle, archive: &Path) -> Result<()> {
        let blob = self.blobs.get(&bundle.blob_key, Range::ALL).await.map_err(unfetched)?;
        let gone = || failure::undeployable("the bundle is gone from the blob store");
        let mut chunks = blob.ok_or_else(gone)?.body;
        let mut file = std::fs::File::create(archive).map_err(disk)?;
        let mut hash = digest::Context::new(&digest::SHA256);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(unfetched)?;
            hash.update(&chunk);
            file = spawn_blocking(move || file.write_all(&chunk).map(|()| file).map_err(disk))
                .await
                .map_err(failure::broken)??;
        }
        if hex(hash.finish().as_ref()) != bundle.checksum.to_ascii_lowercase() {
            return Err(failure::undeployable(
                "the stored bundle is not the one that was uploaded: its checksum differs",
            ));
        }
        Ok(())
    }
}

/// A folder in the making, removed when it does not become anything.
struct Staging(PathBuf);

impl Drop for Staging {
    fn drop(&mut self) {
        // After success it has been renamed, and there is nothing to remove.
        let _renamed = std::fs::remove_dir_all(&self.0).is_err();
    }
}

/// Whether this very bundle lies there.
fn complete(place: &Path, checksum: &str) -> Result<bool> {
    match std::fs::read_to_string(place.join(CHECKSUM_FILE)) {
        Ok(stored) if stored == checksum => Ok(true),
        Ok(_) => Err(failure::undeployable("another bundle with the same name and hash prefix lies on this host")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(disk(error)),
    }
}

/// A store that is away comes back; what it refuses it will refuse again.
fn unfetched(error: Error) -> Error {
    match error.reason() {
        reason::STORAGE_UNAVAILABLE | reason::STORAGE_TIMEOUT => failure::unfetchable(error.report()),
        _ => failure::undeployable("the bundle could not be fetched").caused_by(error.report()),
    }
}

fn disk(error: std::io::Error) -> Error {
    failure::broken(error)
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
        .collect()
}

/// Unpacks the archive. What is wrong with it is the bundle's fault, and told; it was checked when it was uploaded.
fn unpack(archive: &Path, into: &Path) -> Result<()> {
    let file = std::fs::File::open(archive).map_err(disk)?;
    match portico_bundle::unpack(file, into) {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Code::InvalidArgument => {
            Err(failure::undeployable(format!("the bundle cannot be unpacked: {}", error.message())))
        }
        Err(error) => Err(failure::broken(error)),
    }
}
