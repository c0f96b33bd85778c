//! One run of an agent: a process group with limits, which does not outlive the gateway.
//!
//! Limits are set by the POSIX shell before the agent begins (`ulimit`), which needs no code between fork and exec and is
//! the same on every system. The shell stays as the agent's parent. It holds the read end of a pipe, the *lifeline*,
//! whose write end is in the gateway: when the gateway is gone, however it went, the pipe closes and the shell ends the
//! whole group. (A parent-death signal would follow the thread that started the process, and threads come and go.)
//!
//! The shell runs under the platform's `PATH` and finds its programs there, whatever `PATH` the agent is given. Nothing but
//! the agent's own three descriptors reaches it: those that the gateway inherited from whoever started it are closed in
//! every child.
//!
//! A newcomer's usual mistake is to kill the process. Agents start others; signals go to the group.
//!
//! *Knows:* groups, limits, signals, /proc. *Does not know:* instances, the socket's language.

use std::{
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// What an agent may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Address space of each process.
    pub memory_bytes: u64,
    /// Processor time of each process over its whole life; 0 is no limit.
    pub cpu_seconds: u64,
    /// Open files of each process.
    pub open_files: u64,
    /// Largest file that it may write.
    pub file_bytes: u64,
    /// How far the agent stands back when processors are busy, 0 to 19, so that the gateway stays quick.
    pub niceness: u8,
}

impl Default for Limits {
    /// Room for an interpreter and its libraries, but not for the whole machine.
    fn default() -> Limits {
        Limits { memory_bytes: 4 << 30, cpu_seconds: 86_400, open_files: 1_024, file_bytes: 2 << 30, niceness: 5 }
    }
}

/// How much longer than its limit a process may use the processor when it does not heed the signal that says so.
const CPU_SECONDS_MORE: u64 = 5;
/// Where the launcher's programs are on every system, when the platform's `PATH` does not say.
const SYSTEM_PATH: &str = "/usr/bin:/bin";

impl Limits {
    /// Which of these ends a process by this signal.
    pub(super) fn ended_by(&self, signal: i32) -> Option<String> {
        if signal == Signal::XCPU.as_raw() {
            return Some(format!("it used up its {} s of processor time", self.cpu_seconds));
        }
        (signal == Signal::XFSZ.as_raw()).then(|| format!("it wrote a file of more than {} bytes", self.file_bytes))
    }
}

/// Sets the limits, starts the agent and the lifeline's watcher beside it, and ends with the agent's code. A limit that
/// cannot be set is one that the system already holds lower. After the lifeline broke the agent has five seconds. Its own
/// variables have names that no caller may use, since one that came with the environment would go on to the agent.
const SUPERVISOR: &str = r#"
ulimit -c 0
ulimit -v "$1" 2>/dev/null || :
ulimit -H -t "$3" 2>/dev/null || :
ulimit -S -t "$2" 2>/dev/null || :
ulimit -n "$4" 2>/dev/null || :
ulimit -f "$5" 2>/dev/null || :
AGENT_NICENESS=$6 AGENT_PATH=$7
shift 7
exec 3<&0 </dev/null
trap : TERM
PATH=$AGENT_PATH "$(command -v nice)" -n "$AGENT_NICENESS" "$@" 3<&- &
agent=$!
( trap '' TERM; read -r line; kill -TERM 0; sleep 5; kill -KILL 0 ) <&3 >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait "$agent"
code=$?
while kill -0 "$agent" 2>/dev/null; do wait "$agent"; code=$?; done
kill -KILL "$watcher" 2>/dev/null
exit "$code"
"#;

/// What to run.
pub(super) struct Launch<'a> {
    /// The program and its arguments.
    pub(super) command: &'a [String],
    /// Where it runs.
    pub(super) folder: &'a Path,
    /// All of its environment.
    pub(super) environment: &'a [(String, String)],
    /// Where the platform finds programs; the environment may have another `PATH`.
    pub(super) path: &'a str,
    /// What it may use.
    pub(super) limits: Limits,
}

/// Closes what this process inherited in every child that it starts from now on. What it opens itself is so anyhow, but
/// whoever started it may have left open what no agent should hold: a build's job server, sockets of a service manager.
pub(super) fn inherit_nothing() {
    /// Standard input, output and errors are set for each child.
    const FIRST: i32 = 3;
    close_fds::set_fds_cloexec_threadsafe(FIRST, &[]);
}

impl Launch<'_> {
    /// The command with its program as a path when it is not where the agent looks for programs, but where the platform does:
    /// whoever gives an agent a `PATH` need not know what the bundle needs to start.
    fn found(&self, agents: &str) -> Vec<String> {
        let mut command = self.command.to_vec();
        let Some(program) = command.first_mut().filter(|program| !program.contains('/')) else { return command };
        let find = |path: &str| {
            let folders = path.split(':').map(|folder| self.folder.join(folder));
            folders.map(|folder| folder.join(&*program)).find(|file| file.is_file())
        };
        if find(agents).is_none()
            && let Some(found) = find(self.path)
        {
            *program = found.display().to_string();
        }
        command
    }
}

/// A running process group. Killed when dropped.
pub(super) struct Process {
    child: Child,
    group: Group,
    /// Closing it ends the group.
    _lifeline: ChildStdin,
}

/// A process group, for signals and for looking at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group(Pid);

impl Process {
    /// Starts it. Answers what it prints beside it.
    pub(super) fn start<'a>(launch: &Launch<'a>) -> io::Result<(Process, ChildStdout, ChildStderr)> {
        let limits = launch.limits;
        let cpu = |seconds: u64| if limits.cpu_seconds == 0 { "unlimited".to_owned() } else { seconds.to_string() };
        let variable = |(name, value): &'a (String, String)| (name == "PATH").then_some(value.as_str());
        // The last one holds, as it does for the process.
        let path = launch.environment.iter().rev().find_map(variable).unwrap_or(launch.path);
        let mut child = Command::new("/bin/sh")
            .args(["-c", SUPERVISOR, "agent"])
            .arg((limits.memory_bytes >> 10).to_string())
            .arg(cpu(limits.cpu_seconds))
            .arg(cpu(limits.cpu_seconds.saturating_add(CPU_SECONDS_MORE)))
            .arg(limits.open_files.to_string())
            // The shell counts in blocks of 512 bytes.
            .arg((limits.file_bytes >> 9).to_string())
            .arg(limits.niceness.to_string())
            .arg(path)
            .args(launch.found(path))
            .current_dir(launch.folder)
            .env_clear()
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .env("PATH", format!("{}:{SYSTEM_PATH}", launch.path))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let absent = || io::Error::other("the process has no pipes");
        let lifeline = child.stdin.take().ok_or_else(absent)?;
        let (output, errors) = (child.stdout.take().ok_or_else(absent)?, child.stderr.take().ok_or_else(absent)?);
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).ok_or_else(absent)?;
        Ok((Process { child, group: Group(pid), _lifeline: lifeline }, output, errors))
    }

    /// Its group.
    pub(super) fn group(&self) -> Group {
        self.group
    }

    /// Waits until the agent has ended. May be dropped and asked again.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.group.kill();
    }
}

impl Group {
    /// Asks the agent to end.
    pub(super) fn terminate(self) {
        self.signal(Signal::TERM);
    }

    /// Ends all of the group.
    pub(super) fn kill(self) {
        self.signal(Signal::KILL);
    }

    /// Whether this process belongs to the group.
    pub(super) fn has(self, pid: i32) -> bool {
        Pid::from_raw(pid).and_then(|pid| rustix::process::getpgid(Some(pid)).ok()) == Some(self.0)
    }

    /// Processor time and resident memory of the group's leader and its descendants, where the system tells.
    pub(super) fn usage(self) -> Option<(Duration, u64)> {
        /// Processes of one agent that are counted.
        const PROCESSES_MAX: usize = 256;
        let (mut ticks, mut pages) = (0, 0);
        let mut pids = vec![self.0.as_raw_nonzero().get()];
        let mut at = 0;
        while at < pids.len() && at < PROCESSES_MAX {
            let pid = pids[at];
            at += 1;
            let Some((process_ticks, process_pages)) = read_usage(pid) else { continue };
            ticks += process_ticks;
            pages += process_pages;
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
        }
        if pages == 0 {
            return None;
        }
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        let page_bytes = rustix::param::page_size() as u64;
        Some((Duration::from_millis(ticks.saturating_mul(1_000) / per_second), pages.saturating_mul(page_bytes)))
    }

    fn signal(self, signal: Signal) {
        // The only failure is that the group is gone, which is what was wanted.
        let _gone = rustix::process::kill_process_group(self.0, signal).is_err();
    }
}

/// Ticks of processor time and pages of resident memory of one process.
fn read_usage(pid: i32) -> Option<(u64, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses that may contain anything; utime and stime are the 14th and 15th.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some((ticks, pages))
}
