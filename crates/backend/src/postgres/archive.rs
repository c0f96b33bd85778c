//! The store as a whole, for moving an installation.
//!
//! A newcomer's usual mistake is to use this beside running gateways. What is imported is stored as it is, whatever version
//! was there.
//!
//! *Knows:* pages of everything. *Does not know:* where they come from or go to.

use portico_base::Timestamp;
use portico_port::{
    Answer,
    records::{Archive, COMMIT_WRITES_MAX, Entry},
};
use sqlx::Row;
use tokio::time::timeout;

use super::{
    ANSWER_WAIT, Postgres, commit, failure,
    lease::Lease,
    rows::{self, Facets, Question, Rows},
};

impl Archive for Postgres {
    fn export(&self, after: Option<(String, String)>) -> Answer<'_, Vec<Entry>> {
        Box::pin(async move { self.ask(&Export { after: after.unwrap_or_default(), now: self.0.clock.now() }).await })
    }

    fn import(&self, entries: Vec<Entry>, removed: Vec<(String, String)>) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut lease = Lease::take(&self.0.pool).await?;
            match timeout(ANSWER_WAIT, store(&mut lease, &entries, &removed)).await {
                Ok(Ok(())) => {
                    lease.give_back();
                    Ok(())
                }
                Ok(Err(error)) => Err(failure::unavailable(error)),
                Err(_elapsed) => Err(failure::silent()),
            }
        })
    }
}

struct Export {
    after: (String, String),
    now: Timestamp,
}

impl Question for Export {
    type Answer = Vec<Entry>;

    async fn ask(&self, lease: &mut Lease) -> sqlx::Result<Vec<Entry>> {
        let export = sqlx::query(
            "SELECT id, version, sort, facets, expires_at, body, collection FROM portico_records \
             WHERE (collection, id) > ($1, $2) AND (expires_at IS NULL OR expires_at > $3) \
             ORDER BY collection, id LIMIT $4",
        );
        let export = export.bind(&self.after.0).bind(&self.after.1).bind(self.now.0);
        let rows = export.bind(rows::number(COMMIT_WRITES_MAX as u64)).fetch_all(lease.connection()?).await?;
        rows.iter().map(|row| Ok(Entry { collection: row.try_get(6)?, record: rows::record(row)? })).collect()
    }
}

/// Whatever was there gives way. Repeating it changes nothing, so a lost answer does no harm.
async fn store(lease: &mut Lease, entries: &[Entry], removed: &[(String, String)]) -> sqlx::Result<()> {
    let (mut written, mut listed) = (Rows::default(), Facets::default());
    let (mut collections, mut ids): (Vec<&str>, Vec<&str>) =
        removed.iter().map(|(collection, id)| (collection.as_str(), id.as_str())).unzip();
    for Entry { collection, record } in entries {
        written.push(collection, record, record.version, commit::facets(record)?);
        listed.push(collection, record);
        collections.push(collection);
        ids.push(&record.id);
    }
    let connection = lease.connection()?;
    sqlx::raw_sql("BEGIN").execute(&mut *connection).await?;
    rows::unlist(connection, &collections, &ids).await?;
    rows::remove(connection, &collections, &ids).await?;
    written.insert(connection).await?;
    listed.insert(connection).await?;
    commit::commit(lease).await
}
