//! The first bytes of a connection, which tell HTTP/2 from HTTP/1.1.
//!
//! A newcomer's usual mistake is to let the HTTP library read them: it waits for them without a limit.
//!
//! *Knows:* the HTTP/2 preface. *Does not know:* TLS, requests.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use super::head::Heard;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What every HTTP/2 client says first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// A connection with its first bytes put back.
pub(super) struct Greeted<I> {
    io: I,
    first: [u8; PREFACE.len()],
    read: usize,
    given: usize,
    heard: Heard,
}

impl<I: AsyncRead + Unpin> Greeted<I> {
    /// Reads until the version is certain.
    pub(super) async fn read(io: I) -> io::Result<Greeted<I>> {
        let mut greeted = Greeted { io, first: [0; PREFACE.len()], read: 0, given: 0, heard: Heard::default() };
        while greeted.read < PREFACE.len() && greeted.is_preface() {
            let read = greeted.io.read(&mut greeted.first[greeted.read..]).await?;
            if read == 0 {
                break;
            }
            greeted.read += read;
        }
        Ok(greeted)
    }

    pub(super) fn version(&self) -> Version {
        if self.read == PREFACE.len() && self.is_preface() { Version::Http2 } else { Version::Http1 }
    }

    /// Notes every read from now on.
    pub(super) fn heard(&self) -> Heard {
        self.heard.clone()
    }

    fn is_preface(&self) -> bool {
        PREFACE.starts_with(&self.first[..self.read])
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Greeted<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        if this.given < this.read {
            let until = this.read.min(this.given + into.remaining());
            into.put_slice(&this.first[this.given..until]);
            this.given = until;
            this.heard.note();
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut this.io).poll_read(cx, into);
        if into.filled().len() > before {
            this.heard.note();
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Greeted<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_version_is_certain_and_no_byte_is_lost() {
        let cases: [(&[u8], Version); 4] = [
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore", Version::Http2),
            (b"POST / HTTP/1.1\r\n\r\n", Version::Http1),
            (b"PRI * HTTP/1.1\r\n\r\n", Version::Http1),
            (b"P", Version::Http1),
        ];
        for (bytes, version) in cases {
            let mut greeted = Greeted::read(bytes).await.unwrap();
            assert_eq!(greeted.version(), version);
            let mut all = Vec::new();
            greeted.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, bytes);
        }
    }
}
