//! Frames that pass as they are: text stays text, binary stays binary.
//!
//! A newcomer's usual mistake is to look inside. A frame is the payload of one field, `text` or `binary`; on the way to
//! the caller it is shared with the message, not copied.
//!
//! *Knows:* these two fields, both ways. *Does not know:* what frames mean.

use bytes::Bytes;
use prost_reflect::MessageDescriptor;
use tokio_tungstenite::tungstenite::{Message as Frame, Utf8Bytes};

use super::field::Field;
use crate::base::{Error, Result};

/// The fields that frames travel in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tunnel {
    from_caller: Fields,
    to_caller: Fields,
}

#[derive(Clone, Copy, Debug)]
struct Fields {
    text: Field,
    binary: Field,
}

impl Tunnel {
    /// The tunnel through these messages, if they can carry frames.
    pub(super) fn of(input: &MessageDescriptor, output: &MessageDescriptor) -> Option<Tunnel> {
        let fields =
            |message| Some(Fields { text: Field::payload(message, "text")?, binary: Field::bytes(message, "binary")? });
        Some(Tunnel { from_caller: fields(input)?, to_caller: fields(output)? })
    }

    /// The message of a text frame.
    pub(super) fn text(self, payload: &[u8]) -> Bytes {
        self.from_caller.text.message(payload)
    }

    /// The message of a binary frame.
    pub(super) fn binary(self, payload: &[u8]) -> Bytes {
        self.from_caller.binary.message(payload)
    }

    /// The frame in a message; `None` when it carries none.
    ///
    /// # Errors
    /// When text is not UTF-8, which a handler with types cannot produce.
    pub(super) fn frame(self, message: &Bytes) -> Result<Option<Frame>> {
        if let Some(payload) = self.to_caller.binary.find(message) {
            return Ok(Some(Frame::Binary(payload)));
        }
        let Some(payload) = self.to_caller.text.find(message) else { return Ok(None) };
        Ok(Some(Frame::Text(Utf8Bytes::try_from(payload).map_err(Error::internal)?)))
    }
}
