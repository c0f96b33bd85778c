//! The body of a request, read with bounds.
//!
//! A newcomer's usual mistake is to drop a body that was not read. Over HTTP/1.1 the connection would be reset while the
//! caller still sends, and the answer lost with it; so what is left is read for a while, and thrown away.
//!
//! *Knows:* chunks, limits, patience. *Does not know:* what the bytes mean.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Version, header, request::Parts};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    base::{Code, Error, Result, reason, tasks::Tasks},
    edge::{Body, unread},
};

/// Largest JSON body. Published pages have no larger messages; files go by upload.
pub(super) const JSON_BYTES_MAX: usize = 1 << 20;

/// How long a caller may send nothing. Longer is a hung peer or one that holds connections on purpose.
pub(in crate::edge) const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long a whole body may take. The largest upload over a slow line stays below; the setting for uploads is bounded by
/// it.
pub(in crate::edge) const BODY_MAX: Duration = Duration::from_secs(600);

/// How much of a refused body is read and thrown away, so that the caller gets to read the refusal.
const LINGER_BYTES_MAX: usize = 4 << 20;

/// How long that may take.
const LINGER_MAX: Duration = Duration::from_secs(5);

/// The body of one request.
pub(super) struct Inlet {
    body: Option<Body>,
    tasks: Tasks,
    /// Set when reading begins: most requests have no body, and never wait.
    ends_at: Option<Instant>,
    lingers: bool,
    waits: bool,
}

impl Inlet {
    pub(super) fn new(body: Body, head: &Parts, tasks: &Tasks) -> Inlet {
        Inlet {
            ends_at: None,
            // HTTP/2 ends one stream without touching the connection.
            lingers: matches!(head.version, Version::HTTP_10 | Version::HTTP_11),
            waits: !body.is_end_stream() && head.headers.contains_key(header::EXPECT),
            body: Some(body),
            tasks: tasks.clone(),
        }
    }

    /// The same inlet, with its bytes counted.
    pub(super) fn metered(&mut self, entry: crate::gate::Entry) {
        self.body = self.body.take().map(|body| body.received_by(entry));
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
        self.waits = false;
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
            // A caller that waits for 100 Continue is to be answered at once, and sends nothing then.
            Some(body) if !self.waits => unread::ended(body).await,
            _ => Ok(()),
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

impl Drop for Inlet {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        // A caller that waits for 100 Continue sends nothing when it gets a refusal instead.
        if self.lingers && !self.waits && !body.is_end_stream() && tokio::runtime::Handle::try_current().is_ok() {
            self.tasks.serve(linger(body));
        }
    }
}

async fn linger(mut body: Body) {
    let mut left = LINGER_BYTES_MAX;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(length) else { break };
            left = rest;
        }
    };
    // Whether it ended or not, the connection may now close.
    let _ended = timeout(LINGER_MAX, reading).await;
}

pub(super) fn too_large(limit: usize) -> Error {
    Error::new(Code::ResourceExhausted, reason::BODY_TOO_LARGE, format!("the body is larger than {limit} bytes"))
}

/// The error of a body that does not come.
pub(in crate::edge) fn too_slow() -> Error {
    Error::new(Code::DeadlineExceeded, reason::UPLOAD_TIMEOUT, "the body did not arrive in time")
}
