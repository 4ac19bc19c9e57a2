//! A disk that takes its time.
//!
//! Whoever holds the lock of a unit's record makes every change of that record wait: for the adapter it is a call that
//! does not come back.

use std::fs::{File, OpenOptions};

use receptor_core::config::BackendKind;

use crate::live::{UNIT_LIMIT, free_port};
use crate::suite::{Bench, PATIENCE, Setup, until_reachable};

/// Makes the disk slow for one unit until dropped.
fn hold(bench: &Bench, at: &str, unit: &str) -> File {
    let path = bench.unit(at, unit).join("status.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.expect("the unit has a directory");
    file.lock().expect("the lock can be had");
    file
}

fn submit(bench: &Bench, stdin: &[u8]) -> String {
    let submitted = bench.control("near").submit("work submit near cat", stdin).unwrap();
    let mut session = bench.control("near");
    session.wait_for_unit(&submitted.unit, UNIT_LIMIT, |status| status["StateName"] == "Succeeded");
    submitted.unit
}

/// While one unit waits for the disk, the mesh and other units go on, and the unit does when it can.
pub fn one_slow_unit_does_not_hold_up_others(bench: &Bench) {
    let port = free_port();
    let near = bench.near(&bench.worker("near").listen(port));
    let far = bench.far(&bench.worker("far").peer(port));
    until_reachable(&*far, "near");
    let slow = bench.control("near").submit("work submit near slow", b"").unwrap().unit;
    let running = |status: &serde_json::Value| status["StateName"] == "Running";
    bench.control("near").wait_for_unit(&slow, UNIT_LIMIT, running);
    let held = hold(bench, "near", &slow);
    let mut waiting = bench.control("near");
    waiting.send(format!("work cancel {slow}\n").as_bytes()).unwrap();

    submit(bench, b"quick");
    assert_eq!(far.ping("near", PATIENCE).unwrap().as_str(), "near");
    let served = super::serve_one(near.listen("echo", None).unwrap(), super::echo);
    let mut stream = far.dial("near", "echo").unwrap();
    stream.writer.write_all(b"live").unwrap();
    stream.writer.shutdown().unwrap();
    assert_eq!(stream.reader.read_to_end().unwrap(), b"evil");
    served.join().unwrap();

    drop(held);
    assert!(waiting.line().unwrap().contains(&slow));
    let canceled = |status: &serde_json::Value| status["StateName"] == "Canceled";
    bench.control("near").wait_for_unit(&slow, UNIT_LIMIT, canceled);
}

/// A node whose old units cannot be read yet waits for them; others on the same runtime do not, and it starts when it can.
pub fn a_slow_start_delays_nobody_else(bench: &Bench) {
    let setup = bench.worker("near").backend(BackendKind::LocalOnly);
    let node = bench.near(&setup);
    let unit = submit(bench, b"kept");
    node.shutdown();
    drop(node);

    let other = bench.near(&Setup::new("other").backend(BackendKind::LocalOnly));
    let held = hold(bench, "near", &unit);
    std::thread::scope(|scope| {
        let near = scope.spawn(|| bench.near(&setup));
        for _ in 0..100 {
            assert_eq!(other.ping("other", PATIENCE).unwrap().as_str(), "other");
        }
        assert!(!near.is_finished());
        drop(held);
        let _near = near.join().unwrap();
        assert_eq!(bench.control("near").results(&unit, 0).unwrap(), b"kept");
    });
}

/// The end of a node does not wait for the disk.
pub fn a_node_ends_although_its_disk_hangs(bench: &Bench) {
    let node = bench.near(&bench.worker("near").backend(BackendKind::LocalOnly));
    let unit = submit(bench, b"kept");
    let held = hold(bench, "near", &unit);
    bench
        .control("near")
        .send(format!("work release {unit}\n").as_bytes())
        .unwrap();
    // It hangs for as long as this takes.
    node.shutdown();
    drop(held);
}
