//! Frames of the native stream: text or binary, whole, and the one that ends it.
//!
//! A newcomer's usual mistake is to turn one kind into the other. Text stays text, binary stays binary, and boundaries
//! are kept.
//!
//! *Knows:* the kinds. *Does not know:* what is in them.

use bytes::Bytes;

/// One frame. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Text.
    Text(Utf8),
    /// Bytes.
    Binary(Bytes),
    /// Whoever sends it says no more.
    Close(Farewell),
}

/// How one side ends a stream, in the words of a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// The close code.
    pub code: u16,
    /// Why.
    pub reason: String,
}

impl Frame {
    /// How many bytes it carries.
    pub fn len(&self) -> usize {
        match self {
            Frame::Text(text) => text.0.len(),
            Frame::Binary(bytes) => bytes.len(),
            Frame::Close(farewell) => farewell.reason.len(),
        }
    }

    /// Whether it carries none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Text that is shared rather than copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Utf8(Bytes);

impl Utf8 {
    /// Bytes that are text, without a copy.
    ///
    /// # Errors
    /// When they are not.
    pub fn parse(bytes: Bytes) -> Result<Utf8, std::str::Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Utf8(bytes))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Only made from text, so never the other branch.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The text as bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl From<String> for Utf8 {
    fn from(text: String) -> Utf8 {
        Utf8(Bytes::from(text.into_bytes()))
    }
}

/// Copies only when the text is shared.
impl From<Utf8> for String {
    fn from(text: Utf8) -> String {
        // Only made from text, so never the other branch.
        String::from_utf8(Vec::from(text.0)).unwrap_or_default()
    }
}
