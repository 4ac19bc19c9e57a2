//! Backends: what makes links (`config.md` §6.8, §7).

use receptor_core::config::{BackendKind, ListenerTransport, PeerTransport};
use receptor_core::id::NodeId;
use receptor_core::link::transport::{Url, check_header};
use receptor_core::tls::DEFAULT_CLIENT;
use receptor_host::tcp::split_host_port;

use super::error::ConfigError;
use super::item::Item;
use super::typed::{Backend, Config, Links};

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

/// Whether a backend is dialled with the client config that nobody need define: a peer that names it, or one at `wss://` that
/// names none. Then the system's roots decide.
pub(super) fn wants_default_client(backend: &Backend) -> bool {
    match &backend.kind {
        BackendKind::Peer {
            transport: PeerTransport::Tcp { tls: Some(name) } | PeerTransport::WebSocket { tls: Some(name), .. },
            ..
        } => name == DEFAULT_CLIENT,
        BackendKind::Peer {
            address,
            transport: PeerTransport::WebSocket { tls: None, .. },
            ..
        } => Url::parse(address).is_ok_and(|url| url.is_secure()),
        _ => false,
    }
}

/// Every TLS config that a backend names exists.
///
/// # Errors
/// The classic text.
pub(super) fn check_tls(config: &Config) -> Result<()> {
    for Backend { kind, .. } in &config.backends {
        let (name, is_known) = match kind {
            BackendKind::Listener {
                transport:
                    ListenerTransport::Tcp { tls: Some(name) } | ListenerTransport::WebSocket { tls: Some(name), .. },
                ..
            } => (name, config.tls.servers.iter().any(|server| server.name == *name)),
            BackendKind::Peer {
                transport: PeerTransport::Tcp { tls: Some(name) } | PeerTransport::WebSocket { tls: Some(name), .. },
                ..
            } => {
                let is_default = name == DEFAULT_CLIENT;
                (
                    name,
                    is_default || config.tls.clients.iter().any(|client| client.name == *name),
                )
            }
            _ => continue,
        };
        if !is_known {
            return Err(ConfigError::new(format!("unknown TLS config {name}")));
        }
    }
    Ok(())
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
    let (name, value) = (name.trim(), value.trim());
    check_header(name, value).map_err(|error| ConfigError::new(error.to_string()))?;
    Ok(Some((name.into(), value.into())))
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

#[cfg(test)]
mod tests {
    use super::super::tests::{config, error};
    use super::*;

    fn kinds(args: &str, file: &str) -> Vec<BackendKind> {
        let backends = config(args, file).backends;
        backends.into_iter().map(|backend| backend.kind).collect()
    }

    fn expected() -> Vec<BackendKind> {
        let listener = |bind: &str, transport| BackendKind::Listener {
            bind: bind.into(),
            transport,
        };
        let peer = |address: &str, redial, transport| BackendKind::Peer {
            address: address.into(),
            redial,
            transport,
        };
        let tls = || Some("s".to_owned());
        vec![
            listener("0.0.0.0:1", ListenerTransport::Tcp { tls: tls() }),
            listener("[::1]:2", ListenerTransport::Udp),
            listener(
                "0.0.0.0:3",
                ListenerTransport::WebSocket {
                    path: "/".into(),
                    tls: None,
                },
            ),
            listener(
                "0.0.0.0:4",
                ListenerTransport::WebSocket {
                    path: "/mesh".into(),
                    tls: tls(),
                },
            ),
            peer("hub:1", true, PeerTransport::Tcp { tls: Some("c".into()) }),
            peer("hub:2", false, PeerTransport::Udp),
            peer(
                "ws://hub/mesh",
                true,
                PeerTransport::WebSocket {
                    extra_header: Some(("X-A".into(), "b:c".into())),
                    tls: None,
                },
            ),
            peer(
                "wss://hub",
                true,
                PeerTransport::WebSocket {
                    extra_header: None,
                    tls: Some("c".into()),
                },
            ),
        ]
    }

    #[test]
    fn both_forms_mean_the_same() {
        let line = "--tls-server name=s cert=a key=b --tls-client name=c cert= key= \
            --tcp-listener 1 tls=s --udp-listener port=2 bindaddr=[::1] --ws-listener 3 --ws-listener port=4 path=/mesh tls=s \
            --tcp-peer hub:1 tls=c --udp-peer hub:2 redial=false --ws-peer ws://hub/mesh extraheader=X-A:b:c \
            --ws-peer address=wss://hub tls=c";
        assert_eq!(kinds(line, ""), expected());
        let file = "- tls-server: {name: s, cert: a, key: b}\n- tls-client: {name: c, cert: '', key: ''}\n\
            - tcp-listener: {port: 1, tls: s}\n- udp-listener: {port: 2, bindaddr: '[::1]'}\n- ws-listener: {port: 3}\n\
            - ws-listener: {port: 4, path: /mesh, tls: s}\n- tcp-peer: {address: 'hub:1', tls: c}\n\
            - udp-peer: {address: 'hub:2', redial: false}\n\
            - ws-peer: {address: 'ws://hub/mesh', extraheader: 'X-A: b:c '}\n- ws-peer: {address: 'wss://hub', tls: c}\n";
        assert_eq!(kinds("-c f", file), expected());
    }

    #[test]
    fn mistakes_have_the_classic_texts() {
        for (args, text) in [
            ("--udp-listener 65536", "listen udp: address 65536: invalid port"),
            ("--ws-listener 65536", "listen tcp: address 65536: invalid port"),
            ("--ws-listener port=1 path=mesh", "path mesh must begin with /"),
            ("--udp-peer hub", "address hub: missing port in address"),
            (
                "--ws-peer hub:1",
                "address hub:1 is not a valid URL: scheme must be ws or wss",
            ),
            (
                "--ws-peer ws://me@hub",
                "address ws://me@hub is not a valid URL: user info is not allowed",
            ),
            (
                "--ws-peer ws://hub extraheader=x",
                "extra header must be in the form key:value",
            ),
            (
                "--ws-peer ws://hub extraheader=Host:x",
                "header \"Host\" cannot be sent",
            ),
            ("--tcp-listener 1 tls=a", "unknown TLS config a"),
            (
                "--tls-client name=a cert= key= --ws-listener port=1 tls=a",
                "unknown TLS config a",
            ),
            (
                "--tls-server name=a cert=b key=c --tcp-peer hub:1 tls=a",
                "unknown TLS config a",
            ),
            ("--ws-peer wss://hub tls=a", "unknown TLS config a"),
        ] {
            assert_eq!(error(args, ""), text, "{args}");
        }
    }

    #[test]
    fn a_secure_peer_without_a_config_trusts_whom_the_system_trusts() {
        assert!(config("--ws-peer wss://hub", "").tls.has_default_client);
        assert!(!config("--ws-peer ws://hub", "").tls.has_default_client);
        assert!(
            config("--tcp-peer address=hub:1 tls=default", "")
                .tls
                .has_default_client
        );
        let service = "--local-only --tcp-client service=x address=h:1 tlsclient=default";
        assert!(config(service, "").tls.has_default_client);
    }

    #[test]
    fn tls_that_has_no_effect_is_warned_about() {
        let config = config("--tls-client name=a cert= key= --ws-peer ws://hub tls=a", "");
        assert_eq!(
            config.warnings,
            ["tls of ws-peer ws://hub has no effect: only wss:// is encrypted (command line)"]
        );
    }
}
