//! Bundles: a small one at once, and a large one that is made while it is read.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

const CHUNK_BYTES: usize = 1 << 20;

/// A bundle with one file.
pub(super) fn bundle(content: &str) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&header("agent.json", content.len())).unwrap();
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.write_all(&vec![0; content.len().next_multiple_of(512) - content.len() + 1_024]).unwrap();
    encoder.finish().unwrap().into()
}

/// The chunks of a bundle with one file of so many chunks, each counted while it lives.
pub(super) fn chunks(count: usize, living: &Living) -> impl Iterator<Item = Bytes> + Send + 'static {
    let living = living.clone();
    let mut encoder = Some(GzEncoder::new(Vec::new(), Compression::none()));
    let mut written = 0;
    std::iter::from_fn(move || {
        let mut writing = encoder.take()?;
        if written == 0 {
            writing.write_all(&header("large", count * CHUNK_BYTES)).unwrap();
        }
        if written == count {
            writing.write_all(&[0; 1_024]).unwrap();
            return Some(living.counted(writing.finish().unwrap()));
        }
        writing.write_all(&vec![u8::try_from(written % 251).unwrap(); CHUNK_BYTES]).unwrap();
        written += 1;
        let chunk = std::mem::take(writing.get_mut());
        encoder = Some(writing);
        Some(living.counted(chunk))
    })
}

/// How many bytes of chunks are alive, and the most there ever were.
#[derive(Clone, Default)]
pub(super) struct Living {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Living {
    pub(super) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    fn counted(&self, bytes: Vec<u8>) -> Bytes {
        let now = self.now.fetch_add(bytes.len(), Ordering::SeqCst) + bytes.len();
        self.most.fetch_max(now, Ordering::SeqCst);
        Bytes::from_owner(Counted { bytes, living: self.clone() })
    }
}

struct Counted {
    bytes: Vec<u8>,
    living: Living,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.living.now.fetch_sub(self.bytes.len(), Ordering::SeqCst);
    }
}

/// A tar header of a regular file.
fn header(path: &str, size: usize) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, path);
    put(100, "0000644\0");
    put(124, &format!("{size:011o}\0"));
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
