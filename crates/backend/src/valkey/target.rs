//! From a URL to a connection.
//!
//! A newcomer's usual mistake is to print a URL. It may carry a password; what goes wrong is said without it.
//!
//! | URL | what is there |
//! |---|---|
//! | `valkey://[user:password@]host[:6379][/database]` | one server; `valkeys://` with TLS |
//! | `valkey+sentinel://[user:password@]host[:26379],…/name[/database]` | the primary that these sentinels name |
//! | `valkey+cluster://[user:password@]host[:6379],…` | a cluster, of which these are some members |
//!
//! `redis` stands for `valkey` wherever it is written, and `valkeys` and `rediss` encrypt in every form. With these,
//! `?ca=PATH` names a PEM file with the authorities to trust, instead of those of the system, and
//! `&certificate=PATH&key=PATH` what to show to a server that asks for it. These files are read for every connection, since
//! they may have been renewed; while they cannot be, what was read before is used.
//!
//! Sentinels are reached by the same TLS as the servers that they name. The user of the URL is for the servers; sentinels that
//! want a password are given `?sentinel_password=…`, and `&sentinel_user=…` where they have users.
//!
//! *Knows:* the forms of URLs, how each is dialled. *Does not know:* when to dial, what is asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use percent_encoding::percent_decode_str;
use portico_base::{Current, Secret};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionInfo, IntoConnectionInfo, Pipeline, RedisFuture,
    RedisResult, TlsCertificates, TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::sync::Mutex;

/// How long a command may take, everything included.
pub(super) const COMMAND_WAIT: Duration = Duration::from_millis(500);
/// How long one step of dialling may take: a connection with its greeting. Nobody waits for it, and TLS has more to say.
const STEP_WAIT: Duration = Duration::from_secs(1);
/// What a query may say.
const OPTIONS: &str = "ca, certificate, key, sentinel_user, sentinel_password";
/// How long dialling may take in all. Sentinels are asked one after the other, and members of a cluster for its map.
const DIAL_WAIT: Duration = Duration::from_secs(2);

/// Where to connect to.
pub(super) struct Target {
    servers: Current<Servers>,
    /// The URL, where it may name files.
    renewed_by: Option<Secret>,
    /// Whether that was said of files that cannot be used.
    is_told: AtomicBool,
}

/// The servers of a URL, and what they are shown.
enum Servers {
    One(Box<Client>),
    Sentinel(Box<Mutex<SentinelClient>>),
    Cluster(Box<Cluster>),
}

/// The members of a cluster, for each use of a connection.
struct Cluster {
    commands: ClusterClient,
    reading: ClusterClient,
}

/// A connection. Clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// What a connection is for.
#[derive(Clone, Copy)]
pub(super) enum Use {
    /// Commands that answer at once.
    Commands,
    /// Commands that wait until there is something to say; whoever sends one bounds it.
    Reading,
}

impl Target {
    /// Reads a URL, and the files that it names.
    ///
    /// # Errors
    /// What is wrong with it, to follow "it".
    pub(super) fn parse(url: &str) -> Result<Target, String> {
        let renewed_by = url.contains('?').then(|| Secret::new(url));
        Ok(Target { servers: Current::new(Servers::parse(url)?), renewed_by, is_told: AtomicBool::new(false) })
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(*self.servers.get(), Servers::Cluster(_))
    }

    /// Connects.
    ///
    /// # Errors
    /// Why not, for an operator.
    pub(super) async fn dial(&self, purpose: Use) -> Result<Connection, String> {
        let servers = self.servers();
        match tokio::time::timeout(DIAL_WAIT, servers.dialled(purpose)).await {
            Ok(dialled) => dialled.map_err(|error| error.to_string()),
            Err(_elapsed) => Err("it does not answer".to_owned()),
        }
    }

    /// The servers, by what is in the files now.
    fn servers(&self) -> Arc<Servers> {
        if let Some(url) = &self.renewed_by {
            let read = Servers::parse(url.reveal()).map(|servers| self.servers.set(servers));
            let was_told = self.is_told.swap(read.is_err(), Ordering::Relaxed);
            if let Err(why) = read
                && !was_told
            {
                tracing::error!(error = why, "the files of Valkey's URL cannot be used; what was in them before is");
            }
        }
        self.servers.get()
    }
}

impl Servers {
    fn parse(url: &str) -> Result<Servers, String> {
        let (scheme, rest) = url.split_once("://").ok_or("is not an absolute URL")?;
        let (family, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !matches!(family, "valkey" | "valkeys" | "redis" | "rediss") {
            return Err(format!("has the unknown scheme {scheme:?}"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut query = Query::parse(query)?;
        let certificates = query.certificates()?;
        if certificates.is_some() && !is_secure(family) {
            return Err("names certificates, but does not encrypt: write valkeys".to_owned());
        }
        if (query.sentinel_user.is_some() || query.sentinel_password.is_some()) && kind != "sentinel" {
            return Err("has a user or password of sentinels, but names none".to_owned());
        }
        match kind {
            "" => {
                let info = format!("{family}://{rest}").into_connection_info().map_err(said)?;
                let client = match certificates {
                    Some(certificates) => Client::build_with_tls(info, certificates),
                    None => Client::open(info),
                };
                client.map(|client| Servers::One(Box::new(client))).map_err(said)
            }
            "sentinel" => sentinel(family, rest, certificates, query),
            "cluster" => cluster(family, rest, certificates),
            _ => Err(format!("has the unknown scheme {scheme:?}")),
        }
    }

    async fn dialled(&self, purpose: Use) -> RedisResult<Connection> {
        let answers_within = match purpose {
            Use::Commands => Some(COMMAND_WAIT),
            Use::Reading => None,
        };
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(STEP_WAIT)).set_response_timeout(answers_within);
        match self {
            Servers::One(client) => {
                client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::One)
            }
            Servers::Sentinel(client) => {
                client.lock().await.get_async_connection_with_config(&config).await.map(Connection::One)
            }
            Servers::Cluster(cluster) => {
                let client = match purpose {
                    Use::Commands => &cluster.commands,
                    Use::Reading => &cluster.reading,
                };
                client.get_async_connection().await.map(Connection::Cluster)
            }
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Connection::One(connection) => connection.req_packed_command(cmd),
            Connection::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Connection::One(connection) => connection.req_packed_commands(cmd, offset, count),
            Connection::Cluster(connection) => connection.req_packed_commands(cmd, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Connection::One(connection) => connection.get_db(),
            Connection::Cluster(connection) => connection.get_db(),
        }
    }
}

/// What the query of a URL says.
#[derive(Default)]
struct Query {
    authorities: Option<Vec<u8>>,
    certificate: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
    sentinel_user: Option<String>,
    sentinel_password: Option<String>,
}

impl Query {
    fn parse(text: &str) -> Result<Query, String> {
        let mut query = Query::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value =
                percent_decode_str(value).decode_utf8().map_err(|_| format!("has a {name} that is not UTF-8"))?;
            let file =
                || std::fs::read(&*value).map_err(|error| format!("names a {name} that cannot be read: {error}"));
            match name {
                "ca" => query.authorities = Some(file()?),
                "certificate" => query.certificate = Some(file()?),
                "key" => query.key = Some(file()?),
                "sentinel_user" => query.sentinel_user = Some(value.into_owned()),
                "sentinel_password" => query.sentinel_password = Some(value.into_owned()),
                name => return Err(format!("has the unknown option {name:?}; known: {OPTIONS}")),
            }
        }
        Ok(query)
    }

    /// What to trust and to show; nothing to leave both to the system.
    fn certificates(&mut self) -> Result<Option<TlsCertificates>, String> {
        let client_tls = match (self.certificate.take(), self.key.take()) {
            (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig { client_cert, client_key }),
            (None, None) => None,
            _ => return Err("names only one of certificate and key".to_owned()),
        };
        let root_cert = self.authorities.take();
        if root_cert.as_ref().is_some_and(|pem| CertificateDer::pem_slice_iter(pem).next().is_none()) {
            return Err("names a ca without a certificate in it".to_owned());
        }
        let is_any = client_tls.is_some() || root_cert.is_some();
        Ok(is_any.then_some(TlsCertificates { client_tls, root_cert }))
    }
}

/// `user:password@a:1,b:2/name/0`, by what it consists of.
struct Parts<'a> {
    nodes: Vec<ConnectionInfo>,
    path: &'a str,
}

fn parts<'a>(family: &str, rest: &'a str, port: u16) -> Result<Parts<'a>, String> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, hosts) = authority.rsplit_once('@').map_or(("", authority), |(before, hosts)| (before, hosts));
    let node = |host: &str| {
        // What follows the last colon is a port, unless that colon belongs to an address in brackets.
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let port = if has_port { String::new() } else { format!(":{port}") };
        let user = if credentials.is_empty() { String::new() } else { format!("{credentials}@") };
        format!("{family}://{user}{host}{port}").into_connection_info().map_err(said)
    };
    let nodes = hosts.split(',').map(node).collect::<Result<Vec<_>, String>>()?;
    Ok(Parts { nodes, path })
}

fn sentinel(family: &str, rest: &str, certificates: Option<TlsCertificates>, query: Query) -> Result<Servers, String> {
    let Parts { nodes, path } = parts(family, rest, 26_379)?;
    let (name, database) = path.split_once('/').unwrap_or((path, "0"));
    if name.is_empty() {
        return Err("does not name the primary after the sentinels".to_owned());
    }
    let database = database.parse().map_err(|_| "has a database that is not a number")?;
    let primary = nodes.first().ok_or("names no host")?.redis_settings().clone();
    let addresses = nodes.iter().map(|node| node.addr().clone());
    let mut client = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)
        .map_err(said)?
        .set_client_to_redis_db(database);
    if let Some(user) = primary.username() {
        client = client.set_client_to_redis_username(user);
    }
    if let Some(password) = primary.password() {
        client = client.set_client_to_redis_password(password);
    }
    if let Some(user) = query.sentinel_user {
        client = client.set_client_to_sentinel_username(user);
    }
    if let Some(password) = query.sentinel_password {
        client = client.set_client_to_sentinel_password(password);
    }
    if is_secure(family) {
        client = client.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    if let Some(certificates) = certificates {
        client = client.set_client_to_sentinel_certificates(certificates.clone());
        client = client.set_client_to_redis_certificates(certificates);
    }
    client.build().map(|client| Servers::Sentinel(Box::new(Mutex::new(client)))).map_err(said)
}

fn cluster(family: &str, rest: &str, certificates: Option<TlsCertificates>) -> Result<Servers, String> {
    let Parts { nodes, path } = parts(family, rest, 6_379)?;
    if !path.is_empty() {
        return Err("has a path, which a cluster has no use for".to_owned());
    }
    let client = |answers_within: Duration| {
        let builder =
            ClusterClient::builder(nodes.clone()).connection_timeout(STEP_WAIT).response_timeout(answers_within);
        let builder = match &certificates {
            Some(certificates) => builder.certs(certificates.clone()),
            None => builder,
        };
        builder.build().map_err(said)
    };
    Ok(Servers::Cluster(Box::new(Cluster { commands: client(COMMAND_WAIT)?, reading: client(DIAL_WAIT)? })))
}

fn is_secure(family: &str) -> bool {
    matches!(family, "valkeys" | "rediss")
}

/// The crate names what it does not understand, but never quotes the URL.
fn said(error: redis::RedisError) -> String {
    format!("is not understood: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_by_their_form_and_never_quoted() {
        for good in [
            "valkey://localhost",
            "redis://:secret@10.0.0.1:7000/3",
            "rediss://ann:secret@[::1]:7000",
            "valkey+sentinel://ann:secret@a,b:1,[::1]/main/2?sentinel_password=secret&sentinel_user=ann",
            "valkey+cluster://a:1,b",
        ] {
            assert!(Target::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "localhost:6379",
            "http://:secret@host",
            "valkey://:secret@host/x",
            "valkeys://host?ca=/nowhere",
            "valkeys://:secret@host?certificate=Cargo.toml",
            "valkeys://:secret@host?password=x",
            "valkey://:secret@host?ca=Cargo.toml",
            "valkey+cluster://host?sentinel_password=secret",
            "valkey+sentinel://:secret@a,b",
            "valkey+cluster://:secret@a/1",
            "valkey+ring://:secret@a",
        ] {
            let Err(why) = Target::parse(bad) else { panic!("{bad} is accepted") };
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
