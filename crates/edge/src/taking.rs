//! Whether an answer is taken, on connections that carry many.
//!
//! A newcomer's usual mistake is to look at the connection alone. Over HTTP/2 a peer can read and answer pings and yet open
//! no window for a stream: what that stream holds would be held for as long as the peer likes.
//!
//! A socket may be quiet for hours, so nobody can tell from its stream whether something waits there. It has a writer that
//! can: what it leaves behind has a moment.
//!
//! *Knows:* that the next piece of a body is asked for when the one before has gone. *Does not know:* windows, frames.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a stream may take nothing: as long as a connection.
const UNTAKEN_MAX: Duration = Duration::from_secs(60);

tokio::task_local! {
    /// What was said to whoever watches, while a stream is polled.
    static SAID: Said;
}

#[derive(Default)]
struct Said {
    /// What was last heard of the body.
    heard: Cell<Option<Heard>>,
    /// The socket that the stream becomes.
    socket: Cell<Option<Socket>>,
}

/// A WebSocket that a stream becomes, as long as somebody writes to it.
#[derive(Clone)]
pub(super) struct Socket(CancellationToken);

impl Socket {
    /// A socket, and what is to be dropped when nobody writes to it any more.
    pub(super) fn new() -> (Socket, DropGuard) {
        let left = CancellationToken::new();
        (Socket(left.clone()), left.drop_guard())
    }

    /// Resolves when nobody writes to it any more.
    pub(super) async fn left(self) {
        self.0.cancelled_owned().await;
    }

    /// Notes that the stream that is polled becomes this socket with its next answer.
    pub(super) fn note(self) {
        // Over HTTP/1.1 the socket is the connection, and watched as one.
        let _watched = SAID.try_with(|said| said.socket.set(Some(self))).is_ok();
    }

    /// The socket of whoever asks: of work that a stream begins when it has become one.
    pub(super) fn of_caller() -> Option<Socket> {
        SAID.try_with(|said| said.socket.take()).ok().flatten()
    }
}

#[derive(Clone, Copy)]
enum Heard {
    /// It gave a piece, which is to be taken now.
    Gave,
    /// It has nothing to give.
    Waits,
}

/// Notes that a body was asked for its next piece. Where nobody watches, nothing happens.
pub(super) fn note(gave: bool) {
    let heard = if gave { Heard::Gave } else { Heard::Waits };
    // Over HTTP/1.1 the connection itself is watched.
    let _watched = SAID.try_with(|said| said.heard.set(Some(heard))).is_ok();
}

/// The work of one stream, which ends by itself when a piece of its answer is not taken for too long. Dropping it resets
/// the stream.
pub(super) struct Watched<F> {
    /// Boxed, because the libraries on both sides move it about.
    work: Pin<Box<F>>,
    /// Whether a piece is to be taken now.
    is_owed: bool,
    /// Set up when a piece has to wait: most answers are taken at once.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Watched<F> {
    pub(super) fn new(work: F) -> Watched<F> {
        Watched { work: Box::pin(work), is_owed: false, timer: None }
    }
}

impl<F: Future> Future for Watched<F> {
    /// Nothing when the work was given up.
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (polled, heard) = SAID.sync_scope(Said::default(), || {
            let polled = this.work.as_mut().poll(cx);
            (polled, SAID.with(|said| said.heard.get()))
        });
        if let Poll::Ready(output) = polled {
            return Poll::Ready(Some(output));
        }
        if let Some(heard) = heard {
            this.is_owed = matches!(heard, Heard::Gave);
            this.timer = None;
        }
        if !this.is_owed {
            return Poll::Pending;
        }
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(UNTAKEN_MAX)));
        timer.as_mut().poll(cx).map(|()| None)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_piece_that_is_not_taken_ends_its_stream_and_a_handler_that_waits_does_not() {
        let slow = async {
            note(false);
            sleep(UNTAKEN_MAX * 5).await;
            note(true);
            sleep(UNTAKEN_MAX / 2).await;
        };
        assert_eq!(Watched::new(slow).await, Some(()));
        let began = Instant::now();
        let stuck = async {
            note(true);
            sleep(UNTAKEN_MAX / 2).await;
            note(true);
            std::future::pending::<()>().await;
        };
        assert_eq!(Watched::new(stuck).await, None);
        assert_eq!(began.elapsed(), UNTAKEN_MAX / 2 + UNTAKEN_MAX);
    }
}
