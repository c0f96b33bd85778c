//! Topics on Valkey or Redis: one stream each, read by one connection for all listeners of this gateway.
//!
//! A newcomer's usual mistake is to give each listener a connection. One task reads all topics that somebody here listens to,
//! each into a ring of its last messages, and a listener is a place in that ring. A message may come twice if the connection
//! broke while it was published. Whenever the server was away listeners are told that they missed something, because a
//! server that crashed may have forgotten what it had taken.
//!
//! *Knows:* streams, ids, when something may be missing. *Does not know:* what a message means.

mod reader;
mod topic;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::stream;
use portico_base::{Error, Result, health::Health, tasks::Tasks};
use portico_port::{
    Answer,
    bus::{Bus, From, MESSAGE_BYTES_MAX, Position, RETAINED_MESSAGES_MAX, Subscription},
};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::topic::{Id, Listener, Topic};
use super::{
    link::{Link, Repeat},
    names::Names,
    target::{Connection, Target},
};

/// What a caller is told is out of reach.
const WHAT: &str = "the bus";
/// A topic that nobody publishes to is forgotten after a day.
const TOPIC_TTL: Duration = Duration::from_secs(86_400);

/// The messages of a stream, as the server lists them.
type Entries = Vec<(String, Vec<(String, String)>)>;

/// Topics on Valkey or Redis. Clones share them.
#[derive(Clone)]
pub struct ValkeyBus(Arc<Inner>);

struct Inner {
    link: Link,
    names: Names,
    topics: Arc<Topics>,
    /// Ends the reader with the bus.
    _held: DropGuard,
}

/// The topics that somebody here listens to, by the names of their streams.
#[derive(Default)]
struct Topics {
    by_name: Mutex<HashMap<String, Weak<Topic>>>,
    /// Told when there is a new one.
    added: Notify,
}

impl ValkeyBus {
    pub(super) fn new(link: Link, names: Names, target: Arc<Target>, tasks: &Tasks) -> ValkeyBus {
        let topics = Arc::<Topics>::default();
        let dropped = CancellationToken::new();
        let (read, ended, closing) = (Arc::clone(&topics), dropped.clone(), tasks.closing_token());
        tasks.spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = closing.cancelled() => {}
                () = reader::run(&target, &read) => {}
            }
        });
        ValkeyBus(Arc::new(Inner { link, names, topics, _held: dropped.drop_guard() }))
    }
}

impl Bus for ValkeyBus {
    fn publish<'a>(&'a self, topic: &'a str, body: String) -> Answer<'a, Position> {
        Box::pin(async move { self.0.publish(topic, &body).await })
    }

    fn subscribe<'a>(&'a self, topic: &'a str, from: From) -> Answer<'a, Subscription> {
        Box::pin(async move {
            let listener = self.0.listener(topic, from).await?;
            Ok(Box::pin(stream::unfold(listener, Listener::next)) as Subscription)
        })
    }

    fn health(&self) -> Answer<'_, Health> {
        Box::pin(async move { Ok(self.0.health().await) })
    }
}

impl Inner {
    async fn publish(&self, topic: &str, body: &str) -> Result<Position> {
        if body.len() > MESSAGE_BYTES_MAX {
            return Err(Error::internal(format!("a message of {} bytes is over {MESSAGE_BYTES_MAX}", body.len())));
        }
        let name = self.names.topic(topic);
        let mut pipe = redis::pipe();
        pipe.cmd("XADD").arg(&name).arg("MAXLEN").arg(RETAINED_MESSAGES_MAX).arg("*").arg("body").arg(body);
        pipe.cmd("PEXPIRE").arg(&name).arg(TOPIC_TTL.as_millis().to_string()).ignore();
        let pipe = &pipe;
        let run = |mut connection: Connection| async move { pipe.query_async::<(String,)>(&mut connection).await };
        let (id,) = self.link.ask(WHAT, Repeat::Yes, run).await?;
        self.tell_tools(topic, body).await;
        Ok(Position::new(id))
    }

    /// Says it once more on the channel of the topic's own name, for tools that listen there. No gateway depends on it, and a user
    /// of the server may not be allowed to.
    async fn tell_tools(&self, channel: &str, body: &str) {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel).arg(body);
        let publish = &publish;
        let run = |mut connection: Connection| async move { publish.query_async::<()>(&mut connection).await };
        if let Err(error) = self.link.ask(WHAT, Repeat::No, run).await {
            tracing::debug!(channel, problem = error.report(), "tools could not be told");
        }
    }

    async fn listener(&self, topic: &str, from: From) -> Result<Listener> {
        let name = self.names.topic(topic);
        match from {
            From::Now => {
                let newest = self.entries("XREVRANGE", &name, "+", "-", 1).await?;
                let last = newest.first().and_then(|(id, _)| Id::parse(id)).unwrap_or_default();
                let (topic, floor) = self.topics.join(&name, last);
                Ok(Listener::new(topic, last.max(floor)))
            }
            From::After(position) => {
                let kept = match Id::parse(position.as_str()) {
                    Some(id) => !self.entries("XRANGE", &name, &id.to_string(), &id.to_string(), 1).await?.is_empty(),
                    None => false,
                };
                let last = Id::parse(position.as_str()).filter(|_| kept).unwrap_or_default();
                let (topic, floor) = self.topics.join(&name, last);
                let mut listener = Listener::new(topic, last.max(floor));
                if last < floor {
                    // The ring begins later: what lies between comes from the server.
                    let (from, to) = (format!("({last}"), floor.to_string());
                    listener.owe(self.entries("XRANGE", &name, &from, &to, RETAINED_MESSAGES_MAX).await?);
                }
                if !kept {
                    listener.miss();
                }
                Ok(listener)
            }
        }
    }

    async fn entries(&self, command: &str, name: &str, from: &str, to: &str, max: usize) -> Result<Entries> {
        let mut asked = redis::cmd(command);
        asked.arg(name).arg(from).arg(to).arg("COUNT").arg(max);
        let asked = &asked;
        let run = |mut connection: Connection| async move { asked.query_async::<Entries>(&mut connection).await };
        self.link.ask(WHAT, Repeat::Yes, run).await
    }

    async fn health(&self) -> Health {
        let ping =
            |mut connection: Connection| async move { redis::cmd("PING").query_async::<String>(&mut connection).await };
        if let Err(error) = self.link.ask(WHAT, Repeat::Yes, ping).await {
            return Health::down(error.report());
        }
        match self.topics.alive().iter().find_map(|(_, topic)| topic.away()) {
            Some(why) => Health::reachable(format!("messages cannot be heard: {why}")),
            None => Health::OK,
        }
    }
}

impl Topics {
    /// The topic of this stream, read from after `last` if it is new, and where its ring begins.
    fn join(&self, name: &str, last: Id) -> (Arc<Topic>, Id) {
        let mut topics = self.lock();
        if let Some(topic) = topics.get(name).and_then(Weak::upgrade) {
            let floor = topic.floor();
            return (topic, floor);
        }
        let topic = Arc::new(Topic::new(last));
        topics.insert(name.to_owned(), Arc::downgrade(&topic));
        drop(topics);
        self.added.notify_one();
        (topic, last)
    }

    /// The topics that somebody listens to. The others are forgotten.
    fn alive(&self) -> Vec<(String, Arc<Topic>)> {
        let mut topics = self.lock();
        topics.retain(|_, topic| topic.strong_count() > 0);
        topics.iter().filter_map(|(name, topic)| Some((name.clone(), topic.upgrade()?))).collect()
    }

    /// What this lock guards is whole after every statement, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Weak<Topic>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
