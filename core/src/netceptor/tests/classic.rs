//! What classic neighbours get from a border.

use super::*;
use crate::wire::classic::{Advertisement, Ext};
use crate::wire::extended::{LinkState, Message, Record};

const CLASSIC: LinkId = LinkId(1);
const OURS: LinkId = LinkId(2);

/// `own` between a classic neighbour `c` and one of our nodes `e`, which has another one behind it, `f`.
fn border() -> (Router, Instant) {
    let mut router = router("own", 1);
    let now = now_at(Instant::ZERO);
    router.link_accepted(now, CLASSIC, 1.0, &update("c", "c", 1, &[]), 60_000);
    let hello = RoutingUpdate {
        ext: Some(Ext::new(1)),
        ..update("e", "e", (1 << 32) + 1, &[])
    };
    router.link_accepted(now, OURS, 1.0, &hello, 60_000);
    let mut at = Instant::ZERO;
    pass(&mut router, &mut at, Duration::from_millis(500));
    (router, at)
}

fn record(node: &str, change: u64, connections: &[&str]) -> Record {
    Record {
        node: node.into(),
        epoch: epoch(0),
        sequence: change << 32,
        connections: connections.iter().map(|n| (n.to_string(), 1.0)).collect(),
        capabilities: 1,
        suspected_duplicate: 0,
    }
}

fn hear(router: &mut Router, at: Instant, records: Vec<Record>) {
    let frame = Message::LinkState(LinkState { records }).to_frame().unwrap();
    router.on_extended(now_at(at), OURS, &frame);
}

fn on_classic(frames: &[(u64, Vec<u8>)]) -> Vec<RoutingUpdate> {
    updates(frames)
        .into_iter()
        .filter(|(link, _)| *link == CLASSIC.0)
        .map(|(_, u)| u)
        .collect()
}

#[test]
fn classic_neighbours_hear_us_at_least_every_ten_seconds() {
    let (mut router, mut at) = border();
    let mut last = 0;
    for _ in 0..12 {
        let heard = on_classic(&pass(&mut router, &mut at, Duration::from_secs(10)));
        let own: Vec<_> = heard.iter().filter(|u| u.node_id == "own").collect();
        assert!(!own.is_empty());
        for update in own {
            assert!(update.sequence > last, "sequence numbers rise");
            last = update.sequence;
        }
    }
}

#[test]
fn records_of_our_nodes_cross_at_once_and_are_refreshed_with_rising_numbers() {
    let (mut router, mut at) = border();
    hear(
        &mut router,
        at,
        vec![record("e", 2, &["own", "f"]), record("f", 7, &["e"])],
    );
    let first = on_classic(&pass(&mut router, &mut at, Duration::from_millis(200)));
    let of_f = |updates: &[RoutingUpdate]| -> Vec<u64> {
        updates
            .iter()
            .filter(|u| u.node_id == "f")
            .map(|u| u.sequence)
            .collect()
    };
    assert_eq!(of_f(&first), [7 << 32]);
    let later = of_f(&on_classic(&pass(&mut router, &mut at, Duration::from_secs(30))));
    assert_eq!(later, [(7 << 32) + 1, (7 << 32) + 2, (7 << 32) + 3]);
    hear(&mut router, at, vec![record("f", 8, &["e"])]);
    let changed = of_f(&on_classic(&pass(&mut router, &mut at, Duration::from_millis(200))));
    assert_eq!(changed, [8 << 32]);
}

#[test]
fn a_refresh_heard_from_the_classic_side_replaces_our_own_and_is_not_flooded_to_our_nodes() {
    let (mut router, mut at) = border();
    hear(
        &mut router,
        at,
        vec![record("e", 2, &["own", "f"]), record("f", 7, &["e"])],
    );
    pass(&mut router, &mut at, Duration::from_millis(200));
    for i in 1..=3 {
        router.on_route(
            now_at(at),
            CLASSIC,
            &update("f", "c", (7 << 32) + 100 + i, &[("e", 1.0)]),
        );
        let frames = pass(&mut router, &mut at, Duration::from_secs(10));
        assert!(on_classic(&frames).iter().all(|u| u.node_id != "f"));
        let extended = frames.iter().filter(|(link, f)| *link == OURS.0 && f[0] > 0x40).count();
        assert_eq!(extended, 0);
    }
}

#[test]
fn a_classic_origin_is_passed_to_our_nodes_with_its_own_numbers() {
    let (mut router, mut at) = border();
    router.on_route(now_at(at), CLASSIC, &update("c", "c", 5, &[("own", 1.0)]));
    let frames = pass(&mut router, &mut at, Duration::from_millis(100));
    let states: Vec<Record> = (frames.iter())
        .filter(|(link, f)| *link == OURS.0 && f[0] == 0x41)
        .flat_map(|(_, f)| wire::extended::messages(f))
        .flat_map(|m| match m.unwrap() {
            Message::LinkState(state) => state.records,
            _ => vec![],
        })
        .collect();
    assert_eq!(states.len(), 1);
    assert_eq!(
        (states[0].node.as_str(), states[0].sequence, states[0].capabilities),
        ("c", 5, 0)
    );
}

#[test]
fn a_classic_node_never_hears_of_itself() {
    let (mut router, mut at) = border();
    hear(&mut router, at, vec![record("c", 9, &["own"])]);
    let frames = pass(&mut router, &mut at, Duration::from_secs(30));
    assert!(on_classic(&frames).iter().all(|u| u.node_id != "c"));
}

#[test]
fn a_classic_node_hears_of_a_later_run_of_its_name_which_it_alone_can_deny() {
    let (mut router, mut at) = border();
    let later = Record {
        epoch: epoch(7),
        ..record("c", 1, &["e"])
    };
    hear(&mut router, at, vec![later]);
    let told = on_classic(&pass(&mut router, &mut at, Duration::from_secs(30)));
    let of_c: Vec<u64> = told.iter().filter(|u| u.node_id == "c").map(|u| u.epoch).collect();
    assert_eq!(of_c, [epoch(7)]);
    let denial = RoutingUpdate {
        suspected_duplicate: epoch(7),
        ..update("c", "c", 9, &[("own", 1.0)])
    };
    router.on_route(now_at(at), CLASSIC, &denial);
    let frames = pass(&mut router, &mut at, Duration::from_secs(1));
    assert!(
        frames.iter().any(|(link, f)| *link == OURS.0 && f[0] == 0x41),
        "passed on to our nodes"
    );
    router.on_route(now_at(at), CLASSIC, &update("c", "c", 10, &[("own", 1.0)]));
    pass(&mut router, &mut at, Duration::from_secs(1));
    assert_eq!(
        router.known_costs()[&NodeId::new("c")].len(),
        1,
        "the run with the lower epoch is heard again"
    );
}

fn advert(time: u64, cancel: bool) -> Advertisement {
    Advertisement {
        node_id: "x".into(),
        service: "svc".into(),
        time: wire::classic::AdvertTime::from_wall(Wall::from_secs(START + time)),
        cancel,
        ..Advertisement::default()
    }
}

#[test]
fn classic_advertisements_are_passed_on_verbatim_and_only_if_later() {
    let (mut router, at) = border();
    router.link_accepted(now_at(at), LinkId(3), 1.0, &update("d", "d", 1, &[]), 60_000);
    sent(&mut router);
    let mut frame = advert(5, false).emit();
    // What only the bytes can carry.
    let end = frame.len() - 1;
    frame.splice(end..end, *b",\"Unknown\":[1]");
    router.on_advert(now_at(at), CLASSIC, &frame);
    let passed: Vec<_> = sent(&mut router).into_iter().filter(|(_, f)| f[0] == 2).collect();
    assert_eq!(passed, [(3, frame.clone())]);
    router.on_advert(now_at(at), LinkId(3), &frame);
    assert!(sent(&mut router).is_empty());
}

#[test]
fn a_withdrawal_is_passed_on_once() {
    let (mut router, at) = border();
    router.link_accepted(now_at(at), LinkId(3), 1.0, &update("d", "d", 1, &[]), 60_000);
    sent(&mut router);
    let frame = advert(5, true).emit();
    router.on_advert(now_at(at), CLASSIC, &frame);
    assert_eq!(sent(&mut router).len(), 1);
    for _ in 0..10 {
        router.on_advert(now_at(at), LinkId(3), &frame);
        router.on_advert(now_at(at), CLASSIC, &advert(4, false).emit());
    }
    assert!(sent(&mut router).is_empty());
    assert!(router.adverts(now_at(at)).is_empty());
}

#[test]
fn own_services_are_repeated_to_classic_nodes_every_minute_with_rising_times() {
    let (mut router, mut at) = border();
    router.advertise(now_at(at), "svc", 1, None, None);
    let mut times = vec![];
    let mut to_ours = 0;
    for _ in 0..5 {
        for (link, frame) in pass(&mut router, &mut at, Duration::from_secs(60)) {
            match (link, frame[0]) {
                (1, 2) => times.push(Advertisement::parse(&frame).unwrap()),
                (2, 0x42) => to_ours += 1,
                _ => {}
            }
        }
    }
    assert_eq!(times.len(), 6, "once at once, then once a minute");
    assert!(times.windows(2).all(|pair| pair[0].time < pair[1].time));
    assert!(times.iter().all(|a| a.ext.is_some_and(|e| e.epoch == epoch(0))));
    assert_eq!(to_ours, 1, "our nodes need no repetition");
    router.withdraw(now_at(at), "svc");
    let gone = pass(&mut router, &mut at, Duration::from_millis(100));
    let withdrawal = Advertisement::parse(&gone.iter().find(|(link, _)| *link == 1).unwrap().1).unwrap();
    assert!(withdrawal.cancel && withdrawal.time > times.last().unwrap().time);
    assert_eq!(
        (withdrawal.tags, withdrawal.work_commands, withdrawal.conn_type),
        (None, None, 1)
    );
}

#[test]
fn adverts_a_day_ahead_are_ignored() {
    let (mut router, at) = border();
    router.on_advert(now_at(at), CLASSIC, &advert(25 * 3600, false).emit());
    assert!(router.adverts(now_at(at)).is_empty());
}

#[test]
fn a_newcomer_behind_a_classic_node_gets_our_advertisements_within_six_seconds() {
    let (mut router, mut at) = border();
    router.advertise(now_at(at), "svc", 0, None, None);
    // Past the first repetition, so that the next is most of a minute away.
    let adverts = |frames: Vec<(u64, Vec<u8>)>| {
        frames
            .iter()
            .filter(|(link, f)| *link == CLASSIC.0 && f[0] == 2)
            .count()
    };
    while adverts(pass(&mut router, &mut at, Duration::from_secs(1))) > 0 || at < Instant::from_millis(2_000) {}
    while adverts(pass(&mut router, &mut at, Duration::from_secs(1))) == 0 {}
    assert_eq!(adverts(pass(&mut router, &mut at, Duration::from_secs(10))), 0);
    router.on_route(now_at(at), CLASSIC, &update("far", "c", 1, &[("c", 1.0)]));
    assert!(adverts(pass(&mut router, &mut at, Duration::from_secs(6))) > 0);
    assert_eq!(adverts(pass(&mut router, &mut at, Duration::from_secs(10))), 0);
    // The next update of the same run owes nothing, a new run does.
    router.on_route(now_at(at), CLASSIC, &update("far", "c", 2, &[("c", 1.0)]));
    assert_eq!(adverts(pass(&mut router, &mut at, Duration::from_secs(10))), 0);
    let restarted = RoutingUpdate {
        epoch: epoch(60),
        update_id: "restart".into(),
        ..update("far", "c", 1, &[("c", 1.0)])
    };
    router.on_route(now_at(at), CLASSIC, &restarted);
    assert!(adverts(pass(&mut router, &mut at, Duration::from_secs(6))) > 0);
}
