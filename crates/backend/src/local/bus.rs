//! Topics inside this process.
//!
//! A newcomer's usual mistake is to give each listener a queue. A topic is one ring of its last messages, and a listener is
//! a place in it: publishing costs the same for none or a thousand listeners, and who falls out of the ring is told.
//!
//! *Knows:* rings, and a number that says how far they are. *Does not know:* what a message means.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::stream;
use portico_base::{Error, Result, health::Health, id};
use portico_port::{
    Answer,
    bus::{Bus, Event, From, MESSAGE_BYTES_MAX, Message, Position, RETAINED_MESSAGES_MAX, Subscription},
};
use tokio::sync::watch;

/// Topics kept at once. Beyond that the one that was published to least recently and has no listener is forgotten.
const TOPICS_MAX: usize = 4_096;
/// Bytes of messages that one topic keeps.
const RETAINED_BYTES_MAX: usize = 4 << 20;

/// Topics inside this process. Clones share them.
#[derive(Clone)]
pub struct LocalBus(Arc<Inner>);

struct Inner {
    /// Tells positions of this process from those of an earlier one.
    epoch: String,
    topics: Mutex<Topics>,
}

#[derive(Default)]
struct Topics {
    by_name: HashMap<String, Arc<Topic>>,
    publications: u64,
}

struct Topic {
    ring: Mutex<Ring>,
    /// The number of the newest message; listeners wait for it to change.
    newest: watch::Sender<u64>,
}

#[derive(Default)]
struct Ring {
    /// Number of the oldest message kept is `newest + 1 - messages.len()`; numbers count from 1.
    messages: VecDeque<Arc<str>>,
    bytes: usize,
    newest: u64,
    published_at: u64,
}

impl LocalBus {
    /// A bus without topics.
    pub fn new() -> LocalBus {
        LocalBus(Arc::new(Inner { epoch: id::random("", 8), topics: Mutex::default() }))
    }
}

impl Default for LocalBus {
    fn default() -> Self {
        LocalBus::new()
    }
}

impl Bus for LocalBus {
    fn publish<'a>(&'a self, topic: &'a str, body: String) -> Answer<'a, Position> {
        Box::pin(async move {
            if body.len() > MESSAGE_BYTES_MAX {
                return Err(Error::internal(format!("a message of {} bytes is over {MESSAGE_BYTES_MAX}", body.len())));
            }
            let (topic, at) = self.0.topic(topic);
            let number = lock(&topic.ring).push(body.into(), at);
            topic.newest.send_replace(number);
            Ok(self.0.position(number))
        })
    }

    fn subscribe<'a>(&'a self, topic: &'a str, from: From) -> Answer<'a, Subscription> {
        Box::pin(async move {
            let (topic, _) = self.0.topic(topic);
            let newest = topic.newest.subscribe();
            let last = match from {
                From::Now => Some(lock(&topic.ring).newest),
                From::After(position) => self.0.number(&position),
            };
            let listener = Listener { bus: Arc::clone(&self.0), topic, newest, last };
            Ok(Box::pin(stream::unfold(listener, Listener::next)) as Subscription)
        })
    }

    fn health(&self) -> Answer<'_, Health> {
        Box::pin(async { Ok(Health::OK) })
    }
}

impl Inner {
    /// The topic of this name, and how many publications there were in all topics.
    fn topic(&self, name: &str) -> (Arc<Topic>, u64) {
        let mut topics = lock(&self.topics);
        topics.publications += 1;
        let at = topics.publications;
        if let Some(topic) = topics.by_name.get(name) {
            return (Arc::clone(topic), at);
        }
        if topics.by_name.len() >= TOPICS_MAX {
            topics.forget_one();
        }
        let topic = Arc::new(Topic { ring: Mutex::default(), newest: watch::Sender::new(0) });
        topics.by_name.insert(name.to_owned(), Arc::clone(&topic));
        (topic, at)
    }

    fn position(&self, number: u64) -> Position {
        Position::new(format!("{}-{number}", self.epoch))
    }

    /// The number behind a position; none if another process made it.
    fn number(&self, position: &Position) -> Option<u64> {
        let (epoch, number) = position.as_str().rsplit_once('-')?;
        if epoch != self.epoch {
            return None;
        }
        number.parse().ok()
    }
}

impl Topics {
    fn forget_one(&mut self) {
        // Two hold a topic that is being published to; one alone means nobody but this map.
        let idle = self.by_name.iter().filter(|(_, topic)| Arc::strong_count(topic) == 1);
        let oldest = idle.min_by_key(|(_, topic)| lock(&topic.ring).published_at).map(|(name, _)| name.clone());
        if let Some(name) = oldest {
            self.by_name.remove(&name);
        }
    }
}

impl Ring {
    fn push(&mut self, body: Arc<str>, at: u64) -> u64 {
        self.bytes += body.len();
        self.messages.push_back(body);
        while self.messages.len() > RETAINED_MESSAGES_MAX || self.bytes > RETAINED_BYTES_MAX {
            self.bytes -= self.messages.pop_front().map_or(0, |oldest| oldest.len());
        }
        self.newest += 1;
        self.published_at = at;
        self.newest
    }

    fn first(&self) -> u64 {
        self.newest + 1 - self.messages.len() as u64
    }
}

struct Listener {
    bus: Arc<Inner>,
    topic: Arc<Topic>,
    newest: watch::Receiver<u64>,
    /// The number of the last message heard; none when the place is lost.
    last: Option<u64>,
}

impl Listener {
    async fn next(mut self) -> Option<(Result<Event>, Listener)> {
        loop {
            self.newest.mark_unchanged();
            if let Some(event) = self.look() {
                return Some((Ok(event), self));
            }
            // The topic holds the sender, and the listener holds the topic.
            self.newest.changed().await.ok()?;
        }
    }

    fn look(&mut self) -> Option<Event> {
        let ring = lock(&self.topic.ring);
        let first = ring.first();
        let Some(last) = self.last.filter(|last| last + 1 >= first && *last <= ring.newest) else {
            self.last = Some(first - 1);
            return Some(Event::Missed);
        };
        let index = usize::try_from(last + 1 - first).ok()?;
        let body = Arc::clone(ring.messages.get(index)?);
        drop(ring);
        self.last = Some(last + 1);
        Some(Event::Message(Message { position: self.bus.position(last + 1), body }))
    }
}

/// What these locks guard is whole after every statement, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
