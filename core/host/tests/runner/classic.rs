//! Runners that a classic node has left, played by shells: found, followed, cancelled. The real ones are in
//! `tests/tests/live_go_directory.rs`.

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command};

use receptor_core::workceptor::{RunnerEvent, RunnerKind, State, UnitTask, UnitTaskResult};
use receptor_host::adapter::UnitWorker;
use receptor_host::runner::{CANCEL, RunnerConnection};

use crate::bench::{Bench, PATIENCE, events, finish, is_gone, pid_in, signal, wait_until};

/// Writes the record in place and under the lock, as they do.
const WRITE: &str = r#"
cd "$unit"
write() { { flock 9; printf '{"State":%s,"Detail":"%s","StdoutSize":%s,"WorkType":"test","ExtraData":{"Pid":0,"Params":""}}\n' \
          "$1" "$2" "$(stat -c %s stdout)" > status; } 9>> status.lock; }
exec >> stdout 2>&1
"#;

/// A unit with such a runner; it is ended with the test.
struct Classic {
    bench: Bench,
    runner: Child,
}

impl Classic {
    fn new(script: &str) -> Self {
        let bench = Bench::new(b"");
        // A shell cannot trap what was ignored when it began, as it is where the tests run in the background.
        let runner = Command::new("env")
            .args(["--default-signal=INT", "setsid", "sh", "-c"])
            .args([&format!("{WRITE}{script}"), "receptor"])
            .args(["--node", "id=worker", "--command-runner", "command=x", "params="])
            .arg(format!("unitdir={}", bench.dir().path().display()))
            .env("unit", bench.dir().path())
            .spawn()
            .unwrap();
        Self { bench, runner }
    }

    /// Finds it as a daemon does that is started now, and connects.
    fn attach(&self) -> RunnerConnection {
        let runner = loop {
            let mut scan = self.bench.store.scan().unwrap();
            let unit = scan.units.pop().unwrap();
            if let Some(runner) = unit.runner {
                break runner;
            }
        };
        assert_eq!(
            (runner.kind, runner.identity.pid),
            (RunnerKind::Classic, self.runner.id())
        );
        let store = receptor_host::UnitStore::open(self.bench.dir.path(), "node").unwrap();
        let worker = UnitWorker::new(Some(std::sync::Arc::new(store)), None);
        let (result, connection) = worker.run(&self.bench.unit, UnitTask::Attach { runner });
        assert!(
            matches!(
                result,
                UnitTaskResult::Attached {
                    alive: true,
                    same_boot: true,
                    ..
                }
            ),
            "{result:?}"
        );
        let connection = connection.unwrap();
        // Followed by a thread here, not by a reactor.
        connection.stream.set_nonblocking(false).unwrap();
        connection
    }
}

impl Drop for Classic {
    fn drop(&mut self) {
        let _ = self.runner.kill();
        let _ = self.runner.wait();
    }
}

#[test]
fn a_classic_runner_is_found_and_followed_to_the_end() {
    let classic =
        Classic::new("echo one; write 1 Running; until test -e go; do sleep 0.02; done; echo two; write 2 Good");
    let connection = classic.attach();
    let go = classic.bench.dir().path().join("go");
    let receiver = events(connection);
    let mut seen = Vec::new();
    let record = loop {
        match receiver.recv_timeout(PATIENCE).unwrap() {
            RunnerEvent::Finished(record) => break record,
            event => seen.push(event),
        }
        let running = seen.iter().any(|event| matches!(event, RunnerEvent::Running(_)));
        if running && seen.contains(&RunnerEvent::Output(4)) {
            fs::write(&go, "").unwrap();
        }
    };
    assert_eq!((record.state, record.stdout_size), (State::Succeeded, 8));
    assert!(seen.contains(&RunnerEvent::Output(8)), "{seen:?}");
}

#[test]
fn a_classic_runner_is_cancelled_by_a_signal_and_what_its_command_started_is_ended() {
    let script =
        "sleep 1000 & echo child=$!; trap 'write 3 Killed; exit' INT; write 1 Running; while :; do sleep 0.02; done";
    let classic = Classic::new(script);
    let connection = classic.attach();
    classic.bench.wait_for_output("child=");
    wait_until(|| {
        classic
            .bench
            .dir()
            .read()
            .is_ok_and(|record| record.state == State::Running)
    });
    (&connection.stream).write_all(CANCEL).unwrap();
    let (_, record) = finish(connection);
    // What it means is the core's business.
    assert_eq!((record.state, record.detail.as_str()), (State::Failed, "Killed"));
    assert!(is_gone(pid_in(&classic.bench.output(), "child")));
}

#[test]
fn a_command_whose_record_was_torn_with_its_runner_is_ended_at_the_next_start() {
    let mut classic = Classic::new("sh -c 'echo child=$$; exec sleep 1000' & : > status; sleep 1000");
    classic.bench.wait_for_output("child=");
    wait_until(|| classic.bench.dir().read().is_err());
    classic.runner.kill().unwrap();
    classic.runner.wait().unwrap();
    let child = pid_in(&classic.bench.output(), "child");
    assert!(!is_gone(child));
    let scan = classic.bench.store.scan().unwrap();
    assert!(
        scan.units[0].record.is_err() && scan.units[0].runner.is_none(),
        "{scan:?}"
    );
    assert!(is_gone(child));
}

#[test]
fn a_classic_runner_killed_while_it_writes_leaves_a_record_all_the_same() {
    let script = "echo one; sleep 1000 & echo child=$!; write 1 Running; until test -e go; do sleep 0.02; done; \
                  printf '{\"State\":1' > status; touch torn; sleep 1000";
    let classic = Classic::new(script);
    let connection = classic.attach();
    let receiver = events(connection);
    loop {
        if let RunnerEvent::Running(_) = receiver.recv_timeout(PATIENCE).unwrap() {
            break;
        }
    }
    let path = classic.bench.dir().path().to_owned();
    fs::write(path.join("go"), "").unwrap();
    wait_until(|| path.join("torn").exists());
    assert!(classic.bench.dir().read().is_err());
    signal("-KILL", classic.runner.id());
    let record = loop {
        match receiver.recv_timeout(PATIENCE).unwrap() {
            RunnerEvent::Lost { record, .. } => break record,
            RunnerEvent::Output(_) => {}
            event => panic!("{event:?}"),
        }
    };
    assert_eq!((record.state, record.detail.as_str()), (State::Running, "Running"));
    assert_eq!(classic.bench.dir().read(), Ok(record));
    assert!(is_gone(pid_in(&classic.bench.output(), "child")));
}
