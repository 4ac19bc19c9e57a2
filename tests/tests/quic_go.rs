//! Streams between our nodes and Go nodes: QUIC as both speak it (`docs/interop.md`).
//!
//! | mesh | run |
//! |---|---|
//! | ours – Go, as daemons | `connect` to the other's control service both ways, and to a service nobody has |
//! | ours – Go, ours within the test, on either runtime | 16 MiB there and back through a Go `tcp-client`, and through a Go `tcp-server` |

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use receptor_core::config::{Backend, BackendKind, Config};
use receptor_tests::live::{Builder, Node, PATIENCE, Scratch, free_port, go_node, routes, until, wait_for_routes};
use receptor_tests::suite::adapter::{Adapter, Options};

const SIZE: usize = 16 << 20;

fn bytes() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..SIZE / 8).flat_map(|_| next()).collect()
}

fn connect_and_ask(from: &Node, to: &Node) {
    let mut session = from.control();
    assert_eq!(
        session
            .command(&format!("connect {} control", to.id))
            .expect("an answer"),
        "Connecting"
    );
    assert_eq!(
        session.line().expect("a greeting"),
        format!("Receptor Control, node {}", to.id)
    );
    let status = session.json("status").expect("the other's status");
    assert_eq!(status["NodeID"], to.id.as_str());
    session.half_close().expect("half a stream can be closed");
    assert_eq!(session.rest().expect("the end"), b"");
}

#[test]
fn connect_leads_to_the_other_kinds_control_service() {
    let Some(go) = go_node() else { return };
    let scratch = Scratch::new();
    let port = free_port();
    let nodes = [
        Builder::new(&scratch, "ours").listen(port, 1.0).start(),
        Builder::new(&scratch, "go").binary(go).peer(port, 1.0).start(),
    ];
    wait_for_routes(&nodes);
    for _ in 0..3 {
        connect_and_ask(&nodes[0], &nodes[1]);
        connect_and_ask(&nodes[1], &nodes[0]);
    }
    // The classic node has its own words for it.
    for (from, to, text) in [(0, 1, "service unknown"), (1, 0, "context canceled")] {
        let refused = nodes[from].control().json(&format!("connect {} nosuch", nodes[to].id));
        assert_eq!(refused.expect_err("nobody listens there"), text);
    }
    for mut node in nodes {
        node.assert_alive();
    }
}

/// Sends back what each client sends.
fn echo(listener: TcpListener) {
    for client in listener.incoming() {
        let mut client = client.expect("a connection");
        thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(count @ 1..) = client.read(&mut buffer)
                && client.write_all(&buffer[..count]).is_ok()
            {}
        });
    }
}

fn through_the_proxies(adapter: &dyn Adapter) {
    let Some(go) = go_node() else { return };
    let scratch = Scratch::new();
    let (link, server) = (free_port(), free_port());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || echo(listener));
    let mut go = Builder::new(&scratch, "go")
        .binary(go)
        .listen(link, 1.0)
        .entity("tcp-client", &[("address", &address), ("service", "there")])
        .entity(
            "tcp-server",
            &[
                ("bindaddr", "127.0.0.1"),
                ("port", &server.to_string()),
                ("remotenode", "ours"),
                ("remoteservice", "here"),
            ],
        )
        .start();
    let mut config = Config::new("ours".into());
    config.backends = vec![Backend::new(BackendKind::peer(format!("127.0.0.1:{link}")))];
    let ours = adapter.start(config, Options::default()).expect("a node that starts");
    let mut here = ours.listen("here", None).expect("a free service");
    until("both nodes have the route", PATIENCE, || {
        let there = routes(&ours.status().map_err(|error| format!("{error:?}"))?);
        let back = routes(&go.try_status()?);
        if there.contains_key("go") && back.contains_key("ours") {
            Ok(())
        } else {
            Err(format!("{there:?} {back:?}"))
        }
    });

    let data = bytes();
    let mut stream = ours.dial("go", "there").expect("a stream");
    let mut back = vec![0; SIZE];
    thread::scope(|scope| {
        let writer = &mut stream.writer;
        scope.spawn(|| writer.write_all(&data).expect("all of it"));
        stream.reader.read_exact(&mut back).expect("all of it");
    });
    assert!(back == data, "through the tcp-client");
    // Only now: a classic proxy closes both directions of its socket when one ends.
    stream.writer.shutdown().expect("an end");
    assert_eq!(stream.reader.read_to_end().expect("the end"), b"");

    let mut client = TcpStream::connect(("127.0.0.1", server)).expect("the tcp-server");
    client.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut writer = client.try_clone().expect("a socket");
    let mut back = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = here.accept().expect("a stream");
            let mut buffer = vec![0; 64 << 10];
            loop {
                match stream.reader.read(&mut buffer, PATIENCE).expect("bytes or the end") {
                    0 => break,
                    count => stream.writer.write_all(&buffer[..count]).expect("an echo"),
                }
            }
            stream.writer.shutdown().expect("an end");
        });
        scope.spawn(|| {
            writer.write_all(&data).expect("all of it");
            writer.shutdown(Shutdown::Write).expect("an end");
        });
        client.read_to_end(&mut back).expect("all of it");
    });
    assert_eq!(back.len(), SIZE);
    assert!(back == data, "through the tcp-server");
    go.assert_alive();
    ours.shutdown();
}

#[test]
fn sixteen_mebibytes_pass_through_the_proxies_of_a_go_node_on_tokio() {
    through_the_proxies(&*receptor_tests::suite::on_tokio::adapter());
}

#[test]
fn sixteen_mebibytes_pass_through_the_proxies_of_a_go_node_on_smol() {
    through_the_proxies(&*receptor_tests::suite::on_smol::adapter());
}
