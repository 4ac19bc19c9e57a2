//! Two nodes on one wire, under virtual time.

use receptor_core::node::io::{Command, Event, Reply};
use receptor_core::time::Duration;
use receptor_tests::pair::Pair;
use receptor_tests::world::World;

const PAIR: [usize; 2] = [Pair::LEFT, Pair::RIGHT];

fn ping(target: &str) -> Command {
    Command::Ping { target: target.into() }
}

#[test]
fn each_has_a_route_to_the_other() {
    let mut pair = Pair::new(1);
    for (node, other) in [(Pair::LEFT, "right"), (Pair::RIGHT, "left")] {
        assert_eq!(pair.routes(node), [(other.to_owned(), other.to_owned())].into());
        let status = pair.status(node);
        assert_eq!(status["Connections"][0]["NodeID"], other);
        assert_eq!(status["KnownConnectionCosts"]["left"]["right"], 1);
        assert_eq!(status["KnownConnectionCosts"]["right"]["left"], 1);
        assert_eq!(status["Advertisements"].as_array().map(Vec::len), Some(2), "{status}");
    }
}

#[test]
fn a_ping_takes_one_round_trip() {
    let mut pair = Pair::new(2);
    let reply = pair.ask(Pair::LEFT, ping("right"));
    assert_eq!(
        reply,
        Reply::Pong {
            from: "right".into(),
            time: Duration::from_micros(200)
        }
    );
    assert_eq!(
        pair.ask(Pair::LEFT, ping("nobody")),
        Reply::Error("no route to node".into())
    );
    let Reply::Pong { from, .. } = pair.ask(Pair::LEFT, ping("LOCALHOST")) else {
        panic!("no pong")
    };
    assert_eq!(from.as_str(), "left");
}

#[test]
fn control_commands_over_the_socket() {
    let mut pair = Pair::new(3);
    let pong = pair.control(Pair::LEFT, "ping right");
    assert!(pong.starts_with('{') && pong.contains(r#""Success":true"#), "{pong}");
    let trace = pair.control(Pair::LEFT, "traceroute right");
    assert!(
        trace.contains(r#""0":{"From":"left""#) && trace.contains(r#""1":{"From":"right""#),
        "{trace}"
    );
    let unknown = pair.control(Pair::LEFT, "frobnicate");
    assert_eq!(unknown, "ERROR: Unknown command, frobnicate\n");
}

#[test]
fn connect_reaches_the_other_control_service() {
    let mut pair = Pair::new(4);
    let text = pair.control(Pair::LEFT, "connect right control ");
    assert_eq!(text, "Connecting\nReceptor Control, node right\n");
}

#[test]
fn a_service_that_speaks_first_is_heard_after_connecting_was_read() {
    let mut pair = Pair::new(4);
    let pipe = pair.open_control(Pair::LEFT);
    pair.write(Pair::LEFT, pipe, b"connect right control\n");
    let answered = |pair: &World| pair.text(Pair::LEFT, pipe).contains("Connecting");
    assert!(pair.run_until(Duration::from_secs(1), answered));
    pair.run_for(Duration::from_millis(15));
    assert!(pair.text(Pair::LEFT, pipe).ends_with("\nConnecting\n"));
    pair.run_for(Duration::from_millis(10));
    assert!(
        pair.text(Pair::LEFT, pipe)
            .ends_with("\nReceptor Control, node right\n")
    );
}

#[test]
fn streams_carry_bytes_and_half_closes_both_ways() {
    for loss_per_mille in [0, 30] {
        let mut pair = Pair::new(5);
        pair.network.options.loss_per_mille = loss_per_mille;
        let reply = pair.ask(
            Pair::RIGHT,
            Command::Listen {
                service: "echo".into(),
                advertise: None,
                tls: None,
            },
        );
        assert!(matches!(reply, Reply::Service(_)), "{reply:?}");
        let near = pair.new_pipe(Pair::LEFT);
        let dial = Command::Dial {
            pipe: near,
            node: "right".into(),
            service: "echo".into(),
            tls: None,
        };
        assert_eq!(pair.ask(Pair::LEFT, dial), Reply::Done);
        let accepted = pair.host(Pair::RIGHT).events.iter().find_map(|event| match event {
            Event::Accepted { pipe, from, .. } => Some((*pipe, from.clone())),
            _ => None,
        });
        let (far, from) = accepted.expect("an accepted stream");
        assert_eq!(from, Some("left".into()));

        let data: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 253) as u8).collect();
        pair.write(Pair::LEFT, near, &data);
        pair.finish(Pair::LEFT, near);
        let got = pair.run_until(Duration::from_secs(60), |p| {
            p.host(Pair::RIGHT).pipe(far).is_some_and(|p| p.eof)
        });
        assert!(
            got,
            "loss {loss_per_mille}: no end after a minute\n{}",
            pair.trace.tail()
        );
        assert!(pair.host(Pair::RIGHT).pipe(far).unwrap().inbox == data);
        pair.write(Pair::RIGHT, far, &data);
        pair.finish(Pair::RIGHT, far);
        assert!(pair.run_until(Duration::from_secs(60), |p| {
            p.host(Pair::LEFT).pipe(near).is_some_and(|p| p.closed)
        }));
        assert!(pair.host(Pair::LEFT).pipe(near).unwrap().inbox == data);
    }
}

#[test]
fn a_link_that_is_cut_comes_back_within_a_second() {
    let mut pair = Pair::new(6);
    pair.cut_between(Pair::LEFT, Pair::RIGHT);
    pair.run_for(Duration::from_millis(10));
    assert!(pair.routes(Pair::LEFT).is_empty());
    pair.run_for(Duration::from_secs(1));
    assert!(PAIR.iter().all(|&node| pair.routes(node).len() == 1));
}

#[test]
fn an_idle_pair_sends_one_keepalive_each_way_per_ten_seconds() {
    let mut pair = Pair::new(7);
    pair.run_for(Duration::from_secs(60));
    let before = pair.trace.frames;
    pair.run_for(Duration::from_secs(100));
    let frames = pair.trace.frames - before;
    assert!((18..=24).contains(&frames), "{frames} frames in 100 s");
}

#[test]
fn bytes_written_before_the_local_side_left_still_arrive() {
    let mut pair = Pair::new(8);
    pair.ask(
        Pair::RIGHT,
        Command::Listen {
            service: "sink".into(),
            advertise: None,
            tls: None,
        },
    );
    let near = pair.new_pipe(Pair::LEFT);
    let dial = Command::Dial {
        pipe: near,
        node: "right".into(),
        service: "sink".into(),
        tls: None,
    };
    assert_eq!(pair.ask(Pair::LEFT, dial), Reply::Done);
    pair.network.options.rate = Some(1 << 20);
    let data = vec![7; 200 << 10];
    pair.write(Pair::LEFT, near, &data);
    pair.finish(Pair::LEFT, near);
    pair.close(Pair::LEFT, near);
    let far = pair.host(Pair::RIGHT).events.iter().find_map(|event| match event {
        Event::Accepted { pipe, .. } => Some(*pipe),
        _ => None,
    });
    let far = far.expect("an accepted stream");
    assert!(pair.run_until(Duration::from_secs(10), |p| {
        p.host(Pair::RIGHT).pipe(far).is_some_and(|p| p.eof)
    }));
    assert!(pair.host(Pair::RIGHT).pipe(far).unwrap().inbox == data);
}

#[test]
fn a_node_that_is_shut_down_ends_its_streams_at_once() {
    let mut pair = Pair::new(9);
    let listen = Command::Listen {
        service: "sink".into(),
        advertise: None,
        tls: None,
    };
    pair.ask(Pair::RIGHT, listen);
    let near = pair.new_pipe(Pair::LEFT);
    let dial = Command::Dial {
        pipe: near,
        node: "right".into(),
        service: "sink".into(),
        tls: None,
    };
    assert_eq!(pair.ask(Pair::LEFT, dial), Reply::Done);
    pair.shut_down(Pair::RIGHT);
    pair.run_for(Duration::from_millis(5));
    assert!(pair.host(Pair::LEFT).pipe(near).is_none_or(|pipe| pipe.closed));
    pair.kill(Pair::RIGHT);
}

#[test]
fn a_handshake_that_is_never_done_ends_after_fifteen_seconds_and_leaves_nothing() {
    let mut pair = Pair::new(9);
    let service = "stalled".to_owned();
    let listened = pair.ask(
        Pair::RIGHT,
        Command::Listen {
            service: service.clone(),
            advertise: None,
            tls: None,
        },
    );
    assert!(matches!(listened, Reply::Service(_)));
    pair.stall_handshakes(Pair::RIGHT);
    for service in [service, "control".to_owned()] {
        let pipe = pair.new_pipe(Pair::LEFT);
        let node = "right".to_owned();
        let begun = pair.elapsed();
        let reply = pair.ask(
            Pair::LEFT,
            Command::Dial {
                pipe,
                node,
                service,
                tls: None,
            },
        );
        assert_eq!(reply, Reply::Error("TLS handshake: not done within 15 s".into()));
        let taken = pair.elapsed() - begun;
        assert!(
            taken >= Duration::from_secs(15) && taken < Duration::from_secs(16),
            "{taken:?}"
        );
    }
    let text = pair.control(Pair::LEFT, "connect right control ");
    assert!(text.contains("not done within 15 s"), "{text}");
    pair.run_for(Duration::from_secs(1));
    for node in PAIR {
        assert_eq!(pair.host(node).open_ties(), 0, "node {node}");
    }
}
