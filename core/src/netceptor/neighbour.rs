//! What the router keeps per accepted link.

use alloc::collections::BTreeSet;

use super::Gate;
use super::adverts::Key;
use super::names::Index;

/// One accepted neighbour.
#[derive(Debug)]
pub(super) struct Neighbour {
    pub(super) peer: Index,
    pub(super) cost: f64,
    /// Both ends speak the extended protocol.
    pub(super) extended: bool,
    /// Records that this neighbour may lack. Bounded by the database.
    pub(super) dirty_records: BTreeSet<Index>,
    /// Advertisements that this neighbour may lack. Bounded by the database.
    pub(super) dirty_adverts: BTreeSet<Key>,
    /// Keepalives in a row whose digest was not ours.
    pub(super) mismatches: u32,
    /// When a summary was last sent.
    pub(super) summary_gate: Gate,
}

impl Neighbour {
    pub(super) fn new(peer: Index, cost: f64, extended: bool) -> Self {
        Self {
            peer,
            cost,
            extended,
            dirty_records: BTreeSet::new(),
            dirty_adverts: BTreeSet::new(),
            mismatches: 0,
            summary_gate: Gate::default(),
        }
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty_records.is_empty() || !self.dirty_adverts.is_empty()
    }
}
