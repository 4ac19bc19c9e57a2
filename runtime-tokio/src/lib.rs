//! Runs a receptor-core node on tokio: sockets, timers, processes, files, and an async API.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod arrivals;
mod clock;
mod control;
mod driver;
mod handle;
mod links;
mod quic;
mod runner;
mod services;
mod socket;
mod stream;
mod units;

pub use handle::{Events, Listener, Mesh};
pub use receptor_core::config::{self, Config};
pub use receptor_core::id::{BackendId, NodeId, ServiceName};
pub use receptor_core::netceptor::TraceHop;
pub use receptor_host::adapter::{
    Datagram, End, MeshError, MeshEvent, Options, Pong, ReceiveError, StartError, Unreachable,
};
pub use receptor_host::runner::RunnerProgram;
pub use socket::PacketSocket;
pub use stream::MeshStream;
