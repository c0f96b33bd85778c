//! A commit: lock what is there, decide in memory, write what changed, commit.
//!
//! A newcomer's usual mistake is to trust that an absent row stays absent: there is nothing to lock. Two that create the
//! same record meet at its key, and the one that comes second starts over and then sees it.
//!
//! *Knows:* the order of steps, what each failure leaves. *Does not know:* SQL.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use portico_base::{Error, Result, Timestamp};
use portico_port::records::{self, Expect, Record, Write};
use sqlx::PgPool;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    ANSWER_WAIT, failure, has_nul,
    lease::{ATTEMPTS_MAX, Lease},
    rows::{self, Facets, Rows, StoredRow},
};

/// How often a commit starts over that lost a race. Each race has a winner, so only a record that many callers create and
/// remove without end brings one here.
const RACES_MAX: u32 = 64;
/// How long a commit that lost a race waits before it starts over, times the number of times it did, up to eight.
const RACE_PAUSE: Duration = Duration::from_millis(2);

/// Which record.
type Key<'a> = (&'a str, &'a str);

/// Does all the writes or none. Answers the new versions.
pub(super) async fn run(pool: &PgPool, writes: &[Write], now: Timestamp) -> Result<Vec<u64>> {
    if writes.is_empty() {
        return Ok(Vec::new());
    }
    writes.iter().try_for_each(storable)?;
    let latest = Instant::now() + ANSWER_WAIT;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut lease = Lease::take(pool).await?;
        match timeout_at(latest, prepare(&mut lease, writes, now)).await {
            Ok(Ok(Ok(versions))) => match timeout_at(latest, commit(&mut lease)).await {
                Ok(Ok(())) => {
                    lease.give_back();
                    return Ok(versions);
                }
                Ok(Err(error)) if failure::is_race(&error) && attempt < RACES_MAX => {}
                Ok(Err(error)) if failure::is_answered(&error) => return Err(failure::unavailable(error)),
                Ok(Err(error)) => return Err(failure::unknown(Some(error))),
                Err(_elapsed) => return Err(failure::unknown(None)),
            },
            Ok(Ok(Err(conflict))) => {
                // A connection that cannot undo is closed, and then the server does.
                if matches!(timeout_at(latest, undo(&mut lease)).await, Ok(Ok(()))) {
                    lease.give_back();
                }
                return Err(conflict);
            }
            Ok(Err(error)) if may_start_over(&error, attempt) => {
                if !failure::is_lost(&error) && matches!(timeout_at(latest, undo(&mut lease)).await, Ok(Ok(()))) {
                    lease.give_back();
                }
            }
            Ok(Err(error)) => return Err(failure::unavailable(error)),
            Err(_elapsed) => return Err(failure::silent()),
        }
        sleep(RACE_PAUSE * attempt.min(8)).await;
    }
}

fn may_start_over(error: &sqlx::Error, attempt: u32) -> bool {
    (failure::is_race(error) && attempt < RACES_MAX) || (failure::is_lost(error) && attempt < ATTEMPTS_MAX)
}

/// Everything before COMMIT. The inner error is a conflict.
async fn prepare(lease: &mut Lease, writes: &[Write], now: Timestamp) -> sqlx::Result<Result<Vec<u64>>> {
    let connection = lease.connection()?;
    sqlx::raw_sql("BEGIN").execute(&mut *connection).await?;
    let keys: BTreeSet<Key<'_>> = writes.iter().map(key).collect();
    let (collections, ids): (Vec<&str>, Vec<&str>) = keys.into_iter().unzip();
    let stored = rows::lock(connection, &collections, &ids).await?;
    let changes = match Changes::of(writes, &stored, now) {
        Ok(changes) => changes,
        Err(conflict) => return Ok(Err(conflict)),
    };
    let written = changes.written()?;
    rows::unlist(connection, &written.unlisted.0, &written.unlisted.1).await?;
    rows::remove(connection, &written.removed.0, &written.removed.1).await?;
    written.updated.update(connection).await?;
    written.created.insert(connection).await?;
    written.listed.insert(connection).await?;
    Ok(Ok(changes.versions))
}

pub(super) async fn commit(lease: &mut Lease) -> sqlx::Result<()> {
    sqlx::raw_sql("COMMIT").execute(lease.connection()?).await.map(|_| ())
}

async fn undo(lease: &mut Lease) -> sqlx::Result<()> {
    sqlx::raw_sql("ROLLBACK").execute(lease.connection()?).await.map(|_| ())
}

/// What the writes make of what is stored.
struct Changes<'a> {
    before: BTreeMap<Key<'a>, &'a StoredRow>,
    /// What each record is afterwards; none when it is removed.
    after: BTreeMap<Key<'a>, Option<(&'a Record, u64)>>,
    versions: Vec<u64>,
}

impl<'a> Changes<'a> {
    /// Does the writes in memory, in their order.
    ///
    /// # Errors
    /// `conflict`.
    fn of(writes: &'a [Write], stored: &'a [StoredRow], now: Timestamp) -> Result<Changes<'a>> {
        let before: BTreeMap<Key<'a>, &'a StoredRow> =
            stored.iter().map(|row| ((row.collection.as_str(), row.id.as_str()), row)).collect();
        let mut changes = Changes { before, after: BTreeMap::new(), versions: Vec::with_capacity(writes.len()) };
        for write in writes {
            let key = key(write);
            let version = changes.version(key, now);
            let (expect, after) = match write {
                Write::Put { record, expect, .. } => (expect, Some((record, version.unwrap_or(0) + 1))),
                Write::Delete { expect, .. } => (expect, None),
            };
            let fits = match expect {
                Expect::Anything => true,
                Expect::Absent => version.is_none(),
                Expect::Version(expected) => version == Some(*expected),
            };
            if !fits {
                return Err(records::conflict());
            }
            changes.versions.push(after.map_or(0, |(_, version)| version));
            changes.after.insert(key, after);
        }
        Ok(changes)
    }

    fn version(&self, key: Key<'_>, now: Timestamp) -> Option<u64> {
        match self.after.get(&key) {
            Some(after) => after.map(|(_, version)| version),
            None => {
                self.before.get(&key).filter(|row| row.expires_at.is_none_or(|at| at > now.0)).map(|row| row.version)
            }
        }
    }

    fn written(&self) -> sqlx::Result<Written<'a>> {
        let mut written = Written::default();
        for (&(collection, id), after) in &self.after {
            let before = self.before.get(&(collection, id));
            match (before, after) {
                (None, None) => {}
                (Some(_), None) => {
                    written.removed.0.push(collection);
                    written.removed.1.push(id);
                    written.unlisted.0.push(collection);
                    written.unlisted.1.push(id);
                }
                (None, Some((record, version))) => {
                    written.created.push(collection, record, *version, facets(record)?);
                    written.listed.push(collection, record);
                }
                (Some(row), Some((record, version))) => {
                    let facets = facets(record)?;
                    if row.sort != record.sort || row.facets != facets {
                        written.unlisted.0.push(collection);
                        written.unlisted.1.push(id);
                        written.listed.push(collection, record);
                    }
                    written.updated.push(collection, record, *version, facets);
                }
            }
        }
        Ok(written)
    }
}

/// The changes, by statement.
#[derive(Default)]
struct Written<'a> {
    unlisted: (Vec<&'a str>, Vec<&'a str>),
    removed: (Vec<&'a str>, Vec<&'a str>),
    updated: Rows<'a>,
    created: Rows<'a>,
    listed: Facets<'a>,
}

fn key(write: &Write) -> Key<'_> {
    match write {
        Write::Put { collection, record, .. } => (collection, &record.id),
        Write::Delete { collection, id, .. } => (collection, id),
    }
}

pub(super) fn facets(record: &Record) -> sqlx::Result<String> {
    serde_json::to_string(&record.facets).map_err(|error| sqlx::Error::Encode(error.into()))
}

fn storable(write: &Write) -> Result<()> {
    let refused = match write {
        Write::Put { record, .. } => {
            let facets = record.facets.iter().map(|(_, value)| value);
            [&record.id, &record.sort, &record.body].into_iter().chain(facets).any(|text| has_nul(text))
        }
        Write::Delete { id, .. } => has_nul(id),
    };
    if refused { Err(Error::invalid("record", "holds the character U+0000")) } else { Ok(()) }
}
