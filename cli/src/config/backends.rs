//! Backends: what makes links (`config.md` §6.8, §7).

use receptor_core::config::{BackendKind, ListenerTransport, PeerTransport};
use receptor_core::id::NodeId;
use receptor_core::link::transport::Url;
use receptor_host::tcp::split_host_port;

use super::error::ConfigError;
use super::item::Item;
use super::typed::{Backend, Links};

type Result<T, E = ConfigError> = std::result::Result<T, E>;

/// The checks of the prepare phase, costs aside.
///
/// # Errors
/// What the classic node says.
pub(super) fn prepare(item: &Item) -> Result<()> {
    if item.name() != "ws-peer" {
        return Ok(());
    }
    url(item)?;
    extra_header(item).map(drop)
}

/// The backend that `item` configures.
///
/// # Errors
/// What the classic node says at its start.
pub(super) fn backend(item: &Item) -> Result<Backend> {
    let tls = || {
        Some(item.text("tls"))
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
    };
    let kind = match item.name() {
        "tcp-listener" => listener(item, "tcp", ListenerTransport::Tcp { tls: tls() })?,
        "udp-listener" => listener(item, "udp", ListenerTransport::Udp)?,
        "ws-listener" => {
            let path = match item.text("path") {
                "" => "/",
                path if path.starts_with('/') => path,
                path => return Err(ConfigError::new(format!("path {path} must begin with /"))),
            };
            let transport = ListenerTransport::WebSocket {
                path: path.into(),
                tls: tls(),
            };
            listener(item, "tcp", transport)?
        }
        "tcp-peer" => {
            split_host_port(item.text("address")).map_err(ConfigError::new)?;
            peer(item, PeerTransport::Tcp { tls: tls() })
        }
        "udp-peer" => {
            split_host_port(item.text("address")).map_err(ConfigError::new)?;
            peer(item, PeerTransport::Udp)
        }
        "ws-peer" => {
            if url(item)?.is_secure() && tls().is_none() {
                // The classic node ends here, too: its built-in config lacks its pins.
                let address = item.text("address");
                return Err(ConfigError::new(format!(
                    "address {address}: wss needs a TLS client config"
                )));
            }
            let extra_header = extra_header(item)?;
            peer(
                item,
                PeerTransport::WebSocket {
                    extra_header,
                    tls: tls(),
                },
            )
        }
        _ => {
            return Ok(Backend {
                kind: BackendKind::LocalOnly,
                links: Links::default(),
            });
        }
    };
    Ok(Backend {
        kind,
        links: links(item),
    })
}

/// What the user should know of a backend that does not do what it says.
pub(super) fn warning(item: &Item) -> Option<String> {
    let is_plain = item.name() == "ws-peer" && !url(item).ok()?.is_secure();
    (is_plain && item.has("tls")).then(|| {
        let (address, origin) = (item.text("address"), &item.origin);
        format!("tls of ws-peer {address} has no effect: only wss:// is encrypted ({origin})")
    })
}

fn listener(item: &Item, network: &str, transport: ListenerTransport) -> Result<BackendKind> {
    let port = item.int("port");
    let port =
        u16::try_from(port).map_err(|_| ConfigError::new(format!("listen {network}: address {port}: invalid port")))?;
    let host = item.text("bindaddr");
    Ok(BackendKind::Listener {
        bind: format!("{host}:{port}"),
        transport,
    })
}

fn peer(item: &Item, transport: PeerTransport) -> BackendKind {
    BackendKind::Peer {
        address: item.text("address").into(),
        redial: item.bool("redial"),
        transport,
    }
}

fn url(item: &Item) -> Result<Url> {
    let address = item.text("address");
    Url::parse(address).map_err(|error| ConfigError::new(format!("address {address} is not a valid URL: {error}")))
}

fn extra_header(item: &Item) -> Result<Option<(String, String)>> {
    let text = item.text("extraheader");
    if text.is_empty() {
        return Ok(None);
    }
    let (name, value) = text
        .split_once(':')
        .ok_or_else(|| ConfigError::new("extra header must be in the form key:value"))?;
    Ok(Some((name.into(), value.trim().into())))
}

fn links(item: &Item) -> Links {
    let ids = |names: &[String]| names.iter().map(|name| NodeId::new(name)).collect();
    let costs = item.costs("nodecost").into_iter().flatten();
    Links {
        cost: item.float("cost"),
        node_costs: costs.map(|(node, cost)| (NodeId::new(node), *cost)).collect(),
        allowed_peers: item.texts("allowedpeers").map(ids),
    }
}
