//! Frames that pass as they are: text stays text, binary stays binary, and a farewell keeps its code and reason.
//!
//! A newcomer's usual mistake is to look inside. A frame is the payload of one field, `text`, `binary` or `close`; on the
//! way to the caller text and bytes are shared with the message, not copied.
//!
//! *Knows:* these fields, both ways. *Does not know:* what frames mean.

use bytes::Bytes;
use portico_base::{Error, Result};
use prost_reflect::{Kind, MessageDescriptor};
use tokio_tungstenite::tungstenite::{Message as Frame, Utf8Bytes, protocol::CloseFrame};

use super::field::Field;

/// The close code of a farewell that names none.
const NO_STATUS: u16 = 1005;

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
    /// Where farewells travel; not every tunnel carries them.
    close: Option<Close>,
}

#[derive(Clone, Copy, Debug)]
struct Close {
    field: Field,
    code: Field,
    reason: Field,
}

impl Tunnel {
    /// The tunnel through these messages, if they can carry frames.
    pub(super) fn of(input: &MessageDescriptor, output: &MessageDescriptor) -> Option<Tunnel> {
        Some(Tunnel { from_caller: Fields::of(input)?, to_caller: Fields::of(output)? })
    }

    /// The message of a text frame.
    pub(super) fn text(self, payload: &[u8]) -> Bytes {
        self.from_caller.text.message(payload)
    }

    /// The message of a binary frame.
    pub(super) fn binary(self, payload: &[u8]) -> Bytes {
        self.from_caller.binary.message(payload)
    }

    /// The message of a farewell, where the tunnel carries them.
    pub(super) fn close(self, code: u16, reason: &str) -> Option<Bytes> {
        let Close { field, code: code_field, reason: reason_field } = self.from_caller.close?;
        let mut farewell = Vec::new();
        code_field.append_count(code.into(), &mut farewell);
        reason_field.append(reason.as_bytes(), &mut farewell);
        Some(field.message(&farewell))
    }

    /// The frame in a message; `None` when it carries none.
    ///
    /// # Errors
    /// When text is not UTF-8, which a handler with types cannot produce.
    pub(super) fn frame(self, message: &Bytes) -> Result<Option<Frame>> {
        if let Some(payload) = self.to_caller.binary.find(message) {
            return Ok(Some(Frame::Binary(payload)));
        }
        if let Some(payload) = self.to_caller.text.find(message) {
            return Ok(Some(Frame::Text(Utf8Bytes::try_from(payload).map_err(Error::internal)?)));
        }
        let Some(close) = self.to_caller.close else { return Ok(None) };
        let Some(farewell) = close.field.find(message) else { return Ok(None) };
        let code = close.code.count(&farewell).and_then(|code| u16::try_from(code).ok()).unwrap_or(NO_STATUS);
        let reason = close.reason.find(&farewell).unwrap_or_default();
        let reason = Utf8Bytes::try_from(reason).map_err(Error::internal)?;
        Ok(Some(Frame::Close(Some(CloseFrame { code: code.into(), reason }))))
    }
}

impl Fields {
    fn of(message: &MessageDescriptor) -> Option<Fields> {
        let (text, binary) = (Field::payload(message, "text")?, Field::bytes(message, "binary")?);
        let close = Field::nested(message, "close").and_then(|field| {
            let Kind::Message(farewell) = message.get_field_by_name("close")?.kind() else { return None };
            Some(Close { field, code: Field::number(&farewell, "code")?, reason: Field::payload(&farewell, "reason")? })
        });
        Some(Fields { text, binary, close })
    }
}
