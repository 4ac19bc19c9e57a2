//! Shortest paths (`wire.md` §13).

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::database::Database;
use super::names::{Index, OWN};
use crate::id::LinkId;
use crate::wire::classic::Ext;

/// A neighbour that packets can be handed to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct FirstHop {
    pub(super) peer: Index,
    pub(super) link: LinkId,
    pub(super) cost: f64,
}

/// How to reach one node.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Path {
    pub(super) next: Index,
    pub(super) link: LinkId,
    /// Every node on it is one of ours.
    pub(super) is_ours: bool,
    /// A node on it has links of datagrams.
    pub(super) is_small: bool,
}

/// Dijkstra's algorithm over the database, with buffers that are used again.
///
/// Among paths of equal cost the one whose first hop stands first in the list of neighbours wins, so the result does not
/// depend on the order in which records came and does not flap.
#[derive(Debug, Default)]
pub(super) struct Paths {
    best: Vec<Best>,
    heap: BinaryHeap<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Best {
    cost: f64,
    /// Which of the first hops; `u32::MAX` if none.
    hop: u32,
    done: bool,
    is_ours: bool,
    is_small: bool,
}

const NOWHERE: Best = Best {
    cost: f64::INFINITY,
    hop: u32::MAX,
    done: false,
    is_ours: false,
    is_small: false,
};

#[derive(Clone, Copy, Debug)]
struct Candidate {
    cost: f64,
    hop: u32,
    node: Index,
}

impl Candidate {
    fn key(&self, other: &Self) -> Ordering {
        // Costs are positive and finite, so the total order is the usual one.
        (self.cost.total_cmp(&other.cost))
            .then(self.hop.cmp(&other.hop))
            .then(self.node.cmp(&other.node))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.key(other).is_eq()
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    /// The heap gives its greatest element first: the cheapest candidate.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key(self)
    }
}

impl Paths {
    /// Computes the paths from here over `hops`, whose order breaks ties, to nodes below `nodes`, and writes them to `out`
    /// by node.
    pub(super) fn compute(
        &mut self,
        database: &Database,
        hops: &[FirstHop],
        nodes: usize,
        out: &mut Vec<Option<Path>>,
    ) {
        self.best.clear();
        self.best.resize(nodes, NOWHERE);
        self.heap.clear();
        for (hop, first) in (0..).zip(hops) {
            self.reach(first.peer, first.cost, hop, (true, false));
        }
        while let Some(Candidate { cost, hop, node }) = self.heap.pop() {
            let best = &mut self.best[node as usize];
            if best.done {
                continue;
            }
            best.done = true;
            best.is_ours &= database.is_ours(node);
            best.is_small |= database
                .capabilities(node)
                .is_some_and(|bits| bits & Ext::DATAGRAMS != 0);
            let kind = (best.is_ours, best.is_small);
            let Some(record) = database.record(node) else {
                continue;
            };
            for &(neighbour, edge) in &record.connections {
                let open = neighbour != OWN && self.best.get(neighbour as usize).is_some_and(|b| !b.done);
                // The other end is asked last: it costs a search.
                if open && database.edge(node, neighbour).is_some() {
                    self.reach(neighbour, cost + edge, hop, kind);
                }
            }
        }
        out.clear();
        out.extend(self.best.iter().map(|best| {
            let first = hops.get(best.hop as usize)?;
            Some(Path {
                next: first.peer,
                link: first.link,
                is_ours: best.is_ours,
                is_small: best.is_small,
            })
        }));
    }

    /// A way to `node` is known; with it whether all nodes before it are ours, and whether one has links of datagrams.
    fn reach(&mut self, node: Index, cost: f64, hop: u32, kind: (bool, bool)) {
        let Some(best) = self.best.get_mut(node as usize) else {
            return;
        };
        if node != OWN && (cost, hop) < (best.cost, best.hop) {
            (best.cost, best.hop) = (cost, hop);
            (best.is_ours, best.is_small) = kind;
            self.heap.push(Candidate { cost, hop, node });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::Names;
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec;

    /// Nodes 1..=n; `edges` are two-way.
    fn graph(nodes: usize, edges: &[(Index, Index, f64)]) -> Database {
        let mut names = Names::new("0".into(), nodes + 1, 1);
        for node in 1..=nodes {
            names.intern(&alloc::format!("{node}"));
        }
        let mut rows: BTreeMap<Index, BTreeMap<Index, f64>> = BTreeMap::new();
        for &(a, b, cost) in edges {
            rows.entry(a).or_default().insert(b, cost);
            rows.entry(b).or_default().insert(a, cost);
        }
        let mut database = Database::default();
        for (node, row) in rows {
            database.offer(&names, node, 1, 1, row.into_iter().collect());
        }
        database
    }

    fn hop(peer: Index, cost: f64) -> FirstHop {
        FirstHop {
            peer,
            link: LinkId(u64::from(peer)),
            cost,
        }
    }

    fn next(database: &Database, hops: &[FirstHop], nodes: usize) -> Vec<Option<Index>> {
        let mut out = vec![];
        Paths::default().compute(database, hops, nodes, &mut out);
        out.into_iter().map(|p| p.map(|p| p.next)).collect()
    }

    #[test]
    fn the_cheaper_way_wins_even_if_longer() {
        let db = graph(3, &[(1, 2, 1.0), (2, 3, 1.0), (0, 1, 1.0), (0, 3, 5.0)]);
        let hops = [hop(1, 1.0), hop(3, 5.0)];
        assert_eq!(next(&db, &hops, 4), [None, Some(1), Some(1), Some(1)]);
    }

    #[test]
    fn ties_go_to_the_first_neighbour() {
        let db = graph(3, &[(1, 3, 1.0), (2, 3, 1.0)]);
        assert_eq!(next(&db, &[hop(1, 1.0), hop(2, 1.0)], 4)[3], Some(1));
        assert_eq!(next(&db, &[hop(2, 1.0), hop(1, 1.0)], 4)[3], Some(2));
    }

    #[test]
    fn a_path_is_ours_if_all_its_nodes_are() {
        let mut db = graph(3, &[(1, 2, 1.0), (2, 3, 1.0)]);
        let names = {
            let mut names = Names::new("0".into(), 4, 1);
            for node in 1..=3 {
                names.intern(&alloc::format!("{node}"));
            }
            names
        };
        let ours = |db: &Database| {
            let mut out = vec![];
            Paths::default().compute(db, &[hop(1, 1.0)], 4, &mut out);
            out[3].unwrap().is_ours
        };
        for node in [1, 3] {
            let connections = db.record(node).unwrap().connections.clone();
            db.offer(&names, node, 2, 1 << 32, connections);
        }
        assert!(!ours(&db), "the middle one is not");
        db.merge_capabilities(2, 1, 0);
        assert!(ours(&db));
    }

    #[test]
    fn a_path_is_small_behind_a_node_with_datagrams() {
        let mut db = graph(3, &[(1, 2, 1.0), (2, 3, 1.0)]);
        let small = |db: &Database| {
            let mut out = vec![];
            Paths::default().compute(db, &[hop(1, 1.0)], 4, &mut out);
            [1, 2, 3].map(|node: usize| out[node].unwrap().is_small)
        };
        assert_eq!(small(&db), [false; 3]);
        db.merge_capabilities(2, 1, Ext::DATAGRAMS | Ext::STREAMS);
        assert_eq!(small(&db), [false, true, true]);
    }

    #[test]
    fn a_node_without_a_row_is_reached_only_as_a_neighbour() {
        let names = Names::new("0".into(), 9, 1);
        let mut db = Database::default();
        let mut names = names;
        for n in ["1", "2"] {
            names.intern(n);
        }
        db.offer(&names, 1, 1, 1, vec![(2, 1.0)]);
        assert_eq!(next(&db, &[hop(1, 1.0)], 3), [None, Some(1), None]);
        assert_eq!(next(&db, &[hop(1, 1.0), hop(2, 9.0)], 3), [None, Some(1), Some(2)]);
    }

    #[test]
    fn paths_agree_with_relaxation_until_nothing_changes() {
        let mut rng = crate::rng::Rng::from_seed([3; 32]);
        for _ in 0..20 {
            let nodes = 40;
            let mut edges: Vec<(Index, Index, f64)> = vec![];
            for _ in 0..70 {
                let (a, b) = (rng.below(nodes) as Index, rng.below(nodes) as Index);
                if a != b && !edges.iter().any(|e| (e.0, e.1) == (a, b) || (e.1, e.0) == (a, b)) {
                    edges.push((a, b, (1 + rng.below(8)) as f64));
                }
            }
            let db = graph(nodes as usize, &edges);
            let hops: Vec<_> = edges
                .iter()
                .filter_map(|&(a, b, cost)| match (a, b) {
                    (OWN, peer) | (peer, OWN) => Some(hop(peer, cost)),
                    _ => None,
                })
                .collect();
            let mut cost = vec![f64::INFINITY; nodes as usize];
            cost[0] = 0.0;
            for _ in 0..nodes {
                for &(a, b, c) in &edges {
                    cost[b as usize] = cost[b as usize].min(cost[a as usize] + c);
                    cost[a as usize] = cost[a as usize].min(cost[b as usize] + c);
                }
            }
            let mut paths = Paths::default();
            let mut out = vec![];
            paths.compute(&db, &hops, nodes as usize, &mut out);
            for node in 1..nodes as usize {
                assert_eq!(out[node].is_some(), cost[node].is_finite());
                if out[node].is_some() {
                    assert_eq!(paths.best[node].cost, cost[node]);
                }
            }
        }
    }
}
