//! The firewall in a small mesh (`security.md` §13.3).

use super::data::{frame, line};
use super::*;
use crate::firewall::{Ends, Rules};
use crate::wire::classic::Unreachable;
use crate::wire::data::HEADER_LEN;

fn rules(list: &[&[(&str, &str)]]) -> Rules {
    let fields = list.iter().map(|rule| rule.iter().map(|&(k, v)| (k, Some(v))));
    Rules::from_fields(fields).unwrap()
}

const BLOCKED: DataVerdict = DataVerdict::Drop(DropReason::Firewall);

/// The notices that ports of a node got: who said it, and what.
fn notices(mesh: &mut Mesh, node: usize) -> Vec<(String, String)> {
    let events = core::mem::take(&mut mesh.events[node]);
    let notices = events.into_iter().filter_map(|event| match event {
        RouterOutput::Unreachable { from, problem, .. } => Some((from.to_string(), problem)),
        _ => None,
    });
    notices.collect()
}

#[test]
fn transit_is_filtered_and_a_reject_reaches_the_sender() {
    let mut mesh = line(3);
    mesh.routers[0].open_port("mine", PortId(1)).unwrap();
    for (action, told) in [("reject", true), ("drop", false)] {
        let list = rules(&[&[("action", action), ("fromnode", "n0"), ("toservice", "svc")]]);
        mesh.routers[1].set_firewall(list);
        let now = now_at(mesh.now);
        for _ in 0..3 {
            let verdict = mesh.routers[1].classify_data(now, &mut frame("n0", "n2", 9, "mine", "svc"));
            assert_eq!(verdict, BLOCKED);
        }
        let verdict = mesh.routers[1].classify_data(now, &mut frame("n0", "n2", 9, "mine", "other"));
        assert_eq!(verdict, DataVerdict::Forward(LinkId(1)));
        let verdict = mesh.routers[1].classify_data(now, &mut frame("n2", "n0", 9, "mine", "svc"));
        assert_eq!(verdict, DataVerdict::Forward(LinkId(0)));
        mesh.drain(1);
        mesh.run_secs(1);
        let expected = ("n1".to_string(), Unreachable::BLOCKED_BY_FIREWALL.to_string());
        assert_eq!(notices(&mut mesh, 0), vec![expected; if told { 3 } else { 0 }]);
    }
    mesh.routers[1].set_firewall(Rules::default());
    let verdict = mesh.routers[1].classify_data(now_at(mesh.now), &mut frame("n0", "n2", 9, "mine", "svc"));
    assert_eq!(verdict, DataVerdict::Forward(LinkId(1)), "no rules any more");
}

#[test]
fn own_messages_are_filtered_and_the_call_succeeds() {
    let mut mesh = line(2);
    let service = mesh.routers[0].open_port("mine", PortId(1)).unwrap();
    for (action, told) in [("reject", 1), ("drop", 0)] {
        mesh.routers[0].set_firewall(rules(&[&[("action", action), ("toservice", "svc")]]));
        for to in ["n1", "n0"] {
            let to = mesh.routers[0].resolve(to);
            let svc = ServiceName::new("svc").unwrap();
            let now = now_at(mesh.now);
            let sent = mesh.routers[0].send_data(now, service, to, svc, 30, &mut frame("", "", 0, "", ""));
            assert_eq!(sent, Ok(DataVerdict::Consumed));
            mesh.drain(0);
            assert_eq!(notices(&mut mesh, 0).len(), told, "{action}");
        }
    }
}

#[test]
fn arriving_messages_are_filtered_built_in_services_included() {
    let mut mesh = line(2);
    mesh.routers[1].open_port("svc", PortId(5)).unwrap();
    mesh.routers[1].set_firewall(rules(&[&[
        ("action", "drop"),
        ("tonode", "n1"),
        ("toservice", "/svc|unreach/"),
    ]]));
    let now = now_at(mesh.now);
    for service in ["svc", "unreach"] {
        let verdict = mesh.routers[1].classify_data(now, &mut frame("n0", "n1", 9, "x", service));
        assert_eq!(verdict, BLOCKED, "{service}");
    }
    let verdict = mesh.routers[1].classify_data(now, &mut frame("n0", "n1", 9, "x", "ping"));
    assert_eq!(verdict, DataVerdict::Consumed);
}

#[test]
fn a_refused_ping_says_so_and_a_dropped_one_times_out() {
    let mut mesh = line(3);
    mesh.routers[1].set_firewall(rules(&[&[("action", "reject"), ("toservice", "ping")]]));
    let result = mesh.ping(0, "n2");
    assert_eq!(
        (result.from.as_str(), result.error.as_deref()),
        ("n1", Some("blocked by firewall"))
    );
    // The answer is a message, too.
    mesh.routers[1].set_firewall(rules(&[&[("action", "drop"), ("fromservice", "ping")]]));
    let result = mesh.ping(0, "n2");
    assert_eq!((result.from.as_str(), result.error.as_deref()), ("", Some("timeout")));
    mesh.routers[0].set_firewall(rules(&[&[("action", "reject"), ("tonode", "n2")]]));
    let result = mesh.ping(0, "n2");
    assert_eq!(
        (result.from.as_str(), result.error.as_deref()),
        ("n0", Some("blocked by firewall"))
    );
}

#[test]
fn notices_of_rejects_are_filtered_but_not_rejected_aloud() {
    let mut mesh = line(2);
    mesh.routers[1].set_firewall(rules(&[&[("action", "reject")]]));
    let now = now_at(mesh.now);
    for service in ["x", "unreach"] {
        let verdict = mesh.routers[1].classify_data(now, &mut frame("n0", "n1", 9, service, "svc"));
        assert_eq!(verdict, BLOCKED);
        assert!(sent(&mut mesh.routers[1]).is_empty(), "the notice is rejected as well");
    }
    mesh.routers[1].set_firewall(rules(&[
        &[("action", "accept"), ("fromservice", "unreach"), ("fromnode", "n1")],
        &[("action", "reject")],
    ]));
    mesh.routers[1].classify_data(now, &mut frame("n0", "n1", 9, "unreach", "unreach"));
    assert!(sent(&mut mesh.routers[1]).is_empty());
    mesh.routers[1].classify_data(now, &mut frame("n0", "n1", 9, "x", "svc"));
    let notice = sent(&mut mesh.routers[1]).pop().unwrap().1;
    let body = Unreachable::parse(&notice[HEADER_LEN..]).unwrap();
    assert_eq!((body.from_node.as_str(), body.to_node.as_str()), ("n0", "n1"));
    assert_eq!((body.from_service.as_str(), body.to_service.as_str()), ("x", "svc"));
    assert_eq!(body.problem, "blocked by firewall");
}

#[test]
fn rules_come_before_hops() {
    let mut mesh = line(3);
    mesh.routers[1].set_firewall(rules(&[&[("action", "drop"), ("tonode", "n2")]]));
    let verdict = mesh.routers[1].classify_data(now_at(mesh.now), &mut frame("n0", "n2", 0, "a", "b"));
    assert_eq!(verdict, BLOCKED);
    assert!(sent(&mut mesh.routers[1]).is_empty());
}

#[test]
fn with_rules_a_message_without_a_known_source_goes_no_further() {
    let mut mesh = line(3);
    let now = now_at(mesh.now);
    let stray = || frame("nobody", "n2", 9, "a", "b");
    assert_eq!(
        mesh.routers[1].classify_data(now, &mut stray()),
        DataVerdict::Forward(LinkId(1))
    );
    mesh.routers[1].set_firewall(rules(&[&[("action", "drop"), ("fromnode", "nobody")]]));
    let verdict = |router: &mut Router, mut data: BytesMut| router.classify_data(now, &mut data);
    assert_eq!(
        verdict(&mut mesh.routers[1], stray()),
        DataVerdict::Drop(DropReason::UnknownSource)
    );
    assert_eq!(
        verdict(&mut mesh.routers[1], frame("n0", "nobody", 9, "a", "b")),
        DataVerdict::Drop(DropReason::NoRoute)
    );
    // Once it has a name the rules know it.
    mesh.routers[1].on_route(now, LinkId(0), &update("nobody", "n0", 1, &[("n0", 1.0)]));
    assert_eq!(verdict(&mut mesh.routers[1], stray()), BLOCKED);
}

#[test]
fn routing_is_not_filtered() {
    let mut mesh = Mesh::new(3, 42);
    for router in &mut mesh.routers {
        router.set_firewall(rules(&[&[("action", "drop")]]));
    }
    mesh.connect(0, 1, false);
    mesh.connect(1, 2, true);
    mesh.routers[2].advertise(now_at(mesh.now), "svc", 1, None, None);
    mesh.run_secs(3);
    assert!(mesh.is_whole());
    assert_eq!(mesh.services_seen_by(0), ["n2:svc"]);
}

/// More flows than verdicts are remembered: every frame gets what the rules say.
#[test]
fn what_is_remembered_is_what_the_rules_say() {
    let mut mesh = line(3);
    let list = rules(&[
        &[("action", "accept"), ("fromservice", "/.*7/")],
        &[("action", "drop"), ("toservice", "/[0-4].*/"), ("fromnode", "n0")],
    ]);
    mesh.routers[1].set_firewall(list.clone());
    let now = now_at(mesh.now);
    let mut rng = Rng::from_seed([5; 32]);
    for _ in 0..50_000 {
        let (from, to) = if rng.below(2) == 0 { ("n0", "n2") } else { ("n2", "n0") };
        let (from_service, to_service) = (rng.below(120).to_string(), rng.below(120).to_string());
        let ends = Ends {
            from_node: from,
            to_node: to,
            from_service: from_service.as_bytes(),
            to_service: to_service.as_bytes(),
        };
        let passes = list.decide(&ends).action == crate::firewall::Action::Accept;
        let verdict = mesh.routers[1].classify_data(now, &mut frame(from, to, 9, &from_service, &to_service));
        assert_eq!(verdict != BLOCKED, passes, "{ends:?}");
    }
}

#[test]
fn what_is_refused_is_logged_once_per_flow_and_not_more_than_once_a_second() {
    let mut mesh = line(3);
    mesh.routers[1].set_firewall(rules(&[
        &[("action", "accept"), ("toservice", "good")],
        &[("action", "drop"), ("tonode", "n2")],
    ]));
    let mut logged = |millis: u64, service: &str| {
        let now = now_at(mesh.now + Duration::from_millis(millis));
        mesh.routers[1].classify_data(now, &mut frame("n0", "n2", 9, "a", service));
        let outputs = core::iter::from_fn(|| mesh.routers[1].poll_output());
        outputs
            .filter_map(|output| match output {
                RouterOutput::Log(Severity::Info, text) => Some(text),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        logged(0, "b"),
        ["firewall rule 1 says drop: message from \"n0\" service \"a\" to \"n2\" service \"b\""]
    );
    assert_eq!(logged(100, "c"), [""; 0]);
    assert_eq!(logged(2000, "b"), [""; 0]);
    assert_eq!(logged(2000, "good"), [""; 0]);
    assert_eq!(logged(2000, "d").len(), 1);
}
