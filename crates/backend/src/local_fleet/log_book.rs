//! The log of one instance: a ring in memory to read and follow, a file to look into.
//!
//! A newcomer's usual mistake is to let an agent that prints without end fill memory or disk. Both the ring and the file
//! are bounded; what falls out of the ring is gone for readers, and a follower sees the gap in the sequence numbers. The file is
//! written by a follower like others: disks are slow, and whoever logs must not wait for one.
//!
//! *Knows:* entries, the ring, the file. *Does not know:* who writes entries, and why.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{StreamExt, stream};
use portico_base::{Clock, Outgoing};
use portico_port::fleet::{LogEntry, LogLevel, LogQuery, LogSource, log::ENTRY_BYTES_MAX};
use serde_json::json;
use tokio::{io::AsyncBufReadExt, sync::watch, task::spawn_blocking};

/// Most entries in memory: enough to see what led to a failure.
const RING_ENTRIES_MAX: usize = 10_000;
/// Most text in memory, per instance.
const RING_BYTES_MAX: usize = 2 << 20;
/// The file is begun anew when it is this large; one earlier file is kept.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Most entries that a follower takes at a time.
const FOLLOW_ENTRIES_MAX: usize = 256;

/// The log of one instance. Clones share one log.
#[derive(Clone)]
pub(super) struct LogBook(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    pages: Mutex<Pages>,
    /// The last sequence number; followers wait for it to change.
    last: watch::Sender<u64>,
    ended: watch::Sender<bool>,
}

struct Pages {
    ring: VecDeque<LogEntry>,
    bytes: usize,
    next: u64,
}

impl LogBook {
    /// An empty log.
    pub(super) fn new(clock: Arc<dyn Clock>) -> LogBook {
        LogBook(Arc::new(Inner {
            clock,
            pages: Mutex::new(Pages { ring: VecDeque::new(), bytes: 0, next: 1 }),
            last: watch::Sender::new(0),
            ended: watch::Sender::new(false),
        }))
    }

    /// Writes entries to this file too, until the log ends. A file that cannot be written must not stop an agent; the ring
    /// still has the entries.
    pub(super) async fn keep_in(self, path: PathBuf) {
        let mut follower = self.follower(0);
        let Ok(Ok(mut file)) = spawn_blocking(move || LogFile::open(&path)).await else { return };
        while let Some(batch) = follower.next().await {
            let written =
                spawn_blocking(move || batch.iter().try_for_each(|entry| file.append(entry)).map(|()| file)).await;
            let Ok(Ok(kept)) = written else { return };
            file = kept;
        }
    }

    /// Writes an entry.
    pub(super) fn write(&self, level: LogLevel, source: LogSource, message: impl Into<String>) {
        let mut message = message.into();
        cut(&mut message, ENTRY_BYTES_MAX);
        let at = self.0.clock.now();
        let sequence = {
            let mut pages = self.0.pages.lock().unwrap_or_else(PoisonError::into_inner);
            let sequence = pages.next;
            pages.next += 1;
            let entry = LogEntry { sequence, at, level, message, source };
            pages.bytes += entry.message.len();
            pages.ring.push_back(entry);
            while pages.ring.len() > RING_ENTRIES_MAX || pages.bytes > RING_BYTES_MAX {
                let Some(oldest) = pages.ring.pop_front() else { break };
                pages.bytes -= oldest.message.len();
            }
            sequence
        };
        self.0.last.send_replace(sequence);
    }

    /// Writes an entry of the host itself.
    pub(super) fn host(&self, level: LogLevel, message: impl Into<String>) {
        self.write(level, LogSource::Host, message);
    }

    /// Entries, oldest first.
    pub(super) fn list(&self, query: LogQuery) -> Vec<LogEntry> {
        let pages = self.0.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let graver = pages.ring.iter().filter(|entry| entry.level >= query.level);
        graver.skip(query.offset).take(query.limit).cloned().collect()
    }

    /// The latest entry of this level or above, if there is one.
    pub(super) fn latest(&self, level: LogLevel, source: LogSource) -> Option<String> {
        let pages = self.0.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let mut newest_first = pages.ring.iter().rev();
        newest_first.find(|entry| entry.level >= level && entry.source == source).map(|entry| entry.message.clone())
    }

    /// Entries after a sequence number as they come, until the log ends.
    pub(super) fn follow(&self, level: LogLevel, after: u64) -> Outgoing<LogEntry> {
        let batches = stream::unfold(self.follower(after), |mut follower| async move {
            let batch = follower.next().await?;
            Some((stream::iter(batch), follower))
        });
        Box::pin(batches.flatten().filter(move |entry| std::future::ready(entry.level >= level)).map(Ok))
    }

    /// Says that no entry will come any more.
    pub(super) fn end(&self) {
        self.0.ended.send_replace(true);
    }

    /// Writes each line of an agent's output as an entry, until it is closed.
    pub(super) async fn capture(
        self,
        mut output: impl tokio::io::AsyncBufRead + Unpin,
        source: LogSource,
        level: LogLevel,
    ) {
        let mut line: Vec<u8> = Vec::new();
        loop {
            let chunk = match output.fill_buf().await {
                Ok(chunk) if !chunk.is_empty() => chunk,
                // Closed, or broken, which for a pipe is the same.
                _ => break,
            };
            let (taken, complete) = match chunk.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end + 1, true),
                None => (chunk.len(), false),
            };
            line.extend_from_slice(&chunk[..taken - usize::from(complete)]);
            output.consume(taken);
            if complete || line.len() >= ENTRY_BYTES_MAX {
                self.line(&mut line, source, level);
            }
        }
        if !line.is_empty() {
            self.line(&mut line, source, level);
        }
    }

    fn line(&self, line: &mut Vec<u8>, source: LogSource, level: LogLevel) {
        self.write(level, source, String::from_utf8_lossy(line).trim_end_matches('\r'));
        line.clear();
    }

    fn follower(&self, after: u64) -> Follower {
        Follower { book: self.clone(), last: self.0.last.subscribe(), ended: self.0.ended.subscribe(), after }
    }

    fn after(&self, after: u64) -> Vec<LogEntry> {
        let pages = self.0.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let first = pages.ring.partition_point(|entry| entry.sequence <= after);
        pages.ring.iter().skip(first).take(FOLLOW_ENTRIES_MAX).cloned().collect()
    }
}

struct Follower {
    book: LogBook,
    last: watch::Receiver<u64>,
    ended: watch::Receiver<bool>,
    after: u64,
}

impl Follower {
    async fn next(&mut self) -> Option<Vec<LogEntry>> {
        loop {
            // Whether the log has ended is read before the entries, so that the last ones are not missed.
            let ended = *self.ended.borrow_and_update();
            self.last.borrow_and_update();
            let batch = self.book.after(self.after);
            if let Some(newest) = batch.last() {
                self.after = newest.sequence;
                return Some(batch);
            }
            if ended {
                return None;
            }
            // The book is held here, so neither sender can be gone.
            tokio::select! {
                _ = self.last.changed() => {}
                _ = self.ended.changed() => {}
            }
        }
    }
}

struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl LogFile {
    fn open(path: &Path) -> std::io::Result<LogFile> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(LogFile { path: path.to_owned(), file, bytes })
    }

    fn append(&mut self, entry: &LogEntry) -> std::io::Result<()> {
        if self.bytes >= FILE_BYTES_MAX {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
            *self = LogFile::open(&self.path)?;
        }
        let mut line = json!({
            "sequence": entry.sequence,
            "timestamp": entry.at.to_string(),
            "level": entry.level.as_str(),
            "source": entry.source.as_str(),
            "message": entry.message,
        })
        .to_string();
        line.push('\n');
        self.bytes += line.len() as u64;
        self.file.write_all(line.as_bytes())
    }
}

/// Cuts a text to at most this many bytes, between characters.
fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portico_base::clock::{StillClock, Timestamp};

    fn book() -> LogBook {
        LogBook::new(Arc::new(StillClock::at(Timestamp(0))))
    }

    #[tokio::test]
    async fn a_follower_goes_on_where_it_stopped_and_ends_with_the_log() {
        let book = book();
        for line in ["one", "two", "three"] {
            book.host(LogLevel::Info, line);
        }
        let followed = book.follow(LogLevel::Debug, 1);
        book.host(LogLevel::Info, "four");
        book.end();
        let texts: Vec<_> = followed.map(|entry| entry.unwrap().message).collect().await;
        assert_eq!(texts, ["two", "three", "four"]);
    }

    #[tokio::test]
    async fn output_without_line_ends_is_cut_and_the_ring_is_bounded() {
        let book = book();
        let endless = vec![b'x'; RING_BYTES_MAX * 2];
        book.clone().capture(&endless[..], LogSource::Stdout, LogLevel::Info).await;
        let kept = book.list(LogQuery { level: LogLevel::Debug, offset: 0, limit: usize::MAX });
        assert!(kept.iter().all(|entry| entry.message.len() <= ENTRY_BYTES_MAX));
        assert!(kept.iter().map(|entry| entry.message.len()).sum::<usize>() <= RING_BYTES_MAX);
    }
}
