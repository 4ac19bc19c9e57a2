//! One data directory, used by the Go node and by our daemon in turn, with live units: what each finds is what the other
//! has left, no unit runs twice, none is forgotten, and the end that is told is the end that was.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use receptor_tests::live::{Builder, Node, Process, Scratch, free_port, go_node, until};
use serde_json::{Value, json};

/// The Go node looks once a second, and waits ten for a command that it has interrupted.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Ours,
    Go,
}
use Kind::{Go, Ours};

/// A machine on which one node or the other runs.
struct Machine {
    scratch: Scratch,
    go: PathBuf,
    node: Option<Node>,
    /// Links of the node.
    listen: Option<u16>,
    peer: Option<u16>,
}

impl Machine {
    fn new() -> Option<Self> {
        Some(Self {
            scratch: Scratch::new(),
            go: go_node()?.to_owned(),
            node: None,
            listen: None,
            peer: None,
        })
    }

    /// Kills the node that runs and starts another in its place.
    fn run(&mut self, kind: Kind) -> &Node {
        self.kill();
        let starts = self.starts_of_go();
        let mut builder = Builder::new(&self.scratch, "node").work();
        if kind == Go {
            builder = builder.binary(&self.go);
        }
        builder = match (self.listen, self.peer) {
            (None, None) => builder.local_only(),
            (listen, peer) => {
                if let Some(port) = listen {
                    builder = builder.listen(port, 1.0);
                }
                peer.into_iter().fold(builder, |builder, port| builder.peer(port, 1.0))
            }
        };
        self.node = Some(builder.start());
        if kind == Go {
            // Asked for a unit before, it waits for itself for ever (`work.md` §19 #1).
            until("the Go node has its work types", LIMIT, || {
                (self.starts_of_go() > starts)
                    .then_some(())
                    .ok_or_else(|| "not yet".to_owned())
            });
        }
        self.node()
    }

    fn starts_of_go(&self) -> usize {
        let log = fs::read_to_string(self.scratch.join("node.log")).unwrap_or_default();
        log.matches("Initialization complete").count()
    }

    fn kill(&mut self) {
        if let Some(mut node) = self.node.take() {
            node.kill();
        }
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("it runs")
    }

    /// Submits a shell command, which must start.
    fn submit(&self, script: &str) -> String {
        let submitted = self
            .node()
            .submit("localhost", &format!("shell '{script}'"), b"input\n");
        assert_eq!(submitted.result, "Job Started");
        submitted.unit
    }

    /// Says what it is told to say, when it is told: once per file `NAME.N`.
    fn counter(&self, name: &str, count: u32) -> String {
        let gate = self.scratch.join(name);
        let wait = format!("until test -e {}.$i; do sleep 0.05; done", gate.display());
        format!("echo pid=$$; i=0; while test $i -lt {count}; do {wait}; echo $i; i=$((i+1)); done; cat")
    }

    fn open(&self, name: &str, number: u32) {
        self.scratch.write(&format!("{name}.{number}"), "");
    }

    fn status(&self, unit: &str) -> Value {
        self.node()
            .control()
            .json(&format!("work status {unit}"))
            .unwrap_or_else(|error| panic!("status of {unit}: {error}"))
    }

    fn wait(&self, unit: &str, what: impl Fn(&Value) -> bool) -> Value {
        self.node().control().wait_for_unit(unit, LIMIT, what)
    }

    /// Waits until the unit's output is told to have this many bytes.
    fn wait_for_size(&self, unit: &str, size: usize) {
        self.wait(unit, |status| {
            status["StdoutSize"] == size && status["StateName"] == "Running"
        });
    }

    fn wait_for_end(&self, unit: &str, state: &str, detail: &str) {
        let status = self.wait(unit, |status| !is_active(status));
        assert_eq!(
            (&status["StateName"], &status["Detail"]),
            (&json!(state), &json!(detail)),
            "{status}"
        );
    }

    fn results(&self, unit: &str) -> String {
        let output = self.node().control().results(unit, 0).expect("results");
        String::from_utf8(output).expect("text")
    }

    fn directory(&self, unit: &str) -> PathBuf {
        self.scratch.join("data").join("node").join(unit)
    }

    fn stdout(&self, unit: &str) -> String {
        fs::read_to_string(self.directory(unit).join("stdout")).unwrap_or_default()
    }

    fn record(&self, unit: &str) -> Value {
        until("a whole record", LIMIT, || {
            let text = fs::read(self.directory(unit).join("status")).map_err(|error| error.to_string())?;
            serde_json::from_slice(&text).map_err(|error| error.to_string())
        })
    }

    /// The command's process ID, from its first line of output.
    fn pid(&self, unit: &str) -> u32 {
        until("the first line", LIMIT, || {
            let output = self.stdout(unit);
            let line = output.split_once('\n').ok_or("no line yet")?.0;
            line.strip_prefix("pid=")
                .and_then(|pid| pid.parse().ok())
                .ok_or_else(|| format!("{line:?}"))
        })
    }

    /// Kills the runner of a unit, though not while it writes: it would leave no record.
    fn kill_runner(&self, unit: &str, runner: u32) {
        let lock = fs::File::options()
            .write(true)
            .open(self.directory(unit).join("status.lock"));
        let lock = lock.expect("a lock file");
        lock.lock().expect("the lock");
        kill(runner);
        until("the runner is gone", LIMIT, || {
            self.process(runner)
                .map_or(Ok(()), |process| Err(format!("{process:?}")))
        });
    }

    fn process(&self, pid: u32) -> Option<Process> {
        self.scratch.processes().into_iter().find(|process| process.pid == pid)
    }

    fn wait_until_gone(&self, pid: u32) {
        until(&format!("process {pid} is gone"), LIMIT, || {
            self.process(pid).map_or(Ok(()), |process| Err(format!("{process:?}")))
        });
    }

    fn release(&self, unit: &str) {
        let answer = self.node().control().json(&format!("work release {unit}"));
        assert_eq!(answer, Ok(json!({ "released": unit })));
        until("the directory goes", LIMIT, || {
            let directory = self.directory(unit);
            (!directory.exists())
                .then_some(())
                .ok_or_else(|| "it is still there".to_owned())
        });
    }
}

fn is_active(status: &Value) -> bool {
    ["Pending", "Running"].contains(&status["StateName"].as_str().unwrap_or_default())
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a process ID")).expect("not zero");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it can be killed");
}

/// The unit counts on through every change of the daemon, and its end is exact.
fn counts_through(kinds: &[Kind]) {
    let Some(mut machine) = Machine::new() else { return };
    machine.run(kinds[0]);
    let count = u32::try_from(kinds.len()).expect("few");
    let unit = machine.submit(&machine.counter("gate", count));
    let pid = machine.pid(&unit);
    let mut expected = format!("pid={pid}\n");
    let mut readers = Vec::new();
    for (number, kind) in (0..).zip(kinds) {
        if number > 0 {
            machine.run(*kind);
        }
        machine.wait_for_size(&unit, expected.len());
        let mut reader = machine.node().control();
        if number + 1 == count {
            let unit = unit.clone();
            readers.push(thread::spawn(move || reader.results(&unit, 0).expect("results")));
        } else {
            reader.command(&format!("work results {unit}")).expect("results begin");
        }
        machine.open("gate", number);
        expected += &format!("{number}\n");
        if number + 1 < count {
            machine.wait_for_size(&unit, expected.len());
        }
    }
    expected += "input\n";
    machine.wait_for_end(&unit, "Succeeded", "exit status 0");
    assert_eq!(machine.results(&unit), expected);
    for reader in readers {
        assert_eq!(String::from_utf8_lossy(&reader.join().expect("a reader")), expected);
    }
    assert_eq!(machine.status(&unit)["StdoutSize"], expected.len());
    machine.release(&unit);
}

#[test]
fn a_unit_of_go_outlives_two_changes_of_daemon() {
    counts_through(&[Go, Ours, Go]);
}

#[test]
fn a_unit_of_ours_outlives_two_changes_of_daemon() {
    counts_through(&[Ours, Go, Ours]);
}

#[test]
fn a_unit_of_go_is_ours_to_the_end() {
    counts_through(&[Go, Ours]);
    counts_through(&[Go, Ours, Ours]);
}

#[test]
fn what_ended_between_two_daemons_ended_as_it_did() {
    let Some(mut machine) = Machine::new() else { return };
    for (first, second) in [(Go, Ours), (Ours, Go)] {
        machine.run(first);
        let name = format!("{first:?}");
        let good = machine.submit(&machine.counter(&name, 1));
        let bad = machine.submit(&format!("{}; exit 3", machine.counter(&name, 1)));
        let (good_pid, bad_pid) = (machine.pid(&good), machine.pid(&bad));
        machine.kill();
        machine.open(&name, 0);
        for unit in [&good, &bad] {
            until("the record says the end", LIMIT, || {
                let state = machine.record(unit)["State"].clone();
                (state != 1).then_some(()).ok_or_else(|| format!("state {state}"))
            });
        }
        machine.run(second);
        machine.wait_for_end(&good, "Succeeded", "exit status 0");
        machine.wait_for_end(&bad, "Failed", "exit status 3");
        assert_eq!(machine.results(&good), format!("pid={good_pid}\n0\ninput\n"));
        assert_eq!(machine.results(&bad), format!("pid={bad_pid}\n0\ninput\n"));
        machine.release(&good);
        machine.release(&bad);
    }
}

#[test]
fn units_of_the_other_kind_are_cancelled_with_all_they_started() {
    let Some(mut machine) = Machine::new() else { return };
    for (first, second) in [(Go, Ours), (Ours, Go)] {
        machine.run(first);
        let obedient = machine.submit("echo pid=$$; exec sleep 1000");
        let parent = machine.submit("echo pid=$$; sleep 1000 & echo child=$!; wait");
        let stubborn = machine.submit("echo pid=$$; trap : INT TERM; while :; do sleep 0.1; done");
        let released = machine.submit("echo pid=$$; exec sleep 1000");
        let pids: Vec<u32> = [&obedient, &parent, &stubborn, &released]
            .map(|unit| machine.pid(unit))
            .to_vec();
        machine.run(second);
        for unit in [&obedient, &parent, &stubborn] {
            machine.wait(unit, |status| status["StateName"] == "Running");
            let answer = machine.node().control().json(&format!("work cancel {unit}"));
            assert_eq!(answer, Ok(json!({ "cancelled": unit })));
            machine.wait_for_end(unit, "Canceled", "Canceled");
        }
        machine.release(&released);
        pids.into_iter().for_each(|pid| machine.wait_until_gone(pid));
        if second == Ours || first == Ours {
            let child = machine.stdout(&parent);
            let child = child.lines().find_map(|line| line.strip_prefix("child="));
            machine.wait_until_gone(child.expect("a child").parse().expect("a process ID"));
        }
        // They stay what they are when the daemon changes once more.
        machine.run(first);
        machine.wait_for_end(&obedient, "Canceled", "Canceled");
        for unit in [&obedient, &parent, &stubborn] {
            machine.release(unit);
        }
    }
}

#[test]
fn a_runner_of_go_that_died_is_told_of_and_its_command_is_ended() {
    let Some(mut machine) = Machine::new() else { return };
    machine.run(Go);
    let died = machine.submit("echo pid=$$; exec sleep 1000");
    let dies = machine.submit("echo pid=$$; exec sleep 1000");
    let pids = [machine.pid(&died), machine.pid(&dies)];
    let runner = |unit: &str| {
        until("the record has the runner", LIMIT, || {
            let pid = machine.record(unit)["ExtraData"]["Pid"].as_u64().unwrap_or(0);
            (pid != 0).then_some(pid as u32).ok_or_else(|| "not yet".to_owned())
        })
    };
    let runners = [runner(&died), runner(&dies)];
    for unit in [&died, &dies] {
        machine.wait(unit, |status| status["StateName"] == "Running");
    }
    machine.kill();
    machine.kill_runner(&died, runners[0]);
    machine.run(Ours);
    let lost = "runner lost: it is gone and has not said how the command ended";
    machine.wait_for_end(&died, "Failed", lost);
    machine.wait_until_gone(pids[0]);
    machine.wait(&dies, |status| status["StateName"] == "Running");
    machine.kill_runner(&dies, runners[1]);
    machine.wait_for_end(&dies, "Failed", lost);
    machine.wait_until_gone(pids[1]);
    assert_eq!(machine.results(&dies), format!("pid={}\n", pids[1]));
}

/// The Go daemon drops what it knows of a runner that has ended, also if the runner was killed and said nothing.
#[test]
fn a_unit_that_runs_for_ever_in_go_has_failed_with_us() {
    let Some(mut machine) = Machine::new() else { return };
    machine.run(Go);
    let unit = machine.submit("echo pid=$$; exec sleep 1000");
    let pid = machine.pid(&unit);
    machine.wait(&unit, |status| status["StateName"] == "Running");
    let runner = machine.record(&unit)["ExtraData"]["Pid"].as_u64().expect("a runner") as u32;
    machine.kill_runner(&unit, runner);
    machine.wait(&unit, |status| status["ExtraData"].is_null());
    assert_eq!(machine.status(&unit)["StateName"], "Running");
    machine.run(Ours);
    machine.wait_for_end(
        &unit,
        "Failed",
        "runner lost: it is gone and has not said how the command ended",
    );
    machine.wait_until_gone(pid);
    machine.release(&unit);
}

/// The Go daemon may die between starting a runner and writing down who it is.
#[test]
fn a_runner_of_go_that_is_not_in_the_record_is_found() {
    let Some(mut machine) = Machine::new() else { return };
    machine.run(Go);
    let unit = machine.submit(&machine.counter("gate", 1));
    let pid = machine.pid(&unit);
    machine.wait(&unit, |status| status["StateName"] == "Running");
    machine.kill();
    // Under the lock, as the runner goes on writing.
    let directory = machine.directory(&unit);
    let lock = fs::File::options().write(true).open(directory.join("status.lock"));
    let lock = lock.expect("a lock file");
    lock.lock().expect("the lock");
    let mut record: Value =
        serde_json::from_slice(&fs::read(directory.join("status")).expect("a record")).expect("JSON");
    record["ExtraData"]["Pid"] = json!(0);
    record["State"] = json!(0);
    fs::write(directory.join("status"), format!("{record}\n")).expect("written");
    drop(lock);
    machine.run(Ours);
    machine.wait(&unit, |status| status["StateName"] == "Running");
    machine.open("gate", 0);
    machine.wait_for_end(&unit, "Succeeded", "exit status 0");
    assert_eq!(machine.results(&unit), format!("pid={pid}\n0\ninput\n"));
}

#[test]
fn what_never_started_has_failed_for_both() {
    let Some(mut machine) = Machine::new() else { return };
    for (first, second) in [(Go, Ours), (Ours, Go)] {
        machine.run(first);
        // Its stdin never ends.
        let mut client = machine.node().control();
        let line = client.command("work submit localhost cat").expect("an answer");
        let unit = line.split("ID ").nth(1).and_then(|rest| rest.split('.').next());
        let unit = unit.expect("a unit ID").to_owned();
        machine.run(second);
        machine.wait_for_end(&unit, "Failed", "Pending at restart");
        machine.release(&unit);
    }
}

/// The local half of a remote unit goes from daemon to daemon while the other node runs it.
#[test]
fn a_remote_unit_is_followed_by_whoever_submits_in_turn() {
    for kinds in [[Go, Ours, Go], [Ours, Go, Ours]] {
        let Some(mut machine) = Machine::new() else { return };
        let port = free_port();
        let executor = Builder::new(&machine.scratch, "executor")
            .work()
            .listen(port, 1.0)
            .start();
        machine.peer = Some(port);
        machine.run(kinds[0]);
        wait_for_both(&machine, &executor);
        let script = machine.counter("gate", 3);
        let submitted = machine
            .node()
            .submit("executor", &format!("shell '{script}'"), b"input\n");
        let unit = submitted.unit;
        let pid = until("the unit runs", LIMIT, || {
            let output = machine.stdout(&unit);
            let line = output.split_once('\n').ok_or("no line yet")?.0.to_owned();
            Ok(line)
        });
        let mut expected = format!("{pid}\n");
        for (number, kind) in (0..).zip(kinds) {
            if number > 0 {
                machine.run(kind);
            }
            machine.open("gate", number);
            expected += &format!("{number}\n");
            if number < 2 {
                machine.wait_for_size(&unit, expected.len());
            }
        }
        expected += "input\n";
        machine.wait_for_end(&unit, "Succeeded", "exit status 0");
        assert_eq!(machine.results(&unit), expected);
        machine.release(&unit);
    }
}

fn wait_for_both(machine: &Machine, executor: &Node) {
    until("the two know each other", LIMIT, || {
        let knows = |node: &Node, other: &str| {
            node.try_status().is_ok_and(|status| {
                status["RoutingTable"][other].is_string()
                    && status["Advertisements"]
                        .as_array()
                        .is_some_and(|all| all.iter().any(|entry| entry["NodeID"] == other))
            })
        };
        let known = knows(machine.node(), "executor") && knows(executor, "node");
        known.then_some(()).ok_or_else(|| "not yet".to_owned())
    });
}
