//! What was acknowledged, what failed, and in which phase: the memory that the survivors are held against.
//!
//! *Knows:* what was said. *Does not know:* what may fail when.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::support::{doors::refusal::Refusal, gateway::PATIENCE};

/// How often is looked whether the workers have moved on.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A process that is restarted or killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::process) enum Member {
    Gateway(usize),
    Host(String),
}

/// What is being done to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::process) enum Phase {
    Calm,
    Restart(Member),
    Kill(Member),
    /// A part that they stand on is in trouble of this kind.
    Fault(&'static str),
}

/// How something failed.
#[derive(Clone, Debug)]
pub(in crate::process) enum How {
    /// The connection broke.
    Broken(String),
    /// The answer was an error that says whether to repeat.
    Refused(Refusal),
    /// The answer was an error that does not say it.
    Wordless(String),
    /// A tunnel or a stream ended with this code.
    Farewell(String),
}

/// Something that did not succeed.
#[derive(Clone, Debug)]
pub(in crate::process) struct Failure {
    pub(in crate::process) phase: Phase,
    pub(in crate::process) gateway: usize,
    /// The host of the instance that it was about, if it was about one.
    pub(in crate::process) host: Option<String>,
    pub(in crate::process) work: &'static str,
    pub(in crate::process) how: How,
    /// How long it took to fail.
    pub(in crate::process) took: Duration,
}

/// What is known of something that was to be made once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) enum Fate {
    /// Acknowledged.
    Done,
    /// Every answer said that nothing was done.
    Undone,
    /// Perhaps.
    Unknown,
}

/// An instance that was acknowledged.
#[derive(Clone, Debug)]
pub(in crate::process) struct Made {
    pub(in crate::process) host: String,
    pub(in crate::process) is_deleted: bool,
    /// How often its host had ended before it was made; nothing when it ended meanwhile.
    pub(in crate::process) life: Option<u64>,
}

/// What was acknowledged.
#[derive(Default)]
pub(in crate::process) struct Book {
    pub(in crate::process) failures: Vec<Failure>,
    /// API keys by name.
    pub(in crate::process) keys: BTreeMap<String, Fate>,
    /// The last acknowledged number of each setting and secret.
    pub(in crate::process) settings: BTreeMap<String, u64>,
    pub(in crate::process) secrets: BTreeMap<String, u64>,
    /// Checksums of deployments by id.
    pub(in crate::process) deployments: BTreeMap<String, String>,
    pub(in crate::process) instances: BTreeMap<String, Made>,
    /// Messages by instance, as they were sent.
    pub(in crate::process) messages: BTreeMap<String, Vec<(String, Fate)>>,
}

/// The ledger of a run.
pub(in crate::process) struct Ledger {
    phase: Mutex<Phase>,
    book: Mutex<Book>,
    /// How often each host has ended.
    lives: Mutex<BTreeMap<String, u64>>,
    rounds: Vec<AtomicU64>,
    over: CancellationToken,
}

impl Ledger {
    /// For this many workers.
    pub(in crate::process) fn new(workers: usize) -> Ledger {
        Ledger {
            phase: Mutex::new(Phase::Calm),
            book: Mutex::default(),
            lives: Mutex::default(),
            rounds: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            over: CancellationToken::new(),
        }
    }

    pub(in crate::process) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    pub(in crate::process) fn phase(&self) -> Phase {
        self.phase.lock().unwrap().clone()
    }

    pub(in crate::process) fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap() = phase;
    }

    pub(in crate::process) fn fail(
        &self,
        gateway: usize,
        host: Option<&str>,
        work: &'static str,
        how: How,
        began: Instant,
    ) {
        let (phase, host, took) = (self.phase(), host.map(str::to_owned), began.elapsed());
        self.book().failures.push(Failure { phase, gateway, host, work, how, took });
    }

    /// What failed since this was last asked.
    pub(in crate::process) fn failures(&self) -> Vec<Failure> {
        std::mem::take(&mut self.book().failures)
    }

    /// How often each host has ended so far.
    pub(in crate::process) fn lives(&self) -> BTreeMap<String, u64> {
        self.lives.lock().unwrap().clone()
    }

    pub(in crate::process) fn ended(&self, host: &str) {
        *self.lives.lock().unwrap().entry(host.to_owned()).or_insert(0) += 1;
    }

    /// A worker has done its work once.
    pub(in crate::process) fn went_round(&self, worker: usize) {
        self.rounds[worker].fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until every worker has done its work this often from now on.
    pub(in crate::process) async fn everybody_goes_round(&self, times: u64) {
        self.go_round(0..self.rounds.len(), times).await;
    }

    /// The same for the workers of these numbers.
    pub(in crate::process) async fn go_round(&self, workers: Range<usize>, times: u64) {
        let rounds = &self.rounds[workers];
        let now = || rounds.iter().map(|rounds| rounds.load(Ordering::SeqCst)).collect::<Vec<u64>>();
        let before = now();
        let gone = async {
            while now().iter().zip(&before).any(|(now, before)| *now < before + times) {
                sleep(LOOK_EVERY).await;
            }
        };
        let in_time = timeout(PATIENCE, gone).await;
        let failures = told(self.book().failures.iter().rev().take(20));
        assert!(in_time.is_ok(), "a worker does not move on: {before:?} -> {:?}\n{failures}", now());
    }

    pub(in crate::process) fn end(&self) {
        self.over.cancel();
    }

    pub(in crate::process) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Resolves at the end.
    pub(in crate::process) fn over(&self) -> WaitForCancellationFutureOwned {
        self.over.clone().cancelled_owned()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { phase, gateway, host, work, how, took } = self;
        let host = host.as_deref().unwrap_or("no host");
        write!(f, "{phase:?}: {work} by gateway {gateway} about {host} after {took:?}: ")?;
        match how {
            How::Broken(why) => write!(f, "broken: {why}"),
            How::Refused(refusal) => write!(f, "{refusal:?}"),
            How::Wordless(answer) => write!(f, "an error that does not say whether to repeat: {answer}"),
            How::Farewell(code) => write!(f, "ended with {code}"),
        }
    }
}

/// Failures as lines, for people.
pub(in crate::process) fn told<'a>(failures: impl IntoIterator<Item = &'a Failure>) -> String {
    failures.into_iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
