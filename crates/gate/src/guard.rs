//! The guarded gate: credential, access, registry, limits, record, in this order.
//!
//! A newcomer's usual mistake is to change the order. Access is decided before a limit is drawn from, so that a call
//! without the right cannot use up a key's budget.
//!
//! *Knows:* the rules of a method. *Does not know:* the message, or who answers it.

use std::{sync::Arc, time::Duration};

use portico_base::{
    Caller, Clock, Code, Context, Current, Error, Facts, Result, Retry, metadata::Metadata, reason, reply::Reply,
};
use portico_domain::keys::{Keys, Resolved};
use portico_port::registry::Registry;
use portico_schema::{Access, Method};
use portico_wire::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{
    Admission, Admit, Admitted, Bindings, Entry, Head, Ledger, Peer, Stray,
    credential::{self, Told},
    failures::Failures,
    ledger::Line,
    limits::{self, Limits},
    strangers::Strangers,
};

/// Lets in whom the schema allows. Cheap to clone.
#[derive(Clone)]
pub struct Guard(Arc<Parts>);

struct Parts {
    keys: Keys,
    certificates: Bindings,
    config: Current<limits::Config>,
    limits: Limits,
    registry: Arc<dyn Registry>,
    failures: Failures,
    strangers: Strangers,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
}

/// Who calls, as far as it is known, and what comes with that.
struct Known {
    caller: Arc<Caller>,
    per_minute: Option<u32>,
    ended: Arc<CancellationToken>,
}

impl Guard {
    /// A gate over these keys, the certificates that stand for some of them, limits and ledger.
    pub fn new(
        keys: Keys,
        certificates: Bindings,
        config: limits::Config,
        registry: Arc<dyn Registry>,
        ledger: Ledger,
        clock: Arc<dyn Clock>,
    ) -> Guard {
        let config = Current::new(config);
        let failures = Failures::new(config.clone());
        let (limits, strangers) = (Limits::new(config.clone(), Arc::clone(&registry)), Strangers::new(config.clone()));
        Guard(Arc::new(Parts { keys, certificates, config, limits, registry, failures, strangers, ledger, clock }))
    }

    /// What it lets callers ask for, to be replaced while it guards.
    pub fn limits(&self) -> Current<limits::Config> {
        self.0.config.clone()
    }
}

impl Admit for Guard {
    fn admit(&self, method: Arc<Method>, head: Head) -> BoxFuture<Admitted> {
        Box::pin(Arc::clone(&self.0).admit(method, head))
    }

    fn astray(&self, stray: &Stray<'_>) -> Option<Entry> {
        Some(self.0.ledger.astray(stray))
    }
}

impl Parts {
    async fn admit(self: Arc<Self>, method: Arc<Method>, head: Head) -> Admitted {
        let Head { mut headers, authority: _, peer, door, id, deadline, bearer } = head;
        let Told { traceparent, bearer } = Told::by(&headers, bearer.as_deref());
        let trace = self.ledger.entered(traceparent);
        let reply = Reply::default();
        let caller = Caller::anonymous();
        let mut line = Line { method, door, id: id.clone(), trace, caller, peer, reply: reply.clone() };

        let decided = self.decide(&mut line, bearer, &reply).await;
        let (permit, ended) = match decided {
            Ok(decided) => decided,
            Err(error) => return Err(self.ledger.refused(line, error)),
        };
        credential::strip(&mut headers);
        let context = Context::new(Facts {
            caller: Arc::clone(&line.caller),
            procedure: line.method.path,
            deadline,
            id,
            trace,
            metadata: Metadata::new(headers),
            reply,
            clock: Arc::clone(&self.clock),
        });
        Ok(Admission { context, entry: self.ledger.admitted(line, permit, ended) })
    }

    async fn decide(
        &self,
        line: &mut Line,
        bearer: Result<Option<&str>>,
        reply: &Reply,
    ) -> Result<(limits::Permit, Arc<CancellationToken>)> {
        let known = self.identify(&line.method, &line.peer, bearer).await?;
        line.caller = known.caller;
        allowed(line.method.access, &line.caller)?;
        if line.method.needs_registry() {
            self.registry.reach()?;
        }
        let permit = match line.caller.key_id() {
            Some(_) => self.limits.take(&line.caller, known.per_minute, line.method.bucket, line.door, reply).await?,
            None => self.strangers.take(line.method.shape, line.peer.address().ip())?,
        };
        Ok((permit, known.ended))
    }

    /// Who calls. A public method takes anybody: a credential that does not hold makes its caller anonymous there, unless too
    /// many came from the same address, since it costs the store the same question wherever it is presented.
    ///
    /// A credential that holds is always taken, however many wrong ones came from the same address: many callers share
    /// addresses, and a guesser must not lock them out.
    async fn identify(&self, method: &Method, peer: &Peer, bearer: Result<Option<&str>>) -> Result<Known> {
        let bound = peer.certificate().and_then(|der| self.certificates.key_id(der));
        let found = match (bearer, bound) {
            (Ok(Some(presented)), None) => self.resolve(peer, presented).await,
            (Ok(Some(presented)), Some(bound)) => self.resolve(peer, presented).await.and_then(|resolved| {
                // The key that the certificate stands for is no second credential; every other one is.
                if resolved.caller.key_id() == Some(bound) { Ok(resolved) } else { Err(credential::conflicting()) }
            }),
            (Ok(None), Some(bound)) => self.keys.resolve_bound(bound).await,
            (Ok(None), None) if method.access == Access::Public => return Ok(Known::nobody()),
            (Ok(None), None) => return Err(credential::unauthorized()),
            (Err(error), _) => Err(error),
        };
        let error = match found {
            Ok(Resolved { caller, rate_limit_rpm, ended }) => {
                return Ok(Known { caller, per_minute: rate_limit_rpm, ended });
            }
            Err(error) => error,
        };
        if error.code() == Code::Unauthenticated
            && let Some(wait) = self.failed(peer)
        {
            return Err(too_many_failures(wait));
        }
        if method.access == Access::Public { Ok(Known::nobody()) } else { Err(error) }
    }

    async fn resolve(&self, peer: &Peer, presented: &str) -> Result<Resolved> {
        let mut attempt = Attempt { gate: self, peer, is_open: true };
        let found = self.keys.resolve(presented).await;
        attempt.is_open = false;
        found
    }

    /// Counts a credential that failed. Answers how long its address is to wait when there were too many.
    fn failed(&self, peer: &Peer) -> Option<Duration> {
        peer.note_failure();
        self.failures.note(peer.address().ip())
    }
}

/// A credential whose worth is not known yet. One whose caller goes before it is counts as failed: else whoever resets its
/// calls could have the store asked about any number of keys.
struct Attempt<'a> {
    gate: &'a Parts,
    peer: &'a Peer,
    is_open: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_open {
            // Nobody is there to be told to wait.
            let _nobody = self.gate.failed(self.peer);
        }
    }
}

impl Known {
    fn nobody() -> Known {
        Known { caller: Caller::anonymous(), per_minute: None, ended: Arc::default() }
    }
}

fn allowed(access: Access, caller: &Caller) -> Result<()> {
    match access {
        Access::Public | Access::Authenticated => Ok(()),
        Access::Permission(permission) if caller.may(permission) => Ok(()),
        Access::Permission(permission) => Err(Error::new(
            Code::PermissionDenied,
            reason::PERMISSION_DENIED,
            format!("the key lacks the permission {permission}"),
        )
        .with_fact("permission", permission)),
        Access::Admin if caller.is_admin() => Ok(()),
        Access::Admin => {
            Err(Error::new(Code::PermissionDenied, reason::ADMIN_REQUIRED, "this method is for administrators"))
        }
    }
}

fn too_many_failures(wait: Duration) -> Error {
    Error::new(
        Code::ResourceExhausted,
        reason::RATE_LIMITED,
        "too many failed credentials from this address; come back later",
    )
    .retry(Retry::After(wait))
}
