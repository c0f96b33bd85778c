//! Work beside other work of one task, asked only when it was woken itself.
//!
//! A newcomer's usual mistake is to wait for everything at once. Whatever wakes a task, all that it waits for is asked; a
//! connection is woken several times for each request, and why it might have to close takes locks and timers to ask.
//!
//! *Knows:* who was woken. *Does not know:* what for.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// A waker that keeps in mind that it was called.
#[derive(Default)]
pub(super) struct Call {
    has_come: AtomicBool,
    task: AtomicWaker,
}

/// Work that is polled when it was woken, and not because the task was.
pub(super) struct Aside<F> {
    /// Boxed, so that it can be kept anywhere.
    work: Pin<Box<F>>,
    call: Arc<Call>,
    waker: Waker,
}

impl Call {
    /// A call, and the waker that makes it.
    pub(super) fn new() -> (Arc<Call>, Waker) {
        let call = Arc::new(Call::default());
        let waker = Waker::from(Arc::clone(&call));
        (call, waker)
    }

    /// Whether it has come since it was last asked for. If not, it wakes the task that asks.
    pub(super) fn has_come(&self, cx: &Context<'_>) -> bool {
        self.task.register(cx.waker());
        self.has_come.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Call {
    fn wake(self: Arc<Call>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Call>) {
        self.has_come.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Aside<F> {
    pub(super) fn new(work: F) -> Aside<F> {
        let (call, waker) = Call::new();
        // Nobody wakes what has not begun.
        waker.wake_by_ref();
        Aside { work: Box::pin(work), call, waker }
    }
}

impl<F: Future> Future for Aside<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        if this.call.has_come(cx) {
            return this.work.as_mut().poll(&mut Context::from_waker(&this.waker));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize};

    use futures_util::{FutureExt, future::pending};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_is_asked_when_it_begins_and_when_it_is_woken() {
        let asked = AtomicUsize::new(0);
        let (ring, mut bell) = oneshot::channel::<()>();
        let mut aside = Aside::new(poll_fn(|cx| {
            asked.fetch_add(1, Ordering::Relaxed);
            bell.poll_unpin(cx)
        }));
        for _ in 0..3 {
            assert!(futures_util::poll!(&mut aside).is_pending());
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        ring.send(()).unwrap();
        tokio::select! {
            rung = &mut aside => rung.unwrap(),
            () = pending() => {}
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
