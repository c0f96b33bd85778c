//! What goes on behind the calls: hearing of revocations, ending what expires, noting when keys are used.
//!
//! A newcomer's usual mistake is to do any of it while a caller waits. One task does it all, and the keys do not live on
//! because of it.
//!
//! *Knows:* the bus, the clock, the uses that wait. *Does not know:* calls.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{Inner, REVOKED_TOPIC, live::LiveKey};
use crate::{
    base::{Result, reason, tasks::Tasks},
    domain::table::Stored,
    port::{
        bus::{Event, From, Subscription},
        records::Expect,
    },
};

/// How often expired keys are ended; nobody waits longer than this beyond the expiry of a key.
const EXPIRY_EVERY: Duration = Duration::from_secs(1);
/// How long to wait before asking for the topic again.
const SUBSCRIBE_WAIT: Duration = Duration::from_secs(1);
/// Uses noted at the same time; they share the store's transactions.
const NOTES_AT_ONCE: usize = 64;
/// Keys checked at the same time after messages were missed.
const CHECKS_AT_ONCE: usize = 64;

/// Runs until the house closes or the keys are dropped.
pub(super) async fn run(keys: Weak<Inner>, mut uses: mpsc::Receiver<Arc<LiveKey>>, tasks: Tasks) {
    // Each part ends when the keys are dropped, and the first to notice ends the others.
    tokio::select! {
        () = tasks.closing() => {}
        () = hear(&keys) => {}
        () = note(&keys, &mut uses) => {}
        () = expire(&keys) => {}
    }
}

async fn hear(keys: &Weak<Inner>) {
    loop {
        let Some(subscribed) = subscribe(keys).await else { return };
        match subscribed {
            Ok(mut revocations) => {
                // What was revoked before this moment may have gone unheard.
                recheck(keys).await;
                while let Some(event) = revocations.next().await {
                    let Some(keys) = keys.upgrade() else { return };
                    match event {
                        Ok(Event::Message(message)) => keys.live.revoke(&message.body),
                        Ok(Event::Missed) => recheck(&Arc::downgrade(&keys)).await,
                        Err(error) => tracing::warn!(error = error.report(), "revocations cannot be heard for now"),
                    }
                }
            }
            Err(error) => tracing::warn!(error = error.report(), "revocations cannot be heard; asking again"),
        }
        sleep(SUBSCRIBE_WAIT).await;
    }
}

async fn subscribe(keys: &Weak<Inner>) -> Option<Result<Subscription>> {
    let keys = keys.upgrade()?;
    Some(keys.bus.subscribe(REVOKED_TOPIC, From::Now).await)
}

/// Looks at every key in use, and ends those that the store says are revoked.
async fn recheck(keys: &Weak<Inner>) {
    let Some(keys) = keys.upgrade() else { return };
    let check = async |prefix: Box<str>| match keys.table.get(&prefix).await {
        Ok(Some(Stored { value, .. })) if value.revoked_at.is_none() => {}
        Ok(_) => keys.live.revoke(&prefix),
        Err(error) => tracing::warn!(%prefix, error = error.report(), "a key in use cannot be checked"),
    };
    stream::iter(keys.live.prefixes()).for_each_concurrent(CHECKS_AT_ONCE, check).await;
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

async fn note(keys: &Weak<Inner>, uses: &mut mpsc::Receiver<Arc<LiveKey>>) {
    let mut group = Vec::with_capacity(NOTES_AT_ONCE);
    while uses.recv_many(&mut group, NOTES_AT_ONCE).await > 0 {
        let Some(keys) = keys.upgrade() else { return };
        let notes = group.drain(..).map(|key| {
            let keys = Arc::clone(&keys);
            async move {
                if let Err(error) = keys.note_use(&key.prefix).await {
                    tracing::warn!(prefix = %key.prefix, error = error.report(), "the use of a key could not be noted");
                }
            }
        });
        futures_util::future::join_all(notes).await;
    }
}

impl Inner {
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
