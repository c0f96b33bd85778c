//! The one body of requests and answers.
//!
//! A newcomer's usual mistake is to box a body once per layer. Every layer here works on the same type: what a body is
//! made of is a variant, and counting is a field.
//!
//! Answers leave in pieces. A peer that takes one byte of an answer would else have all of it, as far as anybody here can
//! see: it would wait inside the HTTP library, where nothing counts it.
//!
//! A request is read for as long as its credential holds. Every door reads bodies, so what is still being sent ends here,
//! whatever it is.
//!
//! *Knows:* frames, and the record that counts them. *Does not know:* what the bytes mean.

use std::{
    error::Error as _,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use portico_base::{Code, Error, reason, tasks::Tasks};
use portico_gate::Entry;

use super::{ends::revoked, engine::RpcBody, taking, unread::Arriving};

/// Most that leaves at once: the usual limit of a frame of HTTP/2.
pub(super) const PIECE_BYTES_MAX: usize = 16 << 10;

/// A body that is always ready is asked after its credential once in so many frames: asking takes a lock.
const FRAMES_BETWEEN_CHECKS: u8 = 32;

/// The body of a request or an answer.
pub struct Body {
    kind: Kind,
    meter: Option<Meter>,
    /// Whether it is an answer that leaves over a connection.
    leaves: bool,
    /// What is left of a frame that was larger than a piece. Boxed, because few are.
    rest: Option<Box<Bytes>>,
}

enum Kind {
    Full(Full<Bytes>),
    Arriving(Arriving),
    Trailed(Trailed),
    /// Boxed, because it is large and every body would be moved about with room for it.
    Rpc(Box<RpcBody>),
    Boxed(UnsyncBoxBody<Bytes, Error>),
}

/// Bytes with trailers after them.
pub(super) struct Trailed {
    data: Option<Bytes>,
    trailers: Option<Box<HeaderMap>>,
}

/// Which way the bytes go, and the record that counts them. Dropped with the last frame, which is what closes the record.
enum Meter {
    In(Entry, Credential),
    Out(Entry),
}

/// Whether the credential of a request still holds.
#[derive(Default)]
struct Credential {
    /// Made when the body is first waited for: most are there when they are asked for.
    revoked: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
    unchecked: u8,
}

impl Body {
    /// No bytes.
    pub fn empty() -> Body {
        Body::from(Bytes::new())
    }

    /// A body of another kind.
    pub fn boxed(body: impl http_body::Body<Data = Bytes, Error = Error> + Send + 'static) -> Body {
        Body::of(Kind::Boxed(body.boxed_unsync()))
    }

    pub(super) fn rpc(body: RpcBody) -> Body {
        Body::of(Kind::Rpc(Box::new(body)))
    }

    pub(super) fn trailed(body: Trailed) -> Body {
        Body::of(Kind::Trailed(body))
    }

    /// Has its bytes counted as received. It fails when the credential of the call is revoked.
    pub fn received_by(&mut self, entry: Entry) {
        self.meter = Some(Meter::In(entry, Credential::default()));
    }

    /// Has its bytes counted as sent. It holds the record open until its end.
    pub fn sent_by(&mut self, entry: Entry) {
        self.meter = Some(Meter::Out(entry));
    }

    /// The same body, sent for the record of a refusal where one is kept.
    #[must_use]
    pub(super) fn refused_by(mut self, entry: Option<Entry>) -> Body {
        if let Some(entry) = entry {
            self.sent_by(entry);
        }
        self
    }

    /// Whether its caller waits to be told to send it.
    pub(super) fn waits(&self) -> bool {
        matches!(&self.kind, Kind::Arriving(body) if body.waits())
    }

    /// Has what nobody reads of a request thrown away by these tasks for a while.
    pub(super) fn discarded_by(&mut self, tasks: &Tasks, version: Version, expects: bool) {
        if let Kind::Arriving(body) = &mut self.kind {
            body.discarded_by(tasks, version, expects);
        }
    }

    /// Leaves its content out. The record that counts it stays open until the answer has left.
    pub(super) fn leave_out(&mut self) {
        self.kind = Kind::Full(Full::default());
        self.rest = None;
    }

    /// Puts it on its way out: in pieces, and watched.
    pub(super) fn leaving(&mut self) {
        self.leaves = true;
    }

    /// The next piece of a frame that did not leave at once.
    fn piece(&mut self) -> Option<Frame<Bytes>> {
        let rest = self.rest.as_mut()?;
        let piece = rest.split_to(rest.len().min(PIECE_BYTES_MAX));
        if rest.is_empty() {
            self.rest = None;
        }
        Some(Frame::data(piece))
    }

    /// The frame, or the first piece of it.
    fn cut(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if !self.leaves || frame.data_ref().is_none_or(|data| data.len() <= PIECE_BYTES_MAX) {
            return frame;
        }
        match frame.into_data() {
            Ok(mut data) => {
                let piece = data.split_to(PIECE_BYTES_MAX);
                self.rest = Some(Box::new(data));
                Frame::data(piece)
            }
            Err(frame) => frame,
        }
    }

    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.kind {
            Kind::Full(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Kind::Arriving(body) => body.poll_frame(cx).map_err(interrupted),
            Kind::Trailed(body) => Poll::Ready(body.next().map(Ok)),
            Kind::Rpc(body) => Pin::new(&mut **body).poll_frame(cx),
            Kind::Boxed(body) => Pin::new(body).poll_frame(cx),
        }
        .map_ok(|frame| self.cut(frame))
    }

    fn of(kind: Kind) -> Body {
        Body { kind, meter: None, leaves: false, rest: None }
    }
}

impl Trailed {
    pub(super) fn new(data: Bytes, trailers: HeaderMap) -> Trailed {
        Trailed { data: Some(data), trailers: Some(Box::new(trailers)) }
    }

    fn next(&mut self) -> Option<Frame<Bytes>> {
        match self.data.take() {
            Some(data) => Some(Frame::data(data)),
            None => self.trailers.take().map(|trailers| Frame::trailers(*trailers)),
        }
    }
}

impl Meter {
    fn count(&self, bytes: usize) {
        match self {
            Meter::In(entry, _) => entry.received(bytes),
            Meter::Out(entry) => entry.sent(bytes),
        }
    }

    /// Whether what was received must not be read on.
    fn is_revoked(&mut self, waits: bool, cx: &mut Context<'_>) -> bool {
        let Meter::In(entry, credential) = self else { return false };
        credential.unchecked = credential.unchecked.saturating_add(1);
        if !waits && credential.unchecked <= FRAMES_BETWEEN_CHECKS {
            return false;
        }
        credential.unchecked = 0;
        credential.revoked.get_or_insert_with(|| entry.revoked()).as_mut().poll(cx).is_ready()
    }
}

impl Default for Body {
    fn default() -> Body {
        Body::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        Body::of(Kind::Full(Full::new(bytes)))
    }
}

impl From<Incoming> for Body {
    fn from(body: Incoming) -> Body {
        Body::of(Kind::Arriving(body.into()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let polled = match this.piece() {
            Some(piece) => Poll::Ready(Some(Ok(piece))),
            None => this.poll_kind(cx),
        };
        let polled = if this.meter.as_mut().is_some_and(|meter| meter.is_revoked(polled.is_pending(), cx)) {
            // What still comes is nobody's any more.
            this.kind = Kind::Full(Full::default());
            Poll::Ready(Some(Err(revoked())))
        } else {
            polled
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(meter), Some(data)) = (&this.meter, frame.data_ref()) {
                    meter.count(data.len());
                }
            }
            Poll::Ready(_) => this.meter = None,
            Poll::Pending => {}
        }
        if this.leaves {
            taking::note(polled.is_ready());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        if self.rest.is_some() {
            return false;
        }
        match &self.kind {
            Kind::Full(body) => body.is_end_stream(),
            Kind::Arriving(body) => body.is_end_stream(),
            Kind::Trailed(body) => body.trailers.is_none(),
            Kind::Rpc(body) => body.is_end_stream(),
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_some() {
            return SizeHint::default();
        }
        match &self.kind {
            Kind::Full(body) => body.size_hint(),
            Kind::Arriving(body) => body.size_hint(),
            // The length is not told beforehand: what follows the data belongs to the answer.
            Kind::Trailed(_) => SizeHint::default(),
            Kind::Rpc(body) => body.size_hint(),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

/// Of a caller that has gone one hears that its body ends early; any other fault is one of the text, whose writer waits.
fn interrupted(error: hyper::Error) -> Error {
    let kind = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    if matches!(kind, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)) {
        return Error::new(
            Code::InvalidArgument,
            reason::INVALID_MESSAGE,
            "the request body is not framed as HTTP says",
        )
        .caused_by(error);
    }
    Error::new(Code::Canceled, reason::CANCELED, "the request body ended early").caused_by(error)
}
