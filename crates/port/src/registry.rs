//! Facts that expire: who is here right now, and how much each caller has used up.
//!
//! A newcomer's usual mistake is to keep anything here that must not be lost. What is announced lives as long as its
//! announcer repeats it; durable facts are records.
//!
//! *Knows:* announcements with a time to live, reservations, token buckets. *Does not know:* what is announced or limited.

use std::time::Duration;

use portico_base::{Result, health::Health};

use crate::Answer;

/// Largest announcement.
pub const ANNOUNCEMENT_BYTES_MAX: usize = 64 << 10;
/// Announcements of one kind that are listed at once.
pub const ANNOUNCEMENTS_MAX: usize = 10_000;

/// Something that is here, as it said itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Its id, unique among its kind.
    pub id: String,
    /// What it says of itself, as JSON text.
    pub body: String,
}

/// Something that is here, and how many have reserved a place with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Its id, unique among its kind.
    pub id: String,
    /// What it said of itself, as JSON text.
    pub body: String,
    /// Reservations that were neither released nor forgotten.
    pub reserved: u32,
}

/// How much is allowed: so many per minute on average, so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come back each minute. Zero allows everything.
    pub per_minute: u32,
    /// Tokens that can be saved up. Zero counts as one.
    pub burst: u32,
}

/// What rates are for.
const MINUTE: Duration = Duration::from_secs(60);

impl Rate {
    /// Takes a token from a bucket that is full in this long, and answers in how long it is full then: the generic cell rate
    /// algorithm, for buckets that one gateway keeps for itself.
    pub fn take(self, full_in: Duration) -> (Duration, Take) {
        let Some(interval) = MINUTE.checked_div(self.per_minute) else {
            return (full_in, Take::Granted { left: u32::MAX });
        };
        let (after, capacity) = (full_in + interval, interval * self.burst.max(1));
        match capacity.checked_sub(after) {
            Some(saved) => {
                let left = saved.as_nanos() / interval.as_nanos().max(1);
                (after, Take::Granted { left: u32::try_from(left).unwrap_or(u32::MAX) })
            }
            None => (full_in, Take::Later(after.saturating_sub(capacity))),
        }
    }
}

/// What a bucket answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// A token was taken; this many are left.
    Granted {
        /// Tokens that could be taken at once now.
        left: u32,
    },
    /// No token is left; one comes back after this long.
    Later(Duration),
}

/// Facts that expire.
pub trait Registry: Send + Sync + 'static {
    /// Says that this is here, for this long unless it is said again.
    fn announce<'a>(&'a self, kind: &'static str, announcement: Announcement, ttl: Duration) -> Answer<'a, ()>;

    /// Says that it is not here any more. Withdrawing what is not there is fine.
    fn withdraw<'a>(&'a self, kind: &'static str, id: &'a str) -> Answer<'a, ()>;

    /// Everything of this kind that is here, by id.
    fn live(&self, kind: &'static str) -> Answer<'_, Vec<Present>>;

    /// Reserves a place with what has this id, so that others see it as fuller before it says so itself. Answers how many
    /// reservations there are now. Each is forgotten after this long.
    fn reserve<'a>(&'a self, kind: &'static str, id: &'a str, ttl: Duration) -> Answer<'a, u32>;

    /// Gives the youngest reservation back, so that one that nobody gives back is not kept by others. Giving back what is
    /// forgotten is fine.
    fn release<'a>(&'a self, kind: &'static str, id: &'a str) -> Answer<'a, ()>;

    /// Takes a token from the bucket of this name and key.
    fn take<'a>(&'a self, bucket: &'static str, key: &'a str, rate: Rate) -> Answer<'a, Take>;

    /// Waits until the registry has come back more often than this, and answers how often. It may have forgotten everything
    /// meanwhile: who is here says so again, and who is not found may be here all the same. Whatever is answered after a
    /// return, is answered when it is counted.
    fn returned(&self, before: u64) -> Answer<'_, u64>;

    /// Whether the registry is within reach, as far as is known without asking it. Costs nothing; every call may ask.
    ///
    /// # Errors
    /// `registry_unavailable` while it is not.
    fn reach(&self) -> Result<()>;

    /// Whether the registry answers.
    fn health(&self) -> Answer<'_, Health>;
}
