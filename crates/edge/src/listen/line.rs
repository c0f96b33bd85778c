//! The line to a peer: how long it may be dead, and how long the peer may refuse to take what it is sent.
//!
//! A newcomer's usual mistake is to rely on the kernel. A peer that vanished without a word is not missed for hours, and one
//! that does not read is never given up; both hold a connection and all that serves it.
//!
//! *Knows:* TCP's own questions, blocked writes. *Does not know:* what is sent.

use std::{
    io,
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};

/// How long a line is silent before the kernel asks whether anybody is there.
pub(super) const ASKED_AFTER: Duration = Duration::from_secs(30);
/// How often it asks again.
const ASKED_EVERY: Duration = Duration::from_secs(10);
/// How often it asks in all.
const ASKED_TIMES: u32 = 3;
/// How long a peer may take nothing of what it is sent. Longer than sockets wait, which then say why they close; no reader
/// that works stands still for a minute.
const BLOCKED_MAX: Duration = Duration::from_secs(60);

/// Has the kernel give up peers that are gone. Connections have it from the socket that they are accepted by.
pub(super) fn attend(socket: &impl AsFd) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, ASKED_AFTER)?;
    sockopt::set_tcp_keepintvl(socket, ASKED_EVERY)?;
    sockopt::set_tcp_keepcnt(socket, ASKED_TIMES)?;
    // Elsewhere a blocked write is noticed by the clock below alone.
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(socket, u32::try_from(BLOCKED_MAX.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

/// A connection that breaks when its peer takes nothing for too long.
///
/// It has its slot among the connections of the house, so that whoever holds the line counts as one: a socket that has
/// taken it over too.
pub(super) struct Line<I> {
    io: I,
    blocked: Option<Blocked>,
    _slot: OwnedSemaphorePermit,
}

struct Blocked {
    timer: Pin<Box<Sleep>>,
    what: Blocks,
}

/// What has to wait. A flush that succeeds proves nothing of a write that does not: where nothing is kept to be flushed it
/// always succeeds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blocks {
    Write,
    Flush,
}

impl<I> Line<I> {
    pub(super) fn new(io: I, slot: OwnedSemaphorePermit) -> Line<I> {
        Line { io, blocked: None, _slot: slot }
    }

    fn watch<T>(&mut self, what: Blocks, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            if what == Blocks::Write || self.blocked.as_ref().is_some_and(|blocked| blocked.what == Blocks::Flush) {
                self.blocked = None;
            }
            return polled;
        }
        let blocked = self.blocked.get_or_insert_with(|| Blocked { timer: Box::pin(sleep(BLOCKED_MAX)), what });
        match blocked.timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing"))),
            Poll::Pending => polled,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Line<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, into)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Line<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.watch(Blocks::Write, polled, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_flush(cx);
        this.watch(Blocks::Flush, polled, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_shutdown(cx);
        this.watch(Blocks::Flush, polled, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        this.watch(Blocks::Write, polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::Semaphore,
        time::Instant,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_for_a_minute_is_given_up_and_a_slow_one_is_not() {
        let (ours, mut peer) = tokio::io::duplex(16);
        let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let mut line = Line::new(ours, slot);
        let sending = async { line.write_all(&[0; 64]).await.map(|()| line) };
        let reading = async {
            for _ in 0..4 {
                sleep(BLOCKED_MAX - Duration::from_secs(1)).await;
                peer.read_exact(&mut [0; 16]).await.unwrap();
            }
        };
        let mut line = tokio::join!(sending, reading).0.unwrap();
        let began = Instant::now();
        assert_eq!(line.write_all(&[0; 32]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), BLOCKED_MAX);
    }
}
