//! Our nodes and models of the classic node in one mesh, on virtual time: what one kind does to the other.

use std::collections::BTreeMap;

use receptor_core::time::Wall;
use receptor_core::wire::classic::{AdvertTime, Advertisement, RoutingUpdate};
use receptor_tests::mixed::{Mesh, epoch, steady_traffic};

/// Kinds of node a mesh is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Ours,
    Classic,
}
use Kind::{Classic, Ours};

fn add(mesh: &mut Mesh, kind: Kind, name: &str) -> usize {
    match kind {
        Ours => mesh.ours(name),
        Classic => mesh.classic(name),
    }
}

/// A line of nodes; wire `i` connects node `i` with node `i + 1`.
fn line(nodes: &[(Kind, &str)]) -> Mesh {
    let mut mesh = Mesh::new();
    for (i, &(kind, name)) in nodes.iter().enumerate() {
        add(&mut mesh, kind, name);
        if i > 0 {
            mesh.connect(i - 1, i);
        }
    }
    mesh
}

fn update(node: &str, by: &str, epoch: u64, sequence: u64, connections: &[&str]) -> RoutingUpdate {
    RoutingUpdate {
        node_id: node.into(),
        update_id: format!("{node}{by}{epoch}{sequence}"),
        epoch,
        sequence,
        connections: Some(
            connections
                .iter()
                .map(|c| ((*c).into(), 1.0))
                .collect::<BTreeMap<_, _>>(),
        ),
        forwarding_node: by.into(),
        suspected_duplicate: 0,
        ext: None,
    }
}

/// Somebody called `mallory`, admitted as a neighbour of `node`. Returns the wire.
fn admit(mesh: &mut Mesh, node: usize, name: &str) -> (usize, usize) {
    let puppet = mesh.puppet("mallory");
    let wire = mesh.connect(puppet, node);
    keep(mesh, wire, puppet, name, 1);
    mesh.run_secs(1);
    (puppet, wire)
}

/// What keeps the session of a puppet up.
fn keep(mesh: &mut Mesh, wire: usize, puppet: usize, name: &str, sequence: u64) {
    for (sequence, list) in [(sequence, &[][..]), (sequence + 1, &[name][..])] {
        if sequence > 1 && list.is_empty() {
            continue;
        }
        mesh.say(
            wire,
            puppet,
            &update("mallory", "mallory", epoch(0), sequence, list).emit(),
        );
    }
}

#[test]
fn chains_of_both_kinds_become_whole_and_learn_services() {
    for kinds in [
        [Ours, Ours, Classic, Classic],
        [Classic, Ours, Ours, Classic],
        [Ours, Classic, Classic, Ours],
        [Ours, Classic, Ours, Classic],
        [Classic, Classic, Classic, Classic],
    ] {
        let names = ["a", "b", "c", "d"];
        let nodes: Vec<_> = kinds.into_iter().zip(names).collect();
        let mut mesh = line(&nodes);
        for node in 0..4 {
            mesh.advertise(node, "svc");
        }
        mesh.run_secs(3);
        assert!(mesh.is_whole(), "{kinds:?}");
        mesh.run_secs(62);
        for node in 0..4 {
            let seen = mesh.services_seen_by(node);
            assert!(
                seen.iter().map(String::as_str).eq(["a:svc", "b:svc", "c:svc", "d:svc"]),
                "{kinds:?} {seen:?}"
            );
        }
    }
}

/// `wire.md` §12.3 rule 7 erases edges from other rows, and only the origin of such a row can bring them back.
#[test]
fn a_late_old_update_cannot_leave_a_classic_node_wrong_for_ever() {
    let mut mesh = line(&[(Classic, "g"), (Ours, "border"), (Ours, "t"), (Classic, "x")]);
    let (puppet, wire) = admit(&mut mesh, 0, "g");
    mesh.run_secs(5);
    assert!(mesh.is_whole() && mesh.model(0).has_edge("t", "x"));
    // An update of x from before it was connected to t, that took a long way around and that g has not heard yet.
    let (run, sequence) = mesh.model(0).remembers("x").expect("x is known");
    let late = update("x", "mallory", run, sequence + 1, &[]);
    mesh.say(wire, puppet, &late.emit());
    mesh.run(std::time::Duration::from_millis(50));
    assert!(!mesh.model(0).has_edge("t", "x"), "the model makes the mistake");
    assert!(!mesh.reached_by(0).contains("x"));
    for round in 1..=3 {
        mesh.run_secs(8);
        keep(&mut mesh, wire, puppet, "g", 1 + round);
    }
    assert!(
        mesh.model(0).has_edge("t", "x"),
        "t has been quoted once more by the border"
    );
    assert!(mesh.reached_by(0).contains("x"));
}

#[test]
fn a_classic_node_that_joins_a_border_knows_the_whole_mesh_within_a_second() {
    let mut mesh = line(&[(Ours, "a"), (Ours, "b"), (Ours, "border")]);
    mesh.advertise(0, "svc");
    mesh.run_secs(30);
    let late = mesh.classic("late");
    mesh.connect(2, late);
    mesh.run_secs(1);
    assert!(mesh.is_whole());
    assert_eq!(mesh.services_seen_by(late).len(), 1);
}

/// Every mixture of older, newer and two nodes between them.
#[test]
fn of_two_real_nodes_with_one_name_the_newer_ends_and_the_older_is_reached() {
    for older in [Ours, Classic] {
        for newer in [Ours, Classic] {
            for between in [[Ours, Ours], [Ours, Classic], [Classic, Ours], [Classic, Classic]] {
                let case = format!("{older:?} {between:?} {newer:?}");
                let mut mesh = line(&[(older, "twin"), (between[0], "m1"), (between[1], "m2")]);
                mesh.run_secs(5);
                let twin = add(&mut mesh, newer, "twin");
                let wire = mesh.connect(2, twin);
                mesh.run_secs(90);
                assert!(mesh.is_gone(twin), "{case}: the newer one runs: {:?}", mesh.log(twin));
                assert!(!mesh.is_gone(0), "{case}: the older one has ended: {:?}", mesh.log(0));
                mesh.cut(wire);
                mesh.run_secs(30);
                for node in [1, 2] {
                    assert!(
                        mesh.reached_by(node).contains("twin"),
                        "{case}: m{node} does not reach the older one"
                    );
                }
            }
        }
    }
}

#[test]
fn forged_notices_end_no_node_of_ours_and_the_mesh_stays_whole() {
    for neighbour in [Ours, Classic] {
        let mut mesh = line(&[(Ours, "victim"), (neighbour, "m"), (Ours, "far")]);
        let (puppet, wire) = admit(&mut mesh, 1, "m");
        mesh.run_secs(2);
        let own = mesh.net(0).router().epoch();
        for (n, (accuser, connections)) in [
            (own - 1, &[][..]),
            (own - 2, &["m"]),
            (own - 3, &["far", "m"]),
            (own - 4, &["nobody"]),
            (own + 5, &["far"]),
        ]
        .into_iter()
        .enumerate()
        {
            let notice = RoutingUpdate {
                suspected_duplicate: own,
                ..update("victim", "mallory", accuser, 1_000 + n as u64, connections)
            };
            mesh.say(wire, puppet, &notice.emit());
            mesh.run_secs(4);
            keep(&mut mesh, wire, puppet, "m", 2 + n as u64);
        }
        mesh.run_secs(20);
        assert!(!mesh.is_gone(0), "{neighbour:?}: {:?}", mesh.log(0));
        assert!(
            mesh.log(0).iter().any(|line| line.contains("not believed")),
            "{neighbour:?}"
        );
        assert!(mesh.is_whole(), "{neighbour:?}");
    }
}

#[test]
fn forged_epochs_and_sequences_leave_none_of_ours_unroutable() {
    let year = 365 * 24 * 3600;
    for neighbour in [Ours, Classic] {
        for (what, run, sequence) in [
            ("an hour ahead", epoch(3600), 1),
            ("almost a day ahead", epoch(24 * 3600 - 60), 1),
            ("a year ahead", epoch(year), 1),
            ("the end of time", u64::MAX, u64::MAX),
            ("a sequence of this run", epoch(0), 99 << 32),
            ("the last sequence of this run", epoch(0), u64::MAX),
        ] {
            let mut mesh = line(&[(Ours, "victim"), (neighbour, "m"), (Classic, "g"), (Ours, "far")]);
            let (puppet, wire) = admit(&mut mesh, 1, "m");
            mesh.run_secs(2);
            let case = format!("{what}, behind {neighbour:?}");
            for round in 0..3 {
                let forged = update(
                    "victim",
                    "mallory",
                    run - round,
                    sequence - round.min(sequence),
                    &["mallory"],
                );
                mesh.say(wire, puppet, &forged.emit());
                mesh.run_secs(3);
                keep(&mut mesh, wire, puppet, "m", 2 + round);
            }
            for round in 0..10 {
                mesh.run_secs(9);
                keep(&mut mesh, wire, puppet, "m", 9 + round);
            }
            assert!(!mesh.is_gone(0), "{case}");
            assert!(mesh.is_whole(), "{case}: {:?}", mesh.log(0));
            // What it says now is heard.
            let late = mesh.ours("late");
            mesh.connect(0, late);
            mesh.run_secs(25);
            keep(&mut mesh, wire, puppet, "m", 30);
            assert!((1..4).all(|node| mesh.reached_by(node).contains("late")), "{case}");
        }
    }
}

#[test]
fn a_clock_set_back_leaves_none_of_ours_unroutable_behind_one_of_ours() {
    let mut mesh = line(&[(Ours, "victim"), (Ours, "m"), (Classic, "g"), (Ours, "far")]);
    mesh.run_secs(3);
    mesh.replace(0, Some(epoch(0) - (3600 << 24)));
    mesh.open(0);
    mesh.run_secs(25);
    assert!(mesh.is_whole(), "{:?}", mesh.log(0));
    assert_eq!(mesh.net(0).router().epoch(), epoch(0) + 1);
}

#[test]
fn a_node_rolled_back_to_the_classic_program_is_spoken_to_as_such_at_once() {
    let mut mesh = line(&[(Ours, "back"), (Ours, "m"), (Classic, "g"), (Ours, "far")]);
    mesh.advertise(0, "svc");
    mesh.run_secs(5);
    for node in [1, 3] {
        assert!(mesh.net(node).router().capabilities("back").is_some(), "node {node}");
    }
    mesh.replace(0, None);
    mesh.open(0);
    mesh.run(std::time::Duration::from_millis(20));
    assert_eq!(
        mesh.net(1).router().capabilities("back"),
        None,
        "the neighbour, with the hello"
    );
    mesh.run_secs(2);
    assert_eq!(
        mesh.net(3).router().capabilities("back"),
        None,
        "the far end, with the first update"
    );
    mesh.run_secs(70);
    for node in [1, 3] {
        assert_eq!(
            mesh.net(node).router().capabilities("back"),
            None,
            "advertisements of before change nothing"
        );
    }
    assert!(mesh.is_whole());
}

fn withdrawal(node: &str, service: &str, secs: u64, cancel: bool) -> Vec<u8> {
    Advertisement {
        node_id: node.into(),
        service: service.into(),
        time: AdvertTime::from_wall(Wall::from_secs((epoch(0) >> 24) + secs)),
        cancel,
        ..Advertisement::default()
    }
    .emit()
}

/// The hazard that the tombstones are for: among classic nodes alone it does not end.
#[test]
fn a_withdrawal_circles_among_classic_nodes_and_dies_at_one_of_ours() {
    for (kinds, ends) in [
        ([Classic, Classic, Classic], false),
        ([Classic, Ours, Classic], true),
        ([Ours, Ours, Classic], true),
        ([Ours, Ours, Ours], true),
    ] {
        let mut mesh = line(&[(kinds[0], "a"), (kinds[1], "b"), (kinds[2], "c")]);
        mesh.connect(2, 0);
        mesh.advertise(0, "svc");
        mesh.run_secs(8);
        mesh.withdraw(0, "svc");
        mesh.run_secs(1);
        let before = mesh.frames;
        mesh.run_secs(10);
        let frames = mesh.frames - before;
        assert_eq!(frames < 60, ends, "{kinds:?}: {frames} frames in ten seconds");
    }
}

/// Everything hostile, several times over, in a ring and in a clique, with every table at its limit.
#[test]
fn no_forgery_starts_a_flood_that_does_not_die_out() {
    let ring: &[(usize, usize)] = &[(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)];
    let clique: &[(usize, usize)] = &[
        (0, 1),
        (0, 2),
        (0, 3),
        (0, 4),
        (1, 2),
        (1, 3),
        (1, 4),
        (2, 3),
        (2, 4),
        (3, 4),
    ];
    for wires in [ring, clique] {
        for classic in [false, true] {
            let mut mesh = Mesh::new();
            mesh.limits.nodes = 40;
            mesh.limits.adverts = 12;
            for name in ["a", "b", "c", "d", "e"] {
                // A classic node next to ours turns every wire of ours to it into a classic one.
                let kind = if classic && name == "c" { Classic } else { Ours };
                add(&mut mesh, kind, name);
            }
            for &(a, b) in wires {
                mesh.connect(a, b);
            }
            let (puppet, first) = admit(&mut mesh, 0, "a");
            mesh.run_secs(5);
            let steady = {
                let before = mesh.frames;
                mesh.run_secs(10);
                keep(&mut mesh, first, puppet, "a", 2);
                mesh.frames - before
            };
            for n in 0..60_u64 {
                let name = format!("ghost{n}");
                let frames = [
                    withdrawal(&name, "svc", n, false),
                    withdrawal(&name, "svc", n + 1, true),
                    withdrawal("b", &format!("s{n}"), n, true),
                    withdrawal("a", "svc", n, n % 2 == 0),
                    update(&name, "mallory", epoch(0), n, &["a", "ghost1"]).emit(),
                    update("b", "mallory", epoch(n), 1 << 33, &["mallory"]).emit(),
                    RoutingUpdate {
                        suspected_duplicate: epoch(0),
                        ..update("d", "mallory", epoch(0) - n - 1, n, &["ghost1"])
                    }
                    .emit(),
                ];
                for frame in frames.iter().cycle().take(21) {
                    mesh.say(first, puppet, frame);
                }
            }
            // Until the last answer to a lie is given: notices are spaced, and a stray service is withdrawn in time.
            for round in 0..10 {
                mesh.run_secs(9);
                keep(&mut mesh, first, puppet, "a", 3 + round);
            }
            let before = mesh.frames;
            mesh.run_secs(10);
            let (after, case) = (
                mesh.frames - before,
                format!("{} wires, classic {classic}", wires.len()),
            );
            // Forged nodes and services that classic neighbours have to be told of again and again are bounded by the limits.
            let told_again = if classic { 200 } else { 0 };
            assert!(
                after <= steady + 20 + told_again,
                "{case}: {after} frames, {steady} before"
            );
            assert!((0..5).all(|node| !mesh.is_gone(node)), "{case}");
            assert!((0..5).all(|node| mesh.reached_by(node).len() >= 4), "{case}");
        }
    }
}

/// `docs/performance.md` has the figures for a thousand nodes.
#[test]
fn steady_traffic_between_nodes_of_ours_does_not_grow_with_the_mesh() {
    let small = steady_traffic(10, false, 60);
    let large = steady_traffic(150, false, 60);
    assert!(large.bytes <= small.bytes * 1.01, "{small:?} {large:?}");
    let (small, large) = (steady_traffic(5, true, 60), steady_traffic(15, true, 60));
    assert!(large.bytes > small.bytes * 2.0, "{small:?} {large:?}");
}
