//! Carries frames between a socket and a handler, both ways at once, until one of many reasons ends it.
//!
//! A newcomer's usual mistake is a task for each direction with a channel between them. One future moves both, so an idle
//! socket costs one small allocation, and nothing is buffered: a side that does not take is not read from on the other.
//!
//! *Knows:* heartbeats, patience, drain, revocation. *Does not know:* what frames mean.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_channel::mpsc::Sender;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use portico_base::{Code, Error, Outgoing, Reason, Result, reason, tasks::Tasks};
use portico_gate::{Entry, Side, Way};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message as Frame,
        protocol::{Role, WebSocketConfig},
    },
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    Framing,
    close::{self, End},
    pieces::Pieces,
};
use crate::ends::{draining, revoked};

/// How often a ping goes out. Load balancers close what is silent for a minute.
const PING_EVERY: Duration = Duration::from_secs(20);

/// How long a caller may be silent, pongs included. Two pings fit in between.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// How long a side may refuse to take a frame.
const BLOCKED_MAX: Duration = Duration::from_secs(30);

/// How long the closing handshake may take, and how long a handler has to end by itself.
pub(crate) const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// Largest message from a caller, where the handler does not want smaller ones.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What is read at once. Idle sockets are many, and large messages get a buffer of their size anyway.
const READ_BYTES: usize = 2 << 10;

/// What is gathered of frames that come at the same time, before it is written.
const WRITE_BYTES: usize = 4 << 10;

/// Most frames that go one way before the other way gets its turn.
const FRAMES_PER_TURN: usize = 32;

/// What moves the frames of one socket.
pub(super) struct Pump {
    socket: Option<WebSocketStream<Pieces<TokioIo<Upgraded>>>>,
    outbound: Outgoing<Bytes>,
    inbound: Sender<Result<Bytes>>,
    framing: Framing,
    entry: Entry,
    /// A message that the handler has no room for yet.
    held: Option<Bytes>,
    /// Whether something was put that was not sent yet.
    is_dirty: bool,
    awaits_room: bool,
    heard_at: Instant,
    ping_at: Instant,
    caller_blocked: Option<Instant>,
    handler_blocked: Option<Instant>,
    leave_at: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    revoked: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    tasks: Tasks,
    leaving: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// Carries frames once the handshake is through, then says farewell. Messages from the caller have at most this many bytes;
/// what goes to it is handed over in pieces of at most that many.
pub(super) async fn run(upgrade: OnUpgrade, mut pump: Pump, bytes_max: Option<usize>, piece_bytes_max: usize) {
    let Ok(upgraded) = upgrade.await else {
        // The caller went before the answer reached it; the handler learns that by its streams being dropped.
        return;
    };
    let bytes_max = bytes_max.map_or(MESSAGE_BYTES_MAX, |bytes| bytes.min(MESSAGE_BYTES_MAX));
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(WRITE_BYTES)
        .max_message_size(Some(bytes_max))
        .max_frame_size(Some(bytes_max));
    let io = Pieces::new(TokioIo::new(upgraded), piece_bytes_max);
    pump.socket = Some(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await);
    pump.heard_at = Instant::now();
    let end = std::future::poll_fn(|cx| pump.poll(cx)).await;
    // Boxed, so that what is needed once does not make every idle socket larger.
    Box::pin(pump.farewell(end)).await;
}

impl Pump {
    pub(super) fn new(
        outbound: Outgoing<Bytes>,
        inbound: Sender<Result<Bytes>>,
        framing: Framing,
        entry: Entry,
        tasks: Tasks,
    ) -> Pump {
        let now = Instant::now();
        let revoked = entry.revoked();
        Pump {
            socket: None,
            outbound,
            inbound,
            framing,
            entry,
            held: None,
            is_dirty: false,
            awaits_room: false,
            heard_at: now,
            ping_at: now + PING_EVERY,
            caller_blocked: None,
            handler_blocked: None,
            leave_at: None,
            timer: Box::pin(sleep_until(now + PING_EVERY)),
            revoked,
            leaving: Box::pin(tasks.leaving_token().cancelled_owned()),
            tasks,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.revoked.as_mut().poll(cx).is_ready() {
            return Poll::Ready(self.fail(&revoked()));
        }
        if self.leave_at.is_none() && self.leaving.as_mut().poll(cx).is_ready() {
            // Each at a moment of its own, so that callers do not come back all at once.
            let leave_at = self.tasks.leave_at();
            self.leave_at = Some(leave_at);
            let earlier = leave_at.min(self.timer.deadline());
            self.timer.as_mut().reset(earlier);
        }
        if let Some(end) = self.write(cx) {
            return Poll::Ready(end);
        }
        if let Some(end) = self.read(cx) {
            return Poll::Ready(end);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if let Some(end) = self.tick(cx) {
                return Poll::Ready(end);
            }
        }
        Poll::Pending
    }

    /// From the handler to the caller. What the handler says at once leaves at once; nothing waits for more.
    fn write(&mut self, cx: &mut Context<'_>) -> Option<End> {
        for _ in 0..FRAMES_PER_TURN {
            match self.room(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(end)) => return Some(end),
                Poll::Pending => return None,
            }
            let message = match self.outbound.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Ready(Some(Err(error))) => return Some(self.fail(&error)),
                Poll::Ready(None) => return Some(End::NORMAL),
                Poll::Pending => return self.flushed(cx),
            };
            match self.framing.given(&message) {
                Ok(Some(Frame::Close(frame))) => return Some(End::said(frame)),
                Ok(Some(frame)) => {
                    self.entry.passed(Way::Out, frame.len());
                    if let Err(end) = self.put(frame) {
                        return Some(end);
                    }
                }
                Ok(None) => {}
                Err(error) => return Some(self.fail(&error)),
            }
        }
        cx.waker().wake_by_ref();
        self.flushed(cx)
    }

    /// From the caller to the handler.
    fn read(&mut self, cx: &mut Context<'_>) -> Option<End> {
        for _ in 0..FRAMES_PER_TURN {
            if self.held.is_some() {
                match self.inbound.poll_ready(cx) {
                    Poll::Ready(room) => {
                        let message = self.held.take();
                        self.unblocked(Side::Handler);
                        // A handler that wants no more messages may still have some to say.
                        if let (Ok(()), Some(message)) = (room, message) {
                            let _no_longer_wanted = self.inbound.start_send(Ok(message)).is_err();
                        }
                    }
                    Poll::Pending => {
                        self.handler_blocked.get_or_insert_with(Instant::now);
                        return None;
                    }
                }
            }
            let frame = match Pin::new(self.socket.as_mut()?).poll_next(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(error))) => return Some(self.broken(&error)),
                Poll::Ready(None) => return Some(End::Gone),
                Poll::Pending => return None,
            };
            self.heard_at = Instant::now();
            match frame {
                Frame::Close(frame) => return Some(End::Theirs(frame)),
                // Pongs are sent by the library, with its next read.
                Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => {}
                Frame::Text(_) | Frame::Binary(_) => {
                    self.entry.passed(Way::In, frame.len());
                    match self.framing.taken(frame) {
                        Ok(message) => self.held = Some(message),
                        Err(error) => return Some(self.fail(&error)),
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        None
    }

    /// Waits until the socket takes another frame.
    fn room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(Err(End::Gone)) };
        let Poll::Ready(room) = Pin::new(socket).poll_ready(cx) else {
            self.awaits_room = true;
            self.caller_blocked.get_or_insert_with(Instant::now);
            return Poll::Pending;
        };
        if std::mem::take(&mut self.awaits_room) {
            self.unblocked(Side::Caller);
        }
        Poll::Ready(room.map_err(|error| self.broken(&error)))
    }

    fn put(&mut self, frame: Frame) -> Result<(), End> {
        let Some(socket) = &mut self.socket else { return Err(End::Gone) };
        self.is_dirty = true;
        let put = Pin::new(socket).start_send(frame);
        put.map_err(|error| self.broken(&error))
    }

    /// Sends what was put, as far as the caller takes it now.
    fn flushed(&mut self, cx: &mut Context<'_>) -> Option<End> {
        if !self.is_dirty {
            return None;
        }
        let Poll::Ready(flushed) = Pin::new(self.socket.as_mut()?).poll_flush(cx) else {
            self.caller_blocked.get_or_insert_with(Instant::now);
            return None;
        };
        self.is_dirty = false;
        self.unblocked(Side::Caller);
        flushed.err().map(|error| self.broken(&error))
    }

    /// Looks at all clocks, pings when it is time, and sets the timer to what comes next.
    fn tick(&mut self, cx: &mut Context<'_>) -> Option<End> {
        let now = Instant::now();
        if self.leave_at.is_some_and(|at| at <= now) {
            return Some(self.fail(&draining()));
        }
        if self.caller_blocked.is_some_and(|since| now >= since + BLOCKED_MAX) {
            self.unblocked(Side::Caller);
            return Some(self.give_up(1013, reason::SLOW_CONSUMER, "slow_consumer"));
        }
        if self.handler_blocked.is_some_and(|since| now >= since + BLOCKED_MAX) {
            self.unblocked(Side::Handler);
            return Some(self.give_up(1011, reason::CANCELED, "upstream_blocked"));
        }
        // Who is not read from cannot be heard.
        if self.handler_blocked.is_some() {
            self.heard_at = now;
        }
        if now >= self.heard_at + SILENCE_MAX {
            return Some(self.give_up(4408, reason::CANCELED, "heartbeat_timeout"));
        }
        if now >= self.ping_at {
            self.ping_at = now + PING_EVERY;
            if self.caller_blocked.is_none() {
                if let Err(end) = self.put(Frame::Ping(Bytes::new())) {
                    return Some(end);
                }
                if let Some(end) = self.flushed(cx) {
                    return Some(end);
                }
            }
        }
        let blocked =
            [self.caller_blocked, self.handler_blocked].into_iter().flatten().map(|since| since + BLOCKED_MAX);
        let next = [self.ping_at, self.heard_at + SILENCE_MAX].into_iter().chain(self.leave_at).chain(blocked).min();
        self.timer.as_mut().reset(next.unwrap_or(self.ping_at));
        None
    }

    /// A side takes frames, and perhaps did not before.
    fn unblocked(&mut self, side: Side) {
        let blocked = match side {
            Side::Caller => &mut self.caller_blocked,
            Side::Handler => &mut self.handler_blocked,
        };
        if let Some(since) = blocked.take() {
            self.entry.stalled(side, since.elapsed());
        }
    }

    fn fail(&self, error: &Error) -> End {
        self.entry.fail(error);
        End::of(error)
    }

    fn give_up(&self, code: u16, reason: Reason, token: &'static str) -> End {
        self.entry.fail(&Error::new(Code::DeadlineExceeded, reason, token));
        End::ours(code, token)
    }

    fn broken(&self, error: &tokio_tungstenite::tungstenite::Error) -> End {
        let end = End::broken(error);
        let told = Error::new(Code::Canceled, reason::CANCELED, "the socket broke").caused_by(error.to_string());
        self.entry.fail(&told);
        end
    }

    /// Closes the socket, and lets the handler end. The other side of a tunnel hears why.
    async fn farewell(self, end: End) {
        let Pump { socket, outbound, mut inbound, framing, entry, .. } = self;
        let Some(mut socket) = socket else { return };
        let told_on = end.told_on().and_then(|(code, reason)| framing.farewell(code, &reason));
        // A handler that has no room for it learns from the end of its stream that nothing follows.
        let is_told = told_on.is_some_and(|message| inbound.try_send(Ok(message)).is_ok());
        match end {
            End::Ours { code, reason } => {
                drop(inbound);
                let closing = async {
                    socket.send(Frame::Close(Some(close::frame(code, &reason)))).await?;
                    while let Some(frame) = socket.next().await {
                        frame?;
                    }
                    Ok::<(), tokio_tungstenite::tungstenite::Error>(())
                };
                // Unless it has to pass something on, the handler is through, and nobody waits for it any more.
                let ending = async {
                    match is_told {
                        true => ended(outbound).await,
                        false => drop(outbound),
                    }
                };
                // A caller that does not answer the closing handshake is left alone.
                let _answered = timeout(FAREWELL_MAX, async { tokio::join!(closing, ending) }).await;
            }
            End::Theirs(_) => {
                drop(inbound);
                // The answer to their close is queued; reading on sends it.
                let closing = async { while let Some(Ok(_)) = socket.next().await {} };
                let ending = ended(outbound);
                let _answered = timeout(FAREWELL_MAX, async { tokio::join!(closing, ending) }).await;
            }
            End::Gone => {
                let gone = Error::new(Code::Canceled, reason::CANCELED, "the caller hung up without a farewell");
                entry.fail(&gone);
                if !is_told {
                    let _has_room = inbound.try_send(Err(gone)).is_ok();
                }
                drop(inbound);
                let _ended = timeout(FAREWELL_MAX, ended(outbound)).await;
            }
        }
    }
}

/// Waits until a handler has ended its stream. What it still says, nobody hears; one that never pauses is paused, so that
/// the patience with it can run out.
async fn ended(mut outbound: Outgoing<Bytes>) {
    while outbound.next().await.is_some() {
        tokio::task::yield_now().await;
    }
}
