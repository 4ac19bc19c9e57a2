//! Whoever is dialled: does somebody answer there, in the right protocol, and do both ends take the other's certificate.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use receptor_core::config::{BackendKind, PeerTransport, Service};
use receptor_core::link::transport::{End, Transport, TransportError, Url, proxy_for};
use receptor_core::tls::{DEFAULT_CLIENT, node_ids};
use receptor_core::wire::classic::RoutingUpdate;
use receptor_host::adapter::{Dialing, PeerAt, Tls};
use receptor_host::error_text::os_text;
use receptor_host::tcp;
use receptor_host::tls_files::TlsFiles;

use super::{Finding, Severity};
use crate::config::{Backend, Config};

/// How long a peer may take to answer, all of it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Peers that are tried at one time.
const AT_ONCE: usize = 32;

/// Names are looked up, connections and handshakes made as the node would make them. A peer that does not answer is no error:
/// it may not be there yet, and is dialled again and again. One that answers and cannot be taken is.
pub(super) fn peers(config: &Config, findings: &mut Vec<Finding>) {
    let backends = config.backends.iter().filter_map(|backend| of_backend(config, backend));
    let services = config.services.iter().filter_map(of_service);
    let targets: Vec<Target<'_>> = backends.chain(services).collect();
    for group in targets.chunks(AT_ONCE) {
        let tried: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = group
                .iter()
                .map(|target| scope.spawn(|| target.try_it(config)))
                .collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        findings.extend(tried.into_iter().flatten());
    }
}

struct Target<'a> {
    subject: String,
    how: How,
    /// The backend, if it is a node that should be there.
    backend: Option<&'a Backend>,
}

enum How {
    /// There is no connection, so nobody can be asked.
    Udp(String),
    Dial(PeerAt),
    /// The node could not dial it either.
    Impossible(String),
}

fn of_backend<'a>(config: &Config, backend: &'a Backend) -> Option<Target<'a>> {
    let BackendKind::Peer { address, transport, .. } = &backend.kind else {
        return None;
    };
    let dial = |proxy| {
        How::Dial(PeerAt {
            address: address.clone(),
            transport: transport.clone(),
            proxy,
        })
    };
    let (what, how) = match transport {
        PeerTransport::Udp => ("udp-peer", How::Udp(address.clone())),
        PeerTransport::WebSocket { .. } => {
            // The configuration has been checked.
            let url = Url::parse(address).ok()?;
            let proxy = proxy_for(&config.proxies, &url);
            ("ws-peer", proxy.map_or_else(How::Impossible, dial))
        }
        _ => ("tcp-peer", dial(None)),
    };
    Some(Target {
        subject: format!("{what} {address}"),
        how,
        backend: Some(backend),
    })
}

fn of_service<'a>(service: &Service) -> Option<Target<'a>> {
    let Service::TcpClient {
        address, tls_client, ..
    } = service
    else {
        return None;
    };
    Some(Target {
        subject: format!("tcp-client {address}"),
        how: How::Dial(PeerAt {
            address: address.clone(),
            transport: PeerTransport::Tcp {
                tls: tls_client.clone(),
            },
            proxy: None,
        }),
        backend: None,
    })
}

/// What there is to say of a peer, and how bad it is.
type Verdict = (Severity, String);

const fn warning(text: String) -> Verdict {
    (Severity::Warning, text)
}

const fn error(text: String) -> Verdict {
    (Severity::Error, text)
}

impl Target<'_> {
    fn try_it(&self, config: &Config) -> Finding {
        let (severity, text) = match &self.how {
            How::Udp(address) => match tcp::resolve(address) {
                Ok(addresses) => (Severity::Ok, format!("is {}; nobody was asked", addresses[0])),
                Err(text) => warning(text),
            },
            How::Impossible(text) => error(text.clone()),
            How::Dial(peer) => self.dial(peer, config).unwrap_or_else(|verdict| verdict),
        };
        let subject = &self.subject;
        match severity {
            Severity::Ok => Finding::ok(subject, text),
            Severity::Warning => Finding::warning(subject, text),
            Severity::Error => Finding::error(subject, text),
        }
    }

    fn dial(&self, peer: &PeerAt, config: &Config) -> Result<Verdict, Verdict> {
        let until = Instant::now() + PATIENCE;
        let name = match &peer.transport {
            PeerTransport::Tcp { tls } | PeerTransport::WebSocket { tls, .. } => tls.as_deref(),
            _ => None,
        };
        let clients = config.tls.clients.iter().filter(|client| Some(&*client.name) == name);
        let files = TlsFiles {
            servers: Vec::new(),
            clients: clients.cloned().collect(),
            has_default_client: name.is_none_or(|name| name == DEFAULT_CLIENT) && config.tls.has_default_client,
        };
        // Why is said where its config is looked at.
        let unusable = |_| warning("not tried: its TLS config cannot be used".to_owned());
        let tls = Tls::new(files.load(&config.node.id).map_err(unusable)?);
        let dialing = Dialing::new(peer, &tls).map_err(error)?;
        let (stream, place) = connect(&dialing.connect, until).map_err(warning)?;
        let proxied = peer.proxy.is_some();
        let place = if proxied { format!("proxy {place}") } else { place };
        let has_layers = dialing.transport.is_some();
        let mut transport = dialing.transport.unwrap_or_else(Transport::lengths);
        if self.backend.is_none() && !has_layers {
            return Ok((Severity::Ok, format!("{place} accepts connections")));
        }
        let said = talk(&stream, &mut transport, self.backend.is_some(), until);
        let said = said.map_err(|(severity, text)| (severity, format!("{place}: {text}")))?;
        let names = transport.peer_certificate().filter(|_| dialing.is_verified);
        let names = names.map(|certificate| node_ids(certificate).unwrap_or_default());
        match self.backend {
            Some(backend) => judge(config, backend, &place, said.as_deref(), names.as_deref()),
            None => Ok((Severity::Ok, format!("{place} accepts connections with TLS"))),
        }
    }
}

/// Tries all addresses in turn; the one that answered comes with the connection.
fn connect(address: &str, until: Instant) -> Result<(TcpStream, String), String> {
    let addresses = tcp::resolve(address)?;
    let mut last = String::new();
    for address in &addresses {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(address, left) {
            Ok(stream) => return Ok((stream, address.to_string())),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                last = format!("{address} does not answer within {} s", PATIENCE.as_secs());
            }
            Err(error) => last = format!("{address}: {}", os_text(&error)),
        }
    }
    Err(last)
}

/// Does the handshakes, and gives the first frame if one is wanted and comes in time.
fn talk(
    mut stream: &TcpStream,
    transport: &mut Transport,
    wants_frame: bool,
    until: Instant,
) -> Result<Option<Vec<u8>>, Verdict> {
    let broken = |error: io::Error| warning(os_text(&error));
    let mut buffer = vec![0; 32 << 10];
    loop {
        while let Some(bytes) = transport.poll_transmit() {
            stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
            stream.write_all(&bytes).map_err(broken)?;
        }
        if let Some(frame) = transport.poll_frame() {
            return Ok(Some(frame.to_vec()));
        }
        let is_done = !transport.is_handshaking();
        match transport.end() {
            Some(End::Failed(refused @ TransportError::Tls(_))) => return Err(error(refused.to_string())),
            Some(End::Closed) if is_done => return Err(warning("accepts connections, and closes them".to_owned())),
            Some(end) => return Err(warning(end.to_string())),
            None => {}
        }
        if is_done && !wants_frame {
            return Ok(None);
        }
        let left = until.saturating_duration_since(Instant::now());
        let late = match is_done {
            true => Ok(None),
            false => Err(warning(format!("handshake not done after {} s", PATIENCE.as_secs()))),
        };
        if left.is_zero() {
            return late;
        }
        stream.set_read_timeout(Some(left)).map_err(broken)?;
        match stream.read(&mut buffer) {
            Ok(0) => transport.handle_eof(),
            Ok(count) => transport.handle_bytes(&buffer[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return late,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken(error)),
        }
    }
}

/// What a node would make of a peer that said this first, and has these nodes in its certificate.
fn judge(
    config: &Config,
    backend: &Backend,
    place: &str,
    said: Option<&[u8]>,
    names: Option<&[String]>,
) -> Result<Verdict, Verdict> {
    let Some(said) = said else {
        let text = format!("{place} accepts connections, but no node has introduced itself there in time");
        return Err(warning(text));
    };
    let update = RoutingUpdate::parse(said);
    let update = update.map_err(|_| warning(format!("{place} accepts connections, but is no node")))?;
    let node = update.forwarding_node;
    let known = format!("{place} is node {node}");
    let is_allowed = |node: &str| match &backend.links.allowed_peers {
        Some(allowed) => allowed.iter().any(|allowed| allowed.as_str() == node),
        None => true,
    };
    if node == config.node.id.as_str() {
        return Err(error(format!("{known}, as this one is called")));
    }
    if !is_allowed(&node) {
        return Err(error(format!("{known}, which is not among its allowedpeers")));
    }
    match names {
        None => Ok((Severity::Ok, known)),
        Some([]) if config.node.strict => Err(error(format!("{known}; its certificate names no node"))),
        Some([]) => Err(warning(format!(
            "{known}; its certificate names no node, so that any node could use it"
        ))),
        Some(names) if names.contains(&node) => Ok((Severity::Ok, format!("{known}, as its certificate says"))),
        Some(names) => {
            let names = names.join(", ");
            Err(error(format!("{known}; its certificate is one of {names}")))
        }
    }
}
