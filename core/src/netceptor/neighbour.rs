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
    /// The peer's run, by its hello.
    pub(super) epoch: u64,
    /// Both ends speak the extended protocol.
    pub(super) extended: bool,
    /// Frames of extended messages are filled up to so many bytes.
    pub(super) fill: usize,
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
    pub(super) fn new(peer: Index, cost: f64, epoch: u64, extended: bool, fill: usize) -> Self {
        Self {
            peer,
            cost,
            epoch,
            extended,
            fill,
            dirty_records: BTreeSet::new(),
            dirty_adverts: BTreeSet::new(),
            mismatches: 0,
            summary_gate: Gate::default(),
        }
    }

    /// Whether a classic peer is to hear what was said in the name of `node`. Of itself only a run later than its own, which
    /// it denies (`wire.md` §12.5); the other is of no use to it.
    pub(super) fn may_hear_of(&self, node: Index, epoch: u64) -> bool {
        self.peer != node || epoch > self.epoch
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty_records.is_empty() || !self.dirty_adverts.is_empty()
    }
}
