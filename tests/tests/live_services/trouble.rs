//! What goes wrong around a service: nodes that die, targets that do not listen, files that run out, clients and neighbours
//! that talk nonsense. It costs the connection it concerns, and no other.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use receptor_core::id::{NameHash, ServiceName};
use receptor_core::wire::data::{Header, MAX_HOPS};
use receptor_tests::live::{
    Builder, Hello, PATIENCE, Place, RawPeer, Scratch, Socket, Usage, free_port, holds_for, noise, routes, skipped,
    until, wait_for_routes,
};

use crate::setup::{By, Mesh, TCP, echo, exchange};

fn say(mut socket: &Socket, what: &[u8], mut to: &Socket) {
    socket.write_all(what).expect("it is taken");
    let mut heard = vec![0; what.len()];
    to.read_exact(&mut heard).expect("it arrives");
    assert_eq!(heard, what);
}

/// A node that stays away is given up after 45 s, which `core/src/stream/tests/peers.rs` shows in virtual time.
#[test]
fn a_far_node_is_killed_and_comes_back() {
    let scratch = Scratch::new();
    let mut mesh = Mesh::new(&scratch, By::File);
    let listener = mesh.targets[TCP].listen();
    let (client, idle) = (mesh.tcp().connect(), mesh.tcp().connect());
    let (served, idle_served) = (listener.accept(), listener.accept());
    say(&client, b"before", &served);
    say(&idle, b"before", &idle_served);
    mesh.far.kill();
    // The kernel closes for the dead, as it does for anybody who ends without a word.
    assert_eq!((served.until_over(), idle_served.until_over()), (None, None));
    until("the route is gone", PATIENCE, || {
        let status = mesh.near.try_status()?;
        if routes(&status).is_empty() {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    // Without a route nobody is kept waiting.
    mesh.tcp().connect().until_over();
    mesh.far.start_again();
    mesh.wait_for_routes();
    exchange(&mesh.tcp().connect(), &listener);
    // Those who were served by the dead learn it from the living, and cannot take it for the end of an answer.
    for broken in [client, idle] {
        assert_eq!(broken.until_over(), Some(ErrorKind::ConnectionReset));
    }
    mesh.assert_alive();
}

/// A relay that dies breaks nothing: what it held is sent again.
#[test]
fn a_relay_is_killed_and_comes_back() {
    const LENGTH: usize = 8 << 20;
    let scratch = Scratch::new();
    let (entry, exit, port, target) = (free_port(), free_port(), free_port(), Place::Tcp(free_port()));
    let Place::Tcp(target_port) = target else {
        unreachable!()
    };
    let near = Builder::new(&scratch, "near")
        .entity(
            "tcp-server",
            &[
                ("bindaddr", "127.0.0.1"),
                ("port", &port.to_string()),
                ("remotenode", "far"),
                ("remoteservice", "proxy"),
            ],
        )
        .listen(entry, 1.0)
        .start();
    let far = Builder::new(&scratch, "far")
        .entity(
            "tcp-client",
            &[("service", "proxy"), ("address", &format!("127.0.0.1:{target_port}"))],
        )
        .listen(exit, 1.0)
        .start();
    let relay = Builder::new(&scratch, "relay").peer(entry, 1.0).peer(exit, 1.0).start();
    let mut nodes = [near, far, relay];
    wait_for_routes(&nodes);
    let listener = target.listen();
    let client = Place::Tcp(port).connect();
    let served = listener.accept();
    say(&client, b"before", &served);
    let data = noise(3, LENGTH);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&data).expect("it is taken");
            client.finish();
        });
        let mut got = vec![0; LENGTH / 8];
        (&served).read_exact(&mut got).expect("the first of it");
        nodes[2].kill();
        nodes[2].start_again();
        got.extend(served.read_all());
        receptor_tests::live::assert_same(&got, &data);
    });
    say(&served, b"after", &client);
    nodes.iter_mut().for_each(receptor_tests::live::Node::assert_alive);
}

#[test]
fn a_target_that_does_not_listen_closes_who_came_for_it() {
    let scratch = Scratch::new();
    let mut mesh = Mesh::new(&scratch, By::Arguments);
    for server in &mesh.servers {
        for _ in 0..3 {
            server.place.connect().until_over();
        }
    }
    mesh.far
        .wait_for_log(&["tcp-client tcp: cannot connect near", "refused"]);
    mesh.far
        .wait_for_log(&["unix-socket-client unix: cannot connect near", "target.sock"]);
    for server in &mesh.servers {
        let target = &mesh.targets[server.target];
        let listener = target.listen();
        exchange(&server.place.connect(), &listener);
        drop(listener);
        if let Place::Unix(path) = target {
            std::fs::remove_file(path).expect("it was there");
        }
        server.place.connect().until_over();
    }
    mesh.assert_alive();
}

/// Either node runs out of files: clients wait or are closed, and are served as soon as there are files again.
#[test]
fn files_that_run_out_hold_up_and_do_not_end_a_service() {
    const FILES: &str = "40";
    const CLIENTS: usize = 80;
    let limited = ["prlimit", &format!("--nofile={FILES}:{FILES}"), "--"];
    if !Command::new(limited[0])
        .arg("--version")
        .output()
        .is_ok_and(|run| run.status.success())
    {
        return skipped("file descriptors that run out: there is no prlimit here");
    }
    for far_is_short in [false, true] {
        let scratch = Scratch::new();
        let mut mesh = Mesh::with(
            &scratch,
            By::File,
            |near| if far_is_short { near } else { near.through(&limited) },
            |far| if far_is_short { far.through(&limited) } else { far },
        );
        echo(mesh.targets[TCP].listen());
        let clients: Vec<_> = (0..CLIENTS).map(|_| mesh.tcp().connect()).collect();
        let short = if far_is_short { &mesh.far } else { &mesh.near };
        short.wait_for_log(&["too many open files"]);
        let before = Usage::of(short.pid());
        holds_for(
            "it neither turns in circles nor fills its log",
            Duration::from_secs(2),
            || {
                let used = Usage::of(short.pid()).cpu_ticks - before.cpu_ticks;
                let lines = short.log().matches("oo many open files").count();
                // 100 ticks are a second.
                if used < 50 && lines < 30 {
                    Ok(())
                } else {
                    Err(format!("{used} ticks, {lines} lines"))
                }
            },
        );
        // Whoever was let in is served as ever.
        (&clients[0]).write_all(b"served").expect("it is taken");
        clients[0].finish();
        assert_eq!(clients[0].read_all(), b"served");
        drop(clients);
        until("clients are served again", PATIENCE, || {
            let client = mesh.tcp().connect();
            let mut all = Vec::new();
            { &client }.write_all(b"again").map_err(|error| error.to_string())?;
            client.finish();
            { &client }.read_to_end(&mut all).map_err(|error| error.to_string())?;
            if all == b"again" {
                Ok(())
            } else {
                Err(format!("{all:?}"))
            }
        });
        mesh.assert_alive();
    }
}

/// Clients that leave at every moment, and frames for a service from a neighbour that knows no streams.
#[test]
fn clients_and_neighbours_that_talk_nonsense() {
    let scratch = Scratch::new();
    let mut mesh = Mesh::new(&scratch, By::File);
    let listener = mesh.targets[TCP].listen();
    echo(listener);
    for (seed, server) in (0..200).zip(mesh.servers.iter().cycle()) {
        let Ok(client) = server.place.try_connect() else {
            continue;
        };
        // A socket of a service without target may already be closed.
        let _ = { &client }.write_all(&noise(seed, (seed as usize * 37) % 3_000));
        match seed % 3 {
            0 => client.break_off(),
            1 => drop(client),
            _ => client.finish(),
        }
    }
    let mut peer = RawPeer::neighbour(&mesh.near, &Hello::new("fuzzer"));
    until("there is a route to the fuzzer", PATIENCE, || {
        let status = mesh.far.try_status()?;
        if routes(&status).contains_key("fuzzer") {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    for seed in 0..3_000_u64 {
        let header = Header {
            hops: MAX_HOPS,
            flags: (seed % 3) as u16,
            from: NameHash::of("fuzzer"),
            to: NameHash::of(["far", "near"][seed as usize % 2]),
            from_service: ServiceName::from_wire((seed % 50).to_be_bytes()),
            to_service: ServiceName::new(["tcp", "unix", "control", "nobody"][seed as usize % 4])
                .expect("a short name"),
        };
        let mut payload = noise(seed, (seed as usize * 13) % 300);
        if let Some(first) = payload.first_mut() {
            // Native streams, QUIC's long and short headers.
            *first = *first & 0x3f | [0, 0, 0x40, 0xc0][seed as usize / 4 % 4];
        }
        peer.send_frame(&[&header.to_bytes()[..], &payload].concat());
    }
    let client = mesh.tcp().connect();
    (&client).write_all(b"sense").expect("it is taken");
    client.finish();
    assert_eq!(client.read_all(), b"sense");
    mesh.assert_alive();
    drop(peer);
    // The same target, not through the mesh: it was never the one to blame.
    let Place::Tcp(port) = mesh.targets[TCP] else {
        unreachable!()
    };
    std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
}
