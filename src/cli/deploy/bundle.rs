//! The bytes of a bundle: an archive as it is, or a folder packed so that the same files give the same bytes.
//!
//! A newcomer's usual mistake is to keep times, owners and the order of the directory. A version is immutable and known
//! by its digest: the same files must give the same archive on every machine, or repeating a deployment is a conflict.
//!
//! *Knows:* tar, gzip, files. *Does not know:* what an agent is.

use std::{
    fs::{self, File},
    io::{self, BufReader, ErrorKind, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use flate2::{Compression, GzBuilder, read::MultiGzDecoder};
use tar::{Archive, Builder, EntryType, Header};
use tokio::sync::mpsc::Sender;

use super::{ChunkError, Failure};

/// Small enough for any limit on messages, large enough not to matter.
const CHUNK_BYTES: usize = 128 << 10;
/// What the gateway takes at most; a folder beyond it was named by mistake.
const ENTRIES_MAX: usize = 100_000;
/// Left out: caches that differ between machines, and history.
const LEFT_OUT: [&str; 4] = [".git", "__pycache__", ".DS_Store", ".portico"];

/// Where a bundle comes from.
pub(super) enum Source {
    /// An archive and its size.
    Archive(PathBuf, u64),
    /// A folder with its entries in order, and the size of its files.
    Folder(PathBuf, Vec<Entry>, u64),
}

/// Something in a folder.
pub(super) struct Entry {
    /// Relative to the folder.
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    Directory,
    File { bytes: u64, executable: bool },
    Link(PathBuf),
}

impl Source {
    /// Looks at what is there.
    pub(super) fn at(path: &Path) -> Result<Source, Failure> {
        let failed = |error: io::Error| Failure::system(&path.display().to_string(), &error);
        let metadata = fs::metadata(path).map_err(failed)?;
        if !metadata.is_dir() {
            if !is_gzip(path).map_err(failed)? {
                let problem = format!("{} is neither a folder nor a .tar.gz file", path.display());
                return Err(Failure::usage(format!(
                    "{problem}: name the folder that holds agent.json, or an archive of it"
                )));
            }
            return Ok(Source::Archive(path.to_owned(), metadata.len()));
        }
        let mut entries = Vec::new();
        walk(path, Path::new(""), &mut entries).map_err(failed)?;
        let bytes = entries.iter().map(|entry| if let Kind::File { bytes, .. } = entry.kind { bytes } else { 0 }).sum();
        Ok(Source::Folder(path.to_owned(), entries, bytes))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        match self {
            Source::Archive(path, _) | Source::Folder(path, ..) => path,
        }
    }

    /// How many bytes will be read.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Source::Archive(_, bytes) | Source::Folder(_, _, bytes) => *bytes,
        }
    }

    /// Reads one file at the root of the bundle. False when it is not there.
    pub(super) fn read(&self, name: &str, mut read: impl FnMut(&mut dyn Read) -> io::Result<()>) -> io::Result<bool> {
        match self {
            Source::Folder(root, ..) => match File::open(root.join(name)) {
                Ok(mut file) => read(&mut file).map(|()| true),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            },
            Source::Archive(path, _) => {
                let mut archive = Archive::new(MultiGzDecoder::new(BufReader::new(File::open(path)?)));
                for entry in archive.entries()? {
                    let mut entry = entry?;
                    let is_it = entry.path()?.components().eq(Path::new(name).components())
                        || entry.path()?.strip_prefix(".").is_ok_and(|path| path == Path::new(name));
                    if is_it {
                        return read(&mut entry).map(|()| true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// Sends the archive in chunks and counts what was read. Blocks while the receiver has enough.
    ///
    /// The receiver hears of a failure too, so that it does not take a part for the whole.
    pub(super) fn write(&self, sender: &Sender<Result<Bytes, ChunkError>>, read: &AtomicU64) -> io::Result<()> {
        let result = self.write_all(Chunks { sender, chunk: Vec::with_capacity(CHUNK_BYTES) }, read);
        if let Err(error) = &result {
            // When nobody receives any more, there is nobody to tell.
            let _told = sender.blocking_send(Err(io::Error::new(error.kind(), error.to_string()))).is_ok();
        }
        result
    }

    fn write_all(&self, mut out: impl Write, read: &AtomicU64) -> io::Result<()> {
        match self {
            Source::Archive(path, bytes) => {
                io::copy(&mut Counted { file: File::open(path)?, read, left: *bytes }, &mut out)?;
                out.flush()
            }
            Source::Folder(root, entries, _) => {
                // Without a time and a name in its head, gzip adds nothing of this machine.
                let mut archive = Builder::new(GzBuilder::new().mtime(0).write(out, Compression::default()));
                for entry in entries {
                    append(&mut archive, root, entry, read)?;
                }
                archive.into_inner()?.finish()?.flush()
            }
        }
    }
}

/// Whether a file begins as gzip does.
fn is_gzip(path: &Path) -> io::Result<bool> {
    const MAGIC: [u8; 2] = [0x1f, 0x8b];
    let mut head = Vec::with_capacity(MAGIC.len());
    File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut head)?;
    Ok(head == MAGIC)
}

/// Everything below a folder, in the order of names.
fn walk(root: &Path, below: &Path, entries: &mut Vec<Entry>) -> io::Result<()> {
    let mut names: Vec<_> =
        fs::read_dir(root.join(below))?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?;
    names.retain(|name| !LEFT_OUT.iter().any(|left_out| name == left_out));
    names.sort();
    for name in names {
        let path = below.join(name);
        let full = root.join(&path);
        let metadata = fs::symlink_metadata(&full)?;
        let kind = if metadata.is_symlink() {
            Kind::Link(fs::read_link(&full)?)
        } else if metadata.is_dir() {
            Kind::Directory
        } else if metadata.is_file() {
            Kind::File { bytes: metadata.len(), executable: metadata.permissions().mode() & 0o111 != 0 }
        } else {
            return Err(io::Error::other(format!("{} is neither file, folder nor link", path.display())));
        };
        let descend = matches!(kind, Kind::Directory);
        entries.push(Entry { path: path.clone(), kind });
        if entries.len() > ENTRIES_MAX {
            return Err(io::Error::other(format!("there are more than {ENTRIES_MAX} entries")));
        }
        if descend {
            walk(root, &path, entries)?;
        }
    }
    Ok(())
}

fn append(archive: &mut Builder<impl Write>, root: &Path, entry: &Entry, read: &AtomicU64) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    match &entry.kind {
        Kind::Directory => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
            archive.append_data(&mut header, &entry.path, io::empty())
        }
        Kind::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            archive.append_link(&mut header, &entry.path, target)
        }
        Kind::File { bytes, executable } => {
            header.set_mode(if *executable { 0o755 } else { 0o644 });
            header.set_size(*bytes);
            let file = Counted { file: File::open(root.join(&entry.path))?, read, left: *bytes };
            archive.append_data(&mut header, &entry.path, file)
        }
    }
}

/// A file that is exactly as long as it was when it was looked at: the archive's head has promised that.
struct Counted<'a> {
    file: File,
    read: &'a AtomicU64,
    left: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let changed = || io::Error::other("a file changed while it was packed");
        let count = self.file.read(buffer)?;
        let bytes = count as u64;
        if count == 0 && !buffer.is_empty() && self.left > 0 {
            return Err(changed());
        }
        self.left = self.left.checked_sub(bytes).ok_or_else(changed)?;
        self.read.fetch_add(bytes, Ordering::Relaxed);
        Ok(count)
    }
}

/// Collects bytes into chunks and sends them.
struct Chunks<'a> {
    sender: &'a Sender<Result<Bytes, ChunkError>>,
    chunk: Vec<u8>,
}

impl Chunks<'_> {
    fn send(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        self.sender.blocking_send(Ok(chunk.into())).map_err(|_| io::Error::from(ErrorKind::BrokenPipe))
    }
}

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK_BYTES {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

#[cfg(test)]
mod tests;
