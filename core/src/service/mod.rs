//! Services of a node that tie local sockets to mesh streams: `tcp-server`, `tcp-client`, `unix-socket-server` and
//! `unix-socket-client` (`services.md` §2–4, §7).
//!
//! [`Services`] knows what each of them is, where its connections come from and go to, how many there are, and what is said
//! of it. It moves no bytes: the node ties a pipe and a stream together as it does for applications.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::complaints::Complaints;
use crate::config::{RemoteService, Service};
use crate::id::{PipeId, ServiceIndex, ServiceName};
use crate::time::Instant;

/// After a local socket broke, what it had sent before may take so long to reach the far side. Then the far side is told
/// that nobody is there any more.
pub const LAST_WORDS: Duration = Duration::from_secs(5);

/// Where a service listens on its own machine.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LocalListen {
    /// On TCP.
    Tcp {
        /// `HOST:PORT`; an empty host means all addresses.
        bind: String,
        /// TLS server config of the accepted connections: their handshake is done first, within 10 s.
        tls: Option<String>,
    },
    /// On a Unix socket: lock file, stale socket replaced, mode (`services.md` §7).
    Unix {
        /// Path of the socket.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
}

/// What a service connects to on its own machine, or from it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LocalTarget {
    /// TCP.
    Tcp {
        /// `HOST:PORT`, to be resolved anew each time.
        address: String,
        /// TLS client config: the handshake belongs to connecting.
        tls: Option<String>,
    },
    /// A Unix socket.
    Unix {
        /// Its path.
        path: String,
    },
}

/// How a service begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Opening {
    /// It listens locally.
    Local(LocalListen),
    /// It listens on the mesh, and is advertised.
    Mesh {
        /// The name, which may be empty.
        service: ServiceName,
        /// Tags of `services.md` §1.5.
        tags: BTreeMap<String, String>,
        /// TLS server config of its streams.
        tls: Option<String>,
    },
}

/// All services of a node.
#[derive(Debug)]
pub struct Services {
    entries: Vec<Entry>,
    by_name: BTreeMap<ServiceName, ServiceIndex>,
    connections: BTreeMap<PipeId, Connection>,
    /// Connections of one service.
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    service: Service,
    connections: usize,
    complaints: Complaints,
}

#[derive(Debug)]
struct Connection {
    service: ServiceIndex,
    /// Who has connected, for logs.
    from: String,
    /// Its local socket is being connected: it counts until that is over.
    is_connecting: bool,
    /// Its pipe is closed.
    is_closed: bool,
}

impl Services {
    /// Services that have not begun.
    pub fn new(services: &[Service], limit: usize) -> Self {
        let entry = |service: &Service| Entry {
            service: service.clone(),
            connections: 0,
            complaints: Complaints::default(),
        };
        Self {
            entries: services.iter().map(entry).collect(),
            by_name: BTreeMap::new(),
            connections: BTreeMap::new(),
            limit,
        }
    }

    /// What has to be done at the start, in the order of the configuration.
    pub fn openings(&self) -> impl Iterator<Item = (ServiceIndex, Opening)> {
        let opening = |entry: &Entry| match &entry.service {
            Service::TcpServer { bind, tls_server, .. } => Opening::Local(LocalListen::Tcp {
                bind: bind.clone(),
                tls: tls_server.clone(),
            }),
            Service::UnixSocketServer { socket, .. } => Opening::Local(LocalListen::Unix {
                path: socket.path.clone(),
                mode: socket.mode,
            }),
            Service::TcpClient {
                service,
                address,
                tls_server,
                ..
            } => mesh(*service, "TCP Proxy", ("address", address), tls_server.as_ref()),
            Service::UnixSocketClient { service, path, tls } => {
                mesh(*service, "Unix Proxy", ("filename", path), tls.as_ref())
            }
        };
        let indexed = self.entries.iter().enumerate();
        indexed.map(move |(index, entry)| (ServiceIndex(index as u64), opening(entry)))
    }

    /// Why the node cannot start, in the classic words: `error` is what the system or the mesh said.
    pub fn start_error(&self, index: ServiceIndex, error: &str) -> String {
        match self.get(index).map(|entry| &entry.service) {
            Some(Service::TcpServer { .. }) => alloc::format!("error listening on TCP: {error}"),
            Some(Service::UnixSocketServer { .. }) => alloc::format!("error opening Unix socket: {error}"),
            _ => alloc::format!("error listening on Receptor network: {error}"),
        }
    }

    /// A service listens on the mesh under this name.
    pub fn on_listening(&mut self, index: ServiceIndex, name: ServiceName) {
        self.by_name.insert(name, index);
    }

    /// The service that listens under a name.
    pub fn by_name(&self, name: ServiceName) -> Option<ServiceIndex> {
        self.by_name.get(&name).copied()
    }

    /// Where the streams of an accepted socket go to; `None` for a service that accepts no sockets.
    pub fn remote(&self, index: ServiceIndex) -> Option<&RemoteService> {
        match &self.get(index)?.service {
            Service::TcpServer { remote, .. } | Service::UnixSocketServer { remote, .. } => Some(remote),
            Service::TcpClient { .. } | Service::UnixSocketClient { .. } => None,
        }
    }

    /// The TLS client config of those streams.
    pub fn stream_tls(&self, index: ServiceIndex) -> Option<&str> {
        match &self.get(index)?.service {
            Service::TcpServer { tls_client: tls, .. } | Service::UnixSocketServer { tls, .. } => tls.as_deref(),
            Service::TcpClient { .. } | Service::UnixSocketClient { .. } => None,
        }
    }

    /// What is connected to for an accepted stream; `None` for a service that accepts no streams.
    pub fn target(&self, index: ServiceIndex) -> Option<LocalTarget> {
        match &self.get(index)?.service {
            Service::TcpClient {
                address, tls_client, ..
            } => Some(LocalTarget::Tcp {
                address: address.clone(),
                tls: tls_client.clone(),
            }),
            Service::UnixSocketClient { path, .. } => Some(LocalTarget::Unix { path: path.clone() }),
            Service::TcpServer { .. } | Service::UnixSocketServer { .. } => None,
        }
    }

    /// Takes a connection in.
    ///
    /// # Errors
    /// Why it has to be closed.
    pub fn admit(&mut self, service: ServiceIndex, pipe: PipeId, from: String) -> Result<(), String> {
        let limit = self.limit;
        let entry = self.get_mut(service).ok_or("there is no such service")?;
        if entry.connections >= limit {
            return Err(alloc::format!("limit of {limit} connections reached"));
        }
        entry.connections += 1;
        let connection = Connection {
            service,
            from,
            is_connecting: false,
            is_closed: false,
        };
        self.connections.insert(pipe, connection);
        Ok(())
    }

    /// The local socket of a connection is being connected.
    pub fn on_connecting(&mut self, pipe: PipeId) {
        if let Some(connection) = self.connections.get_mut(&pipe) {
            connection.is_connecting = true;
        }
    }

    /// That is over, whether it succeeded or not.
    pub fn on_connected(&mut self, pipe: PipeId) {
        if let Some(connection) = self.connections.get_mut(&pipe) {
            connection.is_connecting = false;
            if connection.is_closed {
                self.on_closed(pipe);
            }
        }
    }

    /// The pipe of a connection is closed. Harmless for pipes of others.
    pub fn on_closed(&mut self, pipe: PipeId) {
        let Some(connection) = self.connections.get_mut(&pipe) else {
            return;
        };
        connection.is_closed = true;
        if connection.is_connecting {
            return;
        }
        let service = connection.service;
        self.connections.remove(&pipe);
        if let Some(entry) = self.get_mut(service) {
            entry.connections -= 1;
        }
    }

    /// The line for the log about a connection that failed, unless there were too many of late.
    pub fn failed(&mut self, now: Instant, pipe: PipeId, problem: &str) -> Option<String> {
        let connection = self.connections.get(&pipe)?;
        let (service, text) = (connection.service, self.describe(connection, problem));
        self.complain(now, service, &text)
    }

    /// The line for the log about something that failed, unless there was too much of late.
    pub fn complain(&mut self, now: Instant, index: ServiceIndex, problem: &str) -> Option<String> {
        let entry = self.get_mut(index)?;
        let text = alloc::format!("{}: {problem}", Title(&entry.service));
        entry.complaints.line(now, &text)
    }

    /// Connections at this time, of all services.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    fn describe(&self, connection: &Connection, problem: &str) -> String {
        let from = &connection.from;
        match self.get(connection.service).map(|entry| &entry.service) {
            Some(Service::TcpServer { remote, .. } | Service::UnixSocketServer { remote, .. }) => {
                let RemoteService { node, service } = remote;
                alloc::format!("cannot connect {from} to {node}:{service}: {problem}")
            }
            Some(Service::TcpClient { address: to, .. } | Service::UnixSocketClient { path: to, .. }) => {
                alloc::format!("cannot connect {from} to {to}: {problem}")
            }
            None => problem.to_string(),
        }
    }

    fn get(&self, index: ServiceIndex) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.0).ok()?)
    }

    fn get_mut(&mut self, index: ServiceIndex) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(index.0).ok()?)
    }
}

fn mesh(service: ServiceName, kind: &str, target: (&str, &str), tls: Option<&String>) -> Opening {
    let tags = [("type", kind), target];
    Opening::Mesh {
        service,
        tls: tls.cloned(),
        tags: tags.map(|(key, value)| (key.to_string(), value.to_string())).into(),
    }
}

/// A service as the log calls it.
struct Title<'a>(&'a Service);

impl fmt::Display for Title<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Service::TcpServer { bind, .. } => write!(f, "tcp-server {bind}"),
            Service::TcpClient { service, .. } => write!(f, "tcp-client {service}"),
            Service::UnixSocketServer { socket, .. } => write!(f, "unix-socket-server {}", socket.path),
            Service::UnixSocketClient { service, .. } => write!(f, "unix-socket-client {service}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SocketFile;

    fn remote() -> RemoteService {
        RemoteService {
            node: "far".into(),
            service: "web".into(),
        }
    }

    fn services() -> Services {
        let name = |name| ServiceName::new(name).unwrap();
        let all = [
            Service::TcpServer {
                bind: ":80".into(),
                remote: remote(),
                tls_server: None,
                tls_client: None,
            },
            Service::TcpClient {
                service: name("web"),
                address: "localhost:8080".into(),
                tls_server: None,
                tls_client: None,
            },
            Service::UnixSocketServer {
                socket: SocketFile {
                    path: "/run/s".into(),
                    mode: 0o600,
                },
                remote: remote(),
                tls: None,
            },
            Service::UnixSocketClient {
                service: name("sock"),
                path: "/run/c".into(),
                tls: None,
            },
        ];
        Services::new(&all, 2)
    }

    const TCP_SERVER: ServiceIndex = ServiceIndex(0);
    const TCP_CLIENT: ServiceIndex = ServiceIndex(1);
    const UNIX_SERVER: ServiceIndex = ServiceIndex(2);
    const UNIX_CLIENT: ServiceIndex = ServiceIndex(3);

    #[test]
    fn services_begin_in_the_order_of_the_configuration_with_the_classic_tags() {
        let tags = |pairs: [(&str, &str); 2]| pairs.map(|(k, v)| (k.to_string(), v.to_string())).into();
        let expected = [
            (
                TCP_SERVER,
                Opening::Local(LocalListen::Tcp {
                    bind: ":80".into(),
                    tls: None,
                }),
            ),
            (
                TCP_CLIENT,
                Opening::Mesh {
                    service: ServiceName::new("web").unwrap(),
                    tls: None,
                    tags: tags([("type", "TCP Proxy"), ("address", "localhost:8080")]),
                },
            ),
            (
                UNIX_SERVER,
                Opening::Local(LocalListen::Unix {
                    path: "/run/s".into(),
                    mode: 0o600,
                }),
            ),
            (
                UNIX_CLIENT,
                Opening::Mesh {
                    service: ServiceName::new("sock").unwrap(),
                    tls: None,
                    tags: tags([("type", "Unix Proxy"), ("filename", "/run/c")]),
                },
            ),
        ];
        assert_eq!(services().openings().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn each_service_has_one_side_to_accept_from() {
        let services = services();
        for (index, accepts_sockets) in [
            (TCP_SERVER, true),
            (TCP_CLIENT, false),
            (UNIX_SERVER, true),
            (UNIX_CLIENT, false),
        ] {
            assert_eq!(services.remote(index).is_some(), accepts_sockets);
            assert_eq!(services.target(index).is_some(), !accepts_sockets);
        }
        assert_eq!(services.remote(ServiceIndex(4)), None);
    }

    #[test]
    fn the_limit_is_per_service_and_a_closed_connection_makes_room() {
        let mut services = services();
        for pipe in 1..=2 {
            services.admit(TCP_SERVER, PipeId(pipe), "x".into()).unwrap();
        }
        let refused = services.admit(TCP_SERVER, PipeId(3), "x".into());
        assert_eq!(refused, Err("limit of 2 connections reached".into()));
        services.admit(UNIX_SERVER, PipeId(3), "x".into()).unwrap();
        assert_eq!(services.len(), 3);
        services.on_closed(PipeId(1));
        services.on_closed(PipeId(1));
        services.admit(TCP_SERVER, PipeId(4), "x".into()).unwrap();
        assert!(services.admit(TCP_SERVER, PipeId(5), "x".into()).is_err());
        for pipe in 1..=5 {
            services.on_closed(PipeId(pipe));
        }
        assert!(services.is_empty());
    }

    #[test]
    fn a_connection_counts_while_its_socket_is_being_connected() {
        let mut services = services();
        for is_first_closed in [true, false] {
            services.admit(TCP_CLIENT, PipeId(1), "x".into()).unwrap();
            services.on_connecting(PipeId(1));
            if is_first_closed {
                services.on_closed(PipeId(1));
                assert_eq!(
                    services.len(),
                    1,
                    "who breaks off quickly opens no more sockets than others"
                );
                services.on_connected(PipeId(1));
            } else {
                services.on_connected(PipeId(1));
                assert_eq!(services.len(), 1);
                services.on_closed(PipeId(1));
            }
            assert!(services.is_empty());
        }
    }

    #[test]
    fn failures_name_both_ends() {
        let mut services = services();
        services.admit(TCP_SERVER, PipeId(1), "10.0.0.1:7".into()).unwrap();
        services.admit(UNIX_CLIENT, PipeId(2), "near".into()).unwrap();
        let now = Instant::ZERO;
        assert_eq!(
            services.failed(now, PipeId(1), "no route to node").unwrap(),
            "tcp-server :80: cannot connect 10.0.0.1:7 to far:web: no route to node"
        );
        assert_eq!(
            services.failed(now, PipeId(2), "connection refused").unwrap(),
            "unix-socket-client sock: cannot connect near to /run/c: connection refused"
        );
        assert_eq!(services.failed(now, PipeId(3), "whose?"), None);
    }

    #[test]
    fn start_errors_are_the_classic_ones() {
        let services = services();
        for (index, text) in [
            (TCP_SERVER, "error listening on TCP: e"),
            (TCP_CLIENT, "error listening on Receptor network: e"),
            (UNIX_SERVER, "error opening Unix socket: e"),
            (UNIX_CLIENT, "error listening on Receptor network: e"),
        ] {
            assert_eq!(services.start_error(index, "e"), text);
        }
    }
}
