//! What a case sees of an adapter: its public API without the `async`.
//!
//! Every call blocks, and is given up after [`PATIENCE`] or the limit given.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use receptor_core::config::Config;
use receptor_core::firewall::Rules;
use receptor_core::id::{BackendId, NodeId, ServiceName};
use receptor_core::netceptor::TraceHop;
use receptor_host::adapter::{ConfigSource, Tls};
use receptor_host::runner::RunnerProgram;
use serde_json::Value;

use super::PATIENCE;

/// A runtime with an adapter on it, for one test.
pub trait Adapter: Send + Sync {
    /// Starts a node.
    fn start(&self, config: Config, options: Options) -> Result<Box<dyn Node>, StartError>;
    /// Whether no task is left on the runtime.
    fn is_idle(&self) -> bool;
}

/// What a node needs besides its configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where units of work and the epoch are kept.
    pub data_dir: Option<PathBuf>,
    /// The program that runs a unit.
    pub runner: Option<RunnerProgram>,
    /// The TLS configs.
    pub tls: Arc<Tls>,
    /// Where the configuration is read again.
    pub config_source: Option<Arc<dyn ConfigSource>>,
}

/// Tags of an advertised service.
pub type Tags = Vec<(String, String)>;

/// A running node. Dropped when the case lets go of it.
pub trait Node: Send + Sync {
    /// Listens for streams; advertised if there are tags.
    fn listen(&self, service: &str, advertise: Option<Tags>) -> Result<Box<dyn Listener>, Error>;
    /// Listens for streams with a TLS config.
    fn listen_tls(&self, service: &str, tls: &str) -> Result<Box<dyn Listener>, Error>;
    /// Opens a stream.
    fn dial(&self, node: &str, service: &str) -> Result<Stream, Error>;
    /// Opens a stream with a TLS config.
    fn dial_tls(&self, node: &str, service: &str, tls: &str) -> Result<Stream, Error>;
    /// Opens a datagram port; advertised if there are tags.
    fn packet(&self, service: &str, advertise: Option<Tags>) -> Result<Box<dyn Packet>, Error>;
    /// Brings a connection for a backend of kind `External`.
    fn attach(&self, backend: BackendId, connection: UnixStream, remote: &str, pace: Pace) -> Result<(), Error>;
    /// Pings a node; gives who answered.
    fn ping(&self, node: &str, limit: Duration) -> Result<NodeId, Error>;
    /// Pings every hop on the way.
    fn traceroute(&self, node: &str) -> Result<Vec<TraceHop>, Error>;
    /// The classic status document.
    fn status(&self) -> Result<Value, Error>;
    /// Replaces the firewall rules.
    fn set_firewall(&self, rules: Rules) -> Result<(), Error>;
    /// Reads the configuration again.
    fn reload(&self) -> Result<(), Error>;
    /// Events from now on.
    fn events(&self) -> Box<dyn Events>;
    /// Ends the node.
    fn shutdown(&self);
    /// Waits until it has ended.
    fn closed(&self) -> End;
}

/// A service that accepts streams.
pub trait Listener: Send {
    /// Its name.
    fn service(&self) -> ServiceName;
    /// The next stream.
    fn accept(&mut self) -> Result<Stream, Error>;
}

/// A stream, in its two directions. It is dropped when both are.
pub struct Stream {
    /// From the other end.
    pub reader: Box<dyn Reader>,
    /// To the other end.
    pub writer: Box<dyn Writer>,
    /// Who is there, if known.
    pub peer: Option<NodeId>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// The receiving direction.
pub trait Reader: Send {
    /// Some bytes; none at the end.
    fn read(&mut self, buffer: &mut [u8], limit: Duration) -> io::Result<usize>;

    /// Fills `buffer`.
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..], PATIENCE)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        Ok(())
    }

    /// Everything to the end.
    fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.read(&mut buffer, PATIENCE)? {
                0 => return Ok(all),
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

/// The sending direction.
pub trait Writer: Send {
    /// Writes some of the bytes; [`io::ErrorKind::TimedOut`] if none were taken.
    fn write(&mut self, data: &[u8], limit: Duration) -> io::Result<usize>;
    /// Ends this direction.
    fn shutdown(&mut self) -> io::Result<()>;

    /// Writes all of them.
    fn write_all(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            match self.write(data, PATIENCE)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => data = &data[count..],
            }
        }
        Ok(())
    }
}

/// A datagram port.
pub trait Packet: Send + Sync {
    /// Its name.
    fn service(&self) -> ServiceName;
    /// Sends a datagram.
    fn send_to(&self, data: &[u8], node: &str, service: &str) -> Result<(), Error>;
    /// The next datagram, or word of one that did not arrive.
    fn recv_from(&self, limit: Duration) -> Result<Datagram, Error>;
    /// Messages lost because they were not taken in time.
    fn lost(&self) -> u64;
}

/// A received datagram.
#[derive(Clone, PartialEq, Debug)]
pub struct Datagram {
    /// Sending node.
    pub from: NodeId,
    /// Sending service.
    pub from_service: ServiceName,
    /// Payload.
    pub data: Vec<u8>,
}

/// What happened to a node.
pub trait Events: Send {
    /// The next event; `None` when the node has ended.
    fn next(&mut self) -> Result<Option<Event>, Error>;
}

/// One event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Routes have changed.
    RoutesChanged,
    /// A line for the log.
    Log(String),
    /// Events were lost.
    Lost(u64),
    /// What no case asks for.
    Other(String),
}

/// How the bytes of an attached connection are cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// As the socket takes and gives them.
    Whole,
    /// One byte per call, and every other call finds nothing ready.
    OneByte,
}

/// Why a node did not start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StartError {
    /// A contradiction in the configuration.
    Config(String),
    /// The data directory.
    DataDir(String),
    /// A listener or a control socket.
    Start(String),
    /// What no case provokes.
    Other(String),
}

/// Why a node did not do something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// It was refused or has failed.
    Refused(String),
    /// A datagram was not delivered.
    Unreachable {
        /// Whom it was meant for.
        to: NodeId,
        /// Why not.
        problem: String,
    },
    /// The node has ended.
    Closed,
    /// No answer within the limit.
    TimedOut,
}

/// Why a node has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// It was shut down.
    Shutdown,
    /// An older node of its name is in the mesh.
    Duplicate,
    /// What no case provokes.
    Other(String),
}
