//! What is left when a runner is killed: an exact prefix of the output, and no process.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use receptor_core::workceptor::{ProcessIdentity, Record, RunnerEvent, State};
use receptor_host::{UnitDir, identity, runner};

use crate::bench::{Bench, PATIENCE, events, is_gone, pid_in, runner_program, signal, wait_until};

/// Waits for the word that the runner is gone.
fn lost(receiver: &Receiver<RunnerEvent>) -> (Record, u64) {
    loop {
        match receiver.recv_timeout(PATIENCE).unwrap() {
            RunnerEvent::Running(_) | RunnerEvent::Output(_) => {}
            RunnerEvent::Lost { record, stdout_size } => return (record, stdout_size),
            event @ RunnerEvent::Finished(_) => panic!("{event:?}"),
        }
    }
}

#[test]
fn a_killed_runner_is_reported_its_output_saved_and_its_command_killed() {
    let bench = Bench::new(b"");
    let connection = bench.shell("echo pid=$$; exec sleep 1000");
    bench.wait_for_output("pid=");
    let runner = bench.runner();
    let pid = pid_in(&bench.output(), "pid");
    let receiver = events(connection);
    wait_until(|| bench.dir().read().unwrap().state == State::Running);
    // Stopped, so that what is written now stays in the pipe.
    signal("-STOP", runner.pid);
    fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/{pid}/fd/1"))
        .unwrap()
        .write_all(b"last words\n")
        .unwrap();
    signal("-KILL", runner.pid);
    let last = loop {
        match receiver.recv_timeout(PATIENCE).unwrap() {
            RunnerEvent::Running(_) | RunnerEvent::Output(_) => {}
            event => break event,
        }
    };
    let RunnerEvent::Lost { record, stdout_size } = last else {
        panic!("{last:?}")
    };
    assert_eq!(record.state, State::Running);
    assert!(bench.output().ends_with(b"last words\n"));
    assert_eq!(stdout_size, bench.output().len() as u64);
    assert!(is_gone(pid));
    assert!(!identity::is_alive(&runner));
    let attached = bench.attach(&runner).unwrap();
    assert!(attached.connection.is_none());
}

#[test]
fn when_a_runner_is_reported_lost_nothing_that_its_command_started_still_runs() {
    let bench = Bench::new(b"");
    // They do not hold the output open, so its end says nothing about theirs.
    let script = "i=0; while [ $i -lt 50 ]; do sleep 1000 > /dev/null 2>&1 & echo child=$!; i=$((i+1)); done; \
                  echo up; wait";
    let connection = bench.shell(script);
    bench.wait_for_output("up");
    let output = String::from_utf8(bench.output()).unwrap();
    let children = output.lines().filter_map(|line| line.strip_prefix("child="));
    let children: Vec<u32> = children.map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(children.len(), 50);
    let receiver = events(connection);
    wait_until(|| bench.dir().read().unwrap().state == State::Running);
    signal("-KILL", bench.runner().pid);
    while !matches!(receiver.recv_timeout(PATIENCE).unwrap(), RunnerEvent::Lost { .. }) {}
    let alive: Vec<_> = children.into_iter().filter(|&pid| !is_gone(pid)).collect();
    assert_eq!(alive, [0; 0]);
}

/// Numbers that rise by one, a line each, and perhaps the beginning of the next.
fn assert_is_prefix_of_numbers(output: &[u8]) {
    for (expected, line) in (1_u64..).zip(output.split_inclusive(|&byte| byte == b'\n')) {
        let wanted = format!("{expected}\n");
        let whole = line.ends_with(b"\n");
        let is_next = if whole {
            line == wanted.as_bytes()
        } else {
            wanted.as_bytes().starts_with(line)
        };
        let line = String::from_utf8_lossy(line);
        assert!(is_next, "{line:?} where {expected} was expected");
    }
}

/// A number that differs from round to round.
fn jitter(round: u64, below: u64) -> u64 {
    (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % below
}

fn rounds() -> u64 {
    std::env::var("RECEPTOR_TEST_ROUNDS").map_or(25, |text| text.parse().expect("a number"))
}

/// Between reading the pipe and writing the file there must be nothing to lose: the daemon appends the pipe's rest.
#[test]
fn the_output_of_a_killed_runner_has_no_hole() {
    for round in 0..rounds() {
        let bench = Bench::new(b"");
        let receiver = events(bench.spawn("seq", &["1", "1000000000"]));
        wait_until(|| bench.dir().stdout_size() > 0);
        thread::sleep(Duration::from_micros(jitter(round, 40_000)));
        signal("-KILL", bench.runner().pid);
        let (_, stdout_size) = lost(&receiver);
        let output = bench.output();
        assert_eq!(stdout_size, output.len() as u64);
        assert_is_prefix_of_numbers(&output);
    }
}

/// Starts a unit from a daemon that is killed, and then kills the runner. Gives the record's runner.
fn orphan(bench: &Bench, script: &str, is_ready: impl Fn(&[u8]) -> bool) -> ProcessIdentity {
    let daemon = Daemon::start(bench, script);
    wait_until(|| is_ready(&fs::read(bench.dir().stdout()).unwrap_or_default()));
    wait_until(|| bench.dir().read().unwrap().state == State::Running);
    drop(daemon);
    let runner = bench.runner();
    signal("-KILL", runner.pid);
    wait_until(|| !identity::is_alive(&runner));
    runner
}

/// This test program again, as a daemon.
struct Daemon(std::process::Child);

impl Daemon {
    const DIR: &str = "RECEPTOR_TEST_ORPHANS_DAEMON";
    const SCRIPT: &str = "RECEPTOR_TEST_ORPHANS_SCRIPT";

    fn start(bench: &Bench, script: &str) -> Self {
        let daemon = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::daemon_of_the_tests_beside_it"])
            .env(Self::DIR, bench.dir().path())
            .env(Self::SCRIPT, script)
            .stdout(std::process::Stdio::null())
            .spawn();
        Self(daemon.unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn daemon_of_the_tests_beside_it() {
    let (Some(path), Ok(script)) = (std::env::var_os(Daemon::DIR), std::env::var(Daemon::SCRIPT)) else {
        return;
    };
    let dir = UnitDir::new(Path::new(&path).to_owned());
    let args = ["-c".to_owned(), script];
    runner::spawn(&runner_program(), &dir, "sh", &args)
        .unwrap()
        .follow(|_| {});
}

#[test]
fn a_runner_that_died_while_no_daemon_ran_leaves_no_process() {
    let bench = Bench::new(b"");
    let script = "sleep 1000 & echo child=$!; echo pid=$$; wait";
    let runner = orphan(&bench, script, |output| lines_of(output, "pid=").len() == 1);
    let attached = bench.attach(&runner).unwrap();
    assert!(attached.connection.is_none());
    assert_eq!(attached.record.state, State::Running);
    for name in ["pid", "child"] {
        assert!(is_gone(pid_in(&bench.output(), name)), "{name} still runs");
    }
}

/// It leaves the session, the process group and its parent, closes the output and waits in another directory.
const DETACH: &str = "setsid sh -c 'cd /; (sh -c \"echo far=\\$\\$; exec sleep 1000 >/dev/null 2>&1 </dev/null\" &)'; \
                      setsid sh -c 'echo far=$$; exec sleep 1000 >/dev/null 2>&1 </dev/null' & echo up; wait";

#[test]
fn whoever_detached_itself_dies_with_a_killed_runner() {
    let bench = Bench::new(b"");
    let receiver = events(bench.shell(DETACH));
    wait_until(|| bench.dir().stdout().exists() && far(&bench).len() == 2);
    wait_until(|| bench.dir().read().unwrap().state == State::Running);
    signal("-KILL", bench.runner().pid);
    lost(&receiver);
    assert_eq!(alive(&far(&bench)), [0; 0]);
}

#[test]
fn whoever_detached_itself_dies_when_a_dead_runner_is_looked_for() {
    let bench = Bench::new(b"");
    let runner = orphan(&bench, DETACH, |output| lines_of(output, "far=").len() == 2);
    assert!(bench.attach(&runner).unwrap().connection.is_none());
    assert_eq!(alive(&far(&bench)), [0; 0]);
}

/// The processes that detached themselves.
fn far(bench: &Bench) -> Vec<u32> {
    lines_of(&bench.output(), "far=")
}

/// Numbers behind a word, in whole lines.
fn lines_of(output: &[u8], word: &str) -> Vec<u32> {
    let output = String::from_utf8_lossy(output);
    let lines = output.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    lines.filter_map(|line| line.strip_prefix(word)?.parse().ok()).collect()
}

fn alive(pids: &[u32]) -> Vec<u32> {
    pids.iter().copied().filter(|&pid| !is_gone(pid)).collect()
}

/// A number may long belong to somebody else, even as a session.
#[test]
fn processes_of_others_are_left_alone() {
    let bench = Bench::new(b"");
    let dead = orphan(&bench, "echo up; exec sleep 1000", |output| output == b"up\n");
    // A session of somebody else whose number is in the record, with its leader gone.
    let mut stranger = Command::new("setsid")
        .args(["sh", "-c", "sleep 1000 & echo $! $$"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stranger.stdout.take().unwrap()), &mut line).unwrap();
    stranger.wait().unwrap();
    let (member, leader) = line.trim().split_once(' ').unwrap();
    let (member, leader): (u32, u32) = (member.parse().unwrap(), leader.parse().unwrap());
    assert!(is_gone(leader) && !is_gone(member));
    let stale = ProcessIdentity { pid: leader, ..dead };
    assert!(bench.attach(&stale).unwrap().connection.is_none());
    assert!(!is_gone(member), "a process of somebody else was killed");
    signal("-KILL", member);
}
