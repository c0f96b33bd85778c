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
//! `redis` stands for `valkey` wherever it is written. `?ca=PATH` names a PEM file with the authorities to trust.
//!
//! *Knows:* the forms of URLs, how each is dialled. *Does not know:* when to dial, what is asked.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisFuture,
    RedisResult, TlsCertificates, TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType},
};
use tokio::sync::Mutex;

/// How long one step of dialling may take: a connection, a greeting.
const STEP_WAIT: Duration = Duration::from_millis(500);
/// How long dialling may take in all. Sentinels are asked one after the other, and members of a cluster for its map.
const DIAL_WAIT: Duration = Duration::from_secs(2);

/// Where to connect to.
pub(super) enum Target {
    One(Box<Client>),
    Sentinel(Box<Mutex<SentinelClient>>),
    Cluster(Box<Cluster>),
}

/// The members of a cluster, for each use of a connection.
pub(super) struct Cluster {
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
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, to follow "it".
    pub(super) fn parse(url: &str) -> Result<Target, String> {
        let (scheme, rest) = url.split_once("://").ok_or("is not an absolute URL")?;
        let (rest, certificates) = authorities(rest)?;
        let (family, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !matches!(family, "valkey" | "valkeys" | "redis" | "rediss") {
            return Err(format!("has the unknown scheme {scheme:?}"));
        }
        match kind {
            "" => {
                let info = format!("{family}://{rest}").into_connection_info().map_err(said)?;
                let client = match certificates {
                    Some(certificates) => Client::build_with_tls(info, certificates),
                    None => Client::open(info),
                };
                client.map(|client| Target::One(Box::new(client))).map_err(said)
            }
            "sentinel" => sentinel(family, rest, certificates),
            "cluster" => cluster(family, rest, certificates),
            _ => Err(format!("has the unknown scheme {scheme:?}")),
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Target::Cluster(_))
    }

    /// Connects.
    ///
    /// # Errors
    /// Why not, for an operator.
    pub(super) async fn dial(&self, purpose: Use) -> Result<Connection, String> {
        match tokio::time::timeout(DIAL_WAIT, self.dialled(purpose)).await {
            Ok(dialled) => dialled.map_err(|error| error.to_string()),
            Err(_elapsed) => Err("it does not answer".to_owned()),
        }
    }

    async fn dialled(&self, purpose: Use) -> RedisResult<Connection> {
        let answers_within = match purpose {
            Use::Commands => Some(STEP_WAIT),
            Use::Reading => None,
        };
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(STEP_WAIT)).set_response_timeout(answers_within);
        match self {
            Target::One(client) => {
                client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::One)
            }
            Target::Sentinel(client) => {
                client.lock().await.get_async_connection_with_config(&config).await.map(Connection::One)
            }
            Target::Cluster(cluster) => {
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

/// The URL without its `ca`, and the authorities in that file.
fn authorities(rest: &str) -> Result<(&str, Option<TlsCertificates>), String> {
    let Some((rest, query)) = rest.split_once('?') else { return Ok((rest, None)) };
    let path = query.strip_prefix("ca=").ok_or("has a query in which only ca=PATH is known")?;
    let root_cert = std::fs::read(path).map_err(|error| format!("names authorities that cannot be read: {error}"))?;
    Ok((rest, Some(TlsCertificates { client_tls: None, root_cert: Some(root_cert) })))
}

/// `user:password@a:1,b:2/name/0`, by what it consists of.
struct Parts<'a> {
    nodes: Vec<ConnectionInfo>,
    credentials: RedisConnectionInfo,
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
    let credentials = nodes.first().ok_or("names no host")?.redis_settings().clone();
    Ok(Parts { nodes, credentials, path })
}

fn sentinel(family: &str, rest: &str, certificates: Option<TlsCertificates>) -> Result<Target, String> {
    if certificates.is_some() {
        return Err("has authorities of its own, which sentinels do not take; trust them system-wide".to_owned());
    }
    let Parts { nodes, credentials, path } = parts(family, rest, 26_379)?;
    let (name, database) = path.split_once('/').unwrap_or((path, "0"));
    if name.is_empty() {
        return Err("does not name the primary after the sentinels".to_owned());
    }
    let database = database.parse().map_err(|_| "has a database that is not a number")?;
    // Sentinels have no users of their own here; the credentials are the primary's.
    let nodes = nodes.into_iter().map(|node| node.set_redis_settings(RedisConnectionInfo::default())).collect();
    let mut primary = SentinelNodeConnectionInfo::default().set_redis_connection_info(credentials.set_db(database));
    if secure(family) {
        primary = primary.set_tls_mode(TlsMode::Secure);
    }
    let client = SentinelClient::build(nodes, name, Some(primary), SentinelServerType::Master);
    client.map(|client| Target::Sentinel(Box::new(Mutex::new(client)))).map_err(said)
}

fn cluster(family: &str, rest: &str, certificates: Option<TlsCertificates>) -> Result<Target, String> {
    let Parts { nodes, path, .. } = parts(family, rest, 6_379)?;
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
    Ok(Target::Cluster(Box::new(Cluster { commands: client(STEP_WAIT)?, reading: client(DIAL_WAIT)? })))
}

fn secure(family: &str) -> bool {
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
            "valkey+sentinel://ann:secret@a,b:1,[::1]/main/2",
            "valkey+cluster://a:1,b",
        ] {
            assert!(Target::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "localhost:6379",
            "http://:secret@host",
            "valkey://:secret@host/x",
            "valkey://host?ca=/nowhere/secret",
            "valkey+sentinel://:secret@a,b",
            "valkey+cluster://:secret@a/1",
            "valkey+ring://:secret@a",
        ] {
            let Err(why) = Target::parse(bad) else { panic!("{bad} is accepted") };
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
