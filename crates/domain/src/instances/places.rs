//! Where instances run, remembered for a moment.
//!
//! A newcomer's usual mistake is to believe it. What is remembered saves a question to the store; it may be a moment behind
//! other gateways. A host that does not hold an instance, or is out of reach, sends the caller back to the record, and so
//! what was deleted or moved is found out at once. Only what has reached its host is remembered: until then another caller
//! may yet be given the id.
//!
//! *Knows:* hosts and tenants by instance. *Does not know:* records.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use portico_base::{Context, TenantId};
use portico_port::fleet::{At, State};
use tokio::time::Instant;

use super::record::Instance;

/// How long a place is remembered.
const KEPT: Duration = Duration::from_secs(5);
/// Places in either half, some 200 bytes each; beyond, the older half is forgotten before its time.
const HALF_MAX: usize = 8_192;

/// Where instances run.
#[derive(Default)]
pub(super) struct Places(Mutex<Halves>);

/// Two halves, so that the oldest are forgotten without being looked for.
#[derive(Default)]
struct Halves {
    young: HashMap<String, Place>,
    old: HashMap<String, Place>,
    turned_at: Option<Instant>,
}

struct Place {
    tenant: TenantId,
    host: String,
    seen_at: Instant,
}

impl Places {
    /// Where an instance of the caller's runs, if that is remembered.
    pub(super) fn find(&self, cx: &Context, id: &str) -> Option<At> {
        let halves = self.halves();
        let place = halves.young.get(id).or_else(|| halves.old.get(id))?;
        let holds = place.seen_at.elapsed() < KEPT && cx.caller.owns(&place.tenant);
        holds.then(|| At::new(&place.host, id).asked_by(cx))
    }

    /// Remembers where an instance runs.
    pub(super) fn note(&self, instance: &Instance) {
        let Some(host) = &instance.coordinator_id else { return };
        let is_coming_or_going = matches!(State::parse(&instance.status), State::Deploying | State::ShuttingDown);
        if instance.is_tombstone() || is_coming_or_going {
            return;
        }
        let now = Instant::now();
        let mut halves = self.halves();
        let is_over = halves.turned_at.is_none_or(|at| now.duration_since(at) >= KEPT);
        if is_over || halves.young.len() >= HALF_MAX {
            halves.old = mem::take(&mut halves.young);
            halves.turned_at = Some(now);
        }
        let place = Place { tenant: instance.tenant(), host: host.clone(), seen_at: now };
        halves.young.insert(instance.id.clone(), place);
    }

    /// Forgets where an instance runs.
    pub(super) fn forget(&self, id: &str) {
        let mut halves = self.halves();
        halves.young.remove(id);
        halves.old.remove(id);
    }

    fn halves(&self) -> MutexGuard<'_, Halves> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
