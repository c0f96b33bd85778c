//! Real servers beside the tests: each on a free port of the loopback, in a temporary folder, ended with this process.
//!
//! A newcomer's usual mistake is to rely on `Drop` alone. A server that several tests share lives in a static, which is
//! never dropped, and a killed test drops nothing: each server therefore runs under a shell that waits for its standard
//! input to close, which the kernel does however this process ends.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longer than any of them takes to start on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Ports for servers, below those that the system gives to whoever asks for any: between the moment that a server's port is
/// chosen and the moment that it listens, and while it is killed, nobody else is given it.
const PORTS: std::ops::Range<u16> = 10_000..30_000;
/// How often a starting server is asked.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs what it is given, says which process that is, kills it when nobody holds the other end of its input, and ends as it
/// ended.
const KEEPER: &str = r#"pidfile=$1; log=$2; shift 2
"$@" </dev/null >>"$log" 2>&1 & pid=$!
echo $pid >"$pidfile.new" && mv "$pidfile.new" "$pidfile"
cat >/dev/null
kill -KILL $pid 2>/dev/null
wait $pid"#;

/// A running server.
pub(crate) struct Server {
    recipe: Recipe,
    port: u16,
    folder: TempDir,
    keeper: Option<Child>,
}

/// Makes the command that serves on this port, with its data in this folder.
pub(crate) type Start = Box<dyn Fn(u16, &Path) -> Command + Send + Sync>;

/// How a server is started, and what it is called.
pub(crate) struct Recipe {
    /// For whoever reads why a test failed.
    pub(crate) name: &'static str,
    /// The command that serves on this port, with its data in this folder.
    pub(crate) command: Start,
    /// Whether it serves by now.
    pub(crate) ready: fn(SocketAddr) -> bool,
}

impl Server {
    /// Starts a server and waits until it serves.
    pub(crate) fn start(recipe: Recipe) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server { recipe, port: free_port(), folder, keeper: None };
        server.begin();
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Freezes it with all the processes that it has begun: connections stay open, nothing is answered.
    pub(crate) fn freeze(&self) {
        let family = self.family();
        family.iter().for_each(|pid| signal(*pid, Signal::STOP));
        // The order reaches every thread in its own time.
        let deadline = Instant::now() + START_PATIENCE;
        while !family.iter().all(|pid| stands_still(*pid)) {
            assert!(Instant::now() < deadline, "{} does not stand still", self.recipe.name);
            std::thread::sleep(PAUSE);
        }
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.family().into_iter().for_each(|pid| signal(pid, Signal::CONT));
    }

    /// Kills it as a crash does. Its folder stays.
    pub(crate) fn kill(&mut self) {
        let Some(mut keeper) = self.keeper.take() else { return };
        signal(self.pid(), Signal::KILL);
        drop(keeper.stdin.take());
        keeper.wait().unwrap();
    }

    /// Asks it to end and waits until it has. Answers its exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let mut keeper = self.keeper.take()?;
        signal(self.pid(), Signal::TERM);
        let patience = Instant::now() + START_PATIENCE;
        while is_running(self.pid()) {
            assert!(Instant::now() < patience, "{} does not end:\n{}", self.recipe.name, self.log());
            std::thread::sleep(PAUSE);
        }
        drop(keeper.stdin.take());
        keeper.wait().unwrap().code()
    }

    /// Starts it again after [`Server::kill`], on its port and with its folder.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.begin();
    }

    /// What it printed.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    fn begin(&mut self) {
        self.spawn();
        let patience = Instant::now() + START_PATIENCE;
        while !(self.pid_file().exists() && (self.recipe.ready)(self.address())) {
            assert!(Instant::now() < patience, "{} did not start:\n{}", self.recipe.name, self.log());
            std::thread::sleep(PAUSE);
            // What a killed one has begun may still hold what this one needs.
            if self.pid_file().exists() && !is_running(self.pid()) {
                self.kill();
                self.spawn();
            }
        }
    }

    fn spawn(&mut self) {
        let command = (self.recipe.command)(self.port, self.folder.path());
        let _gone_or_never_there = fs::remove_file(self.pid_file()).is_ok();
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(self.pid_file()).arg(self.log_file());
        keeper.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            keeper.env(name, value.unwrap());
        }
        let keeper = keeper.stdin(Stdio::piped()).current_dir(self.folder.path()).spawn().unwrap();
        self.keeper = Some(keeper);
    }

    fn pid(&self) -> i32 {
        fs::read_to_string(self.pid_file()).unwrap().trim().parse().unwrap()
    }

    /// The process and what it has begun, parents first.
    fn family(&self) -> Vec<i32> {
        let mut family = vec![self.pid()];
        let mut at = 0;
        while let Some(pid) = family.get(at) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            family.extend(children.split_whitespace().map(|child| child.parse::<i32>().unwrap()));
            at += 1;
        }
        family
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.path().join("portico-tests.pid")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("portico-tests.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn signal(pid: i32, signal: Signal) {
    // A child may have ended since it was counted.
    let _sent = kill_process(Pid::from_raw(pid).unwrap(), signal).is_ok();
}

/// Whether every thread of a process is stopped or has ended.
fn stands_still(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .map(|thread| fs::read_to_string(thread.path().join("stat")).unwrap_or_default())
        .all(|stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X'])))
}

/// Whether a process has not ended yet. One that has and that nobody asked about is a zombie.
fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Whether somebody accepts connections there.
pub(crate) fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, PAUSE).is_ok()
}

/// The folder of the tools that `make tools` installed.
#[expect(clippy::disallowed_methods, reason = "where tools are is a matter of the machine and not of a configuration")]
pub(crate) fn tools() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/portico-tools");
    std::env::var_os("PORTICO_TOOLS").map_or_else(home, PathBuf::from)
}

/// A port of the loopback that nobody uses, another one each time.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other runs on this machine begin elsewhere.
    let begin = u16::try_from(std::process::id() % 97).unwrap() * 200;
    let count = PORTS.end - PORTS.start;
    let candidates = std::iter::repeat_with(|| begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count);
    let mut ports = candidates.take(count.into()).map(|at| PORTS.start + at);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}
