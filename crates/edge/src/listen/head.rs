//! How long an HTTP/1.1 peer may be silent: long before a request, short within the head of one.
//!
//! A newcomer's usual mistake is to give both the same limit. A load balancer keeps idle connections for a minute and
//! expects them to live; a peer that has begun a head and does not end it holds a connection for nothing.
//!
//! What came in one read with the end of the request before is the library's already, and nobody here sees it: a head of which
//! only that has come counts as not begun. It gains a peer nothing, who may be silent for as long without a byte of it.
//!
//! *Knows:* when the HTTP library begins and ends waiting for a head (it asks for a timer then). *Does not know:* heads.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::rt::{Sleep, Timer};
use tokio::time;

/// How long a connection may stay idle between requests: longer than the 60 s of usual load balancers, so that it is they
/// who close it and never find it closed under a request.
pub(super) const IDLE_PATIENCE: Duration = Duration::from_secs(75);
/// How long a peer may take for a head once it has begun one.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// Whether bytes have come since it was last asked for. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<AtomicBool>);

impl Heard {
    /// Bytes have come.
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The timer of one connection. The library asks it for a sleep when it begins to wait for a head.
///
/// One alarm serves the whole connection: making, setting or asking a timer for every request would cost more than all
/// else that is done here.
pub(super) struct HeadTimer {
    heard: Heard,
    alarm: Arc<Mutex<Alarm>>,
}

/// Rings at a moment that is put off time and again.
struct Alarm {
    rings_at: time::Instant,
    /// Wakes the connection, often too early: then it is set anew.
    timer: Pin<Box<time::Sleep>>,
    /// Whether the timer knows whom to wake. It is always the task of the connection.
    is_watched: bool,
}

impl HeadTimer {
    /// For the connection that these bytes come by.
    pub(super) fn new(heard: Heard) -> HeadTimer {
        let timer = Box::pin(time::sleep(IDLE_PATIENCE));
        let alarm = Alarm { rings_at: timer.deadline(), timer, is_watched: false };
        HeadTimer { heard, alarm: Arc::new(Mutex::new(alarm)) }
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.heard.0.store(false, Ordering::Relaxed);
        alarm(&self.alarm).put_to(deadline.into());
        Box::pin(Waiting { heard: self.heard.clone(), begun: false, alarm: Arc::clone(&self.alarm) })
    }

    fn now(&self) -> Instant {
        time::Instant::now().into_std()
    }
}

/// Ends when the peer was idle for too long, or took too long from the first byte of a head.
struct Waiting {
    heard: Heard,
    begun: bool,
    alarm: Arc<Mutex<Alarm>>,
}

impl Future for Waiting {
    type Output = ();

    /// Polled after every read that did not end the head.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.begun && self.heard.0.load(Ordering::Relaxed) {
            self.begun = true;
            alarm(&self.alarm).put_to(time::Instant::now() + HEAD_PATIENCE);
        }
        alarm(&self.alarm).poll(cx)
    }
}

impl Sleep for Waiting {}

impl Alarm {
    fn put_to(&mut self, moment: time::Instant) {
        self.rings_at = moment;
        if moment < self.timer.deadline() {
            self.timer.as_mut().reset(moment);
            self.is_watched = false;
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_watched && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if time::Instant::now() >= self.rings_at {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.rings_at);
        }
        self.is_watched = true;
        Poll::Pending
    }
}

/// What this lock guards is whole after every statement, so a poisoned lock is still good. Only one connection takes it.
fn alarm(alarm: &Mutex<Alarm>) -> MutexGuard<'_, Alarm> {
    alarm.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::Response;
    use http_body_util::Full;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::{super::greeting::Greeted, *};
    use portico_base::tasks::Tasks;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_lives_longer_than_a_head_may_take() {
        let mut peer = connected().await;
        for idle in [0, 74, 74] {
            time::advance(Duration::from_secs(idle)).await;
            exchange(&mut peer).await;
        }
        let idle_since = time::Instant::now();
        assert_eq!(peer.read(&mut [0; 64]).await.unwrap(), 0);
        assert_eq!(idle_since.elapsed().as_secs(), IDLE_PATIENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_end_is_given_up_however_it_trickles() {
        let mut peer = connected().await;
        exchange(&mut peer).await;
        time::advance(Duration::from_secs(60)).await;
        let begun_at = time::Instant::now();
        for byte in &REQUEST[..9] {
            peer.write_all(&[*byte]).await.unwrap();
            time::sleep(Duration::from_secs(1)).await;
        }
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).await.unwrap();
        assert_eq!(begun_at.elapsed().as_secs(), HEAD_PATIENCE.as_secs(), "{}", String::from_utf8_lossy(&rest));
    }

    /// A peer of a connection whose first request has begun to arrive.
    async fn connected() -> DuplexStream {
        let (mut peer, ours) = tokio::io::duplex(1 << 10);
        peer.write_all(&REQUEST[..4]).await.unwrap();
        let greeted = Greeted::read(ours).await.unwrap();
        let answer = |_| async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("ok")))) };
        let connection =
            super::super::http1(greeted.heard()).serve_connection(TokioIo::new(greeted), service_fn(answer));
        Tasks::new().spawn(async move { drop(connection.await) });
        peer.write_all(&REQUEST[4..]).await.unwrap();
        read_answer(&mut peer).await;
        peer
    }

    async fn exchange(peer: &mut DuplexStream) {
        peer.write_all(REQUEST).await.unwrap();
        read_answer(peer).await;
    }

    async fn read_answer(peer: &mut DuplexStream) {
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            assert_ne!(peer.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
        }
    }
}
