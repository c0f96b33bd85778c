//! How many instances a tenant may have.
//!
//! A newcomer's usual mistake is to count and then write. Two requests at the same time would both find room for the last
//! instance; so each creation under a limit also writes to one record of its tenant, which must be as it was before the
//! count. Whoever comes second counts again.
//!
//! *Knows:* the limit, what counts. *Does not know:* how an instance is created.

use std::time::Duration;

use portico_base::{Code, Context, Error, Result, Retry, Timestamp, page::PageRequest, reason};
use portico_port::{
    fleet::State,
    records::{Expect, Write},
};
use serde::{Deserialize, Serialize};

use super::{Inner, Instance};
use crate::{
    instances::TENANT,
    table::{self, Entity, Stored, by_time},
};

/// Instances of a tenant that are looked at in one go.
const PAGE: usize = 200;
/// When to ask again: an instance may have ended by then.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// The last creation under a limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct Quota {
    tenant_id: String,
    at: Timestamp,
}

impl Entity for Quota {
    const COLLECTION: &'static str = "instance_quotas";

    fn id(&self) -> String {
        self.tenant_id.clone()
    }

    fn sort(&self) -> String {
        by_time(self.at)
    }
}

impl Inner {
    /// Whether the caller's tenant may have another instance. Answers what is to be written with it, so that it still may
    /// then; nothing where there is no limit.
    ///
    /// # Errors
    /// `quota_exceeded`.
    pub(super) async fn within_quota(&self, cx: &Context) -> Result<Option<Write>> {
        let Some(max) = self.ground.settings.current().limits().max_instances_per_tenant else { return Ok(None) };
        let tenant = cx.caller.tenant.as_str();
        let expect = match self.quotas.get(tenant).await? {
            Some(last) => Expect::Version(last.version),
            None => Expect::Absent,
        };
        if self.has(tenant, max).await? {
            return Err(Error::new(
                Code::ResourceExhausted,
                reason::QUOTA_EXCEEDED,
                format!("the tenant has {max} instances, which is its limit"),
            )
            .retry(Retry::After(ASK_AGAIN)));
        }
        table::write(&Quota { tenant_id: tenant.to_owned(), at: cx.now() }, expect).map(Some)
    }

    /// Whether so many instances of the tenant live.
    async fn has(&self, tenant: &str, max: u64) -> Result<bool> {
        let (mut page, mut count) = (PageRequest { limit: PAGE, after: None }, 0u64);
        loop {
            let found = self.table.page(Some((TENANT, tenant)), &page).await?;
            let lives = |stored: &&Stored<Instance>| {
                !stored.value.is_tombstone() && !State::parse(&stored.value.status).is_over()
            };
            count += found.items.iter().filter(lives).count() as u64;
            if count >= max {
                return Ok(true);
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Ok(false),
            }
        }
    }
}
