//! Folders that one process at a time may use.
//!
//! A newcomer's usual mistake is a lock file that outlives a crash. The system holds the lock and lets go of it with the
//! process.
//!
//! *Knows:* file locks. *Does not know:* what is kept in a folder.

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
    time::Duration,
};

/// How often a lock is asked for. Its last owner may be just about to end, and a child that was forked at that moment
/// holds it until it has become another program.
const ATTEMPTS_MAX: u32 = 20;
/// How long to wait between.
const ATTEMPT_WAIT: Duration = Duration::from_millis(50);

/// The lock of a folder, held as long as what is answered lives. Nothing when another process keeps it. Blocks for up to a
/// second.
///
/// # Errors
/// When the file cannot be made or locked at all.
pub(super) fn take(path: &Path) -> io::Result<Option<File>> {
    let lock = File::create(path)?;
    for _ in 0..ATTEMPTS_MAX {
        match lock.try_lock() {
            Ok(()) => return Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(ATTEMPT_WAIT),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(None)
}
