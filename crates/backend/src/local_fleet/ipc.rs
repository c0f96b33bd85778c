//! What passes between host and agent over the Unix socket: a length, then JSON.
//!
//! A packet is four bytes of length, big-endian, and that many bytes of `{"type": …, "content": …}`. A newcomer's usual
//! mistake is to read one inside a `select!`: half a packet would be lost. Each direction has a loop of its own.
//!
//! *Knows:* the framing. *Does not know:* what the types mean.

use std::io;

use bytes::Bytes;
use portico_port::fleet::FRAME_BYTES_MAX;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Most bytes of a packet that stand for one byte of a frame: a letter that is written by its number, as in `\u003c`. A byte
/// of a binary frame takes fewer in base64, and so does a number that is written out.
const BYTES_PER_BYTE_MAX: usize = 6;
/// What a packet takes beside what a frame carries.
const ENVELOPE_BYTES_MAX: usize = 64 << 10;
/// Largest packet, either way: whatever a frame may carry fits, however it is written.
const PACKET_BYTES_MAX: usize = FRAME_BYTES_MAX * BYTES_PER_BYTE_MAX + ENVELOPE_BYTES_MAX;

/// One packet from an agent.
#[derive(Debug, Deserialize)]
pub(super) struct Packet {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) content: Value,
}

/// Encodes a packet for an agent. What it carries has passed a door, which takes no more than a frame may hold.
pub(super) fn packet(kind: &str, content: &impl Serialize) -> Bytes {
    let body = json!({"type": kind, "content": content}).to_string();
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut packet = Vec::with_capacity(4 + body.len());
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(body.as_bytes());
    packet.into()
}

/// Reads the next packet; `None` when the agent has closed the socket between packets.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Packet>> {
    let mut head = [0; 4];
    match from.read_exact(&mut head).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    };
    let length = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    if length > PACKET_BYTES_MAX {
        return Err(io::Error::other(format!("a packet of {length} bytes is over the limit of {PACKET_BYTES_MAX}")));
    }
    // Room is made for what comes, and not for what was announced.
    let mut body = Vec::new();
    if from.take(length as u64).read_to_end(&mut body).await? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let packet = serde_json::from_slice(&body)
        .map_err(|error| io::Error::other(format!("a packet is not {{\"type\", \"content\"}}: {error}")))?;
    Ok(Some(packet))
}

/// Writes an encoded packet.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), packet: &[u8]) -> io::Result<()> {
    to.write_all(packet).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packets_pass_and_oversized_ones_do_not() {
        let (mut host, mut agent) = tokio::io::duplex(1 << 20);
        write(&mut host, &packet("message", &json!({"text": "hé"}))).await.unwrap();
        let read_back = read(&mut agent).await.unwrap().unwrap();
        assert_eq!((read_back.kind.as_str(), &read_back.content["text"]), ("message", &json!("hé")));

        host.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        assert!(read(&mut agent).await.unwrap_err().to_string().contains("over the limit"));
    }
}
