//! Servers that act as one: a primary and its replica under a sentinel, and a cluster in which one member has a replica.
//!
//! A newcomer's usual mistake is to fail over before the others know of the replica. Whoever starts a group waits until they do.

use std::{fs, time::Duration};

use super::{Maker, answers, ask, tls::Certificates};
use crate::support::{
    gateway::PATIENCE,
    server::{Server, accepts, free_port},
};

const ASK_AGAIN: Duration = Duration::from_millis(50);
/// The name under which the sentinel knows its primary.
pub(crate) const NAME: &str = "main";
/// How long members and sentinels wait before they hold another for dead.
const SILENCE_MS: &str = "1000";
/// Members have copies instead of a disk.
const FORGETFUL: [&str; 2] = ["--appendonly", "no"];
/// Slots of a cluster.
const SLOTS: u32 = 16_384;

/// A primary and its replica under a sentinel.
pub(crate) struct Watched {
    pub(crate) primary: Server,
    pub(crate) replica: Server,
    pub(crate) sentinel: Server,
}

impl Watched {
    pub(crate) async fn start(maker: Maker) -> Watched {
        let primary = maker.start(&FORGETFUL);
        let port = primary.address().port().to_string();
        let replica = maker.start(&[&FORGETFUL[..], &["--replicaof", "127.0.0.1", &port]].concat());
        let sentinel = sentinel(maker, &port, "");
        until("the replica follows, and the sentinel knows it", async || {
            let known: Vec<redis::Value> = ask(&sentinel, &format!("SENTINEL REPLICAS {NAME}")).await;
            let info: String = ask(&replica, "INFO replication").await;
            !known.is_empty() && info.contains("master_link_status:up")
        })
        .await;
        Watched { primary, replica, sentinel }
    }

    /// The URL that names a sentinel that is not there, and then this one.
    pub(crate) fn url(&self) -> String {
        format!("valkey+sentinel://127.0.0.1:1,{}/{NAME}", self.sentinel.address())
    }
}

/// A sentinel over the primary at this port, with this further configuration.
pub(crate) fn sentinel(maker: Maker, primary_port: &str, more: &str) -> Server {
    let told = format!(
        "sentinel monitor {NAME} 127.0.0.1 {primary_port} 1\n\
         sentinel down-after-milliseconds {NAME} {SILENCE_MS}\n\
         sentinel failover-timeout {NAME} 5000\n{more}\n"
    );
    let is_secure = told.contains("tls-port PORT");
    maker.start_by(if is_secure { accepts } else { answers }, move |port, folder| {
        let (file, folder) = (folder.join("sentinel.conf"), folder.display());
        // A sentinel writes down in its file what it learns.
        let listen = if is_secure { "port 0".to_owned() } else { format!("port {port}") };
        let told = told.replace("tls-port PORT", &format!("tls-port {port}"));
        fs::write(&file, format!("{listen}\ndir {folder}\n{told}")).unwrap();
        vec![file.display().to_string(), "--sentinel".to_owned()]
    })
}

/// Three members with the slots among them, and a replica of one.
pub(crate) struct Members {
    pub(crate) primaries: Vec<Server>,
    /// Of the first.
    pub(crate) replica: Server,
    /// One that is not there, and the second and the third.
    pub(crate) named: String,
}

impl Members {
    /// Starts them. The first one has the slot of this key.
    pub(crate) async fn start(maker: Maker, key: &str) -> Members {
        Members::of(|| member(maker, &[]), key).await
    }

    /// The same with TLS among them and for clients, and with these further arguments. The tests speak plain text to them.
    pub(crate) async fn start_secure(maker: Maker, key: &str, files: &Certificates, more: &[String]) -> Members {
        let secure =
            || [&["--tls-port".to_owned(), free_port().to_string()], files.arguments().as_slice(), more].concat();
        Members::of(|| member(maker, &secure()), key).await
    }

    async fn of(member: impl Fn() -> Server, key: &str) -> Members {
        let mut primaries: Vec<Server> = (0..3).map(|_| member()).collect();
        let replica = member();
        let slot: u32 = ask(&primaries[0], &format!("CLUSTER KEYSLOT {key}")).await;
        let share = SLOTS.div_ceil(3);
        for (at, server) in primaries.iter().enumerate() {
            let first = u32::try_from(at).unwrap() * share;
            let last = (first + share).min(SLOTS) - 1;
            ask::<()>(server, &format!("CLUSTER ADDSLOTSRANGE {first} {last}")).await;
        }
        primaries.rotate_left(usize::try_from(slot / share).unwrap());
        for server in primaries.iter().skip(1).chain([&replica]) {
            let (port, bus) = (port(server).await, told(server, "cluster-port").await);
            ask::<()>(&primaries[0], &format!("CLUSTER MEET 127.0.0.1 {port} {bus}")).await;
        }
        let all = || primaries.iter().chain([&replica]);
        until("all members know each other", async || {
            for server in all() {
                let info: String = ask(server, "CLUSTER INFO").await;
                if !info.contains("cluster_state:ok") || !info.contains("cluster_known_nodes:4") {
                    return false;
                }
            }
            true
        })
        .await;
        let id: String = ask(&primaries[0], "CLUSTER MYID").await;
        ask::<()>(&replica, &format!("CLUSTER REPLICATE {id}")).await;
        until("the replica follows, and all know that", async || {
            for server in all() {
                let nodes: String = ask(server, "CLUSTER NODES").await;
                if !nodes.lines().any(|node| node.contains("slave") && node.contains(&id)) {
                    return false;
                }
            }
            let info: String = ask(&replica, "INFO replication").await;
            info.contains("master_link_status:up")
        })
        .await;
        let (second, third) = (port(&primaries[1]).await, port(&primaries[2]).await);
        let named = format!("127.0.0.1:1,127.0.0.1:{second},127.0.0.1:{third}");
        Members { primaries, replica, named }
    }

    /// The URL of those that speak plain text.
    pub(crate) fn url(&self) -> String {
        format!("valkey+cluster://{}", self.named)
    }
}

/// Waits until the replica has what its primary has now.
pub(crate) async fn caught_up(primary: &Server, replica: &Server) {
    let offset = async |server: &Server, field: &str| -> u64 {
        let info: String = ask(server, "INFO replication").await;
        info.lines().find_map(|line| line.strip_prefix(field)?.trim().parse().ok()).unwrap_or_default()
    };
    let there = offset(primary, "master_repl_offset:").await;
    until("the replica has caught up", async || offset(replica, "slave_repl_offset:").await >= there).await;
}

fn member(maker: Maker, more: &[String]) -> Server {
    // Members speak to each other on a port of their own, which is by default beyond what some free ports allow.
    let bus = free_port().to_string();
    let cluster = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", SILENCE_MS];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    maker.start(&[&FORGETFUL[..], &cluster, &more].concat())
}

/// Where a member is for clients and for other members.
async fn port(server: &Server) -> String {
    let secure = told(server, "tls-port").await;
    if secure == "0" { server.address().port().to_string() } else { secure }
}

/// What a server was told at its start.
async fn told(server: &Server, option: &str) -> String {
    let [_, value]: [String; 2] = ask(server, &format!("CONFIG GET {option}")).await;
    value
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let asked = async {
        while !is_so().await {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("never: {what}"));
}
