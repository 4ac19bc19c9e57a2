//! Mesh streams as futures-io knows streams.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_lite::io::{AsyncRead, AsyncWrite};
use receptor_core::id::NodeId;
use receptor_host::adapter::{Incoming, SecureEnd};

use crate::handle::KeepRunning;

/// A reliable, ordered stream of bytes to a service of some node.
///
/// `close` ends the sending half only; reading goes on. Dropping the stream closes both directions. Reading fails with
/// [`io::ErrorKind::ConnectionReset`] when the stream broke before its end.
#[derive(Debug)]
pub struct MeshStream {
    end: SecureEnd,
    peer: Option<NodeId>,
    _node: KeepRunning,
}

impl MeshStream {
    pub(crate) fn new(end: SecureEnd, peer: Option<NodeId>, node: KeepRunning) -> Self {
        Self { end, peer, _node: node }
    }

    fn broken(&self, kind: io::ErrorKind) -> io::Error {
        let failure = self.end.failure();
        io::Error::new(kind, failure.unwrap_or_else(|| "mesh stream was closed".to_owned()))
    }

    /// The node at the other end, if its name is known.
    pub fn peer(&self) -> Option<&NodeId> {
        self.peer.as_ref()
    }
}

impl AsyncRead for MeshStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        Poll::Ready(match ready!(self.end.poll_read(cx, buf.len())) {
            Incoming::Data(data) => {
                buf[..data.len()].copy_from_slice(&data);
                Ok(data.len())
            }
            Incoming::Eof => Ok(0),
            Incoming::Closed => Err(self.broken(io::ErrorKind::ConnectionReset)),
        })
    }
}

impl AsyncWrite for MeshStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(match ready!(self.end.poll_write(cx, buf)) {
            Some(count) => Ok(count),
            None => Err(self.broken(io::ErrorKind::BrokenPipe)),
        })
    }

    /// Bytes written are on their way at once.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match ready!(self.end.poll_shut_down(cx)) {
            Some(()) => Ok(()),
            None => Err(self.broken(io::ErrorKind::BrokenPipe)),
        })
    }
}
