//! A bundle as files on this machine.
//!
//! A newcomer's usual mistake is to unpack into a folder that others can write to. The rules make sure that no entry
//! passes through a link of the same bundle; that nobody else puts links there is up to the owner of the folder.
//!
//! *Knows:* files, folders, links, safe modes. *Does not know:* what a bundle means, or who runs it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink},
    path::{Path, PathBuf},
};

use portico_base::{Code, Error, Result, Retry, reason};

use crate::{Contents, Entries, Entry, Kind, Limits};

/// Copied at once.
const COPY_BYTES: usize = 64 << 10;
/// Folders, and files that may be executed: the owner writes, everybody reads. Other bits of the archive are dropped.
const MODE_EXECUTABLE: u32 = 0o755;
/// Other files.
const MODE_PLAIN: u32 = 0o644;

/// A bundle that lies unpacked.
#[derive(Debug)]
pub struct Unpacked {
    /// The folder that holds it.
    pub root: PathBuf,
    /// What it holds.
    pub contents: Contents,
}

/// Unpacks a bundle into a folder that does not exist yet. Blocks. Reads the archive to its end, so that a reader which
/// hashes on the way has seen all of it. On failure nothing is left.
///
/// # Errors
/// As [`crate::check`], and `storage_full` or `storage_error` when the folder cannot be written.
pub fn unpack(archive: impl Read, into: &Path) -> Result<Unpacked> {
    if let Some(parent) = into.parent() {
        folder(parent)?;
    }
    // Not there yet: what is removed on failure is then surely ours.
    DirBuilder::new().mode(MODE_EXECUTABLE).create(into).map_err(unwritable)?;
    match unpack_all(archive, into) {
        Ok(contents) => Ok(Unpacked { root: into.to_owned(), contents }),
        Err(error) => {
            // The first failure is the one to tell of; a folder that cannot be removed stays for its owner to see.
            let _removed = fs::remove_dir_all(into);
            Err(error)
        }
    }
}

fn unpack_all(archive: impl Read, root: &Path) -> Result<Contents> {
    let mut entries = Entries::new(archive, Limits::default());
    let mut buffer = vec![0; COPY_BYTES];
    while let Some(entry) = entries.next()? {
        let path = root.join(&entry.path);
        let parent = path.parent().filter(|parent| parent.starts_with(root)).unwrap_or(root);
        folder(parent)?;
        match &entry.kind {
            Kind::Directory => folder(&path)?,
            Kind::SymbolicLink { target } => symlink(target, &path).map_err(unwritable)?,
            Kind::HardLink { target } => fs::hard_link(root.join(target), &path).map_err(unwritable)?,
            Kind::File => {
                let mut file = create(&path, &entry)?;
                loop {
                    match entries.read(&mut buffer)? {
                        0 => break,
                        read => file.write_all(&buffer[..read]).map_err(unwritable)?,
                    }
                }
            }
        }
    }
    Ok(entries.contents())
}

fn folder(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(MODE_EXECUTABLE).create(path).map_err(unwritable)
}

/// Creates a file that is not there yet, so that nothing is ever written through a link.
fn create(path: &Path, entry: &Entry) -> Result<File> {
    let mode = if entry.executable { MODE_EXECUTABLE } else { MODE_PLAIN };
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(unwritable)
}

fn unwritable(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::new(Code::ResourceExhausted, reason::STORAGE_FULL, "no room to unpack the bundle")
                .retry(Retry::Safe)
                .caused_by(error)
        }
        _ => Error::new(Code::Unavailable, reason::STORAGE_ERROR, "the bundle could not be unpacked").caused_by(error),
    }
}
