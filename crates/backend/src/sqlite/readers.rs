//! The threads that read.
//!
//! A newcomer's usual mistake is to read on the thread that writes. In WAL mode readers see the last commit and wait for
//! nobody; what a writer has been told is done is there for the next read.
//!
//! *Knows:* a queue of questions shared by a few threads. *Does not know:* writing.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use portico_base::{Clock, Error, Result, reason};
use portico_port::records::{Entry, LIST_RECORDS_MAX, Query, Record};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{gone, rows, unavailable};

/// Threads that read; more do not help, because reads take microseconds.
const THREADS_MAX: usize = 4;
/// Questions that may wait; a caller beyond that waits for a place.
const QUESTIONS_MAX: usize = 1_024;

/// The threads that read. They end when this is dropped.
pub(super) struct Readers(mpsc::Sender<Question>);

enum Question {
    Get { collection: &'static str, id: String, answer: oneshot::Sender<Result<Option<Record>>> },
    List { query: Query, answer: oneshot::Sender<Result<Vec<Record>>> },
    Export { after: (String, String), answer: oneshot::Sender<Result<Vec<Entry>>> },
}

impl Readers {
    /// Begins the threads, each with its own connection.
    pub(super) fn start(clock: &Arc<dyn Clock>, connect: impl Fn() -> Result<Connection>) -> Result<Readers> {
        let (questions, queue) = mpsc::channel(QUESTIONS_MAX);
        let queue = Arc::new(Mutex::new(queue));
        let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        for _ in 0..threads {
            let (connection, queue, clock) = (connect()?, Arc::clone(&queue), Arc::clone(clock));
            thread::Builder::new()
                .name("records-read".to_owned())
                .spawn(move || serve(&connection, &queue, &*clock))
                .map_err(|error| Error::unavailable(reason::RECORDS_UNAVAILABLE, "no thread to read with", error))?;
        }
        Ok(Readers(questions))
    }

    /// The record of this id, unless it has expired.
    pub(super) async fn get(&self, collection: &'static str, id: String) -> Result<Option<Record>> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Question::Get { collection, id, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Records of every collection behind a place.
    pub(super) async fn export(&self, after: (String, String)) -> Result<Vec<Entry>> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Question::Export { after, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Records in order.
    pub(super) async fn list(&self, mut query: Query) -> Result<Vec<Record>> {
        query.limit = query.limit.min(LIST_RECORDS_MAX);
        let (answer, answered) = oneshot::channel();
        self.0.send(Question::List { query, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn serve(connection: &Connection, queue: &Mutex<mpsc::Receiver<Question>>, clock: &dyn Clock) {
    // The lock is held while waiting and let go before answering, so that the next thread waits meanwhile.
    while let Some(question) = { queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv() } {
        // A caller who has gone does not need its answer, so sending may fail.
        match question {
            Question::Get { collection, id, answer } => {
                let _gone = answer.send(rows::get(connection, collection, &id, clock.now()).map_err(unavailable));
            }
            Question::Export { after, answer } => {
                let _gone = answer.send(rows::export(connection, &after, clock.now()).map_err(unavailable));
            }
            Question::List { query, answer } => {
                let _gone = answer.send(rows::list(connection, &query, clock.now()).map_err(unavailable));
            }
        }
    }
}
