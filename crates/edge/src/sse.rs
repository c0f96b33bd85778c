//! Server-sent events: one message is one event.
//!
//! A newcomer's usual mistake is to close the connection at the end. A browser would connect again at once; so the end is
//! said by an event, `end` or `error`, and the page decides.
//!
//! *Knows:* the event stream format. *Does not know:* where messages come from.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::Frame;
use http_body_util::StreamBody;
use portico_base::{Error, RequestId};
use portico_json::MessageType;
use portico_schema::Surface;
use tokio::time::timeout;

use super::{
    Body, dialect,
    field::Field,
    flow::{Flow, Turn},
};

/// How long a stream may be silent. Proxies and browsers give up on silence, commonly after 30 to 60 seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The media type.
pub(super) const MEDIA_TYPE: &str = "text/event-stream";

/// Events of one call.
pub(super) struct Events {
    pub(super) flow: Flow,
    pub(super) output: MessageType,
    pub(super) surface: &'static Surface,
    pub(super) event_id: Option<Field>,
    pub(super) request_id: RequestId,
}

impl Events {
    /// The body.
    pub(super) fn body(self) -> Body {
        let frames = stream::unfold(Some(self), |events| async move {
            let mut events = events?;
            let (text, goes_on) = events.next().await;
            Some((Ok(Frame::data(text)), goes_on.then_some(events)))
        });
        Body::boxed(StreamBody::new(frames))
    }

    /// The text that comes next, and whether more follows.
    async fn next(&mut self) -> (Bytes, bool) {
        let Ok(turn) = timeout(KEEP_ALIVE, self.flow.next()).await else {
            return (Bytes::from_static(b": keep-alive\n\n"), true);
        };
        match turn {
            Turn::Message(message) => match self.event(&message) {
                Ok(event) => (event, true),
                Err(error) => {
                    self.flow.fail(&error);
                    (self.failure(&error), false)
                }
            },
            Turn::Failed(error) => (self.failure(&error), false),
            Turn::Ended => (Bytes::from_static(b"event: end\ndata: {}\n\n"), false),
        }
    }

    fn event(&self, message: &Bytes) -> Result<Bytes, Error> {
        let mut event = Vec::with_capacity(message.len() * 2 + EVENT_ROOM);
        // A line break in an id would end the line; such an id is none.
        if let Some(id) = self.event_id.and_then(|field| field.text(message)).filter(|id| !id.contains(['\r', '\n'])) {
            event.extend_from_slice(b"id: ");
            event.extend_from_slice(id.as_bytes());
            event.push(b'\n');
        }
        event.extend_from_slice(b"data: ");
        // The codec writes no line breaks, so one line holds it all.
        self.output.encode(message, self.surface.json, &mut event).map_err(Error::internal)?;
        event.extend_from_slice(b"\n\n");
        Ok(event.into())
    }

    fn failure(&self, error: &Error) -> Bytes {
        let body = dialect::body(error, self.surface.dialect, &self.request_id);
        [b"event: error\ndata: ", &body[..], b"\n\n"].concat().into()
    }
}

/// Room for the id and the names of fields.
const EVENT_ROOM: usize = 192;

/// What keeps caches and buffering proxies from holding events back.
pub(super) fn describe(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
}
