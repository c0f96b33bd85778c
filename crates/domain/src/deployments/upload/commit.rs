//! The last steps of an upload: compare, store, write down, put on a host.
//!
//! A newcomer's usual mistake is to fear a bundle without a record. It is what an upload leaves that died between the two;
//! the same bytes then heal it, and other bytes replace it, since nobody was ever told of it.
//!
//! *Knows:* what makes a version immutable. *Does not know:* how bytes arrive.

use std::time::Duration;

use portico_base::{Code, Context, Error, Result, TenantId, reason};
use portico_port::{
    blobs::{Committed, Metadata, Staged},
    records::Expect,
};

use super::{Arrived, Uploaded};
use crate::{
    deployments::{
        Deployment, Deployments,
        claim::{Held, in_progress},
        name::Name,
        record::AgentType,
    },
    table::{Entity, Stored, write},
};

/// How often writing down is tried while other versions of the same type are written down.
const ATTEMPTS_MAX: usize = 8;
/// How long the uploader waits for a host to fetch the bundle. Instances wait longer when they need it.
const PLACE_WAIT: Duration = Duration::from_secs(30);
/// What the uploader is told when no host has the bundle.
const NOT_PLACED: &str = "no host holds the bundle yet; it is fetched when the first instance starts";

/// The last steps of one upload.
pub(super) struct Committing<'a> {
    pub(super) deployments: &'a Deployments,
    pub(super) cx: &'a Context,
    pub(super) arrived: &'a Arrived,
}

impl Committing<'_> {
    /// Does them. The claim is taken out once it is given free.
    pub(super) async fn run(&self, claim: &mut Option<Held>) -> Result<Uploaded> {
        let name = &self.arrived.name;
        if let Some(stored) = self.deployments.0.table.get(&name.record_id()).await? {
            return self.compare(stored.value);
        }
        let held = match claim {
            Some(held) => held,
            // What was stored when the upload began is gone.
            None => claim.insert(Held::take(self.deployments, self.cx, name).await?),
        };
        let owner = self.deployments.owner(self.cx, name).await?;
        let deployment = self.deployment(&owner.tenant);
        self.store(held, &deployment).await?;
        let uploaded = self.write_down(held, deployment, owner).await?;
        if let Some(held) = claim.take() {
            held.released();
        }
        Ok(uploaded)
    }

    /// The version exists: the same bytes are fine, others are refused.
    fn compare(&self, stored: Deployment) -> Result<Uploaded> {
        if stored.checksum == self.arrived.staged.digest().to_string() {
            return Ok(Uploaded { deployment: stored, existing: true, warnings: Vec::new() });
        }
        let message = format!(
            "{} {} exists with other content; versions are immutable, so choose the next one",
            stored.agent_type, stored.version
        );
        Err(Error::new(Code::AlreadyExists, reason::VERSION_CONFLICT, message)
            .with_fact("existing_checksum", stored.checksum.clone())
            .with_fact("existing_deployment_id", stored.deployment_id()))
    }

    fn deployment(&self, owner: &TenantId) -> Deployment {
        let Arrived { name, staged, .. } = self.arrived;
        Deployment {
            agent_type: name.agent_type.clone(),
            version: name.version.clone(),
            checksum: staged.digest().to_string(),
            size_bytes: staged.size(),
            blob_key: name.blob_key(&self.deployments.0.config.environment),
            tenant_id: owner.as_str().to_owned(),
            created_at: self.cx.now(),
            created_by: self.cx.caller.identity.as_str().to_owned(),
            coordinator_id: None,
        }
    }

    /// Gives the bundle its key.
    async fn store(&self, claim: &mut Held, deployment: &Deployment) -> Result<()> {
        let staged = &self.arrived.staged;
        match claim.during(self.cx, self.commit(staged.as_ref(), deployment)).await? {
            Committed::Created => return Ok(()),
            Committed::Exists(head) if head.digest == staged.digest() => return Ok(()),
            Committed::Exists(_) => {}
        }
        // Bytes without a record, and the claim is ours: nobody was told of them. It is renewed right before, so that it
        // still holds while they are replaced.
        claim.renew(self.cx).await?;
        self.deployments.0.ground.blobs.delete(&deployment.blob_key).await?;
        match claim.during(self.cx, self.commit(staged.as_ref(), deployment)).await? {
            Committed::Created => Ok(()),
            Committed::Exists(_) => Err(in_progress(&self.arrived.name)),
        }
    }

    async fn commit(&self, staged: &dyn Staged, deployment: &Deployment) -> Result<Committed> {
        let mut metadata = Metadata::new();
        let mut say = |name: &str, value: &str| metadata.insert(name.to_owned(), value.to_owned());
        say("agent-type", &deployment.agent_type);
        say("version", &deployment.version);
        say("tenant", &deployment.tenant_id);
        say("uploaded-by", &deployment.created_by);
        if let Some(key_id) = self.cx.caller.key_id() {
            say("key-id", key_id);
        }
        staged.commit(&deployment.blob_key, metadata).await
    }

    /// Writes deployment and agent type down and gives the claim free, in one stroke.
    async fn write_down(&self, claim: &mut Held, deployment: Deployment, mut owner: Owner) -> Result<Uploaded> {
        let name = &self.arrived.name;
        claim.keep(self.cx).await?;
        for _ in 0..ATTEMPTS_MAX {
            let agent_type = AgentType {
                agent_type: deployment.agent_type.clone(),
                tenant_id: deployment.tenant_id.clone(),
                latest: deployment.version.clone(),
                latest_at: deployment.created_at,
            };
            let writes = vec![write(&deployment, Expect::Absent)?, write(&agent_type, owner.expect)?, claim.release()];
            match self.deployments.0.ground.records.commit(writes).await {
                Ok(_) => return Ok(Uploaded { deployment, existing: false, warnings: Vec::new() }),
                Err(error) if error.reason() == reason::CONFLICT => {}
                Err(error) => return Err(error),
            }
            if let Some(stored) = self.deployments.0.table.get(&name.record_id()).await? {
                return self.compare(stored.value);
            }
            // It may be the claim that has changed. What lies under the key is ours for as long as the claim is.
            claim.renew(self.cx).await?;
            owner = match self.deployments.owner(self.cx, name).await {
                Ok(owner) if owner.tenant == deployment.tenant() => owner,
                // Someone else's upload of another version has made the type theirs.
                other => {
                    self.deployments.0.ground.blobs.delete(&deployment.blob_key).await?;
                    return Err(other.err().unwrap_or_else(|| in_progress(name)));
                }
            };
        }
        Err(in_progress(name))
    }
}

/// To whom a new version belongs, and what the record of its type must be when it is written down.
pub(super) struct Owner {
    tenant: TenantId,
    expect: Expect,
}

impl Deployments {
    /// To whom a version of this name would belong: the first one to use an agent type owns it. An administrator may
    /// act for any owner.
    ///
    /// # Errors
    /// `agent_type_owned`.
    pub(super) async fn owner(&self, cx: &Context, name: &Name) -> Result<Owner> {
        let Some(Stored { value: known, version }) = self.0.types.get(&name.agent_type).await? else {
            return Ok(Owner { tenant: cx.caller.tenant.clone(), expect: Expect::Absent });
        };
        if !cx.caller.owns(&known.tenant()) {
            let message = format!("the agent type {} belongs to another tenant", name.agent_type);
            return Err(Error::new(Code::PermissionDenied, reason::AGENT_TYPE_OWNED, message));
        }
        Ok(Owner { tenant: known.tenant(), expect: Expect::Version(version) })
    }

    /// Puts a deployment on a host, if it is on none. That this fails is not a failure of the upload: hosts fetch what
    /// they need.
    pub(super) async fn place(&self, uploaded: &mut Uploaded) {
        if uploaded.deployment.coordinator_id.is_some() {
            return;
        }
        match self.placed(&uploaded.deployment).await {
            Ok(Some(host)) => uploaded.deployment.coordinator_id = Some(host),
            Ok(None) => uploaded.warnings.push(NOT_PLACED.to_owned()),
            Err(error) => {
                tracing::warn!(
                    error = %error.report(),
                    deployment.id = uploaded.deployment.deployment_id(),
                    "a new deployment is on no host yet"
                );
                uploaded.warnings.push(match error.reason() {
                    reason::INVALID_BUNDLE => format!("no instance can start: {}", error.message()),
                    _ => NOT_PLACED.to_owned(),
                });
            }
        }
    }

    async fn placed(&self, deployment: &Deployment) -> Result<Option<String>> {
        let Some(hosts) = &self.0.ground.hosts else { return Ok(None) };
        let asked = tokio::time::timeout(PLACE_WAIT, hosts.deploy(deployment)).await;
        let Some(host) = asked.map_err(|_| late())?? else { return Ok(None) };
        if let Some(Stored { mut value, version }) = self.0.table.get(&deployment.id()).await? {
            value.coordinator_id = Some(host.clone());
            self.0.table.put(&value, Expect::Version(version)).await?;
        }
        Ok(Some(host))
    }
}

fn late() -> Error {
    Error::new(Code::DeadlineExceeded, reason::COORDINATOR_TIMEOUT, "no host fetched the bundle in time")
}
