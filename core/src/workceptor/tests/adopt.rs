//! Units that another node takes over.

use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::super::*;
use super::disk::Disk;
use super::go::Border;
use super::world::{E, NAMES, S, World};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn request(node: &str, unit: &str, start: u64) -> WorkRequest {
    WorkRequest::Adopt(
        AdoptRequest {
            node: node.into(),
            unit: unit.into(),
            start,
            ..AdoptRequest::default()
        }
        .into(),
    )
}

fn adopt(world: &mut World, unit: &str, start: u64) -> ClientKey {
    world.request(S, request(NAMES[E], unit, start))
}

fn adopted(unit: &str, fresh: bool) -> WorkReply {
    let unit = UnitId::parse(unit).unwrap();
    WorkReply::Adopted { unit, fresh }
}

/// A unit on the executor whose submitter is gone for ever; another node is in its place.
fn orphan(endless: bool, stdin: &[u8]) -> (World, String) {
    let mut world = World::new();
    world.command.endless = endless;
    let client = world.submit(S, NAMES[E], stdin);
    world.run(2);
    let id = world.id(client);
    world.replace(S);
    world.logs.clear();
    (world, id)
}

#[test]
fn a_unit_is_taken_over_while_it_runs_and_when_it_has_ended() {
    for endless in [true, false] {
        let stdin = pattern(3000);
        let (mut world, id) = orphan(endless, &stdin);
        assert_eq!(world.status(S, &id), None);
        let client = adopt(&mut world, &id, 0);
        world.run(1);
        assert_eq!(world.replies(client), [adopted(&id, true)]);
        let view = world.status(S, &id).unwrap();
        assert_eq!(view.extra["RemoteNode"], NAMES[E]);
        assert_eq!(view.extra["RemoteUnitID"], *id);
        assert_eq!(view.extra["RemoteWorkType"], "cat");
        assert_eq!(view.work_type, "remote");
        let reader = world.results(S, &id);
        world.command.endless = false;
        world.run(2);
        assert_eq!(world.clients[&reader].data, stdin);
        assert!(world.clients[&reader].results_end);
        let view = world.status(S, &id).unwrap();
        assert_eq!((view.state, view.stdout_size), (State::Succeeded, 3000));
        assert_eq!(view.extra["ExitCode"], 0);
        let again = adopt(&mut world, &id, 0);
        let release = world.release(S, &id, false);
        world.run(2);
        assert_eq!(world.last(again), adopted(&id, false));
        assert!(matches!(
            world.last(release),
            WorkReply::Released { pending: false, .. }
        ));
        assert!(world.nodes.iter().all(|node| node.disk.live.is_empty()));
        let late = adopt(&mut world, &id, 0);
        world.run(2);
        let expected = format!("unknown work unit {id}: already released");
        assert_eq!(world.last(late), WorkReply::Error(expected));
        assert!(world.only(S).is_none());
        assert!(world.logs.is_empty(), "{:?}", world.logs);
    }
}

#[test]
fn the_parameters_of_the_submitter_are_shown() {
    let mut world = World::new();
    let request = SubmitRequest {
        node: NAMES[E].into(),
        work_type: "open".into(),
        params: BTreeMap::from([("params".to_string(), "'echo x'".to_string())]),
        ..SubmitRequest::default()
    };
    let client = world.submit_request(S, request, b"x");
    world.run(1);
    let id = world.id(client);
    world.replace(S);
    adopt(&mut world, &id, 0);
    world.run(1);
    let view = world.status(S, &id).unwrap();
    assert_eq!(view.extra["RemoteWorkType"], "open");
    assert_eq!(view.extra["RemoteParams"], serde_json::json!({ "params": "'echo x'" }));
}

#[test]
fn clients_that_ask_at_one_time_adopt_one_unit() {
    let (mut world, id) = orphan(true, b"abc");
    let clients: Vec<ClientKey> = (0..3).map(|_| adopt(&mut world, &id, 0)).collect();
    let now = world.now;
    world.machine(S).client_gone(now, clients[0]);
    world.run(1);
    assert_eq!(world.replies(clients[0]), []);
    assert_eq!(world.replies(clients[1]), [adopted(&id, true)]);
    assert_eq!(world.replies(clients[2]), [adopted(&id, false)]);
    assert_eq!(world.machine(S).unit_count(), 1);
    let here = world.request(E, request(NAMES[E], &id, 0));
    world.run(0);
    assert_eq!(world.last(here), adopted(&id, false), "it is here");
}

#[test]
fn the_submitter_itself_has_its_unit_already() {
    let mut world = World::new();
    let client = world.submit(S, NAMES[E], b"abc");
    world.run(1);
    let id = world.id(client);
    let client = adopt(&mut world, &id, 0);
    world.run(1);
    assert_eq!(world.last(client), adopted(&id, false));
}

#[test]
fn an_id_that_is_taken_here_is_replaced() {
    let (mut world, id) = orphan(true, b"abc");
    let request = SubmitRequest {
        node: NAMES[S].into(),
        work_type: "cat".into(),
        work_unit_id: Some(id.clone()),
        ..SubmitRequest::default()
    };
    world.submit_request(S, request, b"x");
    world.run(1);
    let client = adopt(&mut world, &id, 0);
    world.run(1);
    let WorkReply::Adopted { unit, fresh: true } = world.last(client) else {
        panic!("{:?}", world.last(client));
    };
    assert_ne!(unit.as_str(), id);
    assert_eq!(world.status(S, unit.as_str()).unwrap().extra["RemoteUnitID"], *id);
    let again = adopt(&mut world, &id, 0);
    world.run(0);
    assert_eq!(world.last(again), WorkReply::Adopted { unit, fresh: false });
}

#[test]
fn what_is_not_to_be_had_leaves_nothing() {
    let (mut world, id) = orphan(true, b"abc");
    let unknown = adopt(&mut world, "nobodys1", 0);
    let illegal = adopt(&mut world, "../x", 0);
    world.run(1);
    for (client, name) in [(unknown, "nobodys1"), (illegal, "../x")] {
        assert_eq!(world.last(client), WorkReply::Error(unknown_unit(name)));
    }
    world.cut_all();
    let client = adopt(&mut world, &id, 0);
    world.run(14);
    assert_eq!(world.replies(client), []);
    assert_eq!(world.status(S, &id), None, "not before it is here");
    world.run(2);
    assert_eq!(
        world.last(client),
        WorkReply::Error("node executor cannot be reached".into())
    );
    assert_eq!(world.machine(S).unit_count(), 0);
    assert!(world.nodes[S].disk.live.is_empty());
    world.run(600);
    let opened = world.opened.len();
    world.run(600);
    assert_eq!(world.opened.len(), opened, "nobody wants the node any more");
    world.cut = false;
    world.nodes[S].disk.full = true;
    let client = adopt(&mut world, &id, 0);
    world.run(1);
    assert_eq!(world.last(client), WorkReply::Error("no space left on device".into()));
    world.nodes[S].disk.full = false;
    let client = adopt(&mut world, &id, 0);
    world.run(1);
    assert_eq!(world.last(client), adopted(&id, true));
}

#[test]
fn a_crash_at_any_step_of_an_adoption_does_no_harm() {
    for machine in [false, true] {
        for node in [S, E] {
            let mut steps = 0;
            loop {
                let stdin = pattern(3000);
                let (mut world, id) = orphan(false, &stdin);
                let client = adopt(&mut world, &id, 0);
                let was_over = (0..steps).any(|_| !world.step());
                let was_told = !world.replies(client).is_empty();
                world.crash(node, machine);
                world.run(1);
                world.start(node);
                world.run(20);
                if was_told && node == S {
                    assert!(world.status(S, &id).is_some(), "step {steps}: {:?}", world.logs);
                }
                let again = adopt(&mut world, &id, 0);
                world.run(40);
                let reply = world.last(again);
                assert!(matches!(reply, WorkReply::Adopted { .. }), "step {steps}: {reply:?}");
                let view = world.status(S, &id).unwrap();
                assert_eq!(view.state, State::Succeeded, "step {steps}: {view:?} {:?}", world.logs);
                let unit = UnitId::parse(&id).unwrap();
                assert_eq!(world.stdout(S, &unit), stdin, "step {steps}");
                if was_over {
                    break;
                }
                steps += 1;
            }
            assert!(steps > 10, "{steps}");
        }
    }
}

/// Results begin where the other node had come to.
#[test]
fn output_is_taken_over_from_an_offset_on() {
    let stdin = pattern(3000);
    for (start, crash) in [
        (1000, None),
        (1000, Some(false)),
        (1000, Some(true)),
        (3000, None),
        (9000, None),
    ] {
        let (mut world, id) = orphan(true, &stdin);
        let client = adopt(&mut world, &id, start);
        world.run(1);
        assert_eq!(world.last(client), adopted(&id, true));
        if let Some(machine) = crash {
            world.crash(S, machine);
            world.start(S);
            world.run(1);
        }
        world.command.endless = false;
        world.run(5);
        let view = world.status(S, &id).unwrap();
        assert_eq!((view.state, view.stdout_size), (State::Succeeded, 3000), "from {start}");
        let results = |start| WorkRequest::Results {
            unit: id.clone(),
            start,
            signature: None,
        };
        let before = world.request(S, results(i64::try_from(start).unwrap() - 1));
        let from = world.request(S, results(i64::try_from(start).unwrap()));
        world.run(1);
        let text = format!("output of unit {id} before byte {start} is not here: it was adopted from there on");
        assert_eq!(world.last(before), WorkReply::Error(text));
        let expected = stdin.get(usize::try_from(start).unwrap()..).unwrap_or_default();
        assert_eq!(world.clients[&from].data, expected);
        assert!(world.clients[&from].results_end);
    }
}

#[test]
fn a_unit_of_a_classic_executor_is_taken_over() {
    for endless in [true, false] {
        let mut border = Border::new(true, 3);
        border.go.endless = endless;
        let stdin = pattern(5000);
        let id = border.submit(&stdin);
        border.run(3);
        border.disk = Disk::default();
        border.restart(true, 4);
        let client = border.request(request("go", &id, 0));
        let nobody = border.request(request("go", "nobodys1", 0));
        border.run(2);
        let reply = |client| &border.replies.iter().find(|(to, _)| *to == client).unwrap().1;
        assert_eq!(*reply(client), adopted(&id, true));
        assert_eq!(*reply(nobody), WorkReply::Error("unknown work unit nobodys1".into()));
        let view = border.status(&id);
        assert_eq!(view.extra["RemoteWorkType"], "cat");
        if endless {
            assert_eq!(view.extra["RemoteParams"]["params"], "-u x");
        }
        border.go.endless = false;
        border.run(5);
        assert_eq!(border.status(&id).state, State::Succeeded);
        assert_eq!(border.stdout(&id), stdin);
        border.cut = true;
        border.restart(false, 5);
        let client = border.request(request("go", "other123", 0));
        border.run(20);
        let reply = &border.replies.iter().find(|(to, _)| *to == client).unwrap().1;
        assert_eq!(*reply, WorkReply::Error("node go cannot be reached".into()));
    }
}
