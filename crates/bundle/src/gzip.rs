//! Gzip, strictly: every member is decoded, and nothing may follow the last one.
//!
//! A newcomer's usual mistake is a reader that stops after the first member; GNU tar goes on and sees another archive.
//!
//! *Knows:* members, checksums, how much came out of how much. *Does not know:* what is inside.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use portico_base::Result;

use crate::{refusal, rules::Limits};

/// What every member begins with: the magic number and the only method there is.
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// Read from the source at once: few calls, little memory.
const BUFFER_BYTES: usize = 64 << 10;

/// Most members. Each costs the time to make a decoder, however few bytes it has, and an empty one has twenty. Programs that cut
/// into blocks of 64 KiB get to 256 MiB with this many.
const MEMBERS_MAX: u64 = 4_096;

/// Decodes a gzip stream.
pub(crate) struct Gunzip<R: Read> {
    state: State<R>,
    limits: Limits,
    bytes_out: u64,
}

/// A decoder owns the input while a member lasts.
enum State<R: Read> {
    Between(Input<R>),
    Member(Box<GzDecoder<Input<R>>>),
    Ended,
}

impl<R: Read> Gunzip<R> {
    pub(crate) fn new(source: R, limits: Limits) -> Self {
        Gunzip { state: State::Between(Input::new(source)), limits, bytes_out: 0 }
    }

    /// Fills the buffer as far as the stream goes. Less than asked means the stream has ended well.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    /// Decodes some bytes; none at the end, never none before it.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Ok(0),
                State::Between(input) => self.state = self.next_member(input)?,
                State::Member(mut decoder) => match decoder.read(buffer) {
                    Ok(0) => self.state = State::Between(decoder.into_inner()),
                    Ok(read) => {
                        let bytes_in = decoder.get_ref().bytes_in;
                        self.state = State::Member(decoder);
                        self.count(read, bytes_in)?;
                        return Ok(read);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => self.state = State::Member(decoder),
                    Err(error) if decoder.get_ref().failed => return Err(refusal::unreadable(error)),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        return Err(refusal::corrupt_gzip("the gzip stream is truncated"));
                    }
                    Err(error) => {
                        return Err(refusal::corrupt_gzip("the gzip stream is damaged").caused_by(error));
                    }
                },
            }
        }
    }

    fn next_member(&self, mut input: Input<R>) -> Result<State<R>> {
        let first = self.bytes_out == 0 && input.members == 0;
        let mut magic = [0; MAGIC.len()];
        let found = input.peek(&mut magic)?;
        match (found, first) {
            (0, true) => Err(refusal::empty("the bundle is empty")),
            (0, false) => Ok(State::Ended),
            (_, true) if magic != MAGIC => Err(refusal::not_gzip()),
            (_, false) if magic != MAGIC => Err(refusal::corrupt_gzip("other bytes follow the gzip stream")),
            _ if input.members >= MEMBERS_MAX => {
                Err(refusal::too_large("the bundle consists of more gzip streams than the limit", MEMBERS_MAX))
            }
            _ => {
                input.members += 1;
                Ok(State::Member(Box::new(GzDecoder::new(input))))
            }
        }
    }

    fn count(&mut self, read: usize, bytes_in: u64) -> Result<()> {
        self.bytes_out += read as u64;
        let limits = &self.limits;
        if self.bytes_out > limits.expanded_bytes_max {
            return Err(refusal::too_large("the bundle expands beyond the limit", limits.expanded_bytes_max));
        }
        let free = self.bytes_out <= limits.ratio_free_bytes;
        if !free && self.bytes_out / limits.ratio_max > bytes_in {
            return Err(refusal::too_large("the bundle expands beyond the permitted ratio", limits.ratio_max));
        }
        Ok(())
    }
}

/// The compressed bytes, with a look ahead that survives short reads, and a note whether the source itself failed.
struct Input<R> {
    source: BufReader<R>,
    peeked: Vec<u8>,
    bytes_in: u64,
    members: u64,
    failed: bool,
}

impl<R: Read> Input<R> {
    fn new(source: R) -> Self {
        let source = BufReader::with_capacity(BUFFER_BYTES, source);
        Input { source, peeked: Vec::new(), bytes_in: 0, members: 0, failed: false }
    }

    /// Looks at the next bytes without taking them. Fewer than asked means the end.
    fn peek(&mut self, into: &mut [u8]) -> Result<usize> {
        while self.peeked.len() < into.len() {
            let ahead = self.source.fill_buf().map_err(refusal::unreadable)?;
            let Some(byte) = ahead.first() else { break };
            self.peeked.push(*byte);
            self.source.consume(1);
        }
        let found = self.peeked.len().min(into.len());
        into[..found].copy_from_slice(&self.peeked[..found]);
        Ok(found)
    }
}

impl<R: Read> BufRead for Input<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if !self.peeked.is_empty() {
            return Ok(&self.peeked);
        }
        let failed = &mut self.failed;
        self.source.fill_buf().inspect_err(|error| *failed = error.kind() != io::ErrorKind::Interrupted)
    }

    fn consume(&mut self, count: usize) {
        self.bytes_in += count as u64;
        if self.peeked.is_empty() {
            self.source.consume(count);
        } else {
            self.peeked.drain(..count);
        }
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ahead = self.fill_buf()?;
        let count = ahead.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ahead[..count]);
        self.consume(count);
        Ok(count)
    }
}
