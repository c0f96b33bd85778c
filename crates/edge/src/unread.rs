//! What a caller sends and nobody reads: the body of a call that takes none, the rest of one that is refused.
//!
//! A newcomer's usual mistake is to answer and drop a request that is still coming. Over HTTP/1.1 a client that is sending
//! sees a broken pipe instead of the answer; over HTTP/2 its stream is reset together with the answer, which many clients
//! then throw away. A request whose end is malformed would have been answered as a good one.
//!
//! *Knows:* how much is read for that, and for how long. *Does not know:* what the bytes mean.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Version;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use hyper::body::{Incoming, SizeHint};
use portico_base::{Result, tasks::Tasks};
use tokio::{runtime::Handle, time::timeout};

use super::Body;

/// Most that is read before an answer: enough for small calls to keep their connection, too little to be abused.
const BYTES_MAX: usize = 64 << 10;
/// How long is waited for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Most that is thrown away beside an answer, for clients that look at it only when they have sent everything.
const DISCARDED_BYTES_MAX: usize = 16 << 20;
/// How long a caller has for that.
const DISCARDING_MAX: Duration = Duration::from_secs(5);

/// Waits for the end of a request, within bounds; beyond them the answer no longer waits. A caller that waits to be told to
/// go on is answered at once: it sends nothing then, and looking for its body would tell it.
///
/// # Errors
/// When the body turns out to be malformed, or its caller to have gone.
pub(super) async fn ended(body: &mut Body) -> Result<()> {
    if body.is_end_stream() || body.waits() {
        return Ok(());
    }
    let reading = async {
        let mut bytes = 0;
        while bytes <= BYTES_MAX
            && let Some(frame) = body.frame().await
        {
            bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(())
    };
    timeout(PATIENCE, reading).await.unwrap_or(Ok(()))
}

/// A body that comes over a connection. Dropped before its end, it is read on for a while.
pub(super) struct Arriving {
    /// Nothing when it has ended.
    body: Option<Incoming>,
    /// Where it is read on.
    tasks: Option<Tasks>,
    /// Whether its caller waits to be told to go on, as the first look for it would do.
    waits: bool,
}

impl Arriving {
    /// Has what nobody reads thrown away by these tasks, so that the caller gets to read the answer.
    pub(super) fn discarded_by(&mut self, tasks: &Tasks, version: Version, expects: bool) {
        if self.is_end_stream() {
            return;
        }
        self.waits = expects;
        // Over HTTP/2 nobody is told to go on by being read from, and what is sent all the same is to do no harm.
        if !expects || version >= Version::HTTP_2 {
            self.tasks = Some(tasks.clone());
        }
    }

    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        self.waits = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl From<Incoming> for Arriving {
    fn from(body: Incoming) -> Arriving {
        Arriving { body: Some(body), tasks: None, waits: false }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let (Some(body), Some(tasks)) = (self.body.take(), &self.tasks) else { return };
        if !body.is_end_stream() && Handle::try_current().is_ok() {
            drop(tasks.serve(discard(body)));
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut bytes = 0;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes >= DISCARDED_BYTES_MAX {
                // Nothing more is let in. Who has to stop sending looks at what has come.
                std::future::pending::<()>().await;
            }
        }
    };
    // Whether it ended or not, stream or connection may now close.
    let _ended = timeout(DISCARDING_MAX, reading).await;
}
