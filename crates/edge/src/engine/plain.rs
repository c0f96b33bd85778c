//! Unary calls as most clients make them, without a detour: one whole message, not compressed, by POST.
//!
//! A newcomer's usual mistake is to teach this room another case. It takes what is plain in every way; as soon as anything
//! is not — a coding, a flag, a missing byte, a message too large — the call goes to the engine that knows every case,
//! with the bytes that were read, and that engine says what is wrong. So a rule of a protocol stands in one place.
//!
//! ```text
//!   plain:   head ─ body ─ message ─ handler ─ message ─ answer
//!   other:   head ─ body ─┐
//!   engine:               └ everything, from the first byte
//! ```
//!
//! *Knows:* how a plain call and a good answer look in three protocols. *Does not know:* what is wrong with the others.

use std::{future::poll_fn, pin::Pin, task::Poll};

use bytes::{BufMut, Bytes, BytesMut};
use connectrpc::CompressionRegistry;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, header};
use http_body::{Body as _, Frame};
use http_body_util::StreamBody;
use portico_base::{Error, Result, reply};
use portico_json::MessageType;
use portico_schema::Shape;

use super::{COMPRESSED_BYTES_MIN, GRPC_ACCEPT_ENCODING, GRPC_ENCODING, GRPC_STATUS, patience::Patience};
use crate::{Body, Outline, Protocol, body::Trailed, ends::too_slow};

/// An envelope's flags and length.
pub(super) const ENVELOPE_BYTES: usize = 5;
/// The flag of an envelope whose message is compressed.
const COMPRESSED: u8 = 0b01;
/// The flag of an envelope that holds the trailers of gRPC-Web.
const TRAILERS: u8 = 0x80;
/// Room for the trailers of a good answer.
const TRAILERS_BYTES: usize = 32;
const OK: HeaderValue = HeaderValue::from_static("0");
/// Trailers of Connect's unary answers are headers with this before their name.
const TRAILER_PREFIX: &str = "trailer-";

/// How the messages of a plain call look.
#[derive(Clone, Copy)]
pub(super) struct Plain {
    protocol: Protocol,
    is_json: bool,
    media_type: &'static str,
}

/// What a body turned out to be.
pub(super) enum Taken {
    /// One message.
    Message(Bytes),
    /// Something for the engine: a body with the bytes that were read, and the others.
    Other(Body),
}

impl Plain {
    /// Whether the head of a unary call is plain.
    pub(super) fn of(protocol: Protocol, verb: &Method, outline: &Outline<'_>) -> Option<Plain> {
        let media_type = outline.content_type?.as_bytes();
        let (is_json, media_type): (bool, &'static str) = match (protocol, media_type) {
            (Protocol::Connect, b"application/json") => (true, "application/json"),
            (Protocol::Connect, b"application/proto") => (false, "application/proto"),
            (Protocol::Grpc, b"application/grpc" | b"application/grpc+proto") => (false, "application/grpc+proto"),
            (Protocol::GrpcWeb, b"application/grpc-web" | b"application/grpc-web+proto") => {
                (false, "application/grpc-web+proto")
            }
            _ => return None,
        };
        let coding = if protocol == Protocol::Connect { outline.content_encoding } else { outline.grpc_encoding };
        let is_coded = coding.is_some_and(|coding| coding != "identity");
        let is_other_version = outline.protocol_version.is_some_and(|version| version != "1");
        let is_plain = *verb == Method::POST && !is_coded && !(protocol == Protocol::Connect && is_other_version);
        is_plain.then_some(Plain { protocol, is_json, media_type })
    }

    /// The message type in which this call speaks JSON.
    pub(super) fn json(self, message: &MessageType) -> Option<&MessageType> {
        self.is_json.then_some(message)
    }

    /// Reads the body. What is larger than `message_bytes_max` is not read to its end.
    ///
    /// # Errors
    /// When the caller has gone, or `upload_timeout` when nothing comes for too long.
    pub(super) async fn take(self, body: &mut Body, message_bytes_max: usize) -> Result<Taken> {
        let mut read = Bytes::new();
        let mut patience = Patience::new(Shape::Unary);
        while let Some(frame) = next(body, &mut patience).await? {
            // Trailers of a request mean nothing here.
            let Ok(data) = frame.into_data() else { continue };
            read = if read.is_empty() { data } else { joined(read, &data) };
            if read.len() > message_bytes_max.saturating_add(ENVELOPE_BYTES) {
                let first = stream::iter([Ok(Frame::data(read))]);
                let rest = http_body_util::BodyStream::new(std::mem::take(body));
                return Ok(Taken::Other(Body::boxed(StreamBody::new(stream::StreamExt::chain(first, rest)))));
            }
        }
        Ok(match self.message(&read) {
            Some(message) if message.len() <= message_bytes_max => Taken::Message(message),
            _ => Taken::Other(Body::from(read)),
        })
    }

    /// The one message that a body is.
    fn message(self, read: &Bytes) -> Option<Bytes> {
        if self.protocol == Protocol::Connect {
            return Some(read.clone());
        }
        let (head, message) = read.split_first_chunk::<ENVELOPE_BYTES>()?;
        let [flags, length @ ..] = *head;
        let is_whole = usize::try_from(u32::from_be_bytes(length)).is_ok_and(|length| length == message.len());
        (flags == 0 && is_whole).then(|| read.slice(ENVELOPE_BYTES..))
    }

    /// The answer of a call that went well.
    ///
    /// # Errors
    /// When the message cannot be compressed, which is a fault of ours.
    pub(super) fn answer(
        self,
        message: Bytes,
        said: reply::Parts,
        asked: &HeaderMap,
        compression: &CompressionRegistry,
        codings: &HeaderValue,
    ) -> Result<Response<Body>> {
        let (offers, coding_name) = match self.protocol {
            Protocol::Connect => (header::ACCEPT_ENCODING, header::CONTENT_ENCODING),
            _ => (GRPC_ACCEPT_ENCODING, GRPC_ENCODING),
        };
        let is_large = message.len() >= COMPRESSED_BYTES_MIN;
        // Without envelopes a small answer says nothing of codings.
        let offered = if is_large || self.protocol != Protocol::Connect { asked.get(&offers) } else { None };
        let offered = offered.and_then(|offered| offered.to_str().ok());
        let coding = offered.and_then(|offered| compression.negotiate_encoding(Some(offered), None));
        let packed = match coding.filter(|_| is_large) {
            Some(coding) => Some(compression.compress(coding, &message).map_err(Error::internal)?),
            None => None,
        };
        let is_packed = packed.is_some();
        let message = packed.unwrap_or(message);

        let mut headers = said.headers;
        headers.reserve(HEADERS);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        headers.insert(offers, codings.clone());
        // With envelopes the coding is that of the call, and each envelope says whether its message has it.
        if let Some(coding) = coding.filter(|_| is_packed || self.protocol != Protocol::Connect) {
            headers.insert(coding_name, HeaderValue::from_static(coding));
        }
        let body = match self.protocol {
            Protocol::Connect => {
                for (name, value) in &said.trailers {
                    if let Ok(name) = HeaderName::try_from(format!("{TRAILER_PREFIX}{name}")) {
                        headers.append(name, value.clone());
                    }
                }
                Body::from(message)
            }
            _ => enveloped(self.protocol, &message, is_packed, said.trailers),
        };
        let mut answer = Response::new(body);
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

/// Room for the headers of ours: type, codings, the id of the request, what the HTTP library adds.
const HEADERS: usize = 6;

/// The next frame of a body, while there is patience.
async fn next(body: &mut Body, patience: &mut Patience) -> Result<Option<Frame<Bytes>>> {
    if body.is_end_stream() {
        return Ok(None);
    }
    let frame = poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
        Poll::Pending if patience.is_over(false, cx) => Poll::Ready(Some(Err(too_slow()))),
        polled => polled,
    });
    let frame = frame.await.transpose();
    patience.heard(false);
    frame
}

fn joined(first: Bytes, more: &[u8]) -> Bytes {
    // This shares the memory of the bytes before, if nobody else does.
    let mut all = first.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
    all.extend_from_slice(more);
    all.freeze()
}

/// The body of a good answer: the message in its envelope, then the trailers, which gRPC-Web has in an envelope too.
fn enveloped(protocol: Protocol, message: &Bytes, is_packed: bool, said: HeaderMap) -> Body {
    let mut bytes = BytesMut::with_capacity(message.len() + 2 * ENVELOPE_BYTES + TRAILERS_BYTES);
    envelope(if is_packed { COMPRESSED } else { 0 }, message.len(), &mut bytes);
    bytes.extend_from_slice(message);
    if protocol == Protocol::Grpc {
        let mut trailers = said;
        trailers.insert(GRPC_STATUS, OK);
        return Body::trailed(Trailed::new(bytes.freeze(), trailers));
    }
    let mut trailers = Vec::with_capacity(TRAILERS_BYTES);
    trailers.extend_from_slice(b"grpc-status: 0\r\n");
    for (name, value) in &said {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            trailers.extend_from_slice(part);
        }
    }
    envelope(TRAILERS, trailers.len(), &mut bytes);
    bytes.extend_from_slice(&trailers);
    Body::from(bytes.freeze())
}

fn envelope(flags: u8, length: usize, bytes: &mut BytesMut) {
    bytes.put_u8(flags);
    // Messages have a limit far below this.
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn plain(protocol: Protocol, headers: &[(&'static str, &'static str)]) -> Option<Plain> {
        let headers: HeaderMap = headers
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        Plain::of(protocol, &Method::POST, &Outline::of(&headers))
    }

    #[test]
    fn whatever_is_coded_or_described_further_is_not_plain() {
        let grpc = ("content-type", "application/grpc");
        let json = ("content-type", "application/json");
        assert!(plain(Protocol::Grpc, &[grpc, ("grpc-accept-encoding", "gzip")]).is_some());
        assert!(plain(Protocol::Grpc, &[grpc, ("grpc-encoding", "gzip")]).is_none());
        assert!(plain(Protocol::Connect, &[json, ("connect-protocol-version", "1")]).is_some());
        assert!(plain(Protocol::Connect, &[json, ("connect-protocol-version", "2")]).is_none());
        assert!(plain(Protocol::Connect, &[json, ("content-encoding", "gzip")]).is_none());
        assert!(plain(Protocol::Connect, &[("content-type", "application/json; charset=utf-8")]).is_none());
        assert!(plain(Protocol::GrpcWebText, &[("content-type", "application/grpc-web-text")]).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let grpc = Plain { protocol: Protocol::Grpc, is_json: false, media_type: "" };
        let silent = StreamBody::new(stream::pending::<Result<Frame<Bytes>>>());
        let error = grpc.take(&mut Body::boxed(silent), 2).await.err().unwrap();
        assert_eq!(error.reason(), portico_base::reason::UPLOAD_TIMEOUT);
    }

    #[tokio::test]
    async fn one_whole_message_is_taken_and_the_engine_gets_every_byte_of_anything_else() {
        let grpc = plain(Protocol::Grpc, &[("content-type", "application/grpc")]).unwrap();
        match grpc.take(&mut Body::from(Bytes::from_static(b"\0\0\0\0\x02ab")), 2).await.unwrap() {
            Taken::Message(message) => assert_eq!(message, "ab"),
            Taken::Other(_) => panic!("a whole message is plain"),
        }
        let others: [&'static [u8]; 6] = [
            b"",
            b"\0\0\0\0\x02a",
            b"\0\0\0\0\x01ab",
            b"\x01\0\0\0\x02ab",
            b"\0\0\0\0\x03abc",
            b"\0\0\0\0\x09abcdefghi",
        ];
        for bytes in others {
            match grpc.take(&mut Body::from(Bytes::from_static(bytes)), 2).await.unwrap() {
                Taken::Message(message) => panic!("{bytes:?} became {message:?}"),
                Taken::Other(body) => assert_eq!(body.collect().await.unwrap().to_bytes(), bytes),
            }
        }
    }
}
