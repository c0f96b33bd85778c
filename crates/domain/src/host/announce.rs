//! A host says that it is here.
//!
//! A newcomer's usual mistake is to compare clocks. What is announced lives as long as it is repeated; the times in it are
//! for people.
//!
//! *Knows:* the announcement and its rhythm. *Does not know:* who reads it.

use std::{sync::atomic::Ordering, time::Duration};

use portico_base::{Clock, Result, clock::SystemClock, tasks::Tasks};
use portico_port::{
    fleet::{ANNOUNCED, Announced},
    registry::{ANNOUNCEMENT_BYTES_MAX, Announcement},
};
use tokio::time::sleep;

use super::{Host, Standing};

/// How often a host says that it is here.
const EVERY: Duration = Duration::from_secs(5);
/// How soon it says so again when what it runs is another: gateways place by it, and a crowd of starts is told once.
const CHANGED_WITHIN: Duration = Duration::from_millis(200);
/// How soon it says so again when nobody heard it.
const AGAIN: Duration = Duration::from_millis(500);
/// How long it counts as here after it last said so: two repetitions may be lost.
const TTL: Duration = Duration::from_secs(15);
/// Bytes of the ids of deployments that are named; who has more cached is found all the same, only not preferred. Three
/// quarters of what a registry takes, so that everything else fits.
const DEPLOYMENTS_BYTES_MAX: usize = ANNOUNCEMENT_BYTES_MAX / 4 * 3;

impl Host {
    /// What it says of itself now.
    ///
    /// # Errors
    /// As for [`Host::load`].
    pub async fn announced(&self) -> Result<Announced> {
        let load = self.load().await?;
        let place = self.place();
        Ok(Announced {
            id: place.id.clone(),
            url: place.url.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            environment: place.environment.clone(),
            status: self.standing().await.as_str().to_owned(),
            active_agents: load.active,
            max_agents: load.active_max,
            cpu: load.cpu,
            mem: load.memory,
            disk_free_bytes: load.disk_free_bytes,
            deployments: listed(load.cached.ids()),
            chronicle: 0,
            started_at: place.started_at.0,
            heartbeat_at: SystemClock.now().0,
            epoch: load.epoch,
        })
    }

    /// Says that it is here, once.
    ///
    /// # Errors
    /// The registry's.
    pub async fn announce(&self) -> Result<()> {
        let announced = self.announced().await?;
        let body = serde_json::to_string(&announced).map_err(portico_base::Error::internal)?;
        self.0.registry.announce(ANNOUNCED, Announcement { id: announced.id, body }, TTL).await
    }

    /// Says that it is here again and again, soon when what it runs is another, and at once when the registry has come back, until
    /// the house closes.
    pub async fn keep_announcing(self, tasks: Tasks) {
        let (mut pause, mut heard, mut returns) = (Duration::ZERO, true, 0);
        loop {
            tokio::select! {
                () = tasks.closing() => return,
                () = sleep(pause) => {}
                () = self.changes() => {}
                Ok(count) = self.0.registry.returned(returns) => returns = count,
            }
            let announced = self.announce().await;
            pause = if announced.is_ok() { EVERY } else { AGAIN };
            match announced {
                Ok(()) if heard => {}
                Ok(()) => tracing::info!("the host is announced again"),
                Err(error) if heard => tracing::warn!(problem = error.report(), "the host could not announce itself"),
                Err(error) => tracing::debug!(problem = error.report(), "the host is still not announced"),
            }
            heard = pause == EVERY;
        }
    }

    /// Until it runs something else than it did, and a moment longer. What happens after that is told with the next announcement.
    async fn changes(&self) {
        self.0.changed.notified().await;
        sleep(CHANGED_WITHIN).await;
    }

    /// Takes no more instances, and says so.
    pub async fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
        debug_assert_ne!(self.standing().await, Standing::Healthy, "who drains is not healthy");
        if let Err(error) = self.announce().await {
            tracing::warn!(problem = error.report(), "the host could not say that it is draining");
        }
    }

    /// Says that it is gone.
    pub async fn withdraw(&self) {
        if let Err(error) = self.0.registry.withdraw(ANNOUNCED, &self.place().id).await {
            tracing::warn!(
                problem = error.report(),
                "the host could not withdraw itself; it will be forgotten in a while"
            );
        }
    }
}

/// As many of these as fit, with commas between.
fn listed(ids: &[String]) -> String {
    let mut listed = String::new();
    for id in ids {
        if listed.len() + 1 + id.len() > DEPLOYMENTS_BYTES_MAX {
            break;
        }
        if !listed.is_empty() {
            listed.push(',');
        }
        listed.push_str(id);
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_has_much_cached_is_announced_all_the_same() {
        assert_eq!(listed(&["a:1@0".to_owned(), "b:1@0".to_owned()]), "a:1@0,b:1@0");
        let long = format!("{}:{}@0123456789", "t".repeat(64), "v".repeat(64));
        let said = Announced { deployments: listed(&vec![long; 5_000]), ..Announced::default() };
        let bytes = serde_json::to_string(&said).unwrap().len();
        assert!((ANNOUNCEMENT_BYTES_MAX / 2..ANNOUNCEMENT_BYTES_MAX).contains(&bytes), "{bytes}");
    }
}
