//! Records and hosts are held against each other: what a host lost has failed, what runs unrecorded is stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use portico::{
    base::{Error, Incoming, Outgoing, Result, Timestamp, health::Health},
    port::{
        Answer,
        fleet::{
            At, Bundle, Cached, FileContent, FileList, Fleet, Frame, HostLoad, Incarnation, Info, LogEntry, LogLevel,
            LogQuery, Message, NewMessage, Role, Running, Start, State, Stop, Window, WorkspacePath, failure,
        },
        records::{Expect, Record, Write},
    },
};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use super::{
    Ground, NOW, PATIENCE,
    gateways::noted,
    instances::{House, INSTALLATION},
    time_stands,
};

/// Longer ago than any removal takes.
const LONG_AGO: Timestamp = Timestamp(NOW.0 - 600_000);

/// A host that runs what it is told to run, and notes what it was told to stop.
#[derive(Default)]
pub(super) struct PaperHost {
    pub(super) running: Mutex<BTreeMap<String, State>>,
    /// Which one of its id runs, where it was told.
    pub(super) incarnations: Mutex<BTreeMap<String, String>>,
    pub(super) stopped: Mutex<Vec<String>>,
    pub(super) away: Mutex<bool>,
    /// How often it was asked what it runs.
    asked: Mutex<usize>,
    /// Where messages can be asked for, as `host/instance`.
    pub(super) places: Mutex<BTreeSet<String>>,
    /// Whether it does not say what it runs.
    pub(super) silent: Mutex<bool>,
    /// Starting takes until there is a permit; without such a thing it is not done here.
    pub(super) begins: Mutex<Option<Arc<Semaphore>>>,
    /// What it was told to start.
    pub(super) begun: Mutex<Vec<String>>,
    /// Stopping takes until there is a permit, when there is such a thing.
    pub(super) until: Mutex<Option<Arc<Semaphore>>>,
}

impl PaperHost {
    fn here(&self) -> Result<()> {
        if *self.away.lock().unwrap() { Err(failure::unavailable("away")) } else { Ok(()) }
    }

    fn which(&self, id: &str) -> Incarnation {
        self.incarnations.lock().unwrap().get(id).cloned().unwrap_or_default().into()
    }
}

impl Fleet for PaperHost {
    fn hosts(&self) -> Answer<'_, Arc<[HostLoad]>> {
        let healthy = self.here().is_ok();
        let load = HostLoad {
            id: "paper".to_owned(),
            epoch: "second".to_owned(),
            active: u32::try_from(self.running.lock().unwrap().len()).unwrap(),
            active_max: 9,
            cpu: None,
            memory: None,
            disk_free_bytes: None,
            draining: false,
            healthy,
            cached: Cached::default(),
            reserved: 0,
            age: Duration::ZERO,
        };
        Box::pin(async move { Ok(Arc::from([load])) })
    }

    fn running<'a>(&'a self, _host: &'a str) -> Answer<'a, Vec<Running>> {
        Box::pin(async {
            *self.asked.lock().unwrap() += 1;
            self.here()?;
            if *self.silent.lock().unwrap() {
                return Err(failure::timeout());
            }
            let running = self.running.lock().unwrap();
            let said = running.iter().map(|(id, state)| Running {
                instance: id.clone(),
                state: state.clone(),
                deployment_id: String::new(),
                installation: if id == "theirs" { "there" } else { INSTALLATION }.to_owned(),
                incarnation: self.which(id),
            });
            Ok(said.collect())
        })
    }

    fn info<'a>(&'a self, at: &'a At) -> Answer<'a, Info> {
        Box::pin(async {
            self.here()?;
            let state = self.running.lock().unwrap().get(&at.instance).cloned();
            let state = state.ok_or_else(|| failure::lost(&at.instance))?;
            let incarnation = self.which(&at.instance);
            at.means(&incarnation)?;
            Ok(Info { state, note: None, usage: None, chronicle: None, last_activity_at: None, incarnation })
        })
    }

    fn stop<'a>(&'a self, at: &'a At, _stop: Stop) -> Answer<'a, ()> {
        Box::pin(async {
            self.here()?;
            self.stopped.lock().unwrap().push(at.instance.clone());
            let until = self.until.lock().unwrap().clone();
            if let Some(until) = until {
                until.acquire().await.unwrap().forget();
            }
            at.means(&self.which(&at.instance))?;
            let known = self.running.lock().unwrap().remove(&at.instance);
            known.map(|_| ()).ok_or_else(|| failure::lost(&at.instance))
        })
    }

    fn deploy<'a>(&'a self, _host: &'a str, _bundle: &'a Bundle) -> Answer<'a, ()> {
        nothing()
    }

    fn create<'a>(&'a self, _host: &'a str, start: Start) -> Answer<'a, Info> {
        let begins = self.begins.lock().unwrap().clone();
        let Some(begins) = begins else { return nothing() };
        Box::pin(async move {
            let (id, incarnation) = (start.instance, start.incarnation);
            self.begun.lock().unwrap().push(id.clone());
            begins.acquire().await.unwrap().forget();
            self.incarnations.lock().unwrap().insert(id.clone(), incarnation.clone().into());
            self.running.lock().unwrap().insert(id, State::Ready);
            let state = State::Ready;
            Ok(Info { state, note: None, usage: None, chronicle: None, last_activity_at: None, incarnation })
        })
    }

    fn settled<'a>(&'a self, _at: &'a At, _patience: Duration) -> Answer<'a, State> {
        nothing()
    }

    fn send<'a>(&'a self, _at: &'a At, _message: NewMessage) -> Answer<'a, String> {
        nothing()
    }

    fn messages<'a>(&'a self, at: &'a At, _window: Window) -> Answer<'a, Vec<Message>> {
        Box::pin(async {
            self.here()?;
            let is_there = self.places.lock().unwrap().contains(&format!("{}/{}", at.host, at.instance));
            let said = Message { id: String::new(), role: Role::User, text: at.host.clone(), created_at: NOW };
            if is_there { Ok(vec![said]) } else { Err(failure::lost(&at.instance)) }
        })
    }

    fn logs<'a>(&'a self, _at: &'a At, _query: LogQuery) -> Answer<'a, Vec<LogEntry>> {
        nothing()
    }

    fn follow_logs<'a>(&'a self, _at: &'a At, _level: LogLevel, _after: u64) -> Answer<'a, Outgoing<LogEntry>> {
        nothing()
    }

    fn files<'a>(&'a self, _at: &'a At, _folder: &'a WorkspacePath, _depth: u32) -> Answer<'a, FileList> {
        nothing()
    }

    fn read_file<'a>(&'a self, _at: &'a At, _path: &'a WorkspacePath) -> Answer<'a, FileContent> {
        nothing()
    }

    fn write_file<'a>(&'a self, _at: &'a At, _path: &'a WorkspacePath, _content: Incoming<Bytes>) -> Answer<'a, u64> {
        nothing()
    }

    fn attach<'a>(
        &'a self,
        _at: &'a At,
        _since: Option<u64>,
        _incoming: Incoming<Frame>,
    ) -> Answer<'a, Outgoing<Frame>> {
        nothing()
    }

    fn configure<'a>(&'a self, _at: &'a At, _changes: Map<String, Value>) -> Answer<'a, ()> {
        nothing()
    }

    fn health(&self) -> Answer<'_, Health> {
        Box::pin(async { Ok(Health::OK) })
    }
}

fn nothing<'a, T: 'a>() -> Answer<'a, T> {
    Box::pin(async { Err(Error::internal("a host on paper does not do that")) })
}

/// Writes an instance down as a gateway of another day has.
pub(super) async fn written(ground: &Ground, id: &str, status: &str, owed: bool, at: Timestamp) {
    let standing = match status {
        "deploying" => "deploying",
        "terminated" => "deleted",
        _ => "live",
    };
    let body = json!({
        "id": id, "tenant_id": "acme", "key_id": null, "deployment_id": "echo:1.0.0@00000000", "agent_type": "echo",
        "version": "1.0.0", "coordinator_id": "paper", "epoch": "first", "status": status, "config": {},
        "chronicle": null, "fingerprint": "", "created_at": at, "updated_at": at,
        "deleted_at": owed.then_some(at), "expires_at": null, "owed": owed,
    });
    let mut facets = vec![("tenant".into(), "acme".to_owned()), ("standing".into(), standing.to_owned())];
    if owed {
        facets.push(("owed".into(), "yes".to_owned()));
    }
    let record =
        Record { id: id.to_owned(), version: 0, sort: id.to_owned(), facets, expires_at: None, body: body.to_string() };
    ground.records.commit(vec![Write::Put { collection: "instances", record, expect: Expect::Absent }]).await.unwrap();
}

pub(super) async fn field(ground: &Ground, id: &str, name: &str) -> Value {
    let record = ground.records.get("instances", id).await.unwrap();
    record.map_or(Value::Null, |record| serde_json::from_str::<Value>(&record.body).unwrap()[name].clone())
}

#[tokio::test(start_paused = true)]
async fn what_a_host_lost_has_failed_what_survived_is_of_its_new_epoch_and_what_nobody_wrote_down_is_stopped() {
    let host = Arc::new(PaperHost::default());
    for id in ["survived", "stuck-and-there", "unknown", "owed", "theirs", "replaced"] {
        host.running.lock().unwrap().insert(id.to_owned(), State::Ready);
    }
    for id in ["survived", "replaced"] {
        host.incarnations.lock().unwrap().insert(id.to_owned(), "older".to_owned());
    }
    *host.away.lock().unwrap() = true;
    let ground = Ground::new();
    let (now, long_ago) = (NOW, NOW.minus(Duration::from_secs(600)));
    for (id, status, owed, at) in [
        ("survived", "ready", false, now),
        ("lost", "running", false, now),
        ("stuck-and-there", "deploying", false, long_ago),
        ("stuck-and-lost", "deploying", false, long_ago),
        ("on-its-way", "deploying", false, now),
        ("owed", "terminated", true, now),
        ("replaced", "ready", false, now),
    ] {
        written(&ground, id, status, owed, at).await;
    }
    // Its host runs another one of this id, which is written down nowhere.
    noted(&ground, "replaced", &[("incarnation", json!("newer"))]).await;
    let fleet: Arc<dyn Fleet> = Arc::clone(&host) as _;
    let _held = time_stands();
    let house = House::over(ground, fleet).await;
    let ground = &house.ground;

    // A host that is away says nothing, and nothing is concluded from that.
    eventually("the host was asked", async || *host.asked.lock().unwrap() >= 1).await;
    tokio::time::advance(Duration::from_secs(31)).await;
    eventually("the host was asked twice", async || *host.asked.lock().unwrap() >= 2).await;
    assert_eq!(field(ground, "lost", "status").await, "running");
    assert!(host.stopped.lock().unwrap().is_empty());

    *host.away.lock().unwrap() = false;
    tokio::time::advance(Duration::from_secs(31)).await;
    for id in ["lost", "replaced"] {
        eventually("what is lost has failed", async || field(ground, id, "status").await == "failed").await;
    }
    eventually("what survived is of the new epoch", async || field(ground, "survived", "epoch").await == "second")
        .await;
    eventually("what is there is ready", async || field(ground, "stuck-and-there", "status").await == "ready").await;
    eventually("what was stuck is gone", async || field(ground, "stuck-and-lost", "status").await == Value::Null).await;
    eventually("the debt is paid", async || field(ground, "owed", "owed").await == false).await;
    assert_eq!(field(ground, "on-its-way", "status").await, "deploying");
    assert_eq!(*host.stopped.lock().unwrap(), ["owed"], "an orphan is stopped when it is still one at the next look");

    tokio::time::advance(Duration::from_secs(31)).await;
    eventually("the orphans are stopped", async || host.stopped.lock().unwrap().len() == 3).await;
    let running: Vec<String> = host.running.lock().unwrap().keys().cloned().collect();
    assert_eq!(running, ["stuck-and-there", "survived", "theirs"], "what another installation started is its own");
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_its_gateway_did_not_end_is_ended_by_another() {
    let host = Arc::new(PaperHost::default());
    let ground = Ground::new();
    for (id, at) in [("leaving", NOW), ("left", NOW.minus(Duration::from_secs(600)))] {
        host.running.lock().unwrap().insert(id.to_owned(), State::Ready);
        written(&ground, id, "shutting_down", false, at).await;
    }
    let fleet: Arc<dyn Fleet> = Arc::clone(&host) as _;
    let _held = time_stands();
    let house = House::over(ground, fleet).await;
    eventually("it has ended", async || field(&house.ground, "left", "status").await == "terminated").await;
    assert_eq!(*host.stopped.lock().unwrap(), ["left"]);
    assert_eq!(field(&house.ground, "leaving", "status").await, "shutting_down", "somebody ends it just now");
}

#[tokio::test(start_paused = true)]
async fn scaling_down_is_ended_whatever_the_settings_say_by_now_and_whether_its_host_still_runs_it() {
    let host = Arc::new(PaperHost::default());
    let ground = Ground::new();
    for (id, at) in [("leaving", NOW), ("stopped", LONG_AGO), ("not-yet", LONG_AGO)] {
        written(&ground, id, "scaling_down", false, at).await;
    }
    host.running.lock().unwrap().insert("not-yet".to_owned(), State::Ready);
    // One that nobody can read keeps nobody from looking after the others.
    let facets = vec![("standing".into(), "live".to_owned())];
    let (id, sort, body) = ("odd".to_owned(), "~".to_owned(), "{".to_owned());
    let record = Record { id, version: 0, sort, facets, expires_at: None, body };
    let odd = Write::Put { collection: "instances", record, expect: Expect::Absent };
    ground.records.commit(vec![odd]).await.unwrap();
    host.running.lock().unwrap().insert("odd".to_owned(), State::Ready);
    let fleet: Arc<dyn Fleet> = Arc::clone(&host) as _;
    let _held = time_stands();
    let house = House::over(ground, fleet).await;
    for id in ["stopped", "not-yet"] {
        eventually("it has ended", async || field(&house.ground, id, "status").await == "terminated").await;
    }
    assert_eq!(field(&house.ground, "leaving", "status").await, "scaling_down", "somebody ends it just now");
    assert_eq!(host.running.lock().unwrap().keys().collect::<Vec<_>>(), ["odd"], "what cannot be read may be there");
}

/// Asks until it is so. Time stands, but the threads of the store work.
pub(super) async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "not so, however often it is asked: {what}");
        tokio::task::yield_now().await;
    }
}
