//! The archive checks, made while the bytes arrive.
//!
//! A newcomer's usual mistake is to read the bundle a second time once it is stored. The checks read from a short queue
//! on a thread of their own; when they find something, the upload hears of it with its next chunk.
//!
//! *Knows:* a queue and a verdict. *Does not know:* the checks.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use portico_base::{Error, Result};
use portico_bundle::{Contents, Limits, check};
use tokio::{
    sync::mpsc,
    task::{self, JoinHandle},
};

/// Chunks between the upload and its checks: enough to overlap the two, few enough to hold little memory.
const CHUNKS_QUEUED_MAX: usize = 2;

/// A bundle under inspection.
pub(super) struct Inspection {
    chunks: mpsc::Sender<Bytes>,
    verdict: JoinHandle<Result<Contents>>,
}

impl Inspection {
    /// Begins to inspect.
    pub(super) fn begin() -> Inspection {
        let (chunks, arriving) = mpsc::channel(CHUNKS_QUEUED_MAX);
        let queue = Queue { arriving, current: Bytes::new() };
        Inspection { chunks, verdict: task::spawn_blocking(move || check(queue, Limits::default())) }
    }

    /// Hands over the next bytes. Waits while the checks are behind.
    ///
    /// # Errors
    /// What the checks have found, once.
    pub(super) async fn feed(&mut self, bytes: Bytes) -> Result<()> {
        if self.chunks.send(bytes).await.is_ok() {
            return Ok(());
        }
        match (&mut self.verdict).await {
            Ok(Err(found)) => Err(found),
            Ok(Ok(_)) => Err(Error::internal("the archive checks ended before the archive")),
            Err(error) => Err(Error::internal(error)),
        }
    }

    /// Ends the bundle and waits for the verdict.
    pub(super) async fn finish(self) -> Result<Contents> {
        drop(self.chunks);
        self.verdict.await.map_err(Error::internal)?
    }
}

/// The queue as something to read from.
struct Queue {
    arriving: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Queue {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.arriving.blocking_recv() {
                Some(chunk) => self.current = chunk,
                None => return Ok(0),
            }
        }
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
