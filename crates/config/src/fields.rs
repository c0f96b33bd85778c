//! The typed configuration, section by section.

use std::{collections::BTreeMap, fmt, net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use http::{HeaderValue, Uri};
use portico_base::{Secret, network::Network};
use zeroize::Zeroizing;

use super::{ByteSize, PrivateUrl};

/// Everything the operator decides before start. Complete: defaults are filled in, paths are absolute.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address that the gateway listens on.
    pub listen: SocketAddr,
    /// The directory that everything embedded is kept in.
    pub data: PathBuf,
    /// What this installation is for; part of storage keys.
    pub environment: Environment,
    /// An administrator's key chosen by the operator, listed as `bootstrap`.
    pub admin_key: Option<Secret>,
    /// The key that seals stored secrets. When unset, one is made in the data directory.
    pub secrets_key: Option<SealingKey>,
    /// Earlier sealing keys, to open what they sealed.
    pub secrets_key_previous: Vec<SealingKey>,
    /// Where Ensemble answers.
    pub ensemble_url: Option<Uri>,
    /// The gateway's own key for Ensemble.
    pub ensemble_key: Option<Secret>,
    /// What clients reach Chronicle by, instead of internal host names.
    pub chronicle_public_base: Option<Uri>,
    /// Where durable facts are kept.
    pub records: Records,
    /// Where bundles are kept.
    pub blobs: Blobs,
    /// How S3 stores are reached.
    pub s3: S3,
    /// Where facts that expire are kept.
    pub registry: Registry,
    /// What carries events.
    pub bus: Bus,
    /// Whether a process starts without Valkey.
    pub valkey_at_start: AtStart,
    /// Whether rate limits are enforced.
    pub limits: Limits,
    /// The rate limits.
    pub rate: Rate,
    /// Pages of other origins that may call.
    pub cors: Origins,
    /// The certificate to answer with. Plain text when unset.
    pub tls: Option<Tls>,
    /// Bounds of uploads.
    pub uploads: Uploads,
    /// How long the gateway may take to end after a signal to stop.
    pub drain: Duration,
    /// How long of that it still serves new requests.
    pub drain_grace: Duration,
    /// What is logged, and how.
    pub log: Log,
    /// Where spans are sent.
    pub otlp: Otlp,
    /// Where instances run, and what each may use.
    pub fleet: Fleet,
    /// How gateways and hosts find and trust each other.
    pub peers: Peers,
}

/// What an installation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// A developer's machine.
    Dev,
    /// A rehearsal.
    Staging,
    /// The real thing.
    Production,
}

impl Environment {
    /// The name, as it stands in storage keys.
    pub const fn as_str(self) -> &'static str {
        match self {
            Environment::Dev => "dev",
            Environment::Staging => "staging",
            Environment::Production => "production",
        }
    }
}

/// Thirty-two secret bytes, wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey(Zeroizing<[u8; 32]>);

impl SealingKey {
    /// Takes the bytes.
    pub fn new(bytes: [u8; 32]) -> SealingKey {
        SealingKey(Zeroizing::new(bytes))
    }

    /// The bytes themselves, for the one place that needs them.
    pub fn reveal(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where durable facts are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// In an SQLite database in this file.
    Sqlite(PathBuf),
    /// In a PostgreSQL database.
    Postgres(PrivateUrl),
}

/// Where bundles are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blobs {
    /// As files in this directory.
    File(PathBuf),
    /// In a bucket.
    S3(Bucket),
}

/// A bucket of an S3 store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// What every key begins with: empty, or ending with a slash.
    pub prefix: String,
    /// Where the store answers; else what the section `s3` says.
    pub endpoint: Option<Uri>,
    /// The region; else what the section `s3` says.
    pub region: Option<String>,
    /// How the store encrypts objects, if it is to be told.
    pub encryption: Option<Encryption>,
}

/// How a store encrypts objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// With a key of its own.
    Aes256,
    /// With a key of AWS KMS: this one, or the account's default.
    Kms(Option<String>),
}

/// How S3 stores are reached where the bucket's URL does not say.
#[derive(Clone, Debug)]
pub struct S3 {
    /// The region.
    pub region: String,
    /// Where the store answers, if it is not Amazon's.
    pub endpoint: Option<Uri>,
    /// The id of the access key. Without it, credentials come from where AWS programs look.
    pub access_key_id: Option<Secret>,
    /// The secret of the access key.
    pub secret_access_key: Option<Secret>,
}

/// Where facts that expire are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registry {
    /// In this process.
    Local,
    /// On Valkey or Redis at this URL, which may carry a password.
    Valkey(Secret),
}

/// What carries events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// This process.
    Local,
    /// Valkey or Redis at this URL, which may carry a password.
    Valkey(Secret),
}

/// Whether a process starts without what it is configured to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtStart {
    /// It starts, does what it can, and uses the rest when that is there.
    Awaited,
    /// It ends with an error.
    Required,
}

/// Where instances run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// As child processes of this one.
    Local,
    /// On these hosts; on those that the registry knows when none is listed.
    Coordinators(Vec<Uri>),
}

/// Whether rate limits are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limits {
    /// They are.
    On,
    /// They are not, for load tests.
    Off,
}

/// The rate limits. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Calls per key and minute.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Calls that a rested key may make at once.
    pub burst: Option<NonZeroU32>,
    /// New instances per key and minute.
    pub instances_per_minute: Option<NonZeroU32>,
    /// Uploads per key and minute.
    pub uploads_per_minute: Option<NonZeroU32>,
    /// Uploads per key at the same time.
    pub uploads_concurrent: Option<NonZeroU32>,
    /// Refused credentials per address and minute.
    pub failed_auth_per_minute: Option<NonZeroU32>,
    /// Streams begun without a key, per address and minute.
    pub anonymous_streams_per_minute: Option<NonZeroU32>,
    /// Streams without a key, per address at the same time.
    pub anonymous_streams: Option<NonZeroU32>,
    /// Calls per key at the same time.
    pub concurrent_calls: Option<NonZeroU32>,
    /// Open sockets per key.
    pub sockets_per_key: Option<NonZeroU32>,
}

/// Pages of other origins that may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// None.
    None,
    /// All.
    Any,
    /// These, as the Origin header spells them.
    Listed(Vec<HeaderValue>),
}

/// How the gateway proves who it is, and asks callers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// A PEM file with the certificate chain.
    pub certificate: PathBuf,
    /// A PEM file with its private key.
    pub key: PathBuf,
    /// A PEM file with the authorities whose client certificates are honoured.
    pub client_ca: Option<PathBuf>,
    /// The ids of the keys that client certificates stand for, by the certificate's name.
    pub client_keys: BTreeMap<String, String>,
}

/// Bounds of uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uploads {
    /// The largest bundle.
    pub bundle_bytes_max: ByteSize,
    /// The longest time for one upload.
    pub total_max: Duration,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is logged.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// How severe a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Something failed that should not.
    Error,
    /// Something is not as it should be.
    Warn,
    /// One line per call, and what the operator should know.
    Info,
    /// Why decisions fell as they did.
    Debug,
    /// Everything.
    Trace,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For the eye.
    Text,
    /// For the query: one JSON object per line.
    Json,
}

/// Where spans are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// The collector, by OTLP over HTTP. Nothing is sent when unset.
    pub endpoint: Option<Uri>,
    /// What the gateway is called there.
    pub service: String,
}

/// Where instances run, and what each may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Where they run.
    pub host: Host,
    /// How many at the same time.
    pub instances_max: NonZeroU32,
    /// Memory of each.
    pub memory_bytes_max: ByteSize,
    /// Open files of each.
    pub open_files_max: NonZeroU32,
    /// Processor time of each over its whole life; `None` is no limit.
    pub cpu_max: Option<Duration>,
    /// Where their programs are looked for.
    pub path: String,
}

/// How gateways and hosts find and trust each other.
#[derive(Clone, Debug)]
pub struct Peers {
    /// What both sides know and nobody else.
    pub token: Option<Secret>,
    /// The id of this host; made at its first start when unset.
    pub id: Option<String>,
    /// Where gateways reach this host.
    pub advertise: Option<Uri>,
    /// The networks that hosts may be in.
    pub networks: Vec<Network>,
    /// A PEM file with the authorities whose certificates hosts have.
    pub ca: Option<PathBuf>,
    /// A PEM file with the certificate that gateways show to hosts.
    pub certificate: Option<PathBuf>,
    /// A PEM file with its private key.
    pub key: Option<PathBuf>,
}
