//! Full disks, damaged output, peers that break the protocol.

use alloc::vec::Vec;

use bytes::Bytes;

use super::super::*;
use super::world::{E, NAMES, S, World};
use crate::wire::work::{End, Message, Status, Submit};
use alloc::string::{String, ToString as _};

fn from(node: &str) -> Requester {
    Requester {
        node: Some(node.into()),
        ..Requester::default()
    }
}

#[test]
fn a_full_disk_while_spooling_is_told_and_fails_the_unit() {
    for target in NAMES {
        let mut world = World::new();
        let client = world.submit(S, target, &[1; 700_000]);
        while world.clients[&client].credit == 0 && !world.clients[&client].ready {
            world.step();
        }
        world.nodes[S].disk.full = true;
        world.run(2);
        let id = world.id(client);
        assert_eq!(
            world.last(client),
            WorkReply::Error("Error reading input data: no space left on device".into())
        );
        assert_eq!(
            world.status(S, &id).unwrap().state,
            State::Pending,
            "nothing is announced that is not recorded"
        );
        assert!(
            world.nodes[S].disk.live[&UnitId::parse(&id).unwrap()].stdin.is_empty(),
            "what nobody will read leaves its room to the record"
        );
        world.nodes[S].disk.full = false;
        world.run(100);
        let view = world.status(S, &id).unwrap();
        assert_eq!(
            (view.state, view.detail.as_str()),
            (State::Failed, "Error reading input data: no space left on device")
        );
        if let Some(there) = world.status(E, &id) {
            assert!(there.state.is_complete(), "{there:?} {:?}", world.logs);
        }
        let again = world.submit(S, target, b"x");
        world.run(5);
        let id = world.id(again);
        assert_eq!(world.status(S, &id).unwrap().state, State::Succeeded);
    }
}

#[test]
fn a_full_disk_at_creation_is_told() {
    let mut world = World::new();
    world.nodes[S].disk.full = true;
    let client = world.submit(S, NAMES[S], b"x");
    world.run(1);
    assert_eq!(
        world.replies(client),
        [WorkReply::Error("no space left on device".into())]
    );
    assert!(world.only(S).is_none());
}

#[test]
fn a_full_disk_holds_output_back_until_there_is_room() {
    let mut world = World::new();
    world.command.times = 2000;
    world.command.chunk = 100_000;
    let stdin = [3; 1000];
    let client = world.submit(S, NAMES[E], &stdin);
    while world.only(S).is_none_or(|(_, unit)| unit.output < 100_000) {
        assert!(world.step());
    }
    world.nodes[S].disk.full = true;
    world.run(120);
    let id = UnitId::parse(&world.id(client)).unwrap();
    assert!(!world.only(S).unwrap().1.is_complete());
    let errors = world
        .logs
        .iter()
        .filter(|line| line.contains("cannot write its output"))
        .count();
    assert_eq!(errors, 1, "{:?}", world.logs);
    world.nodes[S].disk.full = false;
    world.run(100);
    assert_eq!(world.only(S).unwrap().1.record.state, State::Succeeded);
    assert!(world.stdout(S, &id) == stdin.repeat(2000));
}

#[test]
fn damaged_output_is_fetched_again_and_in_the_end_refused() {
    for (damage, state) in [(1, State::Succeeded), (2, State::Succeeded), (1000, State::Failed)] {
        let mut world = World::new();
        world.nodes[S].disk.damage = damage;
        let client = world.submit(S, NAMES[E], &[4; 500]);
        world.run(5);
        let id = UnitId::parse(&world.id(client)).unwrap();
        let record = &world.only(S).unwrap().1.record;
        assert_eq!(record.state, state, "{record:?}");
        if state == State::Failed {
            assert_eq!(record.detail, "output incomplete (checksum of 500 bytes differs)");
        } else {
            assert_eq!(world.stdout(S, &id), [4; 500]);
        }
    }
}

#[test]
fn output_that_is_missing_there_is_told() {
    let mut world = World::new();
    world.command.endless = true;
    let client = world.submit(S, NAMES[E], &[4; 5000]);
    world.run(1);
    let id = UnitId::parse(&world.id(client)).unwrap();
    world.cut_all();
    world.command.endless = false;
    world.run(2);
    world.nodes[E].disk.live.get_mut(&id).unwrap().stdout.truncate(10);
    world.nodes[S].disk.live.get_mut(&id).unwrap().stdout.truncate(10);
    world.crash(S, false);
    world.start(S);
    world.cut = false;
    world.run(100);
    let record = &world.only(S).unwrap().1.record;
    assert_eq!(
        (record.state, record.detail.as_str()),
        (State::Failed, "output incomplete (10 of 5000)")
    );
}

/// Sends messages to an executor without a submitter behind them.
fn inject(world: &mut World, messages: &[(u32, Message)]) -> Vec<WorkOutput> {
    let (now, key) = (world.now, SessionKey(77));
    let machine = world.machine(E);
    machine.session_opened(now, key, &from("stranger"));
    for (channel, message) in messages {
        let mut bytes = Vec::new();
        message.encode(*channel, &mut bytes).unwrap();
        machine.session_data(now, key, bytes.into());
    }
    core::iter::from_fn(|| machine.poll_output()).collect()
}

fn is_closed(outputs: &[WorkOutput]) -> bool {
    outputs
        .iter()
        .any(|output| matches!(output, WorkOutput::CloseSession(SessionKey(77))))
}

#[test]
fn a_submitter_that_breaks_the_protocol_is_cut_off() {
    let submit = |unit: &str| {
        Message::Submit(Submit {
            unit: unit.into(),
            work_type: "cat".into(),
            ..Submit::default()
        })
    };
    let data = || Message::Stdin {
        offset: 0,
        data: Bytes::from_static(b"x"),
    };
    for messages in [
        alloc::vec![(0, submit("a"))],
        alloc::vec![(1, submit("a")), (1, submit("b"))],
        alloc::vec![(1, submit("a")), (1, data())],
        alloc::vec![(1, submit("a")), (1, Message::StdinEnd { total: 5 })],
    ] {
        let mut world = World::new();
        assert!(is_closed(&inject(&mut world, &messages)), "{messages:?}");
    }
    let mut world = World::new();
    let now = world.now;
    world
        .machine(E)
        .session_opened(now, SessionKey(77), &Requester::default());
    world
        .machine(E)
        .session_data(now, SessionKey(77), Bytes::from_static(&[0xff; 64]));
    let outputs: Vec<WorkOutput> = core::iter::from_fn(|| world.machine(E).poll_output()).collect();
    assert!(is_closed(&outputs));
}

#[test]
fn units_of_one_submitter_are_not_taken_over_by_another() {
    let mut world = World::new();
    world.command.endless = true;
    let client = world.submit(S, NAMES[E], b"abc");
    world.run(1);
    let id = world.id(client);
    let submit = Message::Submit(Submit {
        unit: id.clone(),
        work_type: "cat".into(),
        ..Submit::default()
    });
    let outputs = inject(&mut world, &[(1, submit)]);
    let text = "cannot use the same workunit ID more than once";
    let refused = outputs.iter().any(|output| match output {
        WorkOutput::SessionSend(_, bytes) => String::from_utf8_lossy(bytes).contains(text),
        _ => false,
    });
    assert!(refused, "{outputs:?}");
}

/// Any message of either direction, with numbers that are often those in use.
fn any_message(rng: &mut Rng, id: &str) -> Message {
    let number = |rng: &mut Rng| match rng.below(6) {
        0 => 0,
        1 => 3,
        2 => 3000,
        3 => u64::MAX,
        _ => rng.below(5000),
    };
    let unit = match rng.below(4) {
        0 => "../x".into(),
        1 => String::new(),
        _ => String::from(id),
    };
    let signature = String::new();
    let data = Bytes::from(alloc::vec![9; rng.below(2000) as usize]);
    let text = if rng.below(2) == 0 {
        unknown_unit(id)
    } else {
        "no".into()
    };
    let state = rng.below(7) as u8;
    match rng.below(16) {
        0 => Message::Submit(Submit {
            unit,
            work_type: "cat".into(),
            ..Submit::default()
        }),
        1 => Message::Stdin {
            offset: number(rng),
            data,
        },
        2 => Message::StdinEnd { total: number(rng) },
        3 => Message::Attach {
            unit,
            offset: number(rng),
            signature,
        },
        4 => Message::Cancel { unit, signature },
        5 => Message::Release {
            unit,
            force: rng.below(2) == 0,
            signature,
        },
        6 => Message::Detach,
        7 => Message::Accepted {
            unit,
            stdin_offset: number(rng),
            fresh: rng.below(2) == 0,
        },
        8 => Message::Refused { text },
        9 => Message::Started,
        10 => Message::Status(Status {
            state,
            detail: "d".into(),
            stdout_size: number(rng),
            ..Status::default()
        }),
        11 => Message::Output {
            offset: number(rng),
            data,
        },
        12 => Message::End(End {
            state,
            total: number(rng),
            checksum: number(rng),
            ..End::default()
        }),
        13 => Message::Done,
        14 => Message::Failed { text },
        _ => Message::Credit { bytes: number(rng) },
    }
}

#[test]
fn legal_messages_in_any_order_break_nothing() {
    for seed in 0..200 {
        let mut rng = Rng::from_seed([seed; 32]);
        let mut world = World::new();
        let client = world.submit(S, NAMES[E], &[9; 3000]);
        let (now, key) = (world.now, SessionKey(77));
        world.machine(E).session_opened(now, key, &from(NAMES[S]));
        for _ in 0..40 {
            for _ in 0..rng.below(6) {
                world.step();
            }
            let id = world
                .replies(client)
                .first()
                .map_or_else(String::new, |_| world.id(client));
            let mut bytes = Vec::new();
            any_message(&mut rng, &id)
                .encode(rng.below(4) as u32, &mut bytes)
                .unwrap();
            if rng.below(2) == 0 {
                world.forge(bytes.into());
            } else {
                let now = world.now;
                world.machine(E).session_data(now, key, bytes.into());
            }
        }
        world.run(100);
    }
}

/// The file system kept the length of the output and lost the bytes.
#[test]
fn output_that_was_not_durable_is_not_shown_after_a_loss_of_power() {
    let mut world = World::new();
    world.command.times = 300;
    let stdin: Vec<u8> = (1..=250).cycle().take(1000).collect();
    let client = world.submit(S, NAMES[E], &stdin);
    while world.only(S).is_none_or(|(_, unit)| unit.output < 100_000) {
        assert!(world.step());
    }
    let id = world.id(client);
    let unit = UnitId::parse(&id).unwrap();
    let size = world.stdout(S, &unit).len();
    world.crash(S, true);
    world.nodes[S].disk.live.get_mut(&unit).unwrap().stdout = alloc::vec![0; size];
    world.start(S);
    let reader = world.results(S, &id);
    world.run(20);
    assert_eq!(
        world.status(S, &id).unwrap().state,
        State::Succeeded,
        "{:?}",
        world.logs
    );
    assert!(
        world.clients[&reader].data == stdin.repeat(300),
        "a reader saw what was lost"
    );
    assert!(
        world.logs.iter().all(|line| !line.contains("does not fit")),
        "{:?}",
        world.logs
    );
}

/// Synced every now and then, so that a machine that starts anew asks for the rest only.
#[test]
fn long_output_is_made_durable_while_it_comes() {
    let mut world = World::new();
    world.command.times = 40;
    world.command.chunk = 1 << 20;
    let stdin: Vec<u8> = (1..=250).cycle().take(1 << 20).collect();
    let client = world.submit(S, NAMES[E], &stdin);
    while world.only(S).is_none_or(|(_, unit)| unit.output < 36 << 20) {
        assert!(world.step());
    }
    let id = world.id(client);
    let unit = UnitId::parse(&id).unwrap();
    let durable = world.nodes[S].disk.durable[&unit].clone();
    let size = Record::parse(&durable.record).unwrap().stdout_size;
    assert!(size >= 32 << 20 && durable.stdout.len() as u64 >= size, "{size}");
    world.crash(S, true);
    world.start(S);
    assert_eq!(world.status(S, &id).unwrap().stdout_size, size);
    world.run(20);
    assert_eq!(world.status(S, &id).unwrap().state, State::Succeeded);
    assert!(world.stdout(S, &unit) == stdin.repeat(40), "output differs");
}

/// A classic node that had the executor's directory for a while has dropped who submitted the unit.
#[test]
fn a_submission_is_found_again_whose_submitter_a_classic_node_has_dropped() {
    for endless in [true, false] {
        let mut world = World::new();
        world.command.endless = endless;
        let client = world.submit(S, NAMES[E], b"abc");
        world.run(1);
        let id = world.id(client);
        let unit = UnitId::parse(&id).unwrap();
        // That it started is not durable at the submitter: it asks for it again.
        if endless {
            world.crash(S, true);
        } else {
            world.cut_all();
            world.crash(S, true);
            let dir = world.nodes[S].disk.live.get_mut(&unit).unwrap();
            let mut record: serde_json::Value = serde_json::from_slice(&dir.record).unwrap();
            record["State"] = 0.into();
            record["ExtraData"]["RemoteStarted"] = false.into();
            dir.record = record.to_string().into_bytes();
            dir.stdout.clear();
            world.cut = false;
        }
        world.crash(E, false);
        let dir = world.nodes[E].disk.live.get_mut(&unit).unwrap();
        let mut record: serde_json::Value = serde_json::from_slice(&dir.record).unwrap();
        let pid = record["ExtraData"]["Pid"].clone();
        record["ExtraData"] = if endless {
            serde_json::json!({ "Pid": pid, "Params": "" })
        } else {
            serde_json::Value::Null
        };
        dir.record = record.to_string().into_bytes();
        world.forget_seen(S);
        world.forget_seen(E);
        world.start(E);
        world.start(S);
        world.command.endless = false;
        world.run(30);
        let view = world.status(S, &id).unwrap();
        assert_eq!(view.state, State::Succeeded, "{view:?} {:?}", world.logs);
        assert_eq!(world.stdout(S, &unit), b"abc");
    }
}
