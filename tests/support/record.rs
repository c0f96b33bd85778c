//! A gate that is open and shows the records of its calls.

use std::sync::Arc;

use portico::{
    gate::{Admission, Admit, Admitted, Closed, Entry, Head, Open, Outlet, Stray},
    schema::Method,
    wire::BoxFuture,
};
use tokio::sync::mpsc;

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The code of its failure; empty without one.
    pub(crate) code: &'static str,
    pub(crate) work: Option<&'static str>,
    pub(crate) bytes_out: u64,
}

/// Admits everybody. Records come in the order in which calls end.
pub(crate) struct Recording(mpsc::UnboundedSender<Record>);

impl Recording {
    pub(crate) fn new() -> (Arc<Recording>, mpsc::UnboundedReceiver<Record>) {
        let (records, read) = mpsc::unbounded_channel();
        (Arc::new(Recording(records)), read)
    }
}

impl Admit for Recording {
    fn admit(&self, method: Arc<Method>, head: Head) -> BoxFuture<Admitted> {
        let (admitted, records) = (Open.admit(method, head), self.0.clone());
        Box::pin(async move {
            let Admission { context, .. } = admitted.await?;
            Ok(Admission { context, entry: Entry::open(Kept(records), Arc::default()) })
        })
    }

    fn astray(&self, stray: &Stray<'_>) -> Option<Entry> {
        let entry = Entry::open(Kept(self.0.clone()), Arc::default());
        entry.fail(stray.error);
        Some(entry)
    }
}

struct Kept(mpsc::UnboundedSender<Record>);

impl Outlet for Kept {
    fn closed(&self, record: &Closed) {
        let code = record.failure.as_ref().map_or("", |(code, ..)| code.as_str());
        // A test that has seen enough does not listen any more.
        let _heard = self.0.send(Record { code, work: record.work, bytes_out: record.bytes_out });
    }
}
