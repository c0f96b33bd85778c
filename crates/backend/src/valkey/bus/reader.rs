//! The one connection that listens, for all topics and all listeners of this gateway.
//!
//! A newcomer's usual mistake is to wait forever for a server that has stopped: a frozen one keeps its connections. Each
//! question ends after a second with or without messages, so silence beyond that means that the server is away.
//!
//! *Knows:* reading, dialling again, how a gap shows. *Does not know:* who listens.

use std::{collections::HashMap, sync::Arc, time::Duration};

use portico_port::bus::RETAINED_MESSAGES_MAX;
use redis::RedisResult;
use tokio::time::{sleep, timeout};

use super::{
    Entries, Topics,
    topic::{Id, Topic},
};
use crate::valkey::target::{COMMAND_WAIT, Connection, Target, Use};

/// How long one question waits for messages.
const BLOCK_MS: u64 = 1_000;
/// How long it may take in all.
const READ_WAIT: Duration = Duration::from_millis(1_500);
/// Messages of a topic that one answer carries.
const BATCH_MESSAGES_MAX: usize = 256;
/// The pause before dialling again.
const PAUSE: Duration = Duration::from_millis(200);

type Read = Vec<(String, Arc<Topic>)>;

/// Reads until it is dropped.
pub(super) async fn run(target: &Target, topics: &Topics) {
    loop {
        let alive = topics.alive();
        if alive.is_empty() {
            drop(alive);
            topics.added.notified().await;
            continue;
        }
        drop(alive);
        let why = match target.dial(Use::Reading).await {
            Ok(connection) => read(connection, topics).await,
            Err(why) => Some(why),
        };
        // None: there is another topic to read, and only a new question can name it.
        let Some(why) = why else { continue };
        for (_, topic) in topics.alive() {
            topic.leave(&why);
        }
        sleep(PAUSE).await;
    }
}

/// Reads until something breaks, and says what; none when another topic is to be read.
async fn read(mut connection: Connection, topics: &Topics) -> Option<String> {
    if let Err(why) = greet(&mut connection, &topics.alive()).await {
        return Some(why);
    }
    loop {
        let alive = topics.alive();
        if alive.is_empty() {
            return None;
        }
        let batch = async { within(READ_WAIT, batch(&mut connection, &alive)).await };
        let batch = tokio::select! {
            () = topics.added.notified() => return None,
            batch = batch => batch,
        };
        match batch {
            Ok(batch) => {
                if let Err(why) = take(&mut connection, &alive, batch).await {
                    return Some(why);
                }
            }
            Err(why) => return Some(why),
        }
    }
}

/// Tells the topics that were away that the server is back.
async fn greet(connection: &mut Connection, alive: &Read) -> Result<(), String> {
    for (name, topic) in alive.iter().filter(|(_, topic)| topic.away().is_some()) {
        let mut asked = redis::cmd("XREVRANGE");
        asked.arg(name).arg("+").arg("-").arg("COUNT").arg(1);
        let newest: Entries = within(COMMAND_WAIT, asked.query_async(connection)).await?;
        let newest = newest.first().and_then(|(id, _)| Id::parse(id)).unwrap_or_default();
        topic.come_back(newest >= topic.read());
    }
    Ok(())
}

async fn batch(connection: &mut Connection, alive: &Read) -> RedisResult<Vec<(String, Entries)>> {
    let mut asked = redis::cmd("XREAD");
    asked.arg("COUNT").arg(BATCH_MESSAGES_MAX).arg("BLOCK").arg(BLOCK_MS).arg("STREAMS");
    for (name, _) in alive {
        asked.arg(name);
    }
    for (_, topic) in alive {
        asked.arg(topic.read().to_string());
    }
    let read: Option<Streams> = asked.query_async(connection).await?;
    Ok(read.map(|Streams(streams)| streams).unwrap_or_default())
}

/// What one answer carries: a list of pairs in the older protocol, a map in the newer one.
struct Streams(Vec<(String, Entries)>);

impl redis::FromRedisValue for Streams {
    fn from_redis_value(value: redis::Value) -> Result<Streams, redis::ParsingError> {
        match value {
            redis::Value::Array(_) => Vec::from_redis_value(value).map(Streams),
            value => {
                let streams: HashMap<String, Entries> = HashMap::from_redis_value(value)?;
                Ok(Streams(streams.into_iter().collect()))
            }
        }
    }
}

async fn take(connection: &mut Connection, alive: &Read, batch: Vec<(String, Entries)>) -> Result<(), String> {
    for (name, entries) in batch {
        let Some((_, topic)) = alive.iter().find(|(known, _)| *known == name) else { continue };
        // A full batch means that we are behind, perhaps so far that messages went unread.
        let behind = entries.len() >= BATCH_MESSAGES_MAX;
        let before = topic.read();
        topic.add(entries);
        if behind && is_gap(connection, &name, before).await? {
            topic.lose();
        }
    }
    Ok(())
}

/// Whether messages after this one may be gone: it is not kept any more.
async fn is_gap(connection: &mut Connection, name: &str, before: Id) -> Result<bool, String> {
    if before == Id::default() {
        let length: usize = within(COMMAND_WAIT, redis::cmd("XLEN").arg(name).query_async(connection)).await?;
        return Ok(length >= RETAINED_MESSAGES_MAX);
    }
    let mut asked = redis::cmd("XRANGE");
    asked.arg(name).arg(before.to_string()).arg(before.to_string());
    within(COMMAND_WAIT, asked.query_async::<Entries>(connection)).await.map(|kept| kept.is_empty())
}

async fn within<T>(wait: Duration, answer: impl Future<Output = RedisResult<T>>) -> Result<T, String> {
    match timeout(wait, answer).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_elapsed) => Err("the server does not answer".to_owned()),
    }
}
