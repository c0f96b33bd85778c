//! What is written to an HTTP/2 peer, gathered until everybody who has something to write has written.
//!
//! A newcomer's usual mistake is to send each answer as soon as it is there. The answers of one connection become ready
//! together, and a system call and a packet for each cost more than some of them take to make.
//!
//! *Knows:* bytes, whether answers are still to come. *Does not know:* frames.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::yield_now,
};

use super::{aside::Call, streams::Streams};

/// Most that is gathered: a usual frame. What is larger is not copied, and takes with it what was gathered before.
const GATHERED_BYTES_MAX: usize = 16 << 10;
/// Room to begin with: some small answers.
const ROOM_BYTES: usize = 1 << 10;

/// A connection whose small writes leave together.
pub(super) struct Gathered<I> {
    io: I,
    streams: Streams,
    /// Without room while nothing is under way.
    bytes: Vec<u8>,
    /// How much of them has left.
    left: usize,
    state: State,
    /// Comes when every task that was ready to run has run.
    turn: Arc<Call>,
    waker: Waker,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody has asked for what was gathered to leave.
    Gathers,
    /// The others have their turn first.
    Waits,
    /// It leaves.
    Leaves,
}

impl<I> Gathered<I> {
    /// What is written to `io`, on which these streams are answered.
    pub(super) fn new(io: I, streams: Streams) -> Gathered<I> {
        let (turn, waker) = Call::new();
        Gathered { io, streams, bytes: Vec::new(), left: 0, state: State::Gathers, turn, waker }
    }

    /// Whether to write now. While other streams are to be answered, their tasks run first.
    fn is_time(&mut self, cx: &mut Context<'_>) -> bool {
        if self.state == State::Gathers && self.streams.are_open() {
            self.state = State::Waits;
            // Has its waker called when nothing else can run, and does nothing else: it need not be kept.
            let _comes_later = pin!(yield_now()).poll(&mut Context::from_waker(&self.waker)).is_pending();
        }
        if self.state != State::Waits || self.turn.has_come(cx) || !self.streams.are_open() {
            self.state = State::Leaves;
        }
        self.state == State::Leaves
    }

    fn has_left(&mut self) {
        self.state = State::Gathers;
        self.left = 0;
        // A connection may have nothing to say for hours.
        self.bytes = Vec::new();
    }
}

impl<I: AsyncWrite + Unpin> Gathered<I> {
    /// Writes what was gathered.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.left < self.bytes.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.bytes[self.left..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.left += written,
            }
        }
        self.has_left();
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Gathered<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.bytes.len() + bytes.len() <= GATHERED_BYTES_MAX {
            if this.bytes.capacity() == 0 {
                this.bytes.reserve(ROOM_BYTES);
            }
            this.bytes.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        while this.left < this.bytes.len() {
            let gathered = this.bytes.len() - this.left;
            let slices = [IoSlice::new(&this.bytes[this.left..]), IoSlice::new(bytes)];
            match ready!(Pin::new(&mut this.io).poll_write_vectored(cx, &slices))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written if written <= gathered => this.left += written,
                written => {
                    this.has_left();
                    return Poll::Ready(Ok(written - gathered));
                }
            }
        }
        this.has_left();
        Pin::new(&mut this.io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.bytes.is_empty() {
            if !this.is_time(cx) {
                return Poll::Pending;
            }
            ready!(this.poll_leave(cx))?;
        }
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_leave(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Gathered<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, into)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use hyper::rt::Executor;
    use portico_base::tasks::Tasks;
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Keeps each write.
    #[derive(Default)]
    struct Sink(Vec<Vec<u8>>);

    impl AsyncWrite for Sink {
        fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.get_mut().0.push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn answers_that_are_ready_together_leave_together_and_the_last_one_leaves_at_once() {
        let streams = Streams::new(Tasks::new());
        let mut gathered = Gathered::new(Sink::default(), streams.clone());
        gathered.write_all(b"alone").await.unwrap();
        assert!(futures_util::poll!(pin!(gathered.flush())).is_ready());

        streams.execute(pending::<()>());
        gathered.write_all(b"one ").await.unwrap();
        for more in [&b"two "[..], b"three"] {
            assert!(futures_util::poll!(pin!(gathered.flush())).is_pending());
            gathered.write_all(more).await.unwrap();
        }
        gathered.flush().await.unwrap();
        assert_eq!(gathered.io.0, [b"alone".to_vec(), b"one two three".to_vec()]);
    }

    #[tokio::test]
    async fn what_is_large_is_not_gathered_and_nothing_changes_its_place() {
        let streams = Streams::new(Tasks::new());
        streams.execute(pending::<()>());
        let mut gathered = Gathered::new(Sink::default(), streams);
        let large = vec![b'x'; GATHERED_BYTES_MAX];
        for piece in [&b"head"[..], &large, b"tail"] {
            gathered.write_all(piece).await.unwrap();
        }
        assert_eq!(gathered.io.0.concat(), [&b"head"[..], &large].concat());
        poll_fn(|cx| Pin::new(&mut gathered).poll_shutdown(cx)).await.unwrap();
        assert_eq!(gathered.io.0.concat(), [&b"head"[..], &large, b"tail"].concat());
    }
}
