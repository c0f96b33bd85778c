//! Where the records of calls go: metrics, one log line, a span when the trace is sampled, the audit when it is a refusal.
//! (Changes are audited by the domain, which knows their subject.)
//!
//! A newcomer's usual mistake is to log bodies or headers "for now". A line holds what names a call and how it ended;
//! nothing a caller sent is in it.
//!
//! *Knows:* methods, callers, outcomes. *Does not know:* messages.

use std::{sync::Arc, time::Duration};

use portico_base::{Caller, Clock, Code, Error, RequestId, Trace, id, reply::Reply};
use portico_domain::audit::{Audit, Note};
use portico_port::spans::{Span, Spans};
use portico_schema::Method;
use tokio_util::sync::CancellationToken;

use super::{
    Closed, Door, Entry, Outlet, Peer, Refusal, Stray,
    budget::Budget,
    limits::Permit,
    metrics::{Call, Metrics, Side, Way},
};

/// Opens records. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Books>);

struct Books {
    metrics: Arc<Metrics>,
    spans: Arc<dyn Spans>,
    audit: Option<Trail>,
    clock: Arc<dyn Clock>,
}

/// The audit of refusals. A stranger can cause as many as the machine can answer, so the trail has so many a second and no
/// more; those of known callers do not wait behind those of strangers. What the trail does not have the log has.
struct Trail {
    audit: Audit,
    strangers: Budget,
    known: Budget,
}

impl Trail {
    fn new(audit: Audit) -> Trail {
        Trail { audit, strangers: Budget::default(), known: Budget::default() }
    }

    fn takes(&self, caller: &Caller) -> bool {
        let budget = if caller.key_id().is_some() { &self.known } else { &self.strangers };
        budget.allows()
    }
}

/// What names a call.
pub(super) struct Line {
    pub(super) method: Arc<Method>,
    pub(super) door: Door,
    pub(super) id: RequestId,
    pub(super) trace: Trace,
    pub(super) caller: Arc<Caller>,
    pub(super) peer: Peer,
    /// Says at the end which host was asked.
    pub(super) reply: Reply,
}

impl Ledger {
    /// A ledger that writes to these.
    pub fn new(metrics: Arc<Metrics>, spans: Arc<dyn Spans>, audit: Audit, clock: Arc<dyn Clock>) -> Ledger {
        Ledger(Arc::new(Books { metrics, spans, audit: Some(Trail::new(audit)), clock }))
    }

    /// A ledger where refusals are logged and counted alone: for a process without records.
    pub fn without_audit(metrics: Arc<Metrics>, spans: Arc<dyn Spans>, clock: Arc<dyn Clock>) -> Ledger {
        Ledger(Arc::new(Books { metrics, spans, audit: None, clock }))
    }

    /// Where a call stands in its trace. A call that belongs to none begins one if somebody records it.
    pub(super) fn entered(&self, traceparent: Option<&str>) -> Trace {
        let mut trace = Trace::entered(traceparent);
        trace.sampled |= trace.parent_id.is_none() && self.0.spans.begins_traces();
        trace
    }

    /// Opens the record of an admitted call.
    pub(super) fn admitted(&self, line: Line, permit: Permit, ended: Arc<CancellationToken>) -> Entry {
        self.0.metrics.opened(line.door);
        let written = Written { ledger: self.clone(), line, refused: false, _permit: permit };
        Entry::open(written, ended)
    }

    /// Opens the record of a refused call.
    pub(super) fn refused(&self, line: Line, error: Error) -> Refusal {
        if let Some(trail) = &self.0.audit {
            if trail.takes(&line.caller) {
                trail.audit.record(self.note(&line, &error));
            } else {
                self.0.metrics.unaudited();
            }
        }
        let written = Written { ledger: self.clone(), line, refused: true, _permit: Permit::none() };
        let entry = Entry::open(written, Arc::default());
        entry.fail(&error);
        Refusal { error, entry: Some(entry) }
    }

    /// Opens the record of a request that is no call: a line and a count.
    pub(super) fn astray(&self, stray: &Stray<'_>) -> Entry {
        let Stray { door, method, id, peer, error } = *stray;
        let strayed =
            Strayed { metrics: Arc::clone(&self.0.metrics), door, method, id: id.clone(), peer: peer.clone() };
        let entry = Entry::open(strayed, Arc::default());
        entry.fail(error);
        entry
    }

    fn note(&self, line: &Line, error: &Error) -> Note {
        Note {
            id: id::random("audit_", 20),
            at: self.0.clock.now(),
            request_id: line.id.to_string(),
            actor: line.caller.identity.to_string(),
            key_id: line.caller.key_id().map(str::to_owned),
            tenant: line.caller.tenant.to_string(),
            action: line.method.path.to_owned(),
            subject: line.peer.host().to_owned(),
            outcome: error.reason().to_string(),
        }
    }
}

struct Written {
    ledger: Ledger,
    line: Line,
    refused: bool,
    _permit: Permit,
}

impl Outlet for Written {
    fn passed(&self, way: Way, bytes: usize) {
        self.ledger.0.metrics.flows().passed(way, bytes);
    }

    fn stalled(&self, side: Side, time: Duration) {
        self.ledger.0.metrics.flows().stalled(side, time);
    }

    fn closed(&self, record: &Closed) {
        let Line { method, door, id: request, trace, caller, peer, reply } = &self.line;
        let elapsed = record.began.elapsed();
        self.ledger.0.metrics.closed(&Call {
            method: method.path,
            door: *door,
            failure: record.failure.as_ref().map(|(code, reason, _)| (*code, *reason)),
            refused: self.refused,
            seconds: elapsed.as_secs_f64(),
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
        });
        let reason = record.failure.as_ref().map_or("", |(_, reason, _)| reason.as_str());
        let host = reply.host();
        write(
            record,
            elapsed,
            &Names {
                method: method.path,
                door: *door,
                request: request.as_str(),
                trace: trace.id().as_str(),
                key: caller.key_id().unwrap_or(""),
                tenant: caller.tenant.as_str(),
                peer: peer.host(),
                host: host.as_deref(),
            },
        );
        if trace.sampled {
            self.ledger.0.spans.ended(Span {
                trace: *trace,
                name: method.path,
                began: self.ledger.0.clock.now().minus(elapsed),
                duration: elapsed,
                failure: record.failure.as_ref().map(|(code, ..)| *code),
                attributes: vec![
                    ("rpc.system", "portico".to_owned()),
                    ("portico.door", door.as_str().to_owned()),
                    ("portico.reason", reason.to_owned()),
                    ("portico.work", record.work.unwrap_or("").to_owned()),
                    ("portico.request_id", request.to_string()),
                    ("portico.key_id", caller.key_id().unwrap_or_default().to_owned()),
                    ("portico.tenant", caller.tenant.to_string()),
                ],
            });
        }
    }
}

/// A request that is no call.
struct Strayed {
    metrics: Arc<Metrics>,
    door: Door,
    method: &'static str,
    id: RequestId,
    peer: Peer,
}

impl Outlet for Strayed {
    fn closed(&self, record: &Closed) {
        if let Some((_, reason, _)) = &record.failure {
            self.metrics.strayed(*reason);
        }
        let (request, peer) = (self.id.as_str(), self.peer.host());
        let names =
            Names { method: self.method, door: self.door, request, trace: "", key: "", tenant: "", peer, host: None };
        write(record, record.began.elapsed(), &names);
    }
}

/// What a line says of whose request it is.
struct Names<'n> {
    method: &'n str,
    door: Door,
    request: &'n str,
    trace: &'n str,
    key: &'n str,
    tenant: &'n str,
    peer: &'n str,
    host: Option<&'n str>,
}

/// The line of the log.
fn write(record: &Closed, elapsed: Duration, names: &Names<'_>) {
    let (code, reason, report) = match &record.failure {
        Some((code, reason, report)) => (code.as_str(), reason.as_str(), report.as_str()),
        None => ("ok", "", ""),
    };
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    macro_rules! line {
        ($level:expr) => {
            tracing::event!(
                target: "portico.call",
                $level,
                call.method = names.method,
                call.door = names.door.as_str(),
                call.code = code,
                call.reason = reason,
                call.report = report,
                call.work = record.work.unwrap_or(""),
                call.micros = micros,
                call.bytes_in = record.bytes_in,
                call.bytes_out = record.bytes_out,
                request.id = names.request,
                trace.id = names.trace,
                caller.key = names.key,
                caller.tenant = names.tenant,
                peer.address = names.peer,
                host.id = names.host,
                "call"
            )
        };
    }
    match record.failure.as_ref().map(|(code, ..)| *code) {
        Some(Code::Internal | Code::Unknown | Code::DataLoss) => line!(tracing::Level::ERROR),
        Some(Code::Unavailable) => line!(tracing::Level::WARN),
        _ => line!(tracing::Level::INFO),
    }
}
