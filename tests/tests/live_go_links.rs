//! Our daemon and a Go node over every kind of link, each in either role.
//!
//! | link | run, with either end as the listener |
//! |---|---|
//! | UDP; WebSocket; TCP with TLS, with and without client certificates; WebSocket with TLS | routes, ping, a unit with 1 MiB of stdin and output each way, 1 MiB there and back through proxies; the listener killed and started again |
//! | TCP with TLS, ours listening | a Go node with another node's certificate, which Go would take, is refused |

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use receptor_tests::certificates::Authority;
use receptor_tests::live::{Builder, Node, PATIENCE, Scratch, free_port, go_node, until, wait_for_routes};

/// A Go node dials again after up to 20 s, and notices a silent link after 21.
const LIMIT: Duration = Duration::from_secs(180);

type Parameters = Vec<(&'static str, String)>;

/// One kind of link: an entity of the listener, and one of the peer.
struct Kind {
    name: &'static str,
    listener: (&'static str, Parameters),
    peer: (&'static str, Parameters),
}

fn kinds(port: u16) -> Vec<Kind> {
    let listener = |entity, more: &[(&'static str, &str)]| {
        let mut all = vec![("bindaddr", "127.0.0.1".to_owned()), ("port", port.to_string())];
        all.extend(more.iter().map(|&(key, value)| (key, value.to_owned())));
        (entity, all)
    };
    let peer = |entity, address: &str, more: &[(&'static str, &str)]| {
        let mut all = vec![("address", address.replace("PORT", &port.to_string()))];
        all.extend(more.iter().map(|&(key, value)| (key, value.to_owned())));
        (entity, all)
    };
    vec![
        Kind {
            name: "udp",
            listener: listener("udp-listener", &[]),
            peer: peer("udp-peer", "127.0.0.1:PORT", &[]),
        },
        Kind {
            name: "ws",
            listener: listener("ws-listener", &[("path", "/mesh")]),
            peer: peer("ws-peer", "ws://127.0.0.1:PORT/mesh", &[("extraheader", "X-A: b")]),
        },
        Kind {
            name: "tls",
            listener: listener("tcp-listener", &[("tls", "server")]),
            peer: peer("tcp-peer", "localhost:PORT", &[("tls", "client")]),
        },
        Kind {
            name: "mutual tls",
            listener: listener("tcp-listener", &[("tls", "mutual")]),
            peer: peer("tcp-peer", "127.0.0.1:PORT", &[("tls", "client")]),
        },
        Kind {
            name: "wss",
            listener: listener("ws-listener", &[("path", "/mesh"), ("tls", "mutual")]),
            peer: peer("ws-peer", "wss://localhost:PORT/mesh", &[("tls", "client")]),
        },
    ]
}

/// A node with TLS configs whose certificate names `certified`.
fn node(scratch: &Scratch, authority: &Authority, id: &str, certified: &str) -> Builder {
    let identity = authority.issue(&[certified]);
    let write = |name: &str, text: &str| scratch.write(&format!("{id}.{name}"), text).display().to_string();
    let (cert, key) = (write("crt", &identity.cert), write("key", &identity.key));
    let ca = write("ca.crt", &authority.pem);
    let skip = if id == certified { "false" } else { "true" };
    let own = [("cert", &*cert), ("key", &*key), ("skipreceptornamescheck", skip)];
    let with =
        |more: &[(&'static str, &'static str)], ca: Option<&'static str>, file: &'static str| (more.to_vec(), ca, file);
    let mut builder = Builder::new(scratch, id).work();
    for (entity, (more, authorities, name)) in [
        ("tls-server", with(&[], None, "server")),
        (
            "tls-server",
            with(&[("requireclientcert", "true")], Some("clientcas"), "mutual"),
        ),
        ("tls-client", with(&[], Some("rootcas"), "client")),
    ] {
        let mut all = vec![("name", name)];
        all.extend(own);
        all.extend(more);
        all.extend(authorities.map(|key| (key, &*ca)));
        builder = builder.entity(entity, &all);
    }
    builder
}

fn entity(builder: Builder, (name, parameters): &(&'static str, Parameters)) -> Builder {
    let parameters: Vec<_> = parameters.iter().map(|(key, value)| (*key, value.as_str())).collect();
    builder.entity(name, &parameters)
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8 ^ (at >> 13) as u8).collect()
}

/// A unit of the other's, with a mebibyte in and out.
fn works(from: &Node, to: &Node, name: &str) {
    let stdin = pattern(1 << 20);
    let unit = from.submit(&to.id, "cat", &stdin).unit;
    let over = |status: &serde_json::Value| {
        !["Pending", "Running"].contains(&status["StateName"].as_str().unwrap_or_default())
    };
    let status = from.control().wait_for_unit(&unit, LIMIT, over);
    assert_eq!(status["StateName"], "Succeeded", "{name}: {status}");
    let output = from.control().results(&unit, 0).expect("its output");
    assert!(output == stdin, "{name}: {} bytes", output.len());
}

fn pings(from: &Node, to: &Node, name: &str) {
    until(&format!("{} answers {} over {name}", to.id, from.id), LIMIT, || {
        let answer = from.control().json(&format!("ping {}", to.id))?;
        if answer["Success"] == true {
            Ok(())
        } else {
            Err(answer.to_string())
        }
    });
}

/// A mebibyte there and back, from a `tcp-server` of one to a `tcp-client` of the other.
fn carries(port: u16, name: &str) {
    let question = pattern(1 << 20);
    until(&format!("bytes go over {name}"), LIMIT, || {
        let socket = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
        socket
            .set_read_timeout(Some(PATIENCE))
            .map_err(|error| error.to_string())?;
        let writer = socket.try_clone().map_err(|error| error.to_string())?;
        let bytes = question.clone();
        let writing = thread::spawn(move || (&writer).write_all(&bytes));
        // A Go node does not pass on a half-close: the end is what was sent.
        let mut answer = vec![0; question.len()];
        let read = (&socket).read_exact(&mut answer);
        let _ = socket.shutdown(Shutdown::Both);
        let written = writing.join().expect("it does not panic");
        if answer == question {
            return Ok(());
        }
        Err(format!("{read:?}, {written:?}"))
    });
}

/// Sends back what it gets, for all that come.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a bound socket").port();
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let _ = std::io::copy(&mut &socket, &mut &socket);
                let _ = socket.shutdown(Shutdown::Write);
            });
        }
    });
    port
}

/// With a way in to the other's echo, and a way out to it.
fn with_echo(builder: Builder, other: &str, port: u16, echo: u16) -> Builder {
    let port = port.to_string();
    builder
        .entity(
            "tcp-server",
            &[
                ("port", &port),
                ("bindaddr", "127.0.0.1"),
                ("remotenode", other),
                ("remoteservice", "echo"),
            ],
        )
        .entity(
            "tcp-client",
            &[("service", "echo"), ("address", &format!("127.0.0.1:{echo}"))],
        )
}

fn every_kind(ours_listens: bool) {
    let Some(go) = go_node() else { return };
    let authority = Authority::default();
    let echo = echo();
    for kind in kinds(free_port()) {
        let scratch = Scratch::new();
        let ways = [free_port(), free_port()];
        let ours = with_echo(node(&scratch, &authority, "ours", "ours"), "theirs", ways[0], echo);
        let theirs = with_echo(node(&scratch, &authority, "theirs", "theirs"), "ours", ways[1], echo).binary(go);
        let (listener, peer) = if ours_listens { (ours, theirs) } else { (theirs, ours) };
        let mut listener = entity(listener, &kind.listener).start();
        let peer = entity(peer, &kind.peer).start();
        wait_for_routes([&listener, &peer]);
        for (from, to) in [(&listener, &peer), (&peer, &listener)] {
            pings(from, to, kind.name);
            works(from, to, kind.name);
        }
        for way in ways {
            carries(way, kind.name);
        }
        listener.kill();
        listener.start_again();
        pings(&peer, &listener, kind.name);
        pings(&listener, &peer, kind.name);
    }
}

#[test]
fn every_kind_of_link_when_ours_listens() {
    every_kind(true);
}

#[test]
fn every_kind_of_link_when_ours_dials() {
    every_kind(false);
}

/// Go compares no names on links; we do, on either side.
#[test]
fn a_certificate_of_another_node_is_refused() {
    let Some(go) = go_node() else { return };
    let authority = Authority::default();
    for ours_listens in [true, false] {
        let scratch = Scratch::new();
        let kind = kinds(free_port()).remove(3);
        let ours = node(&scratch, &authority, "ours", "ours");
        let theirs = node(&scratch, &authority, "theirs", "other").binary(go);
        let (listener, peer) = if ours_listens {
            (entity(ours, &kind.listener), entity(theirs, &kind.peer))
        } else {
            (entity(theirs, &kind.listener), entity(ours, &kind.peer))
        };
        let (listener, peer) = (listener.start(), peer.start());
        let ours = if ours_listens { &listener } else { &peer };
        ours.wait_for_log(&["it says that it is node theirs, but its certificate is valid for other"]);
        assert_eq!(
            ours.status()["RoutingTable"].as_object().map_or(0, |table| table.len()),
            0
        );
    }
}
