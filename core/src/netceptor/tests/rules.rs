//! `wire.md` §12.3, rule by rule, seen from one node with classic neighbours.

use super::*;

const A: LinkId = LinkId(1);
const B: LinkId = LinkId(2);

/// `own` with classic neighbours `a` (link 1) and `b` (link 2), at rest.
fn own() -> (Router, Instant) {
    let mut router = router("own", 1);
    let now = now_at(Instant::ZERO);
    router.link_accepted(now, A, 1.0, &update("a", "a", 1, &[]), 60_000);
    router.link_accepted(now, B, 2.0, &update("b", "b", 1, &[]), 60_000);
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
    router.link_accepted(now_at(at), LinkId(3), 1.5, &update("c", "c", 1, &[]), 60_000);
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

/// Everything a router wants while time passes.
fn outputs(router: &mut Router, from: Instant, time: Duration) -> Vec<RouterOutput> {
    let mut all = vec![];
    loop {
        all.extend(core::iter::from_fn(|| router.poll_output()));
        match router.next_deadline() {
            Deadline::At(due, _) if due <= from + time => router.handle_timeout(now_at(due.max(from))),
            _ => return all,
        }
    }
}

fn is_duplicate(router: &mut Router) -> bool {
    core::iter::from_fn(|| router.poll_output()).any(|o| o == RouterOutput::Duplicate)
}

/// What an older process of our name says about us.
fn notice(accuser: u64, suspected: u64, connections: &[(&str, f64)]) -> RoutingUpdate {
    RoutingUpdate {
        epoch: accuser,
        suspected_duplicate: suspected,
        update_id: format!("notice {accuser} {suspected} {}", connections.len()),
        ..update("own", "a", 9, connections)
    }
}

#[test]
fn rule_2b_a_notice_of_an_older_process_that_is_connected_ends_us_once() {
    let (mut router, mut at) = own();
    on(&mut router, at, A, &update("a", "a", 3, &[("own", 1.0), ("far", 1.0)]));
    on(&mut router, at, A, &update("far", "a", 1, &[("a", 1.0), ("own", 1.0)]));
    pass(&mut router, &mut at, Duration::from_millis(300));
    let far: &[(&str, f64)] = &[("far", 1.0)];
    router.on_route(now_at(at), A, &notice(epoch(1), epoch(0), far));
    assert!(
        !is_duplicate(&mut router),
        "a younger process cannot call us the impostor"
    );
    router.on_route(now_at(at), A, &notice(0, epoch(0), far));
    assert!(!is_duplicate(&mut router), "no process has epoch 0");
    router.on_route(now_at(at), A, &notice(epoch(0) - 9, epoch(0) - 1, far));
    assert!(!is_duplicate(&mut router), "not about us");
    router.on_route(now_at(at), A, &notice(epoch(0) - 9, epoch(0), far));
    assert!(is_duplicate(&mut router));
    router.on_route(now_at(at), A, &notice(epoch(0) - 9, epoch(0), far));
    assert!(!is_duplicate(&mut router));
}

#[test]
fn rule_2b_a_forged_notice_is_logged_and_answered_and_ends_nothing() {
    let (mut router, mut at) = own();
    on(&mut router, at, A, &update("a", "a", 3, &[("own", 1.0), ("far", 1.0)]));
    on(&mut router, at, A, &update("far", "a", 1, &[("a", 1.0)]));
    on(&mut router, at, A, &update("ghost", "a", 1, &[("own", 1.0)]));
    pass(&mut router, &mut at, Duration::from_millis(300));
    let forgeries: [&[(&str, f64)]; 5] = [
        &[],
        // Our own neighbours have a link to us and cannot have another.
        &[("a", 1.0), ("b", 2.0)],
        // Reachable, but does not say so.
        &[("far", 1.0), ("a", 1.0), ("b", 2.0)],
        // Says so, but cannot be reached.
        &[("ghost", 1.0), ("a", 1.0), ("b", 2.0), ("far", 1.0)],
        &[
            ("never heard of", 1.0),
            ("own", 1.0),
            ("a", 1.0),
            ("b", 2.0),
            ("far", 1.0),
        ],
    ];
    let mut logged = 0;
    for connections in forgeries {
        router.on_route(now_at(at), A, &notice(epoch(0) - 9, epoch(0), connections));
        let outputs: Vec<_> = core::iter::from_fn(|| router.poll_output()).collect();
        assert!(!outputs.contains(&RouterOutput::Duplicate));
        logged += outputs.iter().filter(|o| matches!(o, RouterOutput::Log(..))).count();
    }
    assert_eq!(logged, 1, "a line of the log is not for everybody to write");
    let frames = pass(&mut router, &mut at, Duration::from_millis(200));
    let own: Vec<u64> = (updates(&frames).iter())
        .filter(|(_, u)| u.node_id == "own")
        .map(|(link, _)| *link)
        .collect();
    assert_eq!(own, [1, 2], "those who believed it hear the truth at once");
}

#[test]
fn rule_2b_a_witness_may_come_after_the_notice_but_not_a_minute_later() {
    for (seconds, believed) in [(5, true), (61, false)] {
        let (mut router, mut at) = own();
        router.on_route(now_at(at), A, &notice(epoch(0) - 9, epoch(0), &[("far", 1.0)]));
        router.on_route(now_at(at), A, &update("far", "a", 1, &[("a", 1.0)]));
        assert!(!is_duplicate(&mut router));
        // Named once more, now that the name is known.
        router.on_route(now_at(at), A, &notice(epoch(0) - 9, epoch(0), &[("far", 2.0)]));
        pass(&mut router, &mut at, Duration::from_secs(seconds));
        router.on_route(now_at(at), A, &update("far", "a", 2, &[("a", 1.0), ("own", 1.0)]));
        router.on_route(now_at(at), A, &update("a", "a", 3, &[("own", 1.0), ("far", 1.0)]));
        let later = outputs(&mut router, at, Duration::from_secs(1));
        let ended = later.contains(&RouterOutput::Duplicate);
        assert_eq!(ended, believed, "{seconds} s");
    }
}

#[test]
fn a_forged_epoch_beyond_belief_is_still_denied_to_those_who_believe_it() {
    let (mut router, at) = own();
    let far_ahead = epoch(10 * 365 * 24 * 3600);
    let forged = RoutingUpdate {
        epoch: far_ahead,
        ..update("own", "a", 1, &[])
    };
    let told = on(&mut router, at, A, &forged);
    assert!(told.iter().all(|(_, u)| u.suspected_duplicate == far_ahead));
    assert_eq!(told.len(), 2);
}

#[test]
fn forged_epochs_in_a_row_are_all_denied() {
    let (mut router, mut at) = own();
    let mut denied = BTreeSet::new();
    for secs in 1..=5 {
        let forged = RoutingUpdate {
            epoch: epoch(secs),
            update_id: format!("forged{secs}"),
            ..update("own", "a", 1, &[])
        };
        denied.extend(
            on(&mut router, at, A, &forged)
                .iter()
                .map(|(_, u)| u.suspected_duplicate),
        );
    }
    assert_eq!(denied, BTreeSet::from([epoch(1)]), "one at once");
    let later = updates(&pass(&mut router, &mut at, Duration::from_secs(11)));
    denied.extend(later.iter().map(|(_, u)| u.suspected_duplicate).filter(|&e| e != 0));
    assert_eq!(denied, (1..=5).map(epoch).collect(), "the others when the first is old");
    assert!(
        updates(&pass(&mut router, &mut at, Duration::from_secs(30)))
            .iter()
            .all(|(_, u)| u.suspected_duplicate == 0)
    );
}

#[test]
fn forged_impostors_without_number_are_bounded() {
    let (mut router, mut at) = own();
    for secs in 1..=1000 {
        let forged = RoutingUpdate {
            epoch: epoch(secs),
            update_id: format!("forged{secs}"),
            ..update("own", "a", 1, &[])
        };
        router.on_route(now_at(at), A, &forged);
    }
    sent(&mut router);
    let later = updates(&pass(&mut router, &mut at, Duration::from_secs(30)));
    let denied: BTreeSet<u64> = later
        .iter()
        .map(|(_, u)| u.suspected_duplicate)
        .filter(|&e| e != 0)
        .collect();
    assert_eq!(
        denied,
        (993..=1000).map(epoch).collect(),
        "the newest, which the mesh believes"
    );
}

#[test]
fn a_forged_sequence_of_our_run_is_risen_above() {
    let (mut router, mut at) = own();
    let forged = |sequence| RoutingUpdate {
        update_id: format!("forged{sequence}"),
        ..update("own", "a", sequence, &[])
    };
    router.on_route(now_at(at), A, &forged(77 << 32));
    let frames = updates(&pass(&mut router, &mut at, Duration::from_secs(1)));
    assert!(frames.iter().any(|(_, u)| u.node_id == "own" && u.sequence > 77 << 32));
    // There is nothing above this one but another run.
    let as_raise = |output| match output {
        RouterOutput::RaiseEpoch(epoch) => Some(epoch),
        _ => None,
    };
    let raised = |router: &mut Router| core::iter::from_fn(|| router.poll_output()).find_map(as_raise);
    router.on_route(now_at(at), A, &forged(u64::MAX));
    assert_eq!(raised(&mut router), Some(epoch(0) + 1));
    router.set_epoch(now_at(at), epoch(0) + 1);
    let again = RoutingUpdate {
        epoch: epoch(0) + 1,
        ..forged(u64::MAX - 1)
    };
    router.on_route(now_at(at), A, &again);
    assert_eq!(raised(&mut router), None, "at most once a minute");
    let later = outputs(&mut router, at, Duration::from_secs(61));
    let late = later.into_iter().find_map(as_raise);
    assert_eq!(late, Some(epoch(0) + 2), "but then without being asked again");
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
fn rule_4_a_notice_by_the_younger_of_two_is_neither_believed_nor_passed_on() {
    let (mut router, at) = own();
    on(&mut router, at, A, &update("x", "a", 3, &[("a", 1.0)]));
    let forged = RoutingUpdate {
        epoch: epoch(100),
        suspected_duplicate: epoch(0),
        update_id: "notice".into(),
        ..update("x", "a", 7, &[])
    };
    assert!(on(&mut router, at, A, &forged).is_empty());
    assert_eq!(
        on(&mut router, at, A, &update("x", "a", 4, &[("a", 2.0)])).len(),
        1,
        "still heard"
    );
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
fn a_node_that_says_hello_as_a_classic_one_is_spoken_to_as_one_at_once() {
    let (mut router, at) = own();
    let ours = RoutingUpdate {
        ext: Some(Ext::new(5)),
        ..update("x", "x", 1, &[])
    };
    router.link_accepted(now_at(at), LinkId(3), 1.0, &ours, 60_000);
    assert_eq!(router.capabilities("x"), Some(5));
    router.link_lost(now_at(at), LinkId(3));
    let rolled_back = RoutingUpdate {
        epoch: epoch(3),
        ..update("x", "x", 1, &[])
    };
    router.link_accepted(now_at(at), LinkId(4), 1.0, &rolled_back, 60_000);
    assert_eq!(router.capabilities("x"), None);
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
