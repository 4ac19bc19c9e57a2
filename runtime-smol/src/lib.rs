//! Runs a receptor-core node on the smol crates: sockets, timers, processes, files, and an async API.
//!
//! The executor is yours: [`Mesh::start`] gets a function that spawns a future. With `smol` that is
//! `|task| smol::spawn(task).detach()`, under `async-std` `|task| drop(async_std::task::spawn(task))`.

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
mod sync;
mod task;
#[cfg(test)]
mod testing;
mod time;
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
pub use task::BoxFuture;
