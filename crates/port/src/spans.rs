//! Where the spans of a distributed trace go.
//!
//! A newcomer's usual mistake is to await this. A collector that is slow or away must not slow a call: a span is handed
//! over at once, and lost when there is no room.
//!
//! *Knows:* one ended span. *Does not know:* protocols of collectors.

use std::time::Duration;

use portico_base::{Code, Timestamp, Trace};

/// One call as a span.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its place in the trace.
    pub trace: Trace,
    /// The method, for example `/podium.v1.KeysService/CreateKey`.
    pub name: &'static str,
    /// When it began.
    pub began: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// How it failed, if it did.
    pub failure: Option<Code>,
    /// Facts with few values, and ids of ours. Nothing that a caller sent.
    pub attributes: Vec<(&'static str, String)>,
}

/// Takes spans.
pub trait Spans: Send + Sync + 'static {
    /// Takes an ended span. Never waits.
    fn ended(&self, span: Span);

    /// Whether calls that belong to no trace yet shall begin one that is recorded.
    fn begins_traces(&self) -> bool;

    /// How many spans nobody got since the start.
    fn lost(&self) -> u64;
}

/// Takes spans nowhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSpans;

impl Spans for NoSpans {
    fn ended(&self, _span: Span) {}

    fn begins_traces(&self) -> bool {
        false
    }

    fn lost(&self) -> u64 {
        0
    }
}
