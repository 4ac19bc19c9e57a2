//! Links between nodes.

use receptor_core::config::BackendKind;
use receptor_core::id::BackendId;

use crate::live::{free_port, until};
use crate::suite::adapter::{Event, Node, Pace};
use crate::suite::{Bench, Bridge, PATIENCE, Setup, chain, until_reachable, until_unreachable};

/// Ping and status know the neighbour.
pub fn two_nodes_over_tcp(bench: &Bench) {
    let port = free_port();
    let near = bench.near(&Setup::new("near").listen(port));
    let mut events = near.events();
    let far = bench.far(&Setup::new("far").peer(port));
    until_reachable(&*near, "far");
    until_reachable(&*far, "near");
    assert_eq!(near.ping("far", PATIENCE).unwrap().as_str(), "far");
    let status = near.status().unwrap();
    assert_eq!(status["NodeID"], "near", "{status}");
    assert_eq!(status["Connections"][0]["NodeID"], "far", "{status}");
    assert_eq!(status["RoutingTable"]["far"], "far", "{status}");
    while events.next().unwrap().expect("the node runs") != Event::RoutesChanged {}
}

/// Frames are forwarded, and a trace names every hop.
pub fn a_chain_of_three(bench: &Bench) {
    let [near, _middle, far] = chain(bench);
    let hops = near.traceroute("far").unwrap();
    let hops: Vec<_> = hops.iter().map(|hop| hop.from.as_str().to_owned()).collect();
    assert_eq!(hops, ["near", "middle", "far"]);
    assert_eq!(far.ping("near", PATIENCE).unwrap().as_str(), "near");
    assert_eq!(far.status().unwrap()["RoutingTable"]["near"], "middle");
}

/// A peer is dialled again, and what was opened before goes on.
pub fn a_link_is_lost_and_comes_back(bench: &Bench) {
    let port = free_port();
    let listening = Setup::new("near").listen(port);
    let near = bench.near(&listening);
    let far = bench.far(&Setup::new("far").peer(port));
    let mut listener = far.listen("echo", None).unwrap();
    until_reachable(&*near, "far");
    near.shutdown();
    drop(near);
    until_unreachable(&*far, "near");

    let near = bench.near(&listening);
    until_reachable(&*near, "far");
    let mut stream = near.dial("far", "echo").unwrap();
    stream.writer.write_all(b"again").unwrap();
    let mut accepted = listener.accept().unwrap();
    let mut bytes = [0; 5];
    accepted.reader.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"again");
}

pub(super) fn attached(bench: &Bench, pace: Pace) -> (Box<dyn Node>, Box<dyn Node>, Bridge) {
    let near = bench.near(&Setup::new("near").backend(BackendKind::External));
    let far = bench.far(&Setup::new("far").backend(BackendKind::External));
    let bridge = attach(&*near, &*far, pace);
    until_reachable(&*near, "far");
    until_reachable(&*far, "near");
    (near, far, bridge)
}

fn attach(near: &dyn Node, far: &dyn Node, pace: Pace) -> Bridge {
    let (bridge, near_end, far_end) = Bridge::new();
    near.attach(BackendId(0), near_end, "far", pace).unwrap();
    far.attach(BackendId(0), far_end, "near", pace).unwrap();
    bridge
}

pub(super) fn carries(near: &dyn Node, far: &dyn Node, size: usize) {
    let listener = far.listen("echo", None).unwrap();
    let served = super::serve_one(listener, super::echo);
    let mut stream = near.dial("far", "echo").unwrap();
    let mut data = super::pattern(3, size);
    stream.writer.write_all(&data).unwrap();
    stream.writer.shutdown().unwrap();
    data.reverse();
    assert!(stream.reader.read_to_end().unwrap() == data);
    served.join().unwrap();
}

/// Links need not be sockets of the adapter's own.
pub fn an_embedding_program_brings_links(bench: &Bench) {
    let (near, far, _bridge) = attached(bench, Pace::Whole);
    carries(&*near, &*far, 1 << 20);
}

/// Frames survive any slicing, and readiness that comes and goes.
pub fn one_byte_at_a_time(bench: &Bench) {
    let (near, far, _bridge) = attached(bench, Pace::OneByte);
    carries(&*near, &*far, 20_000);
}

/// The end of a brought connection is the end of the link; another one may follow.
pub fn a_broken_external_link_is_noticed(bench: &Bench) {
    let (near, far, bridge) = attached(bench, Pace::Whole);
    drop(bridge);
    until_unreachable(&*near, "far");
    until_unreachable(&*far, "near");
    until("the link is gone from the status", PATIENCE, || {
        let status = near.status().unwrap();
        match status["Connections"].as_array() {
            Some(connections) if !connections.is_empty() => Err(status.to_string()),
            _ => Ok(()),
        }
    });
    let _bridge = attach(&*near, &*far, Pace::Whole);
    until_reachable(&*near, "far");
}
