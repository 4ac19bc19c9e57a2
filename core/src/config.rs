//! What a node is told at its start.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::firewall::Rules;
use crate::id::{NodeId, ServiceName};

/// Configuration of a node. Plain data.
#[derive(Clone, Debug)]
pub struct Config {
    /// Own node ID.
    pub node_id: NodeId,
    /// Shown as `Version` in `status`.
    pub version: String,
    /// Shown as `SystemCPUCount`: logical CPUs.
    pub cpu_count: u64,
    /// Shown as `SystemMemoryMiB`.
    pub memory_mib: u64,
    /// A link without received traffic for longer is closed. At least [`Config::MIN_IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// Listeners and peers.
    pub backends: Vec<Backend>,
    /// Refuses links whose verified certificate names no node. Without, there is a warning. A certificate that names other
    /// nodes than the peer is refused either way.
    pub strict: bool,
    /// HTTP proxies on the way to WebSocket peers.
    pub proxies: ProxySettings,
    /// Which data messages pass.
    pub firewall: Rules,
    /// The TLS configs there are. Set by who makes them, not by users.
    pub tls: TlsNames,
    /// Control services.
    pub control_services: Vec<ControlService>,
    /// Whether remote work runs over work sessions (`docs/protocol-extended.md` §5) where the other node speaks them too.
    /// Without, it is polled for in both directions as among classic nodes.
    pub work_sessions: bool,
    /// Services that tie local sockets to mesh streams.
    pub services: Vec<Service>,
    /// Work types offered.
    pub work_types: Vec<WorkType>,
    /// Keys of signed work.
    pub work_keys: WorkKeys,
    /// Limits of units.
    pub work_limits: WorkLimits,
    /// A [`quic::Endpoint`](crate::quic) runs beside the node: streams to and from classic nodes are possible. Set by who runs
    /// it, not by users.
    pub quic: bool,
    /// Limits of queues and tables.
    pub limits: Limits,
}

impl Config {
    /// The classic idle limit, which can only be raised (`wire.md` §15).
    pub const MIN_IDLE_TIMEOUT: Duration = Duration::from_secs(21);

    /// A node with nothing but a name.
    pub fn new(node_id: NodeId) -> Self {
        Self {
            node_id,
            version: String::new(),
            cpu_count: 1,
            memory_mib: 0,
            idle_timeout: Self::MIN_IDLE_TIMEOUT,
            backends: Vec::new(),
            strict: false,
            proxies: ProxySettings::default(),
            firewall: Rules::default(),
            tls: TlsNames::default(),
            control_services: Vec::new(),
            work_sessions: true,
            services: Vec::new(),
            work_types: Vec::new(),
            work_keys: WorkKeys::default(),
            work_limits: WorkLimits::default(),
            quic: false,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// What of it can change while the node runs.
    pub fn reloadable(&self) -> Reloadable {
        Reloadable {
            backends: self.backends.clone(),
            tls: self.tls.clone(),
            firewall: self.firewall.clone(),
            work_types: self.work_types.clone(),
            work_keys: self.work_keys.clone(),
            work_limits: self.work_limits.clone(),
        }
    }
}

/// What of a configuration can change while the node runs.
#[derive(Clone, Default, Debug)]
pub struct Reloadable {
    /// As [`Config::backends`]. Those that are the same as before keep their links.
    pub backends: Vec<Backend>,
    /// As [`Config::tls`]. Streams that are open go on as they are.
    pub tls: TlsNames,
    /// As [`Config::firewall`].
    pub firewall: Rules,
    /// As [`Config::work_types`]. Units that were started go on as they are.
    pub work_types: Vec<WorkType>,
    /// As [`Config::work_keys`]. The next request is signed, or verified, with these.
    pub work_keys: WorkKeys,
    /// As [`Config::work_limits`]. They hold for what happens from then on; units that wait are looked at again.
    pub work_limits: WorkLimits,
}

/// One backend: something that makes links.
#[derive(Clone, PartialEq, Debug)]
pub struct Backend {
    /// What it is.
    pub kind: BackendKind,
    /// Cost of its links; positive.
    pub cost: f64,
    /// Costs for certain peers, instead of `cost`; positive.
    pub node_costs: BTreeMap<NodeId, f64>,
    /// Who may connect; `None` is everybody, an empty set nobody.
    pub allowed_peers: Option<BTreeSet<NodeId>>,
}

impl Backend {
    /// A backend with links of cost 1, open to every peer.
    pub fn new(kind: BackendKind) -> Self {
        Self {
            kind,
            cost: 1.0,
            node_costs: BTreeMap::new(),
            allowed_peers: None,
        }
    }
}

/// Kinds of backend.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BackendKind {
    /// Accepts links.
    Listener {
        /// `HOST:PORT` to bind; an empty host means all addresses.
        bind: String,
        /// How their frames travel.
        transport: ListenerTransport,
    },
    /// Dials one peer.
    Peer {
        /// Where: `HOST:PORT`, or a URL for a WebSocket.
        address: String,
        /// Dial again after a failure or a loss.
        redial: bool,
        /// How frames travel.
        transport: PeerTransport,
    },
    /// Makes no links; keeps a node without neighbours running.
    LocalOnly,
    /// Links are brought by the embedding program.
    External,
}

impl BackendKind {
    /// Accepts plain TCP connections on `HOST:PORT`.
    pub fn listener(bind: impl Into<String>) -> Self {
        Self::Listener {
            bind: bind.into(),
            transport: ListenerTransport::Tcp { tls: None },
        }
    }

    /// Dials `HOST:PORT` over plain TCP, again and again.
    pub fn peer(address: impl Into<String>) -> Self {
        Self::Peer {
            address: address.into(),
            redial: true,
            transport: PeerTransport::Tcp { tls: None },
        }
    }
}

/// How the frames of accepted links travel (`wire.md` §3).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ListenerTransport {
    /// A TCP connection each.
    Tcp {
        /// Name of a TLS server config; `None` for no TLS.
        tls: Option<String>,
    },
    /// One UDP socket for all; a link is an address that datagrams come from.
    Udp,
    /// A WebSocket connection each.
    WebSocket {
        /// Path that is asked for: this one only, or what is below it if it ends with `/`.
        path: String,
        /// Name of a TLS server config; `None` for no TLS.
        tls: Option<String>,
    },
}

/// How the frames of dialled links travel (`wire.md` §3).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PeerTransport {
    /// A TCP connection; the address is `HOST:PORT`.
    Tcp {
        /// Name of a TLS client config; `None` for no TLS.
        tls: Option<String>,
    },
    /// Datagrams; the address is `HOST:PORT`.
    Udp,
    /// A WebSocket connection; the address is a URL, `ws://` or `wss://`.
    WebSocket {
        /// One more header of the request, name and value.
        extra_header: Option<(String, String)>,
        /// Name of a TLS client config; needed for `wss://`.
        tls: Option<String>,
    },
}

/// An HTTP proxy that connects to others (`CONNECT`, RFC 9110 §9.3.6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpProxy {
    /// `HOST:PORT`.
    pub address: String,
    /// `USER:PASSWORD`, for HTTP basic authentication.
    pub credentials: Option<String>,
}

/// The HTTP proxies that WebSocket peers are dialled through, in the form of the environment variables of the same names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProxySettings {
    /// `HTTP_PROXY`, for `ws://`: a URL or `HOST:PORT`; empty for none.
    pub http: String,
    /// `HTTPS_PROXY`, for `wss://`.
    pub https: String,
    /// `NO_PROXY`: who is dialled directly, a list with commas.
    pub exceptions: String,
}

/// Names of TLS configs, which a configuration refers to.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TlsNames {
    /// Of server configs.
    pub servers: BTreeSet<String>,
    /// Of client configs.
    pub clients: BTreeSet<String>,
}

/// One control service.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ControlService {
    /// Mesh service name; `None` for no mesh listener.
    pub service: Option<ServiceName>,
    /// TLS server config of the mesh listener; `None` for the anonymous mode.
    pub tls: Option<String>,
    /// Unix socket to listen on.
    pub socket: Option<SocketFile>,
    /// TCP socket to listen on.
    pub tcp: Option<ControlTcp>,
}

impl ControlService {
    /// One that listens on the mesh only, under this name.
    pub fn on_mesh(service: ServiceName) -> Self {
        Self {
            service: Some(service),
            ..Self::default()
        }
    }
}

/// The TCP socket of a control service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControlTcp {
    /// `HOST:PORT` to listen on; an empty host means all addresses.
    pub bind: String,
    /// TLS server config; `None` for no TLS.
    pub tls: Option<String>,
}

/// A Unix socket file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SocketFile {
    /// Path of the socket.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
}

/// A service that ties local sockets to mesh streams (`services.md` §3, §4, §7).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Service {
    /// Accepts TCP connections, each of which becomes a mesh stream.
    TcpServer {
        /// `HOST:PORT` to listen on; an empty host means all addresses.
        bind: String,
        /// Where streams go to.
        remote: RemoteService,
        /// TLS server config of the accepted connections; `None` for no TLS.
        tls_server: Option<String>,
        /// TLS client config of the streams; `None` for the anonymous mode.
        tls_client: Option<String>,
    },
    /// Accepts mesh streams, each of which becomes a TCP connection.
    TcpClient {
        /// Mesh service to listen on; an empty name for a random one.
        service: ServiceName,
        /// `HOST:PORT`, resolved anew for every connection.
        address: String,
        /// TLS server config of the streams; `None` for the anonymous mode.
        tls_server: Option<String>,
        /// TLS client config of the connections, whose server is known by the host of the address; `None` for no TLS.
        tls_client: Option<String>,
    },
    /// Accepts connections on a Unix socket, each of which becomes a mesh stream.
    UnixSocketServer {
        /// The socket.
        socket: SocketFile,
        /// Where streams go to.
        remote: RemoteService,
        /// TLS client config of the streams; `None` for the anonymous mode.
        tls: Option<String>,
    },
    /// Accepts mesh streams, each of which becomes a connection to a Unix socket.
    UnixSocketClient {
        /// Mesh service to listen on; an empty name for a random one.
        service: ServiceName,
        /// Path of the socket.
        path: String,
        /// TLS server config of the streams; `None` for the anonymous mode.
        tls: Option<String>,
    },
}

/// A service of some node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteService {
    /// The node; `localhost` is this one.
    pub node: String,
    /// Its service. A name that no node can have is found out by the first connection, as in the classic node.
    pub service: String,
}

/// A work type this node offers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkType {
    /// Its name.
    pub name: String,
    /// What runs.
    pub kind: WorkKind,
    /// Whether requests about it must be signed, unless they come over a Unix socket. Needs
    /// [`WorkKeys::verification`]: without it every other request is refused.
    pub verify_signature: bool,
}

impl WorkType {
    /// One that demands no signatures.
    pub fn new(name: impl Into<String>, kind: WorkKind) -> Self {
        Self {
            name: name.into(),
            kind,
            verify_signature: false,
        }
    }
}

/// Limits of units (`work-limits`). What is `None` is not limited.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct WorkLimits {
    /// Units on this node, the local halves of remote ones included; [`Limits::units`] holds as well.
    pub max_units: Option<usize>,
    /// Commands that run at a time. More of them wait, in the order in which their stdin was complete.
    pub max_running: Option<usize>,
    /// Units that may wait for that. More of them are refused.
    pub max_queued: Option<usize>,
    /// Bytes of a unit's stdin. One that sends more fails.
    pub max_stdin: Option<u64>,
    /// Bytes of a command's output. One that writes more is ended, and its unit fails.
    pub max_stdout: Option<u64>,
    /// How long a command may run. One that runs longer is ended, and its unit fails.
    pub time_limit: Option<Duration>,
    /// A unit that still expects stdin and has got none for so long fails.
    pub stdin_timeout: Option<Duration>,
    /// A unit that ended so long ago is released.
    pub expire: Option<Duration>,
    /// The same for units that other nodes of this implementation have submitted and have not released.
    pub expire_remote: Option<Duration>,
}

/// Keys of signed work (`work.md` §15).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct WorkKeys {
    /// How requests to other nodes are signed; `None`: not at all.
    pub signing: Option<Signing>,
    /// How signatures of others are verified; `None`: they are all refused.
    pub verification: Option<Verification>,
}

/// How requests are signed (`work-signing`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signing {
    /// File with an RSA private key in PEM form, read at each use.
    pub private_key: String,
    /// How long a token is good; whole seconds count.
    pub expiration: Duration,
}

impl Signing {
    /// What is meant by a configuration that does not say how long a token is good: 5 minutes.
    pub const EXPIRATION: Duration = Duration::from_secs(300);
}

/// How signatures are verified (`work-verification`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verification {
    /// File with an RSA public key in PEM form, read at each use.
    pub public_key: String,
    /// How far the clock of the signing node may be off. The classic node allows nothing.
    pub leeway: Duration,
}

impl Verification {
    /// What is meant by a configuration that does not say how far clocks may be off: 1 minute.
    pub const LEEWAY: Duration = Duration::from_secs(60);
}

/// Kinds of work.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WorkKind {
    /// A program per unit (`work-command`).
    Command {
        /// The program, looked up in `PATH` if it has no slash.
        command: String,
        /// Its parameters, one string, split as `work.md` §8.3 says.
        params: String,
        /// Whether a submitter may append parameters.
        allow_runtime_params: bool,
    },
    /// A type of which this build has no worker: not advertised, submissions are refused with the reason.
    Unavailable {
        /// Why, e.g. `work-kubernetes is not supported yet`.
        reason: String,
    },
}

/// Limits of queues and tables. All are hard limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of memory in which data frames wait on one link, and as much again for control messages. Memory is what counts,
    /// not only what is in it.
    pub link_queue_bytes: usize,
    /// Bytes of memory in which frames wait on all links together. A single link's data gets an eighth of what is left, its
    /// own limit aside; control messages count, but are never refused for it.
    pub node_queue_bytes: usize,
    /// Links at one time.
    pub links: usize,
    /// Links that are up and whose peer has not been accepted. One more ends the oldest of them.
    pub unaccepted_links: usize,
    /// Handshakes of TLS and WebSocket under way on one listener. One more ends the oldest of them.
    pub handshakes: usize,
    /// Nodes known.
    pub nodes: usize,
    /// Advertisements known, tombstones included.
    pub adverts: usize,
    /// Mesh streams at one time.
    pub streams: usize,
    /// Bytes that all mesh streams together may hold, for each direction, beyond 64 KiB for each stream.
    pub stream_memory: u64,
    /// Control sessions at one time, over all transports.
    pub sessions: usize,
    /// Connections of one service at one time.
    pub service_connections: usize,
    /// Datagrams waiting in one port.
    pub port_queue: usize,
    /// Units of work on this node.
    pub units: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            link_queue_bytes: 4 << 20,
            node_queue_bytes: 64 << 20,
            links: 4096,
            unaccepted_links: 1024,
            handshakes: 256,
            nodes: 20_000,
            adverts: 100_000,
            streams: 16_384,
            stream_memory: 256 << 20,
            sessions: 4096,
            service_connections: 10_000,
            port_queue: 256,
            units: 100_000,
        }
    }
}
