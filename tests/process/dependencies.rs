//! What a gateway stands on, in trouble under load: stopped, frozen, slow, failing. It answers 503 with when to come back and
//! never 401, its readiness is true, open tunnels live on, and what has returned is used again at once.
//!
//! *Knows:* which part may break what. *Does not know:* how the load is made.

use std::{sync::Arc, time::Duration};

use portico::base::tasks::Tasks;
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::load::{
    calls,
    ledger::{Failure, How, Ledger, Phase, told},
    talk::{self, Tongue},
    worker::{Ask, Worker},
};
use crate::support::{
    caller::Balancer,
    gateway::{ADMIN, PATIENCE},
    installation::{Drain, Parts, Reach, coordinator, gateway},
    line::{Line, Way},
    process,
    server::Server,
    stage::bundle,
};

const DRAIN: Drain = Drain { total: 5, grace: 0 };
/// The host behind the line, and the one that is always there.
const HOSTS: [&str; 2] = ["host-0", "host-1"];
const TALKERS: usize = 2;
/// How late a slow part answers.
const SLOW: Duration = Duration::from_millis(300);
/// How long ago readiness may have been true: the interval and the patience of probes, and some for a busy machine.
const READINESS_AGE_MAX: Duration = Duration::from_secs(8);
/// What has returned is used within a second.
const RECOVERY: Duration = Duration::from_secs(1);
/// What this machine may add to that because it does something else.
const NOISE: Duration = Duration::from_secs(7);
/// No answer takes longer than the bounds inside allow, and some.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// The works that change something.
const CHANGES: [&str; 7] = ["key", "setting", "secret", "upload", "create", "delete", calls::AGAIN];
/// How often is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What is in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Records,
    Registry,
    Blobs,
    Host,
}

/// What kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Stopped,
    Frozen,
    Slow,
    Failing,
}

impl Trouble {
    const ALL: [Trouble; 4] = [Trouble::Stopped, Trouble::Frozen, Trouble::Slow, Trouble::Failing];
}

impl Part {
    /// What it says when it is out of order, in its own words.
    fn words(self) -> &'static [u8] {
        match self {
            Part::Records => b"E\0\0\0\x30SFATAL\0VFATAL\0C57P03\0Mthe server is unwell\0\0",
            Part::Registry => b"-LOADING the dataset is being read\r\n",
            Part::Blobs => {
                b"HTTP/1.1 503 Slow Down\r\ncontent-length: 71\r\nconnection: close\r\n\r\n\
                  <Error><Code>SlowDown</Code><Message>come back later</Message></Error>\n"
            }
            Part::Host => b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        }
    }

    /// Whether a gateway can serve nobody without it.
    fn is_required(self) -> bool {
        matches!(self, Part::Records | Part::Registry)
    }

    /// Whether its trouble may break this.
    fn may_break(self, failure: &Failure) -> bool {
        let is_about_it = failure.host.as_deref() == Some(HOSTS[0]);
        let refusal = match &failure.how {
            How::Refused(refusal) => refusal,
            How::Farewell(code) => {
                return self == Part::Host && is_about_it && ["1011", "coordinator_lost"].contains(&code.as_str());
            }
            How::Broken(_) | How::Wordless(_) => return false,
        };
        // Who may repeat is told when; who may not is told that it may have been done.
        let is_dated = refusal.after.is_some() || !refusal.may_repeat;
        let reason = refusal.reason.as_str();
        let is_expected = match self {
            // What a gateway knows by itself is answered, also to a key that was used a while ago. An upload that failed may
            // have left its claim.
            Part::Records => {
                let away = ["records_unavailable", "auth_unavailable"];
                (failure.work != "settings" && away.contains(&reason))
                    || (failure.work == "upload" && reason == "upload_in_progress")
            }
            // What changes something waits for it; what reads or talks does not need it.
            Part::Registry => CHANGES.contains(&failure.work) && reason == "registry_unavailable",
            Part::Blobs => failure.work == "upload" && reason.starts_with("storage_"),
            Part::Host => {
                let was_on_its_way = failure.work == "create";
                let unanswered = ["coordinator_unavailable", "coordinator_timeout", "coordinator_error"];
                (was_on_its_way && unanswered[1..].contains(&reason))
                    || (is_about_it && (unanswered.contains(&reason) || reason == "instance_terminated"))
            }
        };
        is_expected && is_dated && refusal.status != 401 && failure.took < ANSWER_MAX
    }
}

/// A gateway and two hosts, with a line to everything that may be in trouble.
struct Ground {
    parts: Parts,
    lines: [Line; 4],
    gateway: Server,
    hosts: Vec<Server>,
    balancer: Arc<Balancer>,
    ledger: Arc<Ledger>,
    workers: Vec<JoinHandle<()>>,
    /// A key that nobody has used.
    unused: String,
}

impl Ground {
    async fn start() -> Ground {
        let parts = Parts::start().await;
        let records = Line::to(parts.records.address()).await;
        let registry = Line::to(parts.registry.address()).await;
        let blobs = Line::to(parts.blobs.address()).await;
        let reach = Reach { records: records.address, registry: registry.address, blobs: blobs.address };
        let gateway = gateway(reach, DRAIN);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let first = coordinator(reach, DRAIN, HOSTS[0], Some(listener.local_addr().unwrap()));
        let line = Line::between(listener, first.address());
        let hosts = vec![first, coordinator(reach, DRAIN, HOSTS[1], None)];
        let balancer = Balancer::over(&[gateway.address()]);
        let mut ground = Ground {
            parts,
            lines: [records, registry, blobs, line],
            gateway,
            hosts,
            balancer,
            ledger: Arc::new(Ledger::new(0)),
            workers: Vec::new(),
            unused: String::new(),
        };
        ground.load().await;
        ground
    }

    /// Begins the load. Talkers are the last of the workers.
    async fn load(&mut self) {
        const ALONE: usize = 7;
        let ledger = Arc::new(Ledger::new(ALONE + 2 * TALKERS));
        self.knows_its_hosts().await;
        let mut first = Worker::new(0, &ledger, &self.balancer);
        first.surely("upload", None, &calls::upload("echo", "1.0.0", &bundle())).await;
        let mut keys = Vec::new();
        for name in ["stored", "unused"] {
            let wanted = json!({"tenant_id": "load", "name": name, "role": "admin"});
            let made = first.surely("key", None, &Ask::of("KeysService/CreateKey", wanted)).await;
            keys.push(made.messages[0]["key"].as_str().unwrap().to_owned());
        }
        self.unused = keys.pop().unwrap();
        let mut number = 0;
        let mut worker = || {
            number += 1;
            Worker::new(number - 1, &ledger, &self.balancer)
        };
        let tasks = Tasks::new();
        self.workers = vec![
            tasks.spawn(calls::read(worker())),
            tasks.spawn(calls::read_settings(worker().with_key(&keys[0]))),
            tasks.spawn(calls::read(worker().with_key(&keys[0]))),
            tasks.spawn(calls::make_keys(worker())),
            tasks.spawn(calls::change(worker())),
            tasks.spawn(calls::upload_bundles(worker())),
            tasks.spawn(calls::make_instances(worker())),
        ];
        assert_eq!(self.workers.len(), ALONE);
        let (mut talkers, mut followers) = (Vec::new(), Vec::new());
        for _ in 0..TALKERS {
            let (told, heard) = watch::channel(None);
            followers.push(tasks.spawn(talk::follow(worker(), heard)));
            talkers.push(told);
        }
        for told in talkers {
            self.workers.push(tasks.spawn(talk::talk(worker(), Tongue::Tunnel, told)));
        }
        self.workers.extend(followers);
        self.ledger = ledger;
        self.ledger.everybody_goes_round(1).await;
        let failures = self.ledger.failures();
        assert!(failures.is_empty(), "{}", told(&failures));
    }

    async fn knows_its_hosts(&self) {
        let known = async {
            loop {
                let health = process::ask(self.gateway.address(), "/health", ("authorization", ADMIN)).await;
                if health["checks"]["coordinators"]["healthy"] == HOSTS.len() {
                    return;
                }
                sleep(ASK_AGAIN).await;
            }
        };
        timeout(PATIENCE, known).await.expect("both hosts");
    }

    /// Waits until so many hosts are not asked any more, because they did not answer.
    async fn leaves_alone(&self, hosts: usize) {
        let line = format!("portico_hosts_left_alone {hosts}\n");
        let left_alone = async {
            while !process::metrics(self.gateway.address()).await.contains(&line) {
                sleep(ASK_AGAIN).await;
            }
        };
        timeout(PATIENCE, left_alone).await.expect("breakers that are so");
    }

    fn line(&mut self, part: Part) -> &mut Line {
        &mut self.lines[part as usize]
    }

    fn server(&mut self, part: Part) -> &mut Server {
        match part {
            Part::Records => &mut self.parts.records,
            Part::Registry => &mut self.parts.registry,
            Part::Blobs => &mut self.parts.blobs,
            Part::Host => &mut self.hosts[0],
        }
    }

    async fn begin(&mut self, part: Part, trouble: Trouble) {
        match trouble {
            Trouble::Stopped => {
                self.server(part).kill();
                self.line(part).cut().await;
            }
            Trouble::Frozen => self.server(part).freeze(),
            Trouble::Slow => self.line(part).goes(Way::Slow(SLOW)),
            Trouble::Failing => self.line(part).goes(Way::Says(part.words())),
        }
    }

    async fn end(&mut self, part: Part, trouble: Trouble) {
        match trouble {
            Trouble::Stopped => {
                self.server(part).restart();
                self.line(part).join().await;
            }
            Trouble::Frozen => self.server(part).thaw(),
            Trouble::Slow | Trouble::Failing => self.line(part).goes(Way::Open),
        }
    }

    /// Waits until something has been done that needs this part.
    async fn uses(&self, part: Part, number: usize) {
        let (work, ask) = match part {
            Part::Records => ("recovery", Ask::of("KeysService/ListKeys", json!({"limit": 1}))),
            Part::Registry => {
                ("key", Ask::of("KeysService/CreateKey", json!({"tenant_id": "load", "name": "returned"})))
            }
            Part::Blobs => ("upload", calls::upload("returned", &format!("{number}.0.0"), &bundle())),
            Part::Host => return self.leaves_alone(0).await,
        };
        let mut worker = Worker::new(0, &self.ledger, &self.balancer);
        while worker.ask(work, None, &ask).await.is_err() {
            sleep(ASK_AGAIN).await;
        }
    }

    /// Waits until it is ready, or is not. Answers how long that took.
    async fn becomes(&self, is_ready: bool, within: Duration) -> Duration {
        let began = Instant::now();
        let becomes = async {
            while (process::ask(self.gateway.address(), "/health/ready", ("accept", "*/*")).await["status"] == "ready")
                != is_ready
            {
                sleep(ASK_AGAIN).await;
            }
        };
        let in_time = timeout(within, becomes).await.is_ok();
        assert!(in_time, "readiness is not {is_ready} within {within:?}:\n{}", self.gateway.log());
        began.elapsed()
    }
}

/// One trouble after the other, and the load goes on.
async fn in_trouble(part: Part) {
    let mut ground = Ground::start().await;
    let ledger = Arc::clone(&ground.ledger);
    let workers = 7..7 + 2 * TALKERS;
    let talkers = workers.start + TALKERS..workers.end;
    for (number, trouble) in Trouble::ALL.into_iter().enumerate() {
        ledger.enter(Phase::Fault(match trouble {
            Trouble::Stopped => "stopped",
            Trouble::Frozen => "frozen",
            Trouble::Slow => "slow",
            Trouble::Failing => "failing",
        }));
        ground.begin(part, trouble).await;
        let is_silent = trouble != Trouble::Slow;
        if part.is_required() && is_silent {
            ground.becomes(false, READINESS_AGE_MAX).await;
        }
        if part == Part::Records && is_silent {
            let mut stranger = Worker::new(0, &ledger, &ground.balancer).with_key(&ground.unused);
            let refused = stranger.ask("stranger", None, &Ask::of("ConfigService/GetConfig", json!({}))).await;
            assert!(matches!(&refused, Err(How::Refused(it)) if it.reason == "auth_unavailable"), "{refused:?}");
        }
        if part == Part::Host && is_silent {
            ground.leaves_alone(1).await;
        } else {
            ledger.go_round(talkers.clone(), 10).await;
        }
        if !part.is_required() {
            ground.becomes(true, READINESS_AGE_MAX).await;
        }
        ground.end(part, trouble).await;

        let returned = Instant::now();
        ground.becomes(true, RECOVERY + NOISE).await;
        ground.uses(part, number).await;
        let recovered = returned.elapsed();
        assert!(recovered < RECOVERY + NOISE, "{trouble:?}: {recovered:?} until it is used");
        ledger.everybody_goes_round(1).await;
        let failures = ledger.failures();
        let wrong: Vec<&Failure> = failures.iter().filter(|failure| !part.may_break(failure)).collect();
        assert!(wrong.is_empty(), "{} of {} failures:\n{}", wrong.len(), failures.len(), told(wrong));
    }
    ledger.end();
    for worker in ground.workers.drain(..) {
        timeout(PATIENCE, worker).await.expect("an end in time").expect("a worker that did not fail");
    }
    assert!(!ground.gateway.log().contains("panicked"), "{}", ground.gateway.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_in_trouble_under_load() {
    in_trouble(Part::Records).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valkey_in_trouble_under_load() {
    in_trouble(Part::Registry).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minio_in_trouble_under_load() {
    in_trouble(Part::Blobs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_coordinator_in_trouble_under_load() {
    in_trouble(Part::Host).await;
}
