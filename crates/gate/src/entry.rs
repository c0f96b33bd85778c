//! The record of one call: opened when it is admitted, closed when its last byte has left or its caller has gone.
//!
//! A newcomer's usual mistake is to log where a handler returns. A stream goes on after that, so the record hangs on the
//! body: the last clone of an [`Entry`] that is dropped closes it.
//!
//! *Knows:* outcome, bytes, the moment a call must end early. *Does not know:* where records go.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use portico_base::{Code, Error, Reason, Result};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::metrics::{Side, Way};

/// The open record of one call. Clones share it; the last one dropped closes it.
#[derive(Clone)]
pub struct Entry(Arc<Inner<dyn Outlet>>);

/// Where a closed record goes.
pub trait Outlet: Send + Sync + 'static {
    /// Takes the closed record.
    fn closed(&self, record: &Closed);

    /// A frame of a socket has passed.
    fn passed(&self, _way: Way, _bytes: usize) {}

    /// A side of a socket did not take frames for this long.
    fn stalled(&self, _side: Side, _time: Duration) {}
}

/// A closed record.
pub struct Closed {
    /// When the call was admitted.
    pub began: Instant,
    /// What went wrong: code, reason and the story without what callers sent.
    pub failure: Option<(Code, Reason, String)>,
    /// What work that outlives its caller came to: `done`, or the reason why it failed. It may be done although the call
    /// has failed, because its caller hung up or its time was over.
    pub work: Option<&'static str>,
    /// Body bytes received.
    pub bytes_in: u64,
    /// Body bytes sent.
    pub bytes_out: u64,
}

struct Inner<O: Outlet + ?Sized> {
    began: Instant,
    failure: OnceLock<(Code, Reason, String)>,
    work: OnceLock<&'static str>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    ended: Arc<CancellationToken>,
    /// Last, so that the record and its outlet are one allocation.
    outlet: O,
}

impl Entry {
    /// Opens a record. `ended` is cancelled when the call's credential is revoked.
    pub fn open(outlet: impl Outlet, ended: Arc<CancellationToken>) -> Entry {
        Entry(Arc::new(Inner {
            began: Instant::now(),
            failure: OnceLock::new(),
            work: OnceLock::new(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            ended,
            outlet,
        }))
    }

    /// Notes why the call failed. The first failure is the one that counts.
    pub fn fail(&self, error: &Error) {
        // A later failure is a consequence of the first one.
        let _first = self.0.failure.set((error.code(), error.reason(), error.record()));
    }

    /// Notes what work came to that outlives its caller.
    pub fn worked<T>(&self, outcome: &Result<T>) {
        let word = outcome.as_ref().err().map_or("done", |error| error.reason().as_str());
        // One call is one piece of work.
        let _only = self.0.work.set(word);
    }

    /// Counts body bytes received.
    pub fn received(&self, bytes: usize) {
        self.0.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts body bytes sent.
    pub fn sent(&self, bytes: usize) {
        self.0.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts a frame of a socket.
    pub fn passed(&self, way: Way, bytes: usize) {
        match way {
            Way::In => self.received(bytes),
            Way::Out => self.sent(bytes),
        }
        self.0.outlet.passed(way, bytes);
    }

    /// Notes that a side of a socket did not take frames for this long.
    pub fn stalled(&self, side: Side, time: Duration) {
        self.0.outlet.stalled(side, time);
    }

    /// Resolves when the credential of the call is revoked or expired. Streams and sockets end then.
    pub fn revoked(&self) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        Box::pin(CancellationToken::clone(&self.0.ended).cancelled_owned())
    }
}

impl<O: Outlet + ?Sized> Drop for Inner<O> {
    fn drop(&mut self) {
        let closed = Closed {
            began: self.began,
            failure: self.failure.take(),
            work: self.work.take(),
            bytes_in: *self.bytes_in.get_mut(),
            bytes_out: *self.bytes_out.get_mut(),
        };
        self.outlet.closed(&closed);
    }
}
