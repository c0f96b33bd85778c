//! Lines on their way to standard error: gathered, and written by a thread of their own.
//!
//! A newcomer's usual mistake is to have somebody wait for the log: to write each line where it is logged, or to wait for
//! room. A busy gateway would then make a system call for every call that it serves, and stand still, its answers to load
//! balancers included, whenever whoever reads its log does.
//!
//! *Knows:* bytes, how long they may wait. *Does not know:* what is logged.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for others. People do not notice, and a killed process loses no more than this.
const GATHERED_FOR: Duration = Duration::from_millis(20);
/// Bytes that are written at once, however short the time.
const GATHERED_BYTES_MAX: usize = 1 << 20;
/// Bytes that may wait while nobody reads: some seconds of a busy gateway. Lines beyond that are dropped and counted.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// Room that is kept for the next lines: what a busy gateway gathers.
const KEPT_BYTES_MAX: usize = 256 << 10;
/// How long the last lines may take to be read.
const LAST_WORDS_MAX: Duration = Duration::from_secs(5);

/// Takes lines. Clones share one queue.
#[derive(Clone)]
pub(super) struct Lines(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    lost: u64,
    is_closed: bool,
    is_written: bool,
}

/// Writes what waits when it is dropped, and ends the thread.
pub(crate) struct Written(Arc<Queue>);

/// Begins to write to `out`. `told` says how many lines were dropped since it last said so; it may log that.
pub(super) fn begin(
    out: impl Write + Send + 'static,
    told: impl Fn(u64) + Send + 'static,
) -> io::Result<(Lines, Written)> {
    let queue = Arc::new(Queue::default());
    let theirs = Arc::clone(&queue);
    // Not joined: whoever stopped reading could hold it for ever.
    thread::Builder::new().name("log".to_owned()).spawn(move || theirs.write_to(out, told))?;
    Ok((Lines(Arc::clone(&queue)), Written(queue)))
}

impl Queue {
    fn write_to(&self, mut out: impl Write, told: impl Fn(u64)) {
        let mut leaving = Vec::new();
        loop {
            let mut state = self.state();
            while state.waiting.is_empty() && !state.is_closed {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.waiting.is_empty() {
                state.is_written = true;
                self.changed.notify_all();
                return;
            }
            let gathered = |state: &mut State| !state.is_closed && state.waiting.len() < GATHERED_BYTES_MAX;
            let waited = self.changed.wait_timeout_while(state, GATHERED_FOR, gathered);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
            std::mem::swap(&mut state.waiting, &mut leaving);
            let lost = std::mem::take(&mut state.lost);
            drop(state);
            // A log that cannot be written has nowhere to say so.
            let _written = out.write_all(&leaving).and_then(|()| out.flush());
            leaving.clear();
            leaving.shrink_to(KEPT_BYTES_MAX);
            if lost > 0 {
                told(lost);
            }
        }
    }

    /// What this lock guards is whole after every statement, so a poisoned lock is still good.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state();
        let before = state.waiting.len();
        if before + line.len() > WAITING_BYTES_MAX {
            state.lost += 1;
            return Ok(line.len());
        }
        state.waiting.extend_from_slice(line);
        // The first line wakes the thread; the others find it waiting for them.
        if before == 0 || (before < GATHERED_BYTES_MAX && state.waiting.len() >= GATHERED_BYTES_MAX) {
            self.0.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_closed = true;
        self.0.changed.notify_all();
        let written = self.0.changed.wait_timeout_while(state, LAST_WORDS_MAX, |state| !state.is_written);
        // What nobody reads is lost.
        let _in_time = written.is_ok();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, channel},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_whole_and_before_the_end() {
        let sink = Sink::default();
        let (lines, written) = begin(sink.clone(), |_| ()).unwrap();
        let line = format!("{}\n", "x".repeat(999));
        // Three times what is gathered, from several threads.
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (mut lines, line) = (lines.clone(), line.clone());
                thread::spawn(move || (0..1_100).for_each(|_| lines.write_all(line.as_bytes()).unwrap()))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        drop(written);
        assert_eq!(String::from_utf8(sink.0.lock().unwrap().clone()).unwrap(), line.repeat(3_300));
    }

    /// Is read from once it is allowed.
    struct Stuck(Receiver<()>, Sink);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // When nobody can allow it any more, it is allowed.
            let _allowed = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_that_stands_still_and_what_is_lost_is_counted() {
        let (sink, lost, (allow, allowed)) = (Sink::default(), Arc::new(AtomicU64::new(0)), channel());
        let told = Arc::clone(&lost);
        let told = move |lost| {
            told.fetch_add(lost, Ordering::Relaxed);
        };
        let (mut lines, written) = begin(Stuck(allowed, sink.clone()), told).unwrap();
        let line = format!("{}\n", "x".repeat(999));
        // More than twice what may wait: the thread may have taken that much already.
        const LINES: usize = 20_000;
        (0..LINES).for_each(|_| lines.write_all(line.as_bytes()).unwrap());
        drop(allow);
        drop(written);
        let read = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let lost = usize::try_from(lost.load(Ordering::Relaxed)).unwrap();
        assert!(lost > 0);
        assert_eq!(read, line.repeat(LINES - lost));
    }
}
