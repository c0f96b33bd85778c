//! One instance: what is known of it, what passes through it, and how it is told what to do.
//!
//! A newcomer's usual mistake is to look for the process here. An instance outlives the processes that run it: they come
//! and go in [`super::supervise`], while clients stay attached, the log goes on and messages wait.
//!
//! *Knows:* state, log, history, clients, the outbox. *Does not know:* how the process is started, stopped or restarted.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use portico_base::{Clock, Incoming, Outgoing, Result, Secret, Timestamp, id};
use portico_port::fleet::{
    FRAME_BYTES_MAX, Frame, Incarnation, Info, LogLevel, LogSource, Message, NewMessage, Role, Start, State, Stop,
    Usage, failure,
};
use serde_json::{Map, Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::Instant,
};

use super::{
    clients::{Clients, Seat},
    history::History,
    ipc::Packet,
    log_book::LogBook,
    native::{self, Event, Request},
    process::Group,
};

/// Most packets that wait for the agent.
const OUTBOX_PACKETS_MAX: usize = 256;
/// Most bytes that wait for the agent. A larger packet goes alone.
const OUTBOX_BYTES_MAX: u32 = 4 << 20;
/// How long a call waits for room in the outbox of an agent that does not read: shorter than a gateway waits for its host, so
/// that it hears of the agent and does not take the host for dead.
const OUTBOX_WAIT_MAX: Duration = Duration::from_secs(2);
/// Most messages whose answers are waited for. Of more, the oldest are not waited for any longer.
const AWAITED_MAX: usize = 1_024;
/// Two looks at the use of the processor are at least this far apart.
const SAMPLE_APART: Duration = Duration::from_secs(1);

/// One instance.
pub(super) struct Instance {
    pub(super) id: String,
    /// What it runs.
    pub(super) deployment_id: String,
    /// The installation that started it.
    pub(super) installation: String,
    /// Which of those that have this id in turn.
    pub(super) incarnation: Incarnation,
    pub(super) folder: PathBuf,
    pub(super) config: Map<String, Value>,
    pub(super) secrets: BTreeMap<String, Secret>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) logs: LogBook,
    pub(super) clients: Clients,
    pub(super) history: History,
    clock: Arc<dyn Clock>,
    status: watch::Sender<Status>,
    stop: watch::Sender<Option<Stop>>,
    outbox: mpsc::Sender<Handed>,
    room: Arc<Semaphore>,
    /// Messages that the agent has and has not answered.
    unanswered: Mutex<Vec<String>>,
    /// Messages of attached clients whose answer has not gone out to all clients yet.
    awaited: watch::Sender<Vec<String>>,
    /// The last sequence number of the native stream. Held while a frame goes out, so that all see one order.
    sequence: tokio::sync::Mutex<u64>,
    activity: AtomicI64,
    process: Mutex<Option<Running>>,
    /// Whether its folder is gone; held while it goes.
    pub(super) removed: tokio::sync::Mutex<bool>,
}

/// Where an instance is in its life, and why.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) state: State,
    pub(super) note: Option<String>,
}

/// A packet on its way to the agent.
pub(super) struct Handed {
    pub(super) packet: Bytes,
    /// Set when it is a message: what its answer is known by.
    pub(super) message_id: Option<String>,
    _room: OwnedSemaphorePermit,
}

struct Running {
    group: Group,
    since: Instant,
    sampled_at: Instant,
    sampled_cpu: Duration,
    cpu_percent: f64,
}

impl Instance {
    /// An instance that is being deployed, and the end of its outbox that the agent's process reads.
    pub(super) fn new(start: Start, folder: PathBuf, clock: Arc<dyn Clock>) -> (Arc<Instance>, mpsc::Receiver<Handed>) {
        let (outbox, packets) = mpsc::channel(OUTBOX_PACKETS_MAX);
        let logs = LogBook::new(Arc::clone(&clock));
        let instance = Instance {
            id: start.instance,
            deployment_id: start.bundle.deployment_id,
            installation: start.installation,
            incarnation: start.incarnation,
            folder,
            config: start.config,
            secrets: start.secrets,
            environment: start.environment,
            logs,
            clients: Clients::default(),
            history: History::default(),
            activity: AtomicI64::new(clock.now().0),
            clock,
            status: watch::Sender::new(Status { state: State::Deploying, note: None }),
            stop: watch::Sender::new(None),
            outbox,
            room: Arc::new(Semaphore::new(OUTBOX_BYTES_MAX as usize)),
            unanswered: Mutex::default(),
            awaited: watch::Sender::default(),
            sequence: tokio::sync::Mutex::new(0),
            process: Mutex::default(),
            removed: tokio::sync::Mutex::default(),
        };
        (Arc::new(instance), packets)
    }

    /// The workspace's folder.
    pub(super) fn workspace(&self) -> PathBuf {
        self.folder.join("workspace")
    }

    /// Its state.
    pub(super) fn state(&self) -> State {
        self.status.borrow().state.clone()
    }

    /// Its state as it changes.
    pub(super) fn watch(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Moves it to another state. What is over stays over, and what shuts down can only be over next.
    pub(super) fn becomes(&self, state: State, note: Option<String>) {
        self.status.send_if_modified(|status| {
            let allowed = !status.state.is_over() && (status.state != State::ShuttingDown || state.is_over());
            if allowed {
                *status = Status { state, note };
            }
            allowed
        });
    }

    /// Tells it to end. A harder order replaces a softer one.
    pub(super) fn order(&self, stop: Stop) {
        self.clients.hurry();
        self.stop.send_if_modified(|order| {
            let harder = matches!((&*order, stop), (None, _) | (Some(Stop::Within(_)), Stop::Now));
            if harder {
                *order = Some(stop);
            }
            harder
        });
    }

    /// The order to end, as it comes.
    pub(super) fn orders(&self) -> watch::Receiver<Option<Stop>> {
        self.stop.subscribe()
    }

    /// Waits until it is over, at most this long.
    pub(super) async fn over(&self, patience: Duration) -> bool {
        let mut status = self.watch();
        tokio::time::timeout(patience, status.wait_for(|status| status.state.is_over())).await.is_ok()
    }

    /// Says which process group runs it now, if any.
    pub(super) fn runs(&self, group: Option<Group>) {
        let now = Instant::now();
        let running = group.map(|group| Running {
            group,
            since: now,
            sampled_at: now,
            sampled_cpu: Duration::ZERO,
            cpu_percent: 0.0,
        });
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }

    /// What is known of it.
    pub(super) fn info(&self) -> Info {
        let Status { state, note } = self.status.borrow().clone();
        Info {
            state,
            note,
            usage: self.usage(),
            chronicle: None,
            last_activity_at: Some(Timestamp(self.activity.load(Ordering::Relaxed))),
            incarnation: self.incarnation.clone(),
        }
    }

    fn usage(&self) -> Option<Usage> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let running = process.as_mut()?;
        let (cpu, memory_bytes) = running.group.usage()?;
        let now = Instant::now();
        let apart = now - running.sampled_at;
        if apart >= SAMPLE_APART || running.sampled_cpu.is_zero() {
            let used = cpu.saturating_sub(running.sampled_cpu);
            running.cpu_percent = 100.0 * used.as_secs_f64() / apart.as_secs_f64().max(0.001);
            (running.sampled_at, running.sampled_cpu) = (now, cpu);
        }
        Some(Usage { cpu_percent: running.cpu_percent, memory_bytes, uptime: now - running.since })
    }

    /// Whether it can be talked to.
    pub(super) fn talking(&self) -> Result<()> {
        match self.state() {
            State::Ready | State::Running => Ok(()),
            state if state.is_starting() => Err(failure::not_ready()),
            _ => Err(failure::terminated()),
        }
    }

    /// Puts a message into the outbox, unless there is no room for it. Answers its id.
    pub(super) async fn send(&self, message: NewMessage) -> Result<String> {
        let content = json!({"text": message.text, "messages": message.messages});
        let Value::Object(content) = content else { return Err(failure::broken("a message is an object")) };
        let message_id = id::random("msg_", 20);
        patiently(self.post(&message_id, message.text, content)).await?;
        Ok(message_id)
    }

    /// Puts a packet into the outbox, unless there is no room for it.
    pub(super) async fn tell(&self, packet: Bytes) -> Result<()> {
        patiently(self.hand(packet, None)).await
    }

    /// Puts a message of this id into the outbox, waiting for room.
    async fn post(&self, message_id: &str, text: String, content: Map<String, Value>) -> Result<()> {
        self.hand(native::message(message_id, content), Some(message_id.to_owned())).await?;
        self.remember(message_id, Role::User, text);
        Ok(())
    }

    async fn hand(&self, packet: Bytes, message_id: Option<String>) -> Result<()> {
        let bytes = u32::try_from(packet.len()).unwrap_or(OUTBOX_BYTES_MAX).min(OUTBOX_BYTES_MAX);
        let ended = |_| failure::terminated();
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| failure::terminated())?;
        self.outbox.send(Handed { packet, message_id, _room: room }).await.map_err(ended)
    }

    fn remember(&self, id: &str, role: Role, text: String) {
        self.history.add(Message { id: id.to_owned(), role, text, created_at: self.clock.now() });
    }

    fn touch(&self) {
        self.activity.store(self.clock.now().0, Ordering::Relaxed);
    }

    /// Attaches a client. The second part must be run: it carries the client's frames to the agent.
    pub(super) fn attach(
        self: &Arc<Self>,
        since: Option<u64>,
        incoming: Incoming<Frame>,
    ) -> Result<(Outgoing<Frame>, impl Future<Output = ()> + Send + use<>)> {
        let (seat, outgoing) = self.clients.attach(since)?;
        Ok((outgoing, carry(Arc::clone(self), seat, incoming)))
    }

    /// Sends an event to all clients. In place of one that is too large for a frame they hear that there was one.
    pub(super) async fn announce(&self, event: Event<'_>) {
        let (kind, message_id) = (event.kind, event.message_id);
        let mut sequence = self.sequence.lock().await;
        *sequence += 1;
        let mut frame = event.frame(&self.id, Some(*sequence), self.clock.now());
        if frame.len() > FRAME_BYTES_MAX {
            let event = self.oversized(kind, message_id, frame.len());
            frame = event.frame(&self.id, Some(*sequence), self.clock.now());
        }
        self.clients.broadcast(*sequence, frame).await;
        self.touch();
    }

    /// What clients hear in place of what no frame can carry.
    fn oversized<'a>(&self, kind: &str, message_id: Option<&'a str>, bytes: usize) -> Event<'a> {
        self.logs.host(LogLevel::Warn, format!("the agent sent `{kind}` of {bytes} bytes, which no frame can carry"));
        let content = native::error("frame_too_large", "the agent said more at once than a frame can carry");
        Event { kind: "error", message_id, event_type: None, content }
    }

    /// Notes that the agent gets this message now, and tells all clients.
    pub(super) async fn begins(&self, message_id: &str) {
        push_bounded(&mut self.unanswered.lock().unwrap_or_else(PoisonError::into_inner), message_id);
        self.becomes(State::Running, None);
        self.announce(Event { kind: "created", message_id: Some(message_id), event_type: None, content: Value::Null })
            .await;
    }

    /// Notes that this message is answered.
    fn answered(&self, message_id: &str) {
        let mut unanswered = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        unanswered.retain(|id| id != message_id);
        if unanswered.is_empty() && self.state() == State::Running {
            self.becomes(State::Ready, None);
        }
    }

    /// Tells all clients that what the agent was working on will not be answered.
    pub(super) async fn gives_up(&self, code: &str, why: &str) {
        let unanswered = std::mem::take(&mut *self.unanswered.lock().unwrap_or_else(PoisonError::into_inner));
        for id in unanswered {
            let content = native::error(code, why);
            self.announce(Event { kind: "error", message_id: Some(&id), event_type: None, content }).await;
            self.settles(&id);
        }
    }

    /// Notes that a client waits for the answer to this message.
    fn awaits(&self, message_id: &str) {
        self.awaited.send_modify(|awaited| push_bounded(awaited, message_id));
    }

    /// Notes that the answer to this message has gone out.
    fn settles(&self, message_id: &str) {
        self.awaited.send_modify(|awaited| awaited.retain(|id| id != message_id));
    }

    /// Does what the agent says.
    pub(super) async fn heard(&self, packet: Packet) {
        let Packet { kind, content } = packet;
        let text = |name: &str| content.get(name).and_then(Value::as_str);
        let message_id = text("message_id");
        match kind.as_str() {
            "ready" => {
                if self.state().is_starting() {
                    self.becomes(State::Ready, None);
                }
            }
            "log" => {
                let level = text("level").and_then(LogLevel::parse).unwrap_or(LogLevel::Info);
                self.logs.write(level, LogSource::Agent, text("message").unwrap_or_default());
            }
            "stream_update" => {
                let inner = content.get("content").cloned().unwrap_or_default();
                let event_type = text("event_type").or_else(|| inner.get("event_type").and_then(Value::as_str));
                let event_type = event_type.map(str::to_owned);
                let event = Event { kind: "update", message_id, event_type: event_type.as_deref(), content: inner };
                self.announce(event).await;
            }
            "state_delta" | "tool_request" => {
                let event_type = Some(kind.as_str());
                self.announce(Event { kind: "update", message_id, event_type, content: content.clone() }).await;
            }
            "complete" => {
                let answer = text("text").unwrap_or_default();
                if let Some(id) = message_id {
                    self.remember(id, Role::Assistant, answer.to_owned());
                    self.answered(id);
                }
                let content = without(&content, "message_id");
                self.announce(Event { kind: "complete", message_id, event_type: None, content }).await;
                message_id.iter().for_each(|id| self.settles(id));
            }
            "error" => {
                if let Some(id) = message_id {
                    self.answered(id);
                }
                let content = without(&content, "message_id");
                self.announce(Event { kind: "error", message_id, event_type: None, content }).await;
                message_id.iter().for_each(|id| self.settles(id));
            }
            "binary" => match native::binary(&content) {
                Some(frame) if frame.len() > FRAME_BYTES_MAX => {
                    self.announce(self.oversized("binary", None, frame.len())).await;
                }
                Some(frame) => {
                    // It has no number of its own; who has seen the next one has seen it.
                    let sequence = self.sequence.lock().await;
                    self.clients.broadcast(*sequence + 1, frame).await;
                    self.touch();
                }
                None => self.logs.host(LogLevel::Warn, "the agent sent `binary` without base64 `data`"),
            },
            other => self.logs.host(LogLevel::Warn, format!("the agent sent a packet of unknown type `{other:.64}`")),
        }
    }
}

/// Carries a client's frames to the agent. A client that has said all listens on until its messages are answered, so that
/// a call that sends one message and closes its half gets the whole answer, and then ends.
async fn carry(instance: Arc<Instance>, seat: Seat, mut incoming: Incoming<Frame>) {
    let mut asked: Vec<String> = Vec::new();
    loop {
        let frame = tokio::select! {
            () = seat.gone() => return,
            frame = incoming.next() => frame,
        };
        let frame = match frame {
            None | Some(Ok(Frame::Close(_))) => break,
            Some(Ok(frame)) => frame,
            // A stream that broke is noticed by its other half.
            Some(Err(_)) => return,
        };
        let work = answer(&instance, &seat, frame, &mut asked);
        tokio::select! {
            () = seat.gone() => return,
            going_on = work => if !going_on { return },
        }
    }
    let mut awaited = instance.awaited.subscribe();
    tokio::select! {
        () = seat.gone() => {}
        _ = awaited.wait_for(|awaited| asked.iter().all(|id| !awaited.contains(id))) => seat.leave(),
    }
}

/// Does what one frame asks for, and notes which messages it asked. False when the client or the instance is gone.
async fn answer(instance: &Instance, seat: &Seat, frame: Frame, asked: &mut Vec<String>) -> bool {
    instance.touch();
    match native::read(&frame) {
        Request::Message { text, content } => {
            let message_id = id::random("msg_", 20);
            instance.awaits(&message_id);
            if instance.post(&message_id, text, content).await.is_err() {
                instance.settles(&message_id);
                return false;
            }
            let awaited = instance.awaited.borrow();
            asked.retain(|id| awaited.contains(id));
            asked.push(message_id);
            true
        }
        // A client of a stream waits with its stream for as long as the agent does not read.
        Request::Pass(packet) => instance.hand(packet, None).await.is_ok(),
        Request::Answer(kind, content) => {
            let event = Event { kind, message_id: None, event_type: None, content };
            seat.send(event.frame(&instance.id, None, instance.clock.now())).await
        }
    }
}

/// Does not wait for room longer than a call may. Nothing was handed over then.
async fn patiently(handing: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::time::timeout(OUTBOX_WAIT_MAX, handing).await.unwrap_or_else(|_| Err(failure::busy()))
}

/// Adds a message to those that are waited for.
fn push_bounded(waited_for: &mut Vec<String>, message_id: &str) {
    if waited_for.len() >= AWAITED_MAX {
        waited_for.remove(0);
    }
    waited_for.push(message_id.to_owned());
}

fn without(content: &Value, field: &str) -> Value {
    let mut content = content.clone();
    if let Value::Object(fields) = &mut content {
        fields.remove(field);
    }
    content
}
