//! A routing update through a whole node: parsed, stored, passed on to the other neighbour.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use receptor_benches::{listed, name, random_graph};
use receptor_core::id::LinkId;
use receptor_core::time::Duration;
use receptor_sim::relay::{Relay, update};

const NODES: usize = 1_000;

/// Between two batches, so that each is flushed by itself.
const ROUND: Duration = Duration::from_millis(200);

fn routing(criterion: &mut Criterion) {
    let graph = random_graph(NODES, 4 * NODES);
    let mut group = criterion.benchmark_group("routing update");
    group.throughput(Throughput::Elements(NODES as u64));
    // What every classic node sends every ten seconds, and what a change of the whole mesh brings.
    for (what, changes) in [("repeated", false), ("changed", true)] {
        let mut relay = Relay::new(&["left", "right"]);
        let mut pulled = Vec::new();
        let mut sequence = 0;
        group.bench_function(format!("{what}, of each of {NODES} nodes"), |bencher| {
            bencher.iter_batched(
                || {
                    sequence += 1;
                    let more = if changes { (sequence % 2) as f64 } else { 0.0 };
                    let one = |node: usize| {
                        let mut connections = listed(&graph[node]);
                        connections.iter_mut().for_each(|(_, cost)| *cost += more);
                        update(&name(node), sequence, "left", &connections)
                    };
                    (0..NODES).map(one).collect::<Vec<_>>()
                },
                |frames| {
                    for frame in frames {
                        relay.frame(LinkId(0), frame);
                    }
                    relay.advance(ROUND);
                    for link in [LinkId(0), LinkId(1)] {
                        relay.pull(link, &mut pulled);
                        black_box(&pulled);
                    }
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, routing);
criterion_main!(benches);
