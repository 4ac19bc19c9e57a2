//! Many nodes under virtual time: seeded delays, losses, partitions, crashes.

use receptor_core::config::Backend;
use receptor_core::id::PipeId;
use receptor_core::node::io::{Command, Reply};
use receptor_core::rng::Rng;
use receptor_core::time::Duration;
use receptor_tests::pair::{listener, node, peer};
use receptor_tests::world::World;

/// `n` nodes that all listen, each after the first dialling an earlier one, and `extra` more links.
fn random_mesh(seed: u64, n: usize, extra: usize) -> World {
    let mut rng = Rng::from_seed([seed as u8; 32]);
    let name = |i: usize| format!("n{i}");
    let mut backends: Vec<Vec<Backend>> = (0..n).map(|i| vec![listener(&name(i))]).collect();
    for (i, backends) in backends.iter_mut().enumerate().skip(1) {
        backends.push(peer(&name(rng.below(i as u64) as usize)));
    }
    for _ in 0..extra {
        let (a, b) = (rng.below(n as u64) as usize, rng.below(n as u64) as usize);
        if a != b {
            backends[a].push(peer(&name(b)));
        }
    }
    let mut world = World::new(seed);
    world.network.options.jitter = Duration::from_millis(3);
    for (i, backends) in backends.iter().enumerate() {
        world.start(node(&name(i), backends));
    }
    world
}

fn all_routed(world: &mut World) -> bool {
    let n = world.len();
    (0..n)
        .filter(|&i| world.host(i).is_up())
        .collect::<Vec<_>>()
        .into_iter()
        .all(|i| world.routes(i).len() == n - 1)
}

#[test]
fn fifty_nodes_have_all_routes_within_three_seconds() {
    let mut world = random_mesh(1, 50, 75);
    world.run_for(Duration::from_secs(3));
    assert!(all_routed(&mut world));
    let costs = world.status(0)["KnownConnectionCosts"].clone();
    for i in 1..world.len() {
        assert_eq!(
            world.status(i)["KnownConnectionCosts"],
            costs,
            "node {i} knows other costs"
        );
    }
}

#[test]
fn chaos_then_heal_then_all_routes() {
    for seed in 1..=5 {
        let mut world = random_mesh(seed, 12, 12);
        world.network.options.loss_per_mille = 50;
        world.run_for(Duration::from_secs(2));
        let mut rng = Rng::from_seed([!seed as u8; 32]);
        for _ in 0..20 {
            let (a, b) = (rng.below(12) as usize, rng.below(12) as usize);
            match rng.below(4) {
                0 if world.host(a).is_up() => world.kill(a),
                1 if !world.host(a).is_up() => world.restart(a),
                2 => world.network.partition(a, b),
                _ => world.cut_between(a, b),
            }
            world.run_for(Duration::from_millis(rng.below(5_000)));
        }
        world.network.heal();
        for i in 0..world.len() {
            if !world.host(i).is_up() {
                world.restart(i);
            }
        }
        world.run_for(Duration::from_secs(60));
        assert!(
            all_routed(&mut world),
            "seed {seed}: routes are missing a minute after the heal\n{}",
            world.trace.tail()
        );
        let ping = Command::Ping { target: "n11".into() };
        let reply = (0..20)
            .map(|_| world.ask(0, ping.clone()))
            .find(|reply| matches!(reply, Reply::Pong { .. }));
        assert!(reply.is_some(), "seed {seed}: no ping got through");
    }
}

#[test]
fn two_runs_of_a_seed_are_equal() {
    let run = |seed| {
        let mut world = random_mesh(seed, 15, 10);
        world.network.options.loss_per_mille = 20;
        world.run_for(Duration::from_secs(5));
        world.crash(3);
        world.run_for(Duration::from_secs(5));
        world.restart(3);
        let reply = world.control(0, "work submit n7 produce 300000");
        world.run_for(Duration::from_secs(20));
        (world.trace.digest(), world.trace.lines, reply)
    };
    assert_eq!(run(42), run(42));
    assert_ne!(run(42).0, run(43).0, "the seed decides nothing");
}

#[test]
fn an_idle_stream_to_a_node_that_was_started_anew_ends_when_the_node_is_back() {
    let mut world = World::new(7);
    world.start(node("left", &[listener("left")]));
    world.start(node("middle", &[listener("middle"), peer("left")]));
    world.start(node("right", &[peer("middle")]));
    world.run_for(Duration::from_secs(2));
    let pipe = world.open_control(0);
    world.write(0, pipe, b"connect right control\n");
    let greeted = |world: &World| world.text(0, pipe).contains("node right");
    assert!(world.run_until(Duration::from_secs(2), greeted));
    world.kill(2);
    world.run_for(Duration::from_secs(1));
    world.restart(2);
    let ended = |world: &World| world.host(0).pipe(pipe).is_none_or(|pipe| pipe.ended());
    assert!(world.run_until(Duration::from_secs(3), ended), "{}", world.trace.tail());
}

/// Two streams over a relay whose way to their target is slower than what they can send, and pings beside them.
#[test]
fn a_ping_passes_bulk_streams_on_a_slow_link_and_they_share_it() {
    const RATE: u64 = 2_500_000;
    const RTT: Duration = Duration::from_millis(40);
    const SECONDS: u64 = 10;
    let mut world = World::new(11);
    world.network.options.rate = Some(RATE);
    world.network.options.delay = RTT / 4;
    world.start(node("relay", &[listener("relay")]));
    let sink = world.start(node("sink", &[peer("relay")]));
    let sources = ["a", "b"].map(|name| world.start(node(name, &[peer("relay")])));
    world.run_for(Duration::from_secs(3));
    world.ask(
        sink,
        Command::Listen {
            service: "bulk".into(),
            advertise: None,
            tls: None,
        },
    );
    let pipes: Vec<(usize, PipeId)> = sources.iter().map(|&source| (source, world.new_pipe(source))).collect();
    for &(source, pipe) in &pipes {
        let dial = Command::Dial {
            pipe,
            node: "sink".into(),
            service: "bulk".into(),
            tls: None,
        };
        assert_eq!(world.ask(source, dial), Reply::Done);
        world.write(source, pipe, &vec![source as u8; 2 * (RATE * SECONDS) as usize]);
    }
    // Their windows find the rate of the link.
    world.run_for(Duration::from_secs(2));
    let before = world.host(sink).received();
    let (mut worst, end) = (Duration::ZERO, world.elapsed() + Duration::from_secs(SECONDS));
    while world.elapsed() < end {
        match world.ask(sources[0], Command::Ping { target: "sink".into() }) {
            Reply::Pong { time, .. } => worst = worst.max(time),
            other => panic!("{other:?}"),
        }
        world.run_for(Duration::from_millis(100));
    }
    assert!(worst < Duration::from_millis(120), "a ping took {worst:?}");
    let after = world.host(sink).received();
    let got: Vec<usize> = after.iter().map(|(pipe, bytes)| bytes - before[pipe]).collect();
    assert_eq!(got.len(), 2);
    let total = got.iter().sum::<usize>() as u64;
    assert!(total > RATE * SECONDS * 8 / 10, "{total} bytes in {SECONDS} s");
    assert!(got.iter().all(|&bytes| bytes as u64 > total * 4 / 10), "{got:?}");
    let stats = world.host(0).node().link_stats();
    let egress = stats
        .iter()
        .find(|s| s.peer.as_ref().is_some_and(|p| p.as_str() == "sink"))
        .unwrap()
        .egress;
    assert!(egress.marked > 0, "{egress:?}");
}
