//! Brotli, which the protocol crate does not bring.
//!
//! A newcomer's usual mistake is to raise the quality: brotli's upper half is for files that are compressed once.
//!
//! *Knows:* the brotli format. *Does not know:* when to compress. The crate bounds what a decompressor may yield.

use std::io::{Read, Write};

use bytes::Bytes;
use connectrpc::{ConnectError, compression::CompressionProvider};

/// Compresses about as well as gzip at its default level, and faster.
const QUALITY: u32 = 4;
/// The window as a power of two: 4 MiB, the size of the largest usual message.
const WINDOW_BITS: u32 = 22;
const BUFFER_BYTES: usize = 4 << 10;

pub(super) struct Brotli;

impl CompressionProvider for Brotli {
    fn name(&self) -> &'static str {
        "br"
    }

    fn compress(&self, data: &[u8]) -> Result<Bytes, ConnectError> {
        let mut writer = brotli::CompressorWriter::new(Vec::new(), BUFFER_BYTES, QUALITY, WINDOW_BITS);
        let written = writer.write_all(data).and_then(|()| writer.flush());
        written.map_err(|error| ConnectError::internal(format!("brotli: {error}")))?;
        Ok(writer.into_inner().into())
    }

    fn decompressor<'a>(&self, data: &'a [u8]) -> Result<Box<dyn Read + 'a>, ConnectError> {
        Ok(Box::new(brotli::Decompressor::new(data, BUFFER_BYTES)))
    }
}
