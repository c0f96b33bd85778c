//! A multipart upload: begun, fed by a bounded number of parts at a time, completed or aborted.
//!
//! A newcomer's usual mistake is to abort at the call site. Whoever holds the upload may be dropped anywhere; the abort is
//! sent from `Drop`, by a task of its own.
//!
//! *Knows:* parts. *Does not know:* digests, what the object is for.

use std::{collections::HashMap, sync::Arc};

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use portico_base::{Error, Result};
use tokio::task::JoinSet;

use super::{S3, failure};

/// How large a part is. S3 takes ten thousand of them, so an object may have 80 GiB, and none but the last below 5 MiB.
pub(super) const PART_BYTES: usize = 8 << 20;
/// Parts on their way at the same time. A third is being filled meanwhile.
const PARTS_IN_FLIGHT: usize = 2;
/// Largest piece that the store copies by itself in one request; S3 allows 5 GiB, and smaller ones stay below its timeout.
const COPY_BYTES: u64 = 256 << 20;

/// An upload that is under way. Dropping it aborts it.
pub(super) struct Upload {
    s3: S3,
    /// The name in the bucket.
    name: String,
    id: Arc<str>,
    parts: Vec<CompletedPart>,
    in_flight: JoinSet<Result<CompletedPart>>,
    begun: i32,
    is_over: bool,
}

impl Upload {
    /// Begins an upload to this name.
    pub(super) async fn begin(s3: &S3, name: String, metadata: HashMap<String, String>) -> Result<Upload> {
        let (encryption, key_id) = s3.encryption();
        let create = s3.0.client.create_multipart_upload().bucket(&s3.0.bucket).key(&name).set_metadata(Some(metadata));
        let create = create.set_server_side_encryption(encryption).set_ssekms_key_id(key_id);
        let created = create.send().await.map_err(|error| failure::of("begin an upload", error))?;
        let id = created.upload_id().ok_or_else(|| Error::internal("an upload without an id"))?.into();
        let (parts, in_flight) = (Vec::new(), JoinSet::new());
        Ok(Upload { s3: s3.clone(), name, id, parts, in_flight, begun: 0, is_over: false })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Sends one more part. Waits while others are on their way.
    pub(super) async fn send(&mut self, bytes: Bytes) -> Result<()> {
        while self.in_flight.len() >= PARTS_IN_FLIGHT {
            self.arrive().await?;
        }
        self.begun += 1;
        let number = self.begun;
        let (s3, id) = (self.s3.clone(), Arc::clone(&self.id));
        let send = s3.0.bulk.upload_part().bucket(&s3.0.bucket).key(&self.name).upload_id(&*id).part_number(number);
        let send = send.body(bytes.into());
        self.in_flight.spawn(async move {
            let sent = send.send().await.map_err(|error| failure::of("write an upload", error))?;
            Ok(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build())
        });
        Ok(())
    }

    /// Fills the upload from another object of the bucket, without the bytes passing through here.
    pub(super) async fn copy(&mut self, from: &str, size: u64) -> Result<()> {
        for offset in (0..size).step_by(usize::try_from(COPY_BYTES).unwrap_or(usize::MAX)) {
            self.begun += 1;
            let s3 = &self.s3.0;
            let copy = s3.bulk.upload_part_copy().bucket(&s3.bucket).key(&self.name).upload_id(&*self.id);
            let copy = copy.part_number(self.begun).copy_source(format!("{}/{}", s3.bucket, escaped(from)));
            let copy = copy.copy_source_range(format!("bytes={offset}-{}", (offset + COPY_BYTES).min(size) - 1));
            let copied = copy.send().await.map_err(|error| failure::of("store an object", error))?;
            let e_tag = copied.copy_part_result.and_then(|result| result.e_tag);
            self.parts.push(CompletedPart::builder().part_number(self.begun).set_e_tag(e_tag).build());
        }
        Ok(())
    }

    /// Waits until every part has arrived.
    pub(super) async fn settle(&mut self) -> Result<()> {
        while !self.in_flight.is_empty() {
            self.arrive().await?;
        }
        self.parts.sort_by_key(CompletedPart::part_number);
        Ok(())
    }

    /// Makes the object appear. What is refused can be tried again.
    pub(super) async fn complete(&mut self, condition: Option<String>) -> Result<Completed> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(self.parts.clone())).build();
        let complete = self.s3.0.bulk.complete_multipart_upload().bucket(&self.s3.0.bucket).key(&self.name);
        let complete = complete.upload_id(&*self.id).multipart_upload(parts).set_if_none_match(condition);
        match complete.send().await {
            Ok(_) => {
                self.is_over = true;
                Ok(Completed::Done)
            }
            Err(error) => match (failure::status(&error), failure::code(&error)) {
                (Some(412 | 409), _) => Ok(Completed::Taken),
                (Some(501), _) | (_, Some("NotImplemented")) => {
                    Ok(Completed::NotImplemented(failure::of("store an object", error)))
                }
                // An earlier attempt has completed it, and its answer was lost.
                (_, Some("NoSuchUpload")) => Ok(Completed::Gone),
                _ => Err(failure::of("store an object", error)),
            },
        }
    }

    async fn arrive(&mut self) -> Result<()> {
        if let Some(part) = self.in_flight.join_next().await {
            self.parts.push(part.map_err(Error::internal)??);
        }
        Ok(())
    }
}

/// What became of completing an upload.
pub(super) enum Completed {
    /// The object is there.
    Done,
    /// The name is taken, or being taken by another.
    Taken,
    /// The store does not implement what it was asked, perhaps the condition.
    NotImplemented(Error),
    /// There is no such upload any more.
    Gone,
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.in_flight.abort_all();
        let (s3, id) = (self.s3.clone(), Arc::clone(&self.id));
        let abort = s3.0.client.abort_multipart_upload().bucket(&s3.0.bucket).key(&self.name).upload_id(&*id);
        let tasks = s3.0.tasks.clone();
        tasks.spawn(async move {
            if let Err(error) = abort.send().await
                && !failure::is_absent(&error)
            {
                let error = failure::of("abort an upload", error);
                tracing::warn!(error = error.report(), "an upload could not be aborted; a start a day later does it");
            }
        });
    }
}

/// A name as it stands in a URL. Keys are of characters that need no escape but `+`, `=` and `@`.
fn escaped(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string().replace("%2F", "/")
}
