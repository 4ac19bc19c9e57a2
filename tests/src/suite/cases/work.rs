//! Units of work.

use std::time::Duration;

use receptor_core::config::{BackendKind, Signing, Verification, WorkKeys, WorkLimits};
use serde_json::Value;

use crate::live::{UNIT_LIMIT, free_port, until};
use crate::suite::{Bench, PATIENCE, until_reachable};

const PRIVATE_KEY: &str = include_str!("../../../../core/host/src/adapter/signing/keys/private-pkcs8.pem");
const PUBLIC_KEY: &str = include_str!("../../../../core/host/src/adapter/signing/keys/public.pem");

fn is(name: &'static str) -> impl Fn(&Value) -> bool {
    move |status| status["StateName"] == name
}

/// Submits and waits for a state.
fn submit(bench: &Bench, at: &str, command: &str, stdin: &[u8], state: &'static str) -> String {
    let line = format!("work submit {command}");
    let submitted = bench.control(at).submit(&line, stdin);
    let unit = submitted.unwrap_or_else(|error| panic!("{line}: {error}")).unit;
    bench.control(at).wait_for_unit(&unit, UNIT_LIMIT, is(state));
    unit
}

fn results(bench: &Bench, at: &str, unit: &str) -> Vec<u8> {
    bench.control(at).results(unit, 0).unwrap()
}

/// Nothing of a unit is left when it was released.
fn release(bench: &Bench, at: &str, unit: &str) {
    bench.control(at).json(&format!("work release {unit}")).unwrap();
    until("the unit's directory is gone", PATIENCE, || {
        if bench.unit(at, unit).exists() {
            Err(unit.to_owned())
        } else {
            Ok(())
        }
    });
}

/// No process of the scratch directory runs `what`.
fn until_no_process(bench: &Bench, what: &str) {
    until(&format!("no {what} runs"), PATIENCE, || {
        let processes = bench.scratch.processes();
        match processes.iter().find(|process| process.command_line.contains(what)) {
            Some(process) => Err(format!("{process:?}")),
            None => Ok(()),
        }
    });
}

/// Runs, gives its output whole and in part, and is released.
pub fn a_local_unit(bench: &Bench) {
    let _node = bench.near(&bench.worker("near").backend(BackendKind::LocalOnly));
    let input = super::pattern(1, 200_000);
    let unit = submit(bench, "near", "near cat", &input, "Succeeded");
    assert!(results(bench, "near", &unit) == input);
    let tail = bench.control("near").results(&unit, 150_000).unwrap();
    assert!(tail == input[150_000..]);
    release(bench, "near", &unit);
}

/// The same on another node.
pub fn a_remote_unit(bench: &Bench) {
    let port = free_port();
    let near = bench.near(&bench.worker("near").listen(port));
    let _far = bench.far(&bench.worker("far").peer(port));
    until_reachable(&*near, "far");
    let input = super::pattern(2, 1 << 20);
    let unit = submit(bench, "near", "far cat", &input, "Succeeded");
    assert!(results(bench, "near", &unit) == input);
    release(bench, "near", &unit);
    until("the other node has released it", PATIENCE, || {
        let left = bench.control("far").json("work list").unwrap();
        match left.as_object() {
            Some(units) if units.is_empty() => Ok(()),
            _ => Err(left.to_string()),
        }
    });
}

/// A cancelled unit keeps what it has said, and nothing of it runs on.
pub fn cancelled_local_and_remote(bench: &Bench) {
    let port = free_port();
    let near = bench.near(&bench.worker("near").listen(port));
    let _far = bench.far(&bench.worker("far").peer(port));
    until_reachable(&*near, "far");
    for target in ["near", "far"] {
        let unit = submit(bench, "near", &format!("{target} slow"), b"said", "Running");
        let mut session = bench.control("near");
        session.wait_for_unit(&unit, UNIT_LIMIT, |status| status["StdoutSize"] == 4);
        session.json(&format!("work cancel {unit}")).unwrap();
        session.wait_for_unit(&unit, UNIT_LIMIT, is("Canceled"));
        assert_eq!(results(bench, "near", &unit), b"said");
        until_no_process(bench, "sleep 600");
    }
}

/// A unit runs on while its node is away, and the node finds it again.
pub fn goes_on_while_its_node_is_away(bench: &Bench) {
    let setup = bench.worker("near").backend(BackendKind::LocalOnly);
    let node = bench.near(&setup);
    let before = submit(bench, "near", "near gate", b"one ", "Running");
    let meanwhile = submit(bench, "near", "near gate", b"two ", "Running");
    node.shutdown();
    drop(node);

    let node = bench.near(&setup);
    let status = bench.control("near").json(&format!("work status {before}")).unwrap();
    assert_eq!(status["StateName"], "Running", "{status}");
    node.shutdown();
    drop(node);
    bench.open_gate();
    until_no_process(bench, "until test");

    let _node = bench.near(&setup);
    for (unit, output) in [(before, "begun\none done\n"), (meanwhile, "begun\ntwo done\n")] {
        let mut session = bench.control("near");
        session.wait_for_unit(&unit, UNIT_LIMIT, is("Succeeded"));
        assert_eq!(results(bench, "near", &unit), output.as_bytes());
        release(bench, "near", &unit);
    }
}

/// The submitter waits for a node that comes back, and gets all of the output once.
pub fn goes_on_while_a_remote_node_is_away(bench: &Bench) {
    let port = free_port();
    let near = bench.near(&bench.worker("near").peer(port));
    let setup = bench.worker("far").listen(port);
    let far = bench.far(&setup);
    until_reachable(&*near, "far");
    let unit = submit(bench, "near", "far gate", b"word ", "Running");
    far.shutdown();
    drop(far);
    bench.open_gate();
    until_no_process(bench, "until test");
    let _far = bench.far(&setup);
    bench.control("near").wait_for_unit(&unit, UNIT_LIMIT, is("Succeeded"));
    assert_eq!(results(bench, "near", &unit), b"begun\nword done\n");
}

/// A node without a runner says so, and leaves no unit that waits for ever.
pub fn no_runner_no_work(bench: &Bench) {
    let mut setup = bench.worker("near").backend(BackendKind::LocalOnly);
    setup.options.runner = None;
    let _node = bench.near(&setup);
    let refusal = bench.control("near").submit("work submit near cat", b"").unwrap_err();
    assert!(refusal.contains("no program to run units"), "{refusal}");
    until("the unit has failed", PATIENCE, || {
        let units = bench.control("near").json("work list").unwrap();
        let states: Vec<_> = units
            .as_object()
            .unwrap()
            .values()
            .map(|unit| &unit["StateName"])
            .collect();
        if states == ["Failed"] {
            Ok(())
        } else {
            Err(units.to_string())
        }
    });
}

/// To release what is gone is no error, also after a restart; everything else says what became of it.
pub fn a_released_unit_is_remembered(bench: &Bench) {
    let setup = bench.worker("near").backend(BackendKind::LocalOnly);
    let node = bench.near(&setup);
    let unit = submit(bench, "near", "near cat", b"x", "Succeeded");
    release(bench, "near", &unit);
    let check = || {
        let released = serde_json::json!({ "released": unit });
        assert_eq!(
            bench.control("near").json(&format!("work release {unit}")),
            Ok(released)
        );
        for command in ["status", "list", "cancel", "results"] {
            let answer = bench
                .control("near")
                .command(&format!("work {command} {unit}"))
                .unwrap();
            assert_eq!(answer, format!("ERROR: unknown work unit {unit}: already released"));
        }
    };
    check();
    node.shutdown();
    drop(node);
    let _node = bench.near(&setup);
    check();
}

/// Work that demands signatures is done for those who sign, with keys that are read at each use.
pub fn signed_and_verified(bench: &Bench) {
    let port = free_port();
    let file = |name: &str| bench.scratch.join(name).display().to_string();
    let mut near = bench.worker("near").listen(port);
    near.config.work_keys = WorkKeys {
        signing: Some(Signing {
            private_key: file("private.pem"),
            expiration: Signing::EXPIRATION,
        }),
        verification: None,
    };
    let mut far = bench.worker("far").peer(port);
    far.config.work_types[0].verify_signature = true;
    far.config.work_keys = WorkKeys {
        signing: None,
        verification: Some(Verification {
            public_key: file("public.pem"),
            leeway: Verification::LEEWAY,
        }),
    };
    let near = bench.near(&near);
    let _far = bench.far(&far);
    until_reachable(&*near, "far");
    let signed = r#"{"command":"work","subcommand":"submit","node":"far","worktype":"cat","signwork":"true"}"#;
    let refusal = |line: &str| bench.control("near").submit(line, b"x").expect_err("refused");
    let text = refusal(signed);
    assert!(text.contains("could not load signing key file: open "), "{text}");
    bench.scratch.write("private.pem", PRIVATE_KEY);
    let text = refusal(signed);
    assert!(text.contains("could not load verifying key file: open "), "{text}");
    bench.scratch.write("public.pem", PUBLIC_KEY);
    let text = refusal("work submit far cat");
    assert!(
        text.contains("could not verify signature: signature is empty"),
        "{text}"
    );

    let input = super::pattern(3, 100_000);
    let unit = bench.control("near").submit(signed, &input).unwrap().unit;
    bench.control("near").wait_for_unit(&unit, UNIT_LIMIT, is("Succeeded"));
    assert!(results(bench, "near", &unit) == input);
    release(bench, "near", &unit);
    let status = bench.control("far").json("status").unwrap();
    let types = &status["Advertisements"];
    assert!(
        types.to_string().contains(r#"{"Secure":true,"WorkType":"cat"}"#),
        "{types}"
    );
}

/// A unit outlives its submitter: another node takes it over, and what that releases is gone.
pub fn another_node_takes_a_unit_over(bench: &Bench) {
    let port = free_port();
    let _far = bench.far(&bench.worker("far").listen(port));
    let near = bench.near(&bench.worker("near").peer(port));
    until_reachable(&*near, "far");
    let unit = submit(bench, "near", "far gate", b"one ", "Running");
    near.shutdown();
    drop(near);

    let other = bench.near(&bench.worker("other").peer(port));
    until_reachable(&*other, "far");
    let command = |unit: &str| format!(r#"{{"command":"work","subcommand":"adopt","node":"far","unitid":"{unit}"}}"#);
    let adopt = |unit: &str| bench.control("other").json(&command(unit));
    assert_eq!(adopt("nobodys1"), Err("unknown work unit nobodys1".to_owned()));
    let adopted = |result: &str| Ok(serde_json::json!({ "result": result, "unitid": unit }));
    assert_eq!(adopt(&unit), adopted("Adopted"));
    assert_eq!(adopt(&unit), adopted("Already Adopted"));
    bench
        .control("other")
        .wait_for_unit(&unit, UNIT_LIMIT, |status| status["StdoutSize"] == 6);
    bench.open_gate();
    assert_eq!(bench.control("other").results(&unit, 6).unwrap(), b"one done\n");
    bench.control("other").wait_for_unit(&unit, UNIT_LIMIT, is("Succeeded"));
    release(bench, "other", &unit);

    // The submitter of before finds that it is gone.
    let near = bench.near(&bench.worker("near").peer(port));
    until_reachable(&*near, "far");
    let status = bench.control("near").wait_for_unit(&unit, UNIT_LIMIT, is("Failed"));
    assert_eq!(status["Detail"], "Remote work unit is gone");
}

/// One command at a time, the others wait, also over a restart; and none writes more, or runs longer, than it may.
pub fn limits_are_kept(bench: &Bench) {
    let mut setup = bench.worker("near").backend(BackendKind::LocalOnly);
    setup.config.work_limits = WorkLimits {
        max_running: Some(1),
        max_stdin: Some(5000),
        max_stdout: Some(1000),
        time_limit: Some(Duration::from_secs(300)),
        ..WorkLimits::default()
    };
    let node = bench.near(&setup);
    let first = submit(bench, "near", "near gate", b"one ", "Running");
    let told = |command: &str, stdin: &[u8]| {
        bench
            .control("near")
            .submit(&format!("work submit near {command}"), stdin)
    };
    let mut waiting = Vec::new();
    for size in [10, 1000, 1001] {
        let submitted = told("cat", &super::pattern(4, size)).unwrap();
        assert_eq!(submitted.result, "Job Submitted");
        waiting.push(submitted.unit);
    }
    let refused = told("cat", &super::pattern(5, 5001)).expect_err("too long");
    assert!(refused.ends_with("stdin is longer than 5000 bytes"), "{refused}");
    node.shutdown();
    drop(node);

    let node = bench.near(&setup);
    let status = bench
        .control("near")
        .json(&format!("work status {}", waiting[0]))
        .unwrap();
    assert_eq!(status["Detail"], "Waiting for a free place");
    let asked = r#"{"command":"status","requested_fields":["WorkLimits","WorkUnits"]}"#;
    let shown = bench.control("near").json(asked).unwrap();
    assert_eq!(shown["WorkLimits"]["MaxRunning"], 1, "{shown}");
    assert_eq!(shown["WorkUnits"]["Queued"], 3, "{shown}");
    assert_eq!(
        bench.control("near").json("status").unwrap().as_object().unwrap().len(),
        8
    );
    bench.open_gate();
    bench.control("near").wait_for_unit(&first, UNIT_LIMIT, is("Succeeded"));
    for (unit, (state, size)) in waiting
        .iter()
        .zip([("Succeeded", 10), ("Succeeded", 1000), ("Failed", 1000)])
    {
        let status = bench.control("near").wait_for_unit(unit, UNIT_LIMIT, is(state));
        assert_eq!(results(bench, "near", unit), super::pattern(4, 1001)[..size]);
        if state == "Failed" {
            assert_eq!(status["Detail"], "output limit of 1000 bytes reached");
        }
    }
    node.shutdown();
    drop(node);

    setup.config.work_limits.time_limit = Some(Duration::from_secs(1));
    let _node = bench.near(&setup);
    let unit = submit(bench, "near", "near slow", b"said", "Failed");
    let status = bench.control("near").json(&format!("work status {unit}")).unwrap();
    assert_eq!(status["Detail"], "time limit of 1s reached");
    assert_eq!(results(bench, "near", &unit), b"said");
    until_no_process(bench, "sleep 600");
}
