//! Telling running agents of changed defaults.
//!
//! A newcomer's usual mistake is to send the new defaults as they are. What an instance was given by its own request lies
//! over them and stays; only what has changed for it is told, null for what is gone.
//!
//! *Knows:* settings, what requests said. *Does not know:* what an agent does with it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use portico_base::{Result, page::PageRequest, tasks::Tasks};
use serde_json::{Map, Value};
use tokio::time::sleep;

use super::{
    HOSTS_ASKED_MAX, Inner,
    record::{Instance, STANDING},
};
use crate::settings::Current;

/// Records looked at in one go.
const PAGE: usize = 200;
/// When the store did not answer, how soon it is asked again.
const AGAIN: Duration = Duration::from_secs(5);

/// Goes on until the house closes or nobody holds instances any more.
pub(super) async fn run(inner: Weak<Inner>, tasks: Tasks) {
    let Some((mut changes, mut told)) = inner.upgrade().map(|inner| {
        let mut changes = inner.ground.settings.watch();
        let told = Arc::clone(&changes.borrow_and_update());
        (changes, told)
    }) else {
        return;
    };
    let mut is_behind = false;
    loop {
        tokio::select! {
            () = tasks.closing() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(AGAIN), if is_behind => {}
        }
        let now = Arc::clone(&changes.borrow_and_update());
        let Some(inner) = inner.upgrade() else { return };
        let configured = inner.configure(&told, &now).await;
        is_behind = configured.is_err();
        match configured {
            Ok(()) => told = now,
            Err(error) => {
                tracing::warn!(problem = error.report(), "not every agent could be told of changed settings yet");
            }
        }
    }
}

impl Inner {
    async fn configure(&self, before: &Current, now: &Current) -> Result<()> {
        let mut page = PageRequest { limit: PAGE, after: None };
        loop {
            let found = self.table.readable_page(Some((STANDING, "live")), &page).await?;
            let told = stream::iter(found.items).for_each_concurrent(HOSTS_ASKED_MAX, |stored| async move {
                self.tell(&stored.value, before, now).await;
            });
            told.await;
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Tells an instance that was on its way what has changed since it was given its configuration.
    pub(super) async fn catch_up(&self, instance: &Instance, given: &Current) {
        let now = self.ground.settings.current();
        if now.version != given.version {
            self.tell(instance, given, &now).await;
        }
    }

    async fn tell(&self, instance: &Instance, before: &Current, now: &Current) {
        let changes = changes(instance, before, now);
        let Some(at) = instance.at().filter(|_| !changes.is_empty()) else { return };
        // One that is ending or starting over has no use for it, and the others must not wait.
        if let Err(error) = self.ground.fleet.configure(&at, changes).await {
            tracing::debug!(instance.id = instance.id, problem = error.report(), "was not told of changed settings");
        }
    }
}

/// What has changed for this instance.
fn changes(instance: &Instance, before: &Current, now: &Current) -> Map<String, Value> {
    let (before, now) = (before.effective_defaults(&instance.agent_type), now.effective_defaults(&instance.agent_type));
    let gone = before.keys().filter(|name| !now.contains_key(*name)).map(|name| (name.clone(), Value::Null));
    let new = now.iter().filter(|(name, value)| before.get(*name) != Some(value));
    let new = new.map(|(name, value)| (name.clone(), value.clone()));
    gone.chain(new).filter(|(name, _)| !instance.own_config.contains(name)).collect()
}
