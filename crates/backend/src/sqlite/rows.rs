//! The statements: one record out, records out in order, one write in.
//!
//! A newcomer's usual mistake is to trust that an expired row has been removed. Sweeping is only for the disk; every
//! statement looks at the time itself.
//!
//! *Knows:* the tables. *Does not know:* threads, transactions.

use std::borrow::Cow;

use portico_base::Timestamp;
use portico_port::records::{COMMIT_WRITES_MAX, Entry, Expect, Query, Record, Write};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

const COLUMNS: &str = "r.id, r.version, r.sort, r.facets, r.expires_at, r.body";

/// The record of this id, unless it has expired.
pub(super) fn get(
    connection: &Connection,
    collection: &str,
    id: &str,
    now: Timestamp,
) -> rusqlite::Result<Option<Record>> {
    connection
        .prepare_cached(
            "SELECT r.id, r.version, r.sort, r.facets, r.expires_at, r.body FROM records r \
             WHERE r.collection = ?1 AND r.id = ?2 AND (r.expires_at IS NULL OR r.expires_at > ?3)",
        )?
        .query_row(params![collection, id, now.0], record)
        .optional()
}

/// Records in order.
pub(super) fn list(connection: &Connection, query: &Query, now: Timestamp) -> rusqlite::Result<Vec<Record>> {
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let mut values: Vec<&dyn ToSql> = vec![&query.collection, &now.0, &limit];
    // The rows that give the order: the facet's when there is one, else the records' own.
    let (from, order) = match &query.facet {
        Some((name, value)) => {
            values.extend([name as &dyn ToSql, value]);
            let from = "facets o CROSS JOIN records r ON r.collection = o.collection AND r.id = o.id \
                        WHERE o.collection = ?1 AND o.name = ?4 AND o.value = ?5";
            (from, "o")
        }
        None => ("records r WHERE r.collection = ?1", "r"),
    };
    let (direction, beyond) = if query.newest_first { ("DESC", "<") } else { ("ASC", ">") };
    let mut after = String::new();
    if let Some((sort, id)) = &query.after {
        values.extend([sort as &dyn ToSql, id]);
        let (sort, id) = (values.len() - 1, values.len());
        after = format!(" AND ({order}.sort, {order}.id) {beyond} (?{sort}, ?{id})");
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM {from}{after} AND (r.expires_at IS NULL OR r.expires_at > ?2) \
         ORDER BY {order}.sort {direction}, {order}.id {direction} LIMIT ?3"
    );
    connection.prepare_cached(&sql)?.query_map(&*values, record)?.collect()
}

/// Records of every collection behind a place, the living ones.
pub(super) fn export(
    connection: &Connection,
    after: &(String, String),
    now: Timestamp,
) -> rusqlite::Result<Vec<Entry>> {
    connection
        .prepare_cached(
            "SELECT r.id, r.version, r.sort, r.facets, r.expires_at, r.body, r.collection FROM records r \
             WHERE (r.collection, r.id) > (?1, ?2) AND (r.expires_at IS NULL OR r.expires_at > ?3) \
             ORDER BY r.collection, r.id LIMIT ?4",
        )?
        .query_map(params![after.0, after.1, now.0, i64::try_from(COMMIT_WRITES_MAX).unwrap_or(i64::MAX)], |row| {
            Ok(Entry { collection: row.get(6)?, record: record(row)? })
        })?
        .collect()
}

/// Stores a record as it is.
pub(super) fn import(connection: &Connection, Entry { collection, record }: &Entry) -> rusqlite::Result<()> {
    let before = stored(connection, collection, &record.id)?;
    put(connection, collection, record, record.version, before.as_ref())
}

/// Removes a record, if it is there.
pub(super) fn erase(connection: &Connection, collection: &str, id: &str) -> rusqlite::Result<()> {
    match stored(connection, collection, id)? {
        Some(row) => remove(connection, collection, id, &row),
        None => Ok(()),
    }
}

/// What became of a write.
pub(super) enum Applied {
    /// It is done, and this is the new version; 0 for a delete.
    Done(u64),
    /// What is stored is not what it expects.
    Conflict,
}

/// Does one write inside the transaction that is open.
pub(super) fn apply(connection: &Connection, write: &Write, now: Timestamp) -> rusqlite::Result<Applied> {
    let (collection, id, expect) = match write {
        Write::Put { collection, record, expect } => (collection, &record.id, expect),
        Write::Delete { collection, id, expect } => (collection, id, expect),
    };
    let stored = stored(connection, collection, id)?;
    let version = stored.as_ref().filter(|row| row.lives(now)).map(|row| row.version);
    let fits = match expect {
        Expect::Anything => true,
        Expect::Absent => version.is_none(),
        Expect::Version(expected) => version == Some(*expected),
    };
    if !fits {
        return Ok(Applied::Conflict);
    }
    match write {
        Write::Put { record, .. } => {
            let version = version.unwrap_or(0) + 1;
            put(connection, collection, record, version, stored.as_ref())?;
            Ok(Applied::Done(version))
        }
        Write::Delete { .. } => {
            if let Some(row) = stored {
                remove(connection, collection, id, &row)?;
            }
            Ok(Applied::Done(0))
        }
    }
}

/// Removes up to `limit` expired records. Answers how many there were.
pub(super) fn sweep(connection: &Connection, now: Timestamp, limit: usize) -> rusqlite::Result<usize> {
    let expired: Vec<(String, String)> = connection
        .prepare_cached("SELECT collection, id FROM records WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2")?
        .query_map(params![now.0, i64::try_from(limit).unwrap_or(i64::MAX)], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (collection, id) in &expired {
        if let Some(row) = stored(connection, collection, id)? {
            remove(connection, collection, id, &row)?;
        }
    }
    Ok(expired.len())
}

/// What a write must know of the row that is there.
struct StoredRow {
    version: u64,
    sort: String,
    facets: String,
    expires_at: Option<i64>,
}

impl StoredRow {
    fn lives(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| at > now.0)
    }
}

fn stored(connection: &Connection, collection: &str, id: &str) -> rusqlite::Result<Option<StoredRow>> {
    connection
        .prepare_cached("SELECT version, sort, facets, expires_at FROM records WHERE collection = ?1 AND id = ?2")?
        .query_row(params![collection, id], |row| {
            Ok(StoredRow {
                version: version_at(row, 0)?,
                sort: row.get(1)?,
                facets: row.get(2)?,
                expires_at: row.get(3)?,
            })
        })
        .optional()
}

fn put(
    connection: &Connection,
    collection: &str,
    record: &Record,
    version: u64,
    before: Option<&StoredRow>,
) -> rusqlite::Result<()> {
    let facets = serde_json::to_string(&record.facets)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let moved = before.is_none_or(|row| row.sort != record.sort || row.facets != facets);
    if moved && let Some(row) = before {
        unlist(connection, collection, &record.id, row)?;
    }
    connection
        .prepare_cached(
            "INSERT INTO records (collection, id, version, sort, facets, expires_at, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
             ON CONFLICT (collection, id) DO UPDATE SET version = excluded.version, sort = excluded.sort, \
             facets = excluded.facets, expires_at = excluded.expires_at, body = excluded.body",
        )?
        .execute(params![
            collection,
            record.id,
            i64::try_from(version).unwrap_or(i64::MAX),
            record.sort,
            facets,
            record.expires_at.map(|at| at.0),
            record.body,
        ])?;
    if moved {
        let mut list = connection.prepare_cached(
            "INSERT OR REPLACE INTO facets (collection, name, value, sort, id) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        for (name, value) in &record.facets {
            list.execute(params![collection, name, value, record.sort, record.id])?;
        }
    }
    Ok(())
}

fn remove(connection: &Connection, collection: &str, id: &str, row: &StoredRow) -> rusqlite::Result<()> {
    unlist(connection, collection, id, row)?;
    connection
        .prepare_cached("DELETE FROM records WHERE collection = ?1 AND id = ?2")?
        .execute(params![collection, id])?;
    Ok(())
}

fn unlist(connection: &Connection, collection: &str, id: &str, row: &StoredRow) -> rusqlite::Result<()> {
    let mut unlist = connection.prepare_cached(
        "DELETE FROM facets WHERE collection = ?1 AND name = ?2 AND value = ?3 AND sort = ?4 AND id = ?5",
    )?;
    for (name, value) in facets(3, &row.facets)? {
        unlist.execute(params![collection, name, value, row.sort, id])?;
    }
    Ok(())
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        id: row.get(0)?,
        version: version_at(row, 1)?,
        sort: row.get(2)?,
        facets: facets(3, row.get_ref(3)?.as_str()?)?,
        expires_at: row.get::<_, Option<i64>>(4)?.map(Timestamp),
        body: row.get(5)?,
    })
}

fn facets(column: usize, json: &str) -> rusqlite::Result<Vec<(Cow<'static, str>, String)>> {
    serde_json::from_str(json).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn version_at(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or_default())
}
