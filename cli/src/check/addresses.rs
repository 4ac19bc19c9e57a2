//! Addresses: can ours be listened on.

use std::net::UdpSocket;
use std::path::Path;

use receptor_core::config::{BackendKind, ListenerTransport, Service};
use receptor_host::error_text::os_text;
use receptor_host::{socket_file, tcp};

use super::Finding;
use crate::config::Config;

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
