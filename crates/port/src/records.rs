//! Durable facts: the narrow waist of the house.
//!
//! A newcomer's usual mistake is to ask for a query. There is get, list by one facet, and an atomic commit with expected
//! versions; what needs more than that is shaped by whoever writes, not by whoever reads.
//!
//! *Knows:* collections, ids, facets, versions, expiry. *Does not know:* what a record means.

use std::borrow::Cow;

use portico_base::{Error, Result, Timestamp, health::Health};

use crate::Answer;

/// Most records that one commit may change.
pub const COMMIT_WRITES_MAX: usize = 64;
/// Most records that one list answers.
pub const LIST_RECORDS_MAX: usize = 1_000;
/// Largest body of a record; larger things are blobs.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// A stored fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its id, unique in its collection.
    pub id: String,
    /// Counts the changes from 1.
    pub version: u64,
    /// Its place in lists: ascending by bytes, ties by id.
    pub sort: String,
    /// What it can be listed by: name and value, at most one value per name.
    pub facets: Vec<(Cow<'static, str>, String)>,
    /// When it ceases to exist.
    pub expires_at: Option<Timestamp>,
    /// What it says, as JSON text.
    pub body: String,
}

/// One change of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Stores a record; its `version` is ignored and counted by the store.
    Put {
        /// The collection.
        collection: &'static str,
        /// The record.
        record: Record,
        /// What must be there before.
        expect: Expect,
    },
    /// Removes a record.
    Delete {
        /// The collection.
        collection: &'static str,
        /// The id.
        id: String,
        /// What must be there before.
        expect: Expect,
    },
}

/// What must be stored for a write to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything or nothing.
    Anything,
    /// Nothing.
    Absent,
    /// This version.
    Version(u64),
}

/// Which records to list: those of a collection, with a facet, after a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The collection.
    pub collection: &'static str,
    /// Only records with this facet value.
    pub facet: Option<(&'static str, String)>,
    /// Only records after this (sort, id).
    pub after: Option<(String, String)>,
    /// Descending instead of ascending.
    pub newest_first: bool,
    /// How many at most; cut to [`LIST_RECORDS_MAX`].
    pub limit: usize,
}

/// Durable facts.
pub trait Records: Send + Sync + 'static {
    /// The record of this id, unless it has expired.
    fn get<'a>(&'a self, collection: &'static str, id: &'a str) -> Answer<'a, Option<Record>>;

    /// Records in order.
    fn list(&self, query: Query) -> Answer<'_, Vec<Record>>;

    /// Does all the writes or none. Answers the new version of each put, in order; 0 for a delete.
    ///
    /// What was answered survives a crash of the process and of the machine.
    ///
    /// # Errors
    /// `Aborted` with reason `conflict` when what is stored is not what a write expects; nothing is changed then.
    fn commit(&self, writes: Vec<Write>) -> Answer<'_, Vec<u64>>;

    /// Whether the store answers.
    fn health(&self) -> Answer<'_, Health>;
}

/// A record and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The collection.
    pub collection: String,
    /// The record.
    pub record: Record,
}

/// A store of records as a whole, for moving an installation. Nobody else may use the store meanwhile.
pub trait Archive: Records {
    /// Records of every collection, the living ones, ascending by bytes of collection and id, behind this place; at most
    /// [`COMMIT_WRITES_MAX`].
    fn export(&self, after: Option<(String, String)>) -> Answer<'_, Vec<Entry>>;

    /// Stores records as they are, versions included, and removes those of these collections and ids. All or nothing; at most
    /// [`COMMIT_WRITES_MAX`] of each.
    fn import(&self, entries: Vec<Entry>, removed: Vec<(String, String)>) -> Answer<'_, ()>;
}

/// Whether a commit keeps to the bounds of this port. Every backend asks this before it begins.
///
/// # Errors
/// `validation_failed` when a body is too large; `internal` when there are too many writes, which is the domain's mistake.
pub fn check(writes: &[Write]) -> Result<()> {
    if writes.len() > COMMIT_WRITES_MAX {
        return Err(Error::internal(format!("a commit of {} writes is over {COMMIT_WRITES_MAX}", writes.len())));
    }
    for write in writes {
        if let Write::Put { record, .. } = write
            && record.body.len() > BODY_BYTES_MAX
        {
            return Err(Error::invalid("body", format!("must not take more than {BODY_BYTES_MAX} bytes when stored")));
        }
    }
    Ok(())
}

/// The refusal of a commit whose expectation does not hold. Nothing was changed.
pub fn conflict() -> Error {
    Error::new(
        portico_base::Code::Aborted,
        portico_base::reason::CONFLICT,
        "a concurrent change won; read again and retry",
    )
    .retry(portico_base::Retry::Safe)
}
