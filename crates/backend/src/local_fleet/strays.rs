//! Processes that an agent started and that left its group: daemons, whatever called `setsid`.
//!
//! They are known by the environment that they were started with, which names their agent's socket and workspace. A newcomer's
//! usual mistake is to take this for a wall. A process that starts another one with an environment of its own hides it;
//! whoever runs agents that he does not trust puts their host into a container, which ends with all that is in it.
//!
//! Looking through all processes costs some milliseconds, so it is done when an agent has ended, once for all that have ended
//! meanwhile.
//!
//! *Knows:* /proc. *Does not know:* groups, instances.

use std::{
    collections::HashSet,
    io::Read,
    path::Path,
    sync::{Mutex, PoisonError},
};

use tokio::{sync::oneshot, task::spawn_blocking};

/// How often all processes are looked through for one that was started meanwhile by one that was just ended.
const ROUNDS_MAX: usize = 8;
/// As much of an environment as is read: what the host gives stands first or within this.
const ENVIRONMENT_BYTES_MAX: u64 = 1 << 20;

/// Ends what agents left behind.
#[derive(Default)]
pub(super) struct Strays {
    /// The sockets of agents that have ended, and who waits for what they left.
    waiting: Mutex<Vec<(Vec<u8>, oneshot::Sender<()>)>>,
    looking: tokio::sync::Mutex<()>,
}

impl Strays {
    /// Ends every process that was started with this socket in its environment.
    pub(super) async fn end(&self, socket: &Path) {
        let entry = [b"AGENT_SOCKET=", socket.as_os_str().as_encoded_bytes()].concat();
        let (done, mut ended) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((entry, done));
        let _turn = self.looking.lock().await;
        if ended.try_recv().is_ok() {
            return;
        }
        // Those who come from here on wait for the next look.
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let (entries, waiting): (HashSet<_>, Vec<_>) = waiting.into_iter().unzip();
        // A look that broke off found nothing, which is what there mostly is.
        let _looked = spawn_blocking(move || kill_all(|entry| entries.contains(entry))).await.is_ok();
        for done in waiting {
            let _nobody_waits = done.send(()).is_err();
        }
    }
}

/// Ends every process of agents whose workspace lies in this folder: a gateway that was killed could not do it.
pub(super) fn sweep(instances: &Path) {
    // Most gateways were not killed, and a new one has had no agents.
    let has_left = std::fs::read_dir(instances).is_ok_and(|mut left| left.next().is_some());
    if !has_left {
        return;
    }
    let prefix = [b"AGENT_WORKSPACE=", instances.as_os_str().as_encoded_bytes(), b"/"].concat();
    kill_all(|entry| entry.starts_with(&prefix));
}

/// Kills every process that has such an entry in its environment, and those that they start meanwhile.
#[cfg(target_os = "linux")]
fn kill_all(is_theirs: impl Fn(&[u8]) -> bool) {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let own = std::process::id().cast_signed();
    let mut killed = HashSet::new();
    for _ in 0..ROUNDS_MAX {
        let before = killed.len();
        let Ok(processes) = std::fs::read_dir("/proc") else { return };
        let ids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        for id in ids.filter(|id| *id != own) {
            if killed.contains(&id) || !has(id, &is_theirs) {
                continue;
            }
            let Some(held) = Pid::from_raw(id).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
                continue;
            };
            // Looked at again now that the number cannot become another process.
            if has(id, &is_theirs) && pidfd_send_signal(&held, Signal::KILL).is_ok() {
                killed.insert(id);
            }
        }
        if killed.len() == before {
            return;
        }
    }
}

/// Other systems do not show environments.
#[cfg(not(target_os = "linux"))]
fn kill_all(_is_theirs: impl Fn(&[u8]) -> bool) {}

/// Whether a process has such an entry in its environment. Those of other users are not shown.
#[cfg(target_os = "linux")]
fn has(process: i32, is_theirs: impl Fn(&[u8]) -> bool) -> bool {
    let mut environment = Vec::new();
    let Ok(file) = std::fs::File::open(format!("/proc/{process}/environ")) else { return false };
    match file.take(ENVIRONMENT_BYTES_MAX).read_to_end(&mut environment) {
        Ok(_) => environment.split(|byte| *byte == 0).any(is_theirs),
        Err(_) => false,
    }
}
