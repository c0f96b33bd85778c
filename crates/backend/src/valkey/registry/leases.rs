//! Tokens that this gateway has taken ahead, so that a busy key does not cost the server a question for each call.
//!
//! A newcomer's usual mistake is to count calls here and to tell the server later: then every gateway lets through a whole
//! limit. What is used here was taken from the shared bucket before, so all gateways together never let through more than
//! the bucket held; what a lease changes is only when a token is used. `docs/decisions/0009-leases-of-tokens.md` has the bounds.
//!
//! *Knows:* how many tokens to take at once, for how long. *Does not know:* the server.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use portico_port::registry::{Rate, Take};
use tokio::time::Instant;

use crate::valkey::target::COMMAND_WAIT;

/// Tokens of one bucket that are held at once: a key with a high limit then asks for a sixty-fourth of its calls.
const TOKENS_MAX: u32 = 64;
/// The share of a full bucket that may be held, so that other gateways find enough.
const BURST_SHARE: u32 = 8;
/// How long tokens are held, and how long an empty bucket is taken for empty without asking again.
const HELD: Duration = Duration::from_secs(1);
/// Parts, so that callers on many cores do not wait for one lock.
const SHARDS: usize = 64;
/// Leases in one part before quiet ones are forgotten; 256 Ki in all.
const SHARD_LEASES_MAX: usize = 4_096;

/// What was taken ahead, by bucket and key.
pub(super) struct Leases {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

type Shard = HashMap<&'static str, HashMap<Box<str>, Lease>>;

/// What a call gets.
pub(super) enum Drawn {
    /// An answer.
    Here(Take),
    /// The task to ask the server.
    Ask(Question),
}

/// What to ask the server for.
#[derive(Clone, Copy)]
pub(super) struct Question {
    /// Tokens to take.
    pub(super) wanted: u32,
    /// Tokens of an earlier lease that nobody used.
    pub(super) unused: u32,
    /// Whether what is more than one is to be held here. One caller asks for the others; who comes meanwhile asks for itself.
    is_lease: bool,
}

struct Lease {
    rate: Rate,
    /// Tokens that are here.
    held: u32,
    /// Tokens that were still there when these were taken.
    left: u32,
    /// When what is held goes back.
    until: Instant,
    /// Tokens that were wanted last.
    wanted: u32,
    /// Until when somebody is asking.
    asked_until: Instant,
    /// While the bucket is known to be empty: until when nobody asks, and when there is a token again.
    empty: Option<(Instant, Instant)>,
}

impl Leases {
    pub(super) fn new() -> Leases {
        Leases { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// Takes a token of those held, or says what to ask.
    pub(super) fn draw(&self, bucket: &'static str, key: &str, rate: Rate) -> Drawn {
        let now = Instant::now();
        let mut shard = self.shard(bucket, key);
        if let Some(lease) = shard.get_mut(bucket).and_then(|leases| leases.get_mut(key)) {
            return lease.draw(rate, now);
        }
        if shard.values().map(HashMap::len).sum::<usize>() >= SHARD_LEASES_MAX {
            make_room(&mut shard, now);
        }
        shard.entry(bucket).or_default().entry(key.into()).or_insert_with(|| Lease::new(rate, now)).draw(rate, now)
    }

    /// Takes note of the server's answer: how many were taken, and how many are left or microseconds to wait.
    pub(super) fn answered(
        &self,
        bucket: &'static str,
        key: &str,
        question: Question,
        (taken, number): (u32, u64),
    ) -> Take {
        let now = Instant::now();
        let mut shard = self.shard(bucket, key);
        let lease = shard.get_mut(bucket).and_then(|leases| leases.get_mut(key));
        match taken.checked_sub(1) {
            Some(held) => {
                let left = u32::try_from(number).unwrap_or(u32::MAX);
                if let Some(lease) = lease.filter(|_| question.is_lease) {
                    (lease.held, lease.left, lease.until) = (held, left, now + HELD);
                    (lease.asked_until, lease.empty) = (now, None);
                }
                Take::Granted { left: left.saturating_add(held) }
            }
            None => {
                let wait = Duration::from_micros(number);
                if let Some(lease) = lease {
                    (lease.asked_until, lease.empty) = (now, Some((now + wait.min(HELD), now + wait)));
                }
                Take::Later(wait)
            }
        }
    }

    fn shard(&self, bucket: &str, key: &str) -> MutexGuard<'_, Shard> {
        let at = usize::try_from(self.hasher.hash_one((bucket, key)) % SHARDS as u64).unwrap_or_default();
        // What this lock guards is whole after every statement, so a poisoned lock is still good.
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    fn new(rate: Rate, now: Instant) -> Lease {
        Lease { rate, held: 0, left: 0, until: now, wanted: 0, asked_until: now, empty: None }
    }

    fn draw(&mut self, rate: Rate, now: Instant) -> Drawn {
        if self.rate != rate {
            *self = Lease::new(rate, now);
        }
        if self.held > 0 && now < self.until {
            self.held -= 1;
            return Drawn::Here(Take::Granted { left: self.left.saturating_add(self.held) });
        }
        if let Some((asked_after, token_at)) = self.empty
            && now < asked_after
        {
            return Drawn::Here(Take::Later(token_at.duration_since(now)));
        }
        if now < self.asked_until {
            return Drawn::Ask(Question { wanted: 1, unused: 0, is_lease: false });
        }
        let unused = std::mem::take(&mut self.held);
        self.wanted = self.wanted(unused, now).clamp(1, (rate.burst / BURST_SHARE).clamp(1, TOKENS_MAX));
        // Longer than any answer takes: who asks may be gone before it comes.
        self.asked_until = now + COMMAND_WAIT;
        Drawn::Ask(Question { wanted: self.wanted, unused, is_lease: true })
    }

    /// Twice as many when those before did not last, as many as were used when some were left, one after a pause.
    fn wanted(&self, unused: u32, now: Instant) -> u32 {
        match now.checked_duration_since(self.until) {
            None => self.wanted.saturating_mul(2),
            Some(since) if since < HELD => self.wanted.saturating_sub(unused),
            Some(_) => 1,
        }
    }

    fn is_quiet(&self, now: Instant) -> bool {
        let empty = self.empty.is_some_and(|(asked_after, _)| now < asked_after);
        !empty && now >= self.until + HELD && now >= self.asked_until
    }
}

/// Forgets quiet leases. If none is quiet, forgetting all costs each key a question and the tokens held for it.
fn make_room(shard: &mut Shard, now: Instant) {
    for leases in shard.values_mut() {
        leases.retain(|_, lease| !lease.is_quiet(now));
    }
    if shard.values().map(HashMap::len).sum::<usize>() >= SHARD_LEASES_MAX {
        shard.clear();
    }
}
