//! How the gateway is, from probes that run in the background.
//!
//! A newcomer's usual mistake is to probe when asked. Health is asked for often and by strangers; the answer is always
//! the last one that the background found, and costs nothing.
//!
//! *Knows:* parts with their last check, whether the house is draining. *Does not know:* what a part is.

use std::{sync::Arc, time::Duration};

use portico_base::{
    Clock, Timestamp,
    health::{Health, State},
    tasks::Tasks,
};
use portico_port::Answer;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// How often every part is probed while all is well: readiness tells the truth of this long ago.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// The same while something is not well, so that its return is seen within a second.
const PROBE_INTERVAL_UNWELL: Duration = Duration::from_millis(250);
/// How long a part may take to answer before it counts as down.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// A part of the gateway that can be asked how it is.
pub struct Part {
    /// Its name, for example `records`.
    pub name: &'static str,
    /// Whether the gateway can serve anything without it.
    pub required: bool,
    /// Asks it.
    pub probe: Box<dyn Fn() -> Answer<'static, Health> + Send + Sync>,
}

/// The last check of a part.
#[derive(Clone, Debug)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Whether the gateway can serve anything without it.
    pub required: bool,
    /// What it said.
    pub health: Health,
    /// How long it took to say so.
    pub latency: Duration,
    /// When it was asked.
    pub at: Timestamp,
}

/// The state of the gateway as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Every part works.
    Healthy,
    /// Serves, but not all.
    Degraded,
    /// A required part is down.
    Unhealthy,
    /// The house is about to close: no new callers, please.
    Draining,
}

/// How the gateway is. Cheap to clone.
#[derive(Clone)]
pub struct Board {
    checks: watch::Receiver<Arc<[Check]>>,
    tasks: Tasks,
    began: Instant,
}

impl Board {
    /// Probes every part once, then goes on in the background until the house closes. Each round is told to `told`.
    pub async fn start(
        parts: Vec<Part>,
        tasks: Tasks,
        clock: Arc<dyn Clock>,
        told: impl Fn(&[Check]) + Send + 'static,
    ) -> Board {
        let first = probe(&parts, &*clock).await;
        told(&first);
        let (sender, checks) = watch::channel(first);
        let closing = tasks.closing_token();
        tasks.spawn(async move {
            loop {
                let pause = sleep(pause(&sender.borrow()));
                if closing.run_until_cancelled(pause).await.is_none() {
                    return;
                }
                let round = probe(&parts, &*clock).await;
                told(&round);
                sender.send_replace(round);
            }
        });
        Board { checks, tasks, began: Instant::now() }
    }

    /// The state of the gateway.
    pub fn status(&self) -> Status {
        if self.tasks.is_draining() {
            return Status::Draining;
        }
        let worst = |required: bool| {
            let states =
                self.checks().iter().filter(|check| check.required == required).map(|check| check.health.state).max();
            states.unwrap_or(State::Ok)
        };
        match (worst(true), worst(false)) {
            (State::Down, _) => Status::Unhealthy,
            (State::Ok, State::Ok) => Status::Healthy,
            _ => Status::Degraded,
        }
    }

    /// Resolves when the gateway begins to drain; never, when it has begun already.
    pub async fn begins_to_drain(&self) {
        if self.tasks.is_draining() {
            std::future::pending::<()>().await;
        }
        self.tasks.draining().await;
    }

    /// The last check of every part.
    pub fn checks(&self) -> Arc<[Check]> {
        Arc::clone(&self.checks.borrow())
    }

    /// How long the gateway has run.
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }
}

fn pause(checks: &[Check]) -> Duration {
    if checks.iter().all(|check| check.health.state == State::Ok) { PROBE_INTERVAL } else { PROBE_INTERVAL_UNWELL }
}

async fn probe(parts: &[Part], clock: &dyn Clock) -> Arc<[Check]> {
    let checks = parts.iter().map(|part| async move {
        let (at, began) = (clock.now(), Instant::now());
        let health = match timeout(PROBE_PATIENCE, (part.probe)()).await {
            Ok(Ok(health)) => health,
            Ok(Err(error)) => Health::down(error.message().to_owned()),
            Err(_) => Health::down("did not answer in time"),
        };
        Check { name: part.name, required: part.required, health, latency: began.elapsed(), at }
    });
    futures_util::future::join_all(checks).await.into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use portico_base::clock::SystemClock;

    #[tokio::test(start_paused = true)]
    async fn a_required_part_that_hangs_makes_the_gateway_unhealthy_until_it_answers_again() {
        let hangs = Arc::new(AtomicBool::new(false));
        let tasks = Tasks::new();
        let part = Part {
            name: "records",
            required: true,
            probe: Box::new({
                let hangs = Arc::clone(&hangs);
                move || {
                    let hangs = hangs.load(Ordering::SeqCst);
                    Box::pin(async move {
                        if hangs {
                            std::future::pending::<()>().await;
                        }
                        Ok(Health::OK)
                    })
                }
            }),
        };
        let board = Board::start(vec![part], tasks.clone(), Arc::new(SystemClock), |_| ()).await;
        assert_eq!(board.status(), Status::Healthy);

        let mut changes = board.checks.clone();
        for (hang, expected) in [(true, Status::Unhealthy), (false, Status::Healthy)] {
            hangs.store(hang, Ordering::SeqCst);
            changes.mark_unchanged();
            changes.changed().await.unwrap();
            assert_eq!(board.status(), expected);
        }
        tasks.close();
        assert_eq!(board.status(), Status::Draining);
    }
}
