//! How a node ends.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use receptor_core::config::BackendKind;
use receptor_core::id::BackendId;

use crate::live::{Control, free_port, until};
use crate::suite::adapter::{End, Error, Node, Pace};
use crate::suite::{Bench, Bridge, PATIENCE, Setup, until_reachable, until_unreachable};

fn until_free(port: u16) {
    until(&format!("port {port} is free"), PATIENCE, || {
        let bound = TcpListener::bind(("127.0.0.1", port));
        bound.map(drop).map_err(|error| error.to_string())
    });
}

/// The port and the control socket, at once.
pub fn everything_is_free_again(bench: &Bench) {
    let (port, path) = (free_port(), bench.scratch.join("control.sock"));
    let setup = Setup::new("near").listen(port).control(&path);
    let node = bench.near(&setup);
    let far = bench.far(&Setup::new("far").peer(port));
    until_reachable(&*node, "far");
    let _session = Control::connect(&path).unwrap();
    node.shutdown();
    assert_eq!(node.closed(), End::Shutdown);
    TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    until_unreachable(&*far, "near");
    node.shutdown();
    let again = bench.near(&setup);
    until_reachable(&*again, "far");
}

fn bridged(bench: &Bench) -> (Box<dyn Node>, Box<dyn Node>, Bridge) {
    let near = bench.near(&Setup::new("near").backend(BackendKind::External));
    let far = bench.far(&Setup::new("far").backend(BackendKind::External));
    let (bridge, near_end, far_end) = Bridge::new();
    near.attach(BackendId(0), near_end, "far", Pace::Whole).unwrap();
    far.attach(BackendId(0), far_end, "near", Pace::Whole).unwrap();
    until_reachable(&*near, "far");
    until_reachable(&*far, "near");
    (near, far, bridge)
}

/// Datagrams taken from the application before the end still arrive if the link moves again in time.
pub fn what_is_queued_is_sent(bench: &Bench) {
    // In time is within a second, which a busy machine may lose, but hardly ten times.
    let most = (0..10).map(|_| sent_at_the_end(bench)).find(|&count| count == QUEUED);
    assert_eq!(most, Some(QUEUED));
}

/// Together more than sockets hold, and no more than fit into the socket that receives them.
const QUEUED: u8 = 250;

/// How many of the datagrams arrive that are queued when a node is shut down.
fn sent_at_the_end(bench: &Bench) -> u8 {
    const SIZE: usize = 4000;
    let (near, far, bridge) = bridged(bench);
    let there = far.packet("there", None).unwrap();
    let here = near.packet("", None).unwrap();
    bridge.hold();
    for number in 0..QUEUED {
        here.send_to(&[number; SIZE], "far", "there").unwrap();
    }
    thread::scope(|scope| {
        scope.spawn(|| near.shutdown());
        until("the node takes no more requests", PATIENCE, || {
            match near.ping("near", Duration::from_millis(50)) {
                Ok(_) => Err("it answers".to_owned()),
                Err(_) => Ok(()),
            }
        });
        bridge.release();
    });
    // When the link is gone, everything that comes has come.
    until_unreachable(&*far, "near");
    let mut arrived = 0;
    while let Ok(datagram) = there.recv_from(Duration::from_millis(10)) {
        assert_eq!(datagram.data, [arrived; SIZE]);
        arrived += 1;
    }
    arrived
}

/// A link that takes nothing is cut off.
pub fn a_stuck_peer_does_not_keep_a_node(bench: &Bench) {
    let (near, _far, bridge) = bridged(bench);
    bridge.hold();
    let here = near.packet("", None).unwrap();
    // More than the sockets between the nodes can hold.
    for _ in 0..1000 {
        here.send_to(&[0; 1000], "far", "there").unwrap();
    }
    // It is held for as long as this takes.
    near.shutdown();
}

/// Whoever waits for something of a node that ends is told so.
pub fn handles_end_with_their_node(bench: &Bench) {
    let (near, far) = bench.pair();
    let mut far_listener = far.listen("far", None).unwrap();
    let mut stream = near.dial("far", "far").unwrap();
    stream.writer.write_all(b"x").unwrap();
    let mut other_end = far_listener.accept().unwrap();
    let mut listener = near.listen("near", None).unwrap();
    let socket = near.packet("", None).unwrap();
    let mut events = near.events();
    thread::scope(|scope| {
        let reading = scope.spawn(|| stream.reader.read(&mut [0; 8], PATIENCE));
        let accepting = scope.spawn(|| listener.accept().map(drop));
        let receiving = scope.spawn(|| socket.recv_from(PATIENCE));
        let following = scope.spawn(|| while events.next().unwrap().is_some() {});
        near.shutdown();
        assert!(reading.join().unwrap().is_err());
        assert_eq!(accepting.join().unwrap(), Err(Error::Closed));
        assert_eq!(receiving.join().unwrap(), Err(Error::Closed));
        following.join().unwrap();
    });
    assert!(stream.writer.write(b"x", PATIENCE).is_err());
    assert_eq!(near.ping("far", PATIENCE), Err(Error::Closed));
    assert_eq!(near.dial("far", "far").map(drop), Err(Error::Closed));
    assert_eq!(near.status(), Err(Error::Closed));
    assert_eq!(socket.send_to(b"x", "far", "far"), Err(Error::Closed));
    let mut rest = [0; 8];
    assert_eq!(other_end.reader.read(&mut rest, PATIENCE).unwrap(), 1);
}

/// Dropping the last handle is a shutdown.
pub fn without_handles_a_node_ends(bench: &Bench) {
    let port = free_port();
    let near = bench.near(&Setup::new("near").listen(port));
    let far = bench.far(&Setup::new("far").peer(port));
    until_reachable(&*far, "near");
    let mut events = near.events();
    drop(near);
    while events.next().unwrap().is_some() {}
    until_free(port);
    until_unreachable(&*far, "near");
}

/// A stream is a handle, too.
pub fn any_handle_keeps_a_node_alive(bench: &Bench) {
    let (near, far) = bench.pair();
    let served = super::serve_one(far.listen("echo", None).unwrap(), super::echo);
    let mut stream = near.dial("far", "echo").unwrap();
    drop(near);
    stream.writer.write_all(b"still here").unwrap();
    stream.writer.shutdown().unwrap();
    assert_eq!(stream.reader.read_to_end().unwrap(), b"ereh llits");
    served.join().unwrap();
    drop(stream);
    until_unreachable(&*far, "near");
}
