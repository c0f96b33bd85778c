//! File work that survives a crash.
//!
//! A newcomer's usual mistake is to sync the file alone. A new name lives in its folder, and a new folder in the one
//! above: each has to be synced, or the name may be gone after a power cut.
//!
//! *Knows:* files and folders. *Does not know:* keys.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use portico_base::{Code, Error, Retry, reason};

/// Objects are for this process alone to read.
const MODE: u32 = 0o600;

/// A new file that nobody else can read.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)
}

/// Makes a small file appear whole or not at all, in place of what was there.
pub(super) fn write_whole(path: &Path, draft: &Path, content: &[u8]) -> io::Result<()> {
    remove(draft)?;
    let mut file = create(draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(draft, path)
}

pub(super) fn make_parents(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

/// Syncs every folder from the file's up to the root.
pub(super) fn sync_parents(path: &Path, root: &Path) -> io::Result<()> {
    let parents = path.ancestors().skip(1).take_while(|parent| parent.starts_with(root));
    parents.into_iter().try_for_each(|parent| File::open(parent)?.sync_all())
}

/// Removes the folders above the file that have become empty, and syncs the first one that has not.
pub(super) fn prune_parents(path: &Path, root: &Path) -> io::Result<()> {
    for parent in path.ancestors().skip(1).take_while(|parent| parent.starts_with(root)) {
        let removed =
            if parent == root { Err(io::ErrorKind::DirectoryNotEmpty.into()) } else { fs::remove_dir(parent) };
        match removed {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return File::open(parent)?.sync_all(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes a file. That it is not there is fine.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The lock guards files, not memory, so that one who panicked with it has broken nothing.
pub(super) fn held(lock: &Mutex<()>) -> MutexGuard<'_, ()> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the disk's refusal means to whoever asked.
pub(super) fn refused(doing: &'static str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => full().caused_by(error),
        _ => Error::new(Code::Unavailable, reason::STORAGE_ERROR, format!("the blob store could not {doing}"))
            .retry(Retry::Safe)
            .caused_by(error),
    }
}

/// There is no room.
pub(super) fn full() -> Error {
    Error::new(Code::ResourceExhausted, reason::STORAGE_FULL, "the disk for uploads is full").retry(Retry::Safe)
}
