//! Durable facts in one SQLite file.
//!
//! A newcomer's usual mistake is to open a connection at the call site. SQLite has one writer at a time, so one thread
//! writes and puts all commits that wait into one transaction: a hundred callers share one `fsync`. A few threads read.
//! Nothing here blocks the runtime.
//!
//! *Knows:* the records port, SQL, files. *Does not know:* what a record means.

mod migrations;
mod readers;
mod rows;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use portico_base::{Clock, Error, Result, health::Health, id, reason};
use portico_port::{
    Answer,
    records::{self, Archive, Entry, Query, Record, Records, Write},
};
use rusqlite::Connection;
use tokio::time::timeout;

use self::{readers::Readers, writer::Writer};
use super::private;

/// The file in the data directory.
const FILE_NAME: &str = "records.db";
/// How long one connection waits for another to let go of the file; only migrations of a second process hold it long.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// How long a health question may take before the store counts as down.
const HEALTH_WAIT: Duration = Duration::from_secs(1);
/// Statements that one connection keeps prepared; there are about a dozen.
const PREPARED_STATEMENTS_MAX: usize = 32;

/// Records in one SQLite file. Cheap to clone; the last clone closes it.
#[derive(Clone)]
pub struct Sqlite(Arc<Inner>);

struct Inner {
    writer: Writer,
    readers: Readers,
    // Dropped last, when the threads have lost their queues.
    _directory: Option<TemporaryDirectory>,
}

/// When a commit counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    /// When the disk has it.
    Disk,
    /// When the operating system has it; for stores that do not outlive the process.
    System,
}

impl Sqlite {
    /// Opens or makes `records.db` in this directory, and brings it to the current layout.
    ///
    /// # Errors
    /// `records_unavailable` when the directory cannot be written, or the file is damaged or from a newer Portico.
    pub fn open(directory: &Path, clock: Arc<dyn Clock>) -> Result<Sqlite> {
        private::folder(directory).map_err(|error| {
            let message = format!("the data directory {} cannot be made", directory.display());
            Error::unavailable(reason::RECORDS_UNAVAILABLE, message, error)
        })?;
        Sqlite::start(directory, clock, Durability::Disk, None)
    }

    /// A store in a directory of its own that is removed with the last clone.
    ///
    /// # Errors
    /// As [`Sqlite::open`].
    pub fn temporary(clock: Arc<dyn Clock>) -> Result<Sqlite> {
        let path = std::env::temp_dir().join(id::random("portico-", 20));
        std::fs::create_dir_all(&path)
            .map_err(|error| Error::unavailable(reason::RECORDS_UNAVAILABLE, "no temporary directory", error))?;
        Sqlite::start(&path, clock, Durability::System, Some(TemporaryDirectory(path.clone())))
    }

    fn start(
        directory: &Path,
        clock: Arc<dyn Clock>,
        durability: Durability,
        temporary: Option<TemporaryDirectory>,
    ) -> Result<Sqlite> {
        let path = directory.join(FILE_NAME);
        // What SQLite keeps beside it gets the same mode.
        private::file(&path).map_err(|error| {
            Error::unavailable(reason::RECORDS_UNAVAILABLE, "the records file cannot be written", error)
        })?;
        let mut connection = connect(&path, durability)?;
        migrations::run(&mut connection)?;
        let writer = Writer::start(connection, Arc::clone(&clock))?;
        let readers = Readers::start(&clock, || {
            let connection = connect(&path, durability)?;
            connection.pragma_update(None, "query_only", true).map_err(unavailable)?;
            Ok(connection)
        })?;
        Ok(Sqlite(Arc::new(Inner { writer, readers, _directory: temporary })))
    }
}

impl Records for Sqlite {
    fn get<'a>(&'a self, collection: &'static str, id: &'a str) -> Answer<'a, Option<Record>> {
        Box::pin(self.0.readers.get(collection, id.to_owned()))
    }

    fn list(&self, query: Query) -> Answer<'_, Vec<Record>> {
        Box::pin(self.0.readers.list(query))
    }

    fn commit(&self, writes: Vec<Write>) -> Answer<'_, Vec<u64>> {
        Box::pin(async move {
            records::check(&writes)?;
            self.0.writer.commit(writes).await
        })
    }

    fn health(&self) -> Answer<'_, Health> {
        Box::pin(async move {
            let answered = timeout(HEALTH_WAIT, async {
                self.0.readers.get("", String::new()).await?;
                // An empty commit goes through the whole queue of the writer.
                self.0.writer.commit(Vec::new()).await
            });
            Ok(match answered.await {
                Ok(Ok(_)) => Health::OK,
                Ok(Err(error)) => Health::down(error.message().to_owned()),
                Err(_elapsed) => Health::down("the record store does not answer in time"),
            })
        })
    }
}

impl Archive for Sqlite {
    fn export(&self, after: Option<(String, String)>) -> Answer<'_, Vec<Entry>> {
        Box::pin(self.0.readers.export(after.unwrap_or_default()))
    }

    fn import(&self, entries: Vec<Entry>, removed: Vec<(String, String)>) -> Answer<'_, ()> {
        Box::pin(self.0.writer.import(entries, removed))
    }
}

fn connect(path: &Path, durability: Durability) -> Result<Connection> {
    let connection = Connection::open(path).map_err(unavailable)?;
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS_MAX);
    connection.busy_timeout(BUSY_WAIT).map_err(unavailable)?;
    connection.pragma_update(None, "journal_mode", "wal").map_err(unavailable)?;
    let synchronous = match durability {
        Durability::Disk => "full",
        Durability::System => "off",
    };
    connection.pragma_update(None, "synchronous", synchronous).map_err(unavailable)?;
    connection.pragma_update(None, "temp_store", "memory").map_err(unavailable)?;
    Ok(connection)
}

/// What every failure of SQLite means to a caller: nothing was done, the store is out of order.
fn unavailable(error: rusqlite::Error) -> Error {
    Error::unavailable(reason::RECORDS_UNAVAILABLE, "the record store does not answer", error)
}

/// The threads have gone, which happens only while the process ends or after one of them died.
fn gone() -> Error {
    Error::unavailable(reason::RECORDS_UNAVAILABLE, "the record store is closed", "its thread has ended")
}

struct TemporaryDirectory(PathBuf);

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // The operating system clears its temporary directory too, so failing here loses nothing.
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}
