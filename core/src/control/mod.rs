//! The control service as a session machine: connection bytes in, typed requests out; typed replies in, bytes out.
//!
//! One [`Session`] is one control connection, whatever carries it. It knows the command language of `control.md` and
//! nothing of meshes or units: every [`Request`] is answered by whoever owns the session, with exactly one [`Reply`]
//! (`work submit` with two: [`Reply::SubmitReady`], then, after the stdin, [`Reply::SubmitDone`]).
//!
//! ```text
//! handle_data / handle_eof ──► poll_request ──► reply ──► poll_transmit
//!                         └──► poll_raw               └── send_raw, finish_raw
//! ```
//!
//! Commands run strictly one after the other. A reply decides what the following input means (`control.md` §2.3, §5.3,
//! §6): another line, the stdin of a unit, or raw bytes of a bridged or upgraded connection. Input is never read past
//! the end of a command line on its behalf, so whatever a client sent early reaches the next mode complete.
//!
//! # The upgrade of a work session
//!
//! An extension between nodes of this implementation. The line
//! `{"command":"work","subcommand":"upgrade","version":1}` asks to turn the connection into a work session (a member `time`,
//! the clock of whoever asks in milliseconds since the Unix epoch, is for error texts); `{"upgraded":1}` grants it, and from the next byte on both directions belong to that protocol, which this module only
//! carries ([`Session::poll_raw`], [`Session::send_raw`]). Whoever does not know the extension answers `ERROR: bad command`,
//! an unsupported version is answered by another `ERROR:` line, and in both cases the connection stays a plain control
//! session. There is no text form. Guards on the control service (firewall, TLS, signatures) thus guard work sessions too.

mod expected;
mod line;
mod parse;
mod parse_work;
mod queue;
mod reply;
mod request;
mod session;
pub mod text;
mod view;

#[cfg(test)]
mod tests;

pub use crate::duration;
pub use reply::{Hop, PingReply, ReloadCode, ReloadError, Reply};
pub use request::{AdoptRequest, ConnectRequest, Request, SubmitRequest, WorkRequest};
pub use session::{INPUT_MAX, OUTPUT_MAX, Origin, RawInput, Session};
pub use text::LINE_MAX;
pub use view::{AdvertisementView, ConnectionView, StatusView, UnitStatus, WorkCommandView};
