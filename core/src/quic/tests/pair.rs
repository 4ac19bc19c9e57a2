//! Two endpoints and a network.

use alloc::string::String;

use bytes::Bytes;

use super::net::{Net, Weather, bytes, node, service};
use crate::deadline::Deadline;
use crate::quic::{ConnectionId, Path, ToEndpoint, WINDOW};
use crate::time::Duration;

const SHORT: Duration = Duration::from_secs(5);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn calm() -> Weather {
    Weather {
        delay: ms(5),
        ..Weather::default()
    }
}

/// Both ends of an open connection.
fn connected(net: &mut Net) -> (ConnectionId, ConnectionId) {
    net.listen("echo");
    let dialled = net.dial("echo");
    let open = net.run(SHORT, |net| {
        net.side(0, dialled).is_open && !net.ends[1].accepted.is_empty()
    });
    assert!(open, "{:?}", net.side(0, dialled));
    (dialled, net.accepted())
}

fn closed(net: &Net, end: usize, id: ConnectionId) -> Option<&str> {
    net.side(end, id).closed.as_ref().expect("it is closed").as_deref()
}

#[test]
fn bytes_go_both_ways_and_the_first_zero_is_not_among_them() {
    let mut net = Net::new(1, calm());
    let (there, here) = connected(&mut net);
    assert_eq!(
        net.ends[1].accepted[0].1,
        Path {
            remote: node(0),
            remote_service: service("e0000001"),
            local_service: service("echo"),
        }
    );
    let (question, answer) = (bytes(3 << 20, 1), bytes(2 << 20, 2));
    net.send(0, there, question.clone(), true);
    net.send(1, here, answer.clone(), true);
    assert!(net.run(SHORT, |net| net.side(0, there).eof && net.side(1, here).eof));
    assert_eq!(net.side(1, here).received, question);
    assert_eq!(net.side(0, there).received, answer);
    assert!(net.ends.iter().all(|end| end.largest <= 1452), "Go cuts longer packets");
    assert!(net.ends.iter().all(|end| end.largest > 1400), "the path's MTU is found");
}

#[test]
fn half_a_stream_goes_on_when_the_other_half_has_ended() {
    let mut net = Net::new(2, calm());
    let (there, here) = connected(&mut net);
    net.send(0, there, Bytes::new(), true);
    assert!(net.run(SHORT, |net| net.side(1, here).eof));
    net.send(1, here, bytes(1 << 20, 3), true);
    assert!(net.run(SHORT, |net| net.side(0, there).eof));
    assert_eq!(net.side(0, there).received, bytes(1 << 20, 3));
}

#[test]
fn a_connection_is_closed_late_and_in_peace() {
    let mut net = Net::new(3, calm());
    let (there, here) = connected(&mut net);
    net.send(0, there, bytes(1000, 1), true);
    net.send(1, here, bytes(1000, 2), true);
    assert!(net.run(SHORT, |net| net.side(0, there).eof && net.side(1, here).eof));
    net.tell(0, ToEndpoint::Release(there));
    net.tell(1, ToEndpoint::Release(here));
    net.pass(ms(55_000));
    assert_eq!((net.ends[0].endpoint.len(), net.ends[1].endpoint.len()), (1, 1));
    net.pass(ms(10_000));
    assert!(net.ends[0].endpoint.is_empty() && net.ends[1].endpoint.is_empty());
    assert_eq!(net.ends[0].released, [service("e0000001")]);
    assert_eq!(net.ends[0].endpoint.next_deadline(), Deadline::Idle);
    assert_eq!(net.ends[1].endpoint.next_deadline(), Deadline::Idle);
}

#[test]
fn what_was_sent_before_the_release_is_delivered() {
    let mut net = Net::new(4, calm());
    let (there, here) = connected(&mut net);
    let data = bytes(WINDOW, 4);
    net.send(0, there, data.clone(), false);
    net.tell(0, ToEndpoint::Release(there));
    // The other side goes on for a while, though nobody hears it.
    net.send(1, here, bytes(3 << 20, 5), true);
    assert!(net.run(SHORT, |net| net.side(1, here).eof));
    assert_eq!(net.side(1, here).received, data);
    assert!(net.run(ms(70_000), |net| net.ends.iter().all(|end| end.endpoint.is_empty())));
    assert_eq!(closed(&net, 1, here), None, "in peace");
}

#[test]
fn bytes_that_arrived_before_the_other_side_closed_are_not_lost() {
    let mut net = Net::new(5, calm());
    let (there, here) = connected(&mut net);
    net.ends[1].drains = false;
    let data = bytes(3 * WINDOW, 6);
    net.send(0, there, data.clone(), true);
    net.pass(SHORT);
    assert_eq!(net.side(1, here).received.len(), WINDOW);
    net.tell(0, ToEndpoint::Abort(there, "had enough".into()));
    net.pass(SHORT);
    net.resume(1);
    net.pass(SHORT);
    assert_eq!(net.side(1, here).received, data);
    assert!(net.side(1, here).eof);
    assert_eq!(
        closed(&net, 1, here),
        Some("Application error 0x1f4 (remote): had enough")
    );
    assert!(net.ends[1].endpoint.is_empty());
}

#[test]
fn a_reader_that_stands_still_stops_the_writer() {
    let mut net = Net::new(6, calm());
    let (there, here) = connected(&mut net);
    net.ends[1].drains = false;
    net.send(0, there, bytes(16 << 20, 7), true);
    net.pass(ms(20_000));
    assert_eq!(net.side(1, here).received.len(), WINDOW);
    let sent = net.ends[0].sent;
    assert!(sent < 2500, "{sent} packets for a window of a mebibyte");
    net.resume(1);
    assert!(net.run(SHORT, |net| net.side(1, here).eof));
    assert_eq!(net.side(1, here).received, bytes(16 << 20, 7));
}

#[test]
fn loss_reordering_and_duplication_change_nothing_but_the_time() {
    for (seed, loss) in [(7, 10), (8, 50), (9, 200)] {
        let weather = Weather {
            delay: ms(10),
            jitter: ms(10),
            loss,
            duplicate: 100,
            mtu: None,
        };
        let mut net = Net::new(seed, weather);
        net.listen("echo");
        let there = net.dial("echo");
        assert!(net.run(ms(30_000), |net| !net.ends[1].accepted.is_empty()), "{loss}");
        let here = net.accepted();
        net.send(0, there, bytes(500_000, 1), true);
        net.send(1, here, bytes(400_000, 2), true);
        let done = net.run(ms(600_000), |net| net.side(0, there).eof && net.side(1, here).eof);
        assert!(done, "loss of {loss} in a thousand");
        assert_eq!(net.side(1, here).received, bytes(500_000, 1));
        assert_eq!(net.side(0, there).received, bytes(400_000, 2));
    }
}

#[test]
fn a_path_that_carries_only_small_packets_is_enough() {
    let weather = Weather {
        delay: ms(5),
        mtu: Some(1280),
        ..Weather::default()
    };
    let mut net = Net::new(10, weather);
    let (there, here) = connected(&mut net);
    net.send(0, there, bytes(1 << 20, 1), true);
    assert!(net.run(SHORT, |net| net.side(1, here).eof));
    assert_eq!(net.side(1, here).received, bytes(1 << 20, 1));
}

#[test]
fn an_idle_connection_lives_and_a_cut_one_dies_on_both_sides() {
    let mut net = Net::new(11, calm());
    let (there, here) = connected(&mut net);
    net.pass(ms(300_000));
    assert_eq!((&net.side(0, there).closed, &net.side(1, here).closed), (&None, &None));
    net.weather.loss = 1000;
    net.pass(ms(61_000));
    let silent = Some("timeout: no recent network activity");
    assert_eq!((closed(&net, 0, there), closed(&net, 1, here)), (silent, silent));
    assert!(net.ends.iter().all(|end| end.endpoint.is_empty()));
}

#[test]
fn a_dial_to_nobody_fails_after_fifteen_seconds_and_says_nothing_more() {
    let mut net = Net::new(12, calm());
    let id = net.dial("nobody");
    assert!(!net.run(ms(14_900), |net| net.side(0, id).closed.is_some()));
    assert!(net.run(ms(200), |net| net.side(0, id).closed.is_some()));
    assert_eq!(closed(&net, 0, id), Some("timeout: no recent network activity"));
    let sent = net.ends[0].sent;
    net.pass(ms(60_000));
    assert_eq!(net.ends[0].sent, sent);
    assert!(net.ends[0].endpoint.is_empty());
    assert_eq!(net.ends[0].released, [service("e0000001")]);
}

#[test]
fn a_notice_ends_a_dial_at_once_and_a_connection_never() {
    let mut net = Net::new(13, calm());
    let path = |local: &str| Path {
        remote: node(1),
        remote_service: service("echo"),
        local_service: service(local),
    };
    for (number, problem) in [(1, "service unknown"), (2, "no route to node")] {
        let id = net.dial("echo");
        net.settle();
        let sent = net.ends[0].sent;
        let local = alloc::format!("e{number:07}");
        net.tell(0, ToEndpoint::Unreachable(path(&local), problem.into()));
        net.settle();
        assert_eq!(closed(&net, 0, id), Some(problem));
        assert_eq!(net.ends[0].sent, sent, "another word would provoke another notice");
        assert!(net.ends[0].endpoint.is_empty());
    }
    let (there, here) = connected(&mut net);
    for problem in ["service unknown", "no route to node", "message expired"] {
        net.tell(0, ToEndpoint::Unreachable(path("e0000003"), problem.into()));
    }
    net.send(0, there, bytes(10, 1), true);
    assert!(net.run(SHORT, |net| net.side(1, here).eof));
}

#[test]
fn other_problems_leave_a_dial_alone() {
    let mut net = Net::new(14, calm());
    net.listen("echo");
    let id = net.dial("echo");
    let path = Path {
        remote: node(1),
        remote_service: service("echo"),
        local_service: service("e0000001"),
    };
    net.tell(0, ToEndpoint::Unreachable(path, "message expired".into()));
    assert!(net.run(SHORT, |net| net.side(0, id).is_open));
}

#[test]
fn a_listener_that_closes_refuses_and_keeps_what_it_has() {
    let mut net = Net::new(15, calm());
    let (there, here) = connected(&mut net);
    net.tell(1, ToEndpoint::Unlisten(service("echo")));
    let late = net.dial("echo");
    net.send(0, there, bytes(10, 1), true);
    assert!(net.run(SHORT, |net| net.side(1, here).eof));
    assert!(!net.side(0, late).is_open);
    assert_eq!(net.ends[1].released, []);
    net.tell(1, ToEndpoint::Abort(here, String::new()));
    net.pass(SHORT);
    assert_eq!(net.ends[1].released, [service("echo")]);
}

#[test]
fn a_dial_that_is_let_go_leaves_nothing_behind() {
    let mut net = Net::new(16, calm());
    net.listen("echo");
    let id = net.dial("echo");
    net.tell(0, ToEndpoint::Release(id));
    net.pass(ms(70_000));
    assert!(net.ends.iter().all(|end| end.endpoint.is_empty()));
    assert_eq!(net.ends[1].accepted, []);
    assert_eq!(net.side(0, id).closed, None);
}

#[test]
fn nothing_is_sent_to_a_node_whose_first_hop_is_congested() {
    let mut net = Net::new(17, calm());
    let (there, here) = connected(&mut net);
    net.pass(ms(100));
    net.tell(0, ToEndpoint::Blocked(node(1)));
    let sent = net.ends[0].sent;
    net.send(0, there, bytes(100_000, 1), true);
    net.pass(ms(3_000));
    assert_eq!(net.ends[0].sent, sent);
    net.tell(0, ToEndpoint::Unblocked(node(1)));
    assert!(net.run(SHORT, |net| net.side(1, here).eof));
}

#[test]
fn the_limit_of_connections_holds_on_either_side() {
    let mut net = Net::with_limit(18, calm(), 2);
    net.listen("echo");
    let ids = [net.dial("echo"), net.dial("echo"), net.dial("echo")];
    net.settle();
    assert_eq!(closed(&net, 0, ids[2]), Some("limit of 2 streams reached"));
    net.pass(SHORT);
    assert_eq!(net.ends[1].accepted.len(), 2);
}
