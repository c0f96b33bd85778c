//! What hosts say, as JSON.
//!
//! A newcomer's usual mistake is to refuse what is missing. Hosts are other programs, perhaps of another maker: only what
//! cannot be done without is asked for.
//!
//! *Knows:* the fields. *Does not know:* who asked.

use std::time::Duration;

use portico_base::Timestamp;
use portico_port::fleet::{
    FileEntry, FileKind, FileList, Incarnation, Info, LogEntry, LogLevel, LogSource, Message, Role, Running, State,
    Usage,
};
use serde::Deserialize;
use serde_json::Value;

/// `GET /admin/status`.
#[derive(Deserialize)]
pub(super) struct Status {
    pub(super) coordinator_id: String,
    #[serde(default)]
    pub(super) active_agents: u32,
    pub(super) max_agents: Option<u32>,
    #[serde(default)]
    pub(super) agents: Vec<Agent>,
    pub(super) cpu_percent: Option<f64>,
    pub(super) memory_percent: Option<f64>,
    pub(super) disk_free_bytes: Option<u64>,
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) epoch: String,
    pub(super) environment: Option<String>,
    #[serde(default)]
    pub(super) deployments: Vec<String>,
}

/// One agent of a status.
#[derive(Deserialize)]
pub(super) struct Agent {
    agent_id: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    deployment_id: String,
    #[serde(default)]
    installation_id: String,
    #[serde(default)]
    incarnation: Incarnation,
}

impl From<Agent> for Running {
    fn from(agent: Agent) -> Running {
        Running {
            instance: agent.agent_id,
            state: State::parse(&agent.status),
            deployment_id: agent.deployment_id,
            installation: agent.installation_id,
            incarnation: agent.incarnation,
        }
    }
}

/// `GET /agent/{id}/info` and the answer of `POST /instances`.
#[derive(Deserialize)]
pub(super) struct Told {
    #[serde(default = "initializing")]
    status: String,
    note: Option<String>,
    resource_usage: Option<Used>,
    chronicle_ws_endpoint: Option<String>,
    last_activity_ms: Option<i64>,
    #[serde(default)]
    incarnation: Incarnation,
}

#[derive(Deserialize)]
struct Used {
    #[serde(default)]
    cpu_percent: f64,
    #[serde(default)]
    memory_bytes: u64,
    #[serde(default)]
    uptime_seconds: f64,
}

/// A host that says nothing of the state has at least begun.
fn initializing() -> String {
    State::Initializing.to_string()
}

impl From<Told> for Info {
    fn from(told: Told) -> Info {
        Info {
            state: State::parse(&told.status),
            note: told.note,
            usage: told.resource_usage.map(|used| Usage {
                cpu_percent: used.cpu_percent,
                memory_bytes: used.memory_bytes,
                uptime: Duration::try_from_secs_f64(used.uptime_seconds).unwrap_or_default(),
            }),
            chronicle: told.chronicle_ws_endpoint,
            last_activity_at: told.last_activity_ms.map(Timestamp),
            incarnation: told.incarnation,
        }
    }
}

/// The answer of `POST /agent/{id}/messages`.
#[derive(Deserialize)]
pub(super) struct Sent {
    pub(super) message_id: String,
}

/// One message.
#[derive(Deserialize)]
pub(super) struct Spoken {
    #[serde(default)]
    message_id: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    text: String,
    timestamp: Option<Value>,
}

impl From<Spoken> for Message {
    fn from(spoken: Spoken) -> Message {
        let role = if spoken.role == "assistant" { Role::Assistant } else { Role::User };
        Message { id: spoken.message_id, role, text: spoken.text, created_at: moment(spoken.timestamp.as_ref()) }
    }
}

/// One log entry.
#[derive(Deserialize)]
pub(super) struct Logged {
    #[serde(default)]
    sequence: u64,
    timestamp: Option<Value>,
    #[serde(default)]
    level: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    source: String,
}

impl From<Logged> for LogEntry {
    fn from(logged: Logged) -> LogEntry {
        LogEntry {
            sequence: logged.sequence,
            at: moment(logged.timestamp.as_ref()),
            level: LogLevel::parse(&logged.level).unwrap_or(LogLevel::Info),
            message: logged.message,
            source: match logged.source.as_str() {
                "stdout" => LogSource::Stdout,
                "stderr" => LogSource::Stderr,
                "host" => LogSource::Host,
                _ => LogSource::Agent,
            },
        }
    }
}

/// One line of a followed log.
#[derive(Deserialize)]
pub(super) struct Followed {
    pub(super) entry: Option<Logged>,
    pub(super) error: Option<Problem>,
}

/// Why a call failed, in the host's words.
#[derive(Default, Deserialize)]
pub(super) struct Problem {
    #[serde(default)]
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
}

/// The body of a refusal.
#[derive(Deserialize)]
pub(super) struct Refusal {
    pub(super) error: Problem,
}

/// `GET /agent/{id}/files`.
#[derive(Deserialize)]
pub(super) struct Files {
    files: Vec<Found>,
    #[serde(default)]
    truncated: bool,
}

#[derive(Deserialize)]
struct Found {
    path: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    size_bytes: u64,
    modified_ms: Option<i64>,
}

impl From<Files> for FileList {
    fn from(files: Files) -> FileList {
        let entries = files.files.into_iter().map(|found| FileEntry {
            path: found.path,
            kind: match found.kind.as_str() {
                "directory" => FileKind::Directory,
                "symlink" => FileKind::Symlink,
                _ => FileKind::File,
            },
            size_bytes: found.size_bytes,
            modified_at: found.modified_ms.map(Timestamp),
        });
        FileList { entries: entries.collect(), truncated: files.truncated }
    }
}

/// The answer of `POST /agent/{id}/files/{path}`.
#[derive(Default, Deserialize)]
pub(super) struct Written {
    pub(super) size_bytes: Option<u64>,
}

/// Milliseconds since 1970; the epoch itself when a host writes times in another way.
fn moment(value: Option<&Value>) -> Timestamp {
    Timestamp(value.and_then(Value::as_i64).unwrap_or_default())
}
