//! Messages in a stream: a byte of flags, four of length, the payload.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{Failure, refusal_of_end, transport};

/// Flags and length.
const HEAD_BYTES: usize = 5;
/// Larger than any message of a method that a command follows.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// The payload is compressed. We never ask for that.
const COMPRESSED: u8 = 0b01;
/// The payload is the end of the stream, as JSON.
const END: u8 = 0b10;

/// The message in an envelope.
pub(super) fn enveloped(payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEAD_BYTES + payload.len());
    bytes.put_u8(0);
    // Chunks are made here and stay far below 4 GiB.
    bytes.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    bytes.put_slice(payload);
    bytes.freeze()
}

/// What comes in envelopes, until the end.
pub(super) struct Envelopes {
    body: Incoming,
    headers: HeaderMap,
    read: BytesMut,
    ended: bool,
}

impl Envelopes {
    pub(super) fn new(body: Incoming, headers: HeaderMap) -> Envelopes {
        Envelopes { body, headers, read: BytesMut::new(), ended: false }
    }

    /// The next payload, or none when the stream has ended well.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        while !self.ended {
            match split(&mut self.read)? {
                Some((END, payload)) => {
                    self.ended = true;
                    return refusal_of_end(&self.headers, &payload).map_or(Ok(None), Err);
                }
                Some((0, payload)) => return Ok(Some(payload)),
                Some((flags, _)) => {
                    let kind = if flags & COMPRESSED != 0 { "a compressed" } else { "an unknown kind of" };
                    return Err(Failure::other(format!("the gateway sent {kind} envelope")));
                }
                None => {
                    let Some(frame) = self.body.frame().await else {
                        return Err(Failure::other("the connection ended in the middle of the stream"));
                    };
                    let frame = frame.map_err(|error| transport::broken(&error))?;
                    if let Ok(data) = frame.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
            }
        }
        Ok(None)
    }
}

/// Takes the first envelope off, if it is there as a whole.
fn split(read: &mut BytesMut) -> Result<Option<(u8, Bytes)>, Failure> {
    let Some(mut head) = read.get(..HEAD_BYTES) else { return Ok(None) };
    let (flags, length) = (head.get_u8(), usize::try_from(head.get_u32()).unwrap_or(usize::MAX));
    if length > PAYLOAD_BYTES_MAX {
        return Err(Failure::other(format!("the gateway sent an envelope of {length} bytes")));
    }
    if read.len() < HEAD_BYTES + length {
        return Ok(None);
    }
    read.advance(HEAD_BYTES);
    Ok(Some((flags, read.split_to(length).freeze())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_are_split_wherever_the_network_cuts_them() {
        let sent = [enveloped(b"one"), enveloped(b""), enveloped(b"three")].concat();
        let (mut read, mut got) = (BytesMut::new(), Vec::new());
        for byte in sent {
            read.put_u8(byte);
            while let Some((flags, payload)) = split(&mut read).unwrap() {
                assert_eq!(flags, 0);
                got.push(payload);
            }
        }
        assert_eq!(got, ["one", "", "three"]);
        assert!(split(&mut BytesMut::from(&[0, 255, 255, 255, 255][..])).is_err());
    }
}
