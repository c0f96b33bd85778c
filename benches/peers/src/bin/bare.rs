//! The least that answers the same question: an axum handler that reads the store and writes JSON.
//!
//! No access check, no limits, no log, no metrics, no request id.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
    serve::ListenerExt,
};
use portico_peers::{Result, Store, listen, words};
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the REST door answers.
#[derive(Serialize)]
struct Answer {
    deployment_id: String,
    agent_type: String,
    version: String,
    checksum: String,
    size_bytes: u64,
    tenant_id: String,
    created_at: String,
}

/// What the Connect door is asked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    deployment_id: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let [port, data] = words("bare PORT DATA")?;
    let router = Router::new()
        .route("/api/v1/deployments/{id}", get(by_path))
        .route("/deployment", post(by_body))
        .with_state(Store::open(&data)?);
    // A peer that has gone cannot be told that it will be slow.
    let listener = listen(&port).await?.tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, router).await?)
}

async fn by_path(State(store): State<Store>, Path(id): Path<String>) -> std::result::Result<Json<Answer>, StatusCode> {
    read(&store, id).await
}

async fn by_body(
    State(store): State<Store>,
    Json(question): Json<Question>,
) -> std::result::Result<Json<Answer>, StatusCode> {
    read(&store, question.deployment_id).await
}

async fn read(store: &Store, id: String) -> std::result::Result<Json<Answer>, StatusCode> {
    let found = store.deployment(&id).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let deployment = found.ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(Answer {
        deployment_id: id,
        agent_type: deployment.agent_type,
        version: deployment.version,
        checksum: deployment.checksum,
        size_bytes: deployment.size_bytes,
        tenant_id: deployment.tenant_id,
        created_at: deployment.created_at.to_string(),
    }))
}
