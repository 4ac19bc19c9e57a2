//! Units that run on the other node.

use super::super::*;
use super::world::{E, NAMES, S, World};
use crate::time::Duration;

fn pattern(len: usize) -> alloc::vec::Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[test]
fn a_remote_unit_runs_and_its_output_comes_back() {
    let mut world = World::new();
    let stdin = pattern(1024);
    let client = world.submit(S, NAMES[E], &stdin);
    while world.replies(client).is_empty() {
        assert!(world.step());
    }
    let id = world.id(client);
    let reader = world.results(S, &id);
    world.run(0);
    assert!(matches!(world.last(client), WorkReply::Started { .. }));
    assert_eq!(world.clients[&reader].data, stdin);
    assert!(world.clients[&reader].results_end);
    let view = world.status(S, &id).unwrap();
    assert_eq!(
        (view.state, view.detail.as_str(), view.stdout_size),
        (State::Succeeded, "exit status 0", 1024)
    );
    assert_eq!(view.work_type, "remote");
    assert_eq!(view.extra["RemoteUnitID"], *id);
    assert_eq!(view.extra["RemoteStarted"], true);
    assert_eq!(view.extra["ExitCode"], 0);
    assert_eq!(world.status(E, &id).unwrap().work_type, "cat");
    assert!(world.logs.is_empty(), "{:?}", world.logs);
}

#[test]
fn a_long_output_stays_within_the_windows() {
    let mut world = World::new();
    world.command.times = 10;
    world.command.chunk = 300_000;
    let stdin = pattern(1 << 20);
    let client = world.submit(S, NAMES[E], &stdin);
    world.run(5);
    let id = world.id(client);
    let id = UnitId::parse(&id).unwrap();
    assert_eq!(
        world.only(S).unwrap().1.record.state,
        State::Succeeded,
        "{:?}",
        world.logs
    );
    assert!(world.stdout(S, &id) == stdin.repeat(10), "output differs");
    assert!(
        world.peak <= SESSION_WINDOW + READ_MAX,
        "{} bytes under way",
        world.peak
    );
}

#[test]
fn the_session_is_lost_while_output_comes() {
    let mut world = World::new();
    world.command.times = 40;
    let stdin = pattern(1000);
    let client = world.submit(S, NAMES[E], &stdin);
    for round in 0..20 {
        for _ in 0..13 + round {
            world.step();
        }
        world.cut_pipes(|_| true, "lost");
    }
    world.run(200);
    let id = UnitId::parse(&world.id(client)).unwrap();
    assert_eq!(
        world.only(S).unwrap().1.record.state,
        State::Succeeded,
        "{:?}",
        world.logs
    );
    assert_eq!(world.stdout(S, &id), stdin.repeat(40));
    assert_eq!(world.nodes[E].disk.runs[&id], 1);
}

#[test]
fn a_unit_waits_for_a_node_that_cannot_be_reached() {
    let mut world = World::new();
    world.cut_all();
    let client = world.submit(S, NAMES[E], b"abc");
    world.run(1);
    let id = world.id(client);
    assert_eq!(
        world.last(client),
        WorkReply::Submitted {
            unit: UnitId::parse(&id).unwrap()
        }
    );
    world.run(100);
    world.crash(S, true);
    world.start(S);
    world.run(100);
    assert_eq!(world.status(S, &id).unwrap().state, State::Pending);
    world.cut = false;
    let now = world.now;
    world.machine(S).route_changed(now, NAMES[E]);
    world.run(0);
    assert_eq!(
        world.status(S, &id).unwrap().state,
        State::Succeeded,
        "{:?}",
        world.logs
    );
}

#[test]
fn a_lost_session_is_opened_again_in_a_moment() {
    let mut world = World::new();
    world.command.endless = true;
    world.submit(S, NAMES[E], b"abc");
    world.run(1);
    world.cut_pipes(|_| true, "lost");
    world.command.endless = false;
    world.run(0);
    assert_eq!(world.only(S).unwrap().1.record.state, State::Running);
    world.pass(Duration::from_millis(250));
    let now = world.now;
    world.machine(S).handle_timeout(now);
    world.run(0);
    assert_eq!(world.only(S).unwrap().1.record.state, State::Succeeded);
}

#[test]
fn a_unit_expires_that_did_not_start_in_time() {
    let mut world = World::new();
    world.cut_all();
    let request = SubmitRequest {
        node: NAMES[E].into(),
        work_type: "cat".into(),
        ttl: Some(Duration::from_secs(7200)),
        ..SubmitRequest::default()
    };
    let client = world.submit_request(S, request.clone(), b"abc");
    world.run(3600);
    let id = world.id(client);
    let view = world.status(S, &id).unwrap();
    assert_eq!(
        (view.state, &view.extra["Expiration"]),
        (State::Pending, &"2024-10-29T14:01:05Z".into())
    );
    world.crash(S, false);
    world.start(S);
    world.run(3601);
    let view = world.status(S, &id).unwrap();
    assert_eq!(
        (view.state, view.detail.as_str()),
        (State::Failed, "Work unit expired on Tue Oct 29 14:01:05")
    );
    world.cut = false;
    world.run(100);
    assert!(world.nodes[E].disk.live.is_empty());
    let started = world.submit_request(S, request, b"abc");
    world.run(8000);
    let id = world.id(started);
    assert_eq!(world.status(S, &id).unwrap().state, State::Succeeded);
}

#[test]
fn a_refusal_of_the_executor_reaches_the_client() {
    for (work_type, reason) in [
        ("nope", "could not parse response: ERROR: unknown work type nope"),
        (
            "kube",
            "could not parse response: ERROR: work type kube is not available: not built",
        ),
    ] {
        let mut world = World::new();
        let request = SubmitRequest {
            node: NAMES[E].into(),
            work_type: work_type.into(),
            ..SubmitRequest::default()
        };
        let client = world.submit_request(S, request, b"abc");
        world.run(1);
        let id = world.id(client);
        assert_eq!(world.last(client), WorkReply::Error(reason.into()));
        let view = world.status(S, &id).unwrap();
        assert_eq!(view.state, State::Failed);
        assert_eq!(view.detail, alloc::format!("Error starting worker: {reason}"));
        assert!(world.nodes[E].disk.live.is_empty());
    }
}

#[test]
fn a_failed_start_there_is_a_failed_start_here() {
    let mut world = World::new();
    let request = SubmitRequest {
        node: NAMES[E].into(),
        work_type: "missing".into(),
        ..SubmitRequest::default()
    };
    let client = world.submit_request(S, request, b"abc");
    world.run(1);
    let id = world.id(client);
    assert_eq!(world.last(client), WorkReply::Error("cannot fork".into()));
    assert_eq!(
        world.status(S, &id).unwrap().detail,
        "Error starting worker: cannot fork"
    );
}

#[test]
fn a_unit_that_vanished_there_is_gone() {
    let mut world = World::new();
    world.command.endless = true;
    let client = world.submit(S, NAMES[E], b"abc");
    world.run(1);
    let id = world.id(client);
    world.release(E, &id, false);
    world.run(1);
    let view = world.status(S, &id).unwrap();
    assert!(view.state.is_complete(), "{view:?} {:?}", world.logs);
}

#[test]
fn many_units_share_one_session() {
    let mut world = World::new();
    let stdin = pattern(3000);
    let clients: alloc::vec::Vec<_> = (0..50).map(|_| world.submit(S, NAMES[E], &stdin)).collect();
    world.run(5);
    for client in clients {
        let id = UnitId::parse(&world.id(client)).unwrap();
        assert_eq!(world.stdout(S, &id), stdin);
        assert_eq!(world.status(S, id.as_str()).unwrap().state, State::Succeeded);
    }
}

/// Each barrier costs milliseconds: created, accepted with its stdin and final here; starting and final there.
#[test]
fn a_unit_costs_three_barriers_here_and_two_there() {
    let mut world = World::new();
    world.submit(S, NAMES[E], b"abc");
    world.run(1);
    let before = [S, E].map(|node| world.nodes[node].disk.syncs);
    world.submit(S, NAMES[E], b"abc");
    world.run(1);
    let after = [S, E].map(|node| world.nodes[node].disk.syncs);
    assert_eq!([after[S] - before[S], after[E] - before[E]], [3, 2]);
}

/// The executor begins while the submitter's barrier is under way; the client waits for both.
#[test]
fn a_client_is_answered_once_what_it_submitted_is_durable() {
    for target in NAMES {
        let mut world = World::new();
        let client = world.submit(S, target, b"its stdin");
        while world.replies(client).is_empty() {
            assert!(world.step());
        }
        let durable = |world: &World| world.nodes[S].disk.durable.values().next().cloned();
        assert!(durable(&world).is_some(), "told of a unit that is not durable");
        while world.replies(client).len() < 2 {
            assert!(world.step());
        }
        assert!(matches!(world.last(client), WorkReply::Started { .. }));
        let dir = durable(&world).unwrap();
        assert_eq!(dir.stdin, b"its stdin", "{target}");
        let record = Record::parse(&dir.record).unwrap();
        let is_accepted = match &record.extra {
            Extra::Remote(extra) => extra.stdin_complete,
            Extra::Command(extra) => extra.starting,
            Extra::Other(_) => false,
        };
        assert!(is_accepted, "{target}: {record:?}");
    }
}

/// A disk that fails between the two: the executor may have begun, so it is told to end.
#[test]
fn a_unit_whose_stdin_cannot_be_made_durable_fails_and_is_ended_at_its_executor() {
    let mut world = World::new();
    world.command.endless = true;
    let client = world.submit(S, NAMES[E], b"abc");
    world.nodes[S].disk.fail_syncs = true;
    world.run(5);
    assert!(
        matches!(world.last(client), WorkReply::Error(_)),
        "{:?}",
        world.replies(client)
    );
    world.nodes[S].disk.fail_syncs = false;
    world.run(60);
    let (_, here) = world.only(S).unwrap();
    assert_eq!(here.record.state, State::Failed, "{:?}", here.record);
    let (_, there) = world.only(E).unwrap();
    assert_eq!(there.record.state, State::Canceled, "{:?}", there.record);
}

/// A release after the end has a channel of its own, on which nothing was submitted.
#[test]
fn a_session_forgets_the_channels_of_units_that_are_gone() {
    let mut world = World::new();
    for _ in 0..3 {
        let client = world.submit(S, NAMES[E], b"abc");
        world.run(1);
        let id = world.id(client);
        world.release(S, &id, false);
        world.run(1);
        assert!(world.only(S).is_none());
        let sessions = &world.machine(E).sessions;
        assert_eq!(sessions.len(), 1);
        assert!(sessions.values().all(|session| session.channels.is_empty()));
    }
}

#[test]
fn many_long_outputs_share_one_session() {
    let mut world = World::new();
    world.command.times = 100;
    world.command.chunk = 200_000;
    let stdin = pattern(5000);
    let clients: alloc::vec::Vec<_> = (0..20).map(|_| world.submit(S, NAMES[E], &stdin)).collect();
    world.run(5);
    for client in clients {
        let id = UnitId::parse(&world.id(client)).unwrap();
        assert!(world.stdout(S, &id) == stdin.repeat(100), "output differs");
        assert_eq!(world.status(S, id.as_str()).unwrap().state, State::Succeeded);
    }
    assert!(
        world.peak <= SESSION_WINDOW + READ_MAX,
        "{} bytes under way",
        world.peak
    );
}

#[test]
fn a_long_stdin_stays_within_the_windows() {
    let mut world = World::new();
    world.command.chunk = 1 << 20;
    let stdin = pattern(5 << 20);
    let clients: alloc::vec::Vec<_> = (0..3).map(|_| world.submit(S, NAMES[E], &stdin)).collect();
    world.run(0);
    for client in clients {
        let id = UnitId::parse(&world.id(client)).unwrap();
        assert!(world.nodes[E].disk.live[&id].stdin == stdin, "stdin differs");
    }
    assert!(
        world.peak <= SESSION_WINDOW + READ_MAX,
        "{} bytes under way",
        world.peak
    );
}
