//! Numbers that somebody else keeps, read when they are asked for.
//!
//! *Knows:* a name, a way to read a number. *Does not know:* whose number it is.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It only grows.
    Count,
    /// It is what it is now.
    Level,
}

pub(super) struct Reading {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) what: Told,
    pub(super) read: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let number = (self.read)();
        match self.what {
            Told::Count => {
                let metric = ConstCounter::new(number);
                metric.encode(encoder.encode_descriptor(self.name, self.help, None, metric.metric_type())?)
            }
            Told::Level => {
                let metric = ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX));
                metric.encode(encoder.encode_descriptor(self.name, self.help, None, metric.metric_type())?)
            }
        }
    }
}
