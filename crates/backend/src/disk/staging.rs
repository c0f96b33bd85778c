//! An object on its way in: one thread hashes and writes what a short queue brings.
//!
//! A newcomer's usual mistake is to hand every chunk to the blocking pool anew. One task per object is begun, and the
//! queue's bound is what slows the sender down.
//!
//! *Knows:* the staged file and its fate. *Does not know:* keys and what is stored under them.

use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use portico_base::{Code, Error, Result, id, reason};
use portico_port::{
    Answer,
    blobs::{self, Committed, Digest, Metadata, Staged, Staging},
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::{self, JoinHandle},
};

use super::{
    Disk, blocking,
    files::{self, full, refused},
    layout::Sidecar,
};
use crate::sha256::finished;

/// Chunks between sender and disk: enough to overlap the two, few enough to hold little memory.
const CHUNKS_QUEUED_MAX: usize = 2;

/// How many bytes all staged objects may take together.
pub(super) struct Room {
    taken: AtomicU64,
    bytes_max: u64,
}

impl Room {
    pub(super) fn new(bytes_max: u64) -> Room {
        Room { taken: AtomicU64::new(0), bytes_max }
    }
}

/// An object that arrives.
pub(super) struct Spool {
    disk: Disk,
    announced: Option<String>,
    steps: mpsc::Sender<Step>,
    writer: Option<JoinHandle<Result<Sealed>>>,
}

enum Step {
    Write(Bytes),
    Seal,
}

impl Spool {
    /// Begins an object in one of the limited places.
    pub(super) async fn begin(disk: Disk, announced: Option<String>, place: OwnedSemaphorePermit) -> Result<Spool> {
        let (steps, arriving) = mpsc::channel(CHUNKS_QUEUED_MAX);
        let path = disk.0.layout.staging().join(id::random("", 24));
        let room = Arc::clone(&disk.0.room);
        let (draft, file) = blocking(move || Draft::create(path, room, place)).await?;
        let writer = task::spawn_blocking(move || receive(arriving, draft, file));
        Ok(Spool { disk, announced, steps, writer: Some(writer) })
    }

    /// Why the writer has ended before it was told to.
    async fn failure(&mut self) -> Error {
        match self.writer.take() {
            None => Error::internal("an object is written to after it failed"),
            Some(writer) => match writer.await {
                Ok(Err(error)) => error,
                Ok(Ok(_)) => Error::internal("the writer of an object ended early"),
                Err(error) => Error::internal(error),
            },
        }
    }
}

impl Staging for Spool {
    fn write(&mut self, bytes: Bytes) -> Answer<'_, ()> {
        Box::pin(async move {
            match self.steps.send(Step::Write(bytes)).await {
                Ok(()) => Ok(()),
                Err(_) => Err(self.failure().await),
            }
        })
    }

    fn seal(mut self: Box<Self>) -> Answer<'static, Box<dyn Staged>> {
        Box::pin(async move {
            if self.steps.send(Step::Seal).await.is_err() {
                return Err(self.failure().await);
            }
            let writer = self.writer.take().ok_or_else(|| Error::internal("an object is sealed after it failed"))?;
            let sealed = writer.await.map_err(Error::internal)??;
            Ok(
                Box::new(Arrived {
                    disk: self.disk.clone(),
                    announced: self.announced.take(),
                    sealed: Arc::new(sealed),
                }) as Box<dyn Staged>,
            )
        })
    }
}

/// The writer's whole life.
fn receive(mut arriving: mpsc::Receiver<Step>, mut draft: Draft, mut file: File) -> Result<Sealed> {
    let mut context = Context::new(&SHA256);
    while let Some(step) = arriving.blocking_recv() {
        match step {
            Step::Write(bytes) => {
                draft.take_room(bytes.len() as u64)?;
                context.update(&bytes);
                file.write_all(&bytes).map_err(|error| refused("write an upload", error))?;
            }
            Step::Seal => {
                file.sync_all().map_err(|error| refused("write an upload", error))?;
                return Ok(Sealed { digest: finished(context), draft });
            }
        }
    }
    // The sender is gone without a word. Nobody reads this; the draft removes its file.
    Err(Error::new(Code::Canceled, reason::CANCELED, "the upload was abandoned"))
}

/// A staged file. Removed when dropped.
struct Draft {
    path: PathBuf,
    size: u64,
    room: Arc<Room>,
    _place: OwnedSemaphorePermit,
}

impl Draft {
    fn create(path: PathBuf, room: Arc<Room>, place: OwnedSemaphorePermit) -> Result<(Draft, File)> {
        let file = files::create(&path).map_err(|error| refused("begin an upload", error))?;
        Ok((Draft { path, size: 0, room, _place: place }, file))
    }

    fn take_room(&mut self, bytes: u64) -> Result<()> {
        self.size += bytes;
        let taken = self.room.taken.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if taken > self.room.bytes_max { Err(full()) } else { Ok(()) }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.size, Ordering::Relaxed);
        if let Err(error) = files::remove(&self.path) {
            tracing::warn!(%error, "a staged upload could not be removed; the next start removes it");
        }
    }
}

/// What the writer has written.
struct Sealed {
    digest: Digest,
    draft: Draft,
}

/// An object that has arrived.
struct Arrived {
    disk: Disk,
    announced: Option<String>,
    sealed: Arc<Sealed>,
}

impl Staged for Arrived {
    fn size(&self) -> u64 {
        self.sealed.draft.size
    }

    fn digest(&self) -> Digest {
        self.sealed.digest
    }

    fn commit<'a>(&'a self, key: &'a str, metadata: Metadata) -> Answer<'a, Committed> {
        let (disk, sealed, key) = (self.disk.clone(), Arc::clone(&self.sealed), key.to_owned());
        if let Err(error) = blobs::check_announced(self.announced.as_deref(), &key) {
            return Box::pin(async { Err(error) });
        }
        Box::pin(blocking(move || {
            let sidecar = Sidecar::new(sealed.draft.size, sealed.digest, metadata);
            // A key that is taken and then freed between the two steps is free again, so try again.
            loop {
                if disk.link(&sealed.draft.path, &key, &sidecar)? {
                    return Ok(Committed::Created);
                }
                if let Some(head) = disk.0.layout.head(&key)? {
                    return Ok(Committed::Exists(head));
                }
            }
        }))
    }
}
