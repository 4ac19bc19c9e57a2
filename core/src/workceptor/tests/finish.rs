//! Cancel and release at every moment.

use super::super::*;
use super::world::{E, NAMES, S, World};

/// Runs until there is a unit that can be named, or the end.
fn id_of(world: &World) -> Option<String> {
    world
        .only(S)
        .filter(|(_, unit)| !matches!(unit.stage, unit::Stage::Creating { .. }))
        .map(|(id, _)| id.as_str().into())
}

fn steps_of_a_run(target: &str) -> usize {
    let mut world = World::new();
    world.submit(S, target, &[5; 3000]);
    while world.step() {}
    world.steps
}

#[test]
fn a_cancel_at_any_step_ends_the_unit_everywhere() {
    for (target, endless) in [(NAMES[S], false), (NAMES[S], true), (NAMES[E], false), (NAMES[E], true)] {
        for steps in 0..steps_of_a_run(target) {
            let mut world = World::new();
            world.command.endless = endless;
            world.submit(S, target, &[5; 3000]);
            for _ in 0..steps {
                world.step();
            }
            let Some(id) = id_of(&world) else { continue };
            let client = world.cancel(S, &id);
            world.run(300);
            assert_eq!(
                world.last(client),
                WorkReply::Cancelled {
                    unit: id.clone(),
                    pending: false
                },
                "step {steps}"
            );
            let here = world.status(S, &id).unwrap();
            assert!(here.state.is_complete(), "step {steps}: {here:?} {:?}", world.logs);
            if endless {
                assert!(
                    matches!(here.detail.as_str(), "Canceled" | "Locally Cancelled"),
                    "step {steps}: {here:?}"
                );
            }
            if let Some(there) = world.status(E, &id) {
                assert!(there.state.is_complete(), "step {steps}: {there:?}");
            }
            assert!(
                world.nodes.iter().all(|node| node.disk.runners.is_empty()),
                "step {steps}"
            );
            assert!(world.logs.is_empty(), "step {steps}: {:?}", world.logs);
        }
    }
}

#[test]
fn a_release_at_any_step_removes_the_unit_everywhere() {
    for (target, force) in [(NAMES[S], false), (NAMES[E], false), (NAMES[E], true)] {
        for steps in 0..steps_of_a_run(target) {
            let mut world = World::new();
            world.submit(S, target, &[5; 3000]);
            for _ in 0..steps {
                world.step();
            }
            let Some(id) = id_of(&world) else { continue };
            let reader = world.results(S, &id);
            let client = world.release(S, &id, force);
            world.run(300);
            assert_eq!(
                world.last(client),
                WorkReply::Released {
                    unit: id.clone(),
                    pending: false
                },
                "step {steps}"
            );
            assert!(world.clients[&reader].results_end, "step {steps}");
            for node in [S, E] {
                assert!(
                    world.only(node).is_none(),
                    "step {steps}: {:?} {:?}",
                    world.only(node),
                    world.logs
                );
                assert!(world.nodes[node].disk.live.is_empty(), "step {steps}");
                assert!(world.nodes[node].disk.runners.is_empty(), "step {steps}");
            }
            let again = world.release(S, &id, false);
            world.run(1);
            assert_eq!(
                world.last(again),
                WorkReply::Released {
                    unit: id,
                    pending: false
                }
            );
        }
    }
}

#[test]
fn cancel_and_release_of_an_unreachable_unit_are_done_later() {
    for restart in [false, true] {
        for release in [false, true] {
            let mut world = World::new();
            world.command.endless = true;
            let client = world.submit(S, NAMES[E], b"abc");
            world.run(1);
            let id = world.id(client);
            world.cut_all();
            let asked = if release {
                world.release(S, &id, false)
            } else {
                world.cancel(S, &id)
            };
            world.run(10);
            let unit = id.clone();
            let pending = if release {
                WorkReply::Released { unit, pending: true }
            } else {
                WorkReply::Cancelled { unit, pending: true }
            };
            assert_eq!(world.last(asked), pending);
            assert!(world.status(S, &id).is_some());
            if restart {
                world.crash(S, true);
                world.start(S);
            }
            world.cut = false;
            world.run(200);
            assert!(world.nodes[E].disk.runners.is_empty());
            if release {
                assert!(
                    world.nodes.iter().all(|node| node.disk.live.is_empty()),
                    "{:?}",
                    world.logs
                );
            } else {
                assert_eq!(world.status(S, &id).unwrap().state, State::Canceled);
                assert_eq!(world.status(E, &id).unwrap().state, State::Canceled);
            }
        }
    }
}

#[test]
fn a_forced_release_does_not_wait_for_a_node_that_is_away() {
    let mut world = World::new();
    world.command.endless = true;
    let client = world.submit(S, NAMES[E], b"abc");
    world.run(1);
    let id = world.id(client);
    world.cut_all();
    let asked = world.release(S, &id, true);
    world.run(1);
    assert_eq!(
        world.last(asked),
        WorkReply::Released {
            unit: id,
            pending: false
        }
    );
    assert!(world.nodes[S].disk.live.is_empty());
}

#[test]
fn a_unit_that_never_left_is_cancelled_and_released_here() {
    let mut world = World::new();
    world.cut_all();
    let client = world.submit(S, NAMES[E], b"abc");
    world.run(1);
    let id = world.id(client);
    let cancel = world.cancel(S, &id);
    world.run(1);
    assert_eq!(
        world.last(cancel),
        WorkReply::Cancelled {
            unit: id.clone(),
            pending: false
        }
    );
    let view = world.status(S, &id).unwrap();
    assert_eq!((view.state, view.detail.as_str()), (State::Failed, "Locally Cancelled"));
    let release = world.release(S, &id, false);
    world.run(1);
    assert_eq!(
        world.last(release),
        WorkReply::Released {
            unit: id,
            pending: false
        }
    );
    world.cut = false;
    world.run(100);
    assert!(world.nodes.iter().all(|node| node.disk.live.is_empty()));
}
