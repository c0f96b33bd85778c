//! The last messages of one topic, as this gateway has read them, and the places of those who listen.
//!
//! A newcomer's usual mistake is to compare numbers of messages. Their ids only grow while the server keeps its memory; a
//! server that lost it may count anew, so a ring that begins again has a new age, and places of an older age are void.
//!
//! *Knows:* ids, rings, places. *Does not know:* connections.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use portico_base::Result;
use portico_port::bus::{Event, Message, Position, RETAINED_MESSAGES_MAX};
use tokio::sync::watch;

use super::{Entries, WHAT};
use crate::valkey::link::away;

/// Bytes of messages that one ring keeps.
const RETAINED_BYTES_MAX: usize = 4 << 20;

/// The id of a message: milliseconds and a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(u64, u64);

impl Id {
    pub(super) fn parse(text: &str) -> Option<Id> {
        let (millis, number) = text.split_once('-')?;
        Some(Id(millis.parse().ok()?, number.parse().ok()?))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// A topic that somebody here listens to.
pub(super) struct Topic {
    ring: Mutex<Ring>,
    /// Changes with everything that a listener may want to know.
    changed: watch::Sender<()>,
}

struct Ring {
    messages: VecDeque<(Id, Arc<str>)>,
    bytes: usize,
    /// The message before the first one kept.
    floor: Id,
    /// The last message read.
    read: Id,
    /// Why the server cannot be listened to, while it cannot.
    away: Option<Arc<str>>,
    /// How often it went away.
    outages: u64,
    /// How often something may have been missed by all.
    losses: u64,
    /// How often the ids began again.
    age: u64,
}

impl Topic {
    /// A topic that is read after this message.
    pub(super) fn new(last: Id) -> Topic {
        let ring = Ring {
            messages: VecDeque::new(),
            bytes: 0,
            floor: last,
            read: last,
            away: None,
            outages: 0,
            losses: 0,
            age: 0,
        };
        Topic { ring: Mutex::new(ring), changed: watch::Sender::new(()) }
    }

    pub(super) fn floor(&self) -> Id {
        self.lock().floor
    }

    /// The last message read.
    pub(super) fn read(&self) -> Id {
        self.lock().read
    }

    /// Why the server cannot be listened to, while it cannot.
    pub(super) fn away(&self) -> Option<Arc<str>> {
        self.lock().away.clone()
    }

    /// Adds what was read. What is not a message of ours is passed over.
    pub(super) fn add(&self, entries: Entries) {
        let mut ring = self.lock();
        for (id, fields) in entries {
            let Some(id) = Id::parse(&id) else { continue };
            ring.read = id;
            if let Some((_, body)) = fields.into_iter().find(|(name, _)| name == "body") {
                ring.push(id, body.into());
            }
        }
        drop(ring);
        self.changed.send_replace(());
    }

    /// Tells all that the server is away, once for each time.
    pub(super) fn leave(&self, why: &str) {
        let mut ring = self.lock();
        if ring.away.replace(why.into()).is_none() {
            ring.outages += 1;
            drop(ring);
            self.changed.send_replace(());
        }
    }

    /// Tells all that the server is back, and that something may be missing. Without its memory the ring begins again.
    pub(super) fn come_back(&self, remembers: bool) {
        let mut ring = self.lock();
        ring.away = None;
        ring.losses += 1;
        if !remembers {
            ring.messages.clear();
            (ring.bytes, ring.floor, ring.read) = (0, Id::default(), Id::default());
            ring.age += 1;
        }
        drop(ring);
        self.changed.send_replace(());
    }

    /// Tells all that something is missing.
    pub(super) fn lose(&self) {
        self.lock().losses += 1;
        self.changed.send_replace(());
    }

    /// What this lock guards is whole after every statement, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, id: Id, body: Arc<str>) {
        self.bytes += body.len();
        self.messages.push_back((id, body));
        while self.messages.len() > RETAINED_MESSAGES_MAX || self.bytes > RETAINED_BYTES_MAX {
            let Some((oldest, body)) = self.messages.pop_front() else { return };
            self.bytes -= body.len();
            self.floor = oldest;
        }
    }
}

/// A place in a topic.
pub(super) struct Listener {
    topic: Arc<Topic>,
    changed: watch::Receiver<()>,
    /// The last message heard.
    last: Id,
    /// Messages before those of the ring.
    owed: VecDeque<(Id, Arc<str>)>,
    missed: bool,
    outages: u64,
    losses: u64,
    age: u64,
}

impl Listener {
    pub(super) fn new(topic: Arc<Topic>, last: Id) -> Listener {
        let changed = topic.changed.subscribe();
        let ring = topic.lock();
        let (mut outages, losses, age) = (ring.outages, ring.losses, ring.age);
        if ring.away.is_some() {
            // Who begins to listen during an outage is told of it.
            outages -= 1;
        }
        drop(ring);
        Listener { topic, changed, last, owed: VecDeque::new(), missed: false, outages, losses, age }
    }

    /// Says these before anything of the ring.
    pub(super) fn owe(&mut self, entries: Entries) {
        let bodies = entries.into_iter().filter_map(|(id, fields)| {
            let body = fields.into_iter().find(|(name, _)| name == "body")?.1;
            Some((Id::parse(&id)?, body.into()))
        });
        self.owed.extend(bodies);
    }

    /// Says first that something is missing.
    pub(super) fn miss(&mut self) {
        self.missed = true;
    }

    pub(super) async fn next(mut self) -> Option<(Result<Event>, Listener)> {
        loop {
            self.changed.mark_unchanged();
            if let Some(event) = self.look() {
                return Some((event, self));
            }
            // The topic holds the sender, and the listener holds the topic.
            self.changed.changed().await.ok()?;
        }
    }

    fn look(&mut self) -> Option<Result<Event>> {
        let topic = Arc::clone(&self.topic);
        let ring = topic.lock();
        if self.outages != ring.outages {
            self.outages = ring.outages;
            if let Some(why) = &ring.away {
                return Some(Err(away(WHAT, why.to_string())));
            }
        }
        if self.age != ring.age {
            (self.age, self.last, self.missed) = (ring.age, ring.floor, true);
            self.owed.clear();
        }
        if self.losses != ring.losses || self.missed {
            (self.losses, self.missed) = (ring.losses, false);
            return Some(Ok(Event::Missed));
        }
        if let Some((id, body)) = self.owed.pop_front() {
            return Some(Ok(message(id, body)));
        }
        if self.last < ring.floor {
            self.last = ring.floor;
            return Some(Ok(Event::Missed));
        }
        let next = ring.messages.partition_point(|(id, _)| *id <= self.last);
        let (id, body) = ring.messages.get(next)?;
        self.last = *id;
        Some(Ok(message(*id, Arc::clone(body))))
    }
}

fn message(id: Id, body: Arc<str>) -> Event {
    Event::Message(Message { position: Position::new(id.to_string()), body })
}
