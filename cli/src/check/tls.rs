//! TLS configs: whether they can be used, by whom they are named, and what peers will think of their certificates.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use jiff::Timestamp;
use receptor_core::config::{BackendKind, ListenerTransport, PeerTransport, Service};
use receptor_core::tls::DEFAULT_CLIENT;
use receptor_host::tls_files::{TlsClient, TlsFiles, TlsServer};
use rustls_pki_types::UnixTime;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::Finding;
use crate::config::Config;
use crate::expiry;

/// The name of a config, and what it is needed for.
struct Used<'a> {
    by: String,
    name: &'a str,
    is_server: bool,
}

pub(super) fn check(config: &Config, now: Timestamp, findings: &mut Vec<Finding>) {
    let tls = &config.tls;
    for server in &tls.servers {
        let alone = TlsFiles {
            servers: vec![server.clone()],
            ..TlsFiles::default()
        };
        one(config, &alone, &format!("tls-server {}", server.name), findings);
        chain(&Own::of_server(server), now, findings);
    }
    for client in &tls.clients {
        let alone = TlsFiles {
            clients: vec![client.clone()],
            ..TlsFiles::default()
        };
        one(config, &alone, &format!("tls-client {}", client.name), findings);
        if !client.cert.is_empty() {
            chain(&Own::of_client(client), now, findings);
        }
    }
    findings.extend(expiry::look(tls, now));
    for used in uses(config) {
        let known = if used.is_server {
            tls.servers.iter().any(|server| server.name == used.name)
        } else {
            used.name == DEFAULT_CLIENT || tls.clients.iter().any(|client| client.name == used.name)
        };
        if !known {
            findings.push(Finding::error(used.by, format!("unknown TLS config {}", used.name)));
        }
    }
}

fn one(config: &Config, alone: &TlsFiles, subject: &str, findings: &mut Vec<Finding>) {
    match alone.load(&config.node.id) {
        Ok(configs) => {
            findings.push(Finding::ok(subject, "certificate, key and name fit"));
            let warnings = configs.warnings().iter();
            findings.extend(warnings.map(|text| Finding::warning(subject, text)));
        }
        Err(error) => findings.push(Finding::error(subject, error)),
    }
    let keys = alone.servers.iter().map(|server| &server.key);
    let keys = keys.chain(alone.clients.iter().map(|client| &client.key));
    for key in keys.filter(|key| !key.is_empty()) {
        let mode = fs::metadata(key).map_or(0, |known| known.permissions().mode() & 0o777);
        if mode & 0o007 != 0 || mode & 0o020 != 0 {
            let text = format!("others may read or change {key} (mode {mode:04o}); 0600 is safe");
            findings.push(Finding::warning(subject, text));
        }
    }
}

/// A certificate of ours, and the authorities that this config trusts for the other side: most often the same.
struct Own<'a> {
    subject: String,
    cert: &'a str,
    authorities: &'a str,
    usage: KeyUsage,
}

impl<'a> Own<'a> {
    fn of_server(server: &'a TlsServer) -> Self {
        Self {
            subject: format!("tls-server {}", server.name),
            cert: &server.cert,
            authorities: &server.client_cas,
            usage: KeyUsage::server_auth(),
        }
    }

    fn of_client(client: &'a TlsClient) -> Self {
        Self {
            subject: format!("tls-client {}", client.name),
            cert: &client.cert,
            authorities: &client.root_cas,
            usage: KeyUsage::client_auth(),
        }
    }
}

/// Whether peers that trust the same authorities as this config would take its certificate. If they trust others they may,
/// so this is a warning.
fn chain(own: &Own<'_>, now: Timestamp, findings: &mut Vec<Finding>) {
    if own.authorities.is_empty() {
        return;
    }
    let (Ok(certs), Ok(authorities)) = (expiry::certificates(own.cert), expiry::certificates(own.authorities)) else {
        // Said already.
        return;
    };
    let authorities: Vec<_> = authorities.into_iter().map(Into::into).collect();
    let anchors: Vec<_> = authorities
        .iter()
        .filter_map(|authority| anchor_from_trusted_cert(authority).ok())
        .collect();
    let mut certs = certs.into_iter().map(Into::into);
    let Some(leaf) = certs.next() else { return };
    let intermediates: Vec<_> = certs.collect();
    let Ok(leaf) = EndEntityCert::try_from(&leaf) else {
        return;
    };
    // Its validity is looked at elsewhere.
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let verified = leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        &intermediates,
        at,
        own.usage,
        None,
        None,
    );
    match verified.map(drop) {
        Ok(()) => {
            let text = format!("{} is signed by {}", own.cert, own.authorities);
            findings.push(Finding::ok(&own.subject, text));
        }
        Err(webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. }) => {}
        Err(error) => {
            let text = format!(
                "peers that trust {} will not take {}: {error:?}",
                own.authorities, own.cert
            );
            findings.push(Finding::warning(&own.subject, text));
        }
    }
}

/// Whatever names a config: who does, which one, and whether it is one of a server.
fn uses(config: &Config) -> Vec<Used<'_>> {
    let mut uses = Vec::new();
    for backend in &config.backends {
        match &backend.kind {
            BackendKind::Listener {
                transport: ListenerTransport::Tcp { tls } | ListenerTransport::WebSocket { tls, .. },
                bind,
            } => uses.extend(Used::server("listener", bind, tls)),
            BackendKind::Peer {
                transport: PeerTransport::Tcp { tls } | PeerTransport::WebSocket { tls, .. },
                address,
                ..
            } => uses.extend(Used::client("peer", address, tls)),
            _ => {}
        }
    }
    for control in &config.control_services {
        let name = control.service.map(|name| name.to_string()).unwrap_or_default();
        uses.extend(Used::server("control-service", &name, &control.tls));
        if let Some(tcp) = &control.tcp {
            uses.extend(Used::server("control-service", &tcp.bind, &tcp.tls));
        }
    }
    for service in &config.services {
        match service {
            Service::TcpServer {
                bind,
                tls_server,
                tls_client,
                ..
            } => {
                uses.extend(Used::server("tcp-server", bind, tls_server));
                uses.extend(Used::client("tcp-server", bind, tls_client));
            }
            Service::TcpClient {
                address,
                tls_server,
                tls_client,
                ..
            } => {
                uses.extend(Used::server("tcp-client", address, tls_server));
                uses.extend(Used::client("tcp-client", address, tls_client));
            }
            Service::UnixSocketServer { socket, tls, .. } => {
                uses.extend(Used::client("unix-socket-server", &socket.path, tls));
            }
            Service::UnixSocketClient { path, tls, .. } => {
                uses.extend(Used::server("unix-socket-client", path, tls));
            }
            _ => {}
        }
    }
    uses
}

impl<'a> Used<'a> {
    fn server(what: &str, which: &str, name: &'a Option<String>) -> Option<Self> {
        Self::new(what, which, name, true)
    }

    fn client(what: &str, which: &str, name: &'a Option<String>) -> Option<Self> {
        Self::new(what, which, name, false)
    }

    fn new(what: &str, which: &str, name: &'a Option<String>, is_server: bool) -> Option<Self> {
        Some(Self {
            by: format!("{what} {which}"),
            name: name.as_deref()?,
            is_server,
        })
    }
}
