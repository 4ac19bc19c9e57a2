//! Units on an executor that is polled.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::*;
use super::go::Border;
use crate::time::Duration;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn finish(border: &mut Border, id: &str, verb: &str) -> WorkReply {
    let (unit, signature) = (id.into(), None);
    let client = border.request(match verb {
        "cancel" => WorkRequest::Cancel { unit, signature },
        verb => WorkRequest::Release {
            unit,
            force: verb == "force-release",
            signature,
        },
    });
    border.run(1);
    let reply = border.replies.iter().rfind(|(to, _)| *to == client);
    reply
        .unwrap_or_else(|| panic!("no answer; logs: {:?}", border.logs))
        .1
        .clone()
}

#[test]
fn a_unit_runs_there_and_its_output_comes_back() {
    for takes_ids in [false, true] {
        let mut border = Border::new(takes_ids, 1);
        border.go.chunk = 300_000;
        let stdin = pattern(3 << 20);
        let id = border.submit(&stdin);
        border.run(5);
        let view = border.status(&id);
        assert_eq!(
            (view.state, view.detail.as_str(), view.stdout_size),
            (State::Succeeded, "exit status 0", 3 << 20)
        );
        let name = if takes_ids { id.as_str() } else { "go1" };
        assert_eq!(view.extra["RemoteUnitID"], name);
        assert!(border.stdout(&id) == stdin, "output differs");
        assert!(border.logs.is_empty(), "{:?}", border.logs);
        // Nothing is asked any more.
        let count = border.go.lines.len();
        border.run(50);
        assert_eq!(border.go.lines.len(), count);
        let unit = UnitId::parse(&id).unwrap();
        let gone = WorkReply::Released {
            unit: id.clone(),
            pending: false,
        };
        assert_eq!(finish(&mut border, &id, "release"), gone);
        assert!(border.go.units.is_empty() && !border.disk.live.contains_key(&unit));
        assert!(border.machine.calls.is_empty());
    }
}

/// Streams, submitter and executor break at random; whatever happens the command runs once at most, and a unit that is
/// said to have succeeded has its output.
#[test]
fn nothing_runs_twice_whatever_breaks() {
    let mut succeeded = 0;
    for seed in 0..120_u8 {
        let mut border = Border::new(seed % 2 == 0, seed);
        border.go.chunk = 20_000;
        border.breaks = Some(3 + u64::from(seed) % 40);
        let stdin = pattern(300_000);
        let id = border.submit(&stdin);
        for round in 0..6 {
            border.run(3);
            match (seed / 2 + round) % 5 {
                0 => border.restart(false, seed.wrapping_add(round)),
                1 => border.restart(true, seed.wrapping_add(round)),
                2 => border.restart_go(),
                _ => {}
            }
        }
        border.breaks = None;
        border.run(600);
        let runs: u32 = border.go.units.values().map(|unit| unit.runs).sum();
        let view = border.status(&id);
        assert!(view.state.is_complete(), "seed {seed}: {view:?} {:?}", border.logs);
        assert!(runs <= 1, "seed {seed}: {runs} runs");
        if view.state == State::Succeeded {
            succeeded += 1;
            assert!(border.stdout(&id) == stdin, "seed {seed}: output differs");
        }
        finish(&mut border, &id, "release");
        border.run(200);
        assert!(border.disk.live.is_empty(), "seed {seed}: {:?}", border.logs);
        let left: Vec<&String> = border.go.units.keys().collect();
        assert!(
            left.len() <= usize::from(seed % 2 == 1) * 6,
            "seed {seed}: {left:?} {:?}",
            border.logs
        );
    }
    assert!(succeeded > 60, "only {succeeded} of 120 came through");
}

#[test]
fn streams_to_an_executor_are_bounded_and_asking_costs_the_same_for_many_units() {
    let mut border = Border::new(true, 3);
    border.machine.max_units = 1000;
    border.go.endless = true;
    let ids: Vec<String> = (0..300).map(|n| border.submit(&pattern(100 + n))).collect();
    border.run(60);
    assert!(border.go.peak <= 1 + 16 + 32 + 16, "{} streams", border.go.peak);
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(border.status(id).state, State::Running, "unit {n}");
        // Although none of them has ended, and there are more of them than streams.
        assert!(border.stdout(id) == pattern(100 + n), "unit {n}");
    }
    let before = border.go.lines.len();
    border.run(100);
    let asked = border.go.lines.len() - before;
    assert!((3000..11_000).contains(&asked), "{asked} commands in 100 s");
    border.go.endless = false;
    border.run(20);
    for id in &ids {
        assert_eq!(border.status(id).state, State::Succeeded);
    }
    border.run(100);
    assert!(border.machine.calls.is_empty());
}

#[test]
fn a_cancelled_unit_ends_although_its_stream_does_not() {
    let mut border = Border::new(false, 4);
    border.go.endless = true;
    let id = border.submit(&pattern(5000));
    border.run(3);
    let done = WorkReply::Cancelled {
        unit: id.clone(),
        pending: false,
    };
    assert_eq!(finish(&mut border, &id, "cancel"), done);
    border.run(2);
    let view = border.status(&id);
    assert_eq!((view.state, view.stdout_size), (State::Canceled, 5000));
    assert!(border.machine.calls.is_empty());
}

#[test]
fn a_release_waits_for_the_executor_and_force_does_not() {
    for force in [false, true] {
        let mut border = Border::new(true, 5);
        border.go.endless = true;
        let id = border.submit(b"abc");
        border.run(3);
        border.cut = true;
        border.restart_go();
        border.run(1);
        let verb = if force { "force-release" } else { "release" };
        let reply = WorkReply::Released {
            unit: id.clone(),
            pending: !force,
        };
        assert_eq!(finish(&mut border, &id, verb), reply);
        assert_eq!(border.disk.live.is_empty(), force);
        border.restart(true, 9);
        border.run(600);
        border.cut = false;
        border.run(61);
        assert!(border.disk.live.is_empty());
        // By force it was told later.
        assert!(border.go.units.is_empty());
    }
}

#[test]
fn a_unit_that_vanished_there_is_gone() {
    let mut border = Border::new(true, 6);
    border.go.endless = true;
    let id = border.submit(b"abc");
    border.run(3);
    border.go.units.clear();
    border.run(3);
    let view = border.status(&id);
    assert_eq!(
        (view.state, view.detail.as_str()),
        (State::Failed, "Remote work unit is gone")
    );
    finish(&mut border, &id, "release");
    assert!(border.disk.live.is_empty());
}

#[test]
fn a_refusal_reaches_the_client_and_leaves_nothing_there() {
    let mut border = Border::new(true, 7);
    border.go.nonsense = Some("ERROR: unknown work type cat\n");
    let id = border.submit(b"abc");
    border.run(1);
    let text = "could not parse response: ERROR: unknown work type cat";
    assert!(
        border
            .replies
            .iter()
            .any(|(_, reply)| *reply == WorkReply::Error(text.into()))
    );
    assert_eq!(border.status(&id).detail, format!("Error starting worker: {text}"));
    finish(&mut border, &id, "release");
    assert!(border.disk.live.is_empty());
}

/// `work.md` §19 #9: none of it may hurt anything but the unit, and the unit ends or is tried on.
#[test]
fn nonsense_from_an_executor_is_borne() {
    let long: &'static str = Box::leak("x".repeat(1_200_000).into_boxed_str());
    for nonsense in [
        "\n",
        "{}\n",
        "[1]\n",
        "{\"State\":\"x\"}\n",
        "ERROR\n",
        "ERROR: no\n",
        "with ID .\n",
        long,
        "",
    ] {
        for before in [true, false] {
            let mut border = Border::new(true, 8);
            border.go.endless = true;
            if before {
                border.go.nonsense = Some(nonsense);
            }
            let id = border.submit(b"abc");
            border.run(3);
            border.go.nonsense = Some(nonsense);
            border.run(300);
            assert!(border.go.lines.len() < 2000, "{} commands", border.go.lines.len());
            let client = border.request(WorkRequest::Release {
                unit: id.clone(),
                force: true,
                signature: None,
            });
            border.run(130);
            let head = &nonsense[..nonsense.len().min(20)];
            assert!(border.replies.iter().any(|(to, _)| *to == client), "{head:?}");
            border.run(200);
            assert!(border.disk.live.is_empty(), "{head:?} {before}");
        }
    }
}

#[test]
fn output_that_was_not_durable_is_asked_for_again_after_a_crash() {
    let mut border = Border::new(true, 9);
    border.go.chunk = 64 << 10;
    border.go.endless = true;
    let stdin = pattern(12 << 20);
    let id = border.submit(&stdin);
    border.run(5);
    let unit = UnitId::parse(&id).unwrap();
    let record = border.disk.record(&unit).unwrap();
    assert_eq!(border.stdout(&id).len(), stdin.len());
    assert!(
        (8 << 20..=stdin.len() as u64).contains(&record.stdout_size),
        "{}",
        record.stdout_size
    );
    border.restart(true, 10);
    // The file system kept the length and lost the end.
    let durable = usize::try_from(record.stdout_size).unwrap();
    let file = &mut border.disk.live.get_mut(&unit).unwrap().stdout;
    file.truncate(durable);
    file.resize(stdin.len(), 0);
    border.go.endless = false;
    border.go.lines.clear();
    border.run(10);
    assert_eq!(border.status(&id).state, State::Succeeded);
    assert!(border.stdout(&id) == stdin, "output differs");
    let again = format!("\"startpos\":{durable}");
    assert!(
        border.go.lines.iter().any(|line| line.contains(&again)),
        "{:?}",
        border.go.lines
    );
}

#[test]
fn a_silent_executor_is_left_and_tried_again() {
    let mut border = Border::new(true, 11);
    border.go.nonsense = Some("");
    let id = border.submit(b"abc");
    border.run(200);
    assert_eq!(border.status(&id).state, State::Pending);
    border.go.nonsense = None;
    border.pass(Duration::from_secs(61));
    border.run(120);
    assert_eq!(border.status(&id).state, State::Succeeded, "{:?}", border.logs);
}

/// A classic node drops its streams when it has no route for a moment; the stream of the output was waited for longer than
/// the session, and the unit with it.
#[test]
fn output_is_asked_for_anew_once_the_executor_does_not_answer() {
    let mut border = Border::new(true, 12);
    border.go.endless = true;
    let id = border.submit(&pattern(5000));
    border.run(3);
    assert_eq!(border.stdout(&id).len(), 5000);
    border.forget_sessions();
    border.go.units.get_mut(&id).unwrap().stdin = pattern(9000);
    border.go.endless = false;
    // The limit of an answer, and a moment.
    border.run(33);
    assert_eq!(border.status(&id).state, State::Succeeded, "{:?}", border.logs);
    assert!(border.stdout(&id) == pattern(9000), "output differs");
}
