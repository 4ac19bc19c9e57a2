//! The values of the adapters' API for applications, which are the same under every runtime.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use receptor_core::id::{NodeId, ServiceName};
use receptor_core::node::io::Level;

use super::{ConfigSource, Tls};
use crate::runner::RunnerProgram;

/// What a node needs besides its configuration.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Where units of work and the epoch are kept. Without it the node runs no work and forgets its epoch.
    pub data_dir: Option<PathBuf>,
    /// The program that runs a unit; it must call [`runner::main`](crate::runner::main). Without it no unit can be started.
    pub runner: Option<RunnerProgram>,
    /// Seed of the node's random numbers; from the operating system if not given.
    pub seed: Option<[u8; 32]>,
    /// The TLS configs that the configuration names; none if not given. Whoever keeps a clone can
    /// [`replace`](Tls::replace) them while the node runs.
    pub tls: Arc<Tls>,
    /// Where the configuration is read again. Without it `reload` fails.
    pub config_source: Option<Arc<dyn ConfigSource>>,
}

/// Why a node did not start.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(String),
    /// The data directory cannot be used.
    #[error("{0}")]
    DataDir(String),
    /// The operating system has no random numbers.
    #[error("{0}")]
    Seed(String),
    /// A listener or a control socket could not be opened.
    #[error("{0}")]
    Start(String),
    /// The node ended before it had started.
    #[error("the node ended before it had started")]
    Ended,
}

/// Why a node has ended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum End {
    /// `Mesh::shutdown` was called, or the last handle was dropped.
    #[error("the node was shut down")]
    Shutdown,
    /// Another node runs under the same ID.
    #[error("another node runs under the same ID")]
    Duplicate,
    /// It could not start.
    #[error("{0}")]
    StartFailed(String),
    /// The driver died: a bug.
    #[error("the node died")]
    Died,
}

/// Why the node did not do something.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeshError {
    /// It was refused or has failed.
    #[error("{0}")]
    Refused(String),
    /// The node has ended.
    #[error("the node has ended")]
    Closed,
}

/// The answer to a ping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pong {
    /// Who answered.
    pub from: NodeId,
    /// Round-trip time.
    pub time: Duration,
}

/// Something that happened to the node.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum MeshEvent {
    /// The set of reachable nodes or a next hop changed.
    RoutesChanged,
    /// A line for the log, which also went to `tracing`.
    Log(Level, Arc<str>),
    /// So many events were lost, because they were not taken in time.
    Lost(u64),
}

/// What was received.
#[derive(Clone, PartialEq, Debug)]
pub struct Datagram {
    /// Sending node.
    pub from: NodeId,
    /// Sending service.
    pub from_service: ServiceName,
    /// Payload.
    pub data: Bytes,
}

/// A datagram sent from here was not delivered.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{to}:{to_service}: {problem} (said {from})")]
pub struct Unreachable {
    /// Who says so.
    pub from: NodeId,
    /// Whom it was meant for.
    pub to: NodeId,
    /// The service it was meant for.
    pub to_service: ServiceName,
    /// Why.
    pub problem: String,
}

/// Why nothing was received.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Word about an earlier datagram sent from this socket. The socket goes on.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The node has ended.
    #[error("the node has ended")]
    Closed,
}
