//! Everything the platform means, in one cheap bundle that every surface holds.
//!
//! A newcomer's usual mistake is to hand a surface the parts that it uses today. It gets the whole, so that a new method
//! never changes a constructor.

use std::sync::Arc;

use super::{
    deployments::Deployments, health::Board, instances::Instances, keys::Keys, models::Models, secrets::Secrets,
    settings::Settings,
};

/// The platform. Cheap to clone.
#[derive(Clone)]
pub struct Platform {
    /// API keys.
    pub keys: Keys,
    /// Secrets of agent types.
    pub secrets: Secrets,
    /// What administrators change while it runs.
    pub settings: Settings,
    /// Models that agents can use.
    pub models: Models,
    /// Agent bundles and their versions.
    pub deployments: Deployments,
    /// Running agents.
    pub instances: Instances,
    /// How the gateway is.
    pub health: Board,
    /// dev, staging or production.
    pub environment: &'static str,
    /// What clients reach Chronicle by. Without it, they are shown no address of one.
    pub chronicle_base: Option<String>,
    /// How many WebSockets are open now.
    pub sockets_open: Arc<dyn Fn() -> i64 + Send + Sync>,
}
