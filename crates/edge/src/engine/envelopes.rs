//! Watches the envelopes of a request go by and notices flags that the protocol does not have.
//!
//! A newcomer's usual mistake is to copy bytes here. Nothing is kept but the place in the current envelope.
//!
//! *Knows:* the five-byte envelope. *Does not know:* messages.

use crate::Protocol;

const HEAD_BYTES: u8 = 5;
const COMPRESSED: u8 = 0b01;
const END_STREAM: u8 = 0b10;

/// The place in a stream of envelopes.
pub(super) struct Envelopes {
    known: u8,
    head: u8,
    left: u32,
}

impl Envelopes {
    pub(super) fn new(protocol: Protocol) -> Envelopes {
        let known = match protocol {
            Protocol::ConnectStream => COMPRESSED | END_STREAM,
            _ => COMPRESSED,
        };
        Envelopes { known, head: 0, left: 0 }
    }

    /// Whether the last envelope is complete and no other has begun.
    pub(super) fn is_between(&self) -> bool {
        self.head == 0
    }

    /// Takes the next bytes. Answers the flags of an envelope that has unknown ones.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> Result<(), u8> {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.head == HEAD_BYTES {
                let take = bytes.len().min(self.left as usize);
                bytes = &bytes[take..];
                // `take` is at most `left`.
                self.left -= take as u32;
            } else {
                if self.head == 0 && first & !self.known != 0 {
                    return Err(first);
                }
                self.left = if self.head == 0 { 0 } else { self.left << 8 | u32::from(first) };
                self.head += 1;
                bytes = rest;
            }
            if self.head == HEAD_BYTES && self.left == 0 {
                self.head = 0;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_found_wherever_the_bytes_are_cut() {
        let stream = [0, 0, 0, 0, 2, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4, 4, 0, 0, 0, 0];
        for cut in 0..stream.len() {
            let mut envelopes = Envelopes::new(Protocol::Grpc);
            let passed = envelopes.pass(&stream[..cut]).and_then(|()| envelopes.pass(&stream[cut..]));
            assert_eq!(passed, Err(4), "cut at {cut}");
        }
        assert_eq!(Envelopes::new(Protocol::Grpc).pass(&stream[..18]), Ok(()));
    }
}
