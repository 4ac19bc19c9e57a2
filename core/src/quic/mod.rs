//! Streams to and from classic nodes: QUIC over datagrams of the mesh (`wire.md` §21).
//!
//! `Endpoint` (feature `quic`) is a machine of its own **beside** the [`Node`](crate::Node), because its cryptography must
//! not hold up the node: an adapter runs it in another task and carries messages between the two, without a look at them.
//!
//! ```text
//!  node ── Output::Quic(ToEndpoint) ──► Queue ──► Endpoint::handle
//!  node ◄── Input::Quic(FromEndpoint) ── Queue ◄── Endpoint::poll_output
//! ```
//!
//! To the node a QUIC connection is a connection of bytes with credit, like a local pipe; to the mesh it is datagrams.
//! One connection carries one stream (`wire.md` §21.1). A simulator may put a stand-in in the endpoint's place.
//!
//! The files: `message` is the contract, `queue` bounds what waits between the two tasks, `settings` is what Go
//! nodes expect, `address` makes socket addresses of (node, service) for `quinn-proto`, `clock` turns the core's
//! time into std's, `connection` is one stream from handshake to farewell, `local` all those of one service, `endpoint`
//! all of them.

#[cfg(feature = "quic")]
mod address;
#[cfg(feature = "quic")]
mod clock;
#[cfg(feature = "quic")]
mod connection;
#[cfg(feature = "quic")]
mod endpoint;
#[cfg(feature = "quic")]
mod local;
mod message;
mod queue;
#[cfg(feature = "quic")]
mod settings;
#[cfg(all(test, feature = "quic"))]
mod tests;
#[cfg(feature = "quic")]
mod text;

#[cfg(feature = "quic")]
pub use endpoint::{Endpoint, EndpointConfig};
pub use message::{ConnectionId, DialTls, FromEndpoint, Path, ToEndpoint, WINDOW};
pub use queue::{QUEUE_BYTES, Queue, Queued};
