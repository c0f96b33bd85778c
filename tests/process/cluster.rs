//! Two gateways and three hosts behind one PostgreSQL, one Valkey and one MinIO, under load, while each process in turn is
//! restarted in order and then killed.
//!
//! What is assumed of the world around them is what real deployments have: a supervisor that starts a process again with its
//! address and its folder, a load balancer that obeys readiness, and clients as [`caller`](crate::support::caller) has them. An
//! instance lives as long as its host: what is asked of one whose host is away is answered by when to come back, and then that
//! the instance has ended; whoever needs one then makes a new one.

mod rules;
mod survivors;

use std::{sync::Arc, time::Duration};

use portico::base::tasks::Tasks;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::load::{
    calls,
    ledger::{Failure, Ledger, Member, Phase, told},
    talk::{self, Tongue},
    worker::Worker,
};
use crate::support::{
    caller::Balancer,
    gateway::{ADMIN, PATIENCE},
    installation::{Drain, Parts, coordinator, gateway},
    process,
    server::Server,
    stage::bundle,
};

const GATEWAYS: usize = 2;
const HOSTS: [&str; 3] = ["host-0", "host-1", "host-2"];
/// Those who need no instance of their own.
const ALONE: usize = 7;
/// Those who talk to an instance and follow its log.
const TALKERS: usize = 2;
/// Long enough for a balancer to notice, short enough for a test.
const DRAIN: Drain = Drain { total: 8, grace: 1 };
/// How often is asked again whether all is well.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What runs.
struct Cluster {
    _parts: Parts,
    gateways: Vec<Server>,
    hosts: Vec<Server>,
    balancer: Arc<Balancer>,
}

impl Cluster {
    async fn start() -> Cluster {
        let parts = Parts::start().await;
        let reach = parts.reach();
        let gateways: Vec<Server> = (0..GATEWAYS).map(|_| gateway(reach, DRAIN)).collect();
        let hosts = HOSTS.iter().map(|id| coordinator(reach, DRAIN, id, None)).collect();
        let addresses: Vec<_> = gateways.iter().map(Server::address).collect();
        let balancer = Balancer::over(&addresses);
        Cluster { _parts: parts, gateways, hosts, balancer }
    }

    fn server(&mut self, member: &Member) -> &mut Server {
        match member {
            Member::Gateway(number) => &mut self.gateways[*number],
            Member::Host(id) => &mut self.hosts[HOSTS.iter().position(|host| host == id).unwrap()],
        }
    }

    /// Waits until every gateway is ready and reaches every host.
    async fn is_well(&self) {
        let well = async {
            for (number, gateway) in self.gateways.iter().enumerate() {
                loop {
                    let health = process::ask(gateway.address(), "/health", ("authorization", ADMIN)).await;
                    let hosts = &health["checks"]["coordinators"];
                    let all = hosts["healthy"] == HOSTS.len() && hosts["total"] == HOSTS.len();
                    if all && health["status"] == "healthy" && self.balancer.is_ready(number) {
                        break;
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
        };
        if timeout(PATIENCE, well).await.is_err() {
            let logs: Vec<String> = self.gateways.iter().chain(&self.hosts).map(Server::log).collect();
            panic!("the cluster does not become well:\n{}", logs.join("\n---\n"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_process_is_restarted_and_then_killed_under_load_and_nothing_is_lost_or_done_twice() {
    let mut cluster = Cluster::start().await;
    cluster.is_well().await;
    let (ledger, workers) = begin(&cluster).await;

    let gateways = (0..GATEWAYS).map(Member::Gateway);
    let members: Vec<Member> = gateways.chain(HOSTS.map(|id| Member::Host(id.to_owned()))).collect();
    for member in &members {
        ledger.enter(Phase::Restart(member.clone()));
        note_end(&ledger, member);
        let server = cluster.server(member);
        let code = server.terminate();
        assert_eq!(code, Some(0), "{member:?}:\n{}", server.log());
        server.restart();
        settle(&cluster, &ledger).await;
    }
    for member in &members {
        ledger.enter(Phase::Kill(member.clone()));
        note_end(&ledger, member);
        cluster.server(member).kill();
        // Those who talk to an instance of a host that is away wait for it.
        ledger.go_round(0..ALONE, 1).await;
        cluster.server(member).restart();
        settle(&cluster, &ledger).await;
    }

    ledger.end();
    for worker in workers {
        timeout(PATIENCE, worker).await.expect("an end in time").expect("a worker that did not fail");
    }
    survivors::hold_against(&ledger, &cluster).await;
}

fn note_end(ledger: &Ledger, member: &Member) {
    if let Member::Host(host) = member {
        ledger.ended(host);
    }
}

/// Waits until all is well again, and holds what failed until then against what may fail.
async fn settle(cluster: &Cluster, ledger: &Ledger) {
    cluster.is_well().await;
    ledger.everybody_goes_round(2).await;
    let failures = ledger.failures();
    let wrong: Vec<&Failure> = failures.iter().filter(|failure| !rules::is_allowed(failure)).collect();
    assert!(wrong.is_empty(), "{} of {} failures:\n{}", wrong.len(), failures.len(), told(wrong));
    ledger.enter(Phase::Calm);
}

/// Uploads the agent and begins the load.
async fn begin(cluster: &Cluster) -> (Arc<Ledger>, Vec<JoinHandle<()>>) {
    let ledger = Arc::new(Ledger::new(ALONE + 2 * TALKERS));
    let echo = calls::upload("echo", "1.0.0", &bundle());
    Worker::new(0, &ledger, &cluster.balancer).surely("upload", None, &echo).await;
    let mut number = 0;
    let mut worker = || {
        number += 1;
        Worker::new(number - 1, &ledger, &cluster.balancer)
    };
    let tasks = Tasks::new();
    let mut workers = vec![
        tasks.spawn(calls::read(worker())),
        tasks.spawn(calls::make_keys(worker())),
        tasks.spawn(calls::change(worker())),
        tasks.spawn(calls::change(worker())),
        tasks.spawn(calls::upload_bundles(worker())),
        tasks.spawn(calls::make_instances(worker())),
        tasks.spawn(calls::make_instances(worker())),
    ];
    assert_eq!(workers.len(), ALONE);
    for _ in 0..TALKERS {
        let (told, heard) = watch::channel(None);
        workers.push(tasks.spawn(talk::talk(worker(), Tongue::Mixed, told)));
        workers.push(tasks.spawn(talk::follow(worker(), heard)));
    }
    ledger.everybody_goes_round(2).await;
    (ledger, workers)
}
