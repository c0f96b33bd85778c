//! The life of an instance's processes: start, talk, notice the end, start again or not, stop.
//!
//! One task per instance. A newcomer's usual mistake is to stop a process from elsewhere: everyone else only gives an
//! order ([`Instance::order`]); this task alone starts and ends processes, so that there is never more than one.
//!
//! Stopping takes three steps within the grace: `shutdown` over the socket, TERM to the group at seven tenths of it, KILL
//! at its end. An agent that broke is started again after 250 ms, doubled each time up to 10 s, at most five times in a
//! row; a minute without trouble makes it new.
//!
//! *Knows:* processes, the socket, the restart policy. *Does not know:* clients' frames, the domain.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use portico_base::{Result, id, tasks::Tasks};
use portico_port::fleet::{LogLevel, LogSource, State, Stop, failure};
use serde_json::json;
use tokio::{
    io::BufReader,
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinHandle},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    clients::End,
    deployments::Deployed,
    instance::{Handed, Instance},
    ipc,
    manifest::Restart,
    process::{Group, Launch, Limits, Process},
    sockets::SocketFolder,
    strays::Strays,
};

/// How long a process may take to connect: on a busy machine, loading an interpreter and its libraries takes a while.
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// How long an agent may take from `init` to `ready`.
const INIT_MAX: Duration = Duration::from_secs(60);
/// How long an agent that closed its socket may take to end.
const HANG_UP_MAX: Duration = Duration::from_secs(2);
/// How long to go on reading what an ended agent left in its socket.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// How long to go on reading what it left in its pipes: 64 KiB each, and nobody writes any more but a process that hid itself.
const PIPES_MAX: Duration = Duration::from_millis(500);
/// How long agents have to end when the host closes.
const CLOSING_GRACE: Duration = Duration::from_secs(5);
/// First and longest pause before a restart, and how many in a row.
const RESTART_PAUSE_MIN: Duration = Duration::from_millis(250);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(10);
const RESTARTS_MAX: u32 = 5;
/// A run of this length forgives earlier trouble.
const RUN_WITHOUT_TROUBLE: Duration = Duration::from_secs(60);
/// Longest piece of an agent's output in an error message.
const LAST_WORDS_CHARACTERS_MAX: usize = 300;

/// What the task needs beside the instance.
pub(super) struct Supervisor {
    pub(super) instance: Arc<Instance>,
    pub(super) deployed: Arc<Deployed>,
    pub(super) outbox: mpsc::Receiver<Handed>,
    /// Where sockets lie. It stays for as long as somebody may connect.
    pub(super) sockets: Arc<SocketFolder>,
    /// Where programs are looked for.
    pub(super) path: String,
    pub(super) limits: Limits,
    pub(super) strays: Arc<Strays>,
    pub(super) tasks: Tasks,
    /// Told once: the first process has connected, or why not.
    pub(super) started: Option<oneshot::Sender<Result<()>>>,
}

/// How one run ended.
enum RunEnd {
    /// By order.
    Stopped,
    /// By itself, in order.
    Done,
    /// By itself or by us, not in order.
    Broke(String),
}

impl Supervisor {
    /// Runs the agent until it is over.
    pub(super) async fn supervise(mut self) {
        let instance = Arc::clone(&self.instance);
        let mut restarts = 0;
        let (state, note) = loop {
            let began = Instant::now();
            instance.becomes(State::Initializing, None);
            let end = self.run().await.unwrap_or_else(|error| RunEnd::Broke(error.to_string()));
            instance.runs(None);
            let why = match end {
                RunEnd::Stopped => break (State::Terminated, None),
                RunEnd::Done => break (State::Terminated, Some("the agent ended by itself".to_owned())),
                RunEnd::Broke(why) => why,
            };
            instance.logs.host(LogLevel::Error, why.clone());
            if let Some(started) = self.started.take() {
                // A first start that fails is answered to whoever asked for it, and not tried again.
                let _nobody_waits = started.send(Err(failure::undeployable(why.clone()))).is_err();
                break (State::Failed, Some(why));
            }
            restarts = if began.elapsed() >= RUN_WITHOUT_TROUBLE { 0 } else { restarts };
            if self.deployed.manifest.restart == Restart::Never || restarts >= RESTARTS_MAX {
                instance.clients.hurry();
                instance.gives_up("agent_failed", &why).await;
                break (State::Failed, Some(why));
            }
            instance.becomes(State::Initializing, Some(why.clone()));
            instance.gives_up("agent_restarted", &why).await;
            let pause = (RESTART_PAUSE_MIN * 2_u32.pow(restarts)).min(RESTART_PAUSE_MAX);
            restarts += 1;
            instance.logs.host(LogLevel::Info, format!("starting again in {} ms", pause.as_millis()));
            if self.told_to_stop_within(pause).await {
                break (State::Terminated, None);
            }
        };
        instance.clients.hurry();
        instance.gives_up("agent_terminated", "the agent ended").await;
        instance.logs.host(LogLevel::Info, format!("the instance is {state}"));
        instance.becomes(state, note);
        instance.clients.end(if self.tasks.is_closing() { End::Draining } else { End::Terminated });
        instance.logs.end();
    }

    /// One process, from start to end.
    async fn run(&mut self) -> io::Result<RunEnd> {
        let socket = Socket::bind(self.sockets.path())?;
        let name = socket.path.clone();
        let environment = self.environment(&name);
        let launch = Launch {
            command: &self.deployed.manifest.command,
            folder: &self.deployed.folder,
            environment: &environment,
            path: &self.path,
            limits: self.limits,
        };
        let (mut process, output, errors) = Process::start(&launch)?;
        self.instance.runs(Some(process.group()));
        let logs = &self.instance.logs;
        let captures = [
            self.tasks.spawn(logs.clone().capture(BufReader::new(output), LogSource::Stdout, LogLevel::Info)),
            self.tasks.spawn(logs.clone().capture(BufReader::new(errors), LogSource::Stderr, LogLevel::Warn)),
        ];
        let end = self.live(&mut process, socket).await;
        // What the agent started must not outlive it, and what it printed last belongs into the log.
        process.group().kill();
        self.strays.end(&name).await;
        quiet(captures).await;
        Ok(match end? {
            (RunEnd::Broke(why), Some(status)) => RunEnd::Broke(self.last_words(&why, status)),
            (end, _) => end,
        })
    }

    /// Waits until the process has connected and talks to it until it has ended.
    async fn live(&mut self, process: &mut Process, socket: Socket) -> io::Result<(RunEnd, Option<ExitStatus>)> {
        let stream = tokio::select! {
            stream = socket.accept(process.group()) => stream?,
            status = process.ended() => {
                let why = "the agent ended before it connected to AGENT_SOCKET".to_owned();
                return Ok((RunEnd::Broke(why), Some(status?)));
            }
            () = sleep(CONNECT_MAX) => {
                let seconds = CONNECT_MAX.as_secs();
                return Ok((RunEnd::Broke(format!("the agent did not connect to AGENT_SOCKET within {seconds} s")), None));
            }
            () = self.told_to_stop() => return Ok((RunEnd::Stopped, None)),
        };
        drop(socket);
        if let Some(started) = self.started.take() {
            let _nobody_waits = started.send(Ok(())).is_err();
        }
        self.talk(process, stream).await
    }

    /// Carries packets both ways until the process has ended.
    async fn talk(&mut self, process: &mut Process, stream: UnixStream) -> io::Result<(RunEnd, Option<ExitStatus>)> {
        let (read, write) = stream.into_split();
        let (farewell, farewells) = oneshot::channel();
        let mut orders = self.instance.orders();
        let (instance, tasks) = (Arc::clone(&self.instance), self.tasks.clone());
        let init = self.init();
        let mut ears = std::pin::pin!(listen(&instance, read));
        let mut mouth = std::pin::pin!(speak(&instance, write, init, &mut self.outbox, farewells));
        let (mut ears_open, mut mouth_open) = (true, true);
        let mut talk = Talk::begin(&instance, process.group(), farewell);
        loop {
            tokio::select! {
                status = process.ended() => {
                    let status = status?;
                    talk.group.kill();
                    if ears_open {
                        // What the agent said last is still in the socket. If it does not end, it was not said.
                        let _all_heard = timeout(DRAIN_MAX, &mut ears).await.is_ok();
                    }
                    return Ok((talk.end(status), Some(status)));
                }
                heard = &mut ears, if ears_open => {
                    ears_open = false;
                    talk.hung_up(heard);
                }
                spoken = &mut mouth, if mouth_open => {
                    mouth_open = false;
                    if let Err(error) = spoken {
                        instance.logs.host(LogLevel::Debug, format!("the agent does not read any more: {error}"));
                    }
                }
                order = next_order(&mut orders, &tasks, talk.steps.stopping), if !talk.steps.killed => talk.obey(order),
                step = talk.steps.due() => talk.take(step),
            }
        }
    }

    fn init(&self) -> Bytes {
        let instance = &self.instance;
        let secrets: serde_json::Map<_, _> =
            instance.secrets.iter().map(|(name, secret)| (name.clone(), secret.reveal().into())).collect();
        ipc::packet(
            "init",
            &json!({
                "agent_id": instance.id,
                "config": instance.config,
                "secrets": secrets,
                "workspace": instance.workspace(),
            }),
        )
    }

    /// All that the agent's process sees. The caller's variables may replace `PATH` and `LANG`, never ours.
    fn environment(&self, socket: &Path) -> Vec<(String, String)> {
        let instance = &self.instance;
        let workspace = instance.workspace().display().to_string();
        let mut environment = vec![("PATH".to_owned(), self.path.clone()), ("LANG".to_owned(), "C.UTF-8".to_owned())];
        environment.extend(instance.environment.clone());
        let ours = [
            ("HOME", workspace.clone()),
            ("TMPDIR", instance.folder.join("tmp").display().to_string()),
            ("AGENT_ID", instance.id.clone()),
            ("AGENT_WORKSPACE", workspace),
            ("AGENT_SOCKET", socket.display().to_string()),
        ];
        environment.extend(ours.map(|(name, value)| (name.to_owned(), value)));
        environment
    }

    fn last_words(&self, what: &str, status: ExitStatus) -> String {
        let how = match (status.code(), status.signal()) {
            (Some(127), _) => "exit code 127, its command was not found".to_owned(),
            (Some(126), _) => "exit code 126, its command cannot be run".to_owned(),
            (Some(code), _) if code > 128 => match self.limits.ended_by(code - 128) {
                Some(limit) => format!("signal {}, {limit}", code - 128),
                None => format!("signal {}", code - 128),
            },
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no exit code".to_owned(),
        };
        let printed = self.instance.logs.latest(LogLevel::Warn, LogSource::Stderr).unwrap_or_default();
        let printed: String = printed.chars().take(LAST_WORDS_CHARACTERS_MAX).collect();
        if printed.is_empty() { format!("{what} ({how})") } else { format!("{what} ({how}): {printed}") }
    }

    async fn told_to_stop(&self) {
        let mut orders = self.instance.orders();
        next_order(&mut orders, &self.tasks, false).await;
    }

    async fn told_to_stop_within(&self, pause: Duration) -> bool {
        timeout(pause, self.told_to_stop()).await.is_ok()
    }
}

/// A run of an agent that has connected: what was done about it, and what went wrong.
struct Talk<'a> {
    instance: &'a Instance,
    group: Group,
    steps: Steps,
    trouble: Option<String>,
    /// Tells the agent how long it has to end; once.
    farewell: Option<oneshot::Sender<Duration>>,
}

impl Talk<'_> {
    fn begin(instance: &Instance, group: Group, farewell: oneshot::Sender<Duration>) -> Talk<'_> {
        Talk { instance, group, steps: Steps::starting(), trouble: None, farewell: Some(farewell) }
    }

    /// The agent says nothing more. It should end now.
    fn hung_up(&mut self, heard: io::Result<()>) {
        if let Err(error) = heard {
            self.trouble.get_or_insert(format!("the agent's socket broke: {error}"));
        }
        if !self.steps.stopping {
            self.steps.next = Some((Instant::now() + HANG_UP_MAX, Step::Kill));
        }
    }

    fn obey(&mut self, order: Stop) {
        self.instance.becomes(State::ShuttingDown, None);
        self.instance.clients.hurry();
        match order {
            Stop::Now => {
                // No order is harder, so none is waited for any more.
                (self.steps.stopping, self.steps.killed, self.steps.next) = (true, true, None);
                self.group.kill();
            }
            Stop::Within(grace) => {
                self.steps.stop_within(grace);
                if let Some(farewell) = self.farewell.take() {
                    let _cannot_hear = farewell.send(grace).is_err();
                }
            }
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::GiveUpStarting if !self.instance.state().is_starting() => {}
            Step::GiveUpStarting => {
                self.trouble = Some(format!("the agent did not say `ready` within {} s", INIT_MAX.as_secs()));
                self.group.kill();
            }
            Step::Terminate => self.group.terminate(),
            Step::Kill => {
                if !self.steps.stopping {
                    self.trouble.get_or_insert("the agent closed its socket and did not end".to_owned());
                }
                self.group.kill();
            }
        }
    }

    /// What its end means.
    fn end(self, status: ExitStatus) -> RunEnd {
        match self.trouble {
            _ if self.steps.stopping => RunEnd::Stopped,
            Some(trouble) => RunEnd::Broke(trouble),
            None if status.success() => RunEnd::Done,
            None => RunEnd::Broke("the agent ended".to_owned()),
        }
    }
}

/// What to do next if nothing happens before.
struct Steps {
    next: Option<(Instant, Step)>,
    /// What follows `Terminate`.
    kill_at: Instant,
    stopping: bool,
    killed: bool,
}

#[derive(Clone, Copy)]
enum Step {
    GiveUpStarting,
    Terminate,
    Kill,
}

impl Steps {
    fn starting() -> Steps {
        let give_up_at = Instant::now() + INIT_MAX;
        Steps { next: Some((give_up_at, Step::GiveUpStarting)), kill_at: give_up_at, stopping: false, killed: false }
    }

    fn stop_within(&mut self, grace: Duration) {
        self.stopping = true;
        self.next = Some((Instant::now() + grace * 7 / 10, Step::Terminate));
        self.kill_at = Instant::now() + grace;
    }

    /// The step that is due, when it is.
    async fn due(&mut self) -> Step {
        let Some((at, step)) = self.next else { return std::future::pending().await };
        sleep_until(at).await;
        self.next = matches!(step, Step::Terminate).then_some((self.kill_at, Step::Kill));
        step
    }
}

/// The next order to end: given by a call, or because the host closes. While `stopping` only harder ones count.
pub(super) async fn next_order(
    orders: &mut tokio::sync::watch::Receiver<Option<Stop>>,
    tasks: &Tasks,
    stopping: bool,
) -> Stop {
    let given = async {
        loop {
            let order = *orders.borrow_and_update();
            match order {
                Some(order) if !stopping || order == Stop::Now => return order,
                _ => {}
            }
            if orders.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let closing = async {
        if stopping {
            std::future::pending::<()>().await;
        }
        tasks.closing().await;
        Stop::Within(CLOSING_GRACE)
    };
    tokio::select! {
        biased;
        order = given => order,
        order = closing => order,
    }
}

/// Does what the agent says until it hangs up.
async fn listen(instance: &Instance, read: tokio::net::unix::OwnedReadHalf) -> io::Result<()> {
    let mut read = BufReader::with_capacity(16 << 10, read);
    while let Some(packet) = ipc::read(&mut read).await? {
        instance.heard(packet).await;
    }
    Ok(())
}

/// Tells the agent what there is to tell: `init`, then, once it is ready, what waits in the outbox; `shutdown` last.
async fn speak(
    instance: &Instance,
    mut write: tokio::net::unix::OwnedWriteHalf,
    init: Bytes,
    outbox: &mut mpsc::Receiver<Handed>,
    mut farewells: oneshot::Receiver<Duration>,
) -> io::Result<()> {
    ipc::write(&mut write, &init).await?;
    drop(init);
    let mut status = instance.watch();
    let mut ready = false;
    let grace = loop {
        let settled = async {
            // The instance is held here, so its status cannot end.
            let _settled = status.wait_for(|status| !status.state.is_starting()).await.is_ok();
        };
        tokio::select! {
            biased;
            grace = &mut farewells => break grace,
            () = settled, if !ready => ready = true,
            handed = outbox.recv(), if ready => {
                let Some(handed) = handed else { return Ok(()) };
                if let Some(id) = &handed.message_id {
                    // Before the agent can answer, so that clients see a message begin before anything of it.
                    instance.begins(id).await;
                }
                ipc::write(&mut write, &handed.packet).await?;
            }
        }
    };
    let Ok(grace) = grace else { return Ok(()) };
    let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    ipc::write(&mut write, &ipc::packet("shutdown", &json!({"grace_ms": grace_ms}))).await?;
    // Closing this half now would look like a host that is gone; it closes with the connection.
    std::future::pending().await
}

/// Waits until what the agent printed is in the log, but not for a stranger that keeps its pipes open.
async fn quiet(captures: [JoinHandle<()>; 2]) {
    let aborts = captures.each_ref().map(JoinHandle::abort_handle);
    if timeout(PIPES_MAX, join_all(captures)).await.is_err() {
        aborts.iter().for_each(AbortHandle::abort);
    }
}

/// A socket that one agent connects to. Its name is gone when it is dropped.
struct Socket {
    path: PathBuf,
    listener: UnixListener,
}

impl Socket {
    fn bind(folder: &Path) -> io::Result<Socket> {
        let path = folder.join(id::random("", 12));
        let listener = UnixListener::bind(&path)?;
        Ok(Socket { path, listener })
    }

    /// The connection of a process of this group. Other agents run as the same user; theirs are refused.
    async fn accept(&self, group: Group) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            match stream.peer_cred()?.pid() {
                Some(pid) if !group.has(pid) => {}
                _ => return Ok(stream),
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Somebody may have tidied up before.
        let _gone = std::fs::remove_file(&self.path).is_err();
    }
}
