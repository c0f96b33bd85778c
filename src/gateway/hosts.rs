//! Where new deployments are put at once: the least loaded host of the fleet.

use std::sync::Arc;

use crate::{
    domain::{
        deployments::{Deployment, Hosts},
        placement::Placement,
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
            let Ok(host) = Placement::default().choose(&hosts, &bundle.deployment_id, &[]) else {
                return Ok(None);
            };
            let host = host.id.clone();
            drop(hosts);
            self.0.deploy(&host, &bundle).await?;
            Ok(Some(host))
        })
    }
}
