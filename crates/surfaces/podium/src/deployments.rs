//! Agent bundles and their versions, as the Podium page prints them.
//!
//! A newcomer's usual mistake is to look for the multipart form. A door has made messages of it already; a client that
//! streams over gRPC sends the same ones.
//!
//! *Knows:* the messages. *Does not know:* what makes a bundle harmless or a version immutable.

use futures_util::StreamExt;
use http::header;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use portico_base::{Context, Incoming, Result, page::PageRequest, reply::Outcome};
use portico_domain::deployments::{self, Filter, Piece, Wanted};
use portico_wire::podium::v1::{
    Deployment, DeploymentsService, GetDeploymentRequest, GetDeploymentResponse, ListDeploymentsRequest,
    ListDeploymentsResponse, UploadDeploymentRequest, UploadDeploymentResponse,
};

use super::{Podium, say, timestamp};

/// Deployments of a page when the caller does not say.
const PAGE_DEPLOYMENTS: usize = 50;
/// Most deployments of a page.
const PAGE_DEPLOYMENTS_MAX: usize = 200;
/// What a path segment need not escape. An id has `:`, `@` and perhaps `+`, which some readers take for a blank.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl DeploymentsService for Podium {
    async fn upload_deployment(
        &self,
        cx: Context,
        request: Incoming<UploadDeploymentRequest>,
    ) -> Result<UploadDeploymentResponse> {
        if let Some(bytes) = form_bytes(&cx) {
            self.platform.deployments.fits(bytes)?;
        }
        let pieces = request.map(|message| message.map(piece)).boxed();
        let uploaded = self.platform.deployments.upload(&cx, pieces).await?;
        let deployment = uploaded.deployment;
        let deployment_id = deployment.deployment_id();
        let escaped = utf8_percent_encode(&deployment_id, SEGMENT);
        say(&cx, header::LOCATION, &format!("/api/v1/deployments/{escaped}"));
        if uploaded.existing {
            cx.reply.outcome(Outcome::Existing);
        }
        let status = if deployment.coordinator_id.is_some() { "deployed" } else { "registered" };
        Ok(UploadDeploymentResponse {
            deployment_id,
            agent_type: deployment.agent_type,
            version: deployment.version,
            checksum: deployment.checksum,
            size_bytes: sized(deployment.size_bytes),
            created_at: Some(timestamp(deployment.created_at)),
            status: status.to_owned(),
            coordinator_id: deployment.coordinator_id,
            warnings: uploaded.warnings,
        })
    }

    async fn list_deployments(&self, cx: Context, request: ListDeploymentsRequest) -> Result<ListDeploymentsResponse> {
        let list = format!("deployments {} {}", request.latest, request.agent_type);
        let page = PageRequest::parse(&list, request.limit, &request.cursor, PAGE_DEPLOYMENTS, PAGE_DEPLOYMENTS_MAX)?;
        let agent_type = Some(request.agent_type.as_str()).filter(|agent_type| !agent_type.is_empty());
        let filter = Filter { agent_type, latest: request.latest };
        let page = self.platform.deployments.list(&cx, filter, &page).await?.map(shown);
        let next_cursor = page.cursor(&list);
        Ok(ListDeploymentsResponse { deployments: page.items, next_cursor })
    }

    async fn get_deployment(&self, cx: Context, request: GetDeploymentRequest) -> Result<GetDeploymentResponse> {
        let deployment = self.platform.deployments.resolve(&cx, Wanted::Id(&request.deployment_id)).await?;
        Ok(GetDeploymentResponse { deployment: Some(shown(deployment)) })
    }
}

/// How long a form says that it is. Streams of messages are written in other ways, some of them longer than their bytes.
fn form_bytes(cx: &Context) -> Option<u64> {
    let is_form = cx.metadata.get("content-type").is_some_and(|kind| kind.starts_with("multipart/"));
    cx.metadata.get("content-length").filter(|_| is_form)?.parse().ok()
}

fn piece(message: UploadDeploymentRequest) -> Piece {
    Piece { agent_type: message.agent_type, version: message.version, file: message.file }
}

fn shown(deployment: deployments::Deployment) -> Deployment {
    Deployment {
        deployment_id: deployment.deployment_id(),
        agent_type: deployment.agent_type,
        version: deployment.version,
        checksum: deployment.checksum,
        size_bytes: sized(deployment.size_bytes),
        tenant_id: deployment.tenant_id,
        created_at: Some(timestamp(deployment.created_at)),
    }
}

/// A size as messages carry it.
fn sized(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
