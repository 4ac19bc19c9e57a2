//! TLS configs (`security.md` §2–§10): who may be at the other end of a link, of a local socket or of a mesh stream.
//!
//! ```text
//!  ServerSettings, ClientSettings ── Configs::new ─► Configs ─┬─ link_server, link_client      links, local sockets
//!    (PEM texts, flags, pins)        checks all of it         └─ stream_server, stream_client  mesh streams
//! ```
//!
//! Nothing here reads files or clocks, and nobody in the node's task uses it: what comes out are the configs of `rustls` for
//! one use, made by and for the tasks of an adapter (feature `tls`). [`anonymous`] is what mesh streams have where no config
//! is named.
//!
//! Nothing of a session outlives it: no tickets, no resumption, no early data. So every name and every pin is checked on
//! every handshake.

pub mod anonymous;
mod configs;
mod names;
mod open;
mod pem;
mod pins;
mod profile;
pub mod records;
mod settings;
#[cfg(test)]
pub(crate) mod tests;
pub mod text;
mod trust;
mod verifier;

pub use configs::{Configs, DEFAULT_CLIENT};
pub use names::{NamesError, node_ids, node_ids_in};
#[cfg(test)]
pub(crate) use open::OpenRecords;
pub use pem::Pem;
pub use profile::Suites;
pub use records::{Records, RecordsError};
pub use settings::{ClientSettings, ServerSettings};
pub use verifier::Peer;
