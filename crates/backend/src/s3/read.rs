//! Looking, reading, listing, removing.
//!
//! A newcomer's usual mistake is to trust one page of a list. Our own hidden keys lie among the others and are skipped, so
//! a page may hold fewer than were asked for without being the last. Only who has seen the end may say that there is no more.
//!
//! *Knows:* requests that read or remove. *Does not know:* how objects arrive.

use std::collections::HashMap;

use aws_lc_rs::digest::{Context, SHA256};
use aws_sdk_s3::primitives::ByteStream;
use futures_util::{StreamExt, stream};
use portico_base::{Code, Error, Incoming, Result, reason};
use portico_port::blobs::{self, Blob, Head, LIST_KEYS_MAX, Listed, Metadata, Range};

use super::{
    S3,
    about::{self, ABOUT_FOLDER, Told},
    failure,
    staging::FOLDER as STAGING,
};
use crate::sha256::finished;

/// Pages that one list looks through for keys: other programs may keep a hundred thousand things in the bucket that are no keys.
/// Our own hidden ones are passed over.
const PAGES_MAX: usize = 100;

impl S3 {
    /// What is known of the object under this key.
    pub(super) async fn look(&self, key: &str) -> Result<Option<Head>> {
        blobs::check(key)?;
        let head = self.0.client.head_object().bucket(&self.0.bucket).key(self.at(key));
        match head.send().await {
            Ok(found) => self.known(key, size(found.content_length()), found.metadata()).await,
            Err(error) if failure::is_absent(&error) => Ok(None),
            Err(error) => Err(failure::of("read an object", error)),
        }
    }

    /// The object under this key.
    pub(super) async fn read(&self, key: &str, range: Range) -> Result<Option<Blob>> {
        let Some(head) = self.look(key).await? else { return Ok(None) };
        if range.offset > head.size {
            let message = format!("the object has {} bytes, and {} lies behind them", head.size, range.offset);
            return Err(Error::new(Code::OutOfRange, reason::VALIDATION_FAILED, message));
        }
        let length = range.length.unwrap_or(u64::MAX).min(head.size - range.offset);
        if length == 0 {
            return Ok(Some(Blob { head, body: stream::empty().boxed() }));
        }
        let get = self.0.client.get_object().bucket(&self.0.bucket).key(self.at(key));
        let get = get.range(format!("bytes={}-{}", range.offset, range.offset + length - 1));
        match get.send().await {
            Ok(found) => Ok(Some(Blob { head, body: flow(found.body) })),
            Err(error) if failure::is_absent(&error) => Ok(None),
            Err(error) => Err(failure::of("read an object", error)),
        }
    }

    /// Keys that begin with the prefix and lie behind `after`.
    pub(super) async fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>> {
        let limit = limit.min(LIST_KEYS_MAX);
        let mut found = Vec::new();
        let mut next = after.map(str::to_owned);
        for _ in 0..PAGES_MAX {
            let list = self.0.client.list_objects_v2().bucket(&self.0.bucket).prefix(self.at(prefix));
            // One too many is asked for where nothing else can follow, which costs nothing.
            let list = list.set_start_after(next.as_deref().map(|key| self.at(key)));
            let page = list.send().await.map_err(|error| failure::of("list objects", error))?;
            for object in page.contents() {
                let Some(key) = object.key().and_then(|key| key.strip_prefix(&self.0.prefix)) else { continue };
                next = Some(behind_hidden(key).unwrap_or_else(|| key.to_owned()));
                if blobs::check(key).is_ok() && found.len() < limit {
                    found.push(Listed { key: key.to_owned(), size: size(object.size()) });
                }
            }
            if found.len() >= limit || !page.is_truncated().unwrap_or(false) {
                return Ok(found);
            }
        }
        // Whoever goes on from here gets on; but an empty list would say that there is nothing more.
        if found.is_empty() {
            let message = "too much lies in the bucket that is no object of ours; give it a prefix of its own";
            return Err(Error::new(Code::ResourceExhausted, reason::STORAGE_ERROR, message));
        }
        Ok(found)
    }

    /// Removes the object under this key, and what tells of it.
    pub(super) async fn remove(&self, key: &str) -> Result<()> {
        blobs::check(key)?;
        let head = self.0.client.head_object().bucket(&self.0.bucket).key(self.at(key));
        let told = match head.send().await {
            Ok(found) => about::told(size(found.content_length()), found.metadata()),
            Err(error) if failure::is_absent(&error) => return Ok(()),
            Err(error) => return Err(failure::of("remove an object", error)),
        };
        let delete = self.0.client.delete_object().bucket(&self.0.bucket).key(self.at(key));
        match delete.send().await {
            Ok(_) => {}
            Err(error) if failure::is_absent(&error) => {}
            Err(error) => return Err(failure::of("remove an object", error)),
        }
        if let Told::Beside(id) = told {
            self.untell(key, &id).await;
        }
        Ok(())
    }

    async fn known(&self, key: &str, size: u64, metadata: Option<&HashMap<String, String>>) -> Result<Option<Head>> {
        let beside = match about::told(size, metadata) {
            Told::Whole(head) => return Ok(Some(head)),
            Told::Beside(id) => self.tells(key, &id, size).await?,
            Told::Nothing => None,
        };
        match beside {
            Some(head) => Ok(Some(head)),
            // Another program stored it, or what told of it is lost. The object says it all.
            None => self.hashed(key).await,
        }
    }

    async fn hashed(&self, key: &str) -> Result<Option<Head>> {
        let get = self.0.client.get_object().bucket(&self.0.bucket).key(self.at(key));
        let found = match get.send().await {
            Ok(found) => found,
            Err(error) if failure::is_absent(&error) => return Ok(None),
            Err(error) => return Err(failure::of("read an object", error)),
        };
        let (mut size, mut context, mut body) = (0, Context::new(&SHA256), flow(found.body));
        while let Some(bytes) = body.next().await {
            let bytes = bytes?;
            size += bytes.len() as u64;
            context.update(&bytes);
        }
        Ok(Some(Head { size, digest: finished(context), metadata: Metadata::new() }))
    }
}

/// What lies behind all of our hidden keys of a kind, when this is one of them.
fn behind_hidden(key: &str) -> Option<String> {
    let folder = [ABOUT_FOLDER, STAGING].into_iter().find(|folder| key.starts_with(folder))?;
    // The character after the slash, so that nothing in the folder comes behind it.
    Some(format!("{}0", folder.trim_end_matches('/')))
}

/// A body as it is read. What was read stays true when the rest fails.
fn flow(body: ByteStream) -> Incoming<bytes::Bytes> {
    stream::unfold(Some(body), |body| async {
        let mut body = body?;
        match body.next().await? {
            Ok(bytes) => Some((Ok(bytes), Some(body))),
            Err(error) => Some((Err(failure::broken_off(error)), None)),
        }
    })
    .boxed()
}

/// S3 counts in signed numbers.
pub(super) fn size(length: Option<i64>) -> u64 {
    length.and_then(|length| u64::try_from(length).ok()).unwrap_or_default()
}
