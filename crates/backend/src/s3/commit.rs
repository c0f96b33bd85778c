//! The moment in which an object gets its key: created, or already there.
//!
//! A newcomer's usual mistake is to answer that a key is taken because the store said so. The store may have kept our own
//! first attempt, whose answer was lost; so what is there is looked at, and our own object counts as created.
//!
//! *Knows:* conditions and what follows when they fail. *Does not know:* how bytes arrived.

use bytes::Bytes;
use portico_base::{Code, Error, Result, Retry, reason};
use portico_port::{
    Answer,
    blobs::{self, Committed, Digest, Head, Metadata, Staged},
};
use tokio::sync::{Mutex, OwnedSemaphorePermit};

use super::{
    S3, about, failure,
    staging::Large,
    upload::{Completed, Upload},
};

/// How often a commit is tried while somebody else creates or removes the same key.
const ATTEMPTS_MAX: usize = 8;

/// An object that has arrived.
pub(super) struct Arrived {
    s3: S3,
    announced: Option<String>,
    size: u64,
    digest: Digest,
    held: Mutex<Held>,
    _place: OwnedSemaphorePermit,
}

/// Where its bytes are.
pub(super) enum Held {
    /// In memory.
    Small(Bytes),
    /// In parts in the store.
    Large(Large),
    /// Under a name that is not a key. Whoever drops it removes it.
    Aside(Aside),
    /// Under its key, by a commit before.
    Committed,
}

/// An object without a key yet.
pub(super) struct Aside {
    s3: S3,
    name: String,
}

enum Attempt {
    Created,
    /// Somebody was there, or is just being.
    Taken,
    /// Try again.
    Again,
    /// The store does not implement what it was asked, perhaps the condition. Try again without it.
    Unconditional,
}

impl Arrived {
    pub(super) fn new(
        s3: S3,
        announced: Option<String>,
        size: u64,
        digest: Digest,
        held: Held,
        place: OwnedSemaphorePermit,
    ) -> Arrived {
        Arrived { s3, announced, size, digest, held: Mutex::new(held), _place: place }
    }

    async fn run(&self, key: &str, metadata: Metadata) -> Result<Committed> {
        blobs::check(key)?;
        blobs::check_announced(self.announced.as_deref(), key)?;
        // One of ours at a time; others are met in the store.
        let mut held = self.held.lock().await;
        let mut condition = self.s3.only_if_absent();
        for _ in 0..ATTEMPTS_MAX {
            // Asked before, so that stores without conditions are right in all but a race, and no upload is spent.
            if let Some(head) = self.s3.look(key).await? {
                return Ok(Committed::Exists(head));
            }
            match self.attempt(&mut held, key, &metadata, condition.as_deref()).await? {
                Attempt::Created => {
                    if condition.is_none() {
                        self.s3.does_without_condition();
                    }
                    return Ok(Committed::Created);
                }
                Attempt::Again => {}
                Attempt::Unconditional => condition = None,
                Attempt::Taken => {
                    if let Some(head) = self.s3.look(key).await? {
                        return Ok(self.outcome(head, &metadata));
                    }
                }
            }
        }
        let message = "the same object is being stored by another call";
        Err(Error::new(Code::Aborted, reason::CONFLICT, message).retry(Retry::Safe))
    }

    /// Our own first attempt, whose answer was lost, cannot be told from a twin of ours, and need not be.
    fn outcome(&self, head: Head, metadata: &Metadata) -> Committed {
        if head.digest == self.digest && head.metadata == *metadata {
            Committed::Created
        } else {
            Committed::Exists(head)
        }
    }

    async fn attempt(
        &self,
        held: &mut Held,
        key: &str,
        metadata: &Metadata,
        condition: Option<&str>,
    ) -> Result<Attempt> {
        match held {
            Held::Small(bytes) => self.put(bytes.clone(), key, metadata, condition).await,
            Held::Large(Large { upload, about: Some(id) }) => {
                self.s3.tell(key, id, self.size, self.digest, metadata).await?;
                let attempt = complete(upload, condition).await;
                match attempt {
                    Ok(Attempt::Created) => *held = Held::Committed,
                    // It is written again by the next attempt.
                    Ok(Attempt::Taken | Attempt::Again | Attempt::Unconditional) => self.settle(key, id).await?,
                    Err(_) => {}
                }
                attempt
            }
            Held::Large(Large { upload, about: None }) => {
                match upload.complete(None).await? {
                    Completed::Done | Completed::Gone => {}
                    Completed::Taken => return Ok(Attempt::Again),
                    Completed::NotImplemented(error) => return Err(error),
                }
                let name = upload.name().to_owned();
                *held = Held::Aside(Aside { s3: self.s3.clone(), name });
                Ok(Attempt::Again)
            }
            Held::Aside(aside) => {
                let metadata = about::whole(self.digest, metadata);
                let mut copy = Upload::begin(&self.s3, self.s3.at(key), metadata).await?;
                copy.copy(&aside.name, self.size).await?;
                complete(&mut copy, condition).await
            }
            Held::Committed => Err(Error::internal("a large object is committed twice")),
        }
    }

    /// Removes what tells of an upload that was not completed, unless it turns out that it was.
    async fn settle(&self, key: &str, id: &str) -> Result<()> {
        let ours = self.s3.is_told_by(key, id).await?;
        if !ours {
            self.s3.untell(key, id).await;
        }
        Ok(())
    }

    async fn put(&self, bytes: Bytes, key: &str, metadata: &Metadata, condition: Option<&str>) -> Result<Attempt> {
        let s3 = &self.s3;
        let (encryption, key_id) = s3.encryption();
        let put = s3.0.bulk.put_object().bucket(&s3.0.bucket).key(s3.at(key)).body(bytes.into());
        let put = put.set_metadata(Some(about::whole(self.digest, metadata)));
        let put = put.set_if_none_match(condition.map(str::to_owned));
        let put = put.set_server_side_encryption(encryption).set_ssekms_key_id(key_id);
        match put.send().await {
            Ok(_) => Ok(Attempt::Created),
            Err(error) => match (failure::status(&error), failure::code(&error)) {
                (Some(412 | 409), _) => Ok(Attempt::Taken),
                (Some(501), _) | (_, Some("NotImplemented")) if condition.is_some() => Ok(Attempt::Unconditional),
                _ => Err(failure::of("store an object", error)),
            },
        }
    }
}

async fn complete(upload: &mut Upload, condition: Option<&str>) -> Result<Attempt> {
    match upload.complete(condition.map(str::to_owned)).await? {
        Completed::Done => Ok(Attempt::Created),
        Completed::Taken | Completed::Gone => Ok(Attempt::Taken),
        Completed::NotImplemented(_) if condition.is_some() => Ok(Attempt::Unconditional),
        Completed::NotImplemented(error) => Err(error),
    }
}

impl Staged for Arrived {
    fn size(&self) -> u64 {
        self.size
    }

    fn digest(&self) -> Digest {
        self.digest
    }

    fn commit<'a>(&'a self, key: &'a str, metadata: Metadata) -> Answer<'a, Committed> {
        Box::pin(self.run(key, metadata))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let (s3, name) = (self.s3.clone(), std::mem::take(&mut self.name));
        let tasks = s3.0.tasks.clone();
        tasks.spawn(async move { s3.discard(name).await });
    }
}

impl S3 {
    /// Whether the object under this key is the one that is told of here.
    pub(super) async fn is_told_by(&self, key: &str, id: &str) -> Result<bool> {
        let head = self.0.client.head_object().bucket(&self.0.bucket).key(self.at(key));
        match head.send().await {
            Ok(found) => Ok(found.metadata().and_then(|all| all.get(about::ABOUT)).is_some_and(|told| told == id)),
            Err(error) if failure::is_absent(&error) => Ok(false),
            Err(error) => Err(failure::of("read an object", error)),
        }
    }

    /// Removes something of ours that is not an object. What stays is removed by a later start.
    pub(super) async fn discard(&self, name: String) {
        let delete = self.0.client.delete_object().bucket(&self.0.bucket).key(name);
        if let Err(error) = delete.send().await {
            let error = failure::of("remove a staged object", error);
            tracing::warn!(error = error.report(), "a staged object could not be removed; a start a day later does it");
        }
    }
}
