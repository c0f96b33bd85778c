//! What the words mean, tried over the embedded backends.

mod audit;
mod claims;
mod deployments;
mod gateways;
mod hosts;
mod instances;
mod keys;
mod models;
mod secrets;
mod settings;
mod upkeep;

use std::{sync::Arc, time::Duration};

use portico::{
    backend::{local::bus::LocalBus, sqlite::Sqlite},
    base::{Caller, Context, Timestamp, clock::StillClock, metadata::Metadata, page::PageRequest, tasks::Tasks},
    domain::{
        audit::Audit,
        settings::{Fixed, Parts, Settings},
    },
    port::records::Records,
};

/// Longer than anything here takes on a busy machine, by a clock that goes on while paused time stands.
const PATIENCE: Duration = Duration::from_secs(30);
const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// What the domain stands on in these tests.
struct Ground {
    clock: StillClock,
    records: Arc<dyn Records>,
    bus: LocalBus,
    tasks: Tasks,
    audit: Audit,
}

impl Ground {
    fn new() -> Ground {
        let clock = StillClock::at(NOW);
        let records: Arc<dyn Records> = Arc::new(Sqlite::temporary(Arc::new(clock.clone())).unwrap());
        let tasks = Tasks::new();
        let audit = Audit::new(Arc::clone(&records), &tasks);
        Ground { clock, records, bus: LocalBus::new(), tasks, audit }
    }

    /// A call by this caller with these headers.
    fn call(&self, caller: &Caller, headers: &[(&'static str, &str)]) -> Context {
        let headers = headers.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let cx = Context::internal("/test", caller.clone(), Arc::new(self.clock.clone()));
        cx.with_metadata(Metadata::new(headers))
    }

    /// The settings in this store.
    async fn settings(&self) -> Settings {
        let parts = Parts {
            records: Arc::clone(&self.records),
            bus: Arc::new(self.bus.clone()),
            clock: Arc::new(self.clock.clone()),
            audit: self.audit.clone(),
            fixed: Fixed { environment: "test".to_owned(), ensemble_url: None, bundle_bytes_max: 256 << 20 },
        };
        Settings::load(parts, &self.tasks).await.unwrap()
    }

    /// What the trail says, oldest first, once it has been written down.
    async fn trail(self) -> Vec<String> {
        self.tasks.close();
        assert_eq!(self.tasks.wait(Duration::from_secs(10)).await, 0, "everything ends when the house closes");
        let notes = self.audit.page(None, &PageRequest { limit: 100, after: None }).await.unwrap().items;
        let mut trail: Vec<_> =
            notes.into_iter().map(|note| format!("{} {} {}", note.actor, note.action, note.outcome)).collect();
        trail.sort();
        trail
    }
}

/// While this is held, paused time moves only when told to, although the runtime waits for threads of the store.
pub(crate) fn time_stands() -> std::sync::mpsc::Sender<()> {
    let (held, dropped) = std::sync::mpsc::channel();
    tokio::task::spawn_blocking(move || dropped.recv());
    held
}
