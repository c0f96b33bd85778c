//! Who did what, when, and what came of it.
//!
//! A newcomer's usual mistake is to write the trail after answering, "best effort". Notes wait in a bounded queue and are
//! stored in groups; one that cannot be stored is written to the log in full, so that it is never lost silently.
//!
//! *Knows:* callers, actions, subjects, outcomes. *Does not know:* what an action does, or anything secret about it.

use std::{slice, sync::Arc, time::Duration};

use portico_base::{
    Code, Context, Result, Timestamp, id,
    page::{Page, PageRequest},
    tasks::Tasks,
};
use portico_port::records::{COMMIT_WRITES_MAX, Expect, Records};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::table::{Entity, Table, by_time, write};

/// Notes that may wait to be stored; far more than administrators can cause in the time of one commit.
const WAITING_NOTES_MAX: usize = 4_096;
/// How long notes are kept.
const KEPT: Duration = Duration::from_secs(400 * 24 * 3_600);
/// Longest subject; callers may name things that do not exist at any length.
const SUBJECT_CHARACTERS_MAX: usize = 256;
/// How often storing a group is tried before it goes to the log.
const ATTEMPTS_MAX: u32 = 3;
/// How long to wait before trying again.
const ATTEMPT_WAIT: Duration = Duration::from_millis(200);

/// How long a closing house waits for another note; calls that end later have theirs in the log.
const CLOSING_LINGER: Duration = Duration::from_millis(250);

/// One note of the trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Its id.
    pub id: String,
    /// When it happened.
    pub at: Timestamp,
    /// The request that it belongs to.
    pub request_id: String,
    /// Who: the identity.
    pub actor: String,
    /// The key in use, if a key proved the identity.
    pub key_id: Option<String>,
    /// The tenant of the actor.
    pub tenant: String,
    /// What, as `noun.verb`.
    pub action: String,
    /// To whom or what, for example a key id or `tenant/agent_type`.
    pub subject: String,
    /// `done`, or the reason of the refusal.
    pub outcome: String,
}

impl Note {
    /// The same with nothing in it that a store refuses. Callers may name things that do not exist by any character.
    fn storable(self) -> Note {
        Note {
            request_id: storable(self.request_id),
            actor: storable(self.actor),
            tenant: storable(self.tenant),
            subject: storable(self.subject),
            ..self
        }
    }
}

/// Without U+0000, which PostgreSQL keeps in no text.
fn storable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

impl Entity for Note {
    const COLLECTION: &'static str = "audit";

    fn id(&self) -> String {
        self.id.clone()
    }

    fn sort(&self) -> String {
        by_time(self.at)
    }

    fn facets(&self) -> Vec<(&'static str, String)> {
        vec![("tenant", self.tenant.clone()), ("actor", self.actor.clone()), ("subject", self.subject.clone())]
    }

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.at.plus(KEPT))
    }
}

/// The trail. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    notes: mpsc::Sender<Note>,
    table: Table<Note>,
}

impl Audit {
    /// The trail in this store; `tasks` carries its writer, which stores what waits before the house closes.
    pub fn new(records: Arc<dyn Records>, tasks: &Tasks) -> Audit {
        let (notes, queue) = mpsc::channel(WAITING_NOTES_MAX);
        tasks.spawn(keep(Arc::clone(&records), queue, tasks.clone()));
        Audit { notes, table: Table::new(records) }
    }

    /// Notes what came of an action. Does not wait.
    pub fn note<T>(&self, cx: &Context, action: &str, subject: &str, outcome: &Result<T>) {
        let outcome = outcome.as_ref().err().map_or("done", |error| error.reason().as_str());
        self.record(Note {
            id: id::random("note_", 20),
            at: cx.now(),
            request_id: cx.id.as_str().to_owned(),
            actor: cx.caller.identity.as_str().to_owned(),
            key_id: cx.caller.key_id().map(str::to_owned),
            tenant: cx.caller.tenant.as_str().to_owned(),
            action: action.to_owned(),
            subject: subject.chars().take(SUBJECT_CHARACTERS_MAX).collect(),
            outcome: outcome.to_owned(),
        });
    }

    /// Stores a note that was made elsewhere, for example by the gate for a call that got no context.
    pub fn record(&self, note: Note) {
        let note = note.storable();
        if let Err(mpsc::error::TrySendError::Full(note) | mpsc::error::TrySendError::Closed(note)) =
            self.notes.try_send(note)
        {
            log(&note, "the audit queue does not take it");
        }
    }

    /// A page of the trail, newest first, of one subject or of all.
    pub async fn page(&self, subject: Option<&str>, page: &PageRequest) -> Result<Page<Note>> {
        let subject = subject.map(|subject| storable(subject.to_owned()));
        let notes = self.table.page(subject.as_deref().map(|subject| ("subject", subject)), page).await?;
        Ok(notes.map(|stored| stored.value))
    }
}

/// Stores notes in groups until the house closes and no note has come for a moment.
async fn keep(records: Arc<dyn Records>, mut queue: mpsc::Receiver<Note>, tasks: Tasks) {
    let mut group = Vec::with_capacity(COMMIT_WRITES_MAX);
    loop {
        tokio::select! {
            taken = queue.recv_many(&mut group, COMMIT_WRITES_MAX) => {
                if taken == 0 {
                    return;
                }
                store(&*records, &mut group).await;
            }
            () = idle_while_closing(&tasks) => queue.close(),
        }
    }
}

async fn idle_while_closing(tasks: &Tasks) {
    tasks.closing().await;
    tokio::time::sleep(CLOSING_LINGER).await;
}

async fn store(records: &dyn Records, group: &mut Vec<Note>) {
    let refused = match stored(records, group).await {
        Ok(()) => return group.clear(),
        Err(error) => error,
    };
    // One that the store does not take must not take the others with it.
    let each_alone = refused.code() == Code::InvalidArgument && group.len() > 1;
    for note in group.drain(..) {
        if !each_alone {
            log(&note, &refused.report());
        } else if let Err(error) = stored(records, slice::from_ref(&note)).await {
            log(&note, &error.report());
        }
    }
}

/// All of them or none.
async fn stored(records: &dyn Records, notes: &[Note]) -> Result<()> {
    let mut attempt = 1;
    loop {
        let writes = notes.iter().map(|note| write(note, Expect::Anything)).collect::<Result<Vec<_>>>()?;
        match records.commit(writes).await {
            Ok(_) => return Ok(()),
            // What is refused is refused again.
            Err(error) if attempt == ATTEMPTS_MAX || error.code() == Code::InvalidArgument => return Err(error),
            Err(_tried_again) => attempt += 1,
        }
        tokio::time::sleep(ATTEMPT_WAIT).await;
    }
}

fn log(note: &Note, why: &str) {
    tracing::error!(
        at = %note.at, request_id = note.request_id, actor = note.actor, action = note.action, subject = note.subject,
        outcome = note.outcome, why, "an audit note could not be stored"
    );
}
