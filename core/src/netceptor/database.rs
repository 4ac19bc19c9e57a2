//! The link-state database: what every node said last about its connections.

use alloc::vec::Vec;

use super::names::{Index, Names, OWN};
use crate::time::Instant;
use crate::wire::extended::Digest;

/// What a node said last about its connections.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Record {
    /// The run of the node.
    pub(super) epoch: u64,
    /// Counts within the run, see [`change_of`].
    pub(super) sequence: u64,
    /// Neighbours and costs, sorted by neighbour.
    pub(super) connections: Vec<(Index, f64)>,
}

impl Record {
    /// The cost of the edge to a neighbour.
    pub(super) fn cost_to(&self, neighbour: Index) -> Option<f64> {
        let at = self.connections.binary_search_by_key(&neighbour, |c| c.0).ok()?;
        Some(self.connections[at].1)
    }
}

/// The part of a sequence number that grows only when the node says something new.
///
/// Our nodes count changes in the high 32 bits, from 1, and refreshes in the low ones. A classic node would need
/// thirteen years of ten updates a second to reach 2^32: below, every number counts as a change.
pub(super) const fn change_of(sequence: u64) -> u64 {
    if is_ours(sequence) {
        sequence >> 32 << 32
    } else {
        sequence
    }
}

/// Edges that all records together may have; 16 MiB. A mesh of 20,000 nodes has fifty per node.
const MAX_EDGES: usize = 1_000_000;

/// Whether a sequence number was made by one of our nodes.
pub(super) const fn is_ours(sequence: u64) -> bool {
    sequence >> 32 != 0
}

/// What a record on offer is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Offer {
    /// Not newer than what is known.
    Stale,
    /// Newer, but there is no room for its connections.
    Full,
    /// Newer by its refresh counter only: of interest to classic nodes.
    Refresh,
    /// Newer, and now in the database.
    Newer {
        /// The node had no record before.
        first: bool,
        /// Its connections are not what they were.
        changed: bool,
    },
}

#[derive(Debug, Default)]
struct Entry {
    record: Option<Record>,
    /// (epoch, bits); no bits if the run said hello as a classic node.
    capabilities: Option<(u64, Option<u64>)>,
    /// When a newer update of this node last came from a classic link.
    heard_classic: Option<Instant>,
}

/// Records and capabilities by node. As large as the table of names, which is bounded.
#[derive(Debug)]
pub(super) struct Database {
    entries: Vec<Entry>,
    digest: Digest,
    edges: usize,
    max_edges: usize,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            digest: Digest::default(),
            edges: 0,
            max_edges: MAX_EDGES,
        }
    }
}

impl Database {
    fn entry(&mut self, node: Index) -> &mut Entry {
        let at = node as usize;
        if self.entries.len() <= at {
            self.entries.resize_with(at + 1, Entry::default);
        }
        &mut self.entries[at]
    }

    pub(super) fn record(&self, node: Index) -> Option<&Record> {
        self.entries.get(node as usize)?.record.as_ref()
    }

    /// All nodes that have a record.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (Index, &Record)> {
        (0..)
            .zip(&self.entries)
            .filter_map(|(i, e)| Some((i, e.record.as_ref()?)))
    }

    /// Of all records. A refresh, which says nothing new, does not change it.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Compares with what is known, by epoch and sequence (`wire.md` §12.3 rule 5).
    pub(super) fn compare(&self, node: Index, epoch: u64, sequence: u64) -> Offer {
        match self.record(node) {
            Some(known) if (epoch, sequence) <= (known.epoch, known.sequence) => Offer::Stale,
            Some(known) if epoch == known.epoch && change_of(sequence) == change_of(known.sequence) => Offer::Refresh,
            known => Offer::Newer {
                first: known.is_none(),
                changed: true,
            },
        }
    }

    /// Takes a record if it is newer. `connections` must be sorted.
    pub(super) fn offer(
        &mut self,
        names: &Names,
        node: Index,
        epoch: u64,
        sequence: u64,
        connections: Vec<(Index, f64)>,
    ) -> Offer {
        match self.compare(node, epoch, sequence) {
            known @ (Offer::Stale | Offer::Full) => known,
            Offer::Refresh => {
                if let Some(record) = &mut self.entry(node).record {
                    record.sequence = sequence;
                }
                Offer::Refresh
            }
            Offer::Newer { first, .. } => {
                let (changed, freed) = (self.record(node)).map_or((true, 0), |known| {
                    (known.connections != connections, known.connections.len())
                });
                if connections.len() > freed && self.edges - freed + connections.len() > self.max_edges {
                    return Offer::Full;
                }
                self.put(names, node, epoch, sequence, connections);
                Offer::Newer { first, changed }
            }
        }
    }

    /// Replaces a record, whatever was there.
    pub(super) fn put(
        &mut self,
        names: &Names,
        node: Index,
        epoch: u64,
        sequence: u64,
        connections: Vec<(Index, f64)>,
    ) {
        let name = names.id(node).as_str();
        if let Some(before) = self.record(node) {
            let (epoch, sequence) = (before.epoch, before.sequence);
            self.edges -= before.connections.len();
            self.digest.toggle_record(name, epoch, sequence);
        }
        self.edges += connections.len();
        self.digest.toggle_record(name, epoch, sequence);
        self.entry(node).record = Some(Record {
            epoch,
            sequence,
            connections,
        });
    }

    /// Goes back to an older run of a node, without a look at its connections (`wire.md` §12.3 rule 4).
    pub(super) fn roll_back(&mut self, names: &Names, node: Index, epoch: u64, sequence: u64) {
        if let Some(record) = self.record(node) {
            let connections = record.connections.clone();
            self.put(names, node, epoch, sequence, connections);
        }
    }

    /// Merges what is known of a run's capabilities. An older run says nothing about a newer one.
    pub(super) fn merge_capabilities(&mut self, node: Index, epoch: u64, bits: u64) {
        let known = &mut self.entry(node).capabilities;
        match known {
            Some((run, _)) if *run > epoch => {}
            Some((run, all)) if *run == epoch => *all = all.map(|all| all | bits),
            _ => *known = Some((epoch, Some(bits))),
        }
    }

    /// The node itself says that it is a classic one, whatever is said of this run and of earlier ones.
    pub(super) fn note_classic_run(&mut self, node: Index, epoch: u64) {
        let known = &mut self.entry(node).capabilities;
        let latest = known.map_or(epoch, |(run, _)| run.max(epoch));
        *known = Some((latest, None));
    }

    /// Capabilities of the present run; `None` if it is not known to be one of our nodes.
    pub(super) fn capabilities(&self, node: Index) -> Option<u64> {
        let entry = self.entries.get(node as usize)?;
        let (epoch, bits) = entry.capabilities?;
        let current = entry.record.as_ref().is_none_or(|r| r.epoch <= epoch);
        bits.filter(|_| current)
    }

    /// Whether a node is known to be one of ours.
    pub(super) fn is_ours(&self, node: Index) -> bool {
        self.record(node).is_some_and(|record| is_ours(record.sequence)) || self.capabilities(node).is_some()
    }

    pub(super) fn note_classic(&mut self, node: Index, now: Instant) {
        self.entry(node).heard_classic = Some(now);
    }

    pub(super) fn heard_classic(&self, node: Index) -> Option<Instant> {
        self.entries.get(node as usize)?.heard_classic
    }

    /// Counts a refresh of another node's record on its behalf and returns the sequence number to say.
    pub(super) fn refresh(&mut self, node: Index) -> Option<u64> {
        let record = self.entry(node).record.as_mut()?;
        if is_ours(record.sequence) && record.sequence as u32 != u32::MAX {
            record.sequence += 1;
        }
        Some(record.sequence)
    }

    /// Whether paths may use the edge from `from` to `to`, and at what cost: both ends must list each other. An edge that
    /// only one end believes in is being made or being lost. (A classic node deletes such edges when the other end's
    /// update comes, `wire.md` §12.3 rule 7; comparing at the time of use cannot be undone by a late update.)
    pub(super) fn edge(&self, from: Index, to: Index) -> Option<f64> {
        let cost = self.record(from)?.cost_to(to)?;
        self.record(to)?.cost_to(from)?;
        Some(cost)
    }

    /// Whether an edge is shown in `status`: unless the other end has spoken and does not know of it.
    pub(super) fn is_shown(&self, from: Index, to: Index) -> bool {
        self.record(to).is_none_or(|record| record.cost_to(from).is_some())
    }
}

/// The own record, of which this node is the only author.
#[derive(Debug, Default)]
pub(super) struct OwnRecord {
    pub(super) epoch: u64,
    change: u32,
    refresh: u32,
}

impl OwnRecord {
    /// Begins a run. Its first record has change 1.
    pub(super) fn begin(&mut self, epoch: u64) {
        *self = Self {
            epoch,
            change: 1,
            refresh: 0,
        };
    }

    /// Nothing may be said before the epoch is known.
    pub(super) fn has_begun(&self) -> bool {
        self.epoch != 0
    }

    /// Something changed: the next sequence number is above all that went before, in its high bits.
    pub(super) fn bump(&mut self) {
        self.change = self.change.saturating_add(1);
        self.refresh = 0;
    }

    /// The sequence number of the record as it stands.
    pub(super) fn sequence(&self) -> u64 {
        u64::from(self.change) << 32 | u64::from(self.refresh)
    }

    /// A fresh number for saying the same once more.
    pub(super) fn next_refresh(&mut self) -> u64 {
        self.refresh = self.refresh.saturating_add(1);
        self.sequence()
    }

    /// Somebody knows a later record of this very run: the next one must be above it.
    pub(super) fn rise_above(&mut self, sequence: u64) {
        self.change = self.change.max((sequence >> 32) as u32);
        self.bump();
    }

    /// Puts the record as it stands into the database.
    pub(super) fn store(&self, names: &Names, database: &mut Database, connections: Vec<(Index, f64)>) {
        database.put(names, OWN, self.epoch, self.sequence(), connections);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn with(nodes: &[&str]) -> (Names, Database) {
        let mut names = Names::new("own".into(), 100, 1);
        for node in nodes {
            names.intern(node);
        }
        (names, Database::default())
    }

    #[test]
    fn older_never_revives_newer() {
        let (names, mut db) = with(&["a", "b"]);
        let newer = |first, changed| Offer::Newer { first, changed };
        assert_eq!(db.offer(&names, 1, 5, 2, vec![(2, 1.0)]), newer(true, true));
        assert_eq!(db.offer(&names, 1, 5, 2, vec![]), Offer::Stale);
        assert_eq!(db.offer(&names, 1, 5, 1, vec![]), Offer::Stale);
        assert_eq!(db.offer(&names, 1, 4, 99, vec![]), Offer::Stale);
        assert_eq!(db.offer(&names, 1, 5, 3, vec![(2, 1.0)]), newer(false, false));
        assert_eq!(
            db.offer(&names, 1, 6, 1, vec![]),
            newer(false, true),
            "a larger epoch is accepted with any sequence"
        );
        assert_eq!(db.record(1).unwrap().connections, vec![]);
    }

    #[test]
    fn low_bits_of_our_sequence_numbers_are_a_refresh() {
        let (names, mut db) = with(&["a"]);
        let mut own = OwnRecord::default();
        own.begin(9);
        assert!(matches!(
            db.offer(&names, 1, 9, own.sequence(), vec![]),
            Offer::Newer { first: true, .. }
        ));
        assert_eq!(db.offer(&names, 1, 9, own.next_refresh(), vec![]), Offer::Refresh);
        own.bump();
        assert!(matches!(
            db.offer(&names, 1, 9, own.sequence(), vec![]),
            Offer::Newer { first: false, .. }
        ));
    }

    #[test]
    fn the_digest_tells_changes_but_neither_order_nor_refreshes() {
        let (names_a, mut a) = with(&["x", "y"]);
        let (names_b, mut b) = with(&["y", "x"]);
        a.offer(&names_a, 1, 5, 2 << 32, vec![(2, 1.0)]);
        a.offer(&names_a, 2, 7, 2 << 32, vec![(1, 1.0)]);
        b.offer(&names_b, 1, 7, 2 << 32, vec![(2, 1.0)]);
        assert_ne!(a.digest(), b.digest());
        b.offer(&names_b, 2, 5, (2 << 32) + 9, vec![(1, 1.0)]);
        assert_eq!(a.digest(), b.digest());
        a.offer(&names_a, 1, 5, 3 << 32, vec![]);
        assert_ne!(a.digest(), b.digest());
        b.offer(&names_b, 2, 5, 3 << 32, vec![]);
        assert_eq!(a.digest(), b.digest());
    }

    #[test]
    fn an_edge_needs_both_ends() {
        let (names, mut db) = with(&["a", "b"]);
        db.offer(&names, 1, 1, 1, vec![(2, 2.5)]);
        assert_eq!(db.edge(1, 2), None);
        assert!(db.is_shown(1, 2));
        db.offer(&names, 2, 1, 1, vec![(1, 4.0)]);
        assert_eq!((db.edge(1, 2), db.edge(2, 1)), (Some(2.5), Some(4.0)));
        db.offer(&names, 2, 1, 2, vec![]);
        assert_eq!(db.edge(1, 2), None);
        assert!(!db.is_shown(1, 2));
    }

    #[test]
    fn edges_have_a_limit_and_give_room_back() {
        let (names, mut db) = with(&["a", "b", "c"]);
        db.max_edges = 3;
        let newer = |db: &mut Database, node, sequence, list: &[Index]| {
            let list = list.iter().map(|&n| (n, 1.0)).collect();
            db.offer(&names, node, 1, sequence, list)
        };
        assert!(matches!(newer(&mut db, 1, 1, &[2, 3]), Offer::Newer { .. }));
        assert_eq!(newer(&mut db, 2, 1, &[1, 3]), Offer::Full);
        assert_eq!(db.record(2), None);
        assert!(matches!(newer(&mut db, 2, 2, &[1]), Offer::Newer { .. }));
        assert_eq!(newer(&mut db, 1, 2, &[2, 3, 1]), Offer::Full, "the older record stays");
        assert_eq!(db.record(1).unwrap().sequence, 1);
        assert!(matches!(newer(&mut db, 1, 3, &[]), Offer::Newer { .. }));
        assert!(matches!(newer(&mut db, 2, 3, &[1, 3, 2]), Offer::Newer { .. }));
        assert_eq!(db.edges, 3);
    }

    #[test]
    fn capabilities_belong_to_a_run() {
        let (names, mut db) = with(&["a"]);
        db.merge_capabilities(1, 5, 1);
        db.merge_capabilities(1, 5, 2);
        db.merge_capabilities(1, 4, 8);
        assert_eq!(db.capabilities(1), Some(3));
        db.offer(&names, 1, 6, 1, vec![]);
        assert_eq!(db.capabilities(1), None, "the new run has not said so");
        db.merge_capabilities(1, 6, 1);
        assert_eq!(db.capabilities(1), Some(1));
        db.note_classic_run(1, 7);
        db.merge_capabilities(1, 6, 1);
        assert_eq!(db.capabilities(1), None, "an advertisement of the earlier run");
    }
}
