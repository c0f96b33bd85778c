//! What the gateway asks of the world: stores, hosts, whoever serves models.
//!
//! A newcomer's usual mistake is to have a backend count itself. A port is timed from outside, where it is put together, so
//! that every backend is counted the same way and none knows of it.
//!
//! *Knows:* ports by name, uploads, placements. *Does not know:* who answers a port.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// How a question to a port ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It was answered, if only by a refusal.
    Well,
    /// The backend failed or was out of reach.
    Badly,
    /// Whoever asked did not wait for it.
    Never,
}

/// How an upload to the blob store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// It is stored.
    Stored,
    /// The store had it, or another one under its name.
    Existed,
    /// It was given up, or the store failed.
    GivenUp,
}

/// How an attempt to place an instance on a host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It runs there.
    There,
    /// It does not, and another host is tried.
    Retried,
    /// It does not, and no other is tried.
    Failed,
}

/// What is known of the hosts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hosts {
    /// Those that take instances.
    pub open: u32,
    /// Those that are full.
    pub full: u32,
    /// Those that drain.
    pub draining: u32,
    /// Those that cannot be reached, or are left alone after failures.
    pub away: u32,
    /// How full the fullest of those that work is, 0 to 1.
    pub fill_max: f64,
    /// The same of all of them together.
    pub fill_mean: f64,
    /// The same of the emptiest.
    pub fill_min: f64,
}

/// The metrics of it. Cheap to clone.
#[derive(Clone)]
pub(super) struct World {
    ports: Family<PortLabels, Histogram>,
    uploads: Family<OutcomeLabels, Counter>,
    upload_seconds: Histogram,
    upload_bytes: Counter,
    placements: Family<OutcomeLabels, Counter>,
    hosts: Family<StateLabels, Gauge>,
    fill: Family<OfLabels, Gauge<f64, AtomicU64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortLabels {
    port: &'static str,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLabels {
    of: &'static str,
}

impl World {
    pub(super) fn new(registry: &mut Registry) -> World {
        let ports: Family<PortLabels, Histogram> = Family::new_with_constructor(round_trips);
        let world = World {
            ports,
            uploads: Family::default(),
            upload_seconds: uploads(),
            upload_bytes: Counter::default(),
            placements: Family::default(),
            hosts: Family::default(),
            fill: Family::default(),
        };
        let help = "How long a port took to answer, by port, operation and outcome";
        registry.register_with_unit("port_duration", help, Unit::Seconds, world.ports.clone());
        registry.register("uploads", "Objects that arrived for the blob store, by outcome", world.uploads.clone());
        let help = "From the first byte of an object to its place in the blob store";
        registry.register_with_unit("upload_duration", help, Unit::Seconds, world.upload_seconds.clone());
        let help = "Bytes of objects that arrived for the blob store";
        registry.register_with_unit("upload", help, Unit::Bytes, world.upload_bytes.clone());
        let help = "Attempts to place an instance on a host, by outcome";
        registry.register("placement_attempts", help, world.placements.clone());
        registry.register("hosts", "Hosts, by what they are good for now", world.hosts.clone());
        let help = "How full the hosts are that work: the fullest, the emptiest, all together";
        registry.register_with_unit("host_fill", help, Unit::Ratios, world.fill.clone());
        world
    }

    pub(super) fn answered(&self, port: &'static str, operation: &'static str, how: Answered, time: Duration) {
        let outcome = match how {
            Answered::Well => "answered",
            Answered::Badly => "failed",
            Answered::Never => "given_up",
        };
        self.ports.get_or_create(&PortLabels { port, operation, outcome }).observe(time.as_secs_f64());
    }

    pub(super) fn grew(&self, bytes: usize) {
        self.upload_bytes.inc_by(bytes as u64);
    }

    pub(super) fn uploaded(&self, how: Uploaded, time: Duration) {
        let outcome = match how {
            Uploaded::Stored => "stored",
            Uploaded::Existed => "existed",
            Uploaded::GivenUp => "given_up",
        };
        self.uploads.get_or_create(&OutcomeLabels { outcome }).inc();
        if how != Uploaded::GivenUp {
            self.upload_seconds.observe(time.as_secs_f64());
        }
    }

    pub(super) fn placed(&self, how: Placed) {
        let outcome = match how {
            Placed::There => "placed",
            Placed::Retried => "retried",
            Placed::Failed => "failed",
        };
        self.placements.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub(super) fn seen(&self, hosts: &Hosts) {
        for (state, count) in
            [("open", hosts.open), ("full", hosts.full), ("draining", hosts.draining), ("away", hosts.away)]
        {
            self.hosts.get_or_create(&StateLabels { state }).set(count.into());
        }
        for (of, fill) in [("fullest", hosts.fill_max), ("all", hosts.fill_mean), ("emptiest", hosts.fill_min)] {
            self.fill.get_or_create(&OfLabels { of }).set(fill);
        }
    }
}

/// 0.1 ms, a round trip on one machine, to 13 s, beyond every patience with a store.
fn round_trips() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.0, 18))
}

/// 10 ms to 11 minutes, which is the longest that an upload may take.
fn uploads() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 17))
}
