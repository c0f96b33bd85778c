//! The config's words for limits and origins, in the words of the rooms that enforce them.

use std::{collections::HashMap, num::NonZeroU32};

use crate::{
    config::{Config, Limits, Origins},
    edge::Cors,
    gate::limits::{self, Bucket},
    port::registry::Rate,
};

/// The share of its minute that an address without a key may have at once.
const BURST_SHARE: u32 = 6;

/// What the gate enforces.
pub(super) fn of(config: &Config) -> limits::Config {
    let rate = config.rate;
    let bucket = |per_minute: Option<NonZeroU32>, concurrent: Option<NonZeroU32>| Bucket {
        rate: Rate { per_minute: or_none(per_minute), burst: or_none(per_minute) },
        concurrent_max: or_none(concurrent),
    };
    limits::Config {
        enabled: config.limits == Limits::On,
        calls: Rate { per_minute: or_none(rate.requests_per_minute), burst: or_none(rate.burst) },
        buckets: HashMap::from([
            ("instances", bucket(rate.instances_per_minute, None)),
            ("uploads", bucket(rate.uploads_per_minute, rate.uploads_concurrent)),
        ]),
        concurrent_max: or_none(rate.concurrent_calls),
        sockets_max: or_none(rate.sockets_per_key),
        strangers: Rate {
            per_minute: or_none(rate.anonymous_streams_per_minute),
            burst: or_none(rate.anonymous_streams_per_minute) / BURST_SHARE,
        },
        strangers_streams_max: or_none(rate.anonymous_streams),
        failures_per_minute_max: or_none(rate.failed_auth_per_minute),
    }
}

/// Which pages of other origins may read answers.
pub(super) fn cors(origins: &Origins) -> Cors {
    match origins {
        Origins::None => Cors::default(),
        Origins::Any => Cors::new(["*"]),
        Origins::Listed(origins) => Cors::new(origins.iter().filter_map(|origin| origin.to_str().ok())),
    }
}

/// The gate counts no limit as zero.
fn or_none(limit: Option<NonZeroU32>) -> u32 {
    limit.map_or(0, NonZeroU32::get)
}
