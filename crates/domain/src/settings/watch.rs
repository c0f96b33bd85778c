//! Keeping settings current: word of changes, and a look every half minute in case word is lost.
//!
//! A newcomer's usual mistake is to take settings from the message. It only says that there is something new; what counts
//! is what is stored.
//!
//! *Knows:* the bus, the topic. *Does not know:* what settings mean.

use std::{sync::Weak, time::Duration};

use futures_util::StreamExt;
use portico_base::tasks::Tasks;
use portico_port::bus::From;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Inner, UPDATE_TOPIC};

/// How often settings are read again without word of a change.
const REFRESH_EVERY: Duration = Duration::from_secs(30);
/// How long to wait before asking for the topic again.
const SUBSCRIBE_WAIT: Duration = Duration::from_secs(1);

/// Runs until the house closes or the settings are dropped.
pub(super) async fn run(settings: Weak<Inner>, tasks: Tasks) {
    tokio::select! {
        () = tasks.closing() => {}
        () = hear(&settings) => {}
        () = look(&settings) => {}
    }
}

async fn hear(settings: &Weak<Inner>) {
    loop {
        let Some(strong) = settings.upgrade() else { return };
        let subscribed = strong.bus.subscribe(UPDATE_TOPIC, From::Now).await;
        drop(strong);
        match subscribed {
            Ok(mut changes) => {
                refresh(settings).await;
                // A message, a gap and a failure all mean: look again.
                while changes.next().await.is_some() {
                    refresh(settings).await;
                }
            }
            Err(error) => tracing::warn!(error = error.report(), "changes of settings cannot be heard; asking again"),
        }
        sleep(SUBSCRIBE_WAIT).await;
    }
}

async fn look(settings: &Weak<Inner>) {
    let mut ticks = interval(REFRESH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while settings.strong_count() > 0 {
        ticks.tick().await;
        refresh(settings).await;
    }
}

async fn refresh(settings: &Weak<Inner>) {
    let Some(settings) = settings.upgrade() else { return };
    if let Err(error) = settings.refresh().await {
        tracing::warn!(error = error.report(), "settings cannot be read again; those known stay in force");
    }
}
