//! Announcements, reservations and token buckets that all gateways share.
//!
//! A newcomer's usual mistake is to read, decide and write. Others do the same meanwhile; every decision here is one script
//! on the server, with the server's clock, so that gateways need not agree on the time.
//!
//! A busy key takes several tokens at once ([`leases`]), so that it costs far less than a question for each call.
//!
//! While the server is away, tokens come from buckets of this gateway alone, so that a limit never turns into an outage:
//! a caller may then use up its limit once on each gateway. Everything else says that the registry is out of reach.
//!
//! *Knows:* the scripts and what they answer. *Does not know:* what is announced or limited.

mod fields;
mod leases;
mod scripts;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use portico_base::{Code, Error, Result, Retry, health::Health, id, reason};
use portico_port::{
    Answer,
    registry::{ANNOUNCEMENT_BYTES_MAX, ANNOUNCEMENTS_MAX, Announcement, Present, Rate, Registry, Take},
};
use redis::{FromRedisValue, Value};

use self::{
    leases::{Drawn, Leases},
    scripts::{Run, Scripts},
};
use super::{
    link::{Link, Repeat},
    names::Names,
    target::Connection,
};
use crate::local::registry::LocalRegistry;

/// Symbols of a place's name: enough that no two of one host are ever alike.
const PLACE_SYMBOLS: usize = 16;
/// What a caller is told is out of reach.
const WHAT: &str = "the registry";
/// What a probe leaves behind, for this long.
const PROBE: &str = "podium:probe";
const PROBE_TTL_MS: u64 = 5_000;

/// Facts that expire, on Valkey or Redis. Clones share them.
#[derive(Clone)]
pub struct ValkeyRegistry(Arc<Inner>);

struct Inner {
    link: Link,
    names: Names,
    scripts: Scripts,
    leases: Leases,
    /// What tokens are taken from while the server is away.
    alone: LocalRegistry,
    is_alone: AtomicBool,
}

impl ValkeyRegistry {
    pub(super) fn new(link: Link, names: Names) -> ValkeyRegistry {
        let (scripts, leases, alone) = (Scripts::new(), Leases::new(), LocalRegistry::new());
        ValkeyRegistry(Arc::new(Inner { link, names, scripts, leases, alone, is_alone: AtomicBool::new(false) }))
    }
}

impl Registry for ValkeyRegistry {
    fn announce<'a>(&'a self, kind: &'static str, announcement: Announcement, ttl: Duration) -> Answer<'a, ()> {
        Box::pin(async move { self.0.announce(kind, &announcement, ttl).await })
    }

    fn withdraw<'a>(&'a self, kind: &'static str, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let names = self.0.names;
            let script = self.0.scripts.withdraw.on(names.kind(kind));
            let script = script.and(names.announcement(kind, id)).and(names.epoch(kind, id));
            self.0.run(script.with(names.events(kind)).with(id)).await
        })
    }

    fn live(&self, kind: &'static str) -> Answer<'_, Vec<Present>> {
        Box::pin(async move {
            let names = self.0.names;
            let script = self.0.scripts.live.on(names.kind(kind)).with(names.events(kind));
            let rows: Vec<Row> = self.0.run(script).await?;
            let mut live: Vec<Present> = rows.into_iter().map(Row::present).collect();
            live.sort_unstable_by(|one, other| one.id.cmp(&other.id));
            Ok(live)
        })
    }

    fn reserve<'a>(&'a self, kind: &'static str, id: &'a str, ttl: Duration) -> Answer<'a, u32> {
        Box::pin(async move {
            let script = self.0.scripts.reserve.on(self.0.names.pending(kind, id));
            // Two at the same moment are two, whatever their gateways know of each other.
            self.0.run(script.with(millis(ttl)).with(id::random("", PLACE_SYMBOLS))).await
        })
    }

    fn release<'a>(&'a self, kind: &'static str, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.0.run(self.0.scripts.release.on(self.0.names.pending(kind, id))).await })
    }

    fn take<'a>(&'a self, bucket: &'static str, key: &'a str, rate: Rate) -> Answer<'a, Take> {
        Box::pin(async move { self.0.take(bucket, key, rate).await })
    }

    fn returned(&self, before: u64) -> Answer<'_, u64> {
        Box::pin(async move { Ok(self.0.link.returned(before).await) })
    }

    fn reach(&self) -> Result<()> {
        self.0.link.reach(WHAT)
    }

    fn health(&self) -> Answer<'_, Health> {
        Box::pin(async move { Ok(self.0.health().await) })
    }
}

impl Inner {
    async fn announce(&self, kind: &'static str, announcement: &Announcement, ttl: Duration) -> Result<()> {
        let Announcement { id, body } = announcement;
        if body.len() > ANNOUNCEMENT_BYTES_MAX {
            return Err(Error::internal(format!("an announcement of {} bytes is too large", body.len())));
        }
        let script = self.scripts.announce.on(self.names.kind(kind));
        let script = script.and(self.names.announcement(kind, id)).and(self.names.epoch(kind, id));
        let script = script.with(self.names.events(kind)).with(id).with(millis(ttl)).with(ANNOUNCEMENTS_MAX);
        let script = script.with("body").with(body).with(fields::shown(body));
        match self.run(script).await? {
            true => Ok(()),
            false => Err(Error::new(Code::ResourceExhausted, reason::REGISTRY_UNAVAILABLE, "the registry is full")
                .retry(Retry::After(ttl))),
        }
    }

    async fn take(&self, bucket: &'static str, key: &str, rate: Rate) -> Result<Take> {
        if rate.per_minute == 0 {
            return Ok(Take::Granted { left: u32::MAX });
        }
        let interval_us = (60_000_000 / u64::from(rate.per_minute)).max(1);
        let capacity_us = interval_us * u64::from(rate.burst.max(1));
        let question = match self.leases.draw(bucket, key, rate) {
            Drawn::Here(take) => return Ok(take),
            Drawn::Ask(question) => question,
        };
        let script = self.scripts.take.on(self.names.bucket(bucket, key)).with(interval_us).with(capacity_us);
        match self.run(script.with(question.wanted).with(question.unused)).await {
            Ok(answer) => {
                self.is_alone.store(false, Ordering::Relaxed);
                Ok(self.leases.answered(bucket, key, question, answer))
            }
            Err(error) => {
                if !self.is_alone.swap(true, Ordering::Relaxed) {
                    tracing::warn!(error = error.report(), "limits are kept by this gateway alone for now");
                }
                self.alone.take(bucket, key, rate).await
            }
        }
    }

    /// Writes, because a server that cannot be written to is of no use: a replica, a full disk, full memory.
    async fn health(&self) -> Health {
        let probe = |mut connection: Connection| async move {
            let mut set = redis::cmd("SET");
            set.arg(PROBE).arg(1).arg("PX").arg(PROBE_TTL_MS).query_async::<()>(&mut connection).await
        };
        match self.link.ask(WHAT, Repeat::Yes, probe).await {
            Ok(()) => Health::OK,
            Err(error) => Health::down(format!("{}; limits are kept by each gateway alone", error.report())),
        }
    }

    /// Runs a script. All of them may be repeated: what counts one too many is forgotten by itself.
    async fn run<T: FromRedisValue + Send>(&self, script: Run<'_>) -> Result<T> {
        let script = &script;
        let run = |mut connection: Connection| async move { script.over::<T>(&mut connection).await };
        self.link.ask(WHAT, Repeat::Yes, run).await
    }
}

/// One that is here, as the script tells it.
struct Row {
    id: String,
    reserved: u32,
    body: String,
}

impl Row {
    fn present(self) -> Present {
        Present { id: self.id, body: self.body, reserved: self.reserved }
    }
}

impl FromRedisValue for Row {
    fn from_redis_value(value: Value) -> Result<Row, redis::ParsingError> {
        let (id, reserved, said) = FromRedisValue::from_redis_value(value)?;
        let body = match said {
            // Who announced itself by other means than ours has no body, only fields.
            fields @ Value::Array(_) => fields::body(&Vec::<(String, String)>::from_redis_value(fields)?),
            body => String::from_redis_value(body)?,
        };
        Ok(Row { id, reserved, body })
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
