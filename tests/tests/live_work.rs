//! Units of work on live chains, through killed and restarted daemons (`work.md`).

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use receptor_tests::live::{
    Control, Node, PATIENCE, Scratch, UNIT_LIMIT, assert_same, chain, holds_for, noise, until, wait_for_routes,
};
use serde_json::Value;

/// How long what hangs on a redial (5 s) and on a lost stream may take.
const RECOVERY_LIMIT: Duration = PATIENCE;

fn finished(status: &Value) -> bool {
    matches!(status["State"].as_u64(), Some(2..=4))
}

fn wait_until_finished(node: &Node, unit: &str, limit: Duration) -> Value {
    node.control().wait_for_unit(unit, limit, finished)
}

/// A file that a unit waits for, and the shell words that wait for it.
fn gate(scratch: &Scratch, name: &str) -> (std::path::PathBuf, String) {
    let path = scratch.join(name);
    let wait = format!("until [ -e {} ]; do sleep 0.05; done", path.display());
    (path, wait)
}

fn open_gate(path: &Path) {
    fs::write(path, "").expect("a scratch file can be written");
}

#[test]
fn payloads_of_every_size_come_back_equal() {
    let scratch = Scratch::new();
    let nodes = chain(&scratch, &["node1", "node2", "node3"]);
    for size in [0, 1, 1 << 10, 100_000, 16 << 20] {
        let payload = noise(0, size);
        let submitted = nodes[0].submit("node3", "cat", &payload);
        assert_eq!(submitted.result, "Job Started");
        let results = nodes[0]
            .control()
            .results(&submitted.unit, 0)
            .expect("results of a known unit");
        assert_same(&results, &payload);
        let status = wait_until_finished(&nodes[0], &submitted.unit, UNIT_LIMIT);
        assert_eq!(
            (&status["StateName"], &status["StdoutSize"]),
            (&"Succeeded".into(), &size.into()),
            "{status}"
        );
        assert_eq!(status["Detail"], "exit status 0", "{status}");
        if size == 100_000 {
            let tail = nodes[0]
                .control()
                .results(&submitted.unit, 99_990)
                .expect("results of a known unit");
            assert_same(&tail, &payload[99_990..]);
            let beyond = nodes[0]
                .control()
                .results(&submitted.unit, 100_001)
                .expect("results of a known unit");
            assert_same(&beyond, b"");
        }
    }
    // The same on the node itself.
    let payload = noise(0, 1 << 20);
    for target in ["node1", "localhost"] {
        let submitted = nodes[0].submit(target, "cat", &payload);
        assert_same(
            &nodes[0]
                .control()
                .results(&submitted.unit, 0)
                .expect("results of a known unit"),
            &payload,
        );
    }
}

#[test]
fn failures_say_what_failed() {
    let scratch = Scratch::new();
    let nodes = chain(&scratch, &["node1", "node2", "node3"]);
    for target in ["node3", "node1"] {
        let unit = nodes[0]
            .submit(target, "shell 'echo out; echo err >&2; exit 3'", b"")
            .unit;
        let results = nodes[0].control().results(&unit, 0).expect("results of a known unit");
        assert_same(&results, b"out\nerr\n");
        let status = wait_until_finished(&nodes[0], &unit, UNIT_LIMIT);
        assert_eq!(
            (&status["StateName"], &status["Detail"]),
            (&"Failed".into(), &"exit status 3".into()),
            "{status}"
        );

        let unit = nodes[0].submit(target, "shell 'kill -KILL $$'", b"").unit;
        let status = wait_until_finished(&nodes[0], &unit, UNIT_LIMIT);
        assert_eq!(
            (&status["StateName"], &status["Detail"]),
            (&"Failed".into(), &"signal: killed".into()),
            "{status}"
        );

        let unit = nodes[0].submit(target, "missing", b"").unit;
        let status = wait_until_finished(&nodes[0], &unit, UNIT_LIMIT);
        assert_eq!(status["StateName"], "Failed", "{status}");
        let detail = status["Detail"].as_str().expect("text");
        assert!(
            detail.contains("/nonexistent/program") && detail.contains("no such file"),
            "{status}"
        );
    }

    let refused = nodes[0]
        .control()
        .submit("work submit node1 nosuchtype", b"")
        .expect_err("an unknown type");
    assert_eq!(refused, "unknown work type nosuchtype");
    let refused = nodes[0]
        .control()
        .submit("work submit node3 nosuchtype", b"")
        .expect_err("an unknown type");
    assert!(refused.contains("unknown work type nosuchtype"), "{refused}");
    let refused = nodes[0]
        .control()
        .submit("work submit node1 noparams x", b"")
        .expect_err("parameters");
    assert_eq!(refused, "extra params provided but not allowed");
    let mut control = nodes[0].control();
    for command in ["status", "cancel", "release", "force-release", "results"] {
        assert_eq!(
            control.json(&format!("work {command} nosuch01")),
            Err("unknown work unit nosuch01".into())
        );
    }
}

#[test]
fn fifty_units_at_once_all_complete() {
    let scratch = Scratch::new();
    let nodes = chain(&scratch, &["node1", "node2", "node3"]);
    let units: Vec<String> = thread::scope(|scope| {
        let submit = |n: usize| {
            let socket = nodes[0].socket();
            scope.spawn(move || {
                let control = Control::connect(&socket).expect("the node listens");
                let payload = format!("payload {n}\n");
                let submitted = control
                    .submit("work submit node3 cat", payload.as_bytes())
                    .expect("not refused");
                submitted.unit
            })
        };
        let threads: Vec<_> = (0..50).map(submit).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    for (n, unit) in units.iter().enumerate() {
        let results = nodes[0].control().results(unit, 0).expect("results of a known unit");
        assert_same(&results, format!("payload {n}\n").as_bytes());
        wait_until_finished(&nodes[0], unit, UNIT_LIMIT);
    }
    let list = nodes[0].control().json("work list").expect("a list");
    let list = list.as_object().expect("an object");
    assert_eq!(list.len(), 50);
    assert!(list.values().all(|unit| unit["Detail"] == "exit status 0"), "{list:?}");
}

#[test]
fn a_killed_submitter_still_has_its_unit_and_completes_it() {
    let scratch = Scratch::new();
    let mut nodes = chain(&scratch, &["node1", "node2", "node3"]);
    let (path, wait) = gate(&scratch, "go");
    let unit = nodes[0]
        .submit("node3", &format!("shell 'echo before; {wait}; echo after'"), b"")
        .unit;
    nodes[0]
        .control()
        .wait_for_unit(&unit, UNIT_LIMIT, |status| status["StateName"] == "Running");

    nodes[0].kill();
    nodes[0].start_again();
    let list = nodes[0].control().json("work list").expect("a list");
    let state = &list[&unit]["StateName"];
    assert!(state == "Running" || state == "Pending", "{list}");
    open_gate(&path);
    let results = nodes[0].control().results(&unit, 0).expect("results of a known unit");
    assert_same(&results, b"before\nafter\n");
    let status = wait_until_finished(&nodes[0], &unit, RECOVERY_LIMIT);
    assert_eq!(status["Detail"], "exit status 0", "{status}");
}

#[test]
fn a_unit_that_ended_while_its_submitter_was_away_is_complete() {
    let scratch = Scratch::new();
    let mut nodes = chain(&scratch, &["node1", "node2", "node3"]);
    let (path, wait) = gate(&scratch, "go");
    let unit = nodes[0]
        .submit("node3", &format!("shell 'echo before; {wait}; echo after'"), b"")
        .unit;
    nodes[0]
        .control()
        .wait_for_unit(&unit, UNIT_LIMIT, |status| status["StateName"] == "Running");
    nodes[0].kill();
    open_gate(&path);
    until("it ends at the executor", UNIT_LIMIT, || {
        let list = nodes[2].control().json("work list")?;
        let units = list.as_object().ok_or("no list")?;
        if units.len() == 1 && units.values().all(finished) {
            Ok(())
        } else {
            Err(list.to_string())
        }
    });
    nodes[0].start_again();
    let status = wait_until_finished(&nodes[0], &unit, RECOVERY_LIMIT);
    assert_eq!(status["Detail"], "exit status 0", "{status}");
    assert_same(
        &nodes[0].control().results(&unit, 0).expect("results of a known unit"),
        b"before\nafter\n",
    );
}

#[test]
fn a_unit_survives_its_executor() {
    let scratch = Scratch::new();
    let mut nodes = chain(&scratch, &["node1", "node2", "node3"]);
    let (path, wait) = gate(&scratch, "go");
    let script = format!(
        "echo run >>{}/runs; echo before; {wait}; cat; echo after",
        scratch.path().display()
    );
    let unit = nodes[0]
        .submit("node3", &format!("shell '{script}'"), b"its stdin\n")
        .unit;
    nodes[0]
        .control()
        .wait_for_unit(&unit, UNIT_LIMIT, |status| status["StateName"] == "Running");

    nodes[2].kill();
    nodes[2].start_again();
    open_gate(&path);
    let results = nodes[0].control().results(&unit, 0).expect("results of a known unit");
    assert_same(&results, b"before\nits stdin\nafter\n");
    let status = wait_until_finished(&nodes[0], &unit, RECOVERY_LIMIT);
    assert_eq!(status["Detail"], "exit status 0", "{status}");
    assert_eq!(
        fs::read_to_string(scratch.join("runs")).expect("written by the unit"),
        "run\n",
        "ran once"
    );

    // Killed once more, while the unit is already over: nothing changes.
    nodes[2].kill();
    nodes[2].start_again();
    let list = nodes[2].control().json("work list").expect("a list");
    assert!(
        list.as_object()
            .expect("an object")
            .values()
            .all(|unit| unit["State"] == 2),
        "{list}"
    );
    assert_eq!(
        fs::read_to_string(scratch.join("runs")).expect("written by the unit"),
        "run\n",
        "ran once"
    );
}

#[test]
fn a_unit_whose_end_the_executor_missed_is_not_lost() {
    let scratch = Scratch::new();
    let mut nodes = chain(&scratch, &["node1", "node2", "node3"]);
    let (path, wait) = gate(&scratch, "go");
    let done = scratch.join("done");
    let script = format!("{wait}; echo after; echo >{}; exit 7", done.display());
    let unit = nodes[0].submit("node3", &format!("shell '{script}'"), b"").unit;
    nodes[0]
        .control()
        .wait_for_unit(&unit, UNIT_LIMIT, |status| status["StateName"] == "Running");
    nodes[2].kill();
    open_gate(&path);
    until("the unit ends alone", UNIT_LIMIT, || {
        if done.exists() { Ok(()) } else { Err("it runs".into()) }
    });
    until("its processes are gone", UNIT_LIMIT, || {
        let left = scratch.processes();
        if left.len() == 2 {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    nodes[2].start_again();
    let status = wait_until_finished(&nodes[0], &unit, RECOVERY_LIMIT);
    assert_eq!(
        (&status["StateName"], &status["Detail"]),
        (&"Failed".into(), &"exit status 7".into()),
        "{status}"
    );
    assert_same(
        &nodes[0].control().results(&unit, 0).expect("results of a known unit"),
        b"after\n",
    );
}

#[test]
fn a_long_output_is_complete_although_the_middle_node_was_killed() {
    const SIZE: usize = 64 << 20;
    let scratch = Scratch::new();
    let mut nodes = chain(&scratch, &["node1", "node2", "node3"]);
    let payload = noise(0, SIZE);
    let source = scratch.write("source", &payload);
    let (path, wait) = gate(&scratch, "go");
    // A quarter first, then the rest, so that the node is killed with certainty before the end.
    let script = format!(
        "head -c {} {src}; {wait}; tail -c +{} {src}",
        SIZE / 4,
        SIZE / 4 + 1,
        src = source.display()
    );
    let unit = nodes[0].submit("node3", &format!("shell '{script}'"), b"").unit;
    let output = thread::scope(|scope| {
        let control = nodes[0].control();
        let reader = scope.spawn(|| control.results(&unit, 0));
        nodes[0].control().wait_for_unit(&unit, UNIT_LIMIT, |status| {
            // Some of it is here.
            status["StdoutSize"].as_u64().is_some_and(|size| size > 1 << 20)
        });
        open_gate(&path);
        nodes[1].kill();
        holds_for("node1 answers alone", Duration::from_millis(200), || {
            nodes[0].try_status().map(drop)
        });
        nodes[1].start_again();
        reader.join().expect("no panic").expect("results of a known unit")
    });
    assert_same(&output, &payload);
    let status = wait_until_finished(&nodes[0], &unit, RECOVERY_LIMIT);
    assert_eq!(
        (&status["Detail"], &status["StdoutSize"]),
        (&"exit status 0".into(), &SIZE.into()),
        "{status}"
    );
    wait_for_routes(&nodes);
}

#[test]
fn a_submission_to_a_node_that_is_away_is_delivered_later() {
    let scratch = Scratch::new();
    let mut nodes = chain(&scratch, &["node1", "node2", "node3"]);
    nodes[2].kill();
    until("the route is gone", UNIT_LIMIT, || {
        let status = nodes[0].try_status()?;
        if status["RoutingTable"]["node3"].is_null() {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    let submitted = nodes[0].submit("node3", "cat", b"late");
    assert_eq!(submitted.result, "Job Submitted");
    nodes[2].start_again();
    let status = wait_until_finished(&nodes[0], &submitted.unit, RECOVERY_LIMIT);
    assert_eq!(status["Detail"], "exit status 0", "{status}");
    assert_same(
        &nodes[0]
            .control()
            .results(&submitted.unit, 0)
            .expect("results of a known unit"),
        b"late",
    );
}

#[test]
fn cancel_and_release_leave_nothing() {
    let scratch = Scratch::new();
    let nodes = chain(&scratch, &["node1", "node2", "node3"]);
    let daemons: Vec<u32> = nodes.iter().map(Node::pid).collect();
    let (_never, wait) = gate(&scratch, "never");
    for target in ["node3", "node1"] {
        let marker = scratch.join(&format!("forked-{target}"));
        // A grandchild whose parent is gone at once.
        let script = format!("(setsid sleep 601 &) ; echo >{}; {wait}", marker.display());
        let unit = nodes[0].submit(target, &format!("shell '{script}'"), b"").unit;
        nodes[0]
            .control()
            .wait_for_unit(&unit, UNIT_LIMIT, |status| status["StateName"] == "Running");
        until("it forked", UNIT_LIMIT, || {
            if marker.exists() { Ok(()) } else { Err("not yet".into()) }
        });

        let answer = nodes[0].control().json(&format!("work cancel {unit}"));
        assert_eq!(answer, Ok(serde_json::json!({ "cancelled": unit })));
        let status = wait_until_finished(&nodes[0], &unit, UNIT_LIMIT);
        assert_eq!(
            (&status["State"], &status["Detail"]),
            (&4.into(), &"Canceled".into()),
            "{status}"
        );
        // A cancelled unit's results end.
        nodes[0].control().results(&unit, 0).expect("results of a known unit");

        let answer = nodes[0].control().json(&format!("work release {unit}"));
        assert_eq!(answer, Ok(serde_json::json!({ "released": unit })));
        until("nothing of it is left", PATIENCE, || {
            let directories = [nodes[0].unit_directories(), nodes[2].unit_directories()].concat();
            let mut processes = scratch.processes();
            processes.retain(|process| !daemons.contains(&process.pid));
            if directories.is_empty() && processes.is_empty() {
                Ok(())
            } else {
                Err(format!("{directories:?} {processes:?}"))
            }
        });
        let list = nodes[0].control().json("work list");
        assert_eq!(list, Ok(serde_json::json!({})));
    }
}
