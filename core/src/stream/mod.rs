//! Native streams: reliable, ordered, windowed byte streams over unreliable datagrams between two services.
//!
//! [`Stream`] is one end of one stream, a machine without IO: packets and the application's bytes go in, packets and
//! events come out. [`Table`] holds many and finds the one a datagram belongs to. `docs/protocol-streams.md` specifies
//! the packets.
//!
//! How it works, in the order of the files:
//!
//! * `packet`: every packet that wants an answer has a number of its own, used once; stream bytes have offsets. A
//!   retransmission is therefore never confused with the original, and an acknowledgement always gives a sound
//!   round-trip time. A sender also says which is the lowest number it still follows, so that receivers forget gaps.
//! * `send` and `recv` keep the bytes; `credit` decides how far the peer may send.
//! * `acks` tells the peer which numbers arrived: every few full segments, at once when something is out of order, else
//!   after 5 ms.
//! * `recovery` follows what is in flight and calls packets lost (RFC 9002 §6.1); `rtt` measures; `congestion` limits and
//!   `pacing` spreads; `size` notices when larger packets vanish on the way (RFC 8899).
//! * `machine` ties them together: handshake, probes, the two halves of `state`.
//! * `table` holds the streams of a node, its `peers` whether the nodes at their other ends live; `budget` shares memory
//!   among them and `pool` the buffers of packets.
//!
//! What keeps a stream alive over a relay that is killed and comes back: after silence it probes, at intervals that double
//! up to one second and no further, for 45 s. A route that comes back cuts the wait short ([`Stream::kick`]).
//!
//! An idle stream owns no timer and little memory.

mod acks;
mod budget;
mod congestion;
mod credit;
mod machine;
mod pacing;
mod packet;
mod pool;
mod ranges;
mod rate;
mod recovery;
mod recv;
mod rtt;
#[cfg(feature = "tls")]
pub mod secure;
mod send;
mod size;
mod standing;
mod state;
mod table;
#[cfg(test)]
mod tests;

use alloc::string::String;
use core::fmt;

pub use machine::Stream;
pub use packet::is_native;
#[cfg(feature = "tls")]
pub use secure::{Secure, SecureError};
pub use table::{Arrival, Outgoing, Received, StreamId, Table, TableConfig, TableEvent};

use crate::time::Duration;

/// What the machine says when a dial is not answered or the peer has gone silent; clients match on it (`wire.md` §21.5).
pub const TIMEOUT_TEXT: &str = "timeout: no recent network activity";
/// The problem of an unreachable message that ends a stream (`wire.md` §18).
pub const SERVICE_UNKNOWN: &str = "service unknown";
/// The origin's own error that ends a dial, but never a stream that was established (`wire.md` §21.5).
pub const NO_ROUTE: &str = "no route to node";
/// The problem of an unreachable message that ends a dial (`wire.md` §18). Classic nodes wait for their time-out instead.
pub const BLOCKED: &str = "blocked by firewall";

/// Codes of a reset that the machines use themselves. Applications use codes from 256.
pub mod code {
    /// The application let go of the stream while the peer was sending.
    pub const RELEASED: u32 = 0;
    /// There is no such stream: the node has restarted, or the stream has ended.
    pub const NO_STREAM: u32 = 1;
    /// The limit of streams is reached, or the service has gone.
    pub const REFUSED: u32 = 2;
    /// The SYN has a version of the packet format that is not spoken here.
    pub const VERSION: u32 = 3;
    /// Nothing was heard for too long.
    pub const TIMEOUT: u32 = 4;
    /// The node is stopping.
    pub const SHUTDOWN: u32 = 5;
}

/// Bytes a dialler may send before it has heard the peer's window. Part of the protocol: every window starts at least here.
pub const UNSOLICITED_CREDIT: u64 = 64 * 1024;

/// Limits and times of one stream.
#[derive(Clone, Debug)]
pub struct Config {
    /// Largest packet in bytes, its header included, unless the path is known to take more and the stream is fast. A mesh
    /// message of 16,384 + 36 bytes stays well below every limit of the links (`wire.md` §3); at least 1,024.
    pub max_packet: usize,
    /// Receive window at the start, in bytes; at least [`UNSOLICITED_CREDIT`].
    pub recv_window_initial: u64,
    /// Largest receive window, in bytes: what one stream may make us hold.
    pub recv_window_max: u64,
    /// Most bytes written and not acknowledged. The limit starts at 256 KiB and grows with the congestion window.
    pub send_buffer_max: u64,
    /// A dial that is not answered fails after this.
    pub dial_timeout: Duration,
    /// With an answer outstanding, this much silence ends the stream.
    pub dead_after: Duration,
    /// Probes are never further apart than this, or one probe timeout if that is longer.
    pub probe_interval_max: Duration,
    /// How long an ended stream still answers its peer.
    pub linger: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_packet: 16 * 1024,
            recv_window_initial: 256 * 1024,
            recv_window_max: 8 * 1024 * 1024,
            send_buffer_max: 8 * 1024 * 1024,
            dial_timeout: Duration::from_secs(15),
            dead_after: Duration::from_secs(45),
            probe_interval_max: Duration::from_secs(1),
            linger: Duration::from_secs(60),
        }
    }
}

/// What the application has to know. Edges: bytes are fetched with [`Stream::read`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The peer has answered the dial.
    Connected,
    /// Bytes can be read.
    Readable,
    /// A write that was refused would now find room.
    Writable,
    /// Everything the peer will ever send has arrived; it may still have to be read.
    PeerFinished,
    /// Both directions are through: the peer has all of ours, the application has read all of the peer's.
    Finished,
    /// The peer ended both directions.
    Reset {
        /// The peer's code.
        code: u32,
        /// The peer's words; invalid UTF-8 is replaced.
        reason: String,
    },
    /// The peer cannot be reached.
    Lost {
        /// Why, as users see it.
        reason: String,
    },
}

/// Why nothing was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteError {
    /// The buffer is full; [`Event::Writable`] follows.
    Blocked,
    /// The direction was finished or reset.
    Closed,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocked => "send buffer is full",
            Self::Closed => "stream is closed for writing",
        })
    }
}

impl core::error::Error for WriteError {}
