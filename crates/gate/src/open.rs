//! A gate that lets everybody in as an administrator, for tests and for the conformance suite.
//!
//! A newcomer's usual mistake is to serve with it. It checks nothing and records nothing; the gateway never builds one.
//!
//! *Knows:* how an admission is put together. *Does not know:* keys, limits.

use std::sync::Arc;

use portico_base::{
    Caller, Context, Facts, Trace,
    caller::{IdentityId, Proof, Role, TenantId},
    clock::SystemClock,
    metadata::Metadata,
    reply::Reply,
};
use portico_schema::Method;
use portico_wire::BoxFuture;

use super::{Admission, Admit, Admitted, Closed, Entry, Head, Outlet, credential};

/// Admits everybody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

impl Admit for Open {
    fn admit(&self, method: Arc<Method>, mut head: Head) -> BoxFuture<Admitted> {
        Box::pin(async move {
            let (id, deadline) = (head.id.clone(), head.deadline);
            credential::strip(&mut head.headers);
            let context = Context::new(Facts {
                caller: Arc::new(everybody()),
                procedure: method.path,
                deadline,
                id,
                trace: Trace::entered(None),
                metadata: Metadata::new(head.headers),
                reply: Reply::default(),
                clock: Arc::new(SystemClock),
            });
            Ok(Admission { context, entry: Entry::open(Nowhere, Arc::default()) })
        })
    }
}

fn everybody() -> Caller {
    Caller {
        identity: IdentityId::new("everybody"),
        tenant: TenantId::shared(),
        role: Role::Admin,
        permissions: Arc::from([]),
        proof: Proof::None,
    }
}

struct Nowhere;

impl Outlet for Nowhere {
    fn closed(&self, _record: &Closed) {}
}
