//! The host itself, as gateways see it.

use portico_base::{Context, Result, reply::Outcome};
use portico_domain::host::Standing;
use portico_wire::coordinator::v1::{
    Chronicle, DeployAgentRequest, DeployAgentResponse, GetHealthRequest, GetHealthResponse, GetStatusRequest,
    GetStatusResponse, HostService, RunningAgent,
};

use super::{Coordinator, bundle};

/// Digits of a checksum in a deployment id.
const PREFIX_DIGITS: usize = 8;

impl HostService for Coordinator {
    async fn get_health(&self, cx: Context, _request: GetHealthRequest) -> Result<GetHealthResponse> {
        let standing = self.host.standing().await;
        if standing == Standing::Unhealthy {
            cx.reply.outcome(Outcome::OutOfService);
        }
        Ok(GetHealthResponse {
            status: standing.as_str().to_owned(),
            coordinator_id: self.host.place().id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    async fn get_status(&self, _cx: Context, _request: GetStatusRequest) -> Result<GetStatusResponse> {
        let load = self.host.load().await?;
        let running = self.host.fleet().running(&load.id).await?;
        let agents = running.into_iter().map(|running| RunningAgent {
            agent_id: running.instance,
            status: running.state.to_string(),
            deployment_id: running.deployment_id,
            installation_id: running.installation,
            incarnation: running.incarnation.into(),
        });
        Ok(GetStatusResponse {
            coordinator_id: self.host.place().id.clone(),
            active_agents: load.active,
            max_agents: load.active_max,
            agents: agents.collect(),
            cpu_percent: load.cpu.map(|share| share * 100.0),
            memory_percent: load.memory.map(|share| share * 100.0),
            chronicle: Some(Chronicle { enabled: false, mounts: 0, healthy: true }),
            status: self.host.standing().await.as_str().to_owned(),
            epoch: load.epoch,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            environment: self.host.place().environment.clone(),
            deployments: load.cached.ids().to_vec(),
            disk_free_bytes: load.disk_free_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        })
    }

    async fn deploy_agent(&self, _cx: Context, request: DeployAgentRequest) -> Result<DeployAgentResponse> {
        let DeployAgentRequest { source, checksum, agent_type, version } = request;
        let prefix: String = checksum.trim_start_matches("sha256:").chars().take(PREFIX_DIGITS).collect();
        let bundle = bundle(&self.host, &source, &checksum, &format!("{agent_type}:{version}@{prefix}"))?;
        let local = self.host.load().await?.id;
        self.host.fleet().deploy(&local, &bundle).await?;
        Ok(DeployAgentResponse {
            path: format!("deployments/{agent_type}/{version}-{prefix}"),
            agent_type,
            version,
            status: "deployed".to_owned(),
        })
    }
}
