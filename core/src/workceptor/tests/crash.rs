//! A node dies after any step of a unit's life: nothing runs twice, states go forward, output is whole.

use super::super::*;
use super::world::{E, NAMES, S, World};

const STDIN: [u8; 3000] = [9; 3000];

/// Crashes `node` after `steps` steps, brings it back, and lets everything settle. `false` if the run was over before.
fn crash_after(target: &str, node: usize, machine: bool, steps: usize) -> bool {
    let what = alloc::format!(
        "{target}, crash of {} (machine: {machine}) after step {steps}",
        NAMES[node]
    );
    let mut world = World::new();
    let client = world.submit(S, target, &STDIN);
    for _ in 0..steps {
        if !world.step() {
            return false;
        }
    }
    let replies = world.replies(client).to_vec();
    let was_told = replies.iter().any(|r| matches!(r, WorkReply::SubmitReady { .. }));
    let was_accepted = replies
        .iter()
        .any(|r| matches!(r, WorkReply::Started { .. } | WorkReply::Submitted { .. }));
    world.crash(node, machine);
    world.run(3);
    world.start(node);
    world.run(400);
    let Some((id, unit)) = world.only(S) else {
        assert!(!was_told, "{what}: the unit is gone");
        return true;
    };
    let (state, detail) = (unit.record.state, unit.record.detail.clone());
    assert!(state.is_complete(), "{what}: {state:?} {detail}; {:?}", world.logs);
    if state == State::Succeeded {
        assert_eq!(world.stdout(S, &id), STDIN, "{what}");
    }
    // A job that was accepted goes on, unless its own machine or its runner's parent died with it.
    let may_fail = node == E || target == NAMES[S];
    if was_accepted && !may_fail {
        assert_eq!(state, State::Succeeded, "{what}: {detail}; {:?}", world.logs);
    }
    if node == S && !machine && world.nodes[E].disk.runs.values().any(|runs| *runs > 0) {
        assert_eq!(
            state,
            State::Succeeded,
            "{what}: it ran, and that is not known: {detail}"
        );
    }
    if was_accepted && !machine && state != State::Succeeded {
        assert_eq!(detail, command::START_UNKNOWN, "{what}");
    }
    if let Some((_, there)) = world.only(E) {
        assert!(
            there.is_complete(),
            "{what}: {:?} there; {:?}",
            there.record,
            world.logs
        );
    }
    assert!(world.nodes.iter().all(|node| node.disk.runners.is_empty()), "{what}");
    let release = world.release(S, id.as_str(), false);
    world.run(100);
    assert_eq!(
        world.last(release),
        WorkReply::Released {
            unit: id.as_str().into(),
            pending: false
        },
        "{what}"
    );
    assert!(
        world.nodes.iter().all(|node| node.disk.live.is_empty()),
        "{what}: something stayed"
    );
    true
}

#[test]
fn a_crash_after_any_step_does_no_harm() {
    for (target, node) in [(NAMES[S], S), (NAMES[E], S), (NAMES[E], E)] {
        for machine in [false, true] {
            let mut steps = 0;
            while crash_after(target, node, machine, steps) {
                steps += 1;
            }
            assert!(steps > 15, "the run had only {steps} steps");
        }
    }
}

#[test]
fn crashes_come_in_pairs() {
    for first in (0..90).step_by(3) {
        for second in (0..60).step_by(4) {
            let mut world = World::new();
            let client = world.submit(S, NAMES[E], &STDIN);
            for _ in 0..first {
                world.step();
            }
            let was_accepted = world.replies(client).len() == 2;
            world.crash(S, first % 2 == 0);
            world.start(S);
            for _ in 0..second {
                world.step();
            }
            world.crash(E, false);
            world.start(E);
            for _ in 0..second {
                world.step();
            }
            world.crash(S, true);
            world.start(S);
            world.run(400);
            let Some((id, unit)) = world.only(S) else { continue };
            assert!(
                unit.is_complete(),
                "{first}, {second}: {:?} {:?}",
                unit.record,
                world.logs
            );
            if unit.record.state == State::Succeeded {
                assert_eq!(world.stdout(S, &id), STDIN);
            } else if was_accepted {
                assert_eq!(unit.record.detail, command::START_UNKNOWN, "{first}, {second}");
            }
        }
    }
}

/// Seeded chaos: crashes, lost sessions, cancels, then peace.
#[test]
fn after_any_chaos_everything_ends_and_is_whole() {
    for seed in 0..100 {
        let mut rng = Rng::from_seed([seed; 32]);
        let mut world = World::new();
        world.command.times = 3;
        for _ in 0..4 {
            world.submit(S, NAMES[E], &STDIN);
        }
        for _ in 0..rng.below(8) {
            for _ in 0..rng.below(60) {
                world.step();
            }
            match rng.below(6) {
                0 => {
                    world.crash(S, rng.below(2) == 0);
                    world.start(S);
                }
                1 => {
                    world.crash(E, rng.below(2) == 0);
                    world.run(rng.below(5));
                    world.start(E);
                }
                2 => world.cut_pipes(|_| true, "lost"),
                3 => {
                    world.cut_all();
                    world.run(rng.below(100));
                    world.cut = false;
                }
                4 => {
                    let first = world.machine(S).units.keys().next().cloned();
                    if let Some(id) = first {
                        world.cancel(S, id.as_str());
                    }
                }
                _ => {
                    world.nodes[S].disk.full = true;
                    world.run(rng.below(4));
                    world.nodes[S].disk.full = false;
                }
            }
        }
        world.run(600);
        for node in [S, E] {
            let machine = world.nodes[node].machine.as_ref().unwrap();
            for (id, unit) in &machine.units {
                assert!(
                    unit.is_complete(),
                    "seed {seed}: {id} {:?}; {:?}",
                    unit.record,
                    world.logs
                );
                if unit.record.state == State::Succeeded {
                    assert_eq!(world.stdout(node, id), STDIN.repeat(3), "seed {seed}: {id}");
                }
            }
            assert!(world.nodes[node].disk.runners.is_empty(), "seed {seed}");
        }
    }
}
