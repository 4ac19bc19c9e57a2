//! Links over UDP beside others, under virtual time: what goes over them is as short as they want it.

use receptor_core::config::{Backend, BackendKind, ListenerTransport, PeerTransport};
use receptor_core::id::{PortId, ServiceName};
use receptor_core::link::transport::datagram::{FITTING_FRAME, MAX_DATAGRAM};
use receptor_core::node::io::{Command, Event, Reply};
use receptor_core::time::Duration;
use receptor_core::wire::data::{HEADER_LEN, MAX_PAYLOAD};
use receptor_tests::pair::{listener, node, peer};
use receptor_tests::world::World;

fn udp_listener(name: &str) -> Backend {
    Backend::new(BackendKind::Listener {
        bind: name.into(),
        transport: ListenerTransport::Udp,
    })
}

fn udp_peer(name: &str) -> Backend {
    Backend::new(BackendKind::Peer {
        address: name.into(),
        redial: true,
        transport: PeerTransport::Udp,
    })
}

/// Nodes `a`, `b`, … in a chain; whether the link between two neighbours is one of datagrams.
fn chain(seed: u64, links: &[bool]) -> World {
    let name = |index: usize| char::from(b'a' + index as u8).to_string();
    let mut world = World::new(seed);
    for index in 0..=links.len() {
        let mut backends = Vec::new();
        if let Some(&is_udp) = links.get(index) {
            let own = name(index);
            backends.push(if is_udp { udp_listener(&own) } else { listener(&own) });
        }
        if let Some(before) = index.checked_sub(1) {
            let there = name(before);
            backends.push(if links[before] { udp_peer(&there) } else { peer(&there) });
        }
        world.start(node(&name(index), &backends));
    }
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.routes(0).len(), links.len());
    world
}

/// Bytes of a stream that arrived at the last node, all of them sent by the first.
fn stream(world: &mut World, bytes: usize) {
    let last = world.len() - 1;
    let listen = Command::Listen {
        service: "bulk".into(),
        advertise: None,
        tls: None,
    };
    world.ask(last, listen);
    let pipe = world.new_pipe(0);
    let target = char::from(b'a' + last as u8).to_string();
    let dial = Command::Dial {
        pipe,
        node: target,
        service: "bulk".into(),
        tls: None,
    };
    assert_eq!(world.ask(0, dial), Reply::Done);
    world.write(0, pipe, &vec![7; bytes]);
    let arrived = world.run_until(Duration::from_secs(60), |world| {
        world.host(last).received().values().sum::<usize>() == bytes
    });
    assert!(arrived, "{:?}", world.host(last).received());
}

#[test]
fn packets_of_streams_fit_wherever_a_link_on_the_way_is_one_of_datagrams() {
    for (seed, links) in (1..).zip([
        &[true][..],
        &[true, false],
        &[false, true],
        &[true, true],
        &[false, true, false],
    ]) {
        let mut world = chain(seed, links);
        world.network.longest_datagram();
        stream(&mut world, 3 << 20);
        let longest = world.network.longest_datagram();
        assert!(
            (FITTING_FRAME - 100..=FITTING_FRAME).contains(&longest),
            "{longest} bytes over {links:?}"
        );
    }
}

/// The way of a stream changes to one over UDP while it sends.
#[test]
fn a_stream_that_comes_to_a_link_of_datagrams_makes_shorter_packets() {
    let mut world = World::new(9);
    let [dear_listener, dear_peer] = [udp_listener("a-udp"), udp_peer("a-udp")].map(|mut backend| {
        backend.cost = 5.0;
        backend
    });
    world.start(node("a", &[listener("a"), dear_listener]));
    world.start(node("relay", &[peer("a"), listener("relay")]));
    world.start(node("b", &[peer("relay"), dear_peer]));
    world.network.options.rate = Some(2_000_000);
    world.run_for(Duration::from_secs(3));
    world.ask(
        2,
        Command::Listen {
            service: "bulk".into(),
            advertise: None,
            tls: None,
        },
    );
    let pipe = world.new_pipe(0);
    let dial = Command::Dial {
        pipe,
        node: "b".into(),
        service: "bulk".into(),
        tls: None,
    };
    assert_eq!(world.ask(0, dial), Reply::Done);
    const BYTES: usize = 10_000_000;
    world.write(0, pipe, &vec![7; BYTES]);
    world.run_for(Duration::from_secs(2));
    let before: usize = world.host(2).received().values().sum();
    assert!((100_000..BYTES / 2).contains(&before), "{before} bytes so far");
    world.network.longest_datagram();
    world.kill(1);
    let arrived = world.run_until(Duration::from_secs(120), |world| {
        world.host(2).received().values().sum::<usize>() == BYTES
    });
    assert!(arrived);
    let longest = world.network.longest_datagram();
    assert!((1_000..=FITTING_FRAME).contains(&longest), "{longest} bytes");
}

/// What is said of many nodes and services goes in many short frames.
#[test]
fn what_is_known_of_the_mesh_fits() {
    let mut world = World::new(3);
    world.start(node("hub", &[listener("hub"), udp_listener("hub-udp")]));
    for index in 0..40 {
        world.start(node(&format!("a-node-with-a-long-name-{index:03}"), &[peer("hub")]));
    }
    world.run_for(Duration::from_secs(5));
    let last = world.start(node("last", &[udp_peer("hub-udp")]));
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.routes(last).len(), 41);
    // One record cannot be cut: that of the hub names all of its neighbours.
    let longest = world.network.longest_datagram();
    assert!((1_000..=2_000).contains(&longest), "{longest} bytes");
}

/// One byte too many for the link, at its beginning and on the way.
#[test]
fn datagrams_that_are_too_long_are_errors_and_not_lost_without_a_word() {
    const LIMIT: usize = MAX_DATAGRAM - HEADER_LEN;
    let send = |world: &mut World, node: &str, bytes: usize| {
        world.ask(
            0,
            Command::Send {
                port: PortId(1),
                node: node.into(),
                service: ServiceName::new("sink").unwrap().to_string(),
                data: vec![1; bytes].into(),
                hops: 30,
            },
        )
    };
    for links in [&[true][..], &[true, false], &[false, true]] {
        let mut world = chain(5, links);
        let last = world.len() - 1;
        let target = char::from(b'a' + last as u8).to_string();
        for (index, name) in [(0, "from"), (last, "sink")] {
            let open = Command::OpenPort {
                port: PortId(1),
                service: name.into(),
                advertise: None,
            };
            assert!(matches!(world.ask(index, open), Reply::Service(_)));
        }
        assert_eq!(send(&mut world, &target, LIMIT), Reply::Done);
        world.run_for(Duration::from_secs(1));
        let got = |event: &Event| matches!(event, Event::Datagram { data, .. } if data.len() == LIMIT);
        assert!(world.host(last).events.iter().any(got), "{links:?}");
        let refused = send(&mut world, &target, LIMIT + 1);
        if links[0] {
            let text = format!("datagram of {} bytes exceeds {LIMIT}", LIMIT + 1);
            assert_eq!(refused, Reply::Error(text));
        } else {
            assert_eq!(refused, Reply::Done);
            world.run_for(Duration::from_secs(1));
            let told =
                |event: &Event| matches!(event, Event::Unreachable { problem, .. } if problem == "message too long");
            assert!(world.host(0).events.iter().any(told));
        }
        // Longer than any link carries.
        assert!(matches!(send(&mut world, &target, MAX_PAYLOAD + 1), Reply::Error(_)));
    }
}
