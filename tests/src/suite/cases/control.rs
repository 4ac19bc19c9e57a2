//! The control socket.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use receptor_core::config::BackendKind;

use crate::live::{Control, free_port};
use crate::suite::adapter::StartError;
use crate::suite::{Bench, Setup, until_reachable};

/// The classic greeting, a status, and an answer for a client that has half-closed; nobody but the owner may connect.
pub fn greeting_and_status(bench: &Bench) {
    let path = bench.scratch.join("control.sock");
    let setup = Setup::new("near").backend(BackendKind::LocalOnly).control(&path);
    let _node = bench.near(&setup);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut session = Control::connect(&path).unwrap();
    assert_eq!(session.greeting, "Receptor Control, node near");
    assert_eq!(session.json("status").unwrap()["NodeID"], "near");
    assert_eq!(session.json("ping near").unwrap()["Success"], true);
    assert!(session.json("nonsense").is_err());
    session.send(b"status").unwrap();
    session.half_close().unwrap();
    let last = session.rest().unwrap();
    assert!(last.starts_with(b"{") && last.ends_with(b"}\n"), "{last:?}");
}

/// `connect` makes the session a stream to a service of another node.
pub fn connected_through_to_a_service(bench: &Bench) {
    let (port, path) = (free_port(), bench.scratch.join("control.sock"));
    let near = bench.near(&Setup::new("near").listen(port).control(&path));
    let far = bench.far(&Setup::new("far").peer(port));
    until_reachable(&*near, "far");
    let served = super::serve_one(far.listen("echo", None).unwrap(), super::echo);
    let mut session = Control::connect(&path).unwrap();
    assert_eq!(session.command("connect far echo").unwrap(), "Connecting");
    let mut data = super::pattern(5, 300_000);
    session.send(&data).unwrap();
    session.half_close().unwrap();
    data.reverse();
    assert!(session.rest().unwrap() == data);
    served.join().unwrap();
}

/// A socket has one node; what a dead one left behind does not matter.
pub fn a_locked_socket_is_an_error_at_the_start(bench: &Bench) {
    let path = bench.scratch.join("control.sock");
    let setup = Setup::new("near").backend(BackendKind::LocalOnly).control(&path);
    let node = bench.near(&setup);
    let error = bench.try_near(&setup).map(drop).unwrap_err();
    let StartError::Start(text) = &error else {
        panic!("{error:?}")
    };
    let expected = "error opening Unix socket: could not acquire lock on socket file: fslock is already locked";
    assert_eq!(text, expected);
    Control::connect(&path).expect("the first one still answers");
    node.shutdown();
    let _again = bench.near(&setup);
    Control::connect(&path).expect("the next one answers");
}
