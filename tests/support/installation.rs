//! An installation as production has it: PostgreSQL, Valkey and MinIO, and gateways and hosts as processes of their own.
//!
//! A newcomer's usual mistake is to give a process another address when it starts again. Each keeps its port and its folder,
//! as one under a supervisor does.
//!
//! *Knows:* how the parts are wired. *Does not know:* what is tested.

use std::{net::SocketAddr, process::Command};

use tokio::sync::{Mutex, MutexGuard};

use super::{
    gateway::ADMIN,
    minio::{self, answers, minio},
    postgres,
    server::{Recipe, Server},
    valkey::Maker,
};

/// What gateways and hosts know.
pub(crate) const TOKEN: &str = "both-know-it";
/// The key that seals stored secrets.
const SEALING: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// Limits are in force, and nobody reaches them.
const LIMITS: [(&str, &str); 5] = [
    ("PORTICO_RATE_REQUESTS_PER_MINUTE", "6000000"),
    ("PORTICO_RATE_BURST", "100000"),
    ("PORTICO_RATE_INSTANCES_PER_MINUTE", "60000"),
    ("PORTICO_RATE_UPLOADS_PER_MINUTE", "60000"),
    ("PORTICO_RATE_UPLOADS_CONCURRENT", "100"),
];

/// A whole installation under load, or an attack on a gateway, is enough for a small machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// What gateways and hosts stand on.
pub(crate) struct Parts {
    pub(crate) records: Server,
    pub(crate) registry: Server,
    pub(crate) blobs: Server,
    // Given back when the servers are gone.
    _alone: MutexGuard<'static, ()>,
}

/// Where a process reaches the parts.
#[derive(Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) records: SocketAddr,
    pub(crate) registry: SocketAddr,
    pub(crate) blobs: SocketAddr,
}

/// Until nothing else runs here that asks much of the machine.
pub(crate) async fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().await
}

impl Parts {
    /// Starts all three at the same time, once no other installation is there.
    pub(crate) async fn start() -> Parts {
        let alone = alone().await;
        std::thread::scope(|scope| {
            let records = scope.spawn(postgres::start);
            // Without a memory: nothing that must not be lost is there.
            let forgets = &["--maxmemory-policy", "noeviction", "--appendonly", "no"];
            let registry = scope.spawn(|| Maker::Valkey.start(forgets));
            let blobs = scope.spawn(minio);
            Parts {
                records: records.join().unwrap(),
                registry: registry.join().unwrap(),
                blobs: blobs.join().unwrap(),
                _alone: alone,
            }
        })
    }

    /// Where they are.
    pub(crate) fn reach(&self) -> Reach {
        Reach { records: self.records.address(), registry: self.registry.address(), blobs: self.blobs.address() }
    }
}

/// A gateway that finds its hosts in the registry.
pub(crate) fn gateway(reach: Reach, drain: Drain) -> Server {
    Server::start(Recipe {
        name: "gateway",
        command: Box::new(move |port, folder| {
            let mut variables = shared(reach, port, drain);
            variables.extend(LIMITS.map(|(name, value)| (name.to_owned(), value.to_owned())));
            let records = format!("postgres://portico@{}/postgres?sslmode=disable", reach.records);
            let own = [
                ("PORTICO_DATA", folder.join("data").display().to_string()),
                ("PORTICO_RECORDS", records),
                ("PORTICO_FLEET", "coordinator:".to_owned()),
                ("PORTICO_ADMIN_KEY", ADMIN.to_owned()),
                ("PORTICO_SECRETS_KEY", SEALING.to_owned()),
            ];
            variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
            portico("serve", &variables)
        }),
        ready: |address| answers(address, "/health/ready"),
    })
}

/// A host of this id, which gateways reach at another address if one is given.
pub(crate) fn coordinator(reach: Reach, drain: Drain, id: &'static str, advertised: Option<SocketAddr>) -> Server {
    Server::start(Recipe {
        name: "coordinator",
        command: Box::new(move |port, folder| {
            let mut variables = shared(reach, port, drain);
            let own =
                [("PORTICO_DATA", folder.join("data").display().to_string()), ("PORTICO_FLEET_ID", id.to_owned())];
            variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
            let advertised =
                advertised.map(|address| ("PORTICO_FLEET_ADVERTISE".to_owned(), format!("http://{address}")));
            variables.extend(advertised);
            portico("coordinator", &variables)
        }),
        ready: |address| answers(address, "/health"),
    })
}

/// How long a process takes to end, in seconds.
#[derive(Clone, Copy)]
pub(crate) struct Drain {
    pub(crate) total: u32,
    pub(crate) grace: u32,
}

fn shared(reach: Reach, port: u16, drain: Drain) -> Vec<(String, String)> {
    let registry = format!("valkey://{}", reach.registry);
    let blobs = format!("s3://{}?endpoint=http://{}&region=us-east-1", minio::BUCKET, reach.blobs);
    let variables = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("PORTICO_LISTEN", format!("127.0.0.1:{port}")),
        ("PORTICO_REGISTRY", registry.clone()),
        ("PORTICO_BUS", registry),
        ("PORTICO_BLOBS", blobs),
        ("PORTICO_S3_ACCESS_KEY_ID", minio::USER.to_owned()),
        ("PORTICO_S3_SECRET_ACCESS_KEY", minio::PASSWORD.to_owned()),
        ("PORTICO_FLEET_TOKEN", TOKEN.to_owned()),
        ("PORTICO_DRAIN_SECONDS", drain.total.to_string()),
        ("PORTICO_DRAIN_GRACE_SECONDS", drain.grace.to_string()),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The program with these variables and no others.
fn portico(what: &str, variables: &[(String, String)]) -> Command {
    let mut command = Command::new("env");
    command.arg("-i").args(variables.iter().map(|(name, value)| format!("{name}={value}")));
    command.arg(env!("CARGO_BIN_EXE_portico")).arg(what);
    command
}
