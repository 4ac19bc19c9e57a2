//! Links: connections that the driver polls itself, and those with layers, which have a task each.

pub(crate) mod layered;
pub(crate) mod plain;
pub(crate) mod tcp;
pub(crate) mod udp;

use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use receptor_core::config::ListenerTransport;
use receptor_core::id::{BackendId, NodeId};
use receptor_host::adapter::{Accepting, Flag, FrameDriver, LinkMaker, ReadBuffer, Tls};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use self::plain::Plain;
use crate::arrivals::Arrivals;

/// A closing link is flushed for so long at most.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Anything that carries bytes both ways.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A connection that is to become a link.
pub(crate) struct Linked {
    pub(crate) connection: NewLink,
    /// The other end's address, for logs.
    pub(crate) remote: String,
    /// The node IDs in its verified certificate.
    pub(crate) certified: Option<Vec<NodeId>>,
}

/// Who polls it.
pub(crate) enum NewLink {
    /// The driver.
    Plain(Box<dyn Connection>),
    /// A task, which has the other end of this.
    Layered(FrameDriver),
}

/// What a read gave.
#[derive(PartialEq, Debug)]
pub(crate) enum ReadOutcome {
    /// Bytes came; whole frames stand in the given list.
    Progress,
    /// Nothing there; the flag will be raised.
    Pending,
    /// The connection is gone; the reason.
    Gone(String),
}

/// What a listener needs besides its address.
pub(crate) struct ListenerParts {
    /// Handshakes that may be under way.
    pub(crate) handshakes: usize,
    /// Links over one UDP socket.
    pub(crate) limit: usize,
    pub(crate) links: Arc<LinkMaker>,
    pub(crate) tls: Arc<Tls>,
}

/// A listener of a backend.
pub(crate) struct Listener {
    socket: Socket,
    parts: ListenerParts,
}

enum Socket {
    Tcp(TcpListener),
    Layered(TcpListener, Accepting),
    Udp(udp::Listener),
}

impl Listener {
    /// Binds; the real address comes with it.
    pub(crate) async fn bind(
        address: String,
        transport: ListenerTransport,
        parts: ListenerParts,
    ) -> Result<(Self, String), String> {
        let (socket, address) = if transport == ListenerTransport::Udp {
            let (socket, address) = udp::Listener::bind(address).await?;
            (Socket::Udp(socket), address)
        } else {
            let accepting = Accepting::new(transport, Arc::clone(&parts.tls))?;
            let (socket, address) = tcp::listen(address).await?;
            if accepting.is_plain() {
                (Socket::Tcp(socket), address)
            } else {
                (Socket::Layered(socket, accepting), address)
            }
        };
        Ok((Self { socket, parts }, address))
    }

    /// Accepts for ever.
    pub(crate) async fn accept(&self, backend: BackendId, arrivals: &Arrivals) {
        match &self.socket {
            Socket::Tcp(socket) => tcp::accept(socket, backend, arrivals).await,
            Socket::Layered(socket, accepting) => {
                layered::accept(socket, backend, accepting, &self.parts, arrivals).await;
            }
            Socket::Udp(socket) => socket.accept(backend, &self.parts, arrivals).await,
        }
    }

    /// Frees the address. Links go on, unless they share the socket.
    pub(crate) async fn close(self) {
        if let Socket::Udp(socket) = self.socket {
            socket.close().await;
        }
    }
}

/// One link, as the driver has it.
pub(crate) enum Link {
    Plain(Plain),
    Layered {
        frames: FrameDriver,
        /// The node has said that frames wait, and has not been pulled dry since.
        frames_wait: bool,
        is_closing: bool,
    },
}

impl Link {
    /// Takes over a connection that the driver polls.
    pub(crate) fn plain(connection: Box<dyn Connection>, flag: Arc<Flag>) -> Self {
        Self::Plain(Plain::new(connection, flag))
    }

    /// Takes over one that has a task. It is to be looked at: something may have arrived before.
    pub(crate) fn layered(frames: FrameDriver) -> Self {
        Self::Layered {
            frames,
            frames_wait: false,
            is_closing: false,
        }
    }

    /// Takes what has arrived; of a plain connection by one read, whose frames are slices of `shared`.
    pub(crate) fn read(&mut self, shared: &mut ReadBuffer, into: &mut Vec<BytesMut>) -> ReadOutcome {
        match self {
            Self::Plain(link) => link.read(shared, into),
            Self::Layered { frames, is_closing, .. } => {
                let gone = frames.take(into);
                if *is_closing {
                    into.clear();
                }
                match gone {
                    Some(reason) => ReadOutcome::Gone(reason),
                    None => ReadOutcome::Pending,
                }
            }
        }
    }

    /// Whether something is to be written now.
    pub(crate) fn is_writing(&self) -> bool {
        match self {
            Self::Plain(link) => link.is_writing(),
            Self::Layered { frames_wait, .. } => *frames_wait,
        }
    }

    /// Whether the node has more frames for it.
    pub(crate) fn frames_wait(&mut self) -> &mut bool {
        match self {
            Self::Plain(link) => &mut link.frames_wait,
            Self::Layered { frames_wait, .. } => frames_wait,
        }
    }

    /// Bytes of frames to be pulled from the node at one time. What is not yet pulled stays where priorities can see it.
    pub(crate) fn room(&self) -> usize {
        match self {
            Self::Plain(link) => link.room(),
            Self::Layered { frames, .. } => frames.room(),
        }
    }

    /// Takes frames to be written after what is under way.
    pub(crate) fn enqueue(&mut self, into: &mut Vec<BytesMut>) {
        match self {
            Self::Plain(link) => link.enqueue(into),
            Self::Layered { frames, .. } => frames.push(into),
        }
    }

    /// Writes until everything is out or the connection takes no more; then its flag will be raised.
    pub(crate) fn write(&mut self) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(link) => link.write(),
            Self::Layered { frames, .. } if frames.room() == 0 => Poll::Pending,
            Self::Layered { .. } => Poll::Ready(Ok(())),
        }
    }
}
