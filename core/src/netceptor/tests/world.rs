//! Whole meshes: convergence, loss, partition, restart, silence.

use super::*;

fn line(nodes: usize, classic: bool, seed: u8) -> Mesh {
    let mut mesh = Mesh::new(nodes, seed);
    for i in 1..nodes {
        mesh.connect(i - 1, i, classic);
    }
    mesh
}

fn ring(nodes: usize, classic: bool, seed: u8) -> Mesh {
    let mut mesh = line(nodes, classic, seed);
    mesh.connect(nodes - 1, 0, classic);
    mesh
}

/// A tree with random further wires; one in `classic` is classic, 0 for none.
fn random(nodes: usize, wires: usize, classic: u64, seed: u8) -> Mesh {
    let mut mesh = Mesh::new(nodes, seed);
    let mut pairs = BTreeSet::new();
    for i in 1..nodes {
        pairs.insert((mesh.rng.below(i as u64) as usize, i));
    }
    while pairs.len() < wires {
        let (a, b) = (
            mesh.rng.below(nodes as u64) as usize,
            mesh.rng.below(nodes as u64) as usize,
        );
        if a < b {
            pairs.insert((a, b));
        }
    }
    for (a, b) in pairs {
        let is_classic = classic > 0 && mesh.rng.below(classic) == 0;
        mesh.connect(a, b, is_classic);
    }
    mesh
}

#[test]
fn lines_rings_and_random_meshes_converge_to_equal_databases() {
    for classic in [false, true] {
        for mut mesh in [line(6, classic, 1), ring(7, classic, 2)] {
            mesh.run_secs(3);
            assert!(mesh.is_whole());
            mesh.check_routes();
            assert_eq!(mesh.digests().len(), 1);
        }
    }
}

#[test]
fn a_hundred_nodes_started_at_once_have_all_routes_in_a_second_with_few_frames() {
    let mut mesh = random(100, 150, 0, 3);
    mesh.run_secs(1);
    assert!(mesh.is_whole());
    mesh.check_routes();
    assert_eq!(mesh.digests().len(), 1);
    let frames: usize = mesh.counts.values().sum();
    assert!(frames <= 4000, "{:?}", mesh.counts);
}

#[test]
fn classic_and_extended_links_mix() {
    for seed in 4..7 {
        let mut mesh = random(24, 40, 3, seed);
        mesh.routers[0].advertise(now_at(mesh.now), "svc", 1, None, None);
        mesh.run_secs(20);
        assert!(mesh.is_whole(), "seed {seed}");
        mesh.check_routes();
        assert_eq!(mesh.digests().len(), 1, "seed {seed}");
        let wire = mesh.wires.len() - 1;
        mesh.cut(wire);
        mesh.run_secs(2);
        mesh.check_routes();
        mesh.open(wire);
        mesh.run_secs(2);
        assert!(mesh.is_whole(), "seed {seed}");
        assert!((0..24).all(|i| mesh.services_seen_by(i) == ["n0:svc"]));
    }
}

#[test]
fn two_runs_of_a_seed_are_equal() {
    let run = || {
        let mut mesh = random(12, 18, 3, 9);
        mesh.run_secs(30);
        (mesh.sent, mesh.counts.clone(), mesh.digests())
    };
    assert_eq!(run(), run());
}

#[test]
fn an_extended_mesh_at_rest_sends_one_small_keepalive_per_link_and_period() {
    let mut mesh = random(20, 30, 0, 5);
    mesh.routers[3].advertise(now_at(mesh.now), "svc", 1, None, None);
    mesh.run_secs(10);
    (mesh.counts, mesh.largest) = (BTreeMap::new(), 0);
    mesh.run_secs(120);
    assert_eq!(mesh.counts, BTreeMap::from([("keepalive", 30 * 2 * 12)]));
    assert!(mesh.largest <= 40, "{}", mesh.largest);
}

#[test]
fn a_withdrawal_in_a_ring_dies_out() {
    for classic in [false, true] {
        let mut mesh = ring(5, classic, 6);
        mesh.run_secs(3);
        mesh.routers[2].advertise(now_at(mesh.now), "svc", 1, None, None);
        mesh.run_secs(2);
        assert!((0..5).all(|i| mesh.services_seen_by(i) == ["n2:svc"]));
        mesh.routers[2].withdraw(now_at(mesh.now), "svc");
        mesh.counts.clear();
        mesh.run_secs(2);
        assert!((0..5).all(|i| mesh.services_seen_by(i).is_empty()));
        let copies = mesh.counts.get("advert").copied().unwrap_or(0);
        assert!(copies <= 10, "{copies} copies on five links");
        mesh.counts.clear();
        mesh.run_secs(180);
        assert_eq!(mesh.counts.get("advert"), None);
    }
}

#[test]
fn a_partition_heals() {
    for classic in [false, true] {
        let mut mesh = ring(6, classic, 7);
        mesh.run_secs(3);
        mesh.cut(0);
        mesh.cut(3);
        mesh.run_secs(3);
        assert_eq!(mesh.routers[0].reachable_nodes(), 2);
        assert_eq!(mesh.routers[2].reachable_nodes(), 2);
        mesh.routers[0].advertise(now_at(mesh.now), "svc", 1, None, None);
        mesh.run_secs(3);
        assert!(mesh.services_seen_by(2).is_empty());
        mesh.open(0);
        mesh.open(3);
        mesh.run_secs(3);
        assert!(mesh.is_whole());
        mesh.check_routes();
        assert_eq!(mesh.digests().len(), 1);
        assert_eq!(mesh.services_seen_by(2), ["n0:svc"]);
    }
}

#[test]
fn a_withdrawal_missed_in_a_partition_is_learnt_after_it() {
    let mut mesh = line(3, false, 8);
    mesh.routers[0].advertise(now_at(mesh.now), "svc", 1, None, None);
    mesh.run_secs(3);
    assert_eq!(mesh.services_seen_by(2), ["n0:svc"]);
    mesh.cut(1);
    mesh.routers[0].withdraw(now_at(mesh.now), "svc");
    mesh.run_secs(2);
    assert_eq!(mesh.services_seen_by(2), ["n0:svc"]);
    mesh.open(1);
    mesh.run_secs(2);
    assert!(mesh.services_seen_by(2).is_empty());
}

#[test]
fn lost_frames_are_made_good_by_keepalives() {
    let mut mesh = random(15, 22, 0, 9);
    mesh.loss = 3;
    mesh.run_secs(5);
    mesh.loss = 0;
    mesh.run_secs(40);
    assert!(mesh.is_whole());
    assert_eq!(mesh.digests().len(), 1);
}

#[test]
fn a_node_whose_clock_went_back_is_raised_above_its_earlier_run() {
    let mut mesh = line(3, false, 10);
    mesh.run_secs(3);
    mesh.cut(1);
    mesh.run_secs(1);
    let mut restarted = router("n2", 77);
    restarted.set_epoch(now_at(mesh.now), epoch(0) - 5000);
    mesh.routers[2] = restarted;
    mesh.open(1);
    mesh.run_secs(3);
    assert!(mesh.is_whole());
    let raised: Vec<_> = (mesh.events[2].iter())
        .filter(|e| matches!(e, RouterOutput::RaiseEpoch(_)))
        .collect();
    assert_eq!(raised, [&RouterOutput::RaiseEpoch(epoch(0) + 1)]);
    assert_eq!(mesh.routers[2].epoch(), epoch(0) + 1);
    assert_eq!(mesh.digests().len(), 1);
}

#[test]
fn a_relic_of_an_earlier_run_is_withdrawn() {
    let mut mesh = line(3, false, 11);
    mesh.routers[2].advertise(now_at(mesh.now), "old", 1, None, None);
    mesh.routers[2].advertise(now_at(mesh.now), "kept", 1, None, None);
    mesh.run_secs(3);
    mesh.cut(1);
    mesh.run_secs(1);
    let mut restarted = router("n2", 78);
    restarted.set_epoch(now_at(mesh.now), epoch(4));
    restarted.advertise(now_at(mesh.now), "kept", 1, None, None);
    mesh.routers[2] = restarted;
    mesh.open(1);
    mesh.run_secs(3);
    assert_eq!(mesh.services_seen_by(0), ["n2:kept", "n2:old"]);
    mesh.run_secs(10);
    assert_eq!(mesh.services_seen_by(0), ["n2:kept"]);
}

#[test]
fn two_live_nodes_of_one_name_do_not_race_for_ever() {
    let mut mesh = Mesh::new(4, 12);
    mesh.routers[3] = router("n0", 99);
    mesh.routers[3].set_epoch(now_at(mesh.now), epoch(9));
    mesh.connect(0, 1, false);
    mesh.connect(1, 2, false);
    mesh.connect(2, 3, false);
    mesh.run_secs(40);
    let raised = |node: usize| {
        mesh.events[node]
            .iter()
            .filter(|e| matches!(e, RouterOutput::RaiseEpoch(_)))
            .count()
    };
    assert!(raised(0) + raised(3) <= 3, "{} {}", raised(0), raised(3));
    let dead = |node: usize| mesh.events[node].contains(&RouterOutput::Duplicate);
    assert!(dead(0) ^ dead(3), "one of them has to go");
}

#[test]
fn the_older_of_two_nodes_is_reached_again_once_the_newer_has_gone() {
    let mut mesh = line(3, false, 13);
    mesh.run_secs(3);
    let mut newer = router("n0", 98);
    newer.set_epoch(now_at(mesh.now), epoch(9));
    mesh.routers.push(newer);
    mesh.events.push(vec![]);
    let wire = mesh.connect(2, 3, false);
    while !mesh.events[3].contains(&RouterOutput::Duplicate) {
        mesh.run(Duration::from_millis(10));
        assert!(
            mesh.now < Instant::ZERO + Duration::from_secs(10),
            "the newer one does not end"
        );
    }
    mesh.cut(wire);
    mesh.run_secs(2);
    assert!(mesh.routers[1].reachable("n0") && mesh.routers[2].reachable("n0"));
}
