//! Which layers a backend's connections have, and where to connect.

use std::sync::Arc;
use std::time::Duration;

use receptor_core::config::{HttpProxy, ListenerTransport, PeerTransport};
use receptor_core::link::transport::{DIAL_LIMIT, REQUEST_LIMIT, TLS_LIMIT, Transport, Url};
use receptor_core::tls::{DEFAULT_CLIENT, Records};

use super::Tls;
use crate::tcp::split_host_port;

/// What a TLS listener for WebSocket says that it speaks. `h2` is not for us, though the classic node says it, too.
const HTTP: &[u8] = b"http/1.1";

/// What a dial was asked for.
#[derive(Clone, Debug)]
pub struct PeerAt {
    /// `HOST:PORT`, or a URL for a WebSocket.
    pub address: String,
    /// How to speak there.
    pub transport: PeerTransport,
    /// Who connects to there, instead of this program itself.
    pub proxy: Option<HttpProxy>,
}

/// How to dial a peer over TCP.
#[derive(Debug)]
pub struct Dialing {
    /// `HOST:PORT` to connect to: the peer or its proxy.
    pub connect: String,
    /// The layers, if there are any.
    pub transport: Option<Transport>,
    /// The peer's certificate is verified.
    pub is_verified: bool,
}

impl Dialing {
    /// All of it must be done within this time.
    pub const LIMIT: Duration = DIAL_LIMIT;

    /// Prepares the dial of a peer that is not reached over UDP.
    ///
    /// # Errors
    /// What of the address or the configs makes it impossible.
    pub fn new(peer: &PeerAt, tls: &Tls) -> Result<Self, String> {
        let PeerAt {
            address,
            transport,
            proxy,
        } = peer;
        let configs = tls.configs();
        let records = |name: &str, host: &str| {
            let (config, server) = configs.link_client(name, host, &[])?;
            Records::client(config, server).map_err(|error| error.to_string())
        };
        match transport {
            PeerTransport::Tcp { tls: None } => Ok(Self {
                connect: address.to_owned(),
                transport: None,
                is_verified: false,
            }),
            PeerTransport::Tcp { tls: Some(name) } => {
                let (host, _) = split_host_port(address)?;
                Ok(Self {
                    connect: address.to_owned(),
                    transport: Some(Transport::lengths().over_tls(records(name, host)?)),
                    is_verified: configs.verifies_servers(name)?,
                })
            }
            PeerTransport::WebSocket { extra_header, tls } => {
                let url =
                    Url::parse(address).map_err(|error| format!("address {address} is not a valid URL: {error}"))?;
                let mut transport =
                    Transport::web_socket_client(&url, extra_header.as_ref()).map_err(|error| error.to_string())?;
                let mut is_verified = false;
                if url.is_secure() {
                    let name = tls.as_deref().unwrap_or(DEFAULT_CLIENT);
                    transport = transport.over_tls(records(name, url.host())?);
                    is_verified = configs.verifies_servers(name)?;
                }
                let target = url.address();
                Ok(Self {
                    connect: proxy
                        .as_ref()
                        .map_or_else(|| target.clone(), |proxy| proxy.address.clone()),
                    transport: Some(match proxy {
                        Some(proxy) => transport.through_proxy(&target, proxy),
                        None => transport,
                    }),
                    is_verified,
                })
            }
            other => Err(format!("this adapter cannot dial over {other:?}")),
        }
    }
}

/// How to take in connections over TCP.
#[derive(Clone, Debug)]
pub struct Accepting {
    transport: ListenerTransport,
    tls: Arc<Tls>,
}

impl Accepting {
    /// Prepares a listener that is not one of UDP.
    ///
    /// # Errors
    /// There is no such TLS config.
    pub fn new(transport: ListenerTransport, tls: Arc<Tls>) -> Result<Self, String> {
        let accepting = Self { transport, tls };
        accepting.layers()?;
        Ok(accepting)
    }

    /// Whether connections have no layers at all.
    pub fn is_plain(&self) -> bool {
        matches!(self.transport, ListenerTransport::Tcp { tls: None })
    }

    /// Time for the handshakes of one connection.
    pub fn limit(&self) -> Duration {
        match self.transport {
            ListenerTransport::WebSocket { .. } => REQUEST_LIMIT,
            _ => TLS_LIMIT,
        }
    }

    /// The layers of one more connection, with the certificates that are there now.
    ///
    /// # Errors
    /// The TLS config is gone.
    pub fn layers(&self) -> Result<Transport, String> {
        let records = |name: &str, alpn: &[&[u8]]| {
            let config = self.tls.link_server(name, alpn)?;
            Records::server(config).map_err(|error| error.to_string())
        };
        let (transport, records) = match &self.transport {
            ListenerTransport::Tcp { tls } => (
                Transport::lengths(),
                tls.as_ref().map(|name| records(name, &[])).transpose()?,
            ),
            ListenerTransport::WebSocket { path, tls } => (
                Transport::web_socket_server(path),
                tls.as_ref().map(|name| records(name, &[HTTP])).transpose()?,
            ),
            other => return Err(format!("this adapter cannot listen with {other:?}")),
        };
        Ok(match records {
            Some(records) => transport.over_tls(records),
            None => transport,
        })
    }
}
