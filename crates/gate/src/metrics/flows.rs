//! What passes through sockets while they are open.
//!
//! A newcomer's usual mistake is to count when a call ends. A socket is open for days, and who looks at a rate wants today's.
//!
//! *Knows:* frames, their bytes, how long sides were waited for. *Does not know:* whose sockets they are.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::{Registry, Unit},
};

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the caller.
    In,
    /// To the caller.
    Out,
}

/// Who did not take a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Whoever is at the other end of the socket.
    Caller,
    /// What stands behind the socket: an agent, or the way to it.
    Handler,
}

/// The counters of all sockets. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Flows {
    taken: Counted,
    given: Counted,
    by_caller: Stalls,
    by_handler: Stalls,
}

#[derive(Clone, Default)]
struct Counted {
    frames: Counter,
    bytes: Counter,
}

#[derive(Clone, Default)]
struct Stalls {
    count: Counter,
    seconds: Counter<f64, AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WayLabels {
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SideLabels {
    side: &'static str,
}

impl Flows {
    pub(super) fn new(registry: &mut Registry) -> Flows {
        let (frames, bytes) = (Family::<WayLabels, Counter>::default(), Family::<WayLabels, Counter>::default());
        registry.register("frames", "Frames of sockets, by direction", frames.clone());
        let help = "Bytes in frames of sockets, by direction";
        registry.register_with_unit("frame", help, Unit::Bytes, bytes.clone());
        let counted = |direction| {
            let labels = WayLabels { direction };
            Counted { frames: frames.get_or_create_owned(&labels), bytes: bytes.get_or_create_owned(&labels) }
        };
        let stalls = Family::<SideLabels, Counter>::default();
        let seconds = Family::<SideLabels, Counter<f64, AtomicU64>>::default();
        registry.register("stalls", "How often a side of a socket had to be waited for", stalls.clone());
        let help = "How long a side of a socket was waited for, in all";
        registry.register_with_unit("stall", help, Unit::Seconds, seconds.clone());
        let stalled = |side| {
            let labels = SideLabels { side };
            Stalls { count: stalls.get_or_create_owned(&labels), seconds: seconds.get_or_create_owned(&labels) }
        };
        Flows {
            taken: counted("in"),
            given: counted("out"),
            by_caller: stalled("caller"),
            by_handler: stalled("handler"),
        }
    }

    /// A frame has passed.
    pub(crate) fn passed(&self, way: Way, bytes: usize) {
        let counted = match way {
            Way::In => &self.taken,
            Way::Out => &self.given,
        };
        counted.frames.inc();
        counted.bytes.inc_by(bytes as u64);
    }

    /// A side takes frames again, or was given up.
    pub(crate) fn stalled(&self, side: Side, time: Duration) {
        let stalls = match side {
            Side::Caller => &self.by_caller,
            Side::Handler => &self.by_handler,
        };
        stalls.count.inc();
        stalls.seconds.inc_by(time.as_secs_f64());
    }
}
