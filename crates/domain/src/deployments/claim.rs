//! A claim on a name while its bundle arrives: of two uploads of one version, the second is refused at once.
//!
//! A newcomer's usual mistake is to trust a claim that was taken long ago. It expires soon, so that a killed process
//! blocks nobody for long, and is renewed while bytes arrive and while they are stored. The commit that stores the
//! deployment removes the claim in the same stroke, and fails if it has changed by then. Versions of a claim begin anew
//! once it has expired, so a version alone says nothing of whose it is: a renewal looks at the holder.
//!
//! *Knows:* claims. *Does not know:* what is uploaded.

use std::{future::Future, pin::pin, time::Duration};

use portico_base::{Code, Context, Error, Result, Retry, Timestamp, id, reason};
use portico_port::records::{Expect, Write};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{Deployments, name::Name};
use crate::table::{Entity, by_time};

/// How long a claim holds without being renewed. Longer than an upload may be silent.
const CLAIM_HELD: Duration = Duration::from_secs(60);
/// How often it is renewed.
const CLAIM_RENEWED: Duration = Duration::from_secs(15);

/// A claim as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Claim {
    name: String,
    /// Who holds it, so that a late goodbye removes no other's claim.
    holder: String,
    until: Timestamp,
}

impl Entity for Claim {
    const COLLECTION: &'static str = "uploads";

    fn id(&self) -> String {
        self.name.clone()
    }

    fn sort(&self) -> String {
        by_time(self.until)
    }

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.until)
    }
}

/// A claim that is held. Dropping it gives the name free.
pub(super) struct Held {
    deployments: Deployments,
    name: Name,
    claim: Claim,
    version: u64,
    renew_at: Timestamp,
    is_released: bool,
}

impl Held {
    /// Claims the name.
    ///
    /// # Errors
    /// `upload_in_progress` when another upload holds it.
    pub(super) async fn take(deployments: &Deployments, cx: &Context, name: &Name) -> Result<Held> {
        let now = cx.now();
        let claim = Claim { name: name.record_id(), holder: id::random("", 16), until: now.plus(CLAIM_HELD) };
        let version = match deployments.0.claims.put(&claim, Expect::Absent).await {
            Err(error) if error.reason() == reason::CONFLICT => return Err(in_progress(name)),
            answered => answered?,
        };
        let renew_at = now.plus(CLAIM_RENEWED);
        Ok(Held { deployments: deployments.clone(), name: name.clone(), claim, version, renew_at, is_released: false })
    }

    /// Renews the claim if it is time to.
    ///
    /// # Errors
    /// `upload_in_progress` when it was lost to another upload.
    pub(super) async fn keep(&mut self, cx: &Context) -> Result<()> {
        if cx.now() < self.renew_at { Ok(()) } else { self.renew(cx).await }
    }

    /// Does work that may take longer than a claim holds, and renews it meanwhile.
    ///
    /// # Errors
    /// The work's own, and `upload_in_progress` when the claim was lost to another upload.
    pub(super) async fn during<T>(&mut self, cx: &Context, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut work = pin!(work);
        loop {
            match timeout(CLAIM_RENEWED, work.as_mut()).await {
                Ok(done) => return done,
                Err(_) => self.renew(cx).await?,
            }
        }
    }

    /// Renews the claim, or takes it again when it has expired, unless the name was taken since.
    ///
    /// # Errors
    /// `upload_in_progress` when it was lost to another upload, even to one that has ended.
    pub(super) async fn renew(&mut self, cx: &Context) -> Result<()> {
        let expect = match self.deployments.0.claims.get(&self.claim.name).await? {
            None => Expect::Absent,
            Some(stored) if stored.value.holder == self.claim.holder => Expect::Version(stored.version),
            Some(_) => return Err(in_progress(&self.name)),
        };
        let now = cx.now();
        self.claim.until = now.plus(CLAIM_HELD);
        match self.deployments.0.claims.put(&self.claim, expect).await {
            Err(error) if error.reason() == reason::CONFLICT => return Err(in_progress(&self.name)),
            answered => self.version = answered?,
        }
        self.renew_at = now.plus(CLAIM_RENEWED);
        // Asked once nobody else can store it any more.
        if expect == Expect::Absent && self.deployments.0.table.get(&self.claim.name).await?.is_some() {
            return Err(in_progress(&self.name));
        }
        Ok(())
    }

    /// The write that gives the name free, for the commit that stores the deployment.
    pub(super) fn release(&self) -> Write {
        let expect = Expect::Version(self.version);
        Write::Delete { collection: Claim::COLLECTION, id: self.claim.id(), expect }
    }

    /// The claim was given free by a commit.
    pub(super) fn released(mut self) {
        self.is_released = true;
    }

    /// Gives the name free before the caller hears that the upload failed, so that it may try again at once.
    pub(super) async fn give_free(mut self) {
        self.is_released = true;
        give_free(&self.deployments, &self.claim).await;
    }
}

/// The upload was dropped in the middle.
impl Drop for Held {
    fn drop(&mut self) {
        if self.is_released {
            return;
        }
        let (deployments, claim) = (self.deployments.clone(), self.claim.clone());
        self.deployments.0.ground.tasks.spawn(async move { give_free(&deployments, &claim).await });
    }
}

/// Removes the claim if this holder still has it.
async fn give_free(deployments: &Deployments, claim: &Claim) {
    let removed = async {
        let stored = deployments.0.claims.get(&claim.name).await?;
        let Some(ours) = stored.filter(|stored| stored.value.holder == claim.holder) else { return Ok(()) };
        let expect = Expect::Version(ours.version);
        let delete = Write::Delete { collection: Claim::COLLECTION, id: claim.id(), expect };
        deployments.0.ground.records.commit(vec![delete]).await.map(|_| ())
    };
    let removed: Result<()> = removed.await;
    if let Err(error) = removed {
        tracing::warn!(error = %error.report(), upload.name = claim.name, "a claim is left to expire");
    }
}

pub(super) fn in_progress(name: &Name) -> Error {
    let message = format!("{} {} is being uploaded by another call", name.agent_type, name.version);
    Error::new(Code::Aborted, reason::UPLOAD_IN_PROGRESS, message).retry(Retry::After(CLAIM_RENEWED))
}
