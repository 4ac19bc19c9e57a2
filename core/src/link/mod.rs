//! One connection to one peer.
//!
//! [`framing`] turns bytes in any slicing into frames; an adapter runs it beside the node. [`Session`] decides who the
//! peer is and whether it may stay (`wire.md` §11, §15), [`Egress`] holds the frames that wait for the socket, and
//! [`Redial`] says when a peer is dialled again (`wire.md` §3.5).

mod egress;
pub mod framing;
mod redial;
mod session;
pub mod state;
pub mod transport;

pub use egress::{Budget, Egress, EgressStats, MARK_AFTER, Priority};
pub use redial::Redial;
pub use session::{Refusal, RouteVerdict, Session, SessionConfig, TimeoutVerdict};
