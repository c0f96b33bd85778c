//! The layout of the database, as steps that only go forward.
//!
//! A newcomer's usual mistake is to edit a step. Databases out there have taken it already: add the next one. Gateways of
//! the release before run beside this one while it is rolled out, so a step must leave them working.
//!
//! *Knows:* SQL, the lock that lets one gateway at a time change the layout. *Does not know:* what uses the tables.

use sqlx::{Connection, PgConnection, Row};

/// The steps. The highest number in `portico_layout` is how many of them were taken.
const STEPS: &[&str] = &[include_str!("migrations/0001_records.sql")];
/// The advisory lock that gateways which start at the same time take in turn: "portico" in ASCII.
const LOCK: i64 = 0x70_6f72_7469_636f;

/// Takes the steps that are missing, all or none.
pub(super) async fn run(connection: &mut PgConnection) -> sqlx::Result<()> {
    let row = sqlx::query("SELECT current_setting('server_encoding')").fetch_one(&mut *connection).await?;
    let encoding: String = row.try_get(0)?;
    if encoding != "UTF8" {
        return Err(refused(format!("the database is in {encoding}, not in UTF8")));
    }
    let mut change = connection.begin().await?;
    // Another gateway may be taking steps for longer than a statement may take.
    sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *change).await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *change).await?;
    let known = sqlx::query("SELECT to_regclass('portico_layout') IS NOT NULL").fetch_one(&mut *change).await?;
    if !known.try_get::<bool, _>(0)? {
        let table = "CREATE TABLE portico_layout (step int PRIMARY KEY, taken_at timestamptz NOT NULL DEFAULT now())";
        sqlx::query(table).execute(&mut *change).await?;
    }
    let row = sqlx::query("SELECT coalesce(max(step), 0) FROM portico_layout").fetch_one(&mut *change).await?;
    let taken: i32 = row.try_get(0)?;
    let missing = usize::try_from(taken).ok().and_then(|taken| STEPS.get(taken..)).ok_or_else(|| {
        refused(format!("it has layout {taken}, and this Portico knows {}: run a newer one", STEPS.len()))
    })?;
    for (step, number) in missing.iter().zip(taken + 1..) {
        sqlx::raw_sql(*step).execute(&mut *change).await?;
        sqlx::query("INSERT INTO portico_layout (step) VALUES ($1)").bind(number).execute(&mut *change).await?;
    }
    change.commit().await
}

fn refused(why: String) -> sqlx::Error {
    sqlx::Error::Configuration(why.into())
}
