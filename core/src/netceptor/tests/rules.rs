//! `wire.md` §12.3, rule by rule, seen from one node with classic neighbours.

use super::*;

const A: LinkId = LinkId(1);
const B: LinkId = LinkId(2);

/// `own` with classic neighbours `a` (link 1) and `b` (link 2), at rest.
fn own() -> (Router, Instant) {
    let mut router = router("own", 1);
    let now = now_at(Instant::ZERO);
    router.link_accepted(now, A, 1.0, &update("a", "a", 1, &[]));
    router.link_accepted(now, B, 2.0, &update("b", "b", 1, &[]));
    let mut at = Instant::ZERO;
    pass(&mut router, &mut at, Duration::from_millis(500));
    let now = now_at(at);
    router.on_route(now, A, &update("a", "a", 2, &[("own", 1.0)]));
    router.on_route(now, B, &update("b", "b", 2, &[("own", 2.0)]));
    pass(&mut router, &mut at, Duration::from_millis(500));
    (router, at)
}

fn on(router: &mut Router, at: Instant, from: LinkId, update: &RoutingUpdate) -> Vec<(u64, RoutingUpdate)> {
    router.on_route(now_at(at), from, update);
    updates(&sent(router))
}

#[test]
fn an_accepted_peer_is_listed_at_once_and_given_what_is_known() {
    let (mut router, mut at) = own();
    router.link_accepted(now_at(at), LinkId(3), 1.5, &update("c", "c", 1, &[]));
    let frames = pass(&mut router, &mut at, Duration::from_millis(60));
    let told: Vec<_> = updates(&frames)
        .into_iter()
        .filter(|(link, _)| *link == 3)
        .map(|(_, u)| u)
        .collect();
    assert_eq!(told[0].node_id, "own");
    assert_eq!(told[0].connections.as_ref().unwrap()["c"], 1.5);
    let nodes: BTreeSet<&str> = told.iter().map(|u| u.node_id.as_str()).collect();
    assert_eq!(nodes, BTreeSet::from(["own", "a", "b"]));
    assert!(
        told.iter()
            .all(|u| u.forwarding_node == "own" && !u.update_id.is_empty())
    );
}

#[test]
fn rule_1_an_empty_node_id_is_ignored() {
    let (mut router, at) = own();
    assert!(on(&mut router, at, A, &update("", "a", 9, &[])).is_empty());
}

#[test]
fn rule_2a_an_echo_is_ignored() {
    let (mut router, at) = own();
    assert!(on(&mut router, at, A, &update("own", "a", 999, &[])).is_empty());
}

#[test]
fn rule_2b_a_notice_of_an_older_process_ends_us_once() {
    let (mut router, at) = own();
    let notice = |epoch, suspected| RoutingUpdate {
        epoch,
        suspected_duplicate: suspected,
        ..update("own", "a", 9, &[])
    };
    let duplicate =
        |router: &mut Router| core::iter::from_fn(|| router.poll_output()).any(|o| o == RouterOutput::Duplicate);
    router.on_route(now_at(at), A, &notice(epoch(1), epoch(0)));
    assert!(!duplicate(&mut router), "a younger process cannot call us the impostor");
    router.on_route(now_at(at), A, &notice(0, epoch(0)));
    assert!(!duplicate(&mut router), "no process has epoch 0");
    router.on_route(now_at(at), A, &notice(epoch(0) - 9, epoch(0) - 1));
    assert!(!duplicate(&mut router), "not about us");
    router.on_route(now_at(at), A, &notice(epoch(0) - 9, epoch(0)));
    assert!(duplicate(&mut router));
    router.on_route(now_at(at), A, &notice(epoch(0) - 9, epoch(0)));
    assert!(!duplicate(&mut router));
}

#[test]
fn rule_2c_a_younger_process_is_reported_but_not_more_than_once_in_ten_seconds() {
    let (mut router, at) = own();
    let younger = RoutingUpdate {
        epoch: epoch(5),
        ..update("own", "a", 1, &[])
    };
    let first = on(&mut router, at, A, &younger);
    assert_eq!(first.iter().map(|(link, _)| *link).collect::<Vec<_>>(), [1, 2]);
    assert!(
        first
            .iter()
            .all(|(_, u)| u.suspected_duplicate == epoch(5) && u.epoch == epoch(0))
    );
    assert!(on(&mut router, at, B, &younger).is_empty());
    let later = at + Duration::from_secs(11);
    assert_eq!(on(&mut router, later, B, &younger).len(), 2);
}

#[test]
fn rule_2d_an_older_run_of_ours_is_ignored() {
    let (mut router, at) = own();
    let older = RoutingUpdate {
        epoch: epoch(0) - 7,
        ..update("own", "a", 1, &[])
    };
    assert!(on(&mut router, at, A, &older).is_empty());
}

#[test]
fn rule_3_an_update_id_is_taken_once() {
    let (mut router, at) = own();
    let news = update("x", "a", 1, &[("a", 1.0)]);
    assert_eq!(on(&mut router, at, A, &news).len(), 1);
    let again = RoutingUpdate {
        sequence: 2,
        forwarding_node: "b".into(),
        ..news
    };
    assert!(on(&mut router, at, B, &again).is_empty());
}

#[test]
fn rule_4_a_notice_rolls_back_to_the_older_run_and_is_passed_on() {
    let (mut router, at) = own();
    on(
        &mut router,
        at,
        A,
        &RoutingUpdate {
            epoch: epoch(5),
            ..update("x", "a", 3, &[("a", 1.0)])
        },
    );
    let notice = RoutingUpdate {
        suspected_duplicate: epoch(5),
        update_id: "notice".into(),
        ..update("x", "a", 7, &[])
    };
    let passed = on(&mut router, at, A, &notice);
    assert_eq!(passed.len(), 1);
    assert_eq!((passed[0].0, passed[0].1.suspected_duplicate), (2, epoch(5)));
    let older = update("x", "a", 8, &[]);
    assert_eq!(on(&mut router, at, A, &older).len(), 1, "the older run is heard again");
}

#[test]
fn rule_5_stale_updates_are_neither_stored_nor_passed_on() {
    let (mut router, at) = own();
    assert_eq!(on(&mut router, at, A, &update("x", "a", 5, &[("a", 1.0)])).len(), 1);
    assert!(on(&mut router, at, A, &update("x", "a", 4, &[])).is_empty());
    let equal = RoutingUpdate {
        update_id: "other".into(),
        ..update("x", "a", 5, &[])
    };
    assert!(on(&mut router, at, A, &equal).is_empty());
    let new_run = RoutingUpdate {
        epoch: epoch(1),
        ..update("x", "a", 1, &[])
    };
    assert_eq!(
        on(&mut router, at, A, &new_run).len(),
        1,
        "a larger epoch with any sequence"
    );
    let old_run = RoutingUpdate {
        update_id: "old".into(),
        ..update("x", "a", 99, &[])
    };
    assert!(on(&mut router, at, A, &old_run).is_empty());
}

#[test]
fn rule_5_an_unknown_node_makes_us_speak() {
    let (mut router, mut at) = own();
    on(&mut router, at, A, &update("x", "a", 1, &[("a", 1.0)]));
    let frames = pass(&mut router, &mut at, Duration::from_millis(150));
    let own: Vec<u64> = updates(&frames)
        .iter()
        .filter(|(_, u)| u.node_id == "own")
        .map(|(link, _)| *link)
        .collect();
    assert_eq!(own, [1, 2]);
}

#[test]
fn rule_7_an_edge_that_the_other_end_denies_is_not_used() {
    let (mut router, mut at) = own();
    on(&mut router, at, A, &update("x", "a", 1, &[("a", 1.0)]));
    on(&mut router, at, A, &update("a", "a", 3, &[("own", 1.0), ("x", 1.0)]));
    pass(&mut router, &mut at, Duration::from_millis(300));
    assert!(router.reachable("x"));
    assert_eq!(router.known_costs()[&NodeId::new("a")].len(), 2);
    on(&mut router, at, A, &update("x", "a", 2, &[]));
    pass(&mut router, &mut at, Duration::from_millis(300));
    assert!(!router.reachable("x"));
    assert_eq!(router.known_costs()[&NodeId::new("a")].len(), 1);
}

#[test]
fn rule_8_updates_are_passed_on_unchanged_but_for_the_forwarder() {
    let (mut router, at) = own();
    let news = update("x", "a", 1, &[("a", 1.0), ("y", 2.5)]);
    let passed = on(&mut router, at, A, &news);
    let expected = RoutingUpdate {
        forwarding_node: "own".into(),
        ..news
    };
    assert_eq!(passed, [(2, expected)]);
}

#[test]
fn costs_that_are_not_positive_are_ignored_and_not_passed_on() {
    let (mut router, at) = own();
    let news = update("x", "a", 1, &[("a", -1.0), ("b", 0.0), ("y", 2.0)]);
    let passed = on(&mut router, at, A, &news);
    assert_eq!(passed[0].1.connections.as_ref().unwrap().len(), 1);
    assert_eq!(router.known_costs()[&NodeId::new("x")].len(), 1);
}

#[test]
fn an_epoch_more_than_a_day_ahead_is_ignored_and_logged() {
    let (mut router, at) = own();
    let day = 24 * 3600;
    let far = |secs| RoutingUpdate {
        epoch: epoch(secs),
        ..update("x", "a", secs, &[])
    };
    router.on_route(now_at(at), A, &far(day + 10));
    let outputs: Vec<_> = core::iter::from_fn(|| router.poll_output()).collect();
    assert!(matches!(&outputs[..], [RouterOutput::Log(Severity::Warning, text)] if text.contains("24 h ahead")));
    assert_eq!(on(&mut router, at, A, &far(day - 10)).len(), 1);
}

#[test]
fn a_node_without_a_row_is_no_destination() {
    let (mut router, mut at) = own();
    on(
        &mut router,
        at,
        A,
        &update("a", "a", 3, &[("own", 1.0), ("ghost", 1.0)]),
    );
    pass(&mut router, &mut at, Duration::from_millis(300));
    assert!(!router.reachable("ghost"));
    assert_eq!(router.name_of(NameHash::of("ghost")), None, "only mentioned");
}

#[test]
fn a_lost_link_takes_its_edges_along() {
    let (mut router, mut at) = own();
    router.link_lost(now_at(at), A);
    assert!(!router.reachable("a"), "at once");
    let frames = pass(&mut router, &mut at, Duration::from_millis(200));
    let told = &updates(&frames)[0];
    assert_eq!((told.0, told.1.connections.as_ref().unwrap().len()), (2, 1));
    let costs = router.known_costs();
    assert!(costs[&NodeId::new("a")].is_empty() && costs[&NodeId::new("own")].len() == 1);
}

#[test]
fn capabilities_are_merged_even_from_duplicates() {
    let (mut router, at) = own();
    let plain = update("x", "a", 1, &[]);
    on(&mut router, at, A, &plain);
    assert_eq!(router.capabilities("x"), None);
    let same_with_ext = RoutingUpdate {
        ext: Some(Ext::new(5)),
        forwarding_node: "b".into(),
        ..plain
    };
    assert!(on(&mut router, at, B, &same_with_ext).is_empty());
    assert_eq!(router.capabilities("x"), Some(5));
}
