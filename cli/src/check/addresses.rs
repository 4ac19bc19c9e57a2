//! Addresses: can ours be listened on, do those of others answer.

use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use receptor_core::config::{BackendKind, ListenerTransport, PeerTransport, Service};
use receptor_core::link::transport::Url;
use receptor_host::error_text::os_text;
use receptor_host::{socket_file, tcp};

use super::Finding;
use crate::config::Config;

/// How long a peer may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Peers that are tried at one time.
const AT_ONCE: usize = 32;

/// Listeners of any kind.
pub(super) fn listeners(config: &Config, findings: &mut Vec<Finding>) {
    let mut sockets = Vec::new();
    for backend in &config.backends {
        if let BackendKind::Listener { bind, transport } = &backend.kind {
            sockets.push(match transport {
                ListenerTransport::Udp => ("udp-listener", bind, true),
                ListenerTransport::WebSocket { .. } => ("ws-listener", bind, false),
                _ => ("tcp-listener", bind, false),
            });
        }
    }
    for control in &config.control_services {
        sockets.extend(control.tcp.iter().map(|tcp| ("control-service", &tcp.bind, false)));
    }
    for service in &config.services {
        if let Service::TcpServer { bind, .. } = service {
            sockets.push(("tcp-server", bind, false));
        }
    }
    let is_running = is_running(config);
    for (index, &(what, bind, is_udp)) in sockets.iter().enumerate() {
        let subject = format!("{what} {bind}");
        let is_fixed = !bind.ends_with(":0");
        if is_fixed
            && sockets[..index]
                .iter()
                .any(|&(_, other, udp)| other == bind && udp == is_udp)
        {
            findings.push(Finding::error(subject, "another listener of this configuration has it"));
            continue;
        }
        let bound = if is_udp {
            listen_udp(bind)
        } else {
            tcp::listen(bind).map(drop)
        };
        findings.push(match bound {
            Ok(()) => Finding::ok(subject, "can be listened on"),
            Err(error) if is_running && error.contains("address already in use") => {
                Finding::ok(subject, "in use, as the node is running")
            }
            Err(error) => Finding::error(subject, error),
        });
    }
}

/// Whether a node answers on a control socket of this configuration.
fn is_running(config: &Config) -> bool {
    let mut sockets = config
        .control_services
        .iter()
        .filter_map(|control| control.socket.as_ref());
    sockets.any(|socket| socket_file::connect(Path::new(&socket.path)).is_ok())
}

fn listen_udp(bind: &str) -> Result<(), String> {
    let (host, port) = tcp::split_host_port(bind)?;
    let host = if host.is_empty() { "::" } else { host };
    let bound = UdpSocket::bind((host, port));
    bound
        .map(drop)
        .map_err(|error| format!("listen udp {bind}: bind: {}", os_text(&error)))
}

/// Whoever is dialled: names are looked up and, if that is possible without their protocol, connections made. A peer that
/// does not answer is no error: it may not be there yet, and is dialled again and again.
pub(super) fn peers(config: &Config, findings: &mut Vec<Finding>) {
    let mut targets = Vec::new();
    for backend in &config.backends {
        if let BackendKind::Peer { address, transport, .. } = &backend.kind {
            targets.push(match transport {
                PeerTransport::Udp => Target::new("udp-peer", address, true),
                PeerTransport::WebSocket { .. } => match Url::parse(address) {
                    Ok(url) if is_proxied(&url) => {
                        let text = "not tried: there is an HTTP proxy in the environment";
                        findings.push(Finding::ok(format!("ws-peer {address}"), text));
                        continue;
                    }
                    Ok(url) => Target::new("ws-peer", &url.address(), false),
                    // The configuration has been checked.
                    Err(_) => continue,
                },
                _ => Target::new("tcp-peer", address, false),
            });
        }
    }
    for service in &config.services {
        if let Service::TcpClient { address, .. } = service {
            targets.push(Target::new("tcp-client", address, false));
        }
    }
    for group in targets.chunks(AT_ONCE) {
        let tried: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = group.iter().map(|target| scope.spawn(|| target.try_it())).collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        findings.extend(tried.into_iter().flatten());
    }
}

fn is_proxied(url: &Url) -> bool {
    let names = if url.is_secure() {
        ["HTTPS_PROXY", "https_proxy"]
    } else {
        ["HTTP_PROXY", "http_proxy"]
    };
    names
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

struct Target {
    subject: String,
    address: String,
    is_udp: bool,
}

impl Target {
    fn new(what: &str, address: &str, is_udp: bool) -> Self {
        Self {
            subject: format!("{what} {address}"),
            address: address.into(),
            is_udp,
        }
    }

    fn try_it(&self) -> Finding {
        let addresses = match tcp::resolve(&self.address) {
            Ok(addresses) => addresses,
            Err(error) => return Finding::warning(&self.subject, error),
        };
        if self.is_udp {
            let text = format!("is {}; nobody was asked", addresses[0]);
            return Finding::ok(&self.subject, text);
        }
        let began = Instant::now();
        let mut last = String::new();
        for address in &addresses {
            let left = PATIENCE.saturating_sub(began.elapsed());
            if left.is_zero() {
                break;
            }
            match TcpStream::connect_timeout(address, left) {
                Ok(_) => return Finding::ok(&self.subject, format!("{address} accepts connections")),
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                    last = format!("{address} does not answer within {} s", PATIENCE.as_secs());
                }
                Err(error) => last = format!("{address}: {}", os_text(&error)),
            }
        }
        Finding::warning(&self.subject, last)
    }
}
