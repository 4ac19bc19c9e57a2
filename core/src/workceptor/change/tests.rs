use alloc::vec::Vec;

use super::super::extra::RemoteExtra;
use super::*;

fn identity(pid: u32) -> ProcessIdentity {
    ProcessIdentity {
        boot_id: "boot".into(),
        pid,
        start_time: 9,
    }
}

fn exit(code: i32) -> ExitStatus {
    ExitStatus {
        code: Some(code),
        ..ExitStatus::default()
    }
}

fn killed(signal: i32) -> ExitStatus {
    ExitStatus {
        signal: Some(signal),
        ..ExitStatus::default()
    }
}

fn exited(status: ExitStatus, canceled: bool) -> Change {
    Change::Exited {
        status,
        stdout_size: 10,
        checksum: 5,
        canceled,
    }
}

fn mirror(state: State) -> Change {
    Change::Mirror {
        state,
        detail: "there".into(),
        stdout_size: 3,
        exit_code: None,
        signal: None,
    }
}

fn all_changes() -> Vec<Change> {
    alloc::vec![
        Change::Starting,
        Change::Enqueued,
        Change::RunnerUp { identity: identity(7) },
        Change::Identified { identity: identity(6) },
        Change::Running { pid: 8 },
        Change::SpawnFailed { text: "exec".into() },
        exited(exit(0), false),
        Change::Stopped {
            detail: "limit".into(),
            status: killed(2),
            stdout_size: 10,
            checksum: 5
        },
        Change::OutputSize(4),
        Change::CancelRequested,
        Change::Canceled,
        Change::ClassicCanceled { stdout_size: 6 },
        Change::Failed { detail: "f".into() },
        Change::Lost {
            detail: "l".into(),
            stdout_size: 2
        },
        Change::StdinComplete,
        Change::Contacted,
        Change::RemoteAccepted { unit: "u".into() },
        Change::RemoteStarted,
        mirror(State::Running),
        Change::LocalCancelled,
        Change::LocalReleased,
        Change::Expired { detail: "e".into() },
    ]
}

fn after(mut record: Record, changes: &[Change]) -> Record {
    for change in changes {
        record.apply(change).unwrap();
    }
    record
}

fn phases() -> Vec<(Phase, Record)> {
    let command = || Record::command("cat", "".into());
    let remote = || Record::remote(RemoteExtra::default());
    let up = Change::RunnerUp { identity: identity(7) };
    alloc::vec![
        (Phase::Waiting, command()),
        (Phase::Starting, after(command(), &[Change::Starting])),
        (Phase::Launched, after(command(), &[Change::Starting, up.clone()])),
        (
            Phase::Running,
            after(command(), &[Change::Starting, up.clone(), Change::Running { pid: 8 }])
        ),
        (Phase::Queued, remote()),
        (Phase::Started, after(remote(), &[Change::RemoteStarted])),
        (
            Phase::Complete,
            after(remote(), &[Change::Expired { detail: "e".into() }])
        ),
        (
            Phase::Complete,
            after(command(), &[Change::Starting, up, exited(exit(0), false)])
        ),
        (
            Phase::Foreign,
            Record {
                state: State::Unknown(7),
                ..command()
            }
        ),
        (
            Phase::Interrupted,
            Record {
                state: State::Failed,
                detail: "Killed".into(),
                ..command()
            }
        ),
        (Phase::Foreign, Record::default()),
    ]
}

/// Every change in every phase: refused changes alter nothing, and what is over stays over.
#[test]
fn the_table_decides_every_change() {
    for (phase_wanted, record) in phases() {
        assert_eq!(phase(&record), phase_wanted);
        for change in all_changes() {
            let mut changed = record.clone();
            let result = changed.apply(&change);
            assert_eq!(
                result.is_ok(),
                is_legal(change.kind(), phase_wanted),
                "{change:?} in {phase_wanted:?}"
            );
            if result.is_err() {
                assert_eq!(changed, record, "{change:?} in {phase_wanted:?}");
            }
            if record.state.is_complete() && change.kind() != ChangeKind::ClassicCanceled {
                assert_eq!(
                    (changed.state, &changed.detail),
                    (record.state, &record.detail),
                    "{change:?}"
                );
                assert_eq!(changed.stdout_size, record.stdout_size);
            }
        }
    }
    let named: Vec<_> = all_changes().iter().map(Change::kind).collect();
    let rows: Vec<_> = LEGAL.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(named, rows, "one row per change");
}

#[test]
fn states_never_go_back() {
    let rank = |state: State| match state {
        State::Pending => 0,
        State::Running => 1,
        _ => 2,
    };
    for (_, record) in phases() {
        for change in all_changes() {
            let mut changed = record.clone();
            if changed.apply(&change).is_ok() {
                assert!(rank(changed.state) >= rank(record.state), "{change:?}");
            }
        }
    }
    let mut running = after(Record::remote(RemoteExtra::default()), &[mirror(State::Running)]);
    assert!(running.apply(&mirror(State::Pending)).is_err());
    assert!(running.apply(&mirror(State::Unknown(9))).is_err());
}

#[test]
fn a_second_runner_and_a_late_runner_are_refused() {
    let started = || after(Record::command("cat", "".into()), &[Change::Starting]);
    let mut twice = after(started(), &[Change::RunnerUp { identity: identity(7) }]);
    assert!(twice.apply(&Change::RunnerUp { identity: identity(8) }).is_err());
    let mut given_up = after(
        started(),
        &[Change::Lost {
            detail: "start unknown".into(),
            stdout_size: 0,
        }],
    );
    assert!(given_up.apply(&Change::RunnerUp { identity: identity(8) }).is_err());
    let mut cancelled = after(started(), &[Change::CancelRequested]);
    assert!(cancelled.apply(&Change::RunnerUp { identity: identity(8) }).is_err());
    let mut waiting = after(Record::command("cat", "".into()), &[Change::CancelRequested]);
    assert!(waiting.apply(&Change::Starting).is_err());
}

#[test]
fn endings_are_told_in_the_words_of_go() {
    let mut dumped = killed(11);
    dumped.core_dumped = true;
    for (status, canceled, state, detail) in [
        (exit(0), false, State::Succeeded, "exit status 0"),
        (exit(3), false, State::Failed, "exit status 3"),
        (killed(9), false, State::Failed, "signal: killed"),
        (killed(15), false, State::Failed, "signal: terminated"),
        (killed(31), false, State::Failed, "signal: bad system call"),
        (killed(34), false, State::Failed, "signal: signal 34"),
        (dumped, false, State::Failed, "signal: segmentation fault (core dumped)"),
        (killed(2), true, State::Canceled, "Canceled"),
        (exit(0), true, State::Canceled, "Canceled"),
    ] {
        assert_eq!(ending(status, canceled), (state, detail.into()));
    }
}

#[test]
fn a_lost_runner_of_a_cancelled_unit_is_a_cancelled_unit() {
    let up = Change::RunnerUp { identity: identity(7) };
    let lost = Change::Lost {
        detail: "runner lost".into(),
        stdout_size: 2,
    };
    let record = after(
        Record::command("cat", "".into()),
        &[Change::Starting, up, Change::CancelRequested, lost],
    );
    assert_eq!((record.state, record.detail.as_str()), (State::Canceled, "Canceled"));
    assert_eq!(record.stdout_size, 2);
}

#[test]
fn cancelling_a_queued_unit_ends_it_and_a_started_one_only_marks_it() {
    let queued = after(Record::remote(RemoteExtra::default()), &[Change::LocalCancelled]);
    assert_eq!(
        (queued.state, queued.detail.as_str()),
        (State::Failed, "Locally Cancelled")
    );
    let started = after(
        Record::remote(RemoteExtra::default()),
        &[mirror(State::Running), Change::LocalCancelled],
    );
    assert_eq!(started.state, State::Running);
    assert!(started.extra.remote().unwrap().local_cancelled);
}

#[test]
fn snapshot_of_the_table() {
    use Phase::{Complete, Foreign, Interrupted, Launched, Queued, Running, Started, Starting, Waiting};
    let command = [Waiting, Starting, Launched, Running, Interrupted];
    let phases = [&command[..], &[Queued, Started, Complete, Foreign]].concat();
    let kinds: Vec<_> = all_changes().iter().map(Change::kind).collect();
    let text =
        |&kind: &ChangeKind, &phase: &Phase| String::from(if is_legal(kind, phase) { "legal" } else { "refused" });
    insta::assert_snapshot!("changes", crate::table_text::grid(&kinds, &phases, text));
}
