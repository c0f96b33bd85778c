//! Newline-delimited JSON: one message is one line.
//!
//! A newcomer's usual mistake is to end a failed stream like any other. The last line of one is an object with the member
//! `error`, so that a reader can tell half from all.
//!
//! *Knows:* lines. *Does not know:* where messages come from.

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use portico_base::{Error, RequestId};
use portico_json::MessageType;
use portico_schema::Surface;

use super::{
    Body, dialect,
    flow::{Flow, Turn},
};

/// The media type.
pub(super) const MEDIA_TYPE: &str = "application/x-ndjson";

/// Lines of one call.
pub(super) struct Lines {
    pub(super) flow: Flow,
    pub(super) output: MessageType,
    pub(super) surface: &'static Surface,
    pub(super) request_id: RequestId,
}

impl Lines {
    /// The body. Every line is a frame of its own, sent as soon as it is there.
    pub(super) fn body(self) -> Body {
        let frames = stream::unfold(Some(self), |lines| async move {
            let mut lines = lines?;
            let (line, goes_on) = lines.next().await?;
            Some((Ok(Frame::data(line)), goes_on.then_some(lines)))
        });
        Body::boxed(StreamBody::new(frames))
    }

    async fn next(&mut self) -> Option<(Bytes, bool)> {
        match self.flow.next().await {
            Turn::Message(message) => {
                let mut line = Vec::with_capacity(message.len() * 2);
                match self.output.encode(&message, self.surface.json, &mut line) {
                    Ok(()) => {
                        line.push(b'\n');
                        Some((line.into(), true))
                    }
                    Err(error) => {
                        let error = Error::internal(error);
                        self.flow.fail(&error);
                        Some((self.failure(&error), false))
                    }
                }
            }
            Turn::Failed(error) => Some((self.failure(&error), false)),
            Turn::Ended => None,
        }
    }

    fn failure(&self, error: &Error) -> Bytes {
        let line = dialect::line(error, self.surface.dialect, &self.request_id);
        format!("{line}\n").into()
    }
}
