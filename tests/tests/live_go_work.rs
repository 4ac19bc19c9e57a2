//! Units of work between our daemons and Go nodes, submitted by either kind, over TCP links.
//!
//! | mesh (`–` is a link, dialled by its right end) | run, each with either end as submitter |
//! |---|---|
//! | ours – Go | 1 KiB and 16 MiB of stdin and output; failures; cancel; release; expiry; restart of submitter and of executor |
//! | ours – Go – ours – Go | the middle nodes killed and restarted under a running unit |

use std::time::Duration;

use receptor_tests::live::{Builder, Node, Scratch, free_port, go_node, until, wait_for_routes};
use serde_json::{Value, json};

/// A Go node that returns is heard of with its next advertisement only, and its streams take half a minute to be given up.
const LIMIT: Duration = Duration::from_secs(240);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Ours,
    Go,
}
use Kind::{Go, Ours};

fn mixed_chain(scratch: &Scratch, kinds: &[Kind]) -> Option<Vec<Node>> {
    let go = go_node()?;
    let ports: Vec<_> = kinds.iter().map(|_| free_port()).collect();
    let start = |(n, kind): (usize, &Kind)| {
        let mut builder = Builder::new(scratch, &format!("n{n}")).work();
        if *kind == Go {
            builder = builder.binary(go);
        }
        builder = builder.listen(ports[n], 1.0);
        if n > 0 {
            builder = builder.peer(ports[n - 1], 1.0);
        }
        builder.start()
    };
    let nodes: Vec<_> = kinds.iter().enumerate().map(start).collect();
    wait_for_routes(&nodes);
    Some(nodes)
}

/// Bytes that no mistake in an offset leaves as they are.
fn pattern(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

fn is_over(status: &Value) -> bool {
    !["Pending", "Running"].contains(&status["StateName"].as_str().unwrap_or_default())
}

fn is_running(status: &Value) -> bool {
    status["StateName"] == "Running"
}

/// Waits for the end of a unit, which must be this one.
fn wait_for_end(node: &Node, unit: &str, state: &str, detail: &str) {
    let status = node.control().wait_for_unit(unit, LIMIT, is_over);
    assert_eq!(
        (&status["StateName"], &status["Detail"]),
        (&json!(state), &json!(detail)),
        "{status}"
    );
}

/// Both ends forget a released unit.
fn release(submitter: &Node, executor: &Node, unit: &str) {
    let answer = submitter.control().json(&format!("work release {unit}"));
    assert_eq!(answer, Ok(json!({ "released": unit })));
    for node in [submitter, executor] {
        until(&format!("{} forgets unit {unit}", node.id), LIMIT, || {
            match node.unit_directories().iter().find(|path| path.ends_with(unit)) {
                Some(path) => Err(format!("{} is still there", path.display())),
                None => Ok(()),
            }
        });
    }
}

#[test]
fn stdin_and_output_of_any_size_pass_both_ways() {
    let scratch = Scratch::new();
    let Some(nodes) = mixed_chain(&scratch, &[Ours, Go]) else {
        return;
    };
    for (from, to) in [(0, 1), (1, 0)] {
        let (submitter, executor) = (&nodes[from], &nodes[to]);
        for size in [0, 1 << 10, 16 << 20] {
            let stdin = pattern(size);
            let submitted = submitter.submit(&executor.id, "cat", &stdin);
            assert_eq!(submitted.result, "Job Started");
            let output = submitter.control().results(&submitted.unit, 0).expect("results");
            assert!(output == stdin, "{size} bytes from {} to {}", submitter.id, executor.id);
            wait_for_end(submitter, &submitted.unit, "Succeeded", "exit status 0");
            let tail = submitter
                .control()
                .results(&submitted.unit, size as u64 / 2)
                .expect("results");
            assert!(tail == stdin[size / 2..], "the second half of {size} bytes");
            release(submitter, executor, &submitted.unit);
        }
    }
}

#[test]
fn failures_cancels_and_expiries_are_told_alike() {
    let scratch = Scratch::new();
    let Some(mut nodes) = mixed_chain(&scratch, &[Ours, Go]) else {
        return;
    };
    for (from, to) in [(0, 1), (1, 0)] {
        let (submitter, executor) = (&nodes[from], &nodes[to]);
        let failed = submitter.submit(&executor.id, "shell 'echo out; exit 3'", b"");
        wait_for_end(submitter, &failed.unit, "Failed", "exit status 3");
        assert_eq!(submitter.control().results(&failed.unit, 0).expect("results"), b"out\n");

        let refused = submitter
            .control()
            .submit(&format!("work submit {} nosuch", executor.id), b"x");
        let text = refused.expect_err("there is no such type");
        assert!(
            text.contains("could not parse response: ERROR: unknown work type nosuch"),
            "{text}"
        );

        let endless = submitter.submit(&executor.id, "shell 'echo begun; exec sleep 1000'", b"");
        submitter
            .control()
            .wait_for_unit(&endless.unit, LIMIT, |status| status["StdoutSize"] == 6);
        let answer = submitter.control().json(&format!("work cancel {}", endless.unit));
        assert_eq!(answer, Ok(json!({ "cancelled": endless.unit })));
        wait_for_end(submitter, &endless.unit, "Canceled", "Canceled");
        release(submitter, executor, &endless.unit);

        // Released while it runs.
        let running = submitter.submit(&executor.id, "shell 'exec sleep 1000'", b"");
        submitter.control().wait_for_unit(&running.unit, LIMIT, is_running);
        release(submitter, executor, &running.unit);
        // Gone there behind the submitter's back.
        let orphan = submitter.submit(&executor.id, "shell 'exec sleep 1000'", b"");
        submitter.control().wait_for_unit(&orphan.unit, LIMIT, is_running);
        let there = executor.control().json("work list").expect("a list");
        let there = there
            .as_object()
            .expect("units")
            .iter()
            .find(|(_, unit)| is_running(unit));
        let there = there.expect("the running unit").0.clone();
        executor
            .control()
            .json(&format!("work force-release {there}"))
            .expect("it goes");
        let status = submitter.control().wait_for_unit(&orphan.unit, LIMIT, is_over);
        let details = [json!("Remote work unit is gone"), json!("Canceled")];
        assert!(details.contains(&status["Detail"]), "{status}");
        let answer = submitter.control().json(&format!("work force-release {}", orphan.unit));
        assert_eq!(answer, Ok(json!({ "released": orphan.unit })));
    }
    for node in &mut nodes {
        node.assert_alive();
    }
}

/// The unit writes a number every tenth of a second; whatever dies, all of them arrive, once each.
fn counts(submitter: &Node, executor: &Node) -> String {
    let script = "shell 'i=0; while [ $i -lt 100 ]; do echo $i; i=$((i+1)); sleep 0.1; done'";
    let submitted = submitter.submit(&executor.id, script, b"");
    submitter.control().wait_for_unit(&submitted.unit, LIMIT, |status| {
        status["StdoutSize"].as_u64() > Some(20)
    });
    submitted.unit
}

fn check_counts(submitter: &Node, unit: &str) {
    wait_for_end(submitter, unit, "Succeeded", "exit status 0");
    let output = submitter.control().results(unit, 0).expect("results");
    let expected: String = (0..100).map(|n| format!("{n}\n")).collect();
    assert_eq!(String::from_utf8_lossy(&output), expected);
}

#[test]
fn a_unit_survives_the_restart_of_its_submitter_and_of_its_executor() {
    let scratch = Scratch::new();
    let Some(mut nodes) = mixed_chain(&scratch, &[Ours, Go]) else {
        return;
    };
    for (from, to) in [(0, 1), (1, 0)] {
        for victim in [from, to] {
            let unit = counts(&nodes[from], &nodes[to]);
            nodes[victim].kill();
            nodes[victim].start_again();
            wait_for_routes(&nodes);
            check_counts(&nodes[from], &unit);
        }
    }
}

#[test]
fn a_unit_survives_the_death_of_a_hop_of_either_kind() {
    let scratch = Scratch::new();
    let Some(mut nodes) = mixed_chain(&scratch, &[Ours, Go, Ours, Go]) else {
        return;
    };
    for (from, to) in [(0, 3), (3, 0)] {
        for hop in [1, 2] {
            let unit = counts(&nodes[from], &nodes[to]);
            nodes[hop].kill();
            nodes[hop].start_again();
            wait_for_routes(&nodes);
            check_counts(&nodes[from], &unit);
        }
    }
}

#[test]
fn a_unit_waits_for_a_node_that_is_away_or_expires() {
    let scratch = Scratch::new();
    let Some(mut nodes) = mixed_chain(&scratch, &[Ours, Go]) else {
        return;
    };
    nodes[1].kill();
    let submit = |more: &str| {
        let line =
            format!("{{\"command\":\"work\",\"subcommand\":\"submit\",\"node\":\"n1\",\"worktype\":\"cat\"{more}}}");
        nodes[0].control().submit(&line, b"kept").expect("it is kept").unit
    };
    let (kept, late) = (submit(""), submit(",\"ttl\":\"2s\""));
    let status = nodes[0].control().wait_for_unit(&late, LIMIT, is_over);
    assert!(
        status["Detail"]
            .as_str()
            .unwrap_or_default()
            .starts_with("Work unit expired on "),
        "{status}"
    );
    nodes[1].start_again();
    wait_for_end(&nodes[0], &kept, "Succeeded", "exit status 0");
    assert_eq!(nodes[0].control().results(&kept, 0).expect("results"), b"kept");
    release(&nodes[0], &nodes[1], &kept);
    release(&nodes[0], &nodes[1], &late);
}

/// A unit of a Go executor whose submitter, of either kind, is gone for ever.
#[test]
fn a_unit_on_a_go_node_is_taken_over() {
    for submitter in [Ours, Go] {
        let scratch = Scratch::new();
        let Some(mut nodes) = mixed_chain(&scratch, &[Go, Ours, submitter]) else {
            return;
        };
        let stdin = pattern(300_000);
        let unit = nodes[2].submit(&nodes[0].id, "cat", &stdin).unit;
        wait_for_end(&nodes[2], &unit, "Succeeded", "exit status 0");
        let status = nodes[2]
            .control()
            .json(&format!("work status {unit}"))
            .expect("a status");
        let there = status["ExtraData"]["RemoteUnitID"].as_str().expect("a name").to_owned();
        nodes.pop();
        let [executor, adopter] = &nodes[..] else { return };
        let adopt = |unit: &str| {
            let command = json!({ "command": "work", "subcommand": "adopt", "node": executor.id, "unitid": unit });
            adopter.control().json(&command.to_string())
        };
        assert_eq!(adopt("nobodys1"), Err("unknown work unit nobodys1".to_owned()));
        assert_eq!(adopt(&there), Ok(json!({ "result": "Adopted", "unitid": there })));
        let output = adopter.control().results(&there, 100_000).expect("results");
        assert!(output == stdin[100_000..], "submitted by {submitter:?}");
        wait_for_end(adopter, &there, "Succeeded", "exit status 0");
        assert_eq!(
            adopt(&there),
            Ok(json!({ "result": "Already Adopted", "unitid": there }))
        );
        release(adopter, executor, &there);
    }
}
