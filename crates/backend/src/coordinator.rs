//! Hosts on other machines: the fleet behind coordinators, over HTTP and WebSockets.
//!
//! ```text
//!   transport   connections, headers, bounds          address    where may be dialled
//!   trust       certificates, and whose are believed
//!   directory   which hosts there are, how they are   breaker    which are left alone
//!   refusal     what a refusal means                  said       what hosts say
//!   socket      native streams                        lines      followed logs
//! ```
//!
//! A newcomer's usual mistake is to try again here. What a failure leaves behind is said by its `Retry`; whether, and where,
//! to try again is the domain's.
//!
//! *Knows:* the coordinator API. *Does not know:* placement, records, tenants' rights.

mod address;
mod breaker;
mod directory;
mod lines;
mod refusal;
mod said;
mod socket;
mod transport;
mod trust;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{Method, Response, StatusCode, header};
use http_body::Frame as Part;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use portico_base::{Incoming, Outgoing, Result, Secret, health::Health, network::Network, reason, tasks::Tasks};
use portico_port::{
    Answer,
    fleet::{
        Asked, At, Bundle, FileContent, FileList, Fleet, Frame, HostLoad, Info, LogEntry, LogLevel, LogQuery, Message,
        NewMessage, Running, Start, State, Stop, Window, WorkspacePath, failure,
    },
    registry::Registry,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout};

pub use self::trust::{Papers, Trust};
use self::{
    address::Address,
    directory::{Directory, Host},
    refusal::About,
    transport::{ANSWER_BYTES_MAX, Body, Transport, collect, read_within, whole},
};

/// How long starting an instance may take, bundle and all.
const CREATE_WAIT: Duration = Duration::from_secs(60);
/// How long an ordinary answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// How long a host may take beyond a time that it was given: to notice, and to say so.
const SLACK: Duration = Duration::from_secs(15);
/// How long a file may take on its way to a host.
const UPLOAD_WAIT: Duration = Duration::from_secs(600);
/// How long a host may be silent in the middle of a file.
const FILE_SILENCE_MAX: Duration = Duration::from_secs(45);
/// How often a host that cannot wait for an instance to become ready is asked again.
const READY_EVERY: Duration = Duration::from_millis(250);
/// What a path segment need not escape.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";

/// How hosts are found and trusted.
#[derive(Clone)]
pub struct Config {
    /// The URLs of the hosts; found in the registry when empty.
    pub listed: Vec<String>,
    /// Hosts of other environments are left alone.
    pub environment: String,
    /// What both sides know.
    pub token: Option<Secret>,
    /// The networks that may be dialled.
    pub networks: Vec<Network>,
    /// Whom to believe, and what to show.
    pub papers: Papers,
    /// What comes before a blob's key in the URI that a host is given.
    pub source_base: String,
}

/// The fleet behind coordinators.
pub struct Coordinators {
    directory: Arc<Directory>,
    transport: Transport,
    source_base: String,
    tasks: Tasks,
}

/// A request to a host.
struct Ask<'a> {
    verb: Method,
    path: String,
    asked: &'a Asked,
    body: Option<(&'static str, Body)>,
    wait: Duration,
    about: About,
    subject: &'a str,
}

impl Coordinators {
    /// Begins to look for hosts.
    ///
    /// # Errors
    /// When a listed URL lies outside of the networks, or token or certificates cannot be used.
    pub fn start(config: Config, registry: Arc<dyn Registry>, tasks: Tasks) -> Result<Coordinators> {
        let transport = Transport::new(&config)?;
        let directory = Arc::new(Directory::new(&config, Arc::clone(&registry), transport.clone())?);
        // Both end with the house; nobody waits for them alone.
        drop(tasks.spawn(Directory::watch(Arc::downgrade(&directory), registry, tasks.clone())));
        drop(tasks.spawn(Directory::keep_probing(Arc::downgrade(&directory), tasks.clone())));
        Ok(Coordinators { directory, transport, source_base: config.source_base, tasks })
    }

    /// What connections to hosts begin with.
    pub fn trust(&self) -> Trust {
        Trust(self.transport.clone())
    }

    /// Tells at any time how many hosts are left alone after failures in a row.
    pub fn left_alone(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let directory = Arc::downgrade(&self.directory);
        move || directory.upgrade().map_or(0, |directory| directory.left_alone())
    }

    /// Asks a host. What it refuses is an error.
    async fn ask(&self, host: &str, ask: Ask<'_>) -> Result<Response<Bytes>> {
        let host = self.directory.host(host).await?;
        let result = self.ask_at(&host, ask).await;
        self.directory.note(&host, &result);
        result
    }

    async fn ask_at(&self, host: &Host, ask: Ask<'_>) -> Result<Response<Bytes>> {
        let Ask { verb, path, asked, body, wait, about, subject } = ask;
        let address = host.address.as_ref().ok_or_else(|| failure::broken("the host may not be dialled there"))?;
        let answer = self.transport.begin(address, verb, &path, asked, body);
        let answer = read_within(wait, answer, about.answer_bytes_max()).await?;
        if !answer.status().is_success() {
            return Err(refusal::of(answer.status(), answer.body(), about, subject));
        }
        Ok(answer)
    }

    /// Asks about an instance and reads the answer as JSON.
    async fn get<T: DeserializeOwned>(&self, at: &At, tail: &str, about: About) -> Result<T> {
        let answer = self.ask(&at.host, Ask::about(at, Method::GET, tail, about)).await?;
        read(&answer)
    }

    /// Begins an answer that is read as it comes, from the address that is answered too.
    async fn begin(&self, at: &At, tail: &str, about: About) -> Result<(Response<hyper::body::Incoming>, Address)> {
        let host = self.directory.host(&at.host).await?;
        let begun = async {
            let address = host.address.as_ref().ok_or_else(|| failure::broken("the host may not be dialled there"))?;
            let path = path(at, tail);
            let begun = self.transport.begin(address, Method::GET, &path, &at.asked, None);
            let answer = timeout(ANSWER_WAIT, begun).await.unwrap_or_else(|_| Err(failure::timeout()))?;
            if answer.status().is_success() {
                return Ok((answer, address.clone()));
            }
            let (head, body) = answer.into_parts();
            let body = timeout(ANSWER_WAIT, collect(body, ANSWER_BYTES_MAX)).await;
            let body = body.unwrap_or_else(|_| Err(failure::timeout()))?;
            Err(refusal::of(head.status, &body, about, &at.instance))
        };
        let result = begun.await;
        self.directory.note(&host, &result);
        result
    }

    fn source(&self, bundle: &Bundle) -> String {
        format!("{}{}", self.source_base, bundle.blob_key)
    }
}

/// A place that is reserved with a host until this is dropped, as it is with a start that nobody waits for any more.
struct Reserved {
    directory: Arc<Directory>,
    tasks: Tasks,
    host: String,
}

impl Reserved {
    /// Nothing when no place was taken: giving one back would take another start's. One that was taken without an answer is
    /// forgotten in its time.
    async fn at(fleet: &Coordinators, host: &str) -> Option<Reserved> {
        let (directory, tasks) = (Arc::clone(&fleet.directory), fleet.tasks.clone());
        directory.reserve(host).await.then(|| Reserved { directory, tasks, host: host.to_owned() })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let (directory, host) = (Arc::clone(&self.directory), std::mem::take(&mut self.host));
        drop(self.tasks.spawn(async move { directory.release(&host).await }));
    }
}

impl<'a> Ask<'a> {
    fn about(at: &'a At, verb: Method, tail: &str, about: About) -> Ask<'a> {
        let (path, asked, subject) = (path(at, tail), &at.asked, at.instance.as_str());
        Ask { verb, path, asked, body: None, wait: ANSWER_WAIT, about, subject }
    }

    fn with(self, body: &Value) -> Ask<'a> {
        Ask { body: Some((JSON, whole(body.to_string()))), ..self }
    }

    fn within(self, wait: Duration) -> Ask<'a> {
        Ask { wait, ..self }
    }
}

impl Fleet for Coordinators {
    fn hosts(&self) -> Answer<'_, Arc<[HostLoad]>> {
        Box::pin(self.directory.loads())
    }

    fn running<'a>(&'a self, host: &'a str) -> Answer<'a, Vec<Running>> {
        Box::pin(async move {
            let asked = Asked::default();
            let ask = Ask {
                verb: Method::GET,
                path: "/admin/status".to_owned(),
                asked: &asked,
                body: None,
                wait: ANSWER_WAIT,
                about: About::Host,
                subject: "",
            };
            let status: said::Status = read(&self.ask(host, ask).await?)?;
            Ok(status.agents.into_iter().map(Running::from).collect())
        })
    }

    fn deploy<'a>(&'a self, host: &'a str, bundle: &'a Bundle) -> Answer<'a, ()> {
        Box::pin(async move {
            let asked = Asked::default();
            let ask = Ask {
                verb: Method::POST,
                path: "/deploy/agent".to_owned(),
                asked: &asked,
                body: None,
                wait: CREATE_WAIT,
                about: About::Host,
                subject: "",
            };
            let body = json!({
                "source": self.source(bundle), "checksum": format!("sha256:{}", bundle.checksum),
                "agent_type": bundle.agent_type, "version": bundle.version,
            });
            self.ask(host, ask.with(&body)).await.map(|_| ())
        })
    }

    fn create<'a>(&'a self, host: &'a str, start: Start) -> Answer<'a, Info> {
        Box::pin(async move {
            let secrets: Map<String, Value> =
                start.secrets.iter().map(|(name, value)| (name.clone(), value.reveal().into())).collect();
            let body = json!({
                "deployment_id": start.bundle.deployment_id, "agent_id": start.instance, "config": start.config,
                "secrets": secrets, "environment": start.environment, "tenant_id": start.tenant.as_str(),
                "source": self.source(&start.bundle), "checksum": format!("sha256:{}", start.bundle.checksum),
                "installation_id": start.installation, "incarnation": start.incarnation,
            });
            let ask = Ask {
                verb: Method::POST,
                path: "/instances".to_owned(),
                asked: &start.asked,
                body: None,
                wait: CREATE_WAIT,
                about: About::Create,
                subject: &start.instance,
            };
            let host = self.directory.host(host).await?;
            let told_before = self.directory.told_at(&host);
            let reserved = Reserved::at(self, &host.id).await;
            let answer = self.ask_at(&host, ask.with(&body)).await;
            drop(reserved);
            self.directory.note(&host, &answer);
            let told: said::Told = read(&answer?)?;
            self.directory.took_one(&host, told_before);
            Ok(told.into())
        })
    }

    fn info<'a>(&'a self, at: &'a At) -> Answer<'a, Info> {
        Box::pin(async move {
            let info: Info = self.get::<said::Told>(at, "/info", About::Instance).await?.into();
            at.means(&info.incarnation)?;
            Ok(info)
        })
    }

    fn settled<'a>(&'a self, at: &'a At, patience: Duration) -> Answer<'a, State> {
        Box::pin(async move {
            let until = Instant::now() + patience;
            loop {
                let left = until.saturating_duration_since(Instant::now());
                let tail = format!("/info?wait_ms={}", left.as_millis());
                let ask = Ask::about(at, Method::GET, &tail, About::Instance).within(left + ANSWER_WAIT);
                let info: Info = read::<said::Told>(&self.ask(&at.host, ask).await?)?.into();
                if !info.state.is_starting() || Instant::now() >= until {
                    return Ok(info.state);
                }
                // A host of another maker answers at once.
                tokio::time::sleep(READY_EVERY).await;
            }
        })
    }

    fn stop<'a>(&'a self, at: &'a At, stop: Stop) -> Answer<'a, ()> {
        Box::pin(async move {
            let (mut query, grace) = match stop {
                Stop::Now => ("force=true".to_owned(), Duration::ZERO),
                Stop::Within(grace) => (format!("grace_ms={}", grace.as_millis()), grace),
            };
            // The host decides, since only there nothing comes in between.
            if let Some(incarnation) = at.incarnation.known() {
                query = format!("{query}&incarnation={}", utf8_percent_encode(incarnation, SEGMENT));
            }
            let mut ask = Ask::about(at, Method::DELETE, "", About::Extension).within(grace + SLACK + ANSWER_WAIT);
            let segment = utf8_percent_encode(&at.instance, SEGMENT);
            ask.path = format!("/instances/{segment}?{query}");
            match self.ask(&at.host, ask).await {
                // The route has no published name; this is the other one that it may have.
                Err(error) if error.reason() == reason::NOT_OFFERED => {
                    let tail = format!("?{query}");
                    let ask = Ask::about(at, Method::DELETE, &tail, About::End).within(grace + SLACK + ANSWER_WAIT);
                    self.ask(&at.host, ask).await.map(|_| ())
                }
                stopped => stopped.map(|_| ()),
            }
        })
    }

    fn send<'a>(&'a self, at: &'a At, message: NewMessage) -> Answer<'a, String> {
        Box::pin(async move {
            let body = json!({"text": message.text, "messages": message.messages});
            let ask = Ask::about(at, Method::POST, "/messages", About::Instance).with(&body);
            let sent: said::Sent = read(&self.ask(&at.host, ask).await?)?;
            Ok(sent.message_id)
        })
    }

    fn messages<'a>(&'a self, at: &'a At, window: Window) -> Answer<'a, Vec<Message>> {
        Box::pin(async move {
            let tail = format!("/messages?limit={}&offset={}", window.limit, window.offset);
            let spoken: Vec<said::Spoken> = self.get(at, &tail, About::Instance).await?;
            Ok(spoken.into_iter().map(Message::from).collect())
        })
    }

    fn logs<'a>(&'a self, at: &'a At, query: LogQuery) -> Answer<'a, Vec<LogEntry>> {
        Box::pin(async move {
            let LogQuery { level, offset, limit } = query;
            let tail = format!("/logs?limit={limit}&offset={offset}&level={}", level.as_str());
            let logged: Vec<said::Logged> = self.get(at, &tail, About::Instance).await?;
            Ok(logged.into_iter().map(LogEntry::from).collect())
        })
    }

    fn follow_logs<'a>(&'a self, at: &'a At, level: LogLevel, after: u64) -> Answer<'a, Outgoing<LogEntry>> {
        Box::pin(async move {
            let tail = format!("/logs:follow?level={}&after={after}", level.as_str());
            let (answer, address) = self.begin(at, &tail, About::Extension).await?;
            Ok(lines::entries(answer.into_body(), at.instance.clone(), self.transport.clone(), address))
        })
    }

    fn files<'a>(&'a self, at: &'a At, folder: &'a WorkspacePath, depth: u32) -> Answer<'a, FileList> {
        Box::pin(async move {
            let folder = utf8_percent_encode(folder.as_str(), SEGMENT);
            let files: said::Files =
                self.get(at, &format!("/files?path={folder}&depth={depth}"), About::Extension).await?;
            Ok(files.into())
        })
    }

    fn read_file<'a>(&'a self, at: &'a At, path: &'a WorkspacePath) -> Answer<'a, FileContent> {
        Box::pin(async move {
            let (answer, _) = self.begin(at, &file_tail(path), About::Instance).await?;
            let length = answer.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
            let size_bytes = length.and_then(|length| length.parse().ok());
            let content = stream::unfold(answer.into_body().into_data_stream(), |mut content| async move {
                let piece = match timeout(FILE_SILENCE_MAX, content.next()).await {
                    Ok(piece) => piece?.map_err(failure::gone),
                    Err(_) => Err(failure::gone("the host was silent in the middle of a file")),
                };
                Some((piece, content))
            });
            Ok(FileContent { size_bytes, bytes: Box::pin(content) })
        })
    }

    fn write_file<'a>(&'a self, at: &'a At, path: &'a WorkspacePath, content: Incoming<Bytes>) -> Answer<'a, u64> {
        Box::pin(async move {
            // How much was sent is known here, should the host not say.
            let sent = Arc::new(std::sync::atomic::AtomicU64::new(0));
            let count = Arc::clone(&sent);
            let parts = content.map_ok(move |bytes| {
                count.fetch_add(bytes.len() as u64, std::sync::atomic::Ordering::Relaxed);
                Part::data(bytes)
            });
            let mut ask = Ask::about(at, Method::POST, &file_tail(path), About::Instance).within(UPLOAD_WAIT);
            ask.body = Some((OCTETS, UnsyncBoxBody::new(StreamBody::new(parts))));
            let answer = self.ask(&at.host, ask).await?;
            let written: said::Written = serde_json::from_slice(answer.body()).unwrap_or_default();
            Ok(written.size_bytes.unwrap_or_else(|| sent.load(std::sync::atomic::Ordering::Relaxed)))
        })
    }

    fn attach<'a>(&'a self, at: &'a At, since: Option<u64>, incoming: Incoming<Frame>) -> Answer<'a, Outgoing<Frame>> {
        Box::pin(async move {
            let host = self.directory.host(&at.host).await?;
            let Some(address) = &host.address else {
                return Err(failure::broken("the host may not be dialled there"));
            };
            let query = since.map(|since| format!("?since_seq={since}")).unwrap_or_default();
            let path = path(at, &query);
            let opened = socket::open(&self.transport, address, at, &path, incoming, &self.tasks).await;
            self.directory.note(&host, &opened);
            opened
        })
    }

    fn configure<'a>(&'a self, at: &'a At, changes: Map<String, Value>) -> Answer<'a, ()> {
        Box::pin(async move {
            let ask = Ask::about(at, Method::PATCH, "/config", About::Extension).with(&Value::Object(changes));
            self.ask(&at.host, ask).await.map(|_| ())
        })
    }

    fn health(&self) -> Answer<'_, Health> {
        Box::pin(async move {
            let loads = self.directory.loads().await?;
            let count = |loads: usize| u32::try_from(loads).unwrap_or(u32::MAX);
            let healthy = loads.iter().filter(|load| load.healthy).count();
            let health = match (healthy, loads.len()) {
                (0, 0) => Health::down("no host is known"),
                (0, _) => Health::down("no host can be reached"),
                (healthy, total) if healthy < total => Health::reachable("some hosts cannot be reached"),
                _ => Health::OK,
            };
            Ok(health.of_members(count(healthy), count(loads.len())))
        })
    }
}

/// The path of an instance on its host.
fn path(at: &At, tail: &str) -> String {
    format!("/agent/{}{tail}", utf8_percent_encode(&at.instance, SEGMENT))
}

fn file_tail(path: &WorkspacePath) -> String {
    let parts: Vec<String> =
        path.as_str().split('/').map(|part| utf8_percent_encode(part, SEGMENT).to_string()).collect();
    format!("/files/{}", parts.join("/"))
}

/// An answer as JSON.
fn read<T: DeserializeOwned>(answer: &Response<Bytes>) -> Result<T> {
    if answer.status() == StatusCode::NO_CONTENT {
        return serde_json::from_str("{}").map_err(failure::broken);
    }
    serde_json::from_slice(answer.body()).map_err(failure::broken)
}
