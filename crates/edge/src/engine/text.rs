//! gRPC-Web in base64: a codec for body bytes.
//!
//! A newcomer's usual mistake is to wait for the whole body. Clients send and read pieces, each of which may end in
//! padding, so both directions work piece by piece.
//!
//! *Knows:* base64 in a stream. *Does not know:* envelopes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http::HeaderValue;

pub(super) const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/grpc-web-text+proto");
pub(super) const INNER_MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/grpc-web+proto");

/// Base64 works in groups of this many symbols.
const GROUP: usize = 4;

/// One piece of an answer, padded, so that it can be read before the next one comes.
pub(super) fn encode(piece: &[u8]) -> Bytes {
    STANDARD.encode(piece).into()
}

/// Decodes a request as it comes.
#[derive(Default)]
pub(super) struct Decoder {
    waiting: BytesMut,
}

impl Decoder {
    /// The bytes that are complete with this piece. `None` when it is not base64.
    pub(super) fn pass(&mut self, piece: &[u8]) -> Option<Bytes> {
        self.waiting.extend_from_slice(piece);
        let whole = self.waiting.len() / GROUP * GROUP;
        let groups = self.waiting.split_to(whole);
        let mut bytes = Vec::with_capacity(whole / GROUP * 3);
        // Padding ends a run; the next run begins with the group after it.
        let mut run = 0;
        for end in (GROUP..=whole).step_by(GROUP) {
            if groups[end - 1] == b'=' || end == whole {
                STANDARD.decode_vec(&groups[run..end], &mut bytes).ok()?;
                run = end;
            }
        }
        Some(bytes.into())
    }

    /// Whether nothing is left over when the body ends.
    pub(super) fn is_complete(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_may_be_padded_and_cut_anywhere() {
        let text = [encode(b"a"), encode(b"bcd"), encode(b"ef")].concat();
        for cut in 0..text.len() {
            let mut decoder = Decoder::default();
            let bytes = [decoder.pass(&text[..cut]).unwrap(), decoder.pass(&text[cut..]).unwrap()].concat();
            assert_eq!(bytes, b"abcdef", "cut at {cut}");
            assert!(decoder.is_complete());
        }
        assert!(Decoder::default().pass(b"!!!!").is_none());
    }
}
