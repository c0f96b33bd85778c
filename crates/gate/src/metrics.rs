//! What is counted, and its text for Prometheus.
//!
//! A newcomer's usual mistake is to label by key, tenant or path: labels must be few. Methods, doors, codes and reasons
//! are; who called is for the log.
//!
//! *Knows:* every metric. *Does not know:* who scrapes them.

mod classic;
mod flows;
mod told;
mod world;

pub(super) use flows::Flows;
pub use flows::{Side, Way};
pub use told::Told;
pub use world::{Answered, Hosts, Placed, Uploaded};

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, atomic::AtomicU64},
    time::Duration,
};

use portico_base::{Code, Reason, health::State};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use self::{told::Reading, world::World};
use super::Door;

/// All metrics of one gateway.
pub struct Metrics {
    registry: RwLock<Registry>,
    flows: Flows,
    world: World,
    calls: Family<CallLabels, Counter>,
    refusals: Family<RefusalLabels, Counter>,
    unaudited: Counter,
    seconds: Family<DoorLabels, Histogram>,
    bytes: Family<ByteLabels, Counter>,
    in_flight: Gauge,
    sockets: Gauge<i64>,
    parts: Family<PartLabels, Gauge<f64, AtomicU64>>,
    probes: Family<PartLabels, Gauge<f64, AtomicU64>>,
    usual: RwLock<HashMap<(&'static str, Door), Arc<Usual>, foldhash::fast::RandomState>>,
}

/// What every call of one method through one door counts, found once: looking a metric up by its labels costs more than
/// counting.
struct Usual {
    ok: Counter,
    seconds: Histogram,
    bytes_in: Counter,
    bytes_out: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    method: &'static str,
    door: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DoorLabels {
    method: &'static str,
    door: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByteLabels {
    door: &'static str,
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabels {
    part: &'static str,
}

/// How the metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    Open,
    /// The text format 0.0.4 of Prometheus.
    Classic,
}

/// What a closed call adds to the metrics.
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) door: Door,
    pub(super) failure: Option<(Code, Reason)>,
    pub(super) refused: bool,
    pub(super) seconds: f64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("portico");
        let seconds: Family<DoorLabels, Histogram> = Family::new_with_constructor(latencies);
        let metrics = Metrics {
            flows: Flows::new(&mut registry),
            world: World::new(&mut registry),
            calls: Family::default(),
            refusals: Family::default(),
            unaudited: Counter::default(),
            seconds,
            bytes: Family::default(),
            in_flight: Gauge::default(),
            sockets: Gauge::default(),
            parts: Family::default(),
            probes: Family::default(),
            usual: RwLock::default(),
            registry: RwLock::default(),
        };
        registry.register("calls", "Calls that ended, by method, door and code", metrics.calls.clone());
        registry.register("refusals", "Calls that the gate refused, by reason", metrics.refusals.clone());
        let unaudited = "Refusals that are in the log alone, because there were too many in their second";
        registry.register("refusals_unaudited", unaudited, metrics.unaudited.clone());
        registry.register_with_unit(
            "call_duration",
            "From admission to the last byte",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register_with_unit("bodies", "Body bytes, by door and direction", Unit::Bytes, metrics.bytes.clone());
        registry.register("calls_in_flight", "Calls that were admitted and have not ended", metrics.in_flight.clone());
        registry.register("sockets_open", "WebSockets that are open", metrics.sockets.clone());
        let up = "Whether a part answers: 1 is well, 0.5 with trouble, 0 not at all";
        registry.register("part_up", up, metrics.parts.clone());
        let probes = "How long a part took to say how it is";
        registry.register_with_unit("part_probe", probes, Unit::Seconds, metrics.probes.clone());
        registry.register("build", "What runs here", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        Metrics { registry: RwLock::new(registry), ..metrics }
    }

    /// Shows a number that somebody else keeps under this name. It is read whenever the metrics are.
    pub fn tell(
        &self,
        name: &'static str,
        help: &'static str,
        what: Told,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let reading = Reading { name, help, what, read: Box::new(read) };
        let mut registry = self.registry.write().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(reading));
    }

    /// The registry's text.
    ///
    /// # Errors
    /// Never in practice: writing to a string cannot fail.
    pub fn render(&self, format: Format) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry.read().unwrap_or_else(PoisonError::into_inner))?;
        Ok(match format {
            Format::Open => text,
            Format::Classic => classic::text(&text),
        })
    }

    /// How many WebSockets are open.
    pub fn sockets_open(&self) -> i64 {
        self.sockets.get()
    }

    /// Notes how a part is, and how long it took to say so.
    pub fn probed(&self, part: &'static str, state: State, latency: Duration) {
        let up = match state {
            State::Ok => 1.0,
            State::Reachable => 0.5,
            State::Down => 0.0,
        };
        self.parts.get_or_create(&PartLabels { part }).set(up);
        self.probes.get_or_create(&PartLabels { part }).set(latency.as_secs_f64());
    }

    /// Notes how a question to a port ended, and how long that took.
    pub fn answered(&self, port: &'static str, operation: &'static str, how: Answered, time: Duration) {
        self.world.answered(port, operation, how, time);
    }

    /// Notes bytes of an upload that have arrived.
    pub fn upload_grew(&self, bytes: usize) {
        self.world.grew(bytes);
    }

    /// Notes how an upload ended, and how long it took.
    pub fn uploaded(&self, how: Uploaded, time: Duration) {
        self.world.uploaded(how, time);
    }

    /// Notes how an attempt to place an instance ended.
    pub fn placed(&self, how: Placed) {
        self.world.placed(how);
    }

    /// Notes how the hosts are.
    pub fn hosts_seen(&self, hosts: &Hosts) {
        self.world.seen(hosts);
    }

    pub(super) fn flows(&self) -> &Flows {
        &self.flows
    }

    /// Counts a refusal that the audit has no room for.
    pub(super) fn unaudited(&self) {
        self.unaudited.inc();
    }

    pub(super) fn opened(&self, door: Door) {
        self.in_flight.inc();
        if door == Door::Socket {
            self.sockets.inc();
        }
    }

    pub(super) fn closed(&self, call: &Call) {
        if call.refused {
            return self.refused(call);
        }
        self.in_flight.dec();
        if call.door == Door::Socket {
            self.sockets.dec();
        }
        let usual = self.usual(call.method, call.door);
        match call.failure {
            None => usual.ok.inc(),
            Some((code, _)) => self.ended(call, code.as_str()).inc(),
        };
        usual.seconds.observe(call.seconds);
        usual.bytes_in.inc_by(call.bytes_in);
        usual.bytes_out.inc_by(call.bytes_out);
    }

    /// Counts a request that was refused before it was a call.
    pub(super) fn strayed(&self, reason: Reason) {
        self.refusals.get_or_create(&RefusalLabels { reason: reason.as_str() }).inc();
    }

    fn refused(&self, call: &Call) {
        if let Some((code, reason)) = call.failure {
            self.refusals.get_or_create(&RefusalLabels { reason: reason.as_str() }).inc();
            self.ended(call, code.as_str()).inc();
        }
    }

    fn ended(&self, call: &Call, code: &'static str) -> Counter {
        let labels = CallLabels { method: call.method, door: call.door.as_str(), code };
        self.calls.get_or_create(&labels).clone()
    }

    /// Methods and doors are few, so this never grows beyond their product.
    fn usual(&self, method: &'static str, door: Door) -> Arc<Usual> {
        let known = self.usual.read().unwrap_or_else(PoisonError::into_inner).get(&(method, door)).cloned();
        known.unwrap_or_else(|| {
            let name = door.as_str();
            let bytes = |direction| self.bytes.get_or_create(&ByteLabels { door: name, direction }).clone();
            let usual = Arc::new(Usual {
                ok: self.calls.get_or_create(&CallLabels { method, door: name, code: "ok" }).clone(),
                seconds: self.seconds.get_or_create(&DoorLabels { method, door: name }).clone(),
                bytes_in: bytes("in"),
                bytes_out: bytes("out"),
            });
            // Whoever comes second has the same counters.
            self.usual.write().unwrap_or_else(PoisonError::into_inner).insert((method, door), Arc::clone(&usual));
            usual
        })
    }
}

/// 0.5 ms to 16 s: below that the clock's noise, above that a deadline, decide.
fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(0.000_5, 2.0, 16))
}
