//! Pages that have been made once.
//!
//! A newcomer's usual mistake is to make a page for whoever asks. Nobody is asked for a key here and nothing limits how often
//! somebody comes, so a page costs something once, however many read it.
//!
//! *Knows:* bytes, the tags that browsers know them by. *Does not know:* what is on a page.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use bytes::Bytes;
use http::HeaderValue;

/// A page as it is sent.
#[derive(Clone)]
pub(super) struct Page {
    pub(super) body: Bytes,
    /// Differs when the bytes do.
    pub(super) tag: HeaderValue,
}

/// Pages by name, each from its first reader on. There are as many as are part of the build, and no memory is used for those
/// that nobody reads.
#[derive(Default)]
pub(super) struct Made(Mutex<HashMap<&'static str, Place>>);

/// Where a page is made, while others wait for it. Nothing is there when it cannot be made.
type Place = Arc<OnceLock<Option<Page>>>;

impl Made {
    /// The page of this name, made now if nobody has asked for it before.
    pub(super) fn page(&self, name: &'static str, make: impl FnOnce() -> Option<Bytes>) -> Option<Page> {
        let place = Arc::clone(self.places().entry(name).or_default());
        place.get_or_init(|| make().and_then(Page::of)).clone()
    }

    /// What this lock guards is whole after every statement, so a poisoned lock is still good.
    fn places(&self) -> MutexGuard<'_, HashMap<&'static str, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Page {
    fn of(body: Bytes) -> Option<Page> {
        let tag = HeaderValue::try_from(format!("\"{:016x}\"", fingerprint(&body))).ok()?;
        Some(Page { body, tag })
    }
}

/// FNV-1a: enough to notice that a build's page differs from another's.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
