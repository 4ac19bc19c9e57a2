//! Many units one after another, over two hops: what daemons and directories hold afterwards is what they held before.
//!
//! `RECEPTOR_SOAK_UNITS=10000` for as many as the documentation tells of.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};

use receptor_tests::live::{Node, PATIENCE, Scratch, UNIT_LIMIT, Usage, assert_same, chain, noise, until};
use serde_json::{Value, json};

/// Units until tables, pools and the allocator have their sizes.
const WARM_UP: u64 = 100;

/// What may be needed more after any number of units: 10,000 tombstones, and what varies between runs.
const SLACK_KIB: u64 = 8 << 10;

/// Every file below a directory but the logs and the tombstones, which grow, the latter to a limit.
fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in directory.read_dir().into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path.clone());
            }
            let is_meant_to_grow =
                path.ends_with(".released") || path.extension().is_some_and(|ending| ending == "log");
            if !is_meant_to_grow {
                found.insert(path);
            }
        }
    }
    found
}

/// Waits until a daemon holds no more than before, but for some memory.
fn until_given_back(node: &Node, before: Usage, slack_kib: u64) -> Usage {
    until(&format!("{} has given back", node.id), PATIENCE, || {
        let now = Usage::of(node.pid());
        let is_back = now.descriptors <= before.descriptors
            && now.threads <= before.threads
            && now.resident_kib <= before.resident_kib.saturating_add(slack_kib);
        if is_back {
            Ok(now)
        } else {
            Err(format!("{now:?}, {before:?} before"))
        }
    })
}

fn finished(status: &Value) -> bool {
    matches!(status["State"].as_u64(), Some(2..=4))
}

/// A unit as clients run it: most succeed, some fail, some are cancelled, some go while they run.
fn unit(node: &Node, number: u64) {
    let payload = noise(number, 1 << 10);
    let command = match number % 20 {
        17 => "shell 'cat; exit 3'",
        18 | 19 => "shell 'cat; exec sleep 600'",
        _ => "cat",
    };
    let unit = node.submit("node3", command, &payload).unit;
    let mut control = node.control();
    match number % 20 {
        18 => {
            assert_eq!(
                control.json(&format!("work cancel {unit}")),
                Ok(json!({ "cancelled": unit }))
            );
            let status = control.wait_for_unit(&unit, UNIT_LIMIT, finished);
            assert_eq!(status["StateName"], "Canceled", "{status}");
        }
        19 => {}
        _ => {
            let output = node.control().results(&unit, 0).expect("results of a known unit");
            assert_same(&output, &payload);
            control.wait_for_unit(&unit, UNIT_LIMIT, finished);
        }
    }
    assert_eq!(
        control.json(&format!("work release {unit}")),
        Ok(json!({ "released": unit }))
    );
}

#[test]
fn units_that_come_and_go_leave_nothing() {
    let count = env::var("RECEPTOR_SOAK_UNITS").map_or(300, |count| count.parse().expect("a number"));
    let scratch = Scratch::new();
    let mut nodes = chain(&scratch, &["node1", "node2", "node3"]);
    let before_any = files(scratch.path());
    let idle: Vec<Usage> = nodes.iter().map(|node| Usage::of(node.pid())).collect();
    (0..WARM_UP).for_each(|number| unit(&nodes[0], number));
    // The session between the nodes stays for a while.
    let warm = nodes.iter().zip(&idle).map(|(node, idle)| Usage {
        resident_kib: until_given_back(node, *idle, u64::MAX).resident_kib,
        ..*idle
    });
    let warm: Vec<Usage> = warm.collect();
    (0..count).for_each(|number| unit(&nodes[0], number));
    for (node, warm) in nodes.iter().zip(warm) {
        let after = until_given_back(node, warm, SLACK_KIB);
        println!("{}: {count} units\n  before {warm:?}\n  after {after:?}", node.id);
    }
    assert_eq!(files(scratch.path()), before_any, "files");
    let daemons: Vec<u32> = nodes.iter().map(Node::pid).collect();
    let mut processes = scratch.processes();
    processes.retain(|process| !daemons.contains(&process.pid));
    assert_eq!(processes, [], "processes");
    nodes.iter_mut().for_each(Node::assert_alive);
}
