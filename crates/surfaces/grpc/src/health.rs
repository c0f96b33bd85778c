//! `grpc.health.v1`: whether a service takes calls.

use std::time::Duration;

use futures_util::stream;
use portico_base::{Context, Error, Outgoing, Result, reason};
use portico_domain::health::{Board, Status};
use portico_schema::Schema;
use portico_wire::grpc::health::v1::{
    Health as HealthService, HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
};

/// How often a watcher looks for a change; draining is seen at once.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Answers for every service of the schema from the health of the gateway.
#[derive(Clone)]
pub struct Health {
    schema: Schema,
    board: Board,
}

impl Health {
    /// Answers from this board.
    pub fn new(schema: Schema, board: Board) -> Health {
        Health { schema, board }
    }

    /// `None` when no service has this name.
    fn status(&self, service: &str) -> Option<ServingStatus> {
        let known = service.is_empty() || self.schema.methods().iter().any(|method| method.service == service);
        known.then(|| match self.board.status() {
            Status::Healthy | Status::Degraded => ServingStatus::Serving,
            Status::Unhealthy | Status::Draining => ServingStatus::NotServing,
        })
    }
}

impl HealthService for Health {
    async fn check(&self, _cx: Context, request: HealthCheckRequest) -> Result<HealthCheckResponse> {
        match self.status(&request.service) {
            Some(status) => Ok(HealthCheckResponse { status: status.into() }),
            None => Err(Error::not_found(reason::NO_SUCH_ROUTE, "service", &request.service)),
        }
    }

    async fn watch(&self, _cx: Context, request: HealthCheckRequest) -> Result<Outgoing<HealthCheckResponse>> {
        let watched = (self.clone(), request.service, None);
        Ok(Box::pin(stream::unfold(watched, |(health, service, last)| async move {
            loop {
                let status = health.status(&service).unwrap_or(ServingStatus::ServiceUnknown);
                if last != Some(status) {
                    let message = HealthCheckResponse { status: status.into() };
                    return Some((Ok(message), (health, service, Some(status))));
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK_INTERVAL) => {}
                    () = health.board.begins_to_drain() => {}
                }
            }
        })))
    }
}
