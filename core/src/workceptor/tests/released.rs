//! What is known of units that were released.

use alloc::format;
use alloc::string::String;

use super::super::*;
use super::world::{E, NAMES, S, World};
use crate::wire::work::{Message, Submit};

fn released(id: &str) -> WorkReply {
    WorkReply::Released {
        unit: id.into(),
        pending: false,
    }
}

fn unknown(id: &str) -> WorkReply {
    WorkReply::Error(format!("unknown work unit {id}: already released"))
}

/// A unit that has run and was released.
fn gone(world: &mut World, target: &str) -> String {
    let client = world.submit(S, target, b"abc");
    world.run(1);
    let id = world.id(client);
    let release = world.release(S, &id, false);
    world.run(1);
    assert_eq!(world.last(release), released(&id));
    id
}

#[test]
fn a_released_unit_is_released_already() {
    for target in NAMES {
        for restart in [None, Some(false)] {
            let mut world = World::new();
            let id = gone(&mut world, target);
            if let Some(machine) = restart {
                world.crash(S, machine);
                world.start(S);
            }
            for force in [false, true] {
                let again = world.release(S, &id, force);
                world.run(0);
                assert_eq!(world.last(again), released(&id));
            }
            let list = world.request(S, WorkRequest::List { unit: Some(id.clone()) });
            let status = world.request(S, WorkRequest::Status { unit: id.clone() });
            let results = world.results(S, &id);
            let cancel = world.cancel(S, &id);
            let all = world.request(S, WorkRequest::List { unit: None });
            world.run(0);
            for client in [list, status, results, cancel] {
                assert_eq!(world.last(client), unknown(&id));
            }
            assert_eq!(world.last(all), WorkReply::List(BTreeMap::new()));
            assert!(world.logs.is_empty(), "{:?}", world.logs);
        }
    }
}

#[test]
fn the_id_of_a_unit_that_has_run_is_not_used_again() {
    let mut world = World::new();
    let id = gone(&mut world, NAMES[S]);
    let request = SubmitRequest {
        node: NAMES[S].into(),
        work_type: "cat".into(),
        work_unit_id: Some(id.clone()),
        ..SubmitRequest::default()
    };
    let client = world.submit_request(S, request, b"");
    world.run(0);
    let id = UnitId::parse(&id).unwrap();
    assert_eq!(world.replies(client), [WorkReply::Error(submit::in_use(&id))]);
}

/// As a submission that broke and is made anew (`work.md` §11.3).
#[test]
fn the_id_of_a_unit_that_never_ran_may_be_used_again() {
    let mut world = World::new();
    let request = || SubmitRequest {
        node: NAMES[S].into(),
        work_type: "cat".into(),
        work_unit_id: Some("again".into()),
        ..SubmitRequest::default()
    };
    let first = world.submit_request(S, request(), b"");
    world.clients.get_mut(&first).unwrap().holds = true;
    world.run(0);
    let release = world.release(S, "again", false);
    world.run(0);
    assert_eq!(world.last(release), released("again"));
    let second = world.submit_request(S, request(), b"abc");
    world.run(1);
    assert_eq!(
        world.last(second),
        WorkReply::Started {
            unit: UnitId::parse("again").unwrap()
        }
    );
    assert_eq!(world.status(S, "again").unwrap().state, State::Succeeded);
}

/// A session that is lost may deliver its last messages when the unit is gone already.
#[test]
fn a_late_submission_of_an_old_session_makes_no_unit() {
    for (release, known) in [(true, true), (true, false), (false, false)] {
        let mut world = World::new();
        let now = world.now;
        let from = Requester {
            node: Some(NAMES[S].into()),
            ..Requester::default()
        };
        let submit = Submit {
            unit: "late1".into(),
            work_type: "cat".into(),
            ..Submit::default()
        };
        let send = |world: &mut World, session: u64, channel: u32, message: &Message| {
            let mut bytes = alloc::vec::Vec::new();
            message.encode(channel, &mut bytes).unwrap();
            world.machine(E).session_data(now, SessionKey(session), bytes.into());
            world.run(0);
        };
        for session in [1, 2, 3] {
            world.machine(E).session_opened(now, SessionKey(session), &from);
        }
        if known {
            send(&mut world, 1, 1, &Message::Submit(submit.clone()));
            assert!(world.only(E).is_some());
        }
        let (unit, signature) = ("late1".into(), String::new());
        let end = if release {
            let force = false;
            Message::Release { unit, force, signature }
        } else {
            Message::Cancel { unit, signature }
        };
        send(&mut world, 2, 1, &end);
        assert!(world.only(E).is_none());
        for session in [1, 3] {
            send(&mut world, session, 2, &Message::Submit(submit.clone()));
            assert!(world.only(E).is_none(), "{:?}", world.only(E));
        }
        world.run(0);
        assert!(world.nodes[E].disk.live.is_empty());
    }
}

/// Released by force while its executor is away: it hears of it when it is back, whatever happens to the submitter.
#[test]
fn a_release_by_force_is_owed_to_the_executor() {
    for crash in [None, Some(false), Some(true)] {
        let mut world = World::new();
        world.command.endless = true;
        let client = world.submit(S, NAMES[E], b"abc");
        world.run(1);
        let id = world.id(client);
        world.cut_all();
        let release = world.release(S, &id, true);
        world.run(20);
        assert_eq!(world.last(release), released(&id));
        assert!(world.only(S).is_none() && world.nodes[S].disk.live.is_empty());
        if let Some(machine) = crash {
            world.crash(S, machine);
            world.start(S);
            world.run(20);
        }
        assert!(world.only(E).is_some_and(|(_, unit)| !unit.is_complete()));
        world.cut = false;
        world.run(120);
        assert!(world.only(E).is_none(), "{:?} {:?}", world.only(E), world.logs);
        assert!(world.nodes[E].disk.runners.is_empty());
        assert_eq!(world.nodes[S].disk.scan().released.last().unwrap().owed, None);
        let opened = world.opened.len();
        world.run(600);
        assert_eq!(world.opened.len(), opened, "nothing is owed any more");
        let again = world.release(S, &id, false);
        world.run(1);
        assert_eq!(world.last(again), released(&id));
    }
}

#[test]
fn an_executor_that_stays_away_is_owed_nothing_after_a_week() {
    let mut world = World::new();
    let client = world.submit(S, NAMES[E], b"abc");
    world.run(1);
    let id = world.id(client);
    world.cut_all();
    world.release(S, &id, true);
    world.run(8 * 24 * 3600);
    assert!(
        world.logs.last().unwrap().ends_with("could not be told for 7 days"),
        "{:?}",
        world.logs
    );
    let opened = world.opened.len();
    world.run(3600);
    assert_eq!(world.opened.len(), opened);
    assert_eq!(world.nodes[S].disk.scan().released.last().unwrap().owed, None);
}
