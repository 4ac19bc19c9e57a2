//! Criterion benches of the core, on one thread and without IO.
//!
//! `cargo bench -p receptor-benches` measures, `… -- --test` only runs each once. Here is what several of them need.

use receptor_core::rng::Rng;

/// The connections of every node of a mesh, each link in both of its ends' lists, all of cost 1 to 3.
pub type Graph = Vec<Vec<(String, f64)>>;

/// The name of a node of [`random_graph`].
pub fn name(node: usize) -> String {
    format!("node-{node:04}.example.org")
}

/// A connected random mesh, the same in every run.
pub fn random_graph(nodes: usize, links: usize) -> Graph {
    let mut rng = Rng::from_seed([7; 32]);
    let mut graph: Graph = vec![Vec::new(); nodes];
    let mut made = 0;
    while made < links {
        // First a tree, then whatever is left at random.
        let a = if made + 1 < nodes {
            made + 1
        } else {
            rng.below(nodes as u64) as usize
        };
        let b = rng.below(if made + 1 < nodes { a } else { nodes } as u64) as usize;
        let (from, to) = (name(a), name(b));
        if a == b || graph[a].iter().any(|(other, _)| *other == to) {
            continue;
        }
        let cost = (1 + rng.below(3)) as f64;
        graph[a].push((to, cost));
        graph[b].push((from, cost));
        made += 1;
    }
    graph
}

/// One node's connections in the form that updates are made of.
pub fn listed(connections: &[(String, f64)]) -> Vec<(&str, f64)> {
    connections.iter().map(|(name, cost)| (name.as_str(), *cost)).collect()
}
