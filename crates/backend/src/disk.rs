//! Blobs as files in a folder: `dev/deployments/echo/1.0.0/echo-1.0.0.tar.gz` is the file of that name.
//!
//! A newcomer's usual mistake is to share the folder between processes. One process owns it, by a lock that the system
//! drops with the process; that is why leftovers in `.staging` can be removed at start.
//!
//! *Knows:* files, links, fsync. *Does not know:* what an object means.

mod files;
mod layout;
mod list;
mod staging;

use std::{
    fs::{self, File},
    io::{self, Seek, SeekFrom},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt};
use portico_base::{Code, Error, Result, Retry, health::Health, reason};
use portico_port::{
    Answer,
    blobs::{Blob, Blobs, Head, LIST_KEYS_MAX, Listed, Range, Staging},
};
use tokio::{io::AsyncReadExt, sync::Semaphore, task};
use tokio_util::io::ReaderStream;

use super::{ownership, private};
use files::refused;
use layout::{Layout, Sidecar};
use staging::{Room, Spool};

/// Most objects staged at the same time. Each holds a thread of the blocking pool, which has 512.
const STAGINGS_MAX: usize = 64;
/// How long a new object waits for a place among those.
const STAGE_WAIT: Duration = Duration::from_secs(10);
/// Most bytes staged at the same time, so that uploads alone cannot fill the disk that everything else lives on.
const STAGED_BYTES_MAX: u64 = 8 << 30;
/// Read at once: few changes of thread, little memory for each reader.
const READ_BYTES: usize = 256 << 10;

/// A folder of objects. Cheap to clone.
#[derive(Clone)]
pub struct Disk(Arc<Inner>);

struct Inner {
    layout: Layout,
    stagings: Arc<Semaphore>,
    room: Arc<Room>,
    /// Held while a key is created or removed, since each is two files.
    keys: Mutex<()>,
    /// None where somebody else owns the folder.
    lock: Option<File>,
}

impl Disk {
    /// Opens the folder, made if it is not there. Blocks.
    ///
    /// # Errors
    /// `FailedPrecondition` when another process owns the folder; `storage_error` when it cannot be used.
    pub fn open(folder: &Path) -> Result<Disk> {
        let layout = Layout::of(folder);
        private::folder(layout.staging()).map_err(|error| refused("make the blob folder", error))?;
        let lock = own(&layout)?;
        empty(layout.staging()).map_err(|error| refused("remove leftovers of uploads", error))?;
        Ok(Disk(Arc::new(Inner {
            layout,
            stagings: Arc::new(Semaphore::new(STAGINGS_MAX)),
            room: Arc::new(Room::new(STAGED_BYTES_MAX)),
            keys: Mutex::new(()),
            lock: Some(lock),
        })))
    }

    /// Opens a folder that another process owns, to read what lies there.
    pub fn open_to_read(folder: &Path) -> Disk {
        Disk(Arc::new(Inner {
            layout: Layout::of(folder),
            stagings: Arc::new(Semaphore::new(0)),
            room: Arc::new(Room::new(0)),
            keys: Mutex::new(()),
            lock: None,
        }))
    }
}

impl Blobs for Disk {
    fn stage<'a>(&'a self, key: Option<&'a str>) -> Answer<'a, Box<dyn Staging>> {
        let announced = key.map(str::to_owned);
        Box::pin(async move {
            self.0.lock.as_ref().ok_or_else(only_read)?;
            let waited = tokio::time::timeout(STAGE_WAIT, Arc::clone(&self.0.stagings).acquire_owned());
            let place = waited.await.map_err(|_| busy())?.map_err(Error::internal)?;
            let spool = Spool::begin(self.clone(), announced, place).await?;
            Ok(Box::new(spool) as Box<dyn Staging>)
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Head>> {
        let (disk, key) = (self.clone(), key.to_owned());
        Box::pin(blocking(move || disk.0.layout.head(&key)))
    }

    fn get<'a>(&'a self, key: &'a str, range: Range) -> Answer<'a, Option<Blob>> {
        let (disk, key) = (self.clone(), key.to_owned());
        Box::pin(async move {
            let Some((head, file)) = blocking(move || disk.open_at(&key, range.offset)).await? else {
                return Ok(None);
            };
            let left = head.size - range.offset;
            let wanted = tokio::fs::File::from_std(file).take(range.length.unwrap_or(left).min(left));
            let body = ReaderStream::with_capacity(wanted, READ_BYTES);
            let body = body.map_err(|error| refused("read an object", error)).boxed();
            Ok(Some(Blob { head, body }))
        })
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>, limit: usize) -> Answer<'a, Vec<Listed>> {
        let (disk, prefix, after) = (self.clone(), prefix.to_owned(), after.unwrap_or_default().to_owned());
        Box::pin(blocking(move || list::keys(&disk.0.layout, &prefix, &after, limit.min(LIST_KEYS_MAX))))
    }

    fn delete<'a>(&'a self, key: &'a str) -> Answer<'a, ()> {
        let (disk, key) = (self.clone(), key.to_owned());
        Box::pin(blocking(move || {
            disk.0.lock.as_ref().ok_or_else(only_read)?;
            disk.remove(&key)
        }))
    }

    fn health(&self) -> Answer<'_, Health> {
        let disk = self.clone();
        Box::pin(blocking(move || {
            if disk.0.lock.is_none() {
                let there = disk.0.layout.root().is_dir();
                return Ok(if there { Health::OK } else { Health::down("the blob folder is not there") });
            }
            let probe = disk.0.layout.staging().join(portico_base::id::random("probe-", 16));
            let tried = File::create_new(&probe).and_then(|_| fs::remove_file(&probe));
            Ok(tried
                .map_or_else(|error| Health::down(format!("the blob folder takes no files: {error}")), |()| Health::OK))
        }))
    }
}

impl Disk {
    fn open_at(&self, key: &str, offset: u64) -> Result<Option<(Head, File)>> {
        let Some(head) = self.0.layout.head(key)? else { return Ok(None) };
        if offset > head.size {
            let message = format!("the object has {} bytes, and {offset} lies behind them", head.size);
            return Err(Error::new(Code::OutOfRange, reason::VALIDATION_FAILED, message));
        }
        let opened = File::open(self.0.layout.content(key)?)
            .and_then(|mut file| file.seek(SeekFrom::Start(offset)).map(|_| file));
        match opened {
            Ok(file) => Ok(Some((head, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refused("read an object", error)),
        }
    }

    fn remove(&self, key: &str) -> Result<()> {
        let (content, sidecar) = (self.0.layout.content(key)?, self.0.layout.sidecar(key)?);
        let _one_at_a_time = files::held(&self.0.keys);
        for file in [content, sidecar] {
            files::remove(&file).map_err(|error| refused("remove an object", error))?;
            files::prune_parents(&file, self.0.layout.root()).map_err(|error| refused("remove an object", error))?;
        }
        Ok(())
    }

    /// Links a staged file to its key. The sidecar is there before the link makes the object visible.
    fn link(&self, staged: &Path, key: &str, sidecar: &Sidecar) -> Result<bool> {
        let layout = &self.0.layout;
        let (content, about) = (layout.content(key)?, layout.sidecar(key)?);
        let _one_at_a_time = files::held(&self.0.keys);
        let linked = || -> io::Result<bool> {
            match fs::metadata(&content) {
                Ok(found) if found.is_file() => return Ok(false),
                // The key is the beginning of another one.
                Ok(_) => return Err(io::ErrorKind::IsADirectory.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            files::make_parents(&about)?;
            files::write_whole(&about, &staged.with_extension("about"), &sidecar.to_json()?)?;
            files::make_parents(&content)?;
            match fs::hard_link(staged, &content) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
                other => other?,
            }
            files::sync_parents(&about, layout.root())?;
            files::sync_parents(&content, layout.root())?;
            Ok(true)
        };
        linked().map_err(|error| refused("store an object", error))
    }
}

/// Runs file work away from the threads that serve calls.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    task::spawn_blocking(work).await.map_err(Error::internal)?
}

fn own(layout: &Layout) -> Result<File> {
    let lock = ownership::take(&layout.lock()).map_err(|error| refused("lock the blob folder", error))?;
    lock.ok_or_else(|| {
        Error::new(Code::FailedPrecondition, reason::STORAGE_UNAVAILABLE, "another process uses this blob folder")
    })
}

fn empty(folder: &Path) -> io::Result<()> {
    fs::read_dir(folder)?.try_for_each(|entry| fs::remove_file(entry?.path()))
}

fn only_read() -> Error {
    Error::new(Code::FailedPrecondition, reason::STORAGE_ERROR, "this process may only read the blob folder")
}

fn busy() -> Error {
    Error::new(Code::Unavailable, reason::STORAGE_UNAVAILABLE, "too many uploads at the same time")
        .retry(Retry::After(STAGE_WAIT))
}
