//! What processes left that were killed: uploads nobody ends, staged objects nobody wants, words about nothing.
//!
//! A newcomer's usual mistake is to clear everything at start, as the disk does. A bucket has many users: only what is older
//! than any upload may become is a stray, and only below names that are this installation's.
//!
//! *Knows:* hidden names and their age. *Does not know:* what is on its way in this process.

use std::time::Duration;

use aws_sdk_s3::primitives::DateTime;
use portico_base::Result;
use portico_port::blobs;

use super::{
    S3,
    about::ABOUT_FOLDER as ABOUT,
    failure,
    staging::{FOLDER as STAGING, ID_SYMBOLS},
};

/// Older than any upload may become.
const STRAY_AGE: Duration = Duration::from_secs(24 * 3600);
/// Pages that one start looks at, of a thousand each, the oldest names first.
const PAGES_MAX: usize = 4;

impl S3 {
    /// Aborts and removes strays. Failures are told and left to the next start.
    pub(super) async fn sweep(&self) {
        for swept in [
            self.sweep_uploads(&self.0.own).await,
            self.sweep_uploads(STAGING).await,
            self.sweep_hidden(STAGING).await,
            self.sweep_hidden(ABOUT).await,
        ] {
            if let Err(error) = swept {
                tracing::warn!(error = error.report(), "strays in the blob store are left to the next start");
            }
        }
    }

    async fn sweep_uploads(&self, folder: &str) -> Result<()> {
        let (mut key_marker, mut id_marker) = (None, None);
        for _ in 0..PAGES_MAX {
            let list = self.0.client.list_multipart_uploads().bucket(&self.0.bucket).prefix(self.at(folder));
            let list = list.set_key_marker(key_marker.take()).set_upload_id_marker(id_marker.take());
            let page = list.send().await.map_err(|error| failure::of("list uploads", error))?;
            for upload in page.uploads() {
                let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
                if !self.is_ours(key) || !self.is_stray(upload.initiated()) {
                    continue;
                }
                let abort = self.0.client.abort_multipart_upload().bucket(&self.0.bucket).key(key).upload_id(id);
                match abort.send().await {
                    Ok(_) => tracing::info!("an upload that nobody ended is aborted"),
                    Err(error) if failure::is_absent(&error) => {}
                    Err(error) => return Err(failure::of("abort an upload", error)),
                }
            }
            (key_marker, id_marker) = (page.next_key_marker, page.next_upload_id_marker);
            if !page.is_truncated.unwrap_or(false) {
                break;
            }
        }
        Ok(())
    }

    async fn sweep_hidden(&self, folder: &str) -> Result<()> {
        let folder = self.at(folder);
        let mut after = None;
        for _ in 0..PAGES_MAX {
            let list =
                self.0.client.list_objects_v2().bucket(&self.0.bucket).prefix(&folder).set_start_after(after.take());
            let page = list.send().await.map_err(|error| failure::of("list objects", error))?;
            for object in page.contents() {
                let Some(name) = object.key() else { continue };
                after = Some(name.to_owned());
                if self.is_ours(name) && self.is_stray(object.last_modified()) && !self.is_in_use(name).await? {
                    self.discard(name.to_owned()).await;
                }
            }
            if !page.is_truncated().unwrap_or(false) {
                break;
            }
        }
        Ok(())
    }

    /// Whether it is called as this installation calls what it stores.
    fn is_ours(&self, name: &str) -> bool {
        let Some(name) = name.strip_prefix(&self.0.prefix) else { return false };
        let is_id = |text: &str| text.len() == ID_SYMBOLS && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if let Some(id) = name.strip_prefix(STAGING) {
            return is_id(id);
        }
        let is_key = |key: &str| key.starts_with(&self.0.own) && blobs::check(key).is_ok();
        match name.strip_prefix(ABOUT) {
            Some(told) => told.rsplit_once('/').is_some_and(|(key, id)| is_key(key) && is_id(id)),
            None => is_key(name),
        }
    }

    /// Whether it tells of an object that is there.
    async fn is_in_use(&self, name: &str) -> Result<bool> {
        let about = name.strip_prefix(&self.at(ABOUT)).and_then(|rest| rest.rsplit_once('/'));
        match about {
            Some((key, id)) => self.is_told_by(key, id).await,
            None => Ok(false),
        }
    }

    fn is_stray(&self, begun: Option<&DateTime>) -> bool {
        let begun = begun.and_then(|begun| begun.to_millis().ok());
        begun.is_some_and(|begun| begun < self.0.clock.now().minus(STRAY_AGE).0)
    }
}
