//! Units that a classic node has left, with their runners alive or not.

use alloc::string::String;
use alloc::vec::Vec;

use super::super::*;
use crate::config::{Config, WorkKind, WorkType};
use crate::time::{Duration, Wall};

const UNIT: &str = "node1234";

fn identity(pid: u32) -> ProcessIdentity {
    ProcessIdentity {
        boot_id: "boot".into(),
        pid,
        start_time: 9,
    }
}

fn found(kind: RunnerKind) -> Option<FoundRunner> {
    Some(FoundRunner {
        identity: identity(7),
        kind,
    })
}

/// A machine, the record on its disk, and what it wanted.
struct Bench {
    machine: Workceptor,
    now: Now,
    record: Record,
    /// Tasks other than updates, which are carried out at once.
    tasks: Vec<(TaskKey, UnitTask)>,
    replies: Vec<WorkReply>,
    logs: Vec<String>,
    /// States that were to be seen, in order.
    states: Vec<State>,
}

impl Bench {
    fn new(record: &str, runner: Option<FoundRunner>) -> Self {
        let mut config = Config::new("node".into());
        let cat = WorkKind::Command {
            command: "cat".into(),
            params: String::new(),
            allow_runtime_params: false,
        };
        config.work_types = alloc::vec![WorkType::new("cat", cat)];
        let record = Record::parse(record.as_bytes()).unwrap();
        let now = Now {
            mono: Instant::from_millis(1),
            wall: Wall::from_secs(1_730_203_265),
        };
        let mut bench = Self {
            machine: Workceptor::new(&config, Rng::from_seed([1; 32])),
            now,
            record: record.clone(),
            tasks: Vec::new(),
            replies: Vec::new(),
            logs: Vec::new(),
            states: Vec::new(),
        };
        let stored = StoredUnit {
            id: id(),
            record: Ok(record),
            stdin_size: 0,
            stdout_size: 5,
            runner,
        };
        bench.machine.handle_scan(
            now,
            Stored {
                units: alloc::vec![stored],
                ..Stored::default()
            },
        );
        bench.run();
        bench
    }

    fn run(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                WorkOutput::Task(key, _, UnitTask::Update { change, .. }) => {
                    let result = match self.record.apply(&change) {
                        Ok(()) => UnitTaskResult::Record(self.record.clone()),
                        Err(_) => UnitTaskResult::Failed(UnitError::Refused(self.record.clone())),
                    };
                    self.machine.handle_done(self.now, key, result);
                }
                WorkOutput::Task(key, _, task) => self.tasks.push((key, task)),
                WorkOutput::Reply(_, reply) => self.replies.push(reply),
                WorkOutput::Log(_, text) => self.logs.push(text),
                _ => {}
            }
            let state = self.machine.units[&id()].record.state;
            if self.states.last() != Some(&state) {
                self.states.push(state);
            }
        }
    }

    fn done(&mut self, key: TaskKey, result: UnitTaskResult) {
        self.machine.handle_done(self.now, key, result);
        self.run();
    }

    /// The runner that is looked for, and the answer.
    fn attach(&mut self, alive: bool, same_boot: bool) -> FoundRunner {
        let (key, task) = self.tasks.remove(0);
        let UnitTask::Attach { runner } = task else {
            panic!("{task:?}")
        };
        let result = UnitTaskResult::Attached {
            record: self.record.clone(),
            stdout_size: 5,
            alive,
            same_boot,
        };
        self.done(key, result);
        runner
    }

    fn runner(&mut self, event: RunnerEvent) {
        self.machine.handle_runner(self.now, &id(), event);
        self.run();
    }

    fn cancel(&mut self) {
        let request = WorkRequest::Cancel {
            unit: UNIT.into(),
            signature: None,
        };
        self.machine
            .handle_request(self.now, ClientKey(1), &Requester::LOCAL, request);
        self.run();
    }

    /// The classic runner writes its record anew, in its own way.
    fn writes(&mut self, state: State, detail: &str) {
        self.record = Record::parse(classic(state.number(), detail, 7).as_bytes()).unwrap();
    }

    fn end(&self) -> (State, &str, u64) {
        let record = &self.machine.units[&id()].record;
        (record.state, record.detail.as_str(), record.stdout_size)
    }
}

fn id() -> UnitId {
    UnitId::parse(UNIT).unwrap()
}

fn classic(state: i64, detail: &str, pid: u32) -> String {
    alloc::format!(
        r#"{{"State":{state},"Detail":"{detail}","StdoutSize":3,"WorkType":"cat","ExtraData":{{"Pid":{pid},"Params":""}}}}"#
    )
}

#[test]
fn a_living_classic_runner_is_followed_and_its_end_told() {
    let mut bench = Bench::new(&classic(1, "Running: PID 8", 7), found(RunnerKind::Classic));
    assert_eq!(bench.attach(true, true), found(RunnerKind::Classic).unwrap());
    assert_eq!(bench.record.extra.command().unwrap().runner(), Some(identity(7)));
    assert_eq!(bench.end().0, State::Running);
    bench.writes(State::Succeeded, "exit status 0");
    bench.runner(RunnerEvent::Finished(bench.record.clone()));
    assert_eq!(bench.end(), (State::Succeeded, "exit status 0", 3));
}

#[test]
fn a_runner_that_no_record_names_and_that_is_gone_when_looked_for_ends_its_unit() {
    let mut bench = Bench::new(&classic(0, "Not started yet", 0), found(RunnerKind::Classic));
    bench.attach(false, true);
    assert_eq!(bench.end().0, State::Failed);
    assert!(bench.tasks.is_empty(), "nobody is looked for again: {:?}", bench.tasks);
}

#[test]
fn a_runner_that_no_record_names_is_followed_too() {
    for (kind, record) in [
        (RunnerKind::Classic, classic(0, "Not started yet", 0)),
        (RunnerKind::Classic, classic(1, "Running: PID 8", 0)),
        // Our own, rewritten by a classic daemon.
        (RunnerKind::Ours, classic(1, "Running: PID 8", 7)),
    ] {
        let mut bench = Bench::new(&record, found(kind));
        assert_eq!(bench.attach(true, true), found(kind).unwrap());
        assert_eq!(bench.record.extra.command().unwrap().runner(), Some(identity(7)));
        bench.writes(State::Running, "Running: PID 8");
        bench.runner(RunnerEvent::Running(bench.record.clone()));
        assert_eq!(bench.end().0, State::Running);
        assert_eq!(bench.logs, [""; 0]);
    }
}

#[test]
fn who_runs_without_a_runner_has_failed() {
    for record in [
        classic(1, "Running: PID 8", 7),
        classic(1, "Running: PID 8", 0),
        r#"{"State":1,"Detail":"Running: PID 8","StdoutSize":3,"WorkType":"cat","ExtraData":null}"#.into(),
    ] {
        let mut bench = Bench::new(&record, None);
        bench.attach(false, true);
        assert_eq!(bench.end(), (State::Failed, command::RUNNER_LOST, 5));
    }
    let mut bench = Bench::new(&classic(0, "Unit Created", 0), None);
    bench.run();
    assert_eq!(bench.end().0, State::Failed);
    assert_eq!(bench.end().1, "Pending at restart");
}

#[test]
fn a_restart_of_the_machine_is_told_as_such() {
    let mut bench = Bench::new(&classic(1, "Running: PID 8", 7), None);
    bench.attach(false, false);
    assert_eq!(bench.end(), (State::Failed, command::MACHINE_RESTARTED, 5));
}

#[test]
fn what_a_classic_runner_writes_when_it_is_cancelled_is_not_a_failure() {
    for detail in ["Killed", "Killed by signal 2"] {
        let mut bench = Bench::new(&classic(1, "Running: PID 8", 7), found(RunnerKind::Classic));
        bench.attach(true, true);
        bench.cancel();
        let (key, task) = bench.tasks.remove(0);
        assert_eq!(task, UnitTask::Cancel);
        bench.done(key, UnitTaskResult::Done);
        // It does not know that somebody wants its end.
        bench.writes(State::Running, "Running: PID 8");
        bench.runner(RunnerEvent::Output(9));
        bench.writes(State::Failed, detail);
        bench.runner(RunnerEvent::Finished(bench.record.clone()));
        assert_eq!(bench.end(), (State::Canceled, "Canceled", 9));
        assert_eq!(bench.record.state, State::Canceled);
        assert_eq!(bench.states, [State::Running, State::Canceled]);
        assert!(matches!(bench.replies[..], [WorkReply::Cancelled { .. }]));
    }
}

#[test]
fn a_classic_runner_that_dies_of_a_cancel_without_a_word_was_cancelled() {
    let mut bench = Bench::new(&classic(1, "Running: PID 8", 7), found(RunnerKind::Classic));
    bench.attach(true, true);
    bench.cancel();
    bench.writes(State::Running, "Running: PID 8");
    let record = bench.record.clone();
    bench.runner(RunnerEvent::Lost { record, stdout_size: 6 });
    assert_eq!(bench.end(), (State::Canceled, "Canceled", 6));
}

#[test]
fn a_classic_runner_killed_by_somebody_else_has_failed() {
    let mut bench = Bench::new(&classic(1, "Running: PID 8", 7), found(RunnerKind::Classic));
    bench.attach(true, true);
    bench.writes(State::Failed, "Killed");
    bench.runner(RunnerEvent::Finished(bench.record.clone()));
    assert_eq!(bench.end(), (State::Failed, "Killed", 3));
    bench.cancel();
    assert_eq!(bench.end().0, State::Failed);
}

#[test]
fn a_runner_that_could_not_be_told_is_told_again() {
    let mut bench = Bench::new(&classic(1, "Running: PID 8", 7), found(RunnerKind::Ours));
    bench.attach(true, true);
    bench.cancel();
    for _ in 0..3 {
        let (key, task) = bench.tasks.remove(0);
        assert_eq!(task, UnitTask::Cancel);
        bench.done(key, UnitTaskResult::Failed(UnitError::Io("no memory".into())));
        assert!(bench.tasks.is_empty());
        bench.now.mono = bench.now.mono + Duration::from_secs(1);
        bench.machine.handle_timeout(bench.now);
        bench.run();
    }
    let (key, task) = bench.tasks.remove(0);
    assert_eq!(task, UnitTask::Cancel);
    bench.done(key, UnitTaskResult::Done);
    bench.now.mono = bench.now.mono + Duration::from_secs(60);
    bench.machine.handle_timeout(bench.now);
    bench.run();
    assert_eq!(bench.tasks, []);
}
