//! What the node and the endpoint tell each other.

use alloc::string::String;

use bytes::{Bytes, BytesMut};

use crate::id::{NameHash, NodeId, ServiceName};

/// Bytes of one connection that may be under way between node and endpoint in one direction: 256 KiB.
pub const WINDOW: usize = 256 << 10;

/// One QUIC connection of this node, never used twice. The node numbers those it dials, the endpoint those it accepts:
/// theirs have the highest bit set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

/// Between whom a datagram or a connection runs. It never changes for a connection (`wire.md` §21.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Path {
    /// The other node.
    pub remote: NameHash,
    /// The service there.
    pub remote_service: ServiceName,
    /// The service here.
    pub local_service: ServiceName,
}

/// How a dial is to be protected, if not anonymously.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DialTls {
    /// The name of the TLS client config.
    pub config: String,
    /// The node that the certificate of the other side must name.
    pub peer: NodeId,
}

/// What the node tells the endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ToEndpoint {
    /// A datagram came for a service the endpoint was told of.
    Datagram(Path, Bytes),
    /// Datagrams on this path cannot be delivered, in the words of `wire.md` §18 and §21.5. Ends a dial at once; a
    /// connection that was established waits for better times.
    Unreachable(Path, String),
    /// The first hop to a node is congested: send nothing there until [`ToEndpoint::Unblocked`].
    Blocked(NameHash),
    /// The first hop to a node has room again.
    Unblocked(NameHash),
    /// Take connections for a service, with the TLS server config of this name if there is one; else anonymously.
    Listen(ServiceName, Option<String>),
    /// Take no more connections for a service. Accepted ones go on.
    Unlisten(ServiceName),
    /// Open a connection, from a service of this node that nothing else uses. Ends in [`FromEndpoint::Opened`] or
    /// [`FromEndpoint::Closed`].
    Dial(ConnectionId, Path, Option<DialTls>),
    /// Bytes to send; never more than there is credit for. A connection starts with [`WINDOW`].
    Data(ConnectionId, Bytes),
    /// No more bytes will be sent.
    Eof(ConnectionId),
    /// The node took `n` more bytes of those received.
    Drained(ConnectionId, usize),
    /// Nobody in the node has to do with the connection any more: what was sent is still delivered, and it is closed
    /// politely. Nothing more is told about it.
    Release(ConnectionId),
    /// End the connection in both directions now, and tell the other side why. Nothing more is told about it.
    Abort(ConnectionId, String),
}

/// What the endpoint tells the node. What is said of a connection that the node has let go is to be ignored.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FromEndpoint {
    /// Send this datagram. Its first [`HEADER_LEN`](crate::wire::data::HEADER_LEN) bytes are zero, room for the header.
    Datagram(Path, BytesMut),
    /// A connection was accepted.
    Accepted(ConnectionId, Path),
    /// A dial has succeeded.
    Opened(ConnectionId),
    /// Bytes were received; never more than [`WINDOW`] undrained.
    Data(ConnectionId, Bytes),
    /// The other side will send no more.
    Eof(ConnectionId),
    /// The node may send `n` more bytes.
    Credit(ConnectionId, usize),
    /// The connection has ended in both directions; what was received before was told before. `None`: the other side
    /// closed it in peace. Else why, in the words users of Go nodes know (`wire.md` §21.5). Said once, unless the node let
    /// go first.
    Closed(ConnectionId, Option<String>),
    /// The endpoint has nothing more to do with a service that was listened on or dialled from.
    Released(ServiceName),
}
