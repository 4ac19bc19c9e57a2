//! Data messages, unreachable messages, ping and traceroute (`wire.md` §17 to §19).

use super::*;
use crate::wire::classic::Unreachable;
use crate::wire::data::HEADER_LEN;

pub(super) fn line(nodes: usize) -> Mesh {
    let mut mesh = Mesh::new(nodes, 42);
    for i in 1..nodes {
        mesh.connect(i - 1, i, false);
    }
    mesh.run_secs(3);
    assert!(mesh.is_whole());
    mesh
}

pub(super) fn frame(from: &str, to: &str, hops: u8, from_service: &str, to_service: &str) -> BytesMut {
    let header = Header {
        hops,
        flags: 0,
        from: NameHash::of(from),
        to: NameHash::of(to),
        from_service: ServiceName::new(from_service).unwrap(),
        to_service: ServiceName::new(to_service).unwrap(),
    };
    let mut frame = BytesMut::from(&header.to_bytes()[..]);
    frame.extend_from_slice(b"payload");
    frame
}

#[test]
fn the_origin_performs_the_first_decrement() {
    let mut mesh = line(2);
    let router = &mut mesh.routers[0];
    let mut frame = frame("", "", 0, "", "");
    let service = router.open_port("mine", PortId(1)).unwrap();
    let (now, to) = (now_at(mesh.now), router.resolve("n1"));
    let verdict = router.send_data(now, service, to, ServiceName::CONTROL, 30, &mut frame);
    assert_eq!(verdict, Ok(DataVerdict::Forward(LinkId(0))));
    let header = Header::parse(&frame).unwrap();
    assert_eq!(
        (header.hops, header.from, header.to),
        (29, NameHash::of("n0"), NameHash::of("n1"))
    );
    assert_eq!(&frame[HEADER_LEN..], b"payload");
}

#[test]
fn transit_patches_one_byte_and_keeps_the_rest() {
    let mut mesh = line(3);
    let mut data = frame("n0", "n2", 7, "a", "b");
    data[3] = 1;
    let before = data.clone();
    let verdict = mesh.routers[1].classify_data(now_at(mesh.now), &mut data);
    assert_eq!(verdict, DataVerdict::Forward(LinkId(1)));
    assert_eq!((data[1], &data[2..]), (6, &before[2..]));
}

#[test]
fn a_message_with_no_hops_left_is_delivered_but_not_passed_on() {
    let mut mesh = line(3);
    let now = now_at(mesh.now);
    mesh.routers[2].open_port("svc", PortId(5)).unwrap();
    let mut data = frame("n0", "n2", 0, "a", "svc");
    let header = Header::parse(&data).unwrap();
    assert_eq!(
        mesh.routers[2].classify_data(now, &mut data),
        DataVerdict::Port(PortId(5), header)
    );
    assert_eq!(
        mesh.routers[1].classify_data(now, &mut data),
        DataVerdict::Drop(DropReason::Expired)
    );
    let mut sent = sent(&mut mesh.routers[1]);
    let notice = sent.pop().unwrap();
    assert_eq!(notice.0, 0);
    let header = Header::parse(&notice.1).unwrap();
    assert_eq!(
        (header.from_service, header.to_service, header.hops),
        (ServiceName::UNREACH, ServiceName::UNREACH, 29)
    );
    let body = Unreachable::parse(&notice.1[HEADER_LEN..]).unwrap();
    assert_eq!((body.from_node.as_str(), body.to_node.as_str()), ("n0", "n2"));
    assert_eq!((body.from_service.as_str(), body.to_service.as_str()), ("a", "svc"));
    assert_eq!(body.problem, Unreachable::MESSAGE_EXPIRED);
}

#[test]
fn an_expired_unreachable_message_is_not_reported() {
    let mut mesh = line(3);
    let mut data = frame("n0", "n2", 0, "unreach", "unreach");
    let verdict = mesh.routers[1].classify_data(now_at(mesh.now), &mut data);
    assert_eq!(verdict, DataVerdict::Drop(DropReason::Expired));
    assert!(sent(&mut mesh.routers[1]).is_empty());
}

#[test]
fn no_message_goes_back_for_a_missing_route_or_an_unknown_name() {
    let mut mesh = line(2);
    let now = now_at(mesh.now);
    for (from, to, reason) in [
        ("n1", "nobody", DropReason::NoRoute),
        ("nobody", "n0", DropReason::UnknownSource),
    ] {
        let verdict = mesh.routers[0].classify_data(now, &mut frame(from, to, 9, "a", "b"));
        assert_eq!(verdict, DataVerdict::Drop(reason));
    }
    assert_eq!(
        mesh.routers[0].classify_data(now, &mut [0; 35]),
        DataVerdict::Drop(DropReason::Malformed)
    );
    assert!(sent(&mut mesh.routers[0]).is_empty());
}

#[test]
fn a_message_may_go_back_where_it_came_from() {
    let mut mesh = line(2);
    let verdict = mesh.routers[0].classify_data(now_at(mesh.now), &mut frame("n1", "n1", 9, "a", "b"));
    assert_eq!(verdict, DataVerdict::Forward(LinkId(0)));
}

#[test]
fn the_origin_learns_of_a_missing_route_at_once() {
    let mut mesh = line(2);
    let router = &mut mesh.routers[0];
    let now = now_at(mesh.now);
    let mut data = frame("", "", 0, "", "");
    let result = router.send_data(
        now,
        ServiceName::CONTROL,
        NameHash::of("nobody"),
        ServiceName::CONTROL,
        30,
        &mut data,
    );
    assert_eq!(result, Err(SendError::NoRoute));
    assert_eq!(result.unwrap_err().to_string(), "no route to node");
}

#[test]
fn an_unknown_service_is_told_to_a_remote_source_only() {
    let mut mesh = line(2);
    let now = now_at(mesh.now);
    let DataVerdict::Deliver(header) = mesh.routers[1].classify_data(now, &mut frame("n0", "n1", 3, "mine", "nosuch"))
    else {
        panic!("unknown services go up");
    };
    mesh.routers[0].open_port("mine", PortId(3)).unwrap();
    mesh.routers[1].service_unknown(now, &header);
    mesh.run_secs(1);
    let told = mesh.events[0].iter().find_map(|e| match e {
        RouterOutput::Unreachable {
            owner, from, problem, ..
        } => Some((*owner, from.to_string(), problem.clone())),
        _ => None,
    });
    assert_eq!(
        told,
        Some((Some(Owner::Port(PortId(3))), "n1".into(), "service unknown".into()))
    );
    let local = Header {
        from: NameHash::of("n1"),
        ..header
    };
    mesh.routers[1].service_unknown(now, &local);
    assert!(sent(&mut mesh.routers[1]).is_empty());
}

#[test]
fn messages_to_this_node_take_the_same_way() {
    let mut mesh = line(2);
    let now = now_at(mesh.now);
    let router = &mut mesh.routers[0];
    let service = router.open_port("mine", PortId(3)).unwrap();
    for to in ["n0", "localhost", "LocalHost"] {
        let to = router.resolve(to);
        let verdict = router.send_data(now, service, to, service, 30, &mut frame("", "", 0, "", ""));
        assert!(matches!(verdict, Ok(DataVerdict::Port(PortId(3), header)) if header.hops == 30));
        let verdict = router.send_data(
            now,
            service,
            to,
            ServiceName::CONTROL,
            30,
            &mut frame("", "", 0, "", ""),
        );
        assert!(matches!(verdict, Ok(DataVerdict::Deliver(_))));
        let verdict = router.send_data(now, service, to, ServiceName::PING, 30, &mut frame("", "", 0, "", ""));
        assert_eq!(verdict, Ok(DataVerdict::Consumed));
        let pong = router.poll_output().unwrap();
        assert!(
            matches!(pong, RouterOutput::Local { owner: Owner::Port(PortId(3)), payload, .. } if payload.is_empty())
        );
    }
}

#[test]
fn ping_never_answers_ping() {
    let mut mesh = line(2);
    let verdict = mesh.routers[0].classify_data(now_at(mesh.now), &mut frame("n1", "n0", 9, "ping", "ping"));
    assert_eq!(verdict, DataVerdict::Drop(DropReason::PingFromPing));
}

#[test]
fn ping_reaches_near_and_far_and_says_why_not() {
    let mut mesh = line(4);
    for to in ["n3", "n1", "n0", "localhost"] {
        let result = mesh.ping(0, to);
        let expected = if to == "localhost" { "n0" } else { to };
        assert_eq!((result.from.as_str(), result.error), (expected, None));
        assert!(result.time < Duration::from_millis(200));
    }
    let result = mesh.ping(0, "nobody");
    assert_eq!(
        (result.from.as_str(), result.error.as_deref()),
        ("n0", Some("no route to node"))
    );
    mesh.wires[2].up = false;
    let result = mesh.ping(0, "n3");
    assert_eq!((result.from.as_str(), result.error.as_deref()), ("", Some("timeout")));
    assert_eq!(result.time, Duration::from_secs(10));
}

fn trace(mesh: &mut Mesh, from: usize, to: &str) -> Vec<(String, Option<String>)> {
    mesh.routers[from].traceroute(now_at(mesh.now), ProbeToken(2), to);
    mesh.drain(from);
    mesh.run_secs(15);
    let done = mesh.events[from].iter().rev().find_map(|e| match e {
        RouterOutput::TracerouteDone { hops, .. } => Some(hops.clone()),
        _ => None,
    });
    done.unwrap().into_iter().map(|h| (h.from, h.error)).collect()
}

#[test]
fn traceroute_lists_self_then_every_hop() {
    let mut mesh = line(4);
    let hop = |name: &str| (name.to_string(), None);
    assert_eq!(trace(&mut mesh, 0, "n3"), [hop("n0"), hop("n1"), hop("n2"), hop("n3")]);
    assert_eq!(trace(&mut mesh, 0, "n0"), [hop("n0")]);
    let no_route = ("n0".to_string(), Some("no route to node".to_string()));
    assert_eq!(trace(&mut mesh, 0, "nobody"), [hop("n0"), no_route]);
}

#[test]
fn probes_are_bounded_and_leave_nothing_behind() {
    let mut mesh = line(2);
    mesh.wires[0].up = false;
    let limit = Limits::default().sessions as u64;
    let now = now_at(mesh.now);
    for i in 0..=limit {
        mesh.routers[0].ping(now, ProbeToken(i), "n1");
    }
    let refused = core::iter::from_fn(|| mesh.routers[0].poll_output())
        .filter(|o| matches!(o, RouterOutput::PingDone { result, .. } if result.error.as_deref().unwrap().contains("limit")))
        .count();
    assert_eq!(refused, 1);
    for i in 0..limit {
        mesh.routers[0].cancel_probe(ProbeToken(i));
    }
    assert_eq!(mesh.routers[0].probes.next_deadline(), None);
}

#[test]
fn closing_a_service_withdraws_it() {
    let mut mesh = line(2);
    let now = now_at(mesh.now);
    let service = mesh.routers[0].open_port("svc", PortId(1)).unwrap();
    mesh.routers[0].advertise(now, "svc", 0, None, None);
    mesh.run_secs(1);
    assert_eq!(mesh.services_seen_by(1), ["n0:svc"]);
    assert_eq!(
        mesh.routers[0].close_service(now_at(mesh.now), service),
        Some(Owner::Port(PortId(1)))
    );
    mesh.run_secs(1);
    assert!(mesh.services_seen_by(1).is_empty());
}
