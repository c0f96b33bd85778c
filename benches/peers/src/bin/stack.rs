//! The stack of three crates that a gateway like this one is usually built of: connectrpc-axum for Connect, tonic for gRPC, tonic-web for gRPC-Web, one handler for all.
//!
//! As its documentation shows it, without what costs and is not needed here: no compression, no extractors.

use axum::serve::ListenerExt;
use connectrpc_axum::{Code, ConnectError, ConnectRequest, ConnectResponse, MakeServiceBuilder};
use portico_peers::{
    Result, Store, listen,
    protos::podium::v1::{
        Deployment, GetDeploymentRequest, GetDeploymentResponse,
        deployments_service_connect::DeploymentsServiceTonicCompatibleBuilder,
    },
    words,
};
use tonic_web::GrpcWebLayer;
use tower::{Layer, make::Shared};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<()> {
    let [port, data] = words("stack PORT DATA")?;
    let store = Store::open(&data)?;
    let (connect, grpc) = DeploymentsServiceTonicCompatibleBuilder::<()>::new()
        .get_deployment(move |ConnectRequest(question): ConnectRequest<GetDeploymentRequest>| {
            let store = store.clone();
            async move { answer(&store, question).await }
        })
        .build();
    let service = MakeServiceBuilder::new()
        .add_router(connect)
        .add_grpc_service(GrpcWebLayer::new().layer(grpc))
        .without_from_request_parts()
        .build();
    // A peer that has gone cannot be told that it will be slow.
    let listener = listen(&port).await?.tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, Shared::new(service)).await?)
}

async fn answer(
    store: &Store,
    question: GetDeploymentRequest,
) -> std::result::Result<ConnectResponse<GetDeploymentResponse>, ConnectError> {
    let id = question.deployment_id;
    let found = store.deployment(&id).await.map_err(|_| ConnectError::new(Code::Unavailable, "no store"))?;
    let deployment = found.ok_or_else(|| ConnectError::new(Code::NotFound, "no such deployment"))?;
    let millis = deployment.created_at.0;
    Ok(ConnectResponse::new(GetDeploymentResponse {
        deployment: Some(Deployment {
            deployment_id: id,
            agent_type: deployment.agent_type,
            version: deployment.version,
            checksum: deployment.checksum,
            size_bytes: i64::try_from(deployment.size_bytes).unwrap_or(i64::MAX),
            tenant_id: deployment.tenant_id,
            created_at: Some(pbjson_types::Timestamp {
                seconds: millis.div_euclid(1_000),
                nanos: i32::try_from(millis.rem_euclid(1_000) * 1_000_000).unwrap_or_default(),
            }),
        }),
    }))
}
