//! All shortest paths from one node of a mesh of 1,000 nodes and 4,000 links, and the forwarding table made of them.

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use receptor_benches::{Graph, listed, name, random_graph};
use receptor_core::config::Limits;
use receptor_core::deadline::Deadline;
use receptor_core::id::LinkId;
use receptor_core::netceptor::{Router, RouterOutput};
use receptor_core::rng::Rng;
use receptor_core::time;
use receptor_core::wire::classic::RoutingUpdate;
use receptor_sim::relay::{RELAY, clocks, update};

/// A router next to node 0 of a mesh.
struct Rig {
    router: Router,
    now: time::Instant,
    sequence: u64,
}

impl Rig {
    fn new(graph: &Graph) -> Self {
        let now = time::Instant::ZERO;
        let mut router = Router::new(RELAY.into(), 0, Limits::default(), Rng::from_seed([1; 32]), clocks(now));
        router.set_epoch(clocks(now), 1);
        router.link_accepted(
            clocks(now),
            LinkId(0),
            1.0,
            &parsed(&name(0), 1, &[(RELAY, 1.0)]),
            60_000,
        );
        let mut rig = Self {
            router,
            now,
            sequence: 2,
        };
        for node in 0..graph.len() {
            rig.tell(graph, node, 0.0);
        }
        while !rig.router.reachable(&name(graph.len() - 1)) {
            rig.compute();
        }
        rig
    }

    /// News of one node, all its costs `more` than in the graph.
    fn tell(&mut self, graph: &Graph, node: usize, more: f64) {
        let mut connections = listed(&graph[node]);
        connections.iter_mut().for_each(|(_, cost)| *cost += more);
        if node == 0 {
            connections.push((RELAY, 1.0));
        }
        self.sequence += 1;
        let update = parsed(&name(node), self.sequence, &connections);
        self.router.on_route(clocks(self.now), LinkId(0), &update);
    }

    /// Lets time pass until paths are computed; says how long that took.
    fn compute(&mut self) -> Duration {
        loop {
            while let Some(output) = self.router.poll_output() {
                assert!(!matches!(output, RouterOutput::Duplicate));
            }
            let Deadline::At(at, reason) = self.router.next_deadline() else {
                panic!("nothing is due");
            };
            self.now = self.now.max(at);
            let start = Instant::now();
            self.router.handle_timeout(clocks(self.now));
            if reason == "compute paths" {
                return start.elapsed();
            }
        }
    }
}

fn parsed(node: &str, sequence: u64, connections: &[(&str, f64)]) -> RoutingUpdate {
    RoutingUpdate::parse(&update(node, sequence, &name(0), connections)).expect("an update")
}

fn paths(criterion: &mut Criterion) {
    let graph = random_graph(1_000, 4_000);
    let mut rig = Rig::new(&graph);
    let mut turn = 0;
    criterion.bench_function("paths/1000 nodes, 4000 links", |bencher| {
        bencher.iter_custom(|rounds| {
            let one = |_| {
                // A changed cost is what makes the router compute anew: one node's at a time, one way or the other.
                turn += 1;
                rig.tell(&graph, turn % graph.len(), (turn / graph.len() % 2) as f64 + 1.0);
                rig.compute()
            };
            (0..rounds).map(one).sum()
        });
    });
}

criterion_group!(benches, paths);
criterion_main!(benches);
