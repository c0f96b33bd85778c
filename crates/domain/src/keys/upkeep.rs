//! What goes on behind the calls: hearing of revocations, ending what expires, noting when keys are used, moving them to
//! the current pepper.
//!
//! A newcomer's usual mistake is to do any of it while a caller waits. One task does it all, and the keys do not live on
//! because of it.
//!
//! *Knows:* the bus, the clock, the uses that wait. *Does not know:* calls.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use portico_base::{Result, reason, tasks::Tasks};
use portico_port::{
    bus::{Event, From, Subscription},
    records::Expect,
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{Inner, REVOKED_TOPIC, live::LiveKey};
use crate::table::Stored;

/// How often expired keys are ended; nobody waits longer than this beyond the expiry of a key.
const EXPIRY_EVERY: Duration = Duration::from_secs(1);
/// How long to wait before asking for the topic again.
const SUBSCRIBE_WAIT: Duration = Duration::from_secs(1);
/// How often the keys in use are checked while revocations cannot be heard, so that their streams end too.
const RECHECK_EVERY: Duration = Duration::from_secs(5);
/// Uses noted at the same time; they share the store's transactions.
const NOTES_AT_ONCE: usize = 64;
/// Keys checked at the same time after messages were missed.
const CHECKS_AT_ONCE: usize = 64;

/// How often the peppers are read again, so that a gateway notices when another one has made a new one.
const PEPPERS_EVERY: Duration = Duration::from_secs(30);

/// How long a key that has expired holds its pepper, which cannot be had back: a clock that ran ahead may be set right, and then
/// the key lives on.
const EXPIRED_KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// What is to be noted of a key.
pub(super) enum Use {
    /// It was used.
    Seen(Arc<LiveKey>),
    /// It was used, and stands on an earlier pepper.
    Moves(Moved),
}

/// The digest of a key under the current pepper, in place of an earlier one.
pub(super) struct Moved {
    pub(super) prefix: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) pepper_id: String,
}

/// Runs until the house closes or the keys are dropped.
pub(super) async fn run(keys: Weak<Inner>, mut uses: mpsc::Receiver<Use>, tasks: Tasks) {
    // Each part ends when the keys are dropped, and the first to notice ends the others.
    tokio::select! {
        () = tasks.closing() => {}
        () = hear(&keys) => {}
        () = note(&keys, &mut uses) => {}
        () = expire(&keys) => {}
        () = keep_peppers(&keys) => {}
    }
}

async fn hear(keys: &Weak<Inner>) {
    loop {
        let Some(subscribed) = subscribe(keys).await else { return };
        match subscribed {
            Ok(revocations) => listen(keys, revocations).await,
            Err(error) => {
                tracing::warn!(error = error.report(), "revocations cannot be heard; asking again");
                hears(keys, false);
                recheck(keys).await;
            }
        }
        if keys.strong_count() == 0 {
            return;
        }
        sleep(SUBSCRIBE_WAIT).await;
    }
}

async fn subscribe(keys: &Weak<Inner>) -> Option<Result<Subscription>> {
    let keys = keys.upgrade()?;
    Some(keys.bus.subscribe(REVOKED_TOPIC, From::Now).await)
}

/// Listens until the topic or the keys end.
async fn listen(keys: &Weak<Inner>, mut revocations: Subscription) {
    // What was revoked before this moment may have gone unheard.
    let (mut heard, mut checked) = (true, recheck(keys).await);
    loop {
        hears(keys, heard);
        let event = match heard && checked {
            true => Ok(revocations.next().await),
            false => timeout(RECHECK_EVERY, revocations.next()).await,
        };
        match event {
            Ok(Some(Ok(Event::Message(message)))) => {
                let Some(keys) = keys.upgrade() else { return };
                keys.live.revoke(&message.body);
                heard = true;
            }
            Ok(Some(Ok(Event::Missed))) => (heard, checked) = (true, recheck(keys).await),
            Ok(Some(Err(error))) => {
                tracing::warn!(error = error.report(), "revocations cannot be heard for now");
                (heard, checked) = (false, false);
            }
            Ok(None) => return,
            Err(_elapsed) => checked = recheck(keys).await,
        }
        if keys.strong_count() == 0 {
            return;
        }
    }
}

fn hears(keys: &Weak<Inner>, heard: bool) {
    if let Some(keys) = keys.upgrade() {
        keys.live.hears(heard);
    }
}

/// Looks at every key in use, and ends those that the store says are revoked. Answers whether the store could say.
async fn recheck(keys: &Weak<Inner>) -> bool {
    let Some(keys) = keys.upgrade() else { return true };
    let check = async |prefix: Box<str>| match keys.table.get(&prefix).await {
        Ok(Some(Stored { value, .. })) if value.revoked_at.is_none() => Ok(()),
        Ok(_) => {
            keys.live.revoke(&prefix);
            Ok(())
        }
        // The store answers. One record that says nothing must not keep the others from being looked at.
        Err(error) if error.reason() == reason::INTERNAL => {
            tracing::error!(prefix = &*prefix, error = error.report(), "a key in use cannot be read");
            Ok(())
        }
        Err(error) => Err(error),
    };
    let in_use = stream::iter(keys.live.prefixes().into_iter().map(Ok));
    let checked = in_use.try_for_each_concurrent(CHECKS_AT_ONCE, check).await;
    if let Err(error) = &checked {
        tracing::warn!(error = error.report(), "the keys in use cannot be checked; trying again");
    }
    checked.is_ok()
}

async fn expire(keys: &Weak<Inner>) {
    let mut ticks = interval(EXPIRY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(keys) = keys.upgrade() else { return };
        keys.live.expire(keys.clock.now());
    }
}

/// Reads the peppers again and again, and throws away what no key needs any more.
async fn keep_peppers(keys: &Weak<Inner>) {
    let mut ticks = interval(PEPPERS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // They were read a moment ago.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let Some(keys) = keys.upgrade() else { return };
        if let Err(error) = keys.look_at_peppers().await {
            tracing::warn!(error = error.report(), "the peppers of keys cannot be read; trying again");
        }
    }
}

async fn note(keys: &Weak<Inner>, uses: &mut mpsc::Receiver<Use>) {
    let mut group = Vec::with_capacity(NOTES_AT_ONCE);
    while uses.recv_many(&mut group, NOTES_AT_ONCE).await > 0 {
        let Some(keys) = keys.upgrade() else { return };
        let notes = group.drain(..).map(|used| {
            let keys = Arc::clone(&keys);
            async move {
                let (prefix, noted) = match &used {
                    Use::Seen(key) => (&*key.prefix, keys.note_use(&key.prefix).await),
                    Use::Moves(moved) => (moved.prefix.as_str(), keys.move_to_current(moved).await),
                };
                if let Err(error) = noted {
                    tracing::warn!(prefix, error = error.report(), "the use of a key could not be noted");
                }
            }
        });
        futures_util::future::join_all(notes).await;
    }
}

impl Inner {
    async fn look_at_peppers(&self) -> Result<()> {
        let ring = self.peppers.read().await?;
        let [earlier @ .., _] = ring.all() else { return Ok(()) };
        if earlier.is_empty() || !ring.is_settled() {
            return Ok(());
        }
        let standing = self.standing(self.clock.now().minus(EXPIRED_KEPT)).await?;
        let unneeded: Vec<String> = earlier
            .iter()
            .filter(|pepper| !standing.contains_key(&pepper.id))
            .map(|pepper| pepper.id.clone())
            .collect();
        if !unneeded.is_empty() {
            self.peppers.drop(&unneeded).await?;
            tracing::info!(peppers = unneeded.join(" "), "no key stands on them any more: thrown away");
        }
        Ok(())
    }

    /// Writes the digest under the current pepper in place of an earlier one, unless something has changed meanwhile.
    async fn move_to_current(&self, moved: &Moved) -> Result<()> {
        if self.peppers.recent().await?.current().id != moved.pepper_id {
            return Ok(());
        }
        let Some(Stored { mut value, version }) = self.table.get(&moved.prefix).await? else { return Ok(()) };
        if value.digest != moved.from {
            return Ok(());
        }
        value.digest.clone_from(&moved.to);
        value.pepper_id.clone_from(&moved.pepper_id);
        match self.table.put(&value, Expect::Version(version)).await {
            // The next look-up finds it as it was, and moves it.
            Err(error) if error.reason() == reason::CONFLICT => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }

    async fn note_use(&self, prefix: &str) -> Result<()> {
        let Some(Stored { mut value, version }) = self.table.get(prefix).await? else { return Ok(()) };
        value.last_used_at = value.last_used_at.max(Some(self.clock.now()));
        match self.table.put(&value, Expect::Version(version)).await {
            // Another change won, perhaps the note of another gateway; the next minute's use will be noted.
            Err(error) if error.reason() == reason::CONFLICT => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }
}
