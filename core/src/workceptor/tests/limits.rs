//! Limits of units, in virtual time.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::super::*;
use super::world::{E, NAMES, S, World};
use crate::time::Duration;

fn limited(limits: WorkLimits) -> World {
    let mut world = World::new();
    world.limits = limits.clone();
    let now = world.now;
    for node in [S, E] {
        world.machine(node).set_limits(now, limits.clone());
    }
    world
}

fn running(most: usize) -> WorkLimits {
    WorkLimits {
        max_running: Some(most),
        ..WorkLimits::default()
    }
}

fn runners(world: &World, node: usize) -> usize {
    let is_running = |runner: &&super::disk::Runner| runner.stage == super::disk::Stage::Running;
    world.nodes[node].disk.runners.values().filter(is_running).count()
}

/// Runs on, never with more runners than allowed, until nothing happens any more. In which order units were started.
fn run_within(world: &mut World, node: usize, most: usize) -> Vec<UnitId> {
    let mut order = Vec::new();
    let mut idle = 0;
    while idle < 3 {
        let busy = world.step();
        assert!(runners(world, node) <= most, "{} runners", runners(world, node));
        for id in world.nodes[node].disk.runners.keys() {
            if !order.contains(id) {
                order.push(id.clone());
            }
        }
        if busy {
            idle = 0;
        } else {
            idle += 1;
            world.run(1);
        }
    }
    order
}

#[test]
fn what_exceeds_the_limit_waits_in_its_order() {
    let mut world = limited(running(3));
    world.max_units = 1000;
    let mut ids = Vec::new();
    for n in 0..40 {
        let client = world.submit(S, "localhost", b"abc");
        while world.replies(client).is_empty() {
            assert!(world.step());
        }
        // Until all of its stdin is here.
        while world.replies(client).len() < 2 {
            assert!(world.step(), "unit {n}");
        }
        ids.push(world.id(client));
    }
    let order = run_within(&mut world, S, 3);
    for id in &ids {
        let view = world.status(S, id).unwrap();
        assert_eq!(view.state, State::Succeeded, "{}", view.detail);
    }
    let order: Vec<String> = order.iter().map(ToString::to_string).collect();
    assert!(order.len() > 20, "most of them waited");
    let expected: Vec<String> = ids.iter().filter(|id| order.contains(id)).cloned().collect();
    // The first of them began together.
    assert_eq!(order[3..], expected[3..]);
}

#[test]
fn many_submissions_never_run_more_than_three() {
    let mut world = World::new();
    world.limits = running(3);
    world.max_units = 2000;
    world.crash(S, false);
    world.start(S);
    world.command.chunk = 2;
    let clients: Vec<ClientKey> = (0..150).map(|_| world.submit(S, "localhost", b"abcdef")).collect();
    let mut most = 0;
    loop {
        let mut busy = false;
        for _ in 0..100 {
            busy = world.step();
            most = most.max(world.nodes[S].disk.runners.len());
            if !busy {
                break;
            }
        }
        assert!(most <= 3, "{most} runners");
        if !busy {
            break;
        }
    }
    assert_eq!(most, 3);
    for client in clients {
        let id = world.id(client);
        assert_eq!(world.status(S, &id).unwrap().state, State::Succeeded);
    }
}

#[test]
fn who_waits_is_told_so_and_waits_on_after_a_restart() {
    for power in [false, true] {
        let mut world = limited(running(1));
        world.command.endless = true;
        let mut ids = Vec::new();
        for expected in ["started", "submitted", "submitted"] {
            let client = world.submit(S, "localhost", b"abc");
            world.run(2);
            let told = match world.last(client) {
                WorkReply::Started { .. } => "started",
                WorkReply::Submitted { .. } => "submitted",
                other => panic!("{other:?}"),
            };
            assert_eq!(told, expected);
            ids.push(world.id(client));
        }
        let view = world.status(S, &ids[1]).unwrap();
        assert_eq!(
            (view.state, view.detail.as_str()),
            (State::Pending, "Waiting for a free place")
        );
        assert_eq!(world.machine(S).units_view()["Queued"], 2);
        world.crash(S, power);
        world.start(S);
        world.run(5);
        // With the machine the command went too, and its place is free.
        let first = world.status(S, &ids[0]).unwrap();
        let second = world.status(S, &ids[1]).unwrap();
        let expected = if power {
            (State::Failed, State::Running)
        } else {
            (State::Running, State::Pending)
        };
        assert_eq!((first.state, second.state), expected);
        assert_eq!(world.status(S, &ids[2]).unwrap().state, State::Pending);
        assert_eq!(runners(&world, S), 1);
        // The first to wait is the first to go.
        let cancelled = if power { &ids[1] } else { &ids[0] };
        let client = world.cancel(S, cancelled);
        world.run(20);
        assert!(matches!(world.last(client), WorkReply::Cancelled { .. }));
        let next = if power { &ids[2] } else { &ids[1] };
        assert_eq!(world.status(S, next).unwrap().state, State::Running);
        assert_eq!(runners(&world, S), 1);
    }
}

#[test]
fn a_queue_survives_a_crash_at_every_step() {
    for power in [false, true] {
        for at in (0..).step_by(3) {
            let mut world = limited(running(1));
            let clients: Vec<ClientKey> = (0..3).map(|_| world.submit(S, "localhost", b"abc")).collect();
            let mut steps = 0;
            while steps < at && world.step() {
                steps += 1;
            }
            let told: Vec<String> = clients
                .iter()
                .filter(|client| matches!(world.replies(**client).last(), Some(WorkReply::Submitted { .. })))
                .map(|client| world.id(*client))
                .collect();
            let is_end = steps < at;
            world.crash(S, power);
            world.start(S);
            run_within(&mut world, S, 1);
            for id in told {
                let view = world.status(S, &id).unwrap();
                let is_fine = view.state == State::Succeeded
                    || view.detail.starts_with("start unknown")
                    || (power && view.state == State::Failed);
                assert!(is_fine, "step {at}: {}", view.detail);
            }
            if is_end {
                break;
            }
        }
    }
}

#[test]
fn units_that_wait_can_be_cancelled_and_released() {
    let mut world = limited(running(1));
    world.command.endless = true;
    let mut ids = Vec::new();
    for _ in 0..4 {
        let client = world.submit(S, "localhost", b"abc");
        world.run(1);
        ids.push(world.id(client));
    }
    let client = world.cancel(S, &ids[1]);
    world.run(1);
    assert!(matches!(
        world.last(client),
        WorkReply::Cancelled { pending: false, .. }
    ));
    assert_eq!(world.status(S, &ids[1]).unwrap().state, State::Canceled);
    let client = world.release(S, &ids[2], false);
    world.run(1);
    assert!(matches!(world.last(client), WorkReply::Released { pending: false, .. }));
    assert_eq!(world.machine(S).units_view()["Queued"], 1);
    world.cancel(S, &ids[0]);
    world.run(20);
    assert_eq!(world.status(S, &ids[3]).unwrap().state, State::Running);
}

#[test]
fn too_many_that_wait_are_refused_and_a_reload_lets_them_run() {
    let mut world = limited(WorkLimits {
        max_queued: Some(1),
        ..running(1)
    });
    world.command.endless = true;
    let submit = |world: &mut World, target: &str| {
        let client = world.submit(S, target, b"abc");
        world.run(2);
        (client, world.last(client))
    };
    assert!(matches!(submit(&mut world, "localhost").1, WorkReply::Started { .. }));
    let (waiting, told) = submit(&mut world, "localhost");
    assert!(matches!(told, WorkReply::Submitted { .. }));
    let text = "too many work units wait: the limit of this node is 1";
    assert_eq!(submit(&mut world, "localhost").1, WorkReply::Error(text.into()));
    let id = world.id(waiting);
    let now = world.now;
    world.machine(S).set_limits(now, running(2));
    world.run(2);
    assert_eq!(world.status(S, &id).unwrap().state, State::Running);
    // And the same over a session.
    assert!(matches!(submit(&mut world, NAMES[E]).1, WorkReply::Started { .. }));
    world.run(20);
    let (_, told) = submit(&mut world, NAMES[E]);
    // It waits there until it starts, or until the client has waited long enough.
    assert_eq!(world.machine(E).units_view()["Queued"], 1);
    drop(told);
    let refused = submit(&mut world, NAMES[E]).1;
    assert_eq!(
        refused,
        WorkReply::Error(format!("could not parse response: ERROR: {text}"))
    );
}

#[test]
fn stdin_has_a_limit_for_clients_and_submitters() {
    let mut world = limited(WorkLimits {
        max_stdin: Some(10),
        ..WorkLimits::default()
    });
    let text = "Error reading input data: stdin is longer than 10 bytes";
    let client = world.submit(S, "localhost", b"0123456789");
    world.run(1);
    let id = world.id(client);
    assert_eq!(world.status(S, &id).unwrap().state, State::Succeeded);
    let client = world.submit(S, "localhost", b"0123456789a");
    world.run(1);
    assert_eq!(world.last(client), WorkReply::Error(text.into()));
    // The submitter allows more than the executor.
    let now = world.now;
    world.machine(S).set_limits(now, WorkLimits::default());
    let client = world.submit(S, NAMES[E], &[7; 300_000]);
    world.run(5);
    let id = world.id(client);
    let view = world.status(S, &id).unwrap();
    assert_eq!((view.state, view.detail.as_str()), (State::Failed, text));
    assert_eq!(runners(&world, E), 0);
}

#[test]
fn a_unit_whose_stdin_does_not_come_fails() {
    let mut world = limited(WorkLimits {
        stdin_timeout: Some(Duration::from_secs(60)),
        ..WorkLimits::default()
    });
    let client = world.submit(S, "localhost", b"");
    world.clients.get_mut(&client).unwrap().holds = true;
    world.run(59);
    let id = world.id(client);
    assert_eq!(world.status(S, &id).unwrap().state, State::Pending);
    world.run(2);
    let view = world.status(S, &id).unwrap();
    let text = "Error reading input data: nothing came for 60 s";
    assert_eq!((view.state, view.detail.as_str()), (State::Failed, text));
    assert_eq!(world.last(client), WorkReply::Error(text.into()));
}

#[test]
fn units_that_ended_expire() {
    let hour = Duration::from_secs(3600);
    let mut world = limited(WorkLimits {
        expire: Some(hour),
        ..WorkLimits::default()
    });
    let local = world.submit(S, "localhost", b"abc");
    let remote = world.submit(S, NAMES[E], b"abc");
    world.run(10);
    let (local, remote) = (world.id(local), world.id(remote));
    assert_eq!(world.status(S, &remote).unwrap().state, State::Succeeded);
    world.crash(S, false);
    world.start(S);
    world.run(3500);
    assert!(world.status(S, &local).is_some() && world.status(S, &remote).is_some());
    world.run(3700);
    assert!(world.status(S, &local).is_none() && world.status(S, &remote).is_none());
    assert!(world.nodes[S].disk.live.is_empty());
    assert!(world.nodes[E].disk.live.is_empty(), "its half goes with it");
}

#[test]
fn what_a_submitter_left_expires_by_its_own_limit() {
    let hour = Duration::from_secs(3600);
    let mut world = limited(WorkLimits {
        expire: Some(Duration::from_secs(10)),
        ..WorkLimits::default()
    });
    let now = world.now;
    world.machine(S).set_limits(now, WorkLimits::default());
    world.submit(S, NAMES[E], b"abc");
    world.run(60);
    assert_eq!(world.nodes[E].disk.live.len(), 1);
    world.crash(S, false);
    world.run(3 * 3600);
    assert_eq!(world.nodes[E].disk.live.len(), 1);
    let now = world.now;
    world.machine(E).set_limits(
        now,
        WorkLimits {
            expire_remote: Some(hour),
            ..WorkLimits::default()
        },
    );
    world.run(120);
    assert!(world.nodes[E].disk.live.is_empty());
}

#[test]
fn limits_and_counts_are_shown() {
    let mut world = limited(WorkLimits {
        expire: Some(Duration::from_secs(90)),
        max_units: Some(7),
        ..running(2)
    });
    world.submit(S, "localhost", b"abc");
    world.run(1);
    let limits = world.machine(S).limits_view();
    assert_eq!((&limits["MaxRunning"], &limits["MaxUnits"]), (&2.into(), &7.into()));
    assert_eq!(
        (&limits["Expire"], &limits["MaxStdin"]),
        (&90.0.into(), &serde_json::Value::Null)
    );
    let units = world.machine(S).units_view();
    assert_eq!((&units["Finished"], &units["Running"]), (&1.into(), &0.into()));
    assert!(units["Oldest"].as_str().unwrap().starts_with("2024-10-29T12:01:05"));
}
