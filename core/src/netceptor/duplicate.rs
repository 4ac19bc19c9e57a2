//! Another process under our node ID that is older than we are, or somebody who says so (`wire.md` §12.5).
//!
//! A node that is told to be the impostor ends. Nobody signs such notices, and every node of the mesh sees what it takes to
//! write one, so a notice alone is not worth dying for. It counts once the mesh itself bears witness: the accuser names a
//! neighbour that is none of ours, that we can reach, and that says of itself to be connected to a node of our name. Where
//! the duplicate is real, its every neighbour is such a witness, since no node has two links to one name; a forger has to
//! keep up a whole neighbourhood.
//!
//! The same test tells the record of a live process of our name, which is denied, from that of a run of ours before the
//! clock was set back, which is dead: nobody is connected to it, and we rise above it.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::names::{Index, OWN};
use super::origin::RAISE_SPACING;
use super::{Router, RouterOutput, Severity};
use crate::time::{Instant, Now};
use crate::wire::classic::RoutingUpdate;

/// How long a notice waits for a witness. A classic accuser repeats it with every own update it hears of us: every 10 s.
const WAITS: Duration = Duration::from_secs(60);

/// Between two lines of the log about notices that nobody bears out.
const DOUBT_SPACING: Duration = Duration::from_secs(10);

/// Between hearing of a later run of ours and judging it: its neighbours may be about to speak.
const HESITATION: Duration = Duration::from_secs(1);

/// A later run of ours that the mesh knows.
#[derive(Debug)]
pub(super) struct LaterRun {
    epoch: u64,
    /// As in [`Accusation`].
    witnesses: Vec<Index>,
}

/// What an older process of our name said.
#[derive(Debug)]
pub(super) struct Accusation {
    accuser: u64,
    /// Whom it says to be connected to; none of our own neighbours. Bounded by the length of a frame.
    witnesses: Vec<Index>,
    until: Instant,
}

impl Router {
    /// Somebody under our ID, with an older epoch, calls us the impostor (rule 2b).
    pub(super) fn on_accusation(&mut self, now: Now, update: &RoutingUpdate) {
        if self.duplicate_said || update.epoch == 0 {
            return;
        }
        self.accusation = Some(Accusation {
            accuser: update.epoch,
            witnesses: self.possible_witnesses(update.connections.iter().flatten().map(|(name, _)| name)),
            until: now.mono + WAITS,
        });
        if self.judge(now) {
            return;
        }
        if self.doubt_gate.pass(now.mono, DOUBT_SPACING) {
            let text = alloc::format!(
                "a notice calls this node a duplicate of one with epoch {}; it is not believed, since no node that can be reached \
                 is seen to be connected to that one",
                update.epoch
            );
            self.log(Severity::Warning, text);
            // Those who believed it hold an older run of ours for the true one, until we speak.
            self.connections_changed(now);
        }
    }

    /// Looks for a witness of the accusation. Called again when paths have changed. Returns whether there was one.
    pub(super) fn judge(&mut self, now: Now) -> bool {
        let Some(accusation) = &self.accusation else {
            return false;
        };
        if now.mono >= accusation.until {
            self.accusation = None;
            return false;
        }
        let Some(witness) = self.witness(&accusation.witnesses) else {
            return false;
        };
        let text = alloc::format!(
            "another node runs under our node ID since before us: epoch {}, ours is {}; {} is connected to it",
            accusation.accuser,
            self.own.epoch,
            self.names.id(witness)
        );
        self.accusation = None;
        self.duplicate_said = true;
        self.log(Severity::Warning, text);
        self.outputs.push_back(RouterOutput::Duplicate);
        true
    }

    /// Names that are not known cannot be witnesses: those have a record.
    fn possible_witnesses<'a>(&self, names: impl Iterator<Item = &'a String>) -> Vec<Index> {
        names
            .filter_map(|name| self.names.find(name))
            .filter(|&node| node != OWN)
            .collect()
    }

    /// One of these that is connected to a node of our name which we are not.
    fn witness(&self, named: &[Index]) -> Option<Index> {
        let bears_witness = |node: &Index| {
            let lists_us = (self.database.record(*node)).is_some_and(|record| record.cost_to(OWN).is_some());
            lists_us && self.forwarding.path(*node).is_some() && self.neighbours.values().all(|n| n.peer != *node)
        };
        named.iter().copied().find(bears_witness)
    }

    /// One of our nodes hands back the record of a later run of this node. The mesh ignores us until we are above it, or it
    /// is denied.
    pub(super) fn on_later_run(&mut self, now: Now, epoch: u64, connections: &BTreeMap<String, f64>) {
        if self.later_run.as_ref().is_none_or(|known| known.epoch < epoch) {
            let witnesses = self.possible_witnesses(connections.keys());
            self.later_run = Some(LaterRun { epoch, witnesses });
        }
        self.later_run_due.request(now.mono + HESITATION);
    }

    /// Rises above a run of ours from before the clock was set back, once; denies the run of anybody else.
    pub(super) fn judge_later_run(&mut self, now: Now) {
        let Some(LaterRun { epoch, witnesses }) = self.later_run.take() else {
            return;
        };
        if epoch <= self.own.epoch {
            return;
        }
        let may_raise = (self.raise_gate.opens(RAISE_SPACING)).is_none_or(|opens| opens <= now.mono);
        if may_raise && !self.is_ahead(now, epoch) && self.witness(&witnesses).is_none() {
            self.raise_epoch(now, epoch);
        } else {
            self.accuse(now, epoch);
        }
    }
}
