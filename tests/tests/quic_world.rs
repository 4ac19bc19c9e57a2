//! Streams to nodes that look classic, under virtual time and with a stand-in for QUIC: who is dialled how, and what a
//! connection is to its owners.

use receptor_core::id::PipeId;
use receptor_core::node::io::{Command, Event, Reply};
use receptor_core::time::Duration;
use receptor_tests::pair::{listener, node, peer};
use receptor_tests::world::{NodeIndex, World};

const SHORT: Duration = Duration::from_secs(30);

/// A chain of so many nodes with all routes there.
fn chain(seed: u64, count: usize, classic: bool) -> World {
    let mut world = World::new(seed);
    world.network.options.classic = classic;
    world.network.options.delay = Duration::from_millis(5);
    for n in 0..count {
        let mut backends = vec![listener(&format!("n{n}"))];
        if n > 0 {
            backends.push(peer(&format!("n{}", n - 1)));
        }
        world.start(node(&format!("n{n}"), &backends));
    }
    world.run_for(Duration::from_secs(10));
    for n in 0..count {
        assert_eq!(world.routes(n).len(), count - 1, "n{n}");
    }
    world
}

fn listen(world: &mut World, index: NodeIndex, service: &str) {
    let listen = Command::Listen {
        service: service.into(),
        advertise: None,
        tls: None,
    };
    assert!(matches!(world.ask(index, listen), Reply::Service(_)));
}

fn dial(world: &mut World, from: NodeIndex, to: &str, service: &str) -> (PipeId, Reply) {
    let pipe = world.new_pipe(from);
    let reply = world.ask(
        from,
        Command::Dial {
            pipe,
            node: to.into(),
            service: service.into(),
            tls: None,
        },
    );
    (pipe, reply)
}

fn accepted(world: &World, index: NodeIndex) -> Vec<(PipeId, Option<String>)> {
    let events = world.host(index).events.iter();
    events
        .filter_map(|event| match event {
            Event::Accepted { pipe, from, .. } => Some((*pipe, from.as_ref().map(ToString::to_string))),
            _ => None,
        })
        .collect()
}

/// Sends bytes both ways over an open stream, and ends it.
fn exchange(world: &mut World, from: (NodeIndex, PipeId), to: (NodeIndex, PipeId), size: usize) {
    let bytes = |seed: usize| -> Vec<u8> { (0..size).map(|i| (i * 31 + seed + i / 251) as u8).collect() };
    for ((index, pipe), seed) in [(from, 1), (to, 2)] {
        world.write(index, pipe, &bytes(seed));
        world.finish(index, pipe);
    }
    let done = world.run_until(Duration::from_secs(120), |world| {
        [from, to]
            .iter()
            .all(|&(index, pipe)| world.host(index).pipe(pipe).is_none_or(|pipe| pipe.closed))
    });
    assert!(done, "both ends are closed when both directions are");
    for ((index, pipe), seed) in [(from, 2), (to, 1)] {
        let received = &world.host(index).pipe(pipe).expect("a pipe").inbox;
        assert!(*received == bytes(seed), "{} bytes at node {index}", received.len());
    }
}

#[test]
fn a_classic_node_is_dialled_over_quic_and_bytes_go_both_ways() {
    let mut world = chain(1, 3, true);
    world.network.options.loss_per_mille = 20;
    // Nothing native would pass.
    world.network.options.without_native = true;
    listen(&mut world, 2, "echo");
    for n in 0..3 {
        let (pipe, reply) = dial(&mut world, 0, "n2", "echo");
        assert_eq!(reply, Reply::Done);
        let (there, from) = accepted(&world, 2)[n].clone();
        assert_eq!(from.as_deref(), Some("n0"));
        exchange(&mut world, (0, pipe), (2, there), 1_000_000);
    }
}

#[test]
fn control_sessions_run_over_quic() {
    let mut world = chain(2, 2, true);
    world.network.options.without_native = true;
    let pipe = world.open_control(0);
    world.write(0, pipe, b"connect n1 control\n");
    let greeted = world.run_until(SHORT, |world| world.text(0, pipe).contains("node n1\n"));
    assert!(greeted, "{}", world.text(0, pipe));
    world.write(0, pipe, b"ping n0\n");
    world.finish(0, pipe);
    assert!(world.run_until(SHORT, |world| world.host(0).pipe(pipe).is_none_or(|p| p.ended())));
    let text = world.text(0, pipe);
    assert!(
        text.contains("Connecting\n") && text.contains("\"Success\":true"),
        "{text}"
    );
}

#[test]
fn a_service_nobody_has_and_a_node_without_a_route_fail_at_once() {
    let mut world = chain(3, 2, true);
    let before = world.elapsed();
    let unknown = dial(&mut world, 0, "n1", "nosuch").1;
    assert_eq!(unknown, Reply::Error("service unknown".into()));
    let nowhere = dial(&mut world, 0, "nobody", "echo").1;
    assert_eq!(nowhere, Reply::Error("no route to node".into()));
    assert!(world.elapsed() - before < Duration::from_secs(1));
}

#[test]
fn one_of_ours_is_dialled_natively() {
    let mut world = chain(4, 2, false);
    listen(&mut world, 1, "echo");
    let (pipe, reply) = dial(&mut world, 0, "n1", "echo");
    assert_eq!(reply, Reply::Done);
    // From now on nothing native passes, so the stream stands still.
    world.network.options.without_native = true;
    world.write(0, pipe, b"stuck");
    world.run_for(Duration::from_secs(5));
    let there = accepted(&world, 1)[0].0;
    assert_eq!(world.text(1, there), "");
    world.network.options.without_native = false;
    assert!(world.run_until(SHORT, |world| world.text(1, there) == "stuck"));
}

#[test]
fn a_native_dial_without_an_answer_gets_quic_beside_it() {
    let mut world = chain(5, 2, false);
    listen(&mut world, 1, "echo");
    world.network.options.without_native = true;
    let before = world.elapsed();
    let (pipe, reply) = dial(&mut world, 0, "n1", "echo");
    assert_eq!(reply, Reply::Done);
    let took = world.elapsed() - before;
    assert!((1000..1100).contains(&took.as_millis()), "{took:?}");
    let all = accepted(&world, 1);
    assert_eq!(all.len(), 1);
    exchange(&mut world, (0, pipe), (1, all[0].0), 100_000);
    // The loser is gone for good: nothing native comes after all.
    world.network.options.without_native = false;
    world.run_for(Duration::from_secs(60));
    assert_eq!(accepted(&world, 1).len(), 1);
}

#[test]
fn a_work_session_takes_the_way_that_opens() {
    let mut world = chain(6, 2, false);
    world.network.options.without_native = true;
    let pipe = world.open_control(0);
    world.write(0, pipe, b"work submit n1 cat\n");
    let ready = |world: &World| world.text(0, pipe).contains("Send stdin data and EOF.\n");
    assert!(world.run_until(SHORT, ready));
    world.write(0, pipe, b"over the border");
    world.finish(0, pipe);
    assert!(world.run_until(SHORT, |world| world.host(0).pipe(pipe).is_none_or(|p| p.ended())));
    world.run_for(SHORT);
    let list = world.control(0, "work list");
    assert!(
        list.contains("\"Succeeded\"") && list.contains("\"StdoutSize\":15"),
        "{list}"
    );
}

#[test]
fn a_node_that_is_shut_down_ends_its_connections() {
    let mut world = chain(8, 2, true);
    listen(&mut world, 1, "echo");
    let (pipe, reply) = dial(&mut world, 0, "n1", "echo");
    assert_eq!(reply, Reply::Done);
    world.run_for(Duration::from_secs(1));
    world.shut_down(1);
    let closed = |world: &World| world.host(0).pipe(pipe).is_none_or(|pipe| pipe.closed);
    assert!(
        world.run_until(Duration::from_secs(1), closed),
        "without waiting for silence to tell"
    );
}

#[test]
fn two_runs_of_a_seed_are_equal() {
    let run = || {
        let mut world = chain(7, 3, true);
        world.network.options.loss_per_mille = 50;
        world.network.options.jitter = Duration::from_millis(3);
        listen(&mut world, 2, "echo");
        let (pipe, _) = dial(&mut world, 0, "n2", "echo");
        let there = accepted(&world, 2)[0].0;
        exchange(&mut world, (0, pipe), (2, there), 300_000);
        format!("{:?}", world.trace)
    };
    assert!(run() == run());
}
