//! Bodies that are bytes, not JSON: one field of a message is the body.
//!
//! A newcomer's usual mistake is to collect them. An upload is one message for each chunk that arrives, a download one
//! chunk for each message; whoever is slower is waited for.
//!
//! *Knows:* the field that is the body, and the one that names its media type. *Does not know:* what is in it.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::Frame;
use http_body_util::StreamBody;
use portico_base::{Incoming, Result};
use prost_reflect::MessageDescriptor;

use super::inlet::Inlet;
use crate::{
    Body,
    field::Field,
    flow::{Flow, Turn},
};

/// A response whose body is a field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Download {
    content: Field,
    content_type: Option<Field>,
}

impl Download {
    /// The download of this field, if the message has it.
    pub(super) fn of(message: &MessageDescriptor, name: &str) -> Option<Download> {
        let content = Field::bytes(message, name)?;
        Some(Download { content, content_type: Field::payload(message, "content_type") })
    }

    /// The bytes in a message.
    pub(super) fn content(&self, message: &Bytes) -> Bytes {
        self.content.find(message).unwrap_or_default()
    }

    /// Sets the headers for what begins with this message. The bytes are somebody's, so browsers must not run them here.
    pub(super) fn describe(&self, message: &Bytes, headers: &mut HeaderMap) {
        let named = self.content_type.and_then(|field| field.find(message)).filter(|name| !name.is_empty());
        let content_type = named.and_then(|name| HeaderValue::from_maybe_shared(name).ok());
        headers.insert(header::CONTENT_TYPE, content_type.unwrap_or(OCTETS));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(POLICY, HeaderValue::from_static("sandbox"));
    }

    /// The body: the first message, then the others. An error breaks the body off, which the caller notices.
    pub(super) fn body(self, first: Option<Bytes>, flow: Flow) -> Body {
        let first = first.map(|message| Ok(Frame::data(self.content(&message))));
        let rest = stream::unfold(flow, move |mut flow| async move {
            match flow.next().await {
                Turn::Message(message) => Some((Ok(Frame::data(self.content(&message))), flow)),
                Turn::Failed(error) => Some((Err(error), flow)),
                Turn::Ended => None,
            }
        });
        Body::boxed(StreamBody::new(stream::iter(first).chain(rest)))
    }
}

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const POLICY: HeaderName = header::CONTENT_SECURITY_POLICY;

/// The messages of an upload: the first one says where it goes, each following one carries a chunk.
pub(super) fn upload(first: Bytes, field: Field, inlet: Inlet) -> Incoming<Bytes> {
    let chunks = stream::unfold(Some(inlet), move |inlet| async move {
        let mut inlet = inlet?;
        let chunk: Result<Option<Bytes>> = inlet.chunk().await;
        match chunk {
            Ok(Some(chunk)) => Some((Ok(field.message(&chunk)), Some(inlet))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    Box::pin(stream::iter([Ok(first)]).chain(chunks))
}
