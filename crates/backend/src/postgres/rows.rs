//! The statements: records out, one by one or in order, and the changes of a commit in as whole sets.
//!
//! A newcomer's usual mistake is a statement for each record. A commit of many writes is as many questions as one of one:
//! what it changes is sent as arrays.
//!
//! *Knows:* the tables. *Does not know:* connections, transactions.

use std::borrow::Cow;

use portico_base::Timestamp;
use portico_port::records::{Query, Record};
use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};

use super::lease::Lease;

/// Expired records removed in one go, so that nobody waits long for their locks.
pub(super) const SWEEP_RECORDS_MAX: u64 = 500;

/// Something that is asked of the database and may be asked again.
pub(super) trait Question: Sync {
    /// What it answers with.
    type Answer: Send;

    /// Asks it once.
    fn ask(&self, lease: &mut Lease) -> impl Future<Output = sqlx::Result<Self::Answer>> + Send;
}

/// The record of this id, unless it has expired.
pub(super) struct Get<'a> {
    pub(super) collection: &'static str,
    pub(super) id: &'a str,
    pub(super) now: Timestamp,
}

impl Question for Get<'_> {
    type Answer = Option<Record>;

    async fn ask(&self, lease: &mut Lease) -> sqlx::Result<Option<Record>> {
        let get = sqlx::query(
            "SELECT id, version, sort, facets, expires_at, body FROM portico_records \
             WHERE collection = $1 AND id = $2 AND (expires_at IS NULL OR expires_at > $3)",
        );
        let get = get.bind(self.collection).bind(self.id).bind(self.now.0);
        get.fetch_optional(lease.connection()?).await?.map(|row| record(&row)).transpose()
    }
}

/// Records in order.
pub(super) struct List {
    pub(super) query: Query,
    pub(super) now: Timestamp,
}

impl List {
    /// Made of constants alone; every value is bound.
    fn sql(&self) -> String {
        // The rows that give the order: the facet's when there is one, else the records' own.
        let (from, order, bound) = match &self.query.facet {
            Some(_) => (
                "portico_facets o JOIN portico_records r ON r.collection = o.collection AND r.id = o.id \
                 WHERE o.collection = $1 AND o.name = $4 AND o.value = $5",
                "o",
                5,
            ),
            None => ("portico_records r WHERE r.collection = $1", "r", 3),
        };
        let (direction, beyond) = if self.query.newest_first { ("DESC", "<") } else { ("ASC", ">") };
        let after = match &self.query.after {
            Some(_) => format!(" AND ({order}.sort, {order}.id) {beyond} (${}, ${})", bound + 1, bound + 2),
            None => String::new(),
        };
        format!(
            "SELECT r.id, r.version, r.sort, r.facets, r.expires_at, r.body FROM {from}{after} \
             AND (r.expires_at IS NULL OR r.expires_at > $2) \
             ORDER BY {order}.sort {direction}, {order}.id {direction} LIMIT $3"
        )
    }
}

impl Question for List {
    type Answer = Vec<Record>;

    async fn ask(&self, lease: &mut Lease) -> sqlx::Result<Vec<Record>> {
        let limit = number(self.query.limit as u64);
        let mut list = sqlx::query(AssertSqlSafe(self.sql())).bind(self.query.collection).bind(self.now.0).bind(limit);
        if let Some((name, value)) = &self.query.facet {
            list = list.bind(*name).bind(value);
        }
        if let Some((sort, id)) = &self.query.after {
            list = list.bind(sort).bind(id);
        }
        list.fetch_all(lease.connection()?).await?.iter().map(record).collect()
    }
}

/// Removes some expired records that nobody is changing. Answers how many.
pub(super) struct Sweep {
    pub(super) now: Timestamp,
}

impl Question for Sweep {
    type Answer = u64;

    async fn ask(&self, lease: &mut Lease) -> sqlx::Result<u64> {
        let sweep = sqlx::query(
            "WITH expired AS (SELECT collection, id FROM portico_records WHERE expires_at <= $1 \
                              ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED), \
                  unlisted AS (DELETE FROM portico_facets f USING expired e \
                               WHERE f.collection = e.collection AND f.id = e.id) \
             DELETE FROM portico_records r USING expired e WHERE r.collection = e.collection AND r.id = e.id",
        );
        let swept = sweep.bind(self.now.0).bind(number(SWEEP_RECORDS_MAX)).execute(lease.connection()?).await?;
        Ok(swept.rows_affected())
    }
}

/// Whether the server takes writes; a standby does not.
pub(super) struct TakesWrites;

impl Question for TakesWrites {
    type Answer = bool;

    async fn ask(&self, lease: &mut Lease) -> sqlx::Result<bool> {
        takes_writes(lease.connection()?).await
    }
}

/// Whether the database takes writes.
pub(super) async fn takes_writes(connection: &mut PgConnection) -> sqlx::Result<bool> {
    let asked = sqlx::query("SELECT current_setting('transaction_read_only') = 'off'");
    asked.fetch_one(connection).await?.try_get(0)
}

/// What a commit must know of a row that is there.
pub(super) struct StoredRow {
    pub(super) collection: String,
    pub(super) id: String,
    pub(super) version: u64,
    pub(super) sort: String,
    pub(super) facets: String,
    pub(super) expires_at: Option<i64>,
}

/// The rows of these records, locked until the transaction ends. Everybody locks in the same order, so that no two wait
/// for each other.
pub(super) async fn lock(
    connection: &mut PgConnection,
    collections: &[&str],
    ids: &[&str],
) -> sqlx::Result<Vec<StoredRow>> {
    let rows = sqlx::query(
        "SELECT collection, id, version, sort, facets, expires_at FROM portico_records \
         WHERE (collection, id) IN (SELECT * FROM unnest($1::text[], $2::text[])) \
         ORDER BY collection, id FOR UPDATE",
    );
    let rows = rows.bind(collections).bind(ids).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            Ok(StoredRow {
                collection: row.try_get(0)?,
                id: row.try_get(1)?,
                version: version_at(row, 2)?,
                sort: row.try_get(3)?,
                facets: row.try_get(4)?,
                expires_at: row.try_get(5)?,
            })
        })
        .collect()
}

/// Rows to write, column by column.
#[derive(Default)]
pub(super) struct Rows<'a> {
    pub(super) collections: Vec<&'a str>,
    pub(super) ids: Vec<&'a str>,
    pub(super) versions: Vec<i64>,
    pub(super) sorts: Vec<&'a str>,
    pub(super) facets: Vec<String>,
    pub(super) expire_ats: Vec<Option<i64>>,
    pub(super) bodies: Vec<&'a str>,
}

impl<'a> Rows<'a> {
    pub(super) fn push(&mut self, collection: &'a str, record: &'a Record, version: u64, facets: String) {
        self.collections.push(collection);
        self.ids.push(&record.id);
        self.versions.push(number(version));
        self.sorts.push(&record.sort);
        self.facets.push(facets);
        self.expire_ats.push(record.expires_at.map(|at| at.0));
        self.bodies.push(&record.body);
    }

    /// Stores rows that were not there. One that is there by now fails with a broken key, which is a lost race.
    pub(super) async fn insert(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        self.write(
            connection,
            "INSERT INTO portico_records (collection, id, version, sort, facets, expires_at, body) \
             SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[]) \
             AS n (collection, id, version, sort, facets, expires_at, body) ORDER BY collection COLLATE \"C\", id COLLATE \"C\"",
        )
        .await
    }

    /// Stores rows in place of those that were locked.
    pub(super) async fn update(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        self.write(
            connection,
            "UPDATE portico_records r SET version = n.version, sort = n.sort, facets = n.facets, \
             expires_at = n.expires_at, body = n.body \
             FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[]) \
             AS n (collection, id, version, sort, facets, expires_at, body) \
             WHERE r.collection = n.collection AND r.id = n.id",
        )
        .await
    }

    async fn write(&self, connection: &mut PgConnection, sql: &'static str) -> sqlx::Result<()> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let write = sqlx::query(sql).bind(&self.collections).bind(&self.ids).bind(&self.versions).bind(&self.sorts);
        write.bind(&self.facets).bind(&self.expire_ats).bind(&self.bodies).execute(connection).await.map(|_| ())
    }
}

/// Facets to write, column by column.
#[derive(Default)]
pub(super) struct Facets<'a> {
    collections: Vec<&'a str>,
    ids: Vec<&'a str>,
    names: Vec<&'a str>,
    values: Vec<&'a str>,
    sorts: Vec<&'a str>,
}

impl<'a> Facets<'a> {
    pub(super) fn push(&mut self, collection: &'a str, record: &'a Record) {
        for (name, value) in &record.facets {
            self.collections.push(collection);
            self.ids.push(&record.id);
            self.names.push(name);
            self.values.push(value);
            self.sorts.push(&record.sort);
        }
    }

    /// Lists records whose old facets were removed.
    pub(super) async fn insert(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let insert = sqlx::query(
            "INSERT INTO portico_facets (collection, id, name, value, sort) \
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])",
        );
        let insert = insert.bind(&self.collections).bind(&self.ids).bind(&self.names);
        insert.bind(&self.values).bind(&self.sorts).execute(connection).await.map(|_| ())
    }
}

/// Removes the facets of these records.
pub(super) async fn unlist(connection: &mut PgConnection, collections: &[&str], ids: &[&str]) -> sqlx::Result<()> {
    remove_from(
        connection,
        "DELETE FROM portico_facets WHERE (collection, id) IN (SELECT * FROM unnest($1::text[], $2::text[]))",
        collections,
        ids,
    )
    .await
}

/// Removes these records, whose facets were removed.
pub(super) async fn remove(connection: &mut PgConnection, collections: &[&str], ids: &[&str]) -> sqlx::Result<()> {
    remove_from(
        connection,
        "DELETE FROM portico_records WHERE (collection, id) IN (SELECT * FROM unnest($1::text[], $2::text[]))",
        collections,
        ids,
    )
    .await
}

async fn remove_from(
    connection: &mut PgConnection,
    sql: &'static str,
    collections: &[&str],
    ids: &[&str],
) -> sqlx::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(sql).bind(collections).bind(ids).execute(connection).await.map(|_| ())
}

pub(super) fn record(row: &PgRow) -> sqlx::Result<Record> {
    Ok(Record {
        id: row.try_get(0)?,
        version: version_at(row, 1)?,
        sort: row.try_get(2)?,
        facets: facets(row.try_get(3)?)?,
        expires_at: row.try_get::<Option<i64>, _>(4)?.map(Timestamp),
        body: row.try_get(5)?,
    })
}

fn facets(json: &str) -> sqlx::Result<Vec<(Cow<'static, str>, String)>> {
    serde_json::from_str(json).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn version_at(row: &PgRow, column: usize) -> sqlx::Result<u64> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default())
}

pub(super) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
