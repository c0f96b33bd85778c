//! Instances: created once, found where they run, never shown to strangers, and gone for good when they are deleted.
//!
//! A newcomer's usual mistake is to trust a host with what was promised. The record says whose an instance is and where it
//! runs; it is written before a host is asked, so that whatever breaks in between leaves a trace that can be put in order.
//!
//! *Knows:* ownership, idempotence, placement, what may be shown. *Does not know:* how a host runs an agent.

mod attached;
mod configure;
mod create;
mod idle;
mod owed;
mod places;
mod record;
mod remove;
mod rounds;
mod rules;
mod upkeep;
mod view;

pub use self::{
    attached::ATTACHED_MAX,
    create::{Created, NewInstance},
    record::Instance,
    remove::{GRACE, GRACE_MAX, Removed},
    view::Shown,
};
/// What is said to and heard from instances, in the words of the fleet.
pub use portico_port::fleet::{
    Farewell, FileContent, FileEntry, FileList, Frame, LogEntry, LogLevel, LogQuery, Message, NewMessage, Role, Stop,
    Usage, Utf8, Window,
};

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use portico_base::{
    Clock, Context, Error, Incoming, Outgoing, Result,
    page::{Page, PageRequest},
    reason,
    tasks::Tasks,
};
use portico_port::{
    fleet::{At, Fleet, State, WorkspacePath, failure},
    records::Records,
};
use tokio::time::Instant as Moment;

use self::{
    create::Quota,
    places::Places,
    record::{Request, TENANT},
    upkeep::Orphan,
};
use super::{
    audit::Audit, deployments::Deployments, placement::Placement, secrets::Secrets, settings::Settings, table::Table,
};

/// How long a client that attaches waits for an instance to become ready.
const READY_PATIENCE: Duration = Duration::from_secs(10);
/// Pages of the store that one list looks through for a state that few instances are in.
const LIST_PAGES_MAX: usize = 10;
/// How long a list waits for hosts. What is not known by then is shown as unreachable.
const LIST_PATIENCE: Duration = Duration::from_secs(10);
/// Hosts that are asked at the same time for one list.
const HOSTS_ASKED_MAX: usize = 16;

/// What instances stand on.
pub struct Ground {
    /// Where they are written down.
    pub records: Arc<dyn Records>,
    /// Where they run.
    pub fleet: Arc<dyn Fleet>,
    /// What they run.
    pub deployments: Deployments,
    /// What they begin with.
    pub secrets: Secrets,
    /// What they are configured with.
    pub settings: Settings,
    /// The trail.
    pub audit: Audit,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// For what outlives a call.
    pub tasks: Tasks,
    /// Hears of every attempt to place an instance.
    pub told: Told,
    /// Which installation this is.
    pub installation: String,
}

/// How an attempt to place an instance on a host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It runs there.
    Placed,
    /// It does not, and another host is tried.
    Retried,
    /// It does not, and no other host is tried.
    Failed,
}

/// Hears of attempts.
pub type Told = Arc<dyn Fn(Attempt) + Send + Sync>;

/// All instances. Cheap to clone.
#[derive(Clone)]
pub struct Instances(Arc<Inner>);

struct Inner {
    ground: Ground,
    table: Table<Instance>,
    requests: Table<Request>,
    quotas: Table<Quota>,
    placement: Placement,
    /// What hosts ran at the last look that nothing is written down of.
    orphans: Mutex<HashSet<Orphan>>,
    /// Clients that are attached through this gateway, by instance.
    attached: Mutex<HashMap<String, u32>>,
    /// Where instances run, as it was a moment ago.
    places: Places,
}

impl Instances {
    /// The instances in these stores, on these hosts.
    pub fn new(ground: Ground) -> Instances {
        let records = Arc::clone(&ground.records);
        let (table, requests) = (Table::new(Arc::clone(&records)), Table::new(Arc::clone(&records)));
        let instances = Instances(Arc::new(Inner {
            ground,
            table,
            requests,
            quotas: Table::new(records),
            placement: Placement::default(),
            orphans: Mutex::default(),
            attached: Mutex::default(),
            places: Places::default(),
        }));
        let tasks = &instances.0.ground.tasks;
        tasks.spawn(rounds::run(
            Arc::downgrade(&instances.0),
            tasks.clone(),
            upkeep::ROUND_INTERVAL,
            "records of instances could not be held against their hosts",
            |inner| async move { inner.round(inner.ground.clock.now()).await },
        ));
        tasks.spawn(rounds::run(
            Arc::downgrade(&instances.0),
            tasks.clone(),
            owed::ROUND_INTERVAL,
            "hosts could not be told what was deleted while they were away",
            |inner| async move { inner.pay().await },
        ));
        let told = configure::run(Arc::downgrade(&instances.0), instances.0.ground.tasks.clone());
        instances.0.ground.tasks.spawn(told);
        instances
    }

    /// Holds every record against its host and scales down what nobody uses. Done every half minute by itself.
    ///
    /// # Errors
    /// When the store does not answer. What could not be done is done the next time.
    pub async fn keep_up(&self) -> Result<()> {
        self.0.round(self.0.ground.clock.now()).await
    }

    /// A page of the caller's instances, newest first; of every tenant for administrators. Without resource usage.
    pub async fn list(&self, cx: &Context, status: &str, page: &PageRequest) -> Result<Page<Shown>> {
        let tenant = (!cx.caller.is_admin()).then(|| cx.caller.tenant.to_string());
        let facet = tenant.as_deref().map(|tenant| (TENANT, tenant));
        let (wanted, mut after) = (State::parse(status), page.after.clone());
        let mut items = Vec::with_capacity(page.limit);
        let until = Moment::now() + LIST_PATIENCE;
        for _ in 0..LIST_PAGES_MAX {
            let part = PageRequest { limit: page.limit - items.len(), after };
            let found = self.0.table.page(facet, &part).await?;
            // A state is the host's to know, so it is asked before anything is left out.
            let living = found.items.into_iter().map(|stored| stored.value).filter(|instance| !instance.is_tombstone());
            let shown: Vec<_> = stream::iter(living)
                .map(|instance| self.0.shown_by(until, cx.now(), instance))
                .buffered(HOSTS_ASKED_MAX)
                .collect()
                .await;
            let fits = |shown: &Shown| status.is_empty() || State::parse(&shown.instance.status) == wanted;
            items.extend(shown.into_iter().filter(fits).map(Shown::without_usage));
            after = found.next;
            if after.is_none() || items.len() >= page.limit || Moment::now() >= until {
                break;
            }
        }
        Ok(Page { items, next: after })
    }

    /// Opens the native stream of an instance. Waits for it to become ready, and answers once the stream is open. What a
    /// host has kept of the frames after `since` comes first.
    ///
    /// # Errors
    /// `instance_not_found`, `instance_not_ready`, `instance_terminated`, and the host's failures.
    pub async fn attach(
        &self,
        cx: &Context,
        id: &str,
        since: Option<u64>,
        incoming: Incoming<Frame>,
    ) -> Result<Outgoing<Frame>> {
        let fleet = &self.0.ground.fleet;
        // It is written down, so a host that does not know it has lost it.
        let lost =
            |error: Error| if error.reason() == reason::INSTANCE_NOT_FOUND { failure::terminated() } else { error };
        let mut at = self.0.find(cx, id).await?;
        let place = attached::Place::take(&self.0, id)?;
        let mut settled = fleet.settled(&at, READY_PATIENCE).await.map_err(lost);
        if let Err(error) = settled {
            at = self.0.found_elsewhere(cx, at, error).await?;
            settled = fleet.settled(&at, READY_PATIENCE).await.map_err(lost);
        }
        match settled? {
            state if state.is_starting() => Err(failure::not_ready()),
            state if state.is_over() => Err(failure::terminated()),
            _ => Ok(place.held_by(fleet.attach(&at, since, incoming).await.map_err(lost)?)),
        }
    }

    /// Sends a message, once the instance is ready, without waiting for its answer. Answers the message's id.
    ///
    /// # Errors
    /// `validation_failed`, and those of [`Instances::attach`].
    pub async fn send(&self, cx: &Context, id: &str, message: NewMessage) -> Result<String> {
        rules::message(&message)?;
        let send = || {
            self.0.ask(cx, id, |fleet, at| {
                let message = message.clone();
                async move { fleet.send(&at, message).await }
            })
        };
        match send().await {
            // Nothing was taken. Whoever has just started it need not know that it is on its way.
            Err(error) if error.reason() == reason::INSTANCE_NOT_READY => {}
            told => return told,
        }
        self.0.ask(cx, id, |fleet, at| async move { fleet.settled(&at, READY_PATIENCE).await }).await?;
        send().await
    }

    /// Messages that passed, oldest first.
    pub async fn messages(&self, cx: &Context, id: &str, window: Window) -> Result<Vec<Message>> {
        self.0.ask(cx, id, |fleet, at| async move { fleet.messages(&at, window).await }).await
    }

    /// Log entries, oldest first.
    pub async fn logs(&self, cx: &Context, id: &str, query: LogQuery) -> Result<Vec<LogEntry>> {
        self.0.ask(cx, id, |fleet, at| async move { fleet.logs(&at, query).await }).await
    }

    /// Log entries after a sequence number as they come, until the instance ends.
    pub async fn follow_logs(&self, cx: &Context, id: &str, level: LogLevel, after: u64) -> Result<Outgoing<LogEntry>> {
        self.0.ask(cx, id, |fleet, at| async move { fleet.follow_logs(&at, level, after).await }).await
    }

    /// Files and folders of the workspace, in order of their paths.
    pub async fn files(&self, cx: &Context, id: &str, folder: &str, depth: u32) -> Result<FileList> {
        let folder = WorkspacePath::folder(folder)?;
        let asked = self.0.ask(cx, id, |fleet, at| {
            let folder = folder.clone();
            async move { fleet.files(&at, &folder, depth).await }
        });
        asked.await
    }

    /// A file of the workspace.
    pub async fn read_file(&self, cx: &Context, id: &str, path: &str) -> Result<FileContent> {
        let path = WorkspacePath::parse(path)?;
        let asked = self.0.ask(cx, id, |fleet, at| {
            let path = path.clone();
            async move { fleet.read_file(&at, &path).await }
        });
        asked.await
    }

    /// Writes a file into the workspace, whole or not at all. Answers its size.
    pub async fn write_file(&self, cx: &Context, id: &str, path: &str, content: Incoming<Bytes>) -> Result<u64> {
        let path = WorkspacePath::parse(path)?;
        // What is read once cannot be sent twice, so this goes where the record says.
        let at = self.0.at(cx, id).await?;
        let written = match self.0.ground.fleet.write_file(&at, &path, rules::bounded(content)).await {
            Err(error) => Err(self.0.missing(cx, id, error).await),
            written => written,
        };
        self.0.ground.audit.note(cx, "instance.write_file", id, &written);
        written
    }
}

impl Inner {
    /// The instance, if there is one and the caller may know of it.
    async fn visible(&self, cx: &Context, id: &str) -> Result<super::table::Stored<Instance>> {
        let found = self.table.get(id).await?;
        found.filter(|stored| cx.caller.owns(&stored.value.tenant())).ok_or_else(|| not_found(id))
    }

    /// Asks the host of an instance of the caller's; once more when it turns out to run elsewhere.
    async fn ask<T, F: Future<Output = Result<T>>>(
        &self,
        cx: &Context,
        id: &str,
        ask: impl Fn(Arc<dyn Fleet>, At) -> F,
    ) -> Result<T> {
        let at = self.find(cx, id).await?;
        let error = match ask(Arc::clone(&self.ground.fleet), at.clone()).await {
            Err(error) => error,
            told => return told,
        };
        let told = match self.found_elsewhere(cx, at, error).await {
            Ok(at) => ask(Arc::clone(&self.ground.fleet), at).await,
            Err(error) => Err(error),
        };
        match told {
            Err(error) => Err(self.missing(cx, id, error).await),
            told => told,
        }
    }

    /// What an error of its host means. An instance is written down, so a host that does not know it has lost it, or does not
    /// have it yet.
    async fn missing(&self, cx: &Context, id: &str, error: Error) -> Error {
        if error.reason() != reason::INSTANCE_NOT_FOUND {
            return error;
        }
        match self.visible(cx, id).await {
            Ok(stored) if stored.value.is_tombstone() => error,
            Ok(stored) if State::parse(&stored.value.status) == State::Deploying => failure::not_ready(),
            Ok(_) => failure::terminated(),
            Err(_) => error,
        }
    }

    /// Where an instance of the caller's runs, as it is remembered or written down.
    async fn find(&self, cx: &Context, id: &str) -> Result<At> {
        match self.places.find(cx, id) {
            Some(at) => Ok(at),
            None => self.at(cx, id).await,
        }
    }

    /// Where an instance of the caller's runs, as it is written down.
    async fn at(&self, cx: &Context, id: &str) -> Result<At> {
        let instance = self.visible(cx, id).await?.value;
        if instance.is_tombstone() {
            return Err(not_found(id));
        }
        self.places.note(&instance);
        instance.at().map(|at| at.asked_by(cx)).ok_or_else(failure::not_ready)
    }

    /// Where an instance runs after all, when the host that was asked does not hold it or cannot be reached, and has done
    /// nothing.
    ///
    /// # Errors
    /// The host's, when the record names no other one; `instance_not_found` when the instance was deleted meanwhile.
    async fn found_elsewhere(&self, cx: &Context, asked: At, error: Error) -> Result<At> {
        self.places.forget(&asked.instance);
        let may_be_elsewhere = matches!(
            error.reason(),
            reason::INSTANCE_NOT_FOUND | reason::INSTANCE_TERMINATED | reason::COORDINATOR_UNAVAILABLE
        );
        if !may_be_elsewhere {
            return Err(error);
        }
        let written = self.at(cx, &asked.instance).await?;
        if written.host == asked.host { Err(error) } else { Ok(written) }
    }
}

/// The one answer for what never was, is gone, or is a stranger's.
fn not_found(id: &str) -> Error {
    Error::not_found(reason::INSTANCE_NOT_FOUND, "instance", id)
}
