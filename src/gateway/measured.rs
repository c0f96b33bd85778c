//! Ports that are timed.
//!
//! A newcomer's usual mistake is to time what is answered. Whoever gives up waiting drops the question, and those are the slow
//! ones: they are noted too.
//!
//! *Knows:* which operations there are. *Does not know:* who answers them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    base::{Code, Context, Result, health::Health, tasks::Tasks},
    gate::{
        Metrics,
        metrics::{Answered, Hosts, Uploaded},
    },
    port::{
        Answer,
        blobs::{Blob, Blobs, Committed, Digest, Head, Listed, Metadata, Range, Staged, Staging},
        bus::{Bus, From, Position, Subscription},
        catalog::{Catalog, Document},
        fleet::{Fleet, HostLoad},
        records::{Query, Record, Records, Write},
        registry::{Announcement, Present, Rate, Registry, Take},
    },
};

/// How often the hosts are counted.
const HOSTS_SEEN_EVERY: Duration = Duration::from_secs(5);

/// A port, timed.
pub(super) struct Measured<P: ?Sized> {
    port: Arc<P>,
    metrics: Arc<Metrics>,
}

impl<P: ?Sized> Measured<P> {
    pub(super) fn new(port: Arc<P>, metrics: &Arc<Metrics>) -> Arc<Measured<P>> {
        Arc::new(Measured { port, metrics: Arc::clone(metrics) })
    }

    fn time<'a, T: Send + 'a>(
        &'a self,
        port: &'static str,
        operation: &'static str,
        answer: Answer<'a, T>,
    ) -> Answer<'a, T> {
        let metrics = &*self.metrics;
        Box::pin(async move {
            let mut question = Question { metrics, port, operation, how: Answered::Never, since: Instant::now() };
            let outcome = answer.await;
            question.how = how(&outcome);
            outcome
        })
    }
}

/// A question that was asked. Noted when it is dropped, answered or not.
struct Question<'m> {
    metrics: &'m Metrics,
    port: &'static str,
    operation: &'static str,
    how: Answered,
    since: Instant,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.metrics.answered(self.port, self.operation, self.how, self.since.elapsed());
    }
}

/// A refusal is an answer; trouble of the backend is not.
fn how<T>(outcome: &Result<T>) -> Answered {
    match outcome.as_ref().err().map(crate::base::Error::code) {
        Some(Code::Unavailable | Code::DeadlineExceeded | Code::Internal | Code::Unknown | Code::DataLoss) => {
            Answered::Badly
        }
        _ => Answered::Well,
    }
}

impl Records for Measured<dyn Records> {
    fn get<'a>(&'a self, collection: &'static str, id: &'a str) -> Answer<'a, Option<Record>> {
        self.time("records", "get", self.port.get(collection, id))
    }

    fn list(&self, query: Query) -> Answer<'_, Vec<Record>> {
        self.time("records", "list", self.port.list(query))
    }

    fn commit(&self, writes: Vec<Write>) -> Answer<'_, Vec<u64>> {
        self.time("records", "commit", self.port.commit(writes))
    }

    fn health(&self) -> Answer<'_, Health> {
        self.port.health()
    }
}

impl Registry for Measured<dyn Registry> {
    fn announce<'a>(&'a self, kind: &'static str, announcement: Announcement, ttl: Duration) -> Answer<'a, ()> {
        self.time("registry", "announce", self.port.announce(kind, announcement, ttl))
    }

    fn withdraw<'a>(&'a self, kind: &'static str, id: &'a str) -> Answer<'a, ()> {
        self.time("registry", "withdraw", self.port.withdraw(kind, id))
    }

    fn live(&self, kind: &'static str) -> Answer<'_, Vec<Present>> {
        self.time("registry", "live", self.port.live(kind))
    }

    fn reserve<'a>(&'a self, kind: &'static str, id: &'a str, ttl: Duration) -> Answer<'a, u32> {
        self.time("registry", "reserve", self.port.reserve(kind, id, ttl))
    }

    fn release<'a>(&'a self, kind: &'static str, id: &'a str) -> Answer<'a, ()> {
        self.time("registry", "release", self.port.release(kind, id))
    }

    fn take<'a>(&'a self, bucket: &'static str, key: &'a str, rate: Rate) -> Answer<'a, Take> {
        self.time("registry", "take", self.port.take(bucket, key, rate))
    }

    fn returned(&self, before: u64) -> Answer<'_, u64> {
        self.port.returned(before)
    }

    fn reach(&self) -> Result<()> {
        self.port.reach()
    }

    fn health(&self) -> Answer<'_, Health> {
        self.port.health()
    }
}

impl Bus for Measured<dyn Bus> {
    fn publish<'a>(&'a self, topic: &'a str, body: String) -> Answer<'a, Position> {
        self.time("bus", "publish", self.port.publish(topic, body))
    }

    fn subscribe<'a>(&'a self, topic: &'a str, from: From) -> Answer<'a, Subscription> {
        self.time("bus", "subscribe", self.port.subscribe(topic, from))
    }

    fn health(&self) -> Answer<'_, Health> {
        self.port.health()
    }
}

impl Catalog for Measured<dyn Catalog> {
    fn models<'a>(&'a self, cx: &'a Context, query: &'a str) -> Answer<'a, Document> {
        self.time("ensemble", "models", self.port.models(cx, query))
    }

    fn health(&self) -> Answer<'_, Health> {
        self.port.health()
    }
}

impl Blobs for Measured<dyn Blobs> {
    fn stage<'a>(&'a self, key: Option<&'a str>) -> Answer<'a, Box<dyn Staging>> {
        let staged = self.time("blobs", "stage", self.port.stage(key));
        Box::pin(async move {
            let upload = Upload { metrics: Arc::clone(&self.metrics), began: Instant::now(), told: false };
            Ok(Box::new(Arriving { staging: staged.await?, upload }) as Box<dyn Staging>)
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Head>> {
        self.time("blobs", "head", self.port.head(key))
    }

    fn get<'a>(&'a self, key: &'a str, range: Range) -> Answer<'a, Option<Blob>> {
        self.time("blobs", "get", self.port.get(key, range))
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>, limit: usize) -> Answer<'a, Vec<Listed>> {
        self.time("blobs", "list", self.port.list(prefix, after, limit))
    }

    fn delete<'a>(&'a self, key: &'a str) -> Answer<'a, ()> {
        self.time("blobs", "delete", self.port.delete(key))
    }

    fn health(&self) -> Answer<'_, Health> {
        self.port.health()
    }
}

/// One upload, from its first byte to its end.
struct Upload {
    metrics: Arc<Metrics>,
    began: Instant,
    told: bool,
}

impl Upload {
    fn ended(&mut self, how: Uploaded) {
        self.told = true;
        self.metrics.uploaded(how, self.began.elapsed());
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.told {
            self.ended(Uploaded::GivenUp);
        }
    }
}

struct Arriving {
    staging: Box<dyn Staging>,
    upload: Upload,
}

impl Staging for Arriving {
    fn write(&mut self, bytes: Bytes) -> Answer<'_, ()> {
        self.upload.metrics.upload_grew(bytes.len());
        self.staging.write(bytes)
    }

    fn seal(self: Box<Self>) -> Answer<'static, Box<dyn Staged>> {
        Box::pin(async move {
            let Arriving { staging, upload } = *self;
            let staged = staging.seal().await?;
            Ok(Box::new(Arrived { staged, upload: tokio::sync::Mutex::new(upload) }) as Box<dyn Staged>)
        })
    }
}

struct Arrived {
    staged: Box<dyn Staged>,
    upload: tokio::sync::Mutex<Upload>,
}

impl Staged for Arrived {
    fn size(&self) -> u64 {
        self.staged.size()
    }

    fn digest(&self) -> Digest {
        self.staged.digest()
    }

    fn commit<'a>(&'a self, key: &'a str, metadata: Metadata) -> Answer<'a, Committed> {
        Box::pin(async move {
            let (mut upload, began) = (self.upload.lock().await, Instant::now());
            let committed = self.staged.commit(key, metadata).await;
            upload.metrics.answered("blobs", "commit", how(&committed), began.elapsed());
            match &committed {
                Ok(Committed::Created) => upload.ended(Uploaded::Stored),
                Ok(Committed::Exists(_)) => upload.ended(Uploaded::Existed),
                Err(_) => {}
            }
            committed
        })
    }
}

/// Counts the hosts again and again, until the house closes.
pub(super) async fn watch_hosts(fleet: Arc<dyn Fleet>, metrics: Arc<Metrics>, tasks: Tasks) {
    let mut tick = interval(HOSTS_SEEN_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = tasks.closing() => return,
            _ = tick.tick() => {}
        }
        // Hosts that cannot be looked up are told by the health of the registry.
        if let Ok(loads) = fleet.hosts().await {
            metrics.hosts_seen(&counted(&loads));
        }
    }
}

fn counted(loads: &[HostLoad]) -> Hosts {
    let mut hosts = Hosts { fill_min: f64::INFINITY, ..Hosts::default() };
    let (mut active, mut active_max) = (0.0, 0.0);
    for load in loads {
        match load {
            _ if !load.healthy => hosts.away += 1,
            _ if load.draining => hosts.draining += 1,
            _ if load.active >= load.active_max => hosts.full += 1,
            _ => hosts.open += 1,
        }
        if load.healthy && load.active_max > 0 {
            let fill = f64::from(load.active) / f64::from(load.active_max);
            (hosts.fill_min, hosts.fill_max) = (hosts.fill_min.min(fill), hosts.fill_max.max(fill));
            active += f64::from(load.active);
            active_max += f64::from(load.active_max);
        }
    }
    hosts.fill_min = hosts.fill_min.min(hosts.fill_max);
    hosts.fill_mean = if active_max > 0.0 { active / active_max } else { 0.0 };
    hosts
}
