//! The thread that writes: all commits that wait go into one transaction.
//!
//! A newcomer's usual mistake is to answer a caller when its writes are done. They are answered when the transaction is
//! on disk; a commit that conflicts is undone to its savepoint and does not disturb its neighbours.
//!
//! *Knows:* the queue, transactions, sweeping. *Does not know:* reading for callers.

use std::{sync::Arc, thread, time::Duration};

use portico_base::{Clock, Error, Result, Retry, Timestamp, reason};
use portico_port::records::{self, Entry, Write};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{
    gone,
    rows::{self, Applied},
    unavailable,
};

/// Commits that may wait; a caller beyond that waits for a place.
const COMMITS_MAX: usize = 1_024;
/// Commits that share one transaction, so that the first of them does not wait for ever.
const GROUP_COMMITS_MAX: usize = 256;
/// How often expired records are removed; they are invisible from the moment they expire.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Expired records removed in one go, so that callers wait little.
const SWEEP_RECORDS_MAX: usize = 500;

/// The thread that writes. It ends when this is dropped and the queue is empty.
pub(super) struct Writer(mpsc::Sender<Commit>);

struct Commit {
    work: Work,
    answer: oneshot::Sender<Result<Vec<u64>>>,
}

enum Work {
    Writes(Vec<Write>),
    Import(Vec<Entry>, Vec<(String, String)>),
}

impl Writer {
    /// Begins the thread.
    pub(super) fn start(connection: Connection, clock: Arc<dyn Clock>) -> Result<Writer> {
        let (commits, queue) = mpsc::channel(COMMITS_MAX);
        thread::Builder::new()
            .name("records-write".to_owned())
            .spawn(move || serve(&connection, queue, &*clock))
            .map_err(|error| Error::unavailable(reason::RECORDS_UNAVAILABLE, "no thread to write with", error))?;
        Ok(Writer(commits))
    }

    /// Does all the writes or none, durably.
    pub(super) async fn commit(&self, writes: Vec<Write>) -> Result<Vec<u64>> {
        self.work(Work::Writes(writes)).await
    }

    /// Stores and removes records as they are, durably.
    pub(super) async fn import(&self, entries: Vec<Entry>, removed: Vec<(String, String)>) -> Result<()> {
        self.work(Work::Import(entries, removed)).await.map(|_| ())
    }

    async fn work(&self, work: Work) -> Result<Vec<u64>> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Commit { work, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn serve(connection: &Connection, mut queue: mpsc::Receiver<Commit>, clock: &dyn Clock) {
    let mut swept_at = Timestamp(0);
    let mut group = Vec::with_capacity(GROUP_COMMITS_MAX);
    while queue.blocking_recv_many(&mut group, GROUP_COMMITS_MAX) > 0 {
        commit_group(connection, &mut group, clock.now());
        // Only what was written can expire, so sweeping after writes is enough.
        // A part at a time, between commits, until nothing is left.
        let now = clock.now();
        if now.since(swept_at) >= SWEEP_EVERY && sweep(connection, now) < SWEEP_RECORDS_MAX {
            swept_at = now;
        }
    }
}

fn commit_group(connection: &Connection, group: &mut Vec<Commit>, now: Timestamp) {
    let outcome = in_transaction(connection, || {
        group.iter().map(|commit| in_savepoint(connection, &commit.work, now)).collect::<Result<Vec<_>>>()
    });
    match outcome {
        Ok(answers) => {
            for (commit, answer) in group.drain(..).zip(answers) {
                // A caller who has gone does not need its answer.
                let _gone = commit.answer.send(answer);
            }
        }
        Err(error) => {
            for commit in group.drain(..) {
                let _gone = commit.answer.send(Err(shared(&error)));
            }
        }
    }
}

/// Runs the work between BEGIN and COMMIT. The inner results say what became of each commit; an outer error undoes all.
fn in_transaction<T>(connection: &Connection, work: impl FnOnce() -> Result<T>) -> Result<T> {
    connection.execute_batch("BEGIN IMMEDIATE").map_err(unavailable)?;
    let done = work().and_then(|answers| {
        // Whether a failed COMMIT reached the disk is not known.
        let committed = connection.execute_batch("COMMIT");
        committed.map(|()| answers).map_err(|error| unavailable(error).retry(Retry::MayRepeat))
    });
    if done.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK").map_err(unavailable)?;
    }
    done
}

/// The outer error is the store's; the inner one is a conflict.
fn in_savepoint(connection: &Connection, work: &Work, now: Timestamp) -> Result<Result<Vec<u64>>> {
    let run = |sql| connection.prepare_cached(sql).and_then(|mut statement| statement.execute([])).map_err(unavailable);
    let writes = match work {
        Work::Writes(writes) => writes,
        Work::Import(entries, removed) => {
            removed
                .iter()
                .try_for_each(|(collection, id)| rows::erase(connection, collection, id))
                .map_err(unavailable)?;
            entries.iter().try_for_each(|entry| rows::import(connection, entry)).map_err(unavailable)?;
            return Ok(Ok(Vec::new()));
        }
    };
    run("SAVEPOINT one")?;
    let mut versions = Vec::with_capacity(writes.len());
    for write in writes {
        match rows::apply(connection, write, now).map_err(unavailable)? {
            Applied::Done(version) => versions.push(version),
            Applied::Conflict => {
                run("ROLLBACK TO one")?;
                run("RELEASE one")?;
                return Ok(Err(records::conflict()));
            }
        }
    }
    run("RELEASE one")?;
    Ok(Ok(versions))
}

/// Removes expired records and answers how many.
fn sweep(connection: &Connection, now: Timestamp) -> usize {
    let swept = in_transaction(connection, || rows::sweep(connection, now, SWEEP_RECORDS_MAX).map_err(unavailable));
    swept.unwrap_or_else(|error| {
        tracing::warn!(error = error.report(), "expired records could not be removed; the next sweep tries again");
        0
    })
}

/// The same error for each commit of a group that failed as a whole.
fn shared(error: &Error) -> Error {
    Error::unavailable(error.reason(), error.message().to_owned(), error.report()).retry(error.retry_hint())
}
