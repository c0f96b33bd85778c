//! The trail keeps every note, whatever callers call things.

use std::sync::Arc;

use portico::{
    backend::postgres::Postgres,
    base::caller::{Proof, Role},
    base::{Caller, Error, IdentityId, Result, TenantId, health::Health, page::PageRequest, tasks::Tasks},
    domain::audit::Audit,
    port::{
        Answer,
        records::{Query, Record, Records, Write},
    },
};

use super::{Ground, PATIENCE};
use crate::support::postgres;

const ALL: PageRequest = PageRequest { limit: 100, after: None };

/// A store that takes no record with this word in it.
struct Picky(Arc<dyn Records>, &'static str);

impl Records for Picky {
    fn get<'a>(&'a self, collection: &'static str, id: &'a str) -> Answer<'a, Option<Record>> {
        self.0.get(collection, id)
    }

    fn list(&self, query: Query) -> Answer<'_, Vec<Record>> {
        self.0.list(query)
    }

    fn commit(&self, writes: Vec<Write>) -> Answer<'_, Vec<u64>> {
        let is_refused = |write: &Write| matches!(write, Write::Put { record, .. } if record.body.contains(self.1));
        if writes.iter().any(is_refused) {
            return Box::pin(async { Err(Error::invalid("record", "is not to the taste of the store")) });
        }
        self.0.commit(writes)
    }

    fn health(&self) -> Answer<'_, Health> {
        self.0.health()
    }
}

/// The subjects that are kept of these, in order.
async fn kept(records: Arc<dyn Records>, subjects: &[&str]) -> (Audit, Vec<String>) {
    let (ground, tasks) = (Ground::new(), Tasks::new());
    let audit = Audit::new(records, &tasks);
    let caller = Caller {
        identity: IdentityId::new("somebody"),
        tenant: TenantId::new("acme"),
        role: Role::Tenant,
        permissions: Arc::from([]),
        proof: Proof::None,
    };
    // All are on their way before the first is stored, so that they are stored together.
    for subject in subjects {
        let done: Result<()> = Ok(());
        audit.note(&ground.call(&caller, &[]), "thing.do", subject, &done);
    }
    tasks.close();
    assert_eq!(tasks.wait(PATIENCE).await, 0);
    let mut kept: Vec<_> = audit.page(None, &ALL).await.unwrap().items.into_iter().map(|note| note.subject).collect();
    kept.sort();
    (audit, kept)
}

#[tokio::test]
async fn no_character_of_a_subject_keeps_a_note_out_of_postgres() {
    let ground = Ground::new();
    let records = Postgres::connect(&postgres::database(), Arc::new(ground.clock.clone()), &ground.tasks).await;
    let (audit, kept) = kept(Arc::new(records.unwrap()), &["before", "odd\0name", "then"]).await;
    assert_eq!(kept, ["before", "odd\u{fffd}name", "then"]);
    assert_eq!(audit.page(Some("odd\0name"), &ALL).await.unwrap().items.len(), 1, "it is found by its name");
}

#[tokio::test]
async fn a_note_that_the_store_refuses_takes_no_other_one_with_it() {
    let records = Arc::new(Picky(Ground::new().records, "refused"));
    assert_eq!(kept(records, &["before", "refused", "then"]).await.1, ["before", "then"]);
}
