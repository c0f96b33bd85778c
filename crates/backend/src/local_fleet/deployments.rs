//! Bundles on this machine: fetched, verified, unpacked, once per digest, and removed again when there are too many.
//!
//! A folder that exists was complete: it is made beside its place and renamed. After a power loss it need not be so any more,
//! unless it says that it has reached the disk; one that does not is fetched anew. A newcomer's usual mistake is to look a
//! bundle up by type and version alone; other bytes under the same name must never run, so the whole checksum is compared.
//!
//! *Knows:* folders, checksums, manifests. *Does not know:* who runs the code.

mod shelf;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use aws_lc_rs::digest;
use futures_util::StreamExt;
use portico_base::{Code, Error, Result, id, reason, tasks::Tasks};
use portico_port::{
    blobs::{Blobs, Range},
    fleet::{Bundle, Cached, failure},
};
use rustix::fs::{Mode, OFlags};
use tokio::{
    runtime::Handle,
    sync::{OwnedMutexGuard, Semaphore},
    task::spawn_blocking,
};

use self::shelf::Shelf;
use super::{disk, folders, manifest::Manifest};

/// Holds the whole checksum of what is unpacked beside it.
const CHECKSUM_FILE: &str = "checksum";
/// Lies beside it once all of it has reached the disk.
const SYNCED_FILE: &str = "synced";
/// Holds what was fetched, until it is unpacked.
const ARCHIVE_FILE: &str = "archive";
/// Holds what was unpacked.
const CODE_FOLDER: &str = "code";
/// Hexadecimal digits of the checksum in a folder's name.
const PREFIX_DIGITS: usize = 8;
/// Most bundles that are fetched at the same time: a cold host has one disk and one line, but a bundle that is slow to come
/// must not hold up the others.
const FETCHES_MAX: usize = 4;

/// Most bundles that lie unpacked: enough for as many instances as a host runs unless told otherwise, each of another one.
/// Beyond that those go that nobody runs, and all of these when the disk is full.
const BUNDLES_MAX: usize = 64;

/// Removes what a killed gateway was unpacking from the folder of all bundles.
///
/// # Errors
/// When the folder cannot be read.
pub(super) fn sweep(deployments: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(deployments)? {
        let entry = entry?;
        // What cannot be removed now is in the way of nothing, and tried again at the next start.
        if entry.file_name().to_string_lossy().starts_with('.')
            && let Err(error) = folders::remove(&entry.path())
        {
            tracing::warn!(folder = %entry.path().display(), problem = %error, "a bundle in the making cannot be removed");
        }
    }
    Ok(())
}

/// A bundle that can be run.
#[derive(Debug)]
pub(super) struct Deployed {
    /// Where its files lie.
    pub(super) folder: PathBuf,
    /// What to run.
    pub(super) manifest: Manifest,
}

/// Held by whoever fetches a bundle.
type Turn = OwnedMutexGuard<()>;

/// The bundles on this machine.
pub(super) struct Deployments {
    root: PathBuf,
    blobs: Arc<dyn Blobs>,
    tasks: Tasks,
    shelf: Arc<Shelf>,
    /// What whoever fetches a bundle holds, by its place: two of the same would do the work twice.
    turns: Mutex<HashMap<PathBuf, Weak<tokio::sync::Mutex<()>>>>,
    fetching: Semaphore,
}

impl Deployments {
    /// The bundles below this folder, which exists.
    pub(super) fn new(root: PathBuf, blobs: Arc<dyn Blobs>, tasks: Tasks) -> Deployments {
        let (shelf, turns, fetching) = (Arc::default(), Mutex::default(), Semaphore::new(FETCHES_MAX));
        Deployments { root, blobs, tasks, shelf, turns, fetching }
    }

    /// The deployment ids that need no fetching.
    pub(super) fn cached(&self) -> Cached {
        self.shelf.ids()
    }

    /// The bundle, fetched and unpacked if it is not there. May be dropped at any time. It stays for as long as what is
    /// answered is held.
    pub(super) async fn ensure(&self, bundle: &Bundle) -> Result<Arc<Deployed>> {
        if let Some(deployed) = self.shelf.take(&bundle.checksum) {
            return Ok(deployed);
        }
        let brought = self.bring(bundle).await;
        let is_full = brought.as_ref().is_err_and(|error| error.reason() == reason::STORAGE_FULL);
        if is_full && self.keep(0).await? > 0 {
            return self.bring(bundle).await;
        }
        brought
    }

    async fn bring(&self, bundle: &Bundle) -> Result<Arc<Deployed>> {
        let place = self.place(bundle)?;
        let mut turn = self.turn(&place).lock_owned().await;
        if let Some(deployed) = self.shelf.take(&bundle.checksum) {
            return Ok(deployed);
        }
        let _one_of_few = self.fetching.acquire().await.map_err(failure::broken)?;
        let (there, checksum) = (place.clone(), bundle.checksum.clone());
        let is_new = !blocking(move || complete(&there, &checksum)).await?;
        if is_new {
            turn = self.fetch(bundle, &place, turn).await?;
        }
        let folder = place.join(CODE_FOLDER);
        let deployed = blocking(move || Ok(Deployed { manifest: Manifest::read(&folder)?, folder })).await?;
        let deployed = self.shelf.put(&bundle.checksum, &bundle.deployment_id, place, deployed);
        if is_new && let Err(error) = self.keep(BUNDLES_MAX).await {
            tracing::warn!(problem = error.report(), "there may be more bundles than there should");
        }
        drop(turn);
        Ok(deployed)
    }

    /// Removes bundles that nobody runs or fetches, the least recently used first, until there are no more than this many.
    /// Answers how many it removed.
    async fn keep(&self, most: usize) -> Result<usize> {
        let (shelf, root) = (Arc::clone(&self.shelf), self.root.clone());
        let places = blocking(move || shelf.places(&root).map_err(disk)).await?;
        let (surplus, mut removed) = (places.len().saturating_sub(most), 0);
        for place in places {
            if removed >= surplus {
                break;
            }
            let Ok(turn) = self.turn(&place).try_lock_owned() else { continue };
            if !self.shelf.gives_up(&place) {
                continue;
            }
            let aside = Staging::in_folder(&self.root);
            let gone = blocking(move || {
                // Out of its place in one step, so that half of it is never taken for all of it.
                std::fs::rename(&place, &aside.0).map_err(disk)?;
                drop(turn);
                aside.remove();
                Ok(())
            });
            match gone.await {
                Ok(()) => removed += 1,
                Err(error) => tracing::warn!(problem = error.report(), "a bundle that nobody uses cannot be removed"),
            }
        }
        Ok(removed)
    }

    /// What whoever fetches the bundle of this place holds.
    fn turn(&self, place: &Path) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(place).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        turns.insert(place.to_owned(), Arc::downgrade(&turn));
        turn
    }

    /// Where the bundle lies or will lie. Its names come from outside and become folder names here.
    fn place(&self, bundle: &Bundle) -> Result<PathBuf> {
        let plain = |name: &str| {
            (1..=128).contains(&name.len())
                && !name.starts_with('.')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
        };
        if !plain(&bundle.agent_type) || !plain(&bundle.version) || !is_checksum(&bundle.checksum) {
            return Err(failure::undeployable("the deployment's type, version or checksum is malformed"));
        }
        let name = format!("{}-{}", bundle.version, &bundle.checksum[..PREFIX_DIGITS]);
        Ok(self.root.join(&bundle.agent_type).join(name))
    }

    async fn fetch(&self, bundle: &Bundle, place: &Path, turn: Turn) -> Result<Turn> {
        let staging = Staging::in_folder(&self.root);
        let (folder, archive) = (staging.0.clone(), staging.0.join(ARCHIVE_FILE));
        let file = blocking(move || {
            std::fs::create_dir(&folder).map_err(disk)?;
            File::create(&archive).map_err(disk)
        });
        if let Err(error) = self.download(bundle, file.await?).await {
            // Before anybody looks for room.
            let removed = blocking(move || {
                staging.remove();
                Ok(())
            });
            removed.await?;
            return Err(error);
        }
        let (root, there, checksum) = (self.root.clone(), place.to_owned(), bundle.checksum.clone());
        // Unpacking goes on when nobody waits for it any more. Folder and turn go with it, so that nobody gets in its way.
        let turn = blocking(move || staging.unpacked_to(&there, &checksum, &root).map(|()| turn)).await?;
        self.tasks.spawn(synced(place.to_owned()));
        Ok(turn)
    }

    /// Fetches the archive and verifies its checksum.
    async fn download(&self, bundle: &Bundle, mut file: File) -> Result<()> {
        let blob = self.blobs.get(&bundle.blob_key, Range::ALL).await.map_err(unfetched)?;
        let gone = || failure::undeployable("the bundle is gone from the blob store");
        let mut chunks = blob.ok_or_else(gone)?.body;
        let mut hash = digest::Context::new(&digest::SHA256);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(unfetched)?;
            hash.update(&chunk);
            file = blocking(move || file.write_all(&chunk).map(|()| file).map_err(disk)).await?;
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

impl Staging {
    fn in_folder(root: &Path) -> Staging {
        Staging(root.join(id::random(".incoming-", 20)))
    }

    /// Unpacks the archive and puts it into its place.
    fn unpacked_to(self, place: &Path, checksum: &str, root: &Path) -> Result<()> {
        let unpacked = self.try_unpacked_to(place, checksum, root);
        self.remove();
        unpacked
    }

    fn try_unpacked_to(&self, place: &Path, checksum: &str, root: &Path) -> Result<()> {
        let archive = self.0.join(ARCHIVE_FILE);
        unpack(&archive, &self.0.join(CODE_FOLDER))?;
        std::fs::remove_file(&archive).map_err(disk)?;
        std::fs::write(self.0.join(CHECKSUM_FILE), checksum).map_err(disk)?;
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent).map_err(disk)?;
        }
        // What lies there is not whole, or it would be used.
        let aside = Staging::in_folder(root);
        match std::fs::rename(place, &aside.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(disk(error)),
            _ => {}
        }
        std::fs::rename(&self.0, place).map_err(disk)
    }

    /// Removes what is left of it, which is nothing when it was renamed. What stays is swept up at the next start. Blocks.
    fn remove(mut self) {
        let _removed = folders::remove(&std::mem::take(&mut self.0)).is_ok();
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let folder = std::mem::take(&mut self.0);
        if folder.as_os_str().is_empty() {
            return;
        }
        let remove = move || {
            let _removed = folders::remove(&folder).is_ok();
        };
        // Up to 100,000 files are nothing for a thread that serves calls.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// Whether this very bundle lies there, and has reached the disk.
fn complete(place: &Path, checksum: &str) -> Result<bool> {
    match std::fs::read_to_string(place.join(CHECKSUM_FILE)) {
        Ok(stored) if stored == checksum => place.join(SYNCED_FILE).try_exists().map_err(disk),
        Ok(stored) if is_checksum(&stored) => {
            Err(failure::undeployable("another bundle with the same name and hash prefix lies on this host"))
        }
        // Nothing, or what a power loss left of it.
        Ok(_) => Ok(false),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(false),
        Err(error) => Err(disk(error)),
    }
}

/// Brings a bundle onto the disk, and says so beside it. Agents that run it need not wait: if it is lost before, it is fetched
/// anew.
async fn synced(place: PathBuf) {
    let synced = blocking(move || {
        let folder = File::open(&place).map_err(disk)?;
        sync(&folder).map_err(disk)?;
        // Into this very folder: another one may have taken its place.
        let (flags, mode) = (OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
        rustix::fs::openat(&folder, SYNCED_FILE, flags, mode).map_err(|error| disk(error.into()))?;
        Ok(())
    });
    if let Err(error) = synced.await {
        tracing::warn!(problem = error.report(), "a bundle will be fetched anew when the host starts again");
    }
}

/// One question for all files of the disk: one for each of 100,000 would take minutes.
#[cfg(target_os = "linux")]
fn sync(folder: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(folder)?)
}

#[cfg(not(target_os = "linux"))]
fn sync(_folder: &File) -> io::Result<()> {
    rustix::fs::sync();
    Ok(())
}

fn is_checksum(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.map_err(failure::broken)?
}

/// A store that is away comes back; what it refuses it will refuse again.
fn unfetched(error: Error) -> Error {
    match error.reason() {
        reason::STORAGE_UNAVAILABLE | reason::STORAGE_TIMEOUT => failure::unfetchable(error.report()),
        _ => failure::undeployable("the bundle could not be fetched").caused_by(error.report()),
    }
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
    let file = File::open(archive).map_err(disk)?;
    match portico_bundle::unpack(file, into) {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Code::InvalidArgument => {
            Err(failure::undeployable(format!("the bundle cannot be unpacked: {}", error.message())))
        }
        Err(error) if error.reason() == reason::STORAGE_FULL => Err(failure::disk_full(error)),
        Err(error) => Err(failure::broken(error)),
    }
}
