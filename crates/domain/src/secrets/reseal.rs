//! Moving stored secrets to the current sealing key, so that an earlier one can be dropped.
//!
//! A newcomer's usual mistake is to trust one walk. A gateway that still has the old key as its current one seals with it
//! meanwhile; so every start walks, and the walk of the gateway that is started last is the one that counts.
//!
//! *Knows:* which records an earlier key sealed. *Does not know:* values for longer than it takes to seal them anew.

use portico_base::{Result, page::PageRequest, reason};
use portico_port::records::Expect;

use super::{CHANGE_ATTEMPTS_MAX, Sealed, Secrets, sealing_place};

/// Records that are read at once; each is at most some 400 KiB.
const PAGE: usize = 64;

/// What a walk over all stored secrets found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Sealed anew with the current key.
    pub moved: u64,
    /// Sealed with the current key already.
    pub current: u64,
    /// Still sealed with another key: none that is configured opens them, or others changed them all the time.
    pub left: u64,
}

impl Secrets {
    /// Seals anew what an earlier key sealed. Names, times and who changed them stay; the version counts on.
    ///
    /// # Errors
    /// The store's. What was moved until then stays moved.
    pub async fn reseal(&self) -> Result<Resealed> {
        let mut done = Resealed::default();
        let mut request = PageRequest { limit: PAGE, after: None };
        loop {
            let page = self.table.page(None, &request).await?;
            for stored in page.items {
                if stored.value.envelope.kid == self.sealer.kid() {
                    done.current += 1;
                } else if self.move_to_current(&stored.value).await? {
                    done.moved += 1;
                } else {
                    done.left += 1;
                }
            }
            if done.moved > 0 {
                tracing::info!(moved = done.moved, current = done.current, left = done.left, "sealing secrets anew");
            }
            if page.next.is_none() {
                return Ok(done);
            }
            request.after = page.next;
        }
    }

    /// Reseals, and says in the log whether the earlier keys can be dropped. For the background of a start.
    pub async fn reseal_and_tell(self) {
        match self.reseal().await {
            Ok(Resealed { moved, current, left: 0 }) => {
                tracing::info!(
                    moved,
                    current,
                    kid = self.sealer.kid(),
                    "all stored secrets are sealed with the current key"
                );
            }
            Ok(Resealed { moved, left, .. }) => {
                tracing::warn!(moved, left, "some secrets are still sealed with an earlier key: it is still needed");
            }
            Err(error) => tracing::warn!(
                error = error.report(),
                "secrets could not all be sealed anew: earlier keys are still needed; the next start tries again"
            ),
        }
    }

    /// Whether it is sealed with the current key now, or gone.
    async fn move_to_current(&self, found: &Sealed) -> Result<bool> {
        let id = super::place(&found.tenant_id, &found.agent_type);
        let place = sealing_place(&found.tenant_id, &found.agent_type);
        for _ in 0..CHANGE_ATTEMPTS_MAX {
            let Some(stored) = self.table.get(&id).await? else { return Ok(true) };
            if stored.value.envelope.kid == self.sealer.kid() {
                return Ok(true);
            }
            let plain = match self.sealer.open(&place, &stored.value.envelope).await {
                Ok(plain) => plain,
                Err(error) => {
                    tracing::warn!(secrets = id, error = error.report(), "cannot be sealed anew");
                    return Ok(false);
                }
            };
            let anew = Sealed { envelope: self.sealer.seal(&place, &plain).await?, ..stored.value };
            match self.table.put(&anew, Expect::Version(stored.version)).await {
                Err(error) if error.reason() == reason::CONFLICT => {}
                put => return put.map(|_| true),
            }
        }
        Ok(false)
    }
}
