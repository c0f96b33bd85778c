//! An object on its way in.
//!
//! A newcomer's usual mistake is to begin an upload for every object. Most are smaller than a part: they wait in memory and
//! leave nothing behind when they are dropped.
//!
//! *Knows:* bytes, their digest, when they become an upload. *Does not know:* what is stored under a key.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Bytes, BytesMut};
use portico_base::{Error, Result, id};
use portico_port::{
    Answer,
    blobs::{self, Staged, Staging},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    S3, about,
    commit::{Arrived, Held},
    upload::{PART_BYTES, Upload},
};
use crate::sha256::finished;

/// Where large objects are whose key is not known yet.
pub(super) const FOLDER: &str = ".staging/";
/// Symbols of a name that an upload is given.
pub(super) const ID_SYMBOLS: usize = 24;

/// An object that arrives.
pub(super) struct Arriving {
    s3: S3,
    key: Option<String>,
    /// The part that is being filled.
    part: BytesMut,
    size: u64,
    context: Context,
    upload: Option<Large>,
    has_failed: bool,
    place: OwnedSemaphorePermit,
}

/// An object that did not fit into one part.
pub(super) struct Large {
    pub(super) upload: Upload,
    /// Under which name it is told of it, when it was begun under its key.
    pub(super) about: Option<String>,
}

impl Arriving {
    /// Begins an object.
    pub(super) fn begin(s3: S3, key: Option<&str>, place: OwnedSemaphorePermit) -> Result<Arriving> {
        let key = key.map(blobs::check).transpose()?.map(str::to_owned);
        let (part, context) = (BytesMut::new(), Context::new(&SHA256));
        Ok(Arriving { s3, key, part, size: 0, context, upload: None, has_failed: false, place })
    }

    async fn take(&mut self, mut bytes: Bytes) -> Result<()> {
        self.size += bytes.len() as u64;
        self.context.update(&bytes);
        while !bytes.is_empty() {
            // Grown only while the object may still be small.
            if self.part.capacity() == 0 && self.upload.is_some() {
                self.part.reserve(PART_BYTES);
            }
            let room = PART_BYTES - self.part.len();
            self.part.extend_from_slice(&bytes.split_to(room.min(bytes.len())));
            // A full part leaves only when more follows, so that an object of exactly one part stays small.
            if self.part.len() == PART_BYTES && !bytes.is_empty() {
                self.send().await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<()> {
        let part = std::mem::take(&mut self.part).freeze();
        let large = match &mut self.upload {
            Some(large) => large,
            None => self.upload.insert(Large::begin(&self.s3, self.key.as_deref()).await?),
        };
        large.upload.send(part).await
    }

    async fn finish(mut self) -> Result<Box<dyn Staged>> {
        if self.has_failed {
            return Err(Error::internal("an object is sealed after it failed"));
        }
        let held = if self.upload.is_none() {
            Held::Small(self.part.split().freeze())
        } else {
            if !self.part.is_empty() {
                self.send().await?;
            }
            let Some(mut large) = self.upload.take() else { return Err(Error::internal("an upload is gone")) };
            large.upload.settle().await?;
            Held::Large(large)
        };
        let arrived = Arrived::new(self.s3, self.key, self.size, finished(self.context), held, self.place);
        Ok(Box::new(arrived) as Box<dyn Staged>)
    }
}

impl Large {
    async fn begin(s3: &S3, key: Option<&str>) -> Result<Large> {
        let name = id::random("", ID_SYMBOLS);
        match key {
            Some(key) => {
                let metadata = [(about::ABOUT.to_owned(), name.clone())].into();
                Ok(Large { upload: Upload::begin(s3, s3.at(key), metadata).await?, about: Some(name) })
            }
            None => {
                let upload = Upload::begin(s3, s3.at(&format!("{FOLDER}{name}")), [].into()).await?;
                Ok(Large { upload, about: None })
            }
        }
    }
}

impl Staging for Arriving {
    fn write(&mut self, bytes: Bytes) -> Answer<'_, ()> {
        Box::pin(async move {
            if self.has_failed {
                return Err(Error::internal("an object is written to after it failed"));
            }
            // Also true when this is dropped in the middle.
            self.has_failed = true;
            self.take(bytes).await?;
            self.has_failed = false;
            Ok(())
        })
    }

    fn seal(self: Box<Self>) -> Answer<'static, Box<dyn Staged>> {
        Box::pin(self.finish())
    }
}
