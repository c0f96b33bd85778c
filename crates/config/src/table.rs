//! Every setting, once.
//!
//! *Knows:* names, defaults, sentences and where a value goes. *Does not know:* where values come from.

use std::collections::BTreeMap;

use super::{
    AtStart, Bus, ByteSize, Config, Environment, Limits, LogFormat, LogLevel, Registry, Tls,
    parse::{self, Parsed},
    places,
};

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its key in the file, dotted.
    pub key: &'static str,
    /// Its environment variable.
    pub variable: &'static str,
    /// What it is when nobody says; empty when it is then unset.
    pub default: &'static str,
    /// What values it takes, to follow "write": unit and bounds included.
    pub takes: &'static str,
    /// What it decides, as a sentence.
    pub about: &'static str,
    /// Whether its value must not be printed.
    pub secret: bool,
    /// When a change of it takes effect.
    pub change: Change,
    /// Puts a value in its place.
    pub(super) apply: Apply,
}

/// When a change of a setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// At the next start.
    AtStart,
    /// When the configuration is read again.
    OnReload,
}

/// Reads a value and puts it in its place.
type Apply = fn(&mut Config, &str) -> Parsed<()>;

/// The smallest bound on bundles that lets anything through.
const BUNDLE_BYTES_LEAST: ByteSize = ByteSize(1 << 10);
/// A bundle is spooled to disk; beyond this a typing error is likelier than a bundle.
const BUNDLE_BYTES_MOST: ByteSize = ByteSize(64 << 30);
/// Less than this starts no interpreter.
const MEMORY_BYTES_LEAST: ByteSize = ByteSize(16 << 20);
/// More than any machine has.
const MEMORY_BYTES_MOST: ByteSize = ByteSize(64 << 40);

const COUNT: &str = "a whole number from 1 to 4294967295";
const LIMIT: &str = "a whole number from 0 to 4294967295; 0 is no limit";
const SECONDS: &str = "a whole number of seconds from 0 to 86400";
const SEALING_KEY: &str = "32 bytes as base64 or hex, for example what `openssl rand -base64 32` prints";
const VALKEY: &str = "local: for this process alone, or the URL of Valkey or Redis: valkey://[USER:PASSWORD@]HOST[:PORT][/DATABASE], \
valkeys: with TLS, valkey+sentinel://HOST,HOST/NAME[/DATABASE], valkey+cluster://HOST,HOST, the same with redis; with TLS, ?ca=PATH names authorities \
to trust, and certificate=PATH&key=PATH what to show; ?sentinel_password=PASSWORD is for sentinels that want one";
const FILE: &str = "the path of a readable PEM file";

/// Every setting, in the order of the reference document.
#[rustfmt::skip]
pub static SETTINGS: &[Setting] = &[
    plain("listen", "PORTICO_LISTEN", "127.0.0.1:8080", "a host and a port; port 0 takes any free one",
        "The address that the gateway listens on. A coordinator's default is `127.0.0.1:9090`.",
        |config, text| put(&mut config.listen, parse::address(text))),
    plain("data", "PORTICO_DATA", ".portico", "a directory, absolute or relative to where the gateway is started",
        "The directory that everything embedded is kept in. Made when it is missing.",
        |config, text| put(&mut config.data, parse::path(text))),
    plain("environment", "PORTICO_ENVIRONMENT", "dev", "dev, staging or production",
        "What this installation is for. Part of the storage keys of bundles.",
        |config, text| put(&mut config.environment, parse::word(text, &[
            ("dev", Environment::Dev), ("staging", Environment::Staging), ("production", Environment::Production)]))),
    secret("admin_key", "PORTICO_ADMIN_KEY", "a key that begins with pod_admin_ and has 32 to 256 visible ASCII characters",
        "An administrator's key chosen by the operator, listed as `bootstrap`.",
        |config, text| put_some(&mut config.admin_key, parse::admin_key(text))),
    secret("secrets_key", "PORTICO_SECRETS_KEY", SEALING_KEY,
        "The key that seals stored secrets. When it is unset, one is made in the data directory.",
        |config, text| put_some(&mut config.secrets_key, parse::sealing_key(text))),
    secret("secrets_key_previous", "PORTICO_SECRETS_KEY_PREVIOUS", "a list of keys, each 32 bytes as base64 or hex",
        "Earlier sealing keys, to open what they sealed. At its start, a gateway seals anew with the current key what they sealed.",
        |config, text| put(&mut config.secrets_key_previous, parse::list(text, parse::sealing_key))),
    plain("ensemble_url", "PORTICO_ENSEMBLE_URL", "", "an http or https URL",
        "Where Ensemble answers. Without it, there is no list of models.",
        |config, text| put_some(&mut config.ensemble_url, parse::url(text, &["http", "https"]))),
    secret("ensemble_key", "PORTICO_ENSEMBLE_KEY", "the key as Ensemble gave it, in visible ASCII characters",
        "The gateway's own key for Ensemble.",
        |config, text| put_some(&mut config.ensemble_key, parse::secret(text))),
    plain("chronicle_public_base", "PORTICO_CHRONICLE_PUBLIC_BASE", "", "a ws, wss, http or https URL",
        "What clients reach Chronicle by, instead of internal host names. Without it, no Chronicle address is shown.",
        |config, text| put_some(&mut config.chronicle_public_base, parse::url(text, &["ws", "wss", "http", "https"]))),
    plain("records", "PORTICO_RECORDS", "sqlite:", "sqlite: for a database in the data directory, sqlite:PATH, or postgres://user:password@host/database with sslmode and sslrootcert as libpq has them",
        "Where durable facts are kept.",
        |config, text| put(&mut config.records, places::records(text))),
    plain("blobs", "PORTICO_BLOBS", "file:", "file: for a folder in the data directory, file:PATH, or s3://bucket/prefix with the options endpoint, region, sse (AES256 or aws:kms) and kms_key",
        "Where bundles are kept.",
        |config, text| put(&mut config.blobs, places::blobs(text))),
    plain("registry", "PORTICO_REGISTRY", "local:", VALKEY,
        "Where facts that expire are kept: leases, quotas, who is alive.",
        |config, text| put(&mut config.registry, parse::valkey(text).map(|url| url.map_or(Registry::Local, Registry::Valkey)))),
    plain("bus", "PORTICO_BUS", "local:", VALKEY,
        "What carries events.",
        |config, text| put(&mut config.bus, parse::valkey(text).map(|url| url.map_or(Bus::Local, Bus::Valkey)))),
    plain("require_valkey", "PORTICO_REQUIRE_VALKEY", "off", "on or off",
        "Whether a process that cannot reach Valkey when it starts ends with an error. Off, it starts, is not ready, and uses Valkey as soon as it is there.",
        |config, text| put(&mut config.valkey_at_start, parse::word(text, &[("on", AtStart::Required), ("off", AtStart::Awaited)]))),
    live("limits", "PORTICO_LIMITS", "on", "on or off",
        "Whether the limits under `rate` are enforced. Off is for load tests.",
        |config, text| put(&mut config.limits, parse::word(text, &[("on", Limits::On), ("off", Limits::Off)]))),

    plain("fleet.url", "PORTICO_FLEET", "local:", "local: for this machine, coordinator: for the hosts that the registry knows, or coordinator: and a list of URLs",
        "Where instances run. `fleet = \"local:\"` says the same where no other setting of the fleet is given.",
        |config, text| put(&mut config.fleet.host, parse::fleet(text))),
    plain("fleet.instances_max", "PORTICO_FLEET_INSTANCES_MAX", "64", COUNT,
        "How many instances run at the same time.",
        |config, text| put(&mut config.fleet.instances_max, parse::count(text))),
    plain("fleet.memory_bytes_max", "PORTICO_FLEET_MEMORY_BYTES_MAX", "2GiB", "a size from 16MiB to 65536GiB",
        "Memory of each instance.",
        |config, text| put(&mut config.fleet.memory_bytes_max, parse::between(text, MEMORY_BYTES_LEAST, MEMORY_BYTES_MOST))),
    plain("fleet.open_files_max", "PORTICO_FLEET_OPEN_FILES_MAX", "1024", COUNT,
        "Open files of each instance.",
        |config, text| put(&mut config.fleet.open_files_max, parse::count(text))),
    plain("fleet.path", "PORTICO_FLEET_PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "directories, separated by colons",
        "Where the programs of agents are looked for; agents do not see the gateway's own environment.",
        |config, text| put(&mut config.fleet.path, Ok(text.to_owned()))),
    plain("fleet.cpu_seconds_max", "PORTICO_FLEET_CPU_SECONDS_MAX", "0", "a whole number of seconds from 0 to 86400; 0 is no limit",
        "Processor time of each instance over its whole life.",
        |config, text| put(&mut config.fleet.cpu_max, parse::seconds(text).map(|time| Some(time).filter(|time| !time.is_zero())))),
    secret("fleet.token", "PORTICO_FLEET_TOKEN", "a text in visible ASCII characters, the same on every gateway and host",
        "What gateways show to hosts. A host without it, and without `tls.client_ca`, listens on the loopback only. COORDINATOR_TOKEN says the same with less weight.",
        |config, text| put_some(&mut config.peers.token, parse::secret(text))),
    plain("fleet.id", "PORTICO_FLEET_ID", "", "1 to 64 letters, digits, `_` or `-`, unlike those of every other host",
        "The id of this host. When it is unset, one is made in the data directory. COORDINATOR_ID says the same with less weight.",
        |config, text| put_some(&mut config.peers.id, parse::id(text))),
    plain("fleet.advertise", "PORTICO_FLEET_ADVERTISE", "", "an http or https URL",
        "Where gateways reach this host. When it is unset, the address that it listens on.",
        |config, text| put_some(&mut config.peers.advertise, parse::url(text, &["http", "https"]))),
    plain("fleet.networks", "PORTICO_FLEET_NETWORKS", "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7", "a list of networks such as 10.0.0.0/8",
        "The networks that hosts may be in; a gateway dials no others, whatever the registry says.",
        |config, text| put(&mut config.peers.networks, parse::list(text, |part| part.parse().map_err(str::to_owned)))),
    live("fleet.ca", "PORTICO_FLEET_CA", "", FILE,
        "The authorities whose certificates hosts have. When it is unset, those that the system has at the start.",
        |config, text| put_some(&mut config.peers.ca, parse::file(text))),
    live("fleet.certificate", "PORTICO_FLEET_CERTIFICATE", "", FILE,
        "The certificate that a gateway shows to hosts.",
        |config, text| put_some(&mut config.peers.certificate, parse::file(text))),
    live("fleet.key", "PORTICO_FLEET_KEY", "", FILE,
        "The private key of that certificate.",
        |config, text| put_some(&mut config.peers.key, parse::file(text))),

    live("rate.requests_per_minute", "PORTICO_RATE_REQUESTS_PER_MINUTE", "600", LIMIT,
        "Calls per key and minute, for keys without a rate of their own.",
        |config, text| put(&mut config.rate.requests_per_minute, parse::limit(text))),
    live("rate.burst", "PORTICO_RATE_BURST", "100", LIMIT,
        "Calls that a rested key may make at once.",
        |config, text| put(&mut config.rate.burst, parse::limit(text))),
    live("rate.instances_per_minute", "PORTICO_RATE_INSTANCES_PER_MINUTE", "30", LIMIT,
        "New instances per key and minute.",
        |config, text| put(&mut config.rate.instances_per_minute, parse::limit(text))),
    live("rate.uploads_per_minute", "PORTICO_RATE_UPLOADS_PER_MINUTE", "10", LIMIT,
        "Uploads per key and minute.",
        |config, text| put(&mut config.rate.uploads_per_minute, parse::limit(text))),
    live("rate.uploads_concurrent", "PORTICO_RATE_UPLOADS_CONCURRENT", "2", LIMIT,
        "Uploads per key at the same time.",
        |config, text| put(&mut config.rate.uploads_concurrent, parse::limit(text))),
    live("rate.failed_auth_per_minute", "PORTICO_RATE_FAILED_AUTH_PER_MINUTE", "20", LIMIT,
        "Refused credentials per address and minute. Loopback addresses have no limit: all callers of a proxy here come from one.",
        |config, text| put(&mut config.rate.failed_auth_per_minute, parse::limit(text))),
    live("rate.anonymous_streams_per_minute", "PORTICO_RATE_ANONYMOUS_STREAMS_PER_MINUTE", "6000", LIMIT,
        "Streams begun without a key, per address and minute, a sixth of them at once. Loopback addresses have no limit.",
        |config, text| put(&mut config.rate.anonymous_streams_per_minute, parse::limit(text))),
    live("rate.anonymous_streams", "PORTICO_RATE_ANONYMOUS_STREAMS", "64", LIMIT,
        "Streams without a key, per address at the same time. Loopback addresses have no limit.",
        |config, text| put(&mut config.rate.anonymous_streams, parse::limit(text))),
    live("rate.concurrent_calls", "PORTICO_RATE_CONCURRENT_CALLS", "256", LIMIT,
        "Calls per key at the same time.",
        |config, text| put(&mut config.rate.concurrent_calls, parse::limit(text))),
    live("rate.sockets_per_key", "PORTICO_RATE_SOCKETS_PER_KEY", "1000", LIMIT,
        "Open sockets per key.",
        |config, text| put(&mut config.rate.sockets_per_key, parse::limit(text))),

    live("cors.origins", "PORTICO_CORS_ORIGINS", "", "a list of origins such as https://app.example.com, or * for all",
        "Pages of other origins that may call from a browser.",
        |config, text| put(&mut config.cors, parse::origins(text))),
    live("tls.certificate", "PORTICO_TLS_CERTIFICATE", "", FILE,
        "The certificate chain to answer with. Without it, the gateway speaks plain text.",
        |config, text| put(&mut tls(config).certificate, parse::file(text))),
    live("tls.key", "PORTICO_TLS_KEY", "", FILE,
        "The private key of the certificate.",
        |config, text| put(&mut tls(config).key, parse::file(text))),
    live("tls.client_ca", "PORTICO_TLS_CLIENT_CA", "", FILE,
        "The authorities whose client certificates are honoured.",
        |config, text| put_some(&mut tls(config).client_ca, parse::file(text))),
    plain("tls.client_keys", "PORTICO_TLS_CLIENT_KEYS", "", "a list of NAME=KEY_ID, where NAME is the first URI or else the first DNS name of a certificate",
        "The keys that client certificates stand for. A certificate that is not listed gives no rights.",
        |config, text| put(&mut tls(config).client_keys, parse::pairs(text))),

    plain("uploads.bundle_bytes_max", "PORTICO_UPLOADS_BUNDLE_BYTES_MAX", "256MiB", "a size from 1KiB to 64GiB",
        "The largest bundle, compressed.",
        |config, text| put(&mut config.uploads.bundle_bytes_max, parse::between(text, BUNDLE_BYTES_LEAST, BUNDLE_BYTES_MOST))),
    plain("uploads.total_seconds_max", "PORTICO_UPLOADS_TOTAL_SECONDS_MAX", "600", "a whole number of seconds from 1 to 600",
        "The longest time for one upload.",
        |config, text| put(&mut config.uploads.total_max, parse::upload_seconds(text))),
    live("drain.seconds", "PORTICO_DRAIN_SECONDS", "25", SECONDS,
        "How long the gateway may take to end after a signal to stop: calls, then agents and stores.",
        |config, text| put(&mut config.drain, parse::seconds(text))),
    live("drain.grace_seconds", "PORTICO_DRAIN_GRACE_SECONDS", "3", SECONDS,
        "How long of that new requests are still served, so that load balancers notice.",
        |config, text| put(&mut config.drain_grace, parse::seconds(text))),

    live("log.level", "PORTICO_LOG_LEVEL", "info", "error, warn, info, debug or trace",
        "The least severe level that is logged.",
        |config, text| put(&mut config.log.level, parse::word(text, &[
            ("error", LogLevel::Error), ("warn", LogLevel::Warn), ("info", LogLevel::Info),
            ("debug", LogLevel::Debug), ("trace", LogLevel::Trace)]))),
    plain("log.format", "PORTICO_LOG_FORMAT", "text", "text or json",
        "How a log line looks.",
        |config, text| put(&mut config.log.format, parse::word(text, &[("text", LogFormat::Text), ("json", LogFormat::Json)]))),
    plain("otlp.endpoint", "PORTICO_OTLP_ENDPOINT", "", "an http or https URL",
        "The collector that spans are sent to.",
        |config, text| put_some(&mut config.otlp.endpoint, parse::url(text, &["http", "https"]))),
    plain("otlp.service", "PORTICO_OTLP_SERVICE", "portico", "a name",
        "What spans call the gateway (`service.name`).",
        |config, text| put(&mut config.otlp.service, Ok(text.to_owned()))),

    plain("s3.region", "PORTICO_S3_REGION", "us-east-1", "the name of a region",
        "The region of S3 stores, where the bucket's URL says none.",
        |config, text| put(&mut config.s3.region, Ok(text.to_owned()))),
    plain("s3.endpoint", "PORTICO_S3_ENDPOINT", "", "an http or https URL",
        "Where an S3 store other than Amazon's answers. Buckets then stand in the path.",
        |config, text| put_some(&mut config.s3.endpoint, parse::url(text, &["http", "https"]))),
    secret("s3.access_key_id", "PORTICO_S3_ACCESS_KEY_ID", "the id as the store gave it, in visible ASCII characters",
        "The access key of S3 stores. Without it, credentials come from where AWS programs look: variables, profiles, the machine.",
        |config, text| put_some(&mut config.s3.access_key_id, parse::secret(text))),
    secret("s3.secret_access_key", "PORTICO_S3_SECRET_ACCESS_KEY", "the secret as the store gave it, in visible ASCII characters",
        "The secret of that access key.",
        |config, text| put_some(&mut config.s3.secret_access_key, parse::secret(text))),
];

impl Setting {
    /// The setting of this key. A section that has a `url` may be named alone and then means that.
    pub fn of_key(key: &str) -> Option<&'static Setting> {
        let named = |name: &str| SETTINGS.iter().find(|setting| setting.key == name);
        named(key).or_else(|| named(&format!("{key}.url")))
    }

    /// The setting of this environment variable.
    pub fn of_variable(name: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.variable == name)
    }
}

const fn plain(
    key: &'static str,
    variable: &'static str,
    default: &'static str,
    takes: &'static str,
    about: &'static str,
    apply: Apply,
) -> Setting {
    Setting { key, variable, default, takes, about, secret: false, change: Change::AtStart, apply }
}

/// A setting that may change while the gateway runs.
const fn live(
    key: &'static str,
    variable: &'static str,
    default: &'static str,
    takes: &'static str,
    about: &'static str,
    apply: Apply,
) -> Setting {
    Setting { change: Change::OnReload, ..plain(key, variable, default, takes, about, apply) }
}

/// Secrets have no default: a well-known secret is none.
const fn secret(
    key: &'static str,
    variable: &'static str,
    takes: &'static str,
    about: &'static str,
    apply: Apply,
) -> Setting {
    Setting { key, variable, default: "", takes, about, secret: true, change: Change::AtStart, apply }
}

fn put<T>(place: &mut T, value: Parsed<T>) -> Parsed<()> {
    *place = value?;
    Ok(())
}

fn put_some<T>(place: &mut Option<T>, value: Parsed<T>) -> Parsed<()> {
    *place = Some(value?);
    Ok(())
}

/// The TLS section, begun. Whether it is complete is checked when everything has been read.
fn tls(config: &mut Config) -> &mut Tls {
    config.tls.get_or_insert_with(|| Tls {
        certificate: "".into(),
        key: "".into(),
        client_ca: None,
        client_keys: BTreeMap::new(),
    })
}
