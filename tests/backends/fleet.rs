//! What every fleet must do: start what was deployed, carry what is said, and let nothing outlive its order to end.

use std::{collections::BTreeMap, path::Path, process::Command, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use portico::{
    backend::{
        coordinator::{self, Coordinators},
        disk::Disk,
        local::registry::LocalRegistry,
        local_fleet::{Config, HOST, Limits, LocalFleet},
    },
    base::{Outgoing, Result, Secret, TenantId, clock::SystemClock, reason, tasks::Tasks},
    config::Sources,
    gateway::Coordinator,
    port::{
        blobs::Blobs,
        fleet::{
            At, Bundle, Fleet, Frame, HostLoad, LogLevel, LogQuery, NewMessage, Role, Start, State, Stop, Window,
            WorkspacePath,
        },
    },
};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// An agent that does what it is told.
const SCRIPTED: &str = "tests/backends/fleet/scripted";

struct House {
    folder: TempDir,
    blobs: Arc<dyn Blobs>,
    fleet: Arc<dyn Fleet>,
    host: String,
    tasks: Tasks,
    _coordinator: Option<Coordinator>,
}

/// Each behaviour as a test of every fleet.
macro_rules! on_every_fleet {
    ($($behaviour:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour(super::House::embedded()).await;
            })*
        }

        mod behind_a_coordinator {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour(super::House::behind_a_coordinator().await).await;
            })*
        }
    };
}

mod folders;
mod frames;
mod processes;
mod trouble;
mod viewers;

on_every_fleet! {
    a_message_is_answered_word_by_word_to_every_client,
    a_client_that_comes_back_gets_what_it_missed,
    text_stays_text_and_binary_stays_binary_and_nonsense_is_answered,
    an_agent_sees_its_own_environment_and_limits_and_nothing_else,
    logs_are_kept_in_order_and_can_be_followed_to_the_end,
    a_crash_is_told_and_the_agent_starts_again_under_its_clients,
    what_does_not_listen_is_killed_with_all_that_it_started,
    an_order_to_end_at_once_is_obeyed_at_once,
    a_late_stop_leaves_a_newer_instance_of_the_same_id_alone,
    the_id_of_an_agent_that_ended_by_itself_can_be_used_again,
    a_bundle_that_cannot_run_says_why,
    a_host_takes_one_instance_of_an_id_and_no_more_than_it_can_hold,
    files_pass_between_client_and_agent,
    a_message_can_be_sent_without_waiting,
}

impl House {
    fn embedded() -> House {
        let folder = tempfile::tempdir().unwrap();
        let tasks = Tasks::new();
        let blobs: Arc<dyn Blobs> = Arc::new(Disk::open(folder.path()).unwrap());
        let fleet = Arc::new(open(folder.path(), &blobs, &tasks).unwrap());
        House { folder, blobs, fleet, host: HOST.to_owned(), tasks, _coordinator: None }
    }

    /// The same host, asked over HTTP and WebSockets.
    async fn behind_a_coordinator() -> House {
        let folder = tempfile::tempdir().unwrap();
        let tasks = Tasks::new();
        let blobs: Arc<dyn Blobs> = Arc::new(Disk::open(folder.path()).unwrap());
        let config = Sources::new()
            .set("test", "listen", "127.0.0.1:0")
            .set("test", "data", folder.path().to_str().unwrap())
            .set("test", "blobs", format!("file:{}", folder.path().display()))
            .set("test", "fleet.token", "both-know")
            .set("test", "fleet.id", "host-1")
            .set("test", "fleet.instances_max", "4")
            .set("test", "fleet.memory_bytes_max", "4GiB")
            .set("test", "fleet.open_files_max", "99");
        let coordinator = Coordinator::start(config.load().unwrap().config).await.unwrap();
        let config = coordinator::Config {
            listed: vec![format!("http://{}", coordinator.address())],
            environment: "dev".to_owned(),
            token: Some(Secret::new("both-know")),
            networks: vec!["127.0.0.0/8".parse().unwrap()],
            papers: coordinator::Papers::default(),
            source_base: "blobs:///".to_owned(),
        };
        let fleet = Arc::new(Coordinators::start(config, Arc::new(LocalRegistry::new()), tasks.clone()).unwrap());
        House { folder, blobs, fleet, host: "host-1".to_owned(), tasks, _coordinator: Some(coordinator) }
    }

    /// The host's load once it is so: what a host says of itself may be a moment old.
    async fn load(&self, is_so: impl Fn(&HostLoad) -> bool) -> HostLoad {
        let asking = async {
            loop {
                let load = self.fleet.hosts().await.unwrap()[0].clone();
                if is_so(&load) {
                    return load;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("a load that is so")
    }

    /// The archive of a folder of code, as somebody would have uploaded it.
    async fn bundle(&self, code: &Path) -> Bundle {
        stored(&*self.blobs, code).await
    }

    async fn scripted(&self) -> Bundle {
        self.bundle(&Path::new(env!("CARGO_MANIFEST_DIR")).join(SCRIPTED)).await
    }

    /// A bundle with this manifest and this shell script.
    async fn script(&self, manifest: &str, script: &str) -> Bundle {
        let code = tempfile::tempdir().unwrap();
        std::fs::write(code.path().join("agent.json"), manifest).unwrap();
        std::fs::write(code.path().join("run.sh"), script).unwrap();
        self.bundle(code.path()).await
    }

    async fn start(&self, id: &str) -> At {
        self.fleet.create(&self.host, start(id, self.scripted().await)).await.unwrap();
        let at = At::new(&self.host, id);
        assert_eq!(self.fleet.settled(&at, PATIENCE).await.unwrap(), State::Ready);
        at
    }

    async fn attach(&self, at: &At) -> Client {
        self.attach_again(at, None).await
    }

    async fn attach_again(&self, at: &At, since: Option<u64>) -> Client {
        let (to_agent, incoming) = mpsc::channel(16);
        let incoming = stream::unfold(incoming, |mut frames| async { Some((frames.recv().await?, frames)) });
        let from_agent = self.fleet.attach(at, since, Box::pin(incoming)).await.unwrap();
        Client { to_agent, from_agent }
    }
}

/// The archive of a folder of code in this store.
async fn stored(blobs: &dyn Blobs, code: &Path) -> Bundle {
    let packed = Command::new("tar").arg("-cz").arg("-C").arg(code).arg(".").output().unwrap();
    assert!(packed.status.success());
    let mut staging = blobs.stage(None).await.unwrap();
    staging.write(packed.stdout.into()).await.unwrap();
    let staged = staging.seal().await.unwrap();
    let checksum = staged.digest().to_string();
    let blob_key = format!("bundles/{checksum}");
    staged.commit(&blob_key, Default::default()).await.unwrap();
    Bundle {
        deployment_id: format!("scripted:1.0.0@{}", &checksum[..8]),
        agent_type: "scripted".to_owned(),
        version: "1.0.0".to_owned(),
        checksum,
        blob_key,
    }
}

/// The scripted agent in the store of this folder.
pub(super) async fn scripted(blobs: &Path) -> Bundle {
    stored(&Disk::open(blobs).unwrap(), &Path::new(env!("CARGO_MANIFEST_DIR")).join(SCRIPTED)).await
}

fn open(root: &Path, blobs: &Arc<dyn Blobs>, tasks: &Tasks) -> Result<LocalFleet> {
    let config = Config {
        root: root.join("fleet"),
        path: "/usr/local/bin:/usr/bin:/bin".to_owned(),
        instances_max: 4,
        limits: Limits { open_files: 99, ..Limits::default() },
    };
    LocalFleet::open(config, Arc::clone(blobs), Arc::new(SystemClock), tasks.clone())
}

pub(super) fn start(id: &str, bundle: Bundle) -> Start {
    Start {
        instance: id.to_owned(),
        bundle,
        config: Map::from_iter([("model".to_owned(), json!("m-1"))]),
        secrets: BTreeMap::from([("api_key".to_owned(), Secret::new("s3cret"))]),
        environment: BTreeMap::from([("COLOUR".to_owned(), "green".to_owned())]),
        tenant: TenantId::new("tenant-a"),
        installation: "installation-a".to_owned(),
        incarnation: Default::default(),
        asked: Default::default(),
    }
}

/// A client of the native stream.
struct Client {
    to_agent: mpsc::Sender<Result<Frame>>,
    from_agent: Outgoing<Frame>,
}

impl Client {
    async fn send(&mut self, frame: Value) {
        self.to_agent.send(Ok(Frame::Text(frame.to_string().into()))).await.unwrap();
    }

    async fn ask(&mut self, text: &str) {
        self.send(json!({"type": "process_message", "content": {"text": text, "messages": []}})).await;
    }

    async fn next(&mut self) -> Value {
        match tokio::time::timeout(PATIENCE, self.from_agent.next()).await.unwrap().unwrap().unwrap() {
            Frame::Text(text) => serde_json::from_str(text.as_str()).unwrap(),
            Frame::Binary(bytes) => json!({"binary": bytes.to_vec()}),
            Frame::Close(farewell) => panic!("closed: {farewell:?}"),
        }
    }

    /// The frames up to one of this type, which is included.
    async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            frames.push(self.next().await);
            if frames.last().unwrap()["type"] == kind {
                return frames;
            }
        }
    }

    /// Asks and answers the text of the answer.
    async fn answer(&mut self, text: &str) -> Value {
        self.ask(text).await;
        let text = self.until("complete").await.pop().unwrap()["content"]["text"].as_str().unwrap().to_owned();
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    /// Why the stream ends.
    async fn end(mut self) -> portico::base::Reason {
        loop {
            match tokio::time::timeout(PATIENCE, self.from_agent.next()).await.unwrap().unwrap() {
                Ok(_) => {}
                Err(error) => return error.reason(),
            }
        }
    }
}

fn shape(frames: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    frames.iter().map(|frame| (text(&frame["type"]), text(&frame["content"]["text"]))).collect()
}

fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Waits until a process is gone: a kill that was sent takes effect when the system comes to it.
async fn gone(pid: &str) {
    let watch = async {
        while alive(pid) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, watch).await.expect("the process ends");
}

async fn a_message_is_answered_word_by_word_to_every_client(house: House) {
    let at = house.start("agent_1").await;
    let (mut one, mut other) = (house.attach(&at).await, house.attach(&at).await);

    one.ask("hello brave world").await;
    let frames = one.until("complete").await;
    let expected = [
        ("created", ""),
        ("update", "hello"),
        ("update", "brave"),
        ("update", "world"),
        ("complete", "hello brave world"),
    ];
    assert_eq!(shape(&frames), expected.map(|(kind, text)| (kind.to_owned(), text.to_owned())));
    assert_eq!(frames, other.until("complete").await);
    let sequences: Vec<_> = frames.iter().map(|frame| frame["seq"].as_u64().unwrap()).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
    let message_id = frames[0]["message_id"].as_str().unwrap();
    assert!(frames.iter().all(|frame| frame["message_id"] == message_id && frame["agent_id"] == "agent_1"));

    let messages = house.fleet.messages(&at, Window { offset: 0, limit: 10 }).await.unwrap();
    let spoken: Vec<_> = messages.iter().map(|message| (message.role, message.text.as_str(), &*message.id)).collect();
    assert_eq!(
        spoken,
        [(Role::User, "hello brave world", message_id), (Role::Assistant, "hello brave world", message_id)]
    );
    let info = house.fleet.info(&at).await.unwrap();
    assert_eq!(info.state, State::Ready);
    assert!(info.usage.unwrap().memory_bytes > 0);
}

async fn a_client_that_comes_back_gets_what_it_missed(house: House) {
    let at = house.start("agent_1").await;
    let mut client = house.attach(&at).await;
    client.ask("hello brave world").await;
    let frames = client.until("complete").await;
    drop(client);

    let mut back = house.attach_again(&at, frames[1]["seq"].as_u64()).await;
    assert_eq!(back.until("complete").await, frames[2..]);
    assert_eq!(back.answer("more").await, json!("more"));
    // Who has seen all gets nothing twice.
    let mut late = house.attach_again(&at, Some(8)).await;
    assert_eq!(late.answer("again").await, json!("again"));
}

async fn text_stays_text_and_binary_stays_binary_and_nonsense_is_answered(house: House) {
    let at = house.start("agent_1").await;
    let mut client = house.attach(&at).await;

    client.to_agent.send(Ok(Frame::Binary(Bytes::from_static(&[0, 1, 255])))).await.unwrap();
    assert_eq!(client.next().await, json!({"binary": [255, 1, 0]}));
    client.send(json!({"type": "ping", "content": {"n": 1}})).await;
    assert_eq!(client.next().await["content"], json!({"n": 1}));
    client.send(json!({"type": "dance"})).await;
    assert_eq!(client.next().await["content"]["code"], "unknown_type");
    client.ask("tool search").await;
    let update = &client.until("complete").await[1];
    assert_eq!(
        (&update["event_type"], &update["content"]["event_type"]),
        (&json!("tool.call_start"), &json!("tool.call_start"))
    );
    let long = "x".repeat(1 << 20);
    assert_eq!(client.answer(&long).await, json!(long));
    client.ask("many 3000").await;
    assert_eq!(client.until("complete").await.len(), 3_002);
}

async fn an_agent_sees_its_own_environment_and_limits_and_nothing_else(house: House) {
    let at = house.start("agent_1").await;
    let mut client = house.attach(&at).await;

    let environment = client.answer("environment").await;
    let mut names: Vec<_> = environment.as_object().unwrap().keys().map(String::as_str).collect();
    // The shell adds these two.
    names.retain(|name| !["PWD", "LC_CTYPE"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["AGENT_ID", "AGENT_SOCKET", "AGENT_WORKSPACE", "COLOUR", "HOME", "LANG", "PATH", "TMPDIR"]);
    assert_eq!(environment["COLOUR"], "green");
    assert_eq!(environment["HOME"], environment["AGENT_WORKSPACE"]);
    assert_eq!(client.answer("limits").await["NOFILE"], 99);
    assert_eq!(client.answer("limits").await["AS"], Limits::default().memory_bytes);
    let init = client.answer("init").await;
    assert_eq!((&init["config"]["model"], &init["secrets"]["api_key"]), (&json!("m-1"), &json!("s3cret")));
}

async fn logs_are_kept_in_order_and_can_be_followed_to_the_end(house: House) {
    let at = house.start("agent_1").await;
    let followed = house.fleet.follow_logs(&at, LogLevel::Info, 0).await.unwrap();
    house.attach(&at).await.answer("hello").await;
    house.fleet.stop(&at, Stop::Within(PATIENCE)).await.unwrap();

    let entries: Vec<_> = followed.map(Result::unwrap).collect().await;
    let said: Vec<_> = entries.iter().map(|entry| (entry.source.as_str(), entry.message.as_str())).collect();
    for expected in [("agent", "echoing"), ("stdout", "on standard output"), ("agent", "goodbye")] {
        assert!(said.contains(&expected), "{said:?}");
    }
    assert!(entries.iter().zip(1..).all(|(entry, sequence)| entry.sequence == sequence));
}

async fn a_crash_is_told_and_the_agent_starts_again_under_its_clients(house: House) {
    let at = house.start("agent_1").await;
    let mut client = house.attach(&at).await;

    client.ask("crash").await;
    let error = client.until("error").await.pop().unwrap();
    assert_eq!(error["content"]["code"], "agent_restarted");
    assert_eq!(client.answer("still there?").await, json!("still there?"));
    let query = LogQuery { level: LogLevel::Error, offset: 0, limit: 10 };
    let logged = house.fleet.logs(&at, query).await.unwrap();
    assert_eq!(logged[0].message, "the agent ended (exit code 3): about to crash");
}

async fn what_does_not_listen_is_killed_with_all_that_it_started(house: House) {
    let at = house.start("agent_1").await;
    let mut client = house.attach(&at).await;
    let pid = client.answer("deaf").await.to_string();
    assert!(alive(&pid));

    house.fleet.stop(&at, Stop::Within(Duration::from_millis(300))).await.unwrap();
    gone(&pid).await;
    assert_eq!(client.end().await, reason::INSTANCE_TERMINATED);
    assert_eq!(house.fleet.info(&at).await.unwrap_err().reason(), reason::INSTANCE_NOT_FOUND);
    assert!(!house.folder.path().join("fleet/instances/agent_1").exists());
}

async fn an_order_to_end_at_once_is_obeyed_at_once(house: House) {
    let at = house.start("agent_1").await;
    let stopping = house.fleet.stop(&at, Stop::Within(Duration::from_secs(3_600)));
    let killing = house.fleet.stop(&at, Stop::Now);
    let both = async { tokio::join!(stopping, killing) };
    let (stopped, killed) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    assert!(stopped.is_ok() && killed.is_ok());
    house.load(|load| load.active == 0).await;
}

async fn a_late_stop_leaves_a_newer_instance_of_the_same_id_alone(house: House) {
    let untold = At::new(&house.host, "agent_1");
    let [older, newer] = ["older", "newer"].map(|word| untold.clone().of(word.to_owned().into()));
    let bundle = house.scripted().await;
    let create = async |at: &At| {
        let start = Start { incarnation: at.incarnation.clone(), ..start("agent_1", bundle.clone()) };
        house.fleet.create(&house.host, start).await.unwrap();
    };
    create(&older).await;
    house.fleet.stop(&older, Stop::Now).await.unwrap();
    create(&newer).await;
    assert_eq!(house.fleet.running(&house.host).await.unwrap()[0].incarnation, newer.incarnation);

    for stop in [Stop::Within(Duration::from_secs(1)), Stop::Now] {
        assert_eq!(house.fleet.stop(&older, stop).await.unwrap_err().reason(), reason::INSTANCE_NOT_FOUND);
    }
    assert_eq!(house.fleet.info(&older).await.unwrap_err().reason(), reason::INSTANCE_NOT_FOUND);
    assert_eq!(house.fleet.info(&newer).await.unwrap().incarnation, newer.incarnation);
    assert_eq!(house.fleet.settled(&newer, PATIENCE).await.unwrap(), State::Ready);

    // Who does not know which one it was means whichever there is, and what nobody gave a word is whichever is meant.
    house.fleet.stop(&untold, Stop::Now).await.unwrap();
    create(&untold).await;
    house.fleet.stop(&older, Stop::Now).await.unwrap();
}

async fn the_id_of_an_agent_that_ended_by_itself_can_be_used_again(house: House) {
    let at = house.start("agent_1").await;
    let mut client = house.attach(&at).await;
    client.answer("write for nobody else").await;
    client.ask("leave").await;
    assert_eq!(client.end().await, reason::INSTANCE_TERMINATED);
    assert_eq!(house.fleet.info(&at).await.unwrap().state, State::Terminated);

    let again = house.start("agent_1").await;
    let files = house.fleet.files(&again, &WorkspacePath::root(), 1).await.unwrap();
    assert!(files.entries.is_empty(), "what another one left");
}

async fn a_bundle_that_cannot_run_says_why(house: House) {
    let sh = r#"{"command": ["sh", "run.sh"]}"#;
    for (manifest, script, expected, says) in [
        (r#"{"command": []}"#, "", reason::INVALID_BUNDLE, "command must name a program"),
        (r#"{"command": ["no-such-program"]}"#, "", reason::DEPLOYMENT_FAILED, "its command was not found"),
        (sh, "echo no luck >&2; exit 4", reason::DEPLOYMENT_FAILED, "(exit code 4): no luck"),
    ] {
        let bundle = house.script(manifest, script).await;
        let error = house.fleet.create(&house.host, start("agent_1", bundle)).await.map(|_| ()).unwrap_err();
        assert_eq!(error.reason(), expected);
        assert!(error.message().contains(says), "{error:?}");
    }
    let mut forged = house.scripted().await;
    forged.checksum = "0".repeat(64);
    let forged_id = forged.deployment_id.clone();
    let error = house.fleet.create(&house.host, start("agent_1", forged)).await.map(|_| ()).unwrap_err();
    assert!(error.message().contains("checksum differs"), "{error:?}");
    assert!(!house.fleet.hosts().await.unwrap()[0].cached.contains(&forged_id));
}

async fn a_host_takes_one_instance_of_an_id_and_no_more_than_it_can_hold(house: House) {
    for id in ["a", "b", "c"] {
        house.start(id).await;
    }
    let taken = house.fleet.create(&house.host, start("a", house.scripted().await)).await.map(|_| ()).unwrap_err();
    assert_eq!(taken.reason(), reason::INSTANCE_ID_CONFLICT);
    house.start("d").await;
    let full = house.fleet.create(&house.host, start("e", house.scripted().await)).await.map(|_| ()).unwrap_err();
    assert_eq!(full.reason(), reason::CAPACITY_EXHAUSTED);
    let load =
        house.load(|load| load.active == 4 && load.cached.ids().len() == 1 && load.disk_free_bytes > Some(0)).await;
    assert_eq!(load.active_max, 4);
    let mut running = house.fleet.running(&house.host).await.unwrap();
    running.sort_by(|one, other| one.instance.cmp(&other.instance));
    assert!(running.iter().all(|it| it.installation == "installation-a"), "{running:?}");
    let named: Vec<_> = running.iter().map(|it| (it.instance.as_str(), it.state == State::Ready)).collect();
    assert_eq!(named, [("a", true), ("b", true), ("c", true), ("d", true)]);
}

async fn files_pass_between_client_and_agent(house: House) {
    let at = house.start("agent_1").await;
    house.attach(&at).await.answer("write from the agent").await;
    let content = stream::iter([Ok(Bytes::from("from a client"))]);
    let path = WorkspacePath::parse("in/box.txt").unwrap();
    assert_eq!(house.fleet.write_file(&at, &path, Box::pin(content)).await.unwrap(), 13);

    let list = house.fleet.files(&at, &WorkspacePath::root(), 2).await.unwrap();
    let paths: Vec<_> = list.entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["in", "in/box.txt", "note.txt"]);
    let note = house.fleet.read_file(&at, &WorkspacePath::parse("note.txt").unwrap()).await.unwrap();
    let bytes: Vec<_> = note.bytes.map(Result::unwrap).collect().await;
    assert_eq!(bytes.concat(), b"from the agent");
}

async fn a_message_can_be_sent_without_waiting(house: House) {
    let at = house.start("agent_1").await;
    let mut client = house.attach(&at).await;
    let message = NewMessage { text: "hello".to_owned(), messages: Vec::new() };
    let id = house.fleet.send(&at, message).await.unwrap();
    assert_eq!(client.until("complete").await.pop().unwrap()["message_id"], id);
}

#[tokio::test]
async fn agents_end_when_the_house_closes_and_their_folders_are_swept_at_the_next_start() {
    let house = House::embedded();
    let at = house.start("agent_1").await;
    let mut client = house.attach(&at).await;
    let pid = client.answer("deaf").await.to_string();
    assert_eq!(
        open(house.folder.path(), &house.blobs, &Tasks::new()).map(|_| ()).unwrap_err().reason(),
        reason::COORDINATOR_UNAVAILABLE
    );

    house.tasks.close();
    assert_eq!(house.tasks.wait(PATIENCE).await, 0);
    gone(&pid).await;
    assert_eq!(client.end().await, reason::DRAINING);
    let House { folder, blobs, fleet, .. } = house;
    drop(fleet);
    assert!(folder.path().join("fleet/instances/agent_1").exists());
    let next = open(folder.path(), &blobs, &Tasks::new()).unwrap();
    assert!(!folder.path().join("fleet/instances/agent_1").exists());
    assert_eq!(next.hosts().await.unwrap()[0].active, 0);
}
