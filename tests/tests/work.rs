//! Units of work on whole nodes under virtual time.

use receptor_core::time::Duration;
use receptor_tests::pair::{Pair, listener, node, peer};
use receptor_tests::world::{World, produced};

/// left – middle – right, connected.
fn chain(seed: u64) -> World {
    let mut world = World::new(seed);
    world.start(node("left", &[listener("left")]));
    world.start(node("middle", &[listener("middle"), peer("left")]));
    world.start(node("right", &[peer("middle")]));
    world.run_for(Duration::from_secs(2));
    world
}

const LEFT: usize = 0;
const MIDDLE: usize = 1;
const RIGHT: usize = 2;

#[test]
fn a_local_unit_runs() {
    let mut pair = Pair::new(1);
    let unit = pair.submit(Pair::LEFT, "localhost cat", b"hello");
    assert_eq!(pair.results(Pair::LEFT, &unit), b"hello");
    assert_eq!(pair.unit_state(Pair::LEFT, &unit), "Succeeded: exit status 0");
    assert_eq!(
        pair.control(Pair::LEFT, &format!("work release {unit}")),
        format!("{{\"released\":\"{unit}\"}}\n")
    );
    assert_eq!(pair.control(Pair::LEFT, "work list"), "{}\n");
    assert_eq!(pair.host(Pair::LEFT).disk.units().count(), 0);
}

#[test]
fn a_remote_unit_runs_over_two_hops() {
    let mut world = chain(2);
    let unit = world.submit(LEFT, "right cat", b"hello");
    assert_eq!(world.results(LEFT, &unit), b"hello");
    assert_eq!(world.unit_state(LEFT, &unit), "Succeeded: exit status 0");
    world.control(LEFT, &format!("work release {unit}"));
    world.run_for(Duration::from_secs(2));
    assert_eq!(
        world.host(LEFT).disk.units().count() + world.host(RIGHT).disk.units().count(),
        0
    );
}

/// Nobody polls, and no barrier is waited for.
#[test]
fn output_is_at_the_submitter_within_a_round_trip_of_being_written() {
    let delay = Duration::from_millis(25);
    let mut world = chain(7);
    world.network.options.delay = delay;
    // Two hops, there and back.
    let round_trip = 4 * delay;
    let pipe = world.open_control(LEFT);
    world.write(LEFT, pipe, b"work submit right produce 1000000\n");
    world.run_until(round_trip, |w| w.text(LEFT, pipe).contains("Send stdin data"));
    world.finish(LEFT, pipe);
    let written = |node: usize| {
        move |w: &World| {
            let mut units = w.host(node).disk.units();
            units.any(|(_, directory)| !directory.stdout.is_empty())
        }
    };
    assert!(world.run_until(Duration::from_secs(5), written(RIGHT)));
    assert!(!written(LEFT)(&world));
    assert!(world.run_until(round_trip, written(LEFT)), "{}", world.trace.tail());
}

#[test]
fn failures_are_told_apart() {
    let mut world = chain(3);
    for (command, expected) in [
        ("right fail 3", "Failed: exit status 3"),
        ("localhost fail 3", "Failed: exit status 3"),
        (
            "right missing",
            "Failed: exec: \"missing\": executable file not found in $PATH",
        ),
    ] {
        let unit = world.submit(LEFT, command, b"");
        assert_eq!(world.results(LEFT, &unit), b"");
        assert_eq!(world.unit_state(LEFT, &unit), expected, "{command}");
    }
    assert!(
        world
            .control(LEFT, "work submit right nosuch")
            .contains("unknown work type nosuch")
    );
    assert!(
        world
            .control(LEFT, "work status ../x")
            .starts_with("ERROR: unknown work unit ../x")
    );
}

#[test]
fn a_large_output_survives_the_death_of_the_hop() {
    let size = 8 << 20;
    let mut world = chain(4);
    world.network.options.rate = Some(20 << 20);
    let unit = world.submit(LEFT, &format!("right produce {size}"), b"");
    world.run_for(Duration::from_millis(100));
    world.kill(MIDDLE);
    world.run_for(Duration::from_secs(5));
    world.restart(MIDDLE);
    assert!(world.results(LEFT, &unit) == produced(size));
    assert_eq!(world.unit_state(LEFT, &unit), "Succeeded: exit status 0");
    assert_eq!(world.host(RIGHT).spawned, 1);
}

#[test]
fn submitter_and_executor_may_die_at_any_time() {
    for (seed, victim, power) in
        (0..6).flat_map(|s| [(s, LEFT, false), (s, RIGHT, false), (s, LEFT, true), (s, RIGHT, true)])
    {
        let size = 3 << 20;
        let mut world = chain(100 + seed);
        let unit = world.submit(LEFT, &format!("right produce {size}"), b"");
        world.run_for(Duration::from_millis(seed * 16));
        if power {
            world.crash(victim);
        } else {
            world.kill(victim);
        }
        world.run_for(Duration::from_secs(3));
        world.restart(victim);
        world.run_for(Duration::from_secs(2));
        let output = world.results(LEFT, &unit);
        let state = world.unit_state(LEFT, &unit);
        assert!(world.host(RIGHT).spawned <= 1, "seed {seed}: started twice");
        if state.starts_with("Succeeded") {
            assert!(
                output == produced(size),
                "seed {seed} victim {victim} power {power}: {} bytes",
                output.len()
            );
        } else {
            assert!(
                power && victim == RIGHT,
                "seed {seed} victim {victim} power {power}: {state}"
            );
            assert!(state.starts_with("Failed"), "{state}");
        }
    }
}

#[test]
fn a_unit_is_kept_until_its_node_comes_back() {
    let mut world = chain(5);
    world.kill(RIGHT);
    world.run_for(Duration::from_secs(1));
    let unit = world.submit(LEFT, "right cat", b"later");
    assert!(world.unit_state(LEFT, &unit).starts_with("Pending"));
    world.crash(LEFT);
    world.restart(LEFT);
    world.run_for(Duration::from_secs(1));
    world.restart(RIGHT);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.results(LEFT, &unit), b"later");
}

#[test]
fn cancel_reaches_the_command() {
    let mut world = chain(6);
    let unit = world.submit(LEFT, "right sleep 3600000", b"");
    world.run_for(Duration::from_secs(1));
    assert_eq!(
        world.control(LEFT, &format!("work cancel {unit}")),
        format!("{{\"cancelled\":\"{unit}\"}}\n")
    );
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.unit_state(LEFT, &unit), "Canceled: Canceled");
    assert_eq!(world.results(LEFT, &unit), b"");
}

#[test]
fn a_payload_cut_off_on_the_way_does_not_run() {
    let mut world = chain(7);
    let pipe = world.open_control(LEFT);
    world.write(LEFT, pipe, b"connect right control \n");
    world.run_for(Duration::from_secs(1));
    world.write(LEFT, pipe, b"work submit localhost cat\n");
    world.run_for(Duration::from_secs(1));
    world.write(LEFT, pipe, b"the first half of ");
    world.run_for(Duration::from_secs(1));
    world.crash(LEFT);
    world.run_for(Duration::from_secs(120));
    let list = world.control(RIGHT, "work list");
    assert!(list.contains("Error reading input data"), "{list}");
    assert_eq!(world.host(RIGHT).spawned, 0);
}
