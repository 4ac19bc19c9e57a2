//! Mesh streams as tokio knows streams.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use receptor_core::id::NodeId;
use receptor_host::adapter::{Incoming, SecureEnd};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::handle::KeepRunning;

/// A reliable, ordered stream of bytes to a service of some node.
///
/// `shutdown` ends the sending half only; reading goes on. Dropping the stream closes both directions. Reading fails with
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
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        match ready!(self.end.poll_read(cx, buf.remaining())) {
            Incoming::Data(data) => buf.put_slice(&data),
            Incoming::Eof => {}
            Incoming::Closed => {
                return Poll::Ready(Err(self.broken(io::ErrorKind::ConnectionReset)));
            }
        }
        Poll::Ready(Ok(()))
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

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match ready!(self.end.poll_shut_down(cx)) {
            Some(()) => Ok(()),
            None => Err(self.broken(io::ErrorKind::BrokenPipe)),
        })
    }
}
