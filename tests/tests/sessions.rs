//! Two connections between the same two nodes, under virtual time.

use receptor_core::node::io::Event;
use receptor_core::time::Duration;
use receptor_tests::pair::{listener, node, peer};
use receptor_tests::world::World;

fn connections(world: &mut World, index: usize) -> usize {
    world.status(index)["Connections"].as_array().map_or(0, Vec::len)
}

/// Sessions that ever came about.
fn established(world: &World, index: usize) -> usize {
    let events = world.host(index).events.iter();
    events
        .filter(|event| matches!(event, Event::Log(_, line) if line.starts_with("connection established")))
        .count()
}

/// A node that lost its power and is back does not stay away until its old session has been silent for long enough.
#[test]
fn a_node_whose_end_nobody_heard_of_is_back_within_three_seconds() {
    for (seed, classic) in [(1, false), (2, false), (3, true), (4, true)] {
        let mut world = World::new(seed);
        world.network.options.classic = classic;
        let left = world.start(node("left", &[listener("left")]));
        let right = world.start(node("right", &[peer("left")]));
        world.run_for(Duration::from_secs(30));
        world.crash(right);
        // The time to boot.
        world.run_for(Duration::from_secs(1));
        assert_eq!(connections(&mut world, left), 1, "nobody heard of it");
        world.restart(right);
        world.run_for(Duration::from_secs(3));
        for index in [left, right] {
            assert_eq!(world.routes(index).len(), 1, "seed {seed}, classic {classic}");
        }
        world.run_for(Duration::from_secs(60));
        assert_eq!((connections(&mut world, left), established(&world, left)), (1, 2));
    }
}

/// Each dials the other: one session comes of it, and it stays, though the other dial is tried again and again.
#[test]
fn two_nodes_that_dial_each_other_keep_one_session() {
    for seed in 1..=40 {
        let classic = seed % 4 == 0;
        let mut world = World::new(seed);
        world.network.options.classic = classic;
        world.network.options.jitter = Duration::from_millis(2);
        world.start(node("a", &[listener("a"), peer("b")]));
        world.start(node("b", &[listener("b"), peer("a")]));
        // Classic nodes cannot tell which of two dials the other keeps, and try again after five seconds.
        let limit = Duration::from_secs(if classic { 12 } else { 2 });
        world.run_for(limit);
        assert_eq!(connections(&mut world, 0), 1, "seed {seed}");
        let before = established(&world, 0);
        world.run_for(Duration::from_secs(120));
        assert_eq!(established(&world, 0), before, "seed {seed}: no other session came");
        assert_eq!(
            (connections(&mut world, 0), connections(&mut world, 1)),
            (1, 1),
            "seed {seed}"
        );
    }
}
