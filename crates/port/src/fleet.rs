//! Hosts, and the instances that run on them.
//!
//! A newcomer's usual mistake is to let a backend pick a host. The domain chooses one from the loads that hosts report;
//! a call then names host and instance, so that trying elsewhere, and what is known after a failure, is decided once.
//!
//! How an error's `Retry` is read: `After` or `Safe` means that nothing was done and another host may be asked;
//! `MayRepeat` means that the work may have happened, so the same host must be asked first; `Never` is final.
//!
//! *Knows:* loads, bundles, states, frames, log entries, workspace files. *Does not know:* tenants' rights, placement,
//! records, how a host is reached.

pub mod announced;
pub mod cached;
pub mod failure;
pub mod file;
pub mod frame;
pub mod incarnation;
pub mod log;
pub mod state;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub use announced::{ANNOUNCED, Announced};
use bytes::Bytes;
pub use cached::Cached;
pub use file::{FileContent, FileEntry, FileKind, FileList, WorkspacePath};
pub use frame::{Farewell, Frame, Utf8};
pub use incarnation::Incarnation;
pub use log::{LogEntry, LogLevel, LogQuery, LogSource};
use portico_base::{
    Context, Incoming, Outgoing, RequestId, Result, Secret, TenantId, Timestamp, Trace, health::Health,
};
use serde_json::{Map, Value};
pub use state::State;

use crate::Answer;

/// Largest frame between a client and an agent, in either direction. A text of 1 MB must pass whole; this leaves room
/// and still bounds what one instance can make the gateway hold.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// An instance on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The host.
    pub host: String,
    /// The instance.
    pub instance: String,
    /// Which one is stopped or told of; all else is for whoever has the id.
    pub incarnation: Incarnation,
    /// Who asks for it.
    pub asked: Asked,
}

impl At {
    /// Whichever instance has this id on a host, asked for by the house itself.
    pub fn new(host: impl Into<String>, instance: impl Into<String>) -> At {
        At {
            host: host.into(),
            instance: instance.into(),
            incarnation: Incarnation::default(),
            asked: Asked::default(),
        }
    }

    /// The same in this incarnation alone.
    #[must_use]
    pub fn of(self, incarnation: Incarnation) -> At {
        At { incarnation, ..self }
    }

    /// The same, asked for by a call, whose record names the host.
    #[must_use]
    pub fn asked_by(self, cx: &Context) -> At {
        cx.reply.comes_from(&self.host);
        At { asked: Asked::by(cx), ..self }
    }

    /// Lets pass what is there, if it is what is meant.
    ///
    /// # Errors
    /// `instance_not_found` when it is another incarnation: what is meant is gone.
    pub fn means(&self, there: &Incarnation) -> Result<()> {
        if self.incarnation.may_be(there) { Ok(()) } else { Err(failure::lost(&self.instance)) }
    }
}

/// For whom and in which call a host is asked, so that its log can be read beside the gateway's. Never what a caller says
/// of itself: the gate has settled it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Whose call it is; nobody's when the house asks by itself.
    pub tenant: Option<TenantId>,
    /// The id of the call.
    pub request: Option<RequestId>,
    /// Where the call stands in its trace.
    pub trace: Option<Trace>,
}

impl Asked {
    /// By this call.
    pub fn by(cx: &Context) -> Asked {
        Asked { tenant: Some(cx.caller.tenant.clone()), request: Some(cx.id.clone()), trace: Some(cx.trace) }
    }
}

/// What a host says that it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The instance.
    pub instance: String,
    /// Its state.
    pub state: State,
    /// What it runs; empty when the host does not say.
    pub deployment_id: String,
    /// The installation that started it; empty when the host does not say.
    pub installation: String,
    /// Which one it is.
    pub incarnation: Incarnation,
}

/// What a live host says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct HostLoad {
    /// Its id.
    pub id: String,
    /// Changes with every start of the host: what ran in another epoch is gone.
    pub epoch: String,
    /// How many instances run there.
    pub active: u32,
    /// How many may.
    pub active_max: u32,
    /// Processor use, 0 to 1, if known.
    pub cpu: Option<f64>,
    /// Memory use, 0 to 1, if known.
    pub memory: Option<f64>,
    /// What is free on the disk that workspaces and bundles lie on, if known.
    pub disk_free_bytes: Option<u64>,
    /// Whether it takes no new instances.
    pub draining: bool,
    /// Whether it answers.
    pub healthy: bool,
    /// The deployment ids whose bundles lie unpacked there.
    pub cached: Cached,
    /// Instances on their way there that its own numbers do not show yet, as far as gateways have told each other.
    pub reserved: u32,
    /// How old these numbers were at the last look.
    pub age: Duration,
}

/// Code to run: a stored, checked archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// `{type}:{version}@{hash_prefix}`.
    pub deployment_id: String,
    /// The agent type.
    pub agent_type: String,
    /// The version.
    pub version: String,
    /// The archive's SHA-256: 64 lower-case hexadecimal digits.
    pub checksum: String,
    /// Its key in the blob store.
    pub blob_key: String,
}

/// What to start.
#[derive(Clone)]
pub struct Start {
    /// The id of the new instance, chosen by the caller: 1 to 64 letters, digits, `_` or `-`.
    pub instance: String,
    /// What it runs.
    pub bundle: Bundle,
    /// Its configuration.
    pub config: Map<String, Value>,
    /// Its secrets, handed to the agent alone.
    pub secrets: BTreeMap<String, Secret>,
    /// Its environment variables.
    pub environment: BTreeMap<String, String>,
    /// Whose it is.
    pub tenant: TenantId,
    /// The installation that starts it, which alone may reap it.
    pub installation: String,
    /// Which one it is, for the host to keep.
    pub incarnation: Incarnation,
    /// Who asks for it.
    pub asked: Asked,
}

/// What a host says of an instance.
#[derive(Clone, Debug)]
pub struct Info {
    /// Its state.
    pub state: State,
    /// Why it is in that state, when it failed.
    pub note: Option<String>,
    /// What it uses, if known.
    pub usage: Option<Usage>,
    /// The address of its Chronicle, when there is one.
    pub chronicle: Option<String>,
    /// When a frame last passed.
    pub last_activity_at: Option<Timestamp>,
    /// Which one it is.
    pub incarnation: Incarnation,
}

/// What an instance uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Of one processor, over the last seconds.
    pub cpu_percent: f64,
    /// Resident memory.
    pub memory_bytes: u64,
    /// Since it was started.
    pub uptime: Duration,
}

/// How to stop an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Ask it to end, and kill it when it has not after this long.
    Within(Duration),
    /// Kill it.
    Now,
}

/// A message for an agent.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The text.
    pub text: String,
    /// Earlier messages, if the agent shall see them.
    pub messages: Vec<Value>,
}

/// A message that went to or came from an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id. An answer has the id of what it answers.
    pub id: String,
    /// Who spoke.
    pub role: Role,
    /// The text.
    pub text: String,
    /// When it passed.
    pub created_at: Timestamp,
}

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A client.
    User,
    /// The agent.
    Assistant,
}

/// Part of a list that is kept in memory, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How many to skip.
    pub offset: usize,
    /// How many at most.
    pub limit: usize,
}

/// Hosts and what runs on them. Every call about an instance fails with `instance_not_found` when its host lives but
/// has no such instance, with `coordinator_unavailable` when the host is out of reach, with `coordinator_timeout` when
/// it did not answer in time and with `coordinator_error` when it failed.
pub trait Fleet: Send + Sync + 'static {
    /// The hosts that live, by id. Every placement asks this, so nobody is asked for it and nothing is copied.
    fn hosts(&self) -> Answer<'_, Arc<[HostLoad]>>;

    /// Everything that a host runs, and what ended there a moment ago.
    ///
    /// # Errors
    /// `coordinator_unavailable`, `coordinator_timeout` and `coordinator_error`.
    fn running<'a>(&'a self, host: &'a str) -> Answer<'a, Vec<Running>>;

    /// Puts a bundle on a host, so that instances of it start fast. Doing it twice is fine.
    fn deploy<'a>(&'a self, host: &'a str, bundle: &'a Bundle) -> Answer<'a, ()>;

    /// Starts an instance, putting the bundle on the host first if it is not there.
    ///
    /// # Errors
    /// `capacity_exhausted` when the host is full, `instance_id_conflict` when it has an instance of this id,
    /// `invalid_bundle` when the bundle says nothing that can be run; `deployment_failed` when it cannot be fetched,
    /// verified or started.
    fn create<'a>(&'a self, host: &'a str, start: Start) -> Answer<'a, Info>;

    /// What the host says of an instance. Another incarnation than the one that is meant is not here.
    fn info<'a>(&'a self, at: &'a At) -> Answer<'a, Info>;

    /// Waits until an instance is no longer on its way to ready. Answers its state then, or after `patience`.
    fn settled<'a>(&'a self, at: &'a At, patience: Duration) -> Answer<'a, State>;

    /// Stops an instance and removes it from its host. Its attached streams end with `instance_terminated`. Another
    /// incarnation than the one that is meant is not here, and is left alone.
    fn stop<'a>(&'a self, at: &'a At, stop: Stop) -> Answer<'a, ()>;

    /// Sends a message without waiting for its answer. Answers the message's id.
    ///
    /// # Errors
    /// `instance_busy` when the agent does not read what it is sent.
    fn send<'a>(&'a self, at: &'a At, message: NewMessage) -> Answer<'a, String>;

    /// Messages that passed, oldest first.
    fn messages<'a>(&'a self, at: &'a At, window: Window) -> Answer<'a, Vec<Message>>;

    /// Log entries, oldest first.
    fn logs<'a>(&'a self, at: &'a At, query: LogQuery) -> Answer<'a, Vec<LogEntry>>;

    /// Log entries after a sequence number as they come, until the instance ends.
    fn follow_logs<'a>(&'a self, at: &'a At, level: LogLevel, after: u64) -> Answer<'a, Outgoing<LogEntry>>;

    /// Files and folders below a folder of the workspace, in order of their paths.
    fn files<'a>(&'a self, at: &'a At, folder: &'a WorkspacePath, depth: u32) -> Answer<'a, FileList>;

    /// A file of the workspace.
    fn read_file<'a>(&'a self, at: &'a At, path: &'a WorkspacePath) -> Answer<'a, FileContent>;

    /// Writes a file into the workspace, whole or not at all. Answers its size.
    fn write_file<'a>(&'a self, at: &'a At, path: &'a WorkspacePath, content: Incoming<Bytes>) -> Answer<'a, u64>;

    /// Opens the native stream of an instance that is ready. Answers once the stream is open. Frames of `incoming` go
    /// to the agent; dropping what is answered closes the stream. After `since`, the number of the last frame that was
    /// seen, the host first sends again what it has kept.
    ///
    /// The stream ends with `instance_terminated` when the instance ends, `slow_consumer` when its frames were not
    /// taken in time, `draining` when the host closes.
    fn attach<'a>(&'a self, at: &'a At, since: Option<u64>, incoming: Incoming<Frame>) -> Answer<'a, Outgoing<Frame>>;

    /// Tells a running agent of changed configuration.
    ///
    /// # Errors
    /// `instance_busy` when the agent does not read what it is sent.
    fn configure<'a>(&'a self, at: &'a At, changes: Map<String, Value>) -> Answer<'a, ()>;

    /// Whether instances can be started at all.
    fn health(&self) -> Answer<'_, Health>;
}
