//! Work that outlives the call that began it, and how all of it ends.
//!
//! A newcomer's usual mistake is `tokio::spawn`: the process would then end without waiting for that work. Everything
//! that runs on its own is begun here, hears when the house closes, and is waited for.
//!
//! A house closes in stages, so that nobody loses what somebody else still needs:
//!
//! ```text
//!   draining   not ready any more, but still serving: load balancers take notice       Drain::grace
//!   leaving    no new connections; those who stay long are asked to leave, one by one   Drain::total, less a reserve
//!   closing    callers are gone or cut; what served them ends                           the reserve
//! ```
//!
//! *Knows:* what runs and which stage the house is in. *Does not know:* what the work is.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};

use crate::id;

/// Over how long those who stay long are asked to leave, at most: wide enough that they do not all come back at once,
/// short enough that nobody waits for a slow farewell.
const LEAVE_WITHIN_MAX: Duration = Duration::from_secs(10);
/// The share of the callers' time in which they are asked to leave; the rest is for their farewells.
const LEAVE_SHARE: u32 = 2;
/// What is kept of the whole time for agents and stores to end in, at most.
const RESERVE_MAX: Duration = Duration::from_secs(5);
/// The share of the whole time that is kept for that.
const RESERVE_SHARE: u32 = 5;

/// The tasks of one running gateway. Clones share one set.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<House>);

#[derive(Debug, Default)]
struct House {
    all: TaskTracker,
    calls: TaskTracker,
    draining: CancellationToken,
    /// The same for who only has to look: a token is asked under a lock, and every call asks.
    is_draining: AtomicBool,
    leaving: CancellationToken,
    cut: CancellationToken,
    closing: CancellationToken,
    leave_within_ms: AtomicU64,
}

/// How long a house takes to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long new requests are still served, so that load balancers notice. A part of the whole.
    pub grace: Duration,
    /// The whole time, after which nothing is waited for.
    pub total: Duration,
}

impl Tasks {
    /// An empty set.
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// Begins work of the house on its own task.
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.all.spawn(work)
    }

    /// Begins work that a caller waits for: a connection, a call, a socket. The house closes only when these are done.
    pub fn serve<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.all.spawn(self.0.calls.track_future(work))
    }

    /// Resolves when the house begins to drain.
    pub fn draining(&self) -> WaitForCancellationFuture<'_> {
        self.0.draining.cancelled()
    }

    /// Whether the house is not ready for new callers, or no longer there for them at all.
    pub fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Relaxed)
    }

    /// A token that is cancelled when callers are to leave.
    pub fn leaving_token(&self) -> CancellationToken {
        self.0.leaving.clone()
    }

    /// Whether callers are to leave, and none let in.
    pub fn is_leaving(&self) -> bool {
        self.0.leaving.is_cancelled()
    }

    /// When one who stays long is to leave, once callers are to leave: a moment of its own for everyone who asks.
    pub fn leave_at(&self) -> Instant {
        let within = self.0.leave_within_ms.load(Ordering::Relaxed);
        Instant::now() + Duration::from_millis(random_up_to(within))
    }

    /// Resolves when one who stays long is to leave.
    pub fn departure(&self) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        let tasks = self.clone();
        Box::pin(async move {
            tasks.0.leaving.cancelled().await;
            sleep_until(tasks.leave_at()).await;
        })
    }

    /// A token that is cancelled when the time of the callers is over.
    pub fn cut_token(&self) -> CancellationToken {
        self.0.cut.clone()
    }

    /// Resolves when the house begins to close.
    pub fn closing(&self) -> WaitForCancellationFuture<'_> {
        self.0.closing.cancelled()
    }

    /// A token that is cancelled when the house begins to close, for work that holds no `Tasks`.
    pub fn closing_token(&self) -> CancellationToken {
        self.0.closing.clone()
    }

    /// Whether the house is closing.
    pub fn is_closing(&self) -> bool {
        self.0.closing.is_cancelled()
    }

    /// Closes in stages, waiting between them no longer than it must and in all no longer than the plan says. Answers
    /// how many tasks still run.
    pub async fn drain(&self, plan: Drain) -> usize {
        let house = &*self.0;
        let began = Instant::now();
        let reserve = (plan.total / RESERVE_SHARE).min(RESERVE_MAX);
        let ends_at = began + plan.total;
        let calls_end_at = ends_at - reserve;

        house.drain();
        sleep_until((began + plan.grace).min(calls_end_at)).await;

        let within = (calls_end_at.duration_since(Instant::now()) / LEAVE_SHARE).min(LEAVE_WITHIN_MAX);
        house.leave_within_ms.store(u64::try_from(within.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        house.leaving.cancel();
        house.calls.close();
        // Whoever is still there has had its time.
        let _all_gone = timeout_at(calls_end_at, house.calls.wait()).await.is_ok();
        house.cut.cancel();

        self.close();
        // Running out of time is not a failure: the count says what is left.
        let _ended = timeout_at(ends_at, house.all.wait()).await.is_ok();
        house.all.len()
    }

    /// Tells all work at once that the house is closing, and callers that they are to leave.
    pub fn close(&self) {
        self.0.drain();
        self.0.leaving.cancel();
        self.0.closing.cancel();
        self.0.all.close();
    }

    /// Waits until all work has ended, at most this long. Returns how many tasks still run.
    pub async fn wait(&self, patience: Duration) -> usize {
        self.0.all.close();
        // Running out of patience is not a failure: the count says what is left.
        let _ended = timeout_at(Instant::now() + patience, self.0.all.wait()).await.is_ok();
        self.0.all.len()
    }
}

impl House {
    fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
        self.draining.cancel();
    }
}

fn random_up_to(most: u64) -> u64 {
    if most == 0 {
        return 0;
    }
    let mut bytes = [0; 8];
    id::fill(&mut bytes);
    u64::from_le_bytes(bytes) % most
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const PLAN: Drain = Drain { grace: Duration::from_secs(3), total: Duration::from_secs(25) };

    /// What happened, with the second it happened in.
    #[derive(Clone, Default)]
    struct Diary(Arc<Mutex<Vec<(u64, &'static str)>>>);

    impl Diary {
        fn note(&self, began: Instant, what: &'static str) {
            self.0.lock().unwrap().push((began.elapsed().as_secs(), what));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_house_closes_in_stages_and_waits_for_its_callers_before_it_stops_what_they_use() {
        let (tasks, diary, began) = (Tasks::new(), Diary::default(), Instant::now());
        let (house, theirs) = (tasks.clone(), diary.clone());
        tasks.spawn(async move {
            house.draining().await;
            theirs.note(began, "not ready");
            house.closing().await;
            theirs.note(began, "the agent stops");
        });
        let (house, theirs) = (tasks.clone(), diary.clone());
        tasks.serve(async move {
            house.leaving_token().cancelled().await;
            theirs.note(began, "callers leave");
            tokio::time::sleep(Duration::from_secs(4)).await;
            theirs.note(began, "the last call ends");
        });
        assert_eq!(tasks.drain(PLAN).await, 0);
        let expected = [(0, "not ready"), (3, "callers leave"), (7, "the last call ends"), (7, "the agent stops")];
        assert_eq!(*diary.0.lock().unwrap(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_leave_is_cut_in_time_for_the_rest_to_end() {
        let (tasks, began) = (Tasks::new(), Instant::now());
        let (cut, closing) = (tasks.cut_token(), tasks.closing_token());
        tasks.serve(std::future::pending::<()>());
        let agent = tasks.spawn(async move {
            cut.cancelled().await;
            let cut_at = began.elapsed();
            closing.cancelled().await;
            (cut_at, began.elapsed())
        });
        assert_eq!(tasks.drain(PLAN).await, 1, "the caller that never leaves");
        assert_eq!(began.elapsed(), PLAN.total);
        assert_eq!(agent.await.unwrap(), (Duration::from_secs(20), Duration::from_secs(20)));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_stay_long_leave_one_by_one_and_early_enough() {
        let (tasks, began) = (Tasks::new(), Instant::now());
        let callers: Vec<_> = (0..100)
            .map(|_| {
                let departure = tasks.departure();
                tasks.serve(async move {
                    departure.await;
                    began.elapsed()
                })
            })
            .collect();
        assert_eq!(tasks.drain(PLAN).await, 0);
        let mut left = Vec::new();
        for caller in callers {
            left.push(caller.await.unwrap().as_secs());
        }
        assert!(left.iter().all(|second| (3..=12).contains(second)), "{left:?}");
        let busiest = (3..12).map(|second| left.iter().filter(|at| **at == second).count()).max();
        assert!(busiest < Some(50), "not all at once: {left:?}");
    }
}
