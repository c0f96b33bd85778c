//! Followed logs: one JSON object a line, as it comes.
//!
//! *Knows:* lines and their bound. *Does not know:* how long a log goes on.

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{refusal, said::Followed};
use crate::{
    base::{Outgoing, Result},
    port::fleet::{LogEntry, failure, log::ENTRY_BYTES_MAX},
};

/// Longest line: an entry whose every character is escaped, and its other members.
const LINE_BYTES_MAX: usize = 6 * ENTRY_BYTES_MAX + 1024;

/// The entries of a log that a host tells line by line.
pub(super) fn entries(body: Incoming, instance: String) -> Outgoing<LogEntry> {
    let lines = Lines { body, buffer: BytesMut::new(), over: false };
    let entries = stream::unfold((lines, instance), |(mut lines, instance)| async move {
        let entry = lines.next(&instance).await?;
        lines.over |= entry.is_err();
        Some((entry, (lines, instance)))
    });
    entries.boxed()
}

struct Lines {
    body: Incoming,
    buffer: BytesMut,
    over: bool,
}

impl Lines {
    async fn next(&mut self, instance: &str) -> Option<Result<LogEntry>> {
        loop {
            if self.over {
                return None;
            }
            let line = match self.line().await {
                Ok(line) => line?,
                Err(error) => return Some(Err(error)),
            };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let followed: Followed = match serde_json::from_slice(&line) {
                Ok(followed) => followed,
                Err(error) => return Some(Err(failure::broken(error))),
            };
            if let Some(problem) = followed.error {
                let told = refusal::told(&problem, instance);
                return Some(Err(told.unwrap_or_else(|| failure::gone(problem.message))));
            }
            if let Some(entry) = followed.entry {
                return Some(Ok(entry.into()));
            }
        }
    }

    async fn line(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end).freeze();
                self.buffer.advance(1);
                return Ok(Some(line));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(failure::broken("a line of the log is too long"));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.buffer.extend_from_slice(bytes);
                    }
                }
                Some(Err(error)) => return Err(failure::gone(error)),
                None => return Ok((!self.buffer.is_empty()).then(|| self.buffer.split().freeze())),
            }
        }
    }
}
