//! Bytes both ways, and the two ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::thread;

use receptor_tests::live::{
    Builder, Control, Place, Scratch, Socket, UNIT_LIMIT, assert_same, free_port, noise, wait_for_routes,
};
use serde_json::Value;

use crate::setup::{By, Mesh};

/// More than all windows and buffers on the way hold together at their start.
const LENGTH: usize = 4 << 20;

/// Reads as much as is expected, and no end.
fn expect(mut socket: &Socket, data: &[u8]) {
    let mut got = vec![0; data.len()];
    socket.read_exact(&mut got).expect("as much as was sent");
    assert_same(&got, data);
}

/// Every kind of socket to every kind, all at once: both directions are full at the same time, and either side may end first.
#[test]
fn every_kind_of_socket_carries_both_ways_and_each_half_ends_on_its_own() {
    for by in [By::File, By::Arguments] {
        let scratch = Scratch::new();
        let mut mesh = Mesh::new(&scratch, by);
        let listeners = mesh.targets.each_ref().map(Place::listen);
        for (server, seed) in mesh.servers.iter().zip(0..) {
            for client_ends_first in [true, false] {
                let client = server.place.connect();
                let served = listeners[server.target].accept();
                let sent = [noise(seed, LENGTH), noise(seed + 100, LENGTH)];
                thread::scope(|scope| {
                    for (socket, data) in [(&client, &sent[0]), (&served, &sent[1])] {
                        scope.spawn(move || { socket }.write_all(data).expect("it is taken"));
                    }
                    for (socket, data) in [(&served, &sent[0]), (&client, &sent[1])] {
                        scope.spawn(move || expect(socket, data));
                    }
                });
                let (first, second) = if client_ends_first {
                    (&client, &served)
                } else {
                    (&served, &client)
                };
                first.finish();
                assert_eq!(second.read_all(), b"");
                // The other half is as good as before. Read while it is written: no window need hold all of it.
                thread::scope(|scope| {
                    scope.spawn(|| {
                        { second }.write_all(&sent[0]).expect("it is taken");
                        second.finish();
                    });
                    assert_same(&first.read_all(), &sent[0]);
                });
            }
        }
        mesh.assert_alive();
    }
}

/// What clients of classic nodes do: a control session through a proxy, ended by a half-close.
#[test]
fn work_is_submitted_through_a_server_that_leads_to_a_control_service() {
    let scratch = Scratch::new();
    let (link, port, path) = (free_port(), free_port(), scratch.join("proxy.sock"));
    let remote = [("remotenode", "far"), ("remoteservice", "control")];
    let near = Builder::new(&scratch, "near")
        .entity(
            "tcp-server",
            &[[("bindaddr", "127.0.0.1"), ("port", &port.to_string())], remote].concat(),
        )
        .entity(
            "unix-socket-server",
            &[&[("filename", &*path.display().to_string())][..], &remote].concat(),
        )
        .listen(link, 1.0)
        .start();
    let far = Builder::new(&scratch, "far").peer(link, 1.0).work().start();
    let mut nodes = [near, far];
    wait_for_routes(&nodes);
    let payload = noise(1, 300_000);

    let socket = Place::Tcp(port).connect();
    let mut reader = BufReader::new(&socket);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        line
    };
    assert_eq!(line(), "Receptor Control, node far\n");
    (&socket).write_all(b"work submit far cat\n").expect("it is taken");
    let created = line();
    assert!(created.ends_with(". Send stdin data and EOF.\n"), "{created}");
    (&socket).write_all(&payload).expect("it is taken");
    socket.finish();
    let answer: Value = serde_json::from_str(&line()).expect("an answer");
    assert_eq!(answer["result"], "Job Started", "{answer}");
    assert_eq!(line(), "", "nothing follows the answer");

    let unit = answer["unitid"].as_str().expect("a unit ID");
    let connect = || Control::connect(&path).expect("somebody listens");
    let through_unix = connect();
    assert_eq!(through_unix.greeting, "Receptor Control, node far");
    assert_same(&through_unix.results(unit, 0).expect("results"), &payload);
    let submitted = connect().submit("work submit far upper", b"loud").expect("no refusal");
    connect().wait_for_unit(&submitted.unit, UNIT_LIMIT, |status| status["State"] == 2);
    assert_eq!(connect().results(&submitted.unit, 0).expect("results"), b"LOUD");
    nodes.iter_mut().for_each(receptor_tests::live::Node::assert_alive);
}
