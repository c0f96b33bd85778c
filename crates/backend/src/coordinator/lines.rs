//! Followed logs: one JSON object a line, as it comes.
//!
//! A newcomer's usual mistake is to end a log that is quiet. Agents may say nothing for hours; but then the host is asked
//! whether it still works, since a frozen one is just as quiet.
//!
//! *Knows:* lines and their bound. *Does not know:* how long a log goes on.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::Method;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use portico_base::{Outgoing, Result};
use portico_port::fleet::{Asked, LogEntry, failure, log::ENTRY_BYTES_MAX};
use tokio::time::timeout;

use super::{ANSWER_WAIT, address::Address, refusal, said::Followed, transport::Transport};

/// How long a log is quiet before its host is asked whether it works: as long as a silent socket is kept.
const QUIET_MAX: Duration = Duration::from_secs(45);

/// Longest line: an entry whose every character is escaped, and its other members.
const LINE_BYTES_MAX: usize = 6 * ENTRY_BYTES_MAX + 1024;

/// The entries of a log that the host at this address tells line by line.
pub(super) fn entries(body: Incoming, instance: String, transport: Transport, address: Address) -> Outgoing<LogEntry> {
    let lines = Lines { body, buffer: BytesMut::new(), over: false, transport, address };
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
    transport: Transport,
    address: Address,
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
            match self.frame().await? {
                Some(frame) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.buffer.extend_from_slice(bytes);
                    }
                }
                None => return Ok((!self.buffer.is_empty()).then(|| self.buffer.split().freeze())),
            }
        }
    }

    async fn frame(&mut self) -> Result<Option<Frame<Bytes>>> {
        loop {
            match timeout(QUIET_MAX, self.body.frame()).await {
                Ok(frame) => return frame.transpose().map_err(failure::gone),
                Err(_) if self.answers().await => {}
                Err(_) => return Err(failure::gone("the host was silent, and does not say how it is")),
            }
        }
    }

    async fn answers(&self) -> bool {
        let asked = Asked::default();
        // Whatever it says of its health, it says it.
        self.transport.ask(&self.address, Method::GET, "/health", &asked, None, ANSWER_WAIT).await.is_ok()
    }
}
