//! Telling hosts that return what was deleted while they were away.
//!
//! A newcomer's usual mistake is to tell at once and forget. A debt is written down with the tombstone and is gone only when
//! the host has answered, whichever gateway told it.
//!
//! *Knows:* tombstones that owe, hosts that are here. *Does not know:* why a host was away.

use std::{collections::HashSet, time::Duration};

use futures_util::{StreamExt, stream};
use portico_base::{Result, page::PageRequest, reason};
use portico_port::{fleet::Stop, records::Expect};

use super::{
    HOSTS_ASKED_MAX, Inner,
    record::{Instance, OWED},
    remove::TOMBSTONE_KEPT,
};
use crate::table::Stored;

/// How often debts are looked through.
pub(super) const ROUND_INTERVAL: Duration = Duration::from_secs(5);
/// Tombstones looked at in one go.
const PAGE: usize = 200;

impl Inner {
    /// Tells the hosts that are here.
    pub(super) async fn pay(&self) -> Result<()> {
        let mut page = PageRequest { limit: PAGE, after: None };
        let mut here: Option<HashSet<String>> = None;
        loop {
            let found = self.table.readable_page(Some((OWED, "yes")), &page).await?;
            if found.items.is_empty() && found.next.is_none() {
                return Ok(());
            }
            let here = match &here {
                Some(here) => here,
                None => {
                    let hosts = self.ground.fleet.hosts().await?;
                    here.insert(
                        hosts.iter().filter(|host| host.healthy || host.draining).map(|it| it.id.clone()).collect(),
                    )
                }
            };
            let is_here = |stored: &Stored<Instance>| {
                stored.value.coordinator_id.as_ref().is_some_and(|host| here.contains(host))
            };
            let debts: Vec<_> = found.items.into_iter().filter(is_here).map(|stored| self.pay_one(stored)).collect();
            stream::iter(debts).buffer_unordered(HOSTS_ASKED_MAX).for_each(|()| std::future::ready(())).await;
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn pay_one(&self, stored: Stored<Instance>) {
        let Some(at) = stored.value.at() else { return };
        match self.ground.fleet.stop(&at, Stop::Now).await {
            Err(error) if error.reason() != reason::INSTANCE_NOT_FOUND => {
                tracing::debug!(
                    instance.id = at.instance,
                    host.id = at.host,
                    problem = error.report(),
                    "is still owed"
                );
                return;
            }
            _ => {}
        }
        let now = self.ground.clock.now();
        let paid = Instance { owed: false, expires_at: Some(now.plus(TOMBSTONE_KEPT)), ..stored.value };
        match self.table.put(&paid, Expect::Version(stored.version)).await {
            // Another gateway was as quick, or somebody took the id anew.
            Err(error) if error.reason() != reason::CONFLICT => {
                tracing::warn!(
                    instance.id = at.instance,
                    problem = error.report(),
                    "a debt that was paid stays written"
                );
            }
            _ => tracing::info!(instance.id = at.instance, host.id = at.host, "was stopped when its host returned"),
        }
    }
}
