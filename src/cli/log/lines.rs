//! Lines on their way to standard error: gathered, and written by a thread of their own.
//!
//! A newcomer's usual mistake is to write each line where it is logged. A busy gateway would then make a system call for
//! every call that it serves, and stand still whenever whoever reads its log does.
//!
//! *Knows:* bytes, how long they may wait. *Does not know:* what is logged.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for others. People do not notice, and a killed process loses no more than this.
const GATHERED_FOR: Duration = Duration::from_millis(20);
/// Bytes that may wait while nobody reads. Beyond that whoever logs waits: lines are not dropped.
const WAITING_BYTES_MAX: usize = 1 << 20;

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
    is_closed: bool,
}

/// Writes what waits when it is dropped, and ends the thread.
pub(crate) struct Written {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

/// Begins to write to `out`.
pub(super) fn begin(out: impl Write + Send + 'static) -> io::Result<(Lines, Written)> {
    let queue = Arc::new(Queue::default());
    let theirs = Arc::clone(&queue);
    let thread = thread::Builder::new().name("log".to_owned()).spawn(move || theirs.write_to(out))?;
    Ok((Lines(Arc::clone(&queue)), Written { queue, thread: Some(thread) }))
}

impl Queue {
    fn write_to(&self, mut out: impl Write) {
        loop {
            let mut state = self.state();
            while state.waiting.is_empty() && !state.is_closed {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.waiting.is_empty() {
                return;
            }
            let gathered = |state: &mut State| !state.is_closed && state.waiting.len() < WAITING_BYTES_MAX;
            let waited = self.changed.wait_timeout_while(state, GATHERED_FOR, gathered);
            let waiting = std::mem::take(&mut waited.unwrap_or_else(PoisonError::into_inner).0.waiting);
            self.changed.notify_all();
            // A log that cannot be written has nowhere to say so.
            let _written = out.write_all(&waiting).and_then(|()| out.flush());
        }
    }

    /// What this lock guards is whole after every statement, so a poisoned lock is still good.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let full = |state: &mut State| state.waiting.len() >= WAITING_BYTES_MAX && !state.is_closed;
        let state = self.0.changed.wait_while(self.0.state(), full);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.waiting.extend_from_slice(line);
        // The first line wakes the thread; the others find it waiting for them.
        if state.waiting.len() == line.len() || state.waiting.len() >= WAITING_BYTES_MAX {
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
        self.queue.state().is_closed = true;
        self.queue.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It ends when everything is written, and does not panic.
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
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
        let (lines, written) = begin(sink.clone()).unwrap();
        let line = format!("{}\n", "x".repeat(999));
        // Three times what may wait, from several threads.
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
}
