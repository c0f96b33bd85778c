//! How the gateway is, as the Podium page prints it.
//!
//! A newcomer's usual mistake is to show the parts to everybody. Load balancers need one word; names of parts and their
//! troubles are for callers with a key.

use portico_base::{Context, Result, caller::Role, health::State, reply::Outcome};
use portico_domain::health::{self, Status};
use portico_wire::podium::v1::{
    Check, GetHealthRequest, GetHealthResponse, GetLivenessRequest, GetLivenessResponse, GetReadinessRequest,
    GetReadinessResponse, HealthService,
};

use super::{Podium, timestamp};

impl HealthService for Podium {
    async fn get_health(&self, cx: Context, _request: GetHealthRequest) -> Result<GetHealthResponse> {
        let board = &self.platform.health;
        let status = board.status();
        say(&cx, status);
        let mut answer = GetHealthResponse { status: word(status).to_owned(), ..GetHealthResponse::default() };
        if cx.caller.role != Role::Anonymous {
            answer.version = env!("CARGO_PKG_VERSION").to_owned();
            answer.uptime_seconds = i64::try_from(board.uptime().as_secs()).ok();
            answer.environment = self.platform.environment.to_string();
            answer.checks = board.checks().iter().map(|check| (check.name.to_owned(), shown(check))).collect();
            answer.active_websockets = Some((self.platform.sockets_open)());
        }
        Ok(answer)
    }

    async fn get_liveness(&self, _cx: Context, _request: GetLivenessRequest) -> Result<GetLivenessResponse> {
        Ok(GetLivenessResponse { status: "alive".to_owned() })
    }

    async fn get_readiness(&self, cx: Context, _request: GetReadinessRequest) -> Result<GetReadinessResponse> {
        let status = self.platform.health.status();
        say(&cx, status);
        let word = match status {
            Status::Healthy | Status::Degraded => "ready",
            Status::Unhealthy | Status::Draining => word(status),
        };
        Ok(GetReadinessResponse { status: word.to_owned() })
    }
}

/// A gateway that cannot serve says so by its status too, where the door has one.
fn say(cx: &Context, status: Status) {
    if matches!(status, Status::Unhealthy | Status::Draining) {
        cx.reply.outcome(Outcome::OutOfService);
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Healthy => "healthy",
        Status::Degraded => "degraded",
        Status::Unhealthy => "unhealthy",
        Status::Draining => "draining",
    }
}

fn shown(check: &health::Check) -> Check {
    let status = match check.health.state {
        State::Ok => "healthy",
        State::Reachable => "degraded",
        State::Down => "unhealthy",
    };
    Check {
        status: status.to_owned(),
        latency_ms: check.latency.as_secs_f64() * 1_000.0,
        checked_at: Some(timestamp(check.at)),
        note: check.health.note.clone().unwrap_or_default(),
        healthy: check.health.members.map(|members| members.healthy.into()),
        total: check.health.members.map(|members| members.total.into()),
    }
}
