//! The body of a request, read with bounds.
//!
//! A newcomer's usual mistake is to wait for a body as a whole. A caller that sends a byte now and then would be served for
//! as long as it likes; so silence has a limit, and so has all of it.
//!
//! *Knows:* chunks, limits, patience. *Does not know:* what the bytes mean.

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use portico_base::{Code, Error, Result, reason};
use tokio::time::{Instant, timeout_at};

use crate::{
    Body,
    ends::{BODY_MAX, SILENCE_MAX, too_slow},
    unread,
};

/// Largest JSON body. Published pages have no larger messages; files go by upload.
pub(super) const JSON_BYTES_MAX: usize = 1 << 20;

/// The body of one request.
#[derive(Default)]
pub(super) struct Inlet {
    body: Option<Body>,
    /// Set when reading begins: most requests have no body, and never wait.
    ends_at: Option<Instant>,
}

impl Inlet {
    pub(super) fn new(body: Body) -> Inlet {
        Inlet { body: Some(body), ends_at: None }
    }

    /// The same inlet, with its bytes counted.
    pub(super) fn metered(&mut self, entry: portico_gate::Entry) {
        if let Some(body) = &mut self.body {
            body.received_by(entry);
        }
    }

    /// Reads no more, whatever is left.
    pub(super) fn close(&mut self) {
        self.body = None;
    }

    /// Whether there is nothing to read.
    pub(super) fn is_empty(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    /// The next bytes, never none at all; `None` at the end.
    ///
    /// # Errors
    /// `upload_timeout` when nothing comes for too long, `canceled` when the caller has gone.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some(body) = &mut self.body else { return Ok(None) };
            let now = Instant::now();
            let limit = (now + SILENCE_MAX).min(*self.ends_at.get_or_insert(now + BODY_MAX));
            let frame = match timeout_at(limit, body.frame()).await {
                Ok(None) => None,
                Ok(Some(Ok(frame))) => Some(frame),
                Ok(Some(Err(error))) => {
                    self.body = None;
                    return Err(error);
                }
                Err(_) => return Err(too_slow()),
            };
            let Some(frame) = frame else {
                self.body = None;
                return Ok(None);
            };
            // Trailers of a request mean nothing here.
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
    }

    /// Waits for the end of a body that means nothing, for as long as it is worth it.
    ///
    /// # Errors
    /// When the request turns out to be malformed, or its caller to have gone.
    pub(super) async fn ended(&mut self) -> Result<()> {
        match &mut self.body {
            Some(body) => unread::ended(body).await,
            None => Ok(()),
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// `body_too_large` beyond the limit, and as [`Inlet::chunk`].
    pub(super) async fn collect(&mut self, limit: usize) -> Result<Bytes> {
        let told = self.body.as_ref().map_or(0, |body| body.size_hint().lower());
        if usize::try_from(told).is_ok_and(|told| told > limit) {
            return Err(too_large(limit));
        }
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        if first.len() > limit {
            return Err(too_large(limit));
        }
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let mut all = BytesMut::from(first);
        all.extend_from_slice(&second);
        while all.len() <= limit
            && let Some(chunk) = self.chunk().await?
        {
            all.extend_from_slice(&chunk);
        }
        if all.len() > limit { Err(too_large(limit)) } else { Ok(all.freeze()) }
    }
}

pub(super) fn too_large(limit: usize) -> Error {
    Error::new(Code::ResourceExhausted, reason::BODY_TOO_LARGE, format!("the body is larger than {limit} bytes"))
}
