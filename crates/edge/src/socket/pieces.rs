//! What is written to a socket, in pieces.
//!
//! A newcomer's usual mistake is to hand a large frame over whole. Over HTTP/2 whoever opens a window of one byte would have
//! all of it, as far as anybody here can see: it would wait inside the HTTP library, for as long as the connection lives.
//!
//! *Knows:* how much is handed over at once. *Does not know:* frames.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket that takes at most so many bytes at once.
pub(super) struct Pieces<I> {
    io: I,
    bytes_max: usize,
}

impl<I> Pieces<I> {
    pub(super) fn new(io: I, bytes_max: usize) -> Pieces<I> {
        Pieces { io, bytes_max }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Pieces<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let piece = &bytes[..bytes.len().min(this.bytes_max)];
        Pin::new(&mut this.io).poll_write(cx, piece)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Pieces<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, into)
    }
}
