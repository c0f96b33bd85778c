//! Instances: created once, shown without their secrets, invisible to strangers, gone when they are deleted. They run the
//! echo agent, for real.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use portico::{
    backend::{
        disk::Disk,
        local_fleet::{Config, Limits, LocalFleet},
        sealer::Keyring,
    },
    base::{
        Caller, Context, Error, IdentityId, Outgoing, Reason, Result, Secret, TenantId,
        caller::{Proof, Role},
        page::PageRequest,
        reason,
    },
    domain::{
        deployments::{self, Deployments, Piece},
        instances::{
            self, ATTACHED_MAX, Created, Frame, Instances, LogLevel, LogQuery, NewInstance, NewMessage, Stop, Window,
        },
        secrets::{Change, Mode, Secrets},
        settings::{self, Settings},
    },
    port::{
        blobs::Blobs,
        fleet::{At, Fleet},
        records::{Expect, Record, Write},
    },
};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::{Ground, PATIENCE};

const ALL: PageRequest = PageRequest { limit: 100, after: None };
/// What the houses here are called.
pub(super) const INSTALLATION: &str = "here";

/// Instances over real stores and the embedded fleet.
pub(super) struct House {
    pub(super) ground: Ground,
    deployments: Deployments,
    pub(super) instances: Instances,
    fleet: Arc<dyn Fleet>,
    secrets: Secrets,
    settings: Settings,
    _data: tempfile::TempDir,
}

impl House {
    /// With the echo agent of this repository deployed for everyone.
    async fn new() -> House {
        let ground = Ground::new();
        let data = tempfile::tempdir().unwrap();
        let blobs: Arc<dyn Blobs> = Arc::new(Disk::open(data.path()).unwrap());
        let config = Config {
            root: data.path().join("fleet"),
            path: "/usr/local/bin:/usr/bin:/bin".to_owned(),
            instances_max: 8,
            limits: Limits::default(),
        };
        let clock = Arc::new(ground.clock.clone());
        let fleet: Arc<dyn Fleet> =
            Arc::new(LocalFleet::open(config, Arc::clone(&blobs), clock, ground.tasks.clone()).unwrap());
        let house = House::on(ground, data, blobs, fleet).await;
        house.upload("admin", "echo").await;
        house
    }

    /// Deploys the echo agent of this repository under this name.
    pub(super) async fn upload(&self, who: &str, agent_type: &str) {
        let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/agents/echo");
        let packed = Command::new("tar").arg("-cz").arg("-C").arg(agent).arg(".").output().unwrap();
        let pieces = [
            Piece { agent_type: agent_type.to_owned(), version: "1.0.0".to_owned(), ..Piece::default() },
            Piece { file: packed.stdout.into(), ..Piece::default() },
        ];
        let pieces = Box::pin(stream::iter(pieces.map(Ok)));
        self.deployments.upload(&self.call(who), pieces).await.unwrap();
    }

    /// Over these records and this fleet, with nothing deployed.
    pub(super) async fn over(ground: Ground, fleet: Arc<dyn Fleet>) -> House {
        let data = tempfile::tempdir().unwrap();
        let blobs: Arc<dyn Blobs> = Arc::new(Disk::open(data.path()).unwrap());
        House::on(ground, data, blobs, fleet).await
    }

    async fn on(ground: Ground, data: tempfile::TempDir, blobs: Arc<dyn Blobs>, fleet: Arc<dyn Fleet>) -> House {
        let ring = Keyring::parse(&Secret::new("07".repeat(32)), &[]).unwrap();
        let secrets = Secrets::new(Arc::clone(&ground.records), Arc::new(ring), ground.audit.clone());
        let settings = ground.settings().await;
        let stands_on = deployments::Ground {
            records: Arc::clone(&ground.records),
            blobs,
            hosts: None,
            settings: settings.clone(),
            audit: ground.audit.clone(),
            tasks: ground.tasks.clone(),
        };
        let deployments = Deployments::new(stands_on, deployments::Config::default());
        let instances = Instances::new(instances::Ground {
            records: Arc::clone(&ground.records),
            fleet: Arc::clone(&fleet),
            deployments: deployments.clone(),
            secrets: secrets.clone(),
            settings: settings.clone(),
            audit: ground.audit.clone(),
            clock: Arc::new(ground.clock.clone()),
            tasks: ground.tasks.clone(),
            told: Arc::new(|_| {}),
            installation: INSTALLATION.to_owned(),
        });
        House { ground, instances, fleet, deployments, secrets, settings, _data: data }
    }

    pub(super) fn call(&self, who: &str) -> Context {
        self.call_with(who, &[])
    }

    pub(super) fn call_with(&self, who: &str, headers: &[(&'static str, &str)]) -> Context {
        let tenant = if who == "admin" { TenantId::shared() } else { TenantId::new(who) };
        let role = if who == "admin" { Role::Admin } else { Role::Tenant };
        let proof = Proof::Key(format!("key_{who}").into());
        let caller = Caller { identity: IdentityId::new(who), tenant, role, permissions: Arc::from([]), proof };
        self.ground.call(&caller, headers)
    }

    async fn create(&self, who: &str, new: NewInstance) -> Result<Created> {
        self.instances.create(&self.call(who), new).await
    }

    async fn attach(&self, who: &str, id: &str) -> Result<Client> {
        let (to_agent, incoming) = mpsc::channel(16);
        let incoming = stream::unfold(incoming, |mut frames| async { Some((frames.recv().await?, frames)) });
        let from_agent = self.instances.attach(&self.call(who), id, None, Box::pin(incoming)).await?;
        Ok(Client { to_agent, from_agent })
    }

    /// Writes an instance back as a gateway leaves it that dies before it has heard what the host did.
    pub(super) async fn as_a_gateway_leaves_it(&self, id: &str) {
        let record = self.ground.records.get("instances", id).await.unwrap().unwrap();
        let mut body: Value = serde_json::from_str(&record.body).unwrap();
        body["status"] = json!("deploying");
        let facets = vec![("tenant".into(), "acme".to_owned()), ("standing".into(), "deploying".to_owned())];
        let record = Record { facets, body: body.to_string(), ..record };
        let put = Write::Put { collection: "instances", record, expect: Expect::Anything };
        self.ground.records.commit(vec![put]).await.unwrap();
    }

    async fn status(&self, who: &str, id: &str) -> String {
        self.instances.get(&self.call(who), id).await.unwrap().instance.status
    }
}

/// A client of the native stream.
struct Client {
    to_agent: mpsc::Sender<Result<Frame>>,
    from_agent: Outgoing<Frame>,
}

impl Client {
    /// Says something and answers the types and texts of the frames up to the answer.
    async fn ask(&mut self, text: &str) -> Vec<String> {
        let frame = json!({"type": "process_message", "content": {"text": text, "messages": []}}).to_string();
        self.to_agent.send(Ok(Frame::Text(frame.into()))).await.unwrap();
        let mut heard = Vec::new();
        loop {
            let next = tokio::time::timeout(PATIENCE, self.from_agent.next()).await.unwrap().unwrap().unwrap();
            let Frame::Text(text) = next else { panic!("is text") };
            let frame: Value = serde_json::from_str(text.as_str()).unwrap();
            let (kind, text) = (frame["type"].as_str().unwrap(), frame["content"]["text"].as_str().unwrap_or_default());
            heard.push(format!("{kind} {text}").trim_end().to_owned());
            if ["complete", "error"].contains(&kind) {
                return heard;
            }
        }
    }

    async fn end(mut self) -> Reason {
        loop {
            match tokio::time::timeout(PATIENCE, self.from_agent.next()).await.unwrap() {
                Some(Ok(_)) => {}
                ended => return ended.unwrap().unwrap_err().reason(),
            }
        }
    }
}

pub(super) fn echo(agent_id: &str) -> NewInstance {
    NewInstance { agent_type: "echo".to_owned(), agent_id: agent_id.to_owned(), ..NewInstance::default() }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

pub(super) fn reason_of<T>(result: Result<T>) -> Reason {
    result.map(|_| ()).unwrap_err().reason()
}

#[tokio::test]
async fn an_instance_lives_from_create_to_delete() {
    let house = House::new().await;
    let created = house.create("acme", echo("")).await.unwrap().instance;
    assert!(created.id.starts_with("agent_") && created.deployment_id.starts_with("echo:1.0.0@"));
    assert_eq!((created.coordinator_id.as_deref(), created.tenant_id.as_str()), (Some("local"), "acme"));

    let mut client = house.attach("acme", &created.id).await.unwrap();
    let heard = client.ask("hello world").await;
    assert_eq!(heard, ["created", "update hello", "update world", "complete hello world"]);
    let shown = house.instances.get(&house.call("acme"), &created.id).await.unwrap();
    assert_eq!((shown.instance.status.as_str(), shown.stale), ("ready", false));
    assert!(shown.usage.unwrap().memory_bytes > 0 && shown.last_activity_at.is_some());
    let listed = house.instances.list(&house.call("acme"), "ready", &ALL).await.unwrap().items;
    assert_eq!(listed.iter().map(|shown| shown.instance.id.as_str()).collect::<Vec<_>>(), [created.id.as_str()]);
    assert!(house.instances.list(&house.call("acme"), "failed", &ALL).await.unwrap().items.is_empty());

    let message = NewMessage { text: "quietly".to_owned(), messages: Vec::new() };
    house.instances.send(&house.call("acme"), &created.id, message).await.unwrap();
    assert_eq!(client.ask("again").await.last().unwrap(), "complete quietly");
    let window = Window { offset: 0, limit: 100 };
    let said = house.instances.messages(&house.call("acme"), &created.id, window).await.unwrap();
    assert_eq!(said[0].text, "hello world");
    let query = LogQuery { level: LogLevel::Info, offset: 0, limit: 100 };
    let logged = house.instances.logs(&house.call("acme"), &created.id, query).await.unwrap();
    assert!(logged.iter().any(|entry| entry.message == format!("{} is here", created.id)));

    let stop = Stop::Within(PATIENCE);
    house.instances.remove(&house.call("acme"), &created.id, stop).await.unwrap();
    assert_eq!(client.end().await, reason::INSTANCE_TERMINATED);
    let cx = house.call("acme");
    assert_eq!(reason_of(house.instances.get(&cx, &created.id).await), reason::INSTANCE_NOT_FOUND);
    assert_eq!(reason_of(house.instances.remove(&cx, &created.id, stop).await), reason::INSTANCE_NOT_FOUND);
    assert!(house.instances.list(&cx, "", &ALL).await.unwrap().items.is_empty());
    assert_eq!(house.fleet.hosts().await.unwrap()[0].active, 0);
}

#[tokio::test]
async fn a_stranger_learns_nothing() {
    let house = House::new().await;
    house.create("acme", echo("agent_1")).await.unwrap();
    let (cx, id) = (house.call("other"), "agent_1");
    let it = &house.instances;
    let message = NewMessage { text: "hello".to_owned(), messages: Vec::new() };
    let content = stream::iter([Ok(Bytes::from("x"))]);
    let window = Window { offset: 0, limit: 1 };
    let query = LogQuery { level: LogLevel::Debug, offset: 0, limit: 1 };
    let refusals = [
        reason_of(it.get(&cx, id).await),
        reason_of(it.remove(&cx, id, Stop::Now).await),
        reason_of(it.send(&cx, id, message).await),
        reason_of(it.messages(&cx, id, window).await),
        reason_of(it.logs(&cx, id, query).await),
        reason_of(it.follow_logs(&cx, id, LogLevel::Debug, 0).await),
        reason_of(it.files(&cx, id, "", 1).await),
        reason_of(it.read_file(&cx, id, "a").await),
        reason_of(it.write_file(&cx, id, "a", Box::pin(content)).await),
        reason_of(house.attach("other", id).await),
    ];
    assert_eq!(refusals, [reason::INSTANCE_NOT_FOUND; 10]);
    assert!(it.list(&cx, "", &ALL).await.unwrap().items.is_empty());
    assert_eq!(reason_of(house.create("other", echo(id)).await), reason::INSTANCE_ID_CONFLICT);
    assert_eq!(it.list(&house.call("admin"), "", &ALL).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn defaults_and_stored_secrets_lie_under_the_request_and_no_secret_is_shown() {
    let house = House::new().await;
    let cx = house.call("acme");
    let stored =
        Change { mode: Mode::Replace, values: BTreeMap::from([("voice".to_owned(), Some(Secret::new("low")))]) };
    house.secrets.set(&cx, "echo", "", stored).await.unwrap();
    let defaults = json!({"defaults": {"model": "small", "max_tokens": 64_000}});
    house.settings.update(&house.call("admin"), object(defaults), settings::Mode::Merge).await.unwrap();
    let new = NewInstance {
        config: object(json!({"model": "large", "voice": "low", "ensemble_api_key": "ens_1", "deep": {"token": "t"}})),
        secrets: BTreeMap::from([("ensemble_api_key".to_owned(), Secret::new("ens_1"))]),
        ..echo("agent_1")
    };
    house.create("acme", new).await.unwrap();
    let shown = house.instances.get(&cx, "agent_1").await.unwrap().instance;
    let expected = json!({
        "model": "large", "max_tokens": 64_000, "voice": "***", "ensemble_api_key": "***", "deep": {"token": "***"},
    });
    assert_eq!(Value::Object(shown.config), expected);
    let record = house.ground.records.get("instances", "agent_1").await.unwrap().unwrap();
    assert!(!record.body.contains("ens_1") && !record.body.contains("low"), "{}", record.body);
}

#[tokio::test]
async fn a_tenants_bundle_is_given_its_owners_secrets_and_never_the_shared_ones_whoever_starts_it() {
    let house = House::new().await;
    house.upload("acme", "support").await;
    for (who, name) in [("admin", "theirs"), ("acme", "own")] {
        let values = BTreeMap::from([(name.to_owned(), Some(Secret::new("hidden")))]);
        house.secrets.set(&house.call(who), "support", "", Change { mode: Mode::Replace, values }).await.unwrap();
    }
    // What the agent is given as a secret is not shown in its configuration.
    let config = object(json!({"theirs": "open", "own": "open"}));
    for who in ["admin", "acme"] {
        let new = NewInstance { agent_type: "support".to_owned(), config: config.clone(), ..echo(who) };
        let shown = house.create(who, new).await.unwrap().instance.config;
        assert_eq!(Value::Object(shown), json!({"theirs": "open", "own": "***"}), "started by {who}");
    }
}

#[tokio::test]
async fn a_running_agent_is_told_what_has_changed_for_it() {
    let house = House::new().await;
    let new = NewInstance { config: object(json!({"model": "mine"})), ..echo("agent_1") };
    house.create("acme", new).await.unwrap();
    house.attach("acme", "agent_1").await.unwrap();
    let cx = house.call("acme");
    let mut log = house.instances.follow_logs(&cx, "agent_1", LogLevel::Info, 0).await.unwrap();
    let patch = json!({"defaults": {"model": "theirs", "temperature": 0.5}});
    house.settings.update(&house.call("admin"), object(patch), settings::Mode::Merge).await.unwrap();
    let told = async { while log.next().await.unwrap().unwrap().message != "got config_update" {} };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
    let shown = house.instances.get(&cx, "agent_1").await.unwrap().instance.config;
    assert_eq!(Value::Object(shown), json!({"model": "mine", "temperature": 0.5}));
}

#[tokio::test]
async fn creating_twice_creates_once() {
    let house = House::new().await;
    let cx = house.call_with("acme", &[("idempotency-key", "once")]);
    let first = house.instances.create(&cx, echo("")).await.unwrap();
    let again = house.instances.create(&cx, echo("")).await.unwrap();
    assert_eq!((first.existing, again.existing, &first.instance.id), (false, true, &again.instance.id));
    let other = NewInstance { config: object(json!({"a": 1})), ..echo("") };
    assert_eq!(reason_of(house.instances.create(&cx, other).await), reason::IDEMPOTENCY_CONFLICT);
    let elsewhere = house.call_with("other", &[("idempotency-key", "once")]);
    assert!(!house.instances.create(&elsewhere, echo("")).await.unwrap().existing);

    house.create("acme", echo("agent_1")).await.unwrap();
    assert!(house.create("acme", echo("agent_1")).await.unwrap().existing);
    let other = NewInstance { config: object(json!({"a": 1})), ..echo("agent_1") };
    assert_eq!(reason_of(house.create("acme", other).await), reason::INSTANCE_ID_CONFLICT);
    house.instances.remove(&house.call("acme"), "agent_1", Stop::Now).await.unwrap();
    assert!(!house.create("acme", echo("agent_1")).await.unwrap().existing, "a deleted id is free");
}

#[tokio::test]
async fn a_repetition_after_the_delete_is_told_of_the_stopped_instance_for_a_day_and_starts_no_other() {
    let house = House::new().await;
    let cx = || house.call_with("acme", &[("idempotency-key", "once")]);
    let first = house.instances.create(&cx(), echo("")).await.unwrap().instance;
    house.instances.remove(&house.call("acme"), &first.id, Stop::Now).await.unwrap();
    // The tombstone is kept for an hour.
    for later in [Duration::ZERO, Duration::from_secs(22 * 3_600)] {
        house.ground.clock.advance(later);
        let again = house.instances.create(&cx(), echo("")).await.unwrap();
        let told = &again.instance;
        assert!(again.existing, "{later:?}");
        assert_eq!(
            (&told.id, &told.deployment_id, told.created_at),
            (&first.id, &first.deployment_id, first.created_at)
        );
        assert_eq!(told.status, "terminated", "{later:?}");
    }
    let other = NewInstance { config: object(json!({"a": 1})), ..echo("") };
    assert_eq!(reason_of(house.instances.create(&cx(), other).await), reason::IDEMPOTENCY_CONFLICT);
    assert_eq!(house.fleet.hosts().await.unwrap()[0].active, 0);
    house.ground.clock.advance(Duration::from_secs(3 * 3_600));
    assert!(!house.instances.create(&cx(), echo("")).await.unwrap().existing, "a day later the key is free");
}

#[tokio::test]
async fn one_request_that_comes_to_several_gateways_at_once_creates_once() {
    let house = House::new().await;
    let cx = house.call_with("acme", &[("idempotency-key", "once")]);
    let created = join_all((0..6).map(|_| house.instances.create(&cx, echo("")))).await;
    let ids: BTreeSet<String> = created.into_iter().map(|created| created.unwrap().instance.id).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(house.fleet.hosts().await.unwrap()[0].active, 1);
}

#[tokio::test]
async fn a_repetition_goes_on_with_a_start_whose_gateway_died_and_nothing_is_started_twice() {
    let house = House::new().await;
    let [there, lost] = ["there", "lost"].map(|key| house.call_with("acme", &[("idempotency-key", key)]));
    let mut begun = Vec::new();
    for cx in [&there, &lost] {
        begun.push(house.instances.create(cx, echo("")).await.unwrap().instance.id);
        house.as_a_gateway_leaves_it(begun.last().unwrap()).await;
    }
    house.fleet.stop(&At::new("local", &begun[1]), Stop::Now).await.unwrap();

    let (there, lost) = tokio::join!(house.instances.create(&there, echo("")), house.instances.create(&lost, echo("")));
    let went_on = [there.unwrap().instance, lost.unwrap().instance];
    assert_eq!(went_on.each_ref().map(|instance| instance.id.as_str()), [begun[0].as_str(), begun[1].as_str()]);
    assert!(went_on.iter().all(|instance| instance.status != "deploying"), "{went_on:?}");
    assert_eq!(house.fleet.hosts().await.unwrap()[0].active, 2);
}

#[tokio::test]
async fn calls_to_an_instance_that_its_host_lost_say_that_it_has_ended() {
    let house = House::new().await;
    let (cx, id, it) = (house.call("acme"), "agent_1", &house.instances);
    house.create("acme", echo(id)).await.unwrap();
    house.fleet.stop(&At::new("local", id), Stop::Now).await.unwrap();
    let message = NewMessage { text: "hello".to_owned(), messages: Vec::new() };
    let content = stream::iter([Ok(Bytes::from("x"))]);
    let refusals = [
        reason_of(it.send(&cx, id, message).await),
        reason_of(it.messages(&cx, id, Window { offset: 0, limit: 1 }).await),
        reason_of(it.logs(&cx, id, LogQuery { level: LogLevel::Debug, offset: 0, limit: 1 }).await),
        reason_of(it.follow_logs(&cx, id, LogLevel::Debug, 0).await),
        reason_of(it.files(&cx, id, "", 1).await),
        reason_of(it.read_file(&cx, id, "a").await),
        reason_of(it.write_file(&cx, id, "a", Box::pin(content)).await),
        reason_of(house.attach("acme", id).await),
    ];
    assert_eq!(refusals, [reason::INSTANCE_TERMINATED; 8]);
    assert_eq!(house.status("acme", id).await, "failed");
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused_before_anything_happens() {
    let house = House::new().await;
    let field = |error: Error| error.message().split(':').next().unwrap().to_owned();
    for (new, expected) in [
        (NewInstance { config: object(json!({"workspace": "/"})), ..echo("") }, "config.workspace"),
        (NewInstance { config: object(json!({"a": "x".repeat(64 << 10)})), ..echo("") }, "config"),
        (
            NewInstance { environment: BTreeMap::from([("LD_PRELOAD".into(), "x".into())]), ..echo("") },
            "environment.LD_PRELOAD",
        ),
        (NewInstance { environment: BTreeMap::from([("1A".into(), "x".into())]), ..echo("") }, "environment"),
        (echo("not/fine"), "agent_id"),
    ] {
        assert_eq!(field(house.create("acme", new).await.unwrap_err()), expected);
    }
    let unknown = NewInstance { agent_type: "unknown".to_owned(), ..NewInstance::default() };
    assert_eq!(reason_of(house.create("acme", unknown).await), reason::DEPLOYMENT_NOT_FOUND);
    let limits = json!({"limits": {"max_instances_per_tenant": 1}});
    house.settings.update(&house.call("admin"), object(limits), settings::Mode::Merge).await.unwrap();
    house.create("acme", echo("agent_1")).await.unwrap();
    assert_eq!(reason_of(house.create("acme", echo("agent_2")).await), reason::QUOTA_EXCEEDED);

    for path in ["../x", "/etc/passwd", "a/../../b", "a%2f..%2fb"] {
        let read = house.instances.read_file(&house.call("acme"), "agent_1", path).await;
        assert_eq!(reason_of(read), reason::INVALID_PATH, "{path}");
    }
    let huge = stream::iter((0..65).map(|_| Ok(Bytes::from(vec![0; 1 << 20]))));
    let written = house.instances.write_file(&house.call("acme"), "agent_1", "huge", Box::pin(huge)).await;
    assert_eq!(reason_of(written), reason::FILE_TOO_LARGE);
    assert!(house.instances.files(&house.call("acme"), "agent_1", "", 1).await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn a_quota_holds_for_instances_that_are_asked_for_at_the_same_time() {
    let house = House::new().await;
    let limits = json!({"limits": {"max_instances_per_tenant": 3}});
    house.settings.update(&house.call("admin"), object(limits), settings::Mode::Merge).await.unwrap();
    let ids: Vec<String> = (0..8).map(|at| format!("agent_{at}")).collect();
    let asked = ids.iter().map(|id| house.create("acme", echo(id)));
    let (made, refused): (Vec<_>, Vec<_>) = join_all(asked).await.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (3, 5));
    assert!(refused.into_iter().all(|refused| reason_of(refused) == reason::QUOTA_EXCEEDED));
    // Who ends makes room, for another tenant there was some all the time.
    let first = made.into_iter().next().unwrap().unwrap().instance.id;
    house.instances.remove(&house.call("acme"), &first, Stop::Now).await.unwrap();
    house.create("acme", echo("agent_9")).await.unwrap();
    house.create("globex", echo("agent_10")).await.unwrap();
}

#[tokio::test]
async fn only_so_many_clients_attach_and_each_gives_its_place_back() {
    let house = House::new().await;
    house.create("acme", echo("agent_1")).await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..ATTACHED_MAX {
        clients.push(house.attach("acme", "agent_1").await.unwrap());
    }
    assert_eq!(reason_of(house.attach("acme", "agent_1").await), reason::TOO_MANY_CONCURRENT);
    clients.pop();
    house.attach("acme", "agent_1").await.unwrap();
}

#[tokio::test]
async fn an_instance_that_its_host_lost_has_failed_and_makes_room_for_a_new_one() {
    let house = House::new().await;
    let created = house.create("acme", echo("agent_1")).await.unwrap().instance;
    house.fleet.stop(&created.at().unwrap(), Stop::Now).await.unwrap();
    assert_eq!(reason_of(house.attach("acme", "agent_1").await), reason::INSTANCE_TERMINATED);
    assert_eq!(house.status("acme", "agent_1").await, "failed");
    assert!(!house.create("acme", echo("agent_1")).await.unwrap().existing);
    assert_eq!(house.attach("acme", "agent_1").await.unwrap().ask("back").await.last().unwrap(), "complete back");
}

#[tokio::test]
async fn an_instance_that_nobody_uses_is_scaled_down_once() {
    let house = House::new().await;
    let limits = json!({"limits": {"idle_timeout_seconds": 600}});
    house.settings.update(&house.call("admin"), object(limits), settings::Mode::Merge).await.unwrap();
    house.create("acme", echo("agent_1")).await.unwrap();
    let mut client = house.attach("acme", "agent_1").await.unwrap();
    client.ask("hello").await;

    house.ground.clock.advance(Duration::from_secs(599));
    house.instances.keep_up().await.unwrap();
    assert_eq!(house.status("acme", "agent_1").await, "ready");
    // A word starts the time anew.
    client.ask("still here").await;
    house.ground.clock.advance(Duration::from_secs(599));
    house.instances.keep_up().await.unwrap();
    assert_eq!(house.status("acme", "agent_1").await, "ready");

    house.ground.clock.advance(Duration::from_secs(1));
    // Several gateways look at the same time.
    let (one, two) = tokio::join!(house.instances.keep_up(), house.instances.keep_up());
    one.and(two).unwrap();
    assert_eq!(client.end().await, reason::INSTANCE_TERMINATED);
    assert_eq!(house.status("acme", "agent_1").await, "terminated");
    assert_eq!(reason_of(house.attach("acme", "agent_1").await), reason::INSTANCE_TERMINATED);
    assert_eq!(house.fleet.hosts().await.unwrap()[0].active, 0);
    let trail = house.ground.trail().await;
    assert_eq!(
        trail.iter().filter(|line| line.contains("scale_down")).collect::<Vec<_>>(),
        ["portico instance.scale_down done"]
    );
}

#[tokio::test]
async fn scaling_down_that_its_gateway_did_not_end_is_ended_by_another() {
    let house = House::new().await;
    let limits = json!({"limits": {"idle_timeout_seconds": 600}});
    house.settings.update(&house.call("admin"), object(limits), settings::Mode::Merge).await.unwrap();
    house.create("acme", echo("agent_1")).await.unwrap();
    house.attach("acme", "agent_1").await.unwrap();
    // What a gateway leaves behind that dies between its note and the stop.
    let record = house.ground.records.get("instances", "agent_1").await.unwrap().unwrap();
    let mut body: Value = serde_json::from_str(&record.body).unwrap();
    body["status"] = "scaling_down".into();
    let body = body.to_string();
    let expect = Expect::Version(record.version);
    let write = Write::Put { collection: "instances", record: Record { body, ..record }, expect };
    house.ground.records.commit(vec![write]).await.unwrap();

    house.instances.keep_up().await.unwrap();
    assert_eq!(house.status("acme", "agent_1").await, "scaling_down");
    house.ground.clock.advance(Duration::from_secs(60));
    house.instances.keep_up().await.unwrap();
    assert_eq!(house.status("acme", "agent_1").await, "terminated");
}
