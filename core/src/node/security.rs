//! Which TLS config protects which stream (`security.md` §1).

use alloc::string::String;
use alloc::vec::Vec;

use super::Node;
use super::conn::Conn;
use super::io::{Role, Security};
use crate::config::{Backend, BackendKind, Config, ListenerTransport, PeerTransport, Reloadable, Service, TlsNames};
use crate::id::{NodeId, ServiceName};
use crate::quic::DialTls;

/// Whether every TLS config that is named exists.
///
/// # Errors
/// The classic text.
pub(super) fn check_names(config: &Config) -> Result<(), String> {
    check(&config.tls, &config.backends, config)
}

/// The same of TLS configs and backends that take the place of those in the configuration.
fn check(tls: &TlsNames, backends: &[Backend], config: &Config) -> Result<(), String> {
    let mut servers = Vec::new();
    let mut clients = Vec::new();
    for backend in backends {
        match &backend.kind {
            BackendKind::Listener { transport, .. } => match transport {
                ListenerTransport::Tcp { tls } | ListenerTransport::WebSocket { tls, .. } => servers.push(tls),
                ListenerTransport::Udp => {}
            },
            BackendKind::Peer { transport, .. } => match transport {
                PeerTransport::Tcp { tls } | PeerTransport::WebSocket { tls, .. } => clients.push(tls),
                PeerTransport::Udp => {}
            },
            BackendKind::LocalOnly | BackendKind::External => {}
        }
    }
    for control in &config.control_services {
        servers.push(&control.tls);
        servers.extend(control.tcp.iter().map(|tcp| &tcp.tls));
    }
    for service in &config.services {
        match service {
            Service::TcpServer {
                tls_server, tls_client, ..
            }
            | Service::TcpClient {
                tls_server, tls_client, ..
            } => {
                servers.push(tls_server);
                clients.push(tls_client);
            }
            Service::UnixSocketServer { tls, .. } => clients.push(tls),
            Service::UnixSocketClient { tls, .. } => servers.push(tls),
        }
    }
    let unknown_server = servers.into_iter().flatten().find(|&name| !tls.servers.contains(name));
    let unknown_client = clients.into_iter().flatten().find(|&name| !tls.clients.contains(name));
    match unknown_server.or(unknown_client) {
        Some(name) => Err(unknown(name)),
        None => Ok(()),
    }
}

/// What is said of a name that no config has.
pub(super) fn unknown(name: &str) -> String {
    alloc::format!("unknown TLS config {name}")
}

impl Node {
    /// Whether every TLS config that is named exists when these take the place of what there is.
    ///
    /// # Errors
    /// The classic text.
    pub(super) fn check_tls_names(&self, new: &Reloadable) -> Result<(), String> {
        check(&new.tls, &new.backends, &self.config)
    }

    /// Which config protects a dial of this node, as it was typed.
    ///
    /// # Errors
    /// There is no such config.
    pub(super) fn dial_tls(&self, node: &str, tls: Option<&str>) -> Result<Option<DialTls>, String> {
        let Some(config) = tls else { return Ok(None) };
        if !self.config.tls.clients.contains(config) {
            return Err(unknown(config));
        }
        Ok(Some(DialTls {
            config: config.into(),
            peer: NodeId::new(node),
        }))
    }

    /// A stream that is protected on this side of it was dialled.
    pub(super) fn protect_dial(&mut self, conn: Conn, tls: Option<DialTls>) {
        if let Some(DialTls { config, peer }) = tls {
            let security = Security {
                role: Role::Client,
                config: Some(config),
                peer: Some(peer),
            };
            self.protected.insert(conn, security);
        }
    }

    /// The same, accepted for a service.
    pub(super) fn protect_accepted(&mut self, conn: Conn, service: ServiceName) {
        if self.is_secured_here(conn)
            && let Some(config) = self.stream_tls.get(&service).cloned()
        {
            let security = Security {
                role: Role::Server,
                config: Some(config),
                peer: self.conn_peer(conn),
            };
            self.protected.insert(conn, security);
        }
    }

    /// How a dial is protected that goes on another way.
    pub(super) fn dial_tls_of(&self, conn: Conn) -> Option<DialTls> {
        let security = self.protected.get(&conn)?;
        Some(DialTls {
            config: security.config.clone()?,
            peer: security.peer.clone()?,
        })
    }

    /// How a stream is to be protected whose handshake begins.
    pub(super) fn take_security(&mut self, conn: Conn, role: Role) -> Security {
        self.protected
            .remove(&conn)
            .unwrap_or_else(|| Security::anonymous(role))
    }
}
