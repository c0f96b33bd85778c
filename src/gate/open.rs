//! A gate that stands open: every call is admitted as anonymous and leaves no record.
//!
//! For services that carry no access rules of ours, such as the conformance server, and for tests of doors.

use std::sync::Arc;

use portico_wire::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{Admission, Admit, Closed, Entry, Head, Outlet};
use crate::{
    base::{Caller, Context, Result, Trace, clock::SystemClock, metadata::Metadata, reply::Reply},
    schema::Method,
};

/// Admits everybody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

impl Admit for Open {
    fn admit(&self, method: Arc<Method>, head: Head) -> BoxFuture<Result<Admission>> {
        let context = Context {
            caller: Caller::anonymous(),
            procedure: method.path,
            deadline: head.deadline,
            id: head.id,
            trace: Trace::entered(None),
            metadata: Metadata::new(head.headers),
            reply: Reply::default(),
            clock: Arc::new(SystemClock),
        };
        let entry = Entry::open(Box::new(Nowhere), CancellationToken::new());
        Box::pin(std::future::ready(Ok(Admission { context, entry })))
    }
}

struct Nowhere;

impl Outlet for Nowhere {
    fn closed(&self, _record: &Closed) {}
}
