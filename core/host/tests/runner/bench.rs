//! One unit in a real directory, and its runner.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use receptor_core::workceptor::{
    Change, FoundRunner, ProcessIdentity, Record, RunnerEvent, RunnerKind, UnitError, UnitId, UnitTask, UnitTaskResult,
};
use receptor_host::process_table::Process;
use receptor_host::runner::{self, CANCEL, RunnerConnection, RunnerProgram};
use receptor_host::{UnitDir, UnitStore};
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) store: UnitStore,
    pub(crate) unit: UnitId,
}

impl Bench {
    /// A unit that is about to be started.
    pub(crate) fn new(stdin: &[u8]) -> Self {
        Self::in_dir(tempfile::tempdir().unwrap(), stdin)
    }

    pub(crate) fn in_dir(dir: TempDir, stdin: &[u8]) -> Self {
        let store = UnitStore::open(dir.path(), "node").unwrap();
        let bench = Self {
            dir,
            store,
            unit: UnitId::parse("unit1234").unwrap(),
        };
        let record = Record::command("test", String::new());
        assert_eq!(bench.run(UnitTask::Create { record, sync: true }), UnitTaskResult::Done);
        let data = Bytes::copy_from_slice(stdin);
        assert_eq!(
            bench.run(UnitTask::WriteStdin { offset: 0, data }),
            UnitTaskResult::Done
        );
        assert!(matches!(bench.run(starting()), UnitTaskResult::Record(_)));
        bench
    }

    pub(crate) fn run(&self, task: UnitTask) -> UnitTaskResult {
        self.store.run(&self.unit, task)
    }

    pub(crate) fn dir(&self) -> UnitDir {
        self.store.unit_dir(&self.unit)
    }

    pub(crate) fn spawn(&self, program: &str, args: &[&str]) -> RunnerConnection {
        let args: Vec<String> = args.iter().map(|&arg| arg.into()).collect();
        runner::spawn(&runner_program(), &self.dir(), program, &args).unwrap()
    }

    pub(crate) fn shell(&self, script: &str) -> RunnerConnection {
        self.spawn("sh", &["-c", script])
    }

    pub(crate) fn output(&self) -> Vec<u8> {
        fs::read(self.dir().stdout()).unwrap()
    }

    /// Shell words that wait until [`Bench::open_gate`].
    pub(crate) fn gate(&self) -> String {
        format!("until test -e '{}'; do sleep 0.02; done", self.gate_path().display())
    }

    pub(crate) fn open_gate(&self) {
        fs::write(self.gate_path(), "").unwrap();
    }

    fn gate_path(&self) -> PathBuf {
        self.dir.path().join("gate")
    }

    /// Waits until the unit's output has this text.
    pub(crate) fn wait_for_output(&self, text: &str) {
        wait_until(|| String::from_utf8_lossy(&fs::read(self.dir().stdout()).unwrap_or_default()).contains(text));
    }

    pub(crate) fn attach(&self, identity: &ProcessIdentity) -> Result<runner::Attached, UnitError> {
        let runner = FoundRunner {
            identity: identity.clone(),
            kind: RunnerKind::Ours,
        };
        runner::attach(&self.dir(), &runner)
    }

    pub(crate) fn runner(&self) -> ProcessIdentity {
        self.dir().read().unwrap().extra.command().unwrap().runner().unwrap()
    }
}

pub(crate) fn starting() -> UnitTask {
    UnitTask::Update {
        change: Change::Starting,
        sync: true,
    }
}

pub(crate) fn runner_program() -> RunnerProgram {
    RunnerProgram {
        path: env!("CARGO_BIN_EXE_receptor-unit-runner").into(),
        first_args: vec![],
    }
}

pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "it did not come");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Events as they come.
pub(crate) fn events(connection: RunnerConnection) -> Receiver<RunnerEvent> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || connection.follow(|event| drop(sender.send(event))));
    receiver
}

/// All events; the last must be `Finished`.
pub(crate) fn finish(connection: RunnerConnection) -> (Vec<RunnerEvent>, Record) {
    let receiver = events(connection);
    let mut seen = Vec::new();
    loop {
        match receiver.recv_timeout(PATIENCE).unwrap() {
            RunnerEvent::Finished(record) => {
                assert_eq!(receiver.recv(), Err(mpsc::RecvError), "Finished is the last");
                return (seen, record);
            }
            event => seen.push(event),
        }
    }
}

pub(crate) fn is_running(event: &RunnerEvent) -> bool {
    matches!(event, RunnerEvent::Running(_))
}

pub(crate) fn cancel(connection: &RunnerConnection) {
    (&connection.stream).write_all(CANCEL).unwrap();
}

/// `NAME=PID` out of the unit's output.
pub(crate) fn pid_in(output: &[u8], name: &str) -> u32 {
    let output = String::from_utf8_lossy(output);
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap().parse().unwrap()
}

pub(crate) fn signal(name: &str, pid: u32) {
    let mut kill = Command::new("kill");
    assert!(kill.args([name, &pid.to_string()]).status().unwrap().success());
}

/// A zombie is gone: whose child it has become is no business of ours, and some first processes never reap.
pub(crate) fn is_gone(pid: u32) -> bool {
    Process::read(pid).map_or(true, |process| !process.is_running())
}
