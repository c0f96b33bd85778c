//! What a host says of itself in the registry.
//!
//! A newcomer's usual mistake is to judge by the times in it. Clocks differ; an announcement that is there was made a
//! moment ago, and one that is not there says nothing.
//!
//! *Knows:* the fields. *Does not know:* who announces, who reads, for how long it holds.

use serde::{Deserialize, Serialize};

/// The kind of announcement that hosts make.
pub const ANNOUNCED: &str = "coordinators";

/// What a host says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Announced {
    /// Its id.
    pub id: String,
    /// The base of its URLs.
    pub url: String,
    /// The version of its program.
    pub version: String,
    /// What its installation is for.
    pub environment: String,
    /// healthy, draining or unhealthy.
    pub status: String,
    /// How many instances run.
    pub active_agents: u32,
    /// How many may.
    pub max_agents: u32,
    /// Processor use, 0 to 1.
    pub cpu: Option<f64>,
    /// Memory use, 0 to 1.
    pub mem: Option<f64>,
    /// What is free on the disk that workspaces and bundles lie on.
    pub disk_free_bytes: Option<u64>,
    /// The deployments that lie unpacked there, separated by commas.
    pub deployments: String,
    /// Whether it mounts Chronicle: 0 or 1.
    pub chronicle: u8,
    /// When it started, in milliseconds since 1970.
    pub started_at: i64,
    /// When it said this.
    pub heartbeat_at: i64,
    /// Changes with every start.
    pub epoch: String,
}
