//! Links over every transport, with TLS and through proxies.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use receptor_core::config::{ListenerTransport, PeerTransport, ProxySettings};

use super::links::carries;
use crate::certificates::Authority;
use crate::live::{free_port, http_proxy, until};
use crate::suite::adapter::{Event, Events};
use crate::suite::{Bench, PATIENCE, Setup, until_reachable, until_unreachable};

/// A transport as the listener and the peer have it.
struct Kind {
    listener: ListenerTransport,
    peer: PeerTransport,
    address: String,
}

fn kinds(port: u16) -> Vec<Kind> {
    let web = |listener, peer| {
        let scheme = if listener { "wss" } else { "ws" };
        let tls = |name: &str| listener.then(|| name.to_owned());
        Kind {
            listener: ListenerTransport::WebSocket {
                path: "/mesh".into(),
                tls: tls("mutual"),
            },
            peer: PeerTransport::WebSocket {
                extra_header: peer,
                tls: tls("client"),
            },
            address: format!("{scheme}://localhost:{port}/mesh"),
        }
    };
    vec![
        Kind {
            listener: ListenerTransport::Udp,
            peer: PeerTransport::Udp,
            address: format!("localhost:{port}"),
        },
        Kind {
            listener: tls("server"),
            peer: tls_peer("client"),
            address: format!("localhost:{port}"),
        },
        Kind {
            listener: tls("mutual"),
            peer: tls_peer("client"),
            address: format!("127.0.0.1:{port}"),
        },
        web(false, Some(("X-Mesh".into(), "yes".into()))),
        web(true, None),
    ]
}

fn tls(name: &str) -> ListenerTransport {
    ListenerTransport::Tcp { tls: Some(name.into()) }
}

fn tls_peer(name: &str) -> PeerTransport {
    PeerTransport::Tcp { tls: Some(name.into()) }
}

/// Streams of some length, both ways at once, whatever is below.
pub fn every_transport_carries_streams(bench: &Bench) {
    let authority = Authority::default();
    let port = free_port();
    for kind in kinds(port) {
        let near = Setup::new("near").tls(authority.node("near"));
        let near = bench.near(&near.listen_over(port, kind.listener));
        let far = Setup::new("far").tls(authority.node("far"));
        let far = bench.far(&far.peer_over(kind.address, kind.peer));
        until_reachable(&*near, "far");
        until_reachable(&*far, "near");
        carries(&*near, &*far, 1 << 20);
        // In the order in which they would also go by themselves.
        far.shutdown();
        near.shutdown();
    }
}

/// A listener that was away is dialled again.
pub fn every_transport_comes_back(bench: &Bench) {
    let authority = Authority::default();
    let port = free_port();
    for kind in kinds(port) {
        let setup = Setup::new("near").tls(authority.node("near"));
        let listening = setup.listen_over(port, kind.listener);
        let near = bench.near(&listening);
        let far = Setup::new("far").tls(authority.node("far"));
        let far = bench.far(&far.peer_over(kind.address, kind.peer));
        until_reachable(&*far, "near");
        near.shutdown();
        drop(near);
        until_unreachable(&*far, "near");
        let near = bench.near(&listening);
        until_reachable(&*far, "near");
        carries(&*near, &*far, 20_000);
        far.shutdown();
        near.shutdown();
    }
}

/// Waits for a line of the log.
fn logged(events: &mut dyn Events, words: &str) {
    loop {
        match events.next().unwrap().expect("the node runs") {
            Event::Log(line) if line.contains(words) => return,
            _ => {}
        }
    }
}

/// A certificate is good for the nodes it names, at either end of a link.
pub fn a_certificate_of_another_node_is_refused(bench: &Bench) {
    let authority = Authority::default();
    let port = free_port();
    let other = authority.configs("far", &authority.issue(&["other"]));
    let near = bench.near(
        &Setup::new("near")
            .tls(authority.node("near"))
            .listen_over(port, tls("mutual")),
    );
    let mut events = near.events();
    let peer = |client: &str| Setup::new("far").peer_over(format!("127.0.0.1:{port}"), tls_peer(client));
    let far = bench.far(&peer("client").tls(other.clone()));
    logged(
        &mut *events,
        "it says that it is node far, but its certificate is valid for other",
    );
    assert!(
        near.status().unwrap()["Connections"]
            .as_array()
            .is_none_or(Vec::is_empty)
    );
    far.shutdown();
    near.shutdown();

    // The listener's, as the dialler sees it, unless that takes any.
    let near = Setup::new("near").tls(other);
    let near = bench.near(&near.listen_over(port, tls("server")));
    let far = bench.far(&peer("client").tls(authority.node("far")));
    let mut events = far.events();
    logged(
        &mut *events,
        "it says that it is node near, but its certificate is valid for other",
    );
    far.shutdown();
    let far = bench.far(&peer("anyone").tls(authority.node("far")));
    until_reachable(&*far, "near");

    // One without names is taken, with a warning, but not by the strict.
    far.shutdown();
    near.shutdown();
    let nameless = authority.configs("near", &authority.issue(&[]));
    let near = Setup::new("near").tls(nameless);
    let near = bench.near(&near.listen_over(port, tls("server")));
    let far = bench.far(&peer("client").tls(authority.node("far")));
    let mut events = far.events();
    until_reachable(&*far, "near");
    logged(&mut *events, "names no node");
    far.shutdown();
    let mut strict = peer("client").tls(authority.node("far"));
    strict.config.strict = true;
    let far = bench.far(&strict);
    let mut events = far.events();
    logged(&mut *events, "but its certificate names no node");
    drop(near);
}

/// Those who connect and say nothing have no place for ever, and delay nobody.
pub fn handshakes_that_go_nowhere_hold_nobody_up(bench: &Bench) {
    const PLACES: usize = 4;
    let authority = Authority::default();
    for kind in kinds(free_port()).into_iter().skip(1) {
        let port = free_port();
        let mut near = Setup::new("near").tls(authority.node("near"));
        near.config.limits.handshakes = PLACES;
        let near = bench.near(&near.listen_over(port, kind.listener));
        let silent: Vec<_> = (0..3 * PLACES)
            .map(|_| TcpStream::connect(("127.0.0.1", port)).expect("a backlog"))
            .collect();
        let address = kind.address.replace(
            &kind.address[kind.address.rfind(':').expect("a port")..],
            &format!(":{port}{}", if kind.address.contains("//") { "/mesh" } else { "" }),
        );
        let far = Setup::new("far").tls(authority.node("far"));
        let far = bench.far(&far.peer_over(address, kind.peer));
        until_reachable(&*far, "near");
        // The first ones had to make room.
        for mut stream in silent.iter().take(PLACES) {
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            let read = stream.read(&mut [0; 64]);
            assert!(
                read.is_ok() || matches!(&read, Err(error) if error.kind() == ErrorKind::ConnectionReset),
                "{read:?}"
            );
        }
        far.shutdown();
        near.shutdown();
    }
}

/// Empty datagrams, nonsense, and many sources of it.
pub fn datagrams_that_mean_nothing_harm_nobody(bench: &Bench) {
    let port = free_port();
    let mut near = Setup::new("near");
    near.config.limits.links = 16;
    near.config.limits.unaccepted_links = 4;
    let near = bench.near(&near.listen_over(port, ListenerTransport::Udp));
    let to = ("127.0.0.1", port);
    let sources: Vec<_> = (0..64)
        .map(|_| UdpSocket::bind("127.0.0.1:0").expect("a port"))
        .collect();
    for (index, socket) in sources.iter().enumerate() {
        for datagram in [&b""[..], b"x", &[0; 36], &[1; 200], b"\x01{}", &[index as u8; 60_000]] {
            socket.send_to(datagram, to).expect("loopback takes it");
        }
    }
    let far = bench.far(&Setup::new("far").peer_over(format!("127.0.0.1:{port}"), PeerTransport::Udp));
    until("far is reachable beside the noise", PATIENCE, || {
        for socket in &sources {
            let _ = socket.send_to(b"noise", to);
        }
        let answer = far.ping("near", Duration::from_secs(1));
        answer.map(drop).map_err(|error| format!("{error:?}"))
    });
    carries(&*near, &*far, 100_000);
}

/// With names that only the proxy knows, and credentials.
pub fn through_an_http_proxy(bench: &Bench) {
    let authority = Authority::default();
    let port = free_port();
    let (proxy, questions) = http_proxy(port);
    for (scheme, address, tls) in [
        ("ws", "mesh.invalid:80", None),
        ("wss", "localhost.:443", Some("anyone")),
    ] {
        let near = Setup::new("near").tls(authority.node("near"));
        let near = bench.near(&near.listen_over(
            port,
            ListenerTransport::WebSocket {
                path: "/".into(),
                tls: tls.map(|_| "server".into()),
            },
        ));
        let mut far = Setup::new("far").tls(authority.node("far"));
        far.config.proxies = ProxySettings {
            http: format!("http://me:secret@127.0.0.1:{proxy}"),
            https: format!("127.0.0.1:{proxy}"),
            exceptions: "other.invalid".into(),
        };
        let host = address.split(':').next().expect("a host");
        let far = bench.far(&far.peer_over(
            format!("{scheme}://{host}/"),
            PeerTransport::WebSocket {
                extra_header: None,
                tls: tls.map(Into::into),
            },
        ));
        until_reachable(&*far, "near");
        let asked = questions.recv_timeout(PATIENCE).expect("the proxy was asked");
        assert_eq!(asked[0], format!("CONNECT {address} HTTP/1.1"));
        let has_credentials = asked
            .iter()
            .any(|line| line == "Proxy-Authorization: Basic bWU6c2VjcmV0");
        assert_eq!(has_credentials, scheme == "ws", "{asked:?}");
        carries(&*near, &*far, 50_000);
        far.shutdown();
        near.shutdown();
    }
}

/// Between a dialler and its listener, until it is told to carry nothing more and to let nobody know.
struct Wire {
    port: u16,
    is_dead: Arc<AtomicBool>,
}

impl Wire {
    fn to(listener: u16) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = socket.local_addr().expect("a bound socket").port();
        let is_dead = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_dead);
        thread::spawn(move || {
            let (client, _) = socket.accept().expect("somebody connects");
            let server = TcpStream::connect(("127.0.0.1", listener)).expect("the listener");
            let both = [(&client, &server), (&server, &client)];
            thread::scope(|scope| {
                both.map(|(from, to)| scope.spawn(|| carry(from, to, &ends)))
                    .map(|_| ())
            });
            // Both sockets stay open as long as anybody asks for them.
            while Arc::strong_count(&ends) > 1 {
                thread::sleep(Duration::from_millis(10));
            }
        });
        Self { port, is_dead }
    }

    fn dies(&self) {
        self.is_dead.store(true, Ordering::Relaxed);
    }
}

fn carry(mut from: &TcpStream, mut to: &TcpStream, is_dead: &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    from.set_read_timeout(Some(Duration::from_millis(10)))
        .expect("a socket");
    while !is_dead.load(Ordering::Relaxed) {
        match from.read(&mut buffer) {
            Ok(0) => return,
            // What came while it died is lost.
            Ok(_) if is_dead.load(Ordering::Relaxed) => return,
            Ok(count) if to.write_all(&buffer[..count]).is_err() => return,
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
            _ => {}
        }
    }
}

/// A peer whose connection has died without a word is taken in again: with a certificate at once, else when the old
/// connection has not answered for two seconds.
pub fn a_dead_session_gives_way_to_a_newer_one(bench: &Bench) {
    let authority = Authority::default();
    for (listener, peer) in [
        (tls("mutual"), tls_peer("client")),
        (ListenerTransport::Tcp { tls: None }, PeerTransport::Tcp { tls: None }),
    ] {
        let port = free_port();
        let near = bench.near(
            &Setup::new("near")
                .tls(authority.node("near"))
                .listen_over(port, listener),
        );
        let mut events = near.events();
        let wire = Wire::to(port);
        let far = |port: u16| {
            let far = Setup::new("far").tls(authority.node("far"));
            bench.far(&far.peer_over(format!("127.0.0.1:{port}"), peer.clone()))
        };
        let old = far(wire.port);
        until_reachable(&*near, "far");
        until_reachable(&*old, "near");
        wire.dies();
        old.shutdown();
        let newer = far(port);
        logged(&mut *events, "closed: a newer connection of far has taken its place");
        until_reachable(&*near, "far");
        carries(&*near, &*newer, 20_000);
        newer.shutdown();
        near.shutdown();
    }
}
