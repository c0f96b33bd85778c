//! Where new deployments are put at once: the least loaded host of the fleet.

use std::sync::Arc;

use crate::{
    base::id,
    domain::{
        deployments::{Deployment, Hosts},
        placement,
    },
    port::{
        Answer,
        fleet::{self, Bundle},
    },
};

/// A fleet, as deployments see it.
pub(super) struct Fleet(pub(super) Arc<dyn fleet::Fleet>);

impl Hosts for Fleet {
    fn deploy<'a>(&'a self, deployment: &'a Deployment) -> Answer<'a, Option<String>> {
        Box::pin(async move {
            let hosts = self.0.hosts().await?;
            let bundle = Bundle {
                deployment_id: deployment.deployment_id(),
                agent_type: deployment.agent_type.clone(),
                version: deployment.version.clone(),
                checksum: deployment.checksum.clone(),
                blob_key: deployment.blob_key.clone(),
            };
            let Ok(host) = placement::choose(&hosts, &bundle.deployment_id, &[], |_| 0, draw()) else {
                return Ok(None);
            };
            self.0.deploy(&host.id, &bundle).await?;
            Ok(Some(host.id.clone()))
        })
    }
}

/// Where numbers are old, not every gateway shall choose the same host.
fn draw() -> u64 {
    let mut bytes = [0; 8];
    id::draw(&mut bytes);
    u64::from_le_bytes(bytes)
}
