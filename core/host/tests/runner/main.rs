//! The unit runner, end to end: real processes in real directories.

#![allow(
    clippy::result_large_err,
    reason = "`UnitError` carries the record as it is; that is the core's contract"
)]

mod bench;
mod classic;
mod killed;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use receptor_core::workceptor::{
    Change, ProcessIdentity, Record, RunnerEvent, State, UnitError, UnitId, UnitTask, UnitTaskResult,
};
use receptor_host::adapter::UnitWorker;
use receptor_host::process_table::Process;
use receptor_host::{UnitDir, UnitStore, runner};

use bench::{
    Bench, PATIENCE, cancel, events, finish, is_gone, is_running, pid_in, runner_program, signal, starting, wait_until,
};

#[test]
fn binary_input_comes_back_and_the_directory_is_classic_again() {
    let input: Vec<u8> = (0..200_000_u32).map(|number| (number * 31 % 256) as u8).collect();
    let bench = Bench::new(&input);
    let (seen, record) = finish(bench.spawn("cat", &[]));
    assert_eq!(bench.output(), input);
    assert_eq!(
        (record.state, record.detail.as_str()),
        (State::Succeeded, "exit status 0")
    );
    assert_eq!(record.stdout_size, input.len() as u64);
    assert!(matches!(seen.last(), Some(RunnerEvent::Output(200_000))), "{seen:?}");
    let UnitTaskResult::Hash { checksum, size } = bench.run(UnitTask::HashOutput { len: u64::MAX }) else {
        panic!("no hash")
    };
    assert_eq!(size, record.stdout_size);
    assert_eq!(record.extra.command().unwrap().checksum, Some(checksum));
    let mut names: Vec<_> = fs::read_dir(bench.dir().path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["status", "status.lock", "stdin", "stdout"]);
}

#[test]
fn output_and_errors_are_told_as_they_come() {
    let bench = Bench::new(b"");
    let receiver = events(bench.shell(&format!("echo one; echo two >&2; {}; echo three; exit 3", bench.gate())));
    let (mut running, mut sizes) = (false, Vec::new());
    let record = loop {
        match receiver.recv_timeout(PATIENCE).unwrap() {
            RunnerEvent::Running(_) => running = true,
            RunnerEvent::Output(size) => sizes.push(size),
            RunnerEvent::Finished(record) => break record,
            event => panic!("{event:?}"),
        }
        if running && sizes.last() == Some(&8) {
            bench.open_gate();
        }
    };
    assert_eq!(bench.output(), b"one\ntwo\nthree\n");
    assert_eq!((record.state, record.detail.as_str()), (State::Failed, "exit status 3"));
    assert!(sizes.is_sorted() && sizes.last() == Some(&14), "{sizes:?}");
}

#[test]
fn a_command_killed_by_a_signal_says_so() {
    let bench = Bench::new(b"");
    let (_, record) = finish(bench.shell("kill -9 $$"));
    assert_eq!(
        (record.state, record.detail.as_str()),
        (State::Failed, "signal: killed")
    );
}

#[test]
fn a_missing_program_is_told_in_the_classic_words() {
    let bench = Bench::new(b"");
    let (seen, record) = finish(bench.spawn("no-such-program", &["x"]));
    assert_eq!(record.state, State::Failed);
    assert_eq!(
        record.detail,
        "exec: \"no-such-program\": executable file not found in $PATH"
    );
    assert!(!seen.iter().any(is_running));
    let bench = Bench::new(b"");
    let (_, record) = finish(bench.spawn("/no/such", &[]));
    assert_eq!(record.detail, "fork/exec /no/such: no such file or directory");
    let bench = Bench::new(b"");
    fs::remove_file(bench.dir().stdin()).unwrap();
    let (_, record) = finish(bench.spawn("cat", &[]));
    assert!(
        record.detail.ends_with("stdin: no such file or directory"),
        "{}",
        record.detail
    );
}

#[test]
fn commands_have_the_limit_of_open_files_from_before_the_daemon_raised_it() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let low = Rlimit {
        current: Some(777),
        ..limit
    };
    setrlimit(Resource::Nofile, low).unwrap();
    assert_eq!(receptor_host::open_files::raise().unwrap(), limit.maximum);
    let bench = Bench::new(b"");
    let (_, record) = finish(bench.shell("ulimit -Sn; env | grep -c OPEN_FILES"));
    assert_eq!(bench.output(), b"777\n0\n", "{record:?}");
}

#[test]
fn arguments_are_passed_as_they_are() {
    let bench = Bench::new(b"");
    let (_, record) = finish(bench.spawn("printf", &["%s|", "a b", "", "--help", "é\"'\\"]));
    assert_eq!(record.state, State::Succeeded);
    assert_eq!(bench.output(), "a b||--help|é\"'\\|".as_bytes());
}

#[test]
fn a_unit_that_was_given_up_is_not_started() {
    let bench = Bench::new(b"");
    assert!(matches!(
        bench.run(UnitTask::Update {
            change: Change::CancelRequested,
            sync: true
        }),
        UnitTaskResult::Record(_)
    ));
    let receiver = events(bench.shell("echo ran"));
    let event = receiver.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(event, RunnerEvent::Lost { stdout_size: 0, .. }), "{event:?}");
    assert!(!bench.dir().stdout().exists());
}

#[test]
fn a_runner_that_ends_at_once_has_been_connected_to() {
    let bench = Bench::new(b"");
    bench.run(UnitTask::Update {
        change: Change::CancelRequested,
        sync: true,
    });
    // It removes its socket as soon as it sees that the unit was given up.
    for _ in 0..100 {
        let receiver = events(bench.shell("echo ran"));
        let event = receiver.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(event, RunnerEvent::Lost { .. }), "{event:?}");
    }
}

#[test]
fn a_large_output_is_complete_and_has_its_checksum() {
    const SIZE: u64 = 64 << 20;
    let bench = Bench::new(b"");
    let (_, record) = finish(bench.shell(&format!("head -c {SIZE} /dev/urandom")));
    assert_eq!(record.stdout_size, SIZE);
    let UnitTaskResult::Hash { checksum, size } = bench.run(UnitTask::HashOutput { len: SIZE }) else {
        panic!("no hash")
    };
    assert_eq!(size, SIZE);
    assert_eq!(record.extra.command().unwrap().checksum, Some(checksum));
}

#[test]
fn unit_directories_may_have_long_paths() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("x".repeat(120)).join("y".repeat(120));
    let store = UnitStore::open(&deep, "node").unwrap();
    let unit = UnitId::parse(&"u".repeat(UnitId::MAX_LEN)).unwrap();
    store.run(
        &unit,
        UnitTask::Create {
            record: Record::command("test", String::new()),
            sync: true,
        },
    );
    store.run(
        &unit,
        UnitTask::WriteStdin {
            offset: 0,
            data: Bytes::new(),
        },
    );
    store.run(&unit, starting());
    let connection = runner::spawn(&runner_program(), &store.unit_dir(&unit), "true", &[]).unwrap();
    assert_eq!(finish(connection).1.state, State::Succeeded);
}

#[test]
fn the_runner_has_a_session_and_the_command_a_group() {
    let bench = Bench::new(b"");
    let connection = bench.shell("echo pid=$$; exec sleep 1000");
    bench.wait_for_output("pid=");
    let runner = bench.runner();
    let process = Process::read(pid_in(&bench.output(), "pid")).unwrap();
    assert_eq!(process.parent, runner.pid);
    assert_eq!(process.session, runner.pid);
    assert_eq!(process.group, process.pid);
    assert_ne!(Process::read(std::process::id()).unwrap().session, runner.pid);
    cancel(&connection);
    assert_eq!(finish(connection).1.state, State::Canceled);
}

#[test]
fn cancelling_a_shell_ends_what_it_started_at_once() {
    // Not at once is after five seconds: a busy machine may lose them, but hardly five times.
    let at_once = |_| {
        let bench = Bench::new(b"");
        let connection = bench.shell("trap 'exit 0' INT; sleep 1000 & echo child=$!; wait");
        bench.wait_for_output("child=");
        let began = Instant::now();
        cancel(&connection);
        let (_, record) = finish(connection);
        let took = began.elapsed();
        assert_eq!((record.state, record.detail.as_str()), (State::Canceled, "Canceled"));
        assert!(is_gone(pid_in(&bench.output(), "child")));
        took < Duration::from_secs(5)
    };
    assert!((0..5).any(at_once));
}

#[test]
fn whoever_ignores_signals_and_detaches_itself_is_killed_after_ten_seconds() {
    let bench = Bench::new(b"");
    let stubborn = "trap '' INT TERM; while :; do sleep 0.2; done";
    let script = format!(
        "trap '' INT TERM; (setsid sh -c 'echo far=$$; {}' &); echo near=$$; {stubborn}",
        stubborn.replace('\'', "'\\''")
    );
    let connection = bench.shell(&script);
    bench.wait_for_output("near=");
    bench.wait_for_output("far=");
    let (near, far) = (pid_in(&bench.output(), "near"), pid_in(&bench.output(), "far"));
    let began = Instant::now();
    cancel(&connection);
    let (_, record) = finish(connection);
    assert_eq!(record.state, State::Canceled);
    assert!(began.elapsed() > Duration::from_secs(9), "{:?}", began.elapsed());
    assert!(is_gone(near) && is_gone(far));
}

#[test]
fn a_signal_to_the_runner_is_a_cancel_as_classic_daemons_do_it() {
    let bench = Bench::new(b"");
    let connection = bench.shell("echo up; exec sleep 1000");
    bench.wait_for_output("up");
    signal("-INT", bench.runner().pid);
    assert_eq!(finish(connection).1.state, State::Canceled);
}

#[test]
fn a_runner_that_is_not_connected_can_be_told_to_end() {
    let bench = Bench::new(b"");
    let connection = bench.shell("echo up; exec sleep 1000");
    bench.wait_for_output("up");
    let store = std::sync::Arc::new(UnitStore::open(bench.dir.path(), "node").unwrap());
    let worker = UnitWorker::new(Some(store), None);
    let (result, _) = worker.run(&bench.unit, UnitTask::Cancel);
    assert_eq!(result, UnitTaskResult::Done);
    assert_eq!(finish(connection).1.state, State::Canceled);
    let (result, _) = worker.run(&bench.unit, UnitTask::Cancel);
    assert!(matches!(result, UnitTaskResult::Failed(UnitError::Io(text)) if text.contains("could not be told")));
}

#[test]
fn output_of_what_is_left_behind_is_waited_for_a_little() {
    // A little is two seconds: a busy machine may lose them, but hardly five times.
    let waited_for = |_| {
        let bench = Bench::new(b"");
        let (_, record) = finish(bench.shell("(sleep 0.5; echo late) & echo early"));
        assert_eq!(record.state, State::Succeeded);
        assert!(bench.output().starts_with(b"early\n"));
        bench.output() == b"early\nlate\n"
    };
    assert!((0..5).any(waited_for));
    let bench = Bench::new(b"");
    let (_, record) = finish(bench.shell("sleep 1000 & echo left=$!"));
    assert_eq!(record.state, State::Succeeded);
    let left = pid_in(&bench.output(), "left");
    assert!(!is_gone(left));
    signal("-KILL", left);
}

#[test]
fn only_the_named_runner_is_attached_to() {
    let bench = Bench::new(b"");
    let connection = bench.shell("echo up; exec sleep 1000");
    bench.wait_for_output("up");
    let runner = bench.runner();
    let other = ProcessIdentity {
        start_time: runner.start_time + 1,
        ..runner.clone()
    };
    assert!(bench.attach(&other).unwrap().connection.is_none());
    let second = bench.attach(&runner).unwrap();
    assert_eq!(second.stdout_size, 3);
    cancel(&second.connection.unwrap());
    assert_eq!(finish(connection).1.state, State::Canceled);
    bench.run(UnitTask::Remove { tombstone: None });
    assert_eq!(bench.attach(&runner).unwrap_err(), UnitError::Missing);
}

#[test]
fn a_full_disk_holds_the_command_up_and_nothing_is_lost() {
    const SMALL_DISK: &str = "RECEPTOR_TEST_SMALL_DISK";
    // Again in a name space where a small disk can be mounted.
    let Some(path) = std::env::var_os(SMALL_DISK) else {
        let disk = tempfile::tempdir().unwrap();
        let test = std::env::current_exe().unwrap();
        let script = "mount -t tmpfs -o size=2m none \"$0\" || exit 99; exec \"$1\" --exact \"$2\" --nocapture";
        let status = Command::new("unshare")
            .args(["-rm", "sh", "-c", script])
            .args([
                disk.path(),
                &test,
                Path::new("a_full_disk_holds_the_command_up_and_nothing_is_lost"),
            ])
            .env(SMALL_DISK, disk.path())
            .status();
        match status.map(|status| status.code()) {
            Ok(Some(0)) => {}
            // Sandboxes often forbid name spaces (1) or mounting (99).
            Ok(Some(1 | 99)) | Err(_) => eprintln!("not tried: no small disk can be mounted here"),
            other => panic!("{other:?}"),
        }
        return;
    };
    let resize = |size: &str| {
        let option = format!("remount,size={size}");
        assert!(
            Command::new("mount")
                .args(["-o", &option])
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
    };
    let bench = Bench::in_dir(tempfile::tempdir_in(&path).unwrap(), b"");
    let connection = bench.shell("head -c 3000000 /dev/zero; echo end");
    wait_until(|| bench.dir().stdout_size() > 1_900_000);
    assert!(matches!(
        bench.run(UnitTask::WriteStdin { offset: 0, data: Bytes::from(vec![0; 1 << 20]) }),
        UnitTaskResult::Failed(UnitError::Io(text)) if text.ends_with("no space left on device")
    ));
    thread::sleep(Duration::from_millis(1_500));
    resize("8m");
    let (_, record) = finish(connection);
    assert_eq!((record.state, record.stdout_size), (State::Succeeded, 3_000_004));
    assert!(bench.output().ends_with(b"\0end\n"));
    let bench = Bench::in_dir(tempfile::tempdir_in(&path).unwrap(), b"");
    let connection = bench.spawn("cat", &["/dev/zero"]);
    wait_until(|| bench.dir().stdout_size() > 3_000_000);
    cancel(&connection);
    thread::sleep(Duration::from_millis(1_500));
    resize("16m");
    let (_, record) = finish(connection);
    assert_eq!(
        (record.state, record.stdout_size),
        (State::Canceled, bench.dir().stdout_size())
    );
}

#[test]
fn a_unit_outlives_its_daemon() {
    const DAEMON: &str = "RECEPTOR_TEST_DAEMON_OF";
    const SCRIPT: &str = "RECEPTOR_TEST_SCRIPT";
    // The daemon: this very test in another process, which starts the unit and is then killed.
    if let Some(path) = std::env::var_os(DAEMON) {
        let dir = UnitDir::new(Path::new(&path).to_owned());
        let script = std::env::var(SCRIPT).unwrap();
        let args = ["-c".to_owned(), script];
        let connection = runner::spawn(&runner_program(), &dir, "sh", &args).unwrap();
        connection.follow(|event| println!("{event:?}"));
        return;
    }
    let bench = Bench::new(b"go\nrest\n");
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_unit_outlives_its_daemon", "--nocapture"])
        .env(DAEMON, bench.dir().path())
        .env(SCRIPT, format!("echo one; read x; {}; echo two; cat", bench.gate()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("Output(4)")));
    wait_until(|| bench.dir().read().unwrap().state == State::Running);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let attached = bench.attach(&bench.runner()).unwrap();
    assert_eq!(attached.record.state, State::Running);
    let receiver = events(attached.connection.unwrap());
    let first = receiver.recv_timeout(PATIENCE).unwrap();
    assert!(is_running(&first), "{first:?}");
    bench.open_gate();
    let record = loop {
        match receiver.recv_timeout(PATIENCE).unwrap() {
            RunnerEvent::Output(_) => {}
            RunnerEvent::Finished(record) => break record,
            event => panic!("{event:?}"),
        }
    };
    assert_eq!(record.state, State::Succeeded);
    assert_eq!(bench.output(), b"one\ntwo\nrest\n");
    assert_eq!(record.stdout_size, 13);
}
