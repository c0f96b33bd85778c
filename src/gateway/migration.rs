//! Moving an installation: records and blobs of one configuration onto the stores of another.
//!
//! A newcomer's usual mistake is to keep a note of how far a run got. What is in the target already is compared and left
//! alone, so that a run which was cut off is simply run again.
//!
//! Sealed secrets and the pepper of API keys are records and move as they are: both sides need the same sealing key.
//!
//! *Knows:* the order of steps, what counts as the same. *Does not know:* what records and blobs mean.

use std::{cmp::Ordering, sync::Arc};

use aws_lc_rs::digest::{Context, SHA256};
use futures_util::StreamExt;

use super::backends;
use crate::{
    base::{Clock, Code, Error, Result, Timestamp, clock::StillClock, clock::SystemClock, reason, tasks::Tasks},
    config::{self, Config},
    port::{
        blobs::{Blobs, Committed, LIST_KEYS_MAX, Range},
        records::{Archive, COMMIT_WRITES_MAX, Entry},
    },
};

/// What became of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Records that were brought over.
    pub records: u64,
    /// Records that were there already.
    pub records_there: u64,
    /// Blobs that were brought over.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Blobs that were there already.
    pub blobs_there: u64,
}

/// Moves an installation. No gateway may run on either side.
pub struct Migration {
    from: Side,
    to: Side,
    is_replacing: bool,
    tasks: Tasks,
}

/// The stores of one side.
struct Side {
    records: Arc<dyn Archive>,
    blobs: Arc<dyn Blobs>,
}

impl Migration {
    /// Opens the stores of both sides. With `is_replacing`, the target's records give way to the source's, and so do blobs
    /// under the same keys; other blobs of the target stay. Without, a target that holds anything else is refused.
    ///
    /// # Errors
    /// When a store cannot be opened, or is the same on both sides.
    pub async fn open(from: &Config, to: &Config, is_replacing: bool) -> Result<Migration> {
        if from.records == to.records || from.blobs == to.blobs {
            return Err(refused("a store is the same on both sides"));
        }
        if let config::Records::Sqlite(path) = &from.records
            && !path.exists()
        {
            return Err(refused(format!("there is no installation at {}", path.display())));
        }
        // Nothing may expire between the first look and the last.
        let clock: Arc<dyn Clock> = Arc::new(StillClock::at(SystemClock.now()));
        let tasks = Tasks::new();
        let source = match from.blobs {
            // The folder is locked, so that nobody else writes to it meanwhile.
            config::Blobs::File(_) => backends::blobs(from, &clock, &tasks).await?,
            // A bucket that is opened to be written to loses its strays.
            config::Blobs::S3(_) => backends::blobs_to_read(from, &clock, &tasks).await,
        };
        let from = Side { records: backends::archive(from, &clock, &tasks).await?, blobs: source };
        let target = backends::blobs(to, &clock, &tasks).await?;
        let to = Side { records: backends::archive(to, &clock, &tasks).await?, blobs: target };
        Ok(Migration { from, to, is_replacing, tasks })
    }

    /// Moves everything and compares it once more. Tells `told` after every step how much has been done. May be dropped
    /// at any moment and begun anew.
    ///
    /// # Errors
    /// `already_exists` when the target holds something else; the stores' own; `data_loss` when the two sides differ at the end.
    pub async fn run(&self, mut told: impl FnMut(&Moved) + Send) -> Result<Moved> {
        if !self.is_replacing {
            self.compare_records(async |_, _| Ok(())).await?.is_part()?;
        }
        let mut moved = Moved::default();
        // Blobs come first: a record whose blob is missing would be worse than a blob without a record.
        self.blobs(&mut moved, &mut told).await?;
        let records =
            self.compare_records(async |entries, removed| self.to.records.import(entries, removed).await).await?;
        (moved.records, moved.records_there) = (records.missing + records.other, records.same);
        told(&moved);
        self.verify(&moved).await?;
        Ok(moved)
    }

    /// Ends what the stores do on their own.
    pub async fn close(self) {
        self.tasks.close();
        let _left = self.tasks.wait(std::time::Duration::from_secs(10)).await;
    }

    /// Walks both sides in step. What differs is handed on, page by page.
    async fn compare_records(
        &self,
        differs: impl AsyncFn(Vec<Entry>, Vec<(String, String)>) -> Result<()>,
    ) -> Result<Comparison> {
        let mut compared =
            Comparison { from: Count::new(), to: Count::new(), same: 0, missing: 0, other: 0, foreign: 0 };
        let (mut ours, mut theirs) = (Walk::over(&self.from), Walk::over(&self.to));
        let (mut entries, mut removed) = (Vec::new(), Vec::new());
        loop {
            let order = match (ours.peek().await?, theirs.peek().await?) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(ours), Some(theirs)) => place(ours).cmp(&place(theirs)),
            };
            let our = if order.is_le() { ours.next() } else { None };
            let their = if order.is_ge() { theirs.next() } else { None };
            our.iter().for_each(|entry| compared.from.add(entry));
            their.iter().for_each(|entry| compared.to.add(entry));
            match (our, their) {
                (Some(our), Some(their)) if our == their => compared.same += 1,
                (Some(our), Some(_)) => {
                    compared.other += 1;
                    entries.push(our);
                }
                (Some(our), None) => {
                    compared.missing += 1;
                    entries.push(our);
                }
                (None, Some(their)) => {
                    compared.foreign += 1;
                    removed.push((their.collection, their.record.id));
                }
                (None, None) => {}
            }
            if entries.len() >= COMMIT_WRITES_MAX || removed.len() >= COMMIT_WRITES_MAX {
                differs(std::mem::take(&mut entries), std::mem::take(&mut removed)).await?;
            }
        }
        if !entries.is_empty() || !removed.is_empty() {
            differs(entries, removed).await?;
        }
        Ok(compared)
    }

    async fn blobs(&self, moved: &mut Moved, told: &mut (impl FnMut(&Moved) + Send)) -> Result<()> {
        let mut after: Option<String> = None;
        loop {
            let page = self.from.blobs.list("", after.as_deref(), LIST_KEYS_MAX).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for listed in &page {
                if self.blob(&listed.key).await? {
                    moved.blobs += 1;
                    moved.blob_bytes += listed.size;
                } else {
                    moved.blobs_there += 1;
                }
                told(moved);
            }
        }
    }

    /// Whether it was brought over, and was not there already.
    async fn blob(&self, key: &str) -> Result<bool> {
        let Some(blob) = self.from.blobs.get(key, Range::ALL).await? else { return Err(vanished(key)) };
        let there = self.to.blobs.head(key).await?;
        match &there {
            Some(there) if *there == blob.head => return Ok(false),
            Some(_) if !self.is_replacing => return Err(occupied(format!("other bytes under {key}"))),
            _ => {}
        }
        let (head, mut body) = (blob.head, blob.body);
        let mut staging = self.to.blobs.stage(Some(key)).await?;
        while let Some(bytes) = body.next().await {
            staging.write(bytes?).await?;
        }
        let staged = staging.seal().await?;
        if (staged.size(), staged.digest()) != (head.size, head.digest) {
            return Err(Error::new(
                Code::DataLoss,
                reason::STORAGE_ERROR,
                format!("{key} is not what its digest says"),
            ));
        }
        // Only now, when what takes its place has arrived whole.
        if there.is_some() {
            self.to.blobs.delete(key).await?;
        }
        match staged.commit(key, head.metadata).await? {
            Committed::Created => Ok(true),
            Committed::Exists(_) => Err(occupied(format!("{key}, which appeared meanwhile"))),
        }
    }

    async fn verify(&self, moved: &Moved) -> Result<()> {
        let compared = self.compare_records(async |_, _| Ok(())).await?;
        let is_same = compared.missing + compared.other + compared.foreign == 0;
        if !is_same || compared.from.finish() != compared.to.finish() {
            return Err(Error::new(
                Code::DataLoss,
                reason::STORAGE_ERROR,
                "the records of the two sides differ in the end",
            ));
        }
        let (mut after, mut blobs): (Option<String>, u64) = (None, 0);
        loop {
            let page = self.from.blobs.list("", after.as_deref(), LIST_KEYS_MAX).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            for listed in &page {
                if self.from.blobs.head(&listed.key).await? != self.to.blobs.head(&listed.key).await? {
                    return Err(vanished(&listed.key));
                }
                blobs += 1;
            }
        }
        if blobs == moved.blobs + moved.blobs_there { Ok(()) } else { Err(vanished("a blob")) }
    }
}

/// Two sides, record by record.
struct Comparison {
    from: Count,
    to: Count,
    same: u64,
    missing: u64,
    other: u64,
    foreign: u64,
}

impl Comparison {
    /// Whether the target holds nothing but what the source holds too, as an earlier run leaves it.
    fn is_part(&self) -> Result<()> {
        match self.other + self.foreign {
            0 => Ok(()),
            records => Err(occupied(format!("{records} records that the source does not hold"))),
        }
    }
}

/// How many records, and the digest of them all.
struct Count {
    records: u64,
    context: Context,
}

impl Count {
    fn new() -> Count {
        Count { records: 0, context: Context::new(&SHA256) }
    }

    fn add(&mut self, Entry { collection, record }: &Entry) {
        self.records += 1;
        let expires_at = record.expires_at.map_or(String::new(), |Timestamp(at)| at.to_string());
        let fields = [collection, &record.id, &record.version.to_string(), &record.sort, &expires_at, &record.body];
        let facets = record.facets.iter().flat_map(|(name, value)| [name.as_ref(), value.as_str()]);
        for field in fields.into_iter().map(String::as_str).chain(facets) {
            self.context.update(&(field.len() as u64).to_le_bytes());
            self.context.update(field.as_bytes());
        }
    }

    fn finish(self) -> (u64, Vec<u8>) {
        (self.records, self.context.finish().as_ref().to_vec())
    }
}

/// All records of a side, in order.
struct Walk<'a> {
    records: &'a dyn Archive,
    page: std::vec::IntoIter<Entry>,
    last: Option<(String, String)>,
    is_over: bool,
}

impl Walk<'_> {
    fn over(side: &Side) -> Walk<'_> {
        Walk { records: &*side.records, page: Vec::new().into_iter(), last: None, is_over: false }
    }

    async fn peek(&mut self) -> Result<Option<&Entry>> {
        if self.page.as_slice().is_empty() && !self.is_over {
            let page = self.records.export(self.last.clone()).await?;
            self.last = page.last().map(|entry| (entry.collection.clone(), entry.record.id.clone()));
            self.is_over = page.is_empty();
            self.page = page.into_iter();
        }
        Ok(self.page.as_slice().first())
    }

    fn next(&mut self) -> Option<Entry> {
        self.page.next()
    }
}

fn place(entry: &Entry) -> (&str, &str) {
    (&entry.collection, &entry.record.id)
}

fn refused(why: impl Into<String>) -> Error {
    Error::new(Code::FailedPrecondition, reason::VALIDATION_FAILED, why.into())
}

fn occupied(what: String) -> Error {
    let message = format!("the target holds {what}; choose an empty one, or let it be replaced");
    Error::new(Code::AlreadyExists, reason::CONFLICT, message)
}

fn vanished(what: &str) -> Error {
    let message = format!("{what} is not the same on both sides; is a gateway running on one of them?");
    Error::new(Code::DataLoss, reason::STORAGE_ERROR, message)
}
