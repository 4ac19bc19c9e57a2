//! What goes into a node and what comes out of it: the whole contract with an adapter.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::config::Reloadable;
use crate::config::{HttpProxy, ListenerTransport, PeerTransport};
use crate::firewall::Rules;
use crate::id::{BackendId, CommandId, LinkId, NodeId, PipeId, PortId, ServiceIndex, ServiceName, TaskId};
use crate::netceptor::TraceHop;
use crate::quic::{FromEndpoint, ToEndpoint};
use crate::workceptor::{RunnerEvent, Stored, UnitError, UnitId, UnitTask, UnitTaskResult};

pub use crate::control::{ReloadCode, ReloadError};
pub use crate::service::{LocalListen, LocalTarget};

/// A fact the adapter tells the node.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input {
    /// About one link.
    Link(LinkId, LinkInput),
    /// About one local pipe.
    Pipe(PipeId, PipeInput),
    /// From the QUIC endpoint beside this node, if [`Config::quic`](crate::config::Config::quic) says that there is one.
    Quic(FromEndpoint),
    /// The result of a task. Exactly one per task.
    Done(TaskId, TaskResult),
    /// A runner's word about its unit.
    Runner(UnitId, RunnerEvent),
    /// The application wants something. Answered by exactly one [`Output::Reply`].
    Command(CommandId, Command),
    /// A deadline may have come; harmless at any time.
    Timeout,
    /// The program ends: streams are reset, so that the nodes at their other ends need not wait for silence to tell them.
    /// Carry out the outputs, pull and flush every link within a short time, then close them. Nothing undoes this.
    Shutdown,
}

/// What happens on a link.
#[derive(Debug)]
pub enum LinkInput {
    /// A listener accepted a connection, or the embedding program brings one ([`crate::config::BackendKind::External`]).
    /// Dialled links come into being with [`TaskResult::Dialed`] instead.
    Up {
        /// The backend it came from.
        backend: BackendId,
        /// The other end's address, for logs.
        remote: String,
        /// The node IDs in the other end's certificate, if it showed one and that was verified. Of a connection without TLS,
        /// or one that accepts any certificate, `None`.
        certified: Option<Vec<NodeId>>,
    },
    /// One whole frame, never empty.
    Frame(BytesMut),
    /// The connection is gone; says why, for logs. The adapter sends this exactly once per link, whoever closed.
    Down {
        /// Text for logs.
        reason: String,
    },
}

/// What happens on a local pipe (a control connection, a socket of a service, an application's mesh stream, or an end of
/// [`Output::Secure`]).
///
/// A pipe begins with an ID that the adapter chose, in [`PipeInput::OpenControl`], [`PipeInput::OpenService`] or
/// [`Command::Dial`] (its highest bit clear), or with one that the node chose, in [`Event::Accepted`], [`Output::Open`] or
/// [`Output::Secure`] (its highest bit set). On the pipe of a dial, of an accepted stream or of a service's socket the node
/// says first what the bytes are, with [`PipeOutput::Begin`]; until then the local side sends nothing, after it may do so
/// at once, before the reply to a dial. If that reply is an error there is no pipe.
/// When both directions have ended, or the stream broke, the node says [`PipeOutput::Close`]; the end is always
/// [`PipeInput::Closed`] or [`PipeInput::Failed`], once. Said earlier, it breaks off what is still to be received, and a
/// dial that is not answered; what was sent is still delivered. Outputs about the pipe that were queued before are to be
/// ignored.
#[derive(Debug)]
pub enum PipeInput {
    /// A connection was accepted on a socket of a control service; if that has TLS, the handshake is done.
    OpenControl {
        /// It is a Unix socket: whoever may open it needs to sign nothing. TCP is not local in this sense.
        is_local: bool,
    },
    /// A connection was accepted on a service's own socket. [`PipeOutput::Begin`] comes when its stream is open; if it
    /// cannot go on, the answer is [`PipeOutput::Close`].
    OpenService {
        /// The service that listens.
        service: ServiceIndex,
        /// The other end's address, for logs.
        remote: String,
    },
    /// Bytes from the local side. Never more in total than the credit granted.
    Data(Bytes),
    /// The local side will send no more.
    Eof,
    /// The local side took `n` more bytes of what the node sent.
    Drained(usize),
    /// The handshake of a pipe that began with [`Layer::Secure`], or of the plain pipe of an [`Output::Secure`], is done.
    Secured,
    /// Instead of [`PipeInput::Closed`]: the layer failed, and why. Of an [`Output::Secure`] it is said on the plain pipe.
    Failed(String),
    /// The local side is gone in both directions. The adapter sends this exactly once per pipe, whoever closed. A socket
    /// of a service that is gone without [`PipeInput::Eof`] is broken, which its far side learns.
    Closed,
}

/// What the bytes of a pipe are.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Layer {
    /// The bytes of the two applications as they are: whatever protects them on their way is done behind the pipe.
    Plain,
    /// Records of TLS 1.3, which the local side makes and reads (`stream::Secure` with feature `tls`), in its own task. It
    /// says [`PipeInput::Secured`] when the handshake is done, within [`HANDSHAKE_LIMIT`].
    Secure(Security),
}

/// How a stream is to be protected, seen from one end.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Security {
    /// Which part of the handshake is ours.
    pub role: Role,
    /// The name of the TLS config; `None` is the anonymous mode (`security.md` §7).
    pub config: Option<String>,
    /// The node that the other end's certificate must name, if the config wants a name at all.
    pub peer: Option<NodeId>,
}

impl Security {
    /// The anonymous mode: nobody who only listens or forwards can read.
    pub const fn anonymous(role: Role) -> Self {
        Self {
            role,
            config: None,
            peer: None,
        }
    }
}

/// A part in a handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Speaks first: the end that dialled.
    Client,
    /// Answers.
    Server,
}

/// An end that has not said [`PipeInput::Secured`] so long after its stream was opened is closed.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);

/// What the application may ask, from the beginning: before [`Event::Started`] there is just nobody to reach.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Command {
    /// The whole `status` answer as JSON.
    Status,
    /// One ping with 30 hops, 10 s.
    Ping {
        /// Target node.
        target: String,
    },
    /// Pings with 0, 1, 2, … hops.
    Traceroute {
        /// Target node.
        target: String,
    },
    /// Open a mesh stream and tie it to `pipe`, a fresh ID chosen by the adapter. Fails at once with `no route to node` while
    /// the node cannot be reached. Answered when the stream is open and, if it is secured, its handshake is done.
    Dial {
        /// The local end.
        pipe: PipeId,
        /// Target node.
        node: String,
        /// Target service.
        service: String,
        /// TLS client config, with which the target proves to be this node; `None` is the anonymous mode.
        tls: Option<String>,
    },
    /// Listen for mesh streams. Each accepted one is announced with [`Event::Accepted`] on a pipe chosen by the node.
    Listen {
        /// Service name; empty for a random one.
        service: String,
        /// Advertise it with these tags.
        advertise: Option<Vec<(String, String)>>,
        /// TLS server config; `None` is the anonymous mode.
        tls: Option<String>,
    },
    /// Read the configuration again and apply what has changed ([`Task::Reload`]). Answered when that is done, or known to be
    /// impossible; then everything is as it was.
    Reload,
    /// Let these firewall rules decide about every message from now on.
    SetFirewall(Rules),
    /// Stop listening.
    Unlisten {
        /// The service.
        service: ServiceName,
    },
    /// Open a datagram port, `port` being a fresh ID chosen by the adapter.
    OpenPort {
        /// Its ID.
        port: PortId,
        /// Service name; empty for a random one.
        service: String,
        /// Advertise it with these tags.
        advertise: Option<Vec<(String, String)>>,
    },
    /// Send one datagram.
    Send {
        /// From this port.
        port: PortId,
        /// Target node.
        node: String,
        /// Target service.
        service: String,
        /// Payload.
        data: Bytes,
        /// Hop limit, 30 at most.
        hops: u8,
    },
    /// Close a datagram port.
    ClosePort {
        /// Its ID.
        port: PortId,
    },
}

/// The one answer to a [`Command`]. Whatever failed is answered with [`Reply::Error`].
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Reply {
    /// Done, nothing to tell: `Reload`, `Dial` (the pipe is open), `Unlisten`, `Send`, `ClosePort`.
    Done,
    /// A JSON document (`status`).
    Json(String),
    /// The hops of a traceroute, from 0 on.
    Trace(Vec<TraceHop>),
    /// A pong.
    Pong {
        /// Who answered.
        from: NodeId,
        /// Round-trip time.
        time: Duration,
    },
    /// The service name given or chosen: `Listen`, `OpenPort`.
    Service(ServiceName),
    /// The configuration could not be applied: `Reload`.
    NotReloaded(ReloadError),
    /// Refused or failed.
    Error(String),
}

/// What the node wants of the adapter.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output {
    /// About one link.
    Link(LinkId, LinkOutput),
    /// About one local pipe.
    Pipe(PipeId, PipeOutput),
    /// Open two pipes and tie them: what comes on `cipher` is TLS 1.3, what comes on `plain` is what is in it, and the same
    /// the other way. For streams whose bytes the node itself reads; in a task of its own, since crypto takes time. Each
    /// half ends on its own: the end of one pipe is the end of the other, after what was under way.
    Secure {
        /// Towards the mesh.
        cipher: PipeId,
        /// Towards the node. The handshake's end is told here, with [`PipeInput::Secured`] or [`PipeInput::Failed`].
        plain: PipeId,
        /// How.
        security: Security,
    },
    /// Open a pipe: a service accepted a stream for a local socket. Take part in the handshake that it begins with; the
    /// socket comes with a [`Task::Connect`] when that is done.
    Open(PipeId),
    /// For the QUIC endpoint beside this node. None without [`Config::quic`](crate::config::Config::quic).
    Quic(ToEndpoint),
    /// Do this and answer with [`Input::Done`], exactly once.
    Task(TaskId, Task),
    /// The one answer to a command.
    Reply(CommandId, Reply),
    /// Something worth logging or telling the application.
    Event(Event),
}

/// About one link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkOutput {
    /// Frames wait: pull them with `Node::pull_frames` when the socket can take them. An edge: said again only after a
    /// pull came back with nothing left.
    Ready,
    /// Pull what is left, flush (1 s at most), close the connection.
    Close,
}

/// About one local pipe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PipeOutput {
    /// What the bytes of this pipe are. Said once and first, for a pipe that is tied to a mesh stream.
    Begin(Layer),
    /// Bytes for the local side; never more undrained than [`PIPE_WINDOW`].
    Data(Bytes),
    /// No more bytes will come; shut down the sending half.
    Eof,
    /// The local side may send `n` more bytes. A pipe starts with [`PIPE_WINDOW`].
    Credit(usize),
    /// Close both directions now. Without [`PipeOutput::Eof`] before, the stream broke: the end must not look like an
    /// ordinary one to whoever is behind a socket of a service. As every end of a pipe, answered with [`PipeInput::Closed`].
    Close,
}

/// Bytes that may be under way in one direction of a pipe: 256 KiB.
pub const PIPE_WINDOW: usize = 256 << 10;

/// A deed of the adapter.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Task {
    /// Bind a listener of a backend.
    Listen {
        /// The backend.
        backend: BackendId,
        /// `HOST:PORT`.
        address: String,
        /// What links are to be made of what is accepted there.
        transport: ListenerTransport,
        /// Handshakes that may be under way; one more ends the oldest.
        handshakes: usize,
        /// Links that may be open, where the adapter keeps them apart itself (UDP).
        links: usize,
    },
    /// Close the listener of a backend; its links stay. Answer when its address is free again.
    Unlisten {
        /// The backend.
        backend: BackendId,
    },
    /// Read the configuration that can change, check all of it, and answer with [`TaskResult::Reloaded`]. What the adapter keeps
    /// for itself (TLS configs, the log level) it changes now, and back if [`Event::Reloaded`] is an error.
    Reload,
    /// Make a connection for a backend; give up after 15 s, handshakes included.
    Dial {
        /// The backend.
        backend: BackendId,
        /// `HOST:PORT`, or a URL for a WebSocket.
        address: String,
        /// How to speak there.
        transport: PeerTransport,
        /// Who connects to there, instead of this program itself.
        proxy: Option<HttpProxy>,
    },
    /// Listen on a control service's Unix socket (`control.md` §1: lock file, stale socket replaced, mode).
    ListenControl {
        /// Path of the socket.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// Listen on a control service's TCP socket. With TLS, the handshake of a connection is done, within 10 s, before it is
    /// told.
    ListenControlTcp {
        /// `HOST:PORT`.
        address: String,
        /// TLS server config.
        tls: Option<String>,
    },
    /// Bind the local listener of a service.
    ListenService {
        /// The service.
        service: ServiceIndex,
        /// Where.
        local: LocalListen,
    },
    /// Connect the socket behind a mesh stream; give up after 15 s. If the pipe was closed meanwhile, break the socket off.
    Connect {
        /// The pipe of the stream, from an [`Output::Open`].
        pipe: PipeId,
        /// Where to.
        to: LocalTarget,
    },
    /// Read the stored epoch of this node; missing is `None`.
    LoadEpoch,
    /// Make the epoch durable.
    StoreEpoch(u64),
    /// List the units on disk.
    ScanUnits,
    /// About one unit.
    Unit(UnitId, UnitTask),
    /// Make a JSON web token: header `{"alg":"RS512","typ":"JWT"}`, these claims, signed with the RSA key in a file (PEM, PKCS#1
    /// or PKCS#8), which is read each time.
    Sign {
        /// The file.
        key_file: String,
        /// JSON, taken byte for byte.
        claims: String,
    },
    /// Look at the signature of a JSON web token, made by any RSA algorithm (RS or PS, 256, 384 or 512), with the public key in
    /// a file (PEM), which is read each time. Claims are not looked at.
    Verify {
        /// The file.
        key_file: String,
        /// The token.
        token: String,
    },
}

impl Task {
    /// The answer of a program that does not carry out this task: nothing was stored before, and nothing is done now.
    ///
    /// A program without a disk, listeners or processes answers what it does not know with this. It then has no epoch to
    /// continue from, so its clock must not go back between two runs.
    pub fn decline(&self) -> TaskResult {
        let refusal = || String::from("not supported by this program");
        match self {
            Self::Unlisten { .. } => TaskResult::Unlistened,
            Self::LoadEpoch => TaskResult::Epoch(None),
            Self::ScanUnits => TaskResult::Units(Stored::default()),
            Self::Unit(..) => TaskResult::Unit(UnitTaskResult::Failed(UnitError::Io(refusal()))),
            Self::Listen { .. }
            | Self::Reload
            | Self::Dial { .. }
            | Self::ListenControl { .. }
            | Self::ListenControlTcp { .. }
            | Self::ListenService { .. }
            | Self::Connect { .. }
            | Self::StoreEpoch(_)
            | Self::Sign { .. }
            | Self::Verify { .. } => TaskResult::Failed(refusal()),
        }
    }
}

/// The result of a [`Task`].
#[derive(Debug)]
#[non_exhaustive]
pub enum TaskResult {
    /// `Listen`, `ListenControl`, `ListenControlTcp`, `ListenService`: bound; the address as text (with the real port).
    Listening(String),
    /// `Unlisten`: the address is free.
    Unlistened,
    /// `Reload`: what is configured now, checked as at the start; or why it cannot be applied.
    Reloaded(Result<Box<Reloadable>, ReloadError>),
    /// `Dial`: connected; the link is up from now on.
    Dialed {
        /// Its fresh ID.
        link: LinkId,
        /// The other end's address, for logs.
        remote: String,
        /// As in [`LinkInput::Up`].
        certified: Option<Vec<NodeId>>,
    },
    /// `Connect`: connected; the socket's bytes go through its pipe from now on.
    Connected,
    /// `LoadEpoch`.
    Epoch(Option<u64>),
    /// `StoreEpoch`.
    Stored,
    /// `ScanUnits`.
    Units(Stored),
    /// `Unit`.
    Unit(UnitTaskResult),
    /// `Sign`: the token. If the key cannot be used, that is [`TaskResult::Failed`].
    Signed(String),
    /// `Verify`: the claims as they were signed, or why the token is not good. If the key cannot be used, that is
    /// [`TaskResult::Failed`].
    Verified(Result<String, String>),
    /// Any task but `Unit`: what the operating system said.
    Failed(String),
}

/// How loud an event is in the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// The node lost something or cannot do what it was told.
    Error,
    /// Somebody should look.
    Warning,
    /// Changes of state an operator follows.
    Info,
    /// Everything else.
    Debug,
}

/// Something that happened.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// All listeners are bound, units are known, dialling has begun.
    Started,
    /// A listener or control socket could not be opened at start; the node is of no use. The classic error text.
    StartFailed(String),
    /// A line for the log.
    Log(Level, String),
    /// The set of reachable nodes or a next hop changed.
    RoutesChanged,
    /// A reload has ended. An error: everything is as it was before.
    Reloaded(Result<(), ReloadError>),
    /// A mesh stream was accepted on an application's listener; the pipe is open.
    Accepted {
        /// The listener's service.
        service: ServiceName,
        /// The pipe.
        pipe: PipeId,
        /// The dialling node, if its name is known.
        from: Option<NodeId>,
    },
    /// A datagram for an application's port.
    Datagram {
        /// The port.
        port: PortId,
        /// Sending node.
        from: NodeId,
        /// Sending service.
        from_service: ServiceName,
        /// Payload.
        data: Bytes,
    },
    /// A datagram of this port could not be delivered.
    Unreachable {
        /// The port.
        port: PortId,
        /// Who says so.
        from: NodeId,
        /// Whom it was meant for.
        to: NodeId,
        /// The service it was meant for.
        to_service: ServiceName,
        /// Why, in the words of `wire.md` §18.
        problem: String,
    },
    /// Another node runs under our ID and is the newer one's elder: this node must end (`wire.md` §12.5).
    Duplicate,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Backend, BackendKind, Config};
    use crate::deadline::Deadline;
    use crate::node::Node;
    use crate::time::Now;

    #[test]
    fn a_program_that_declines_everything_has_a_node_that_starts_unless_it_was_to_listen() {
        for (kind, starts) in [(BackendKind::External, true), (BackendKind::listener(":0"), false)] {
            let mut config = Config::new("node".into());
            config.backends = alloc::vec![Backend::new(kind)];
            let mut node = Node::new(config, [0; 32], Now::default()).unwrap();
            let (mut started, mut failed) = (false, false);
            while let Some(output) = node.poll_output() {
                match output {
                    Output::Task(id, task) => node.handle(Now::default(), Input::Done(id, task.decline())).unwrap(),
                    Output::Event(Event::Started) => started = true,
                    Output::Event(Event::StartFailed(text)) => {
                        failed = true;
                        assert_eq!(text, "not supported by this program");
                    }
                    _ => {}
                }
            }
            assert_eq!((started, failed), (starts, !starts));
            assert_ne!(node.next_deadline(), Deadline::Now);
        }
    }
}
