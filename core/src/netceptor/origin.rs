//! What this node says about itself: epoch, sequence numbers, connections (`wire.md` §8, §12.2, §12.5).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::time::Duration;

use super::database::change_of;
use super::names::{Index, OWN};
use super::{Due, OWN_DELAY, Router, RouterOutput, Severity};
use crate::id::LinkId;
use crate::time::Now;
use crate::wire::classic::{Ext, RoutingUpdate};
use crate::wire::extended::Record;

/// At most one notice of a duplicate ID in this time; the reference has no limit (`wire.md` §12.5).
const NOTICE_SPACING: Duration = Duration::from_secs(10);

/// The epoch is raised at most once in this time. Whoever makes us raise it more often is alive.
pub(super) const RAISE_SPACING: Duration = Duration::from_secs(60);

/// Impostors waiting to be named in a notice. More at one time are a forgery, and the mesh believes only the newest anyway.
const MAX_IMPOSTORS: usize = 8;

/// Changes that one run of this node may count; half of what there is room for. Ten a second would take seven years.
const CHANGES_OF_A_RUN: u64 = 1 << 31;

impl Router {
    /// Begins a run. The epoch must be durable, and above all earlier ones of this node.
    pub fn set_epoch(&mut self, now: Now, epoch: u64) {
        self.own.begin(epoch);
        self.raise_due = Due::default();
        self.accusation = None;
        self.store_own(now);
        self.publish_all(now);
        self.own_due.request(now.mono + OWN_DELAY);
    }

    /// The epoch of this run; 0 before it has begun.
    pub fn epoch(&self) -> u64 {
        self.own.epoch
    }

    /// A routing update for one session that has just opened, or has not answered yet (`wire.md` §11).
    pub fn hello(&mut self, _now: Now) -> Vec<u8> {
        self.own_update(0).emit()
    }

    /// Says what the own record says, under a fresh update ID and sequence number.
    pub(super) fn own_update(&mut self, suspected_duplicate: u64) -> RoutingUpdate {
        RoutingUpdate {
            node_id: self.node_id().as_str().into(),
            update_id: self.update_id(),
            epoch: self.own.epoch,
            sequence: self.own.next_refresh(),
            connections: Some(self.named(&self.own_connections())),
            forwarding_node: self.node_id().as_str().into(),
            suspected_duplicate,
            ext: Some(Ext::new(self.capabilities)),
        }
    }

    pub(super) fn update_id(&mut self) -> String {
        String::from_utf8_lossy(&self.rng.name8()).into_owned()
    }

    pub(super) fn own_connections(&self) -> Vec<(Index, f64)> {
        let by_peer: BTreeMap<Index, f64> = self.neighbours.values().map(|n| (n.peer, n.cost)).collect();
        by_peer.into_iter().collect()
    }

    pub(super) fn named(&self, connections: &[(Index, f64)]) -> BTreeMap<String, f64> {
        (connections.iter())
            .map(|&(node, cost)| (self.names.id(node).as_str().into(), cost))
            .collect()
    }

    /// A link came or went. The record changes at once, so that a sequence number always means one and the same list; the
    /// mesh hears of it a little later.
    pub(super) fn connections_changed(&mut self, now: Now) {
        self.own.bump();
        self.store_own(now);
        self.own_due.request(now.mono + OWN_DELAY);
        self.request_paths(now.mono);
    }

    fn store_own(&mut self, now: Now) {
        if self.own.has_begun() {
            let connections = self.own_connections();
            self.own.store(&self.names, &mut self.database, connections);
            self.database_changed = now.mono;
        }
    }

    /// A classic update that names this node as its origin (`wire.md` §12.3 rule 2).
    pub(super) fn on_own_update(&mut self, now: Now, update: &RoutingUpdate) {
        if !self.own.has_begun() {
            return;
        }
        match update.epoch.cmp(&self.own.epoch) {
            Ordering::Greater => self.accuse(now, update.epoch),
            // Mostly an echo. We never say a higher change than our own, but those who believe that we did hear us no more.
            Ordering::Equal if change_of(update.sequence) > change_of(self.own.sequence()) => {
                self.rise_above(now, update.sequence);
            }
            Ordering::Equal => {}
            Ordering::Less if update.suspected_duplicate == self.own.epoch => self.on_accusation(now, update),
            Ordering::Less => {}
        }
    }

    /// Tells the mesh that a younger process uses our ID (rule 2c), at once or when the last notice is old enough.
    pub(super) fn accuse(&mut self, now: Now, epoch: u64) {
        self.impostors.insert(epoch);
        if self.impostors.len() > MAX_IMPOSTORS {
            // The mesh believes the newest.
            self.impostors.pop_first();
        }
        match self.notice_gate.opens(NOTICE_SPACING) {
            Some(opens) if opens > now.mono => self.notice_due.request(opens),
            _ => self.send_notices(now),
        }
    }

    /// Says who the impostors are.
    pub(super) fn send_notices(&mut self, now: Now) {
        self.notice_gate.pass(now.mono, Duration::ZERO);
        for epoch in core::mem::take(&mut self.impostors) {
            if epoch <= self.own.epoch {
                continue;
            }
            let text = alloc::format!(
                "another node uses our node ID: epoch {epoch}, ours is {}",
                self.own.epoch
            );
            self.log(Severity::Warning, text);
            let frame = self.own_update(epoch).emit();
            for link in self.all_links() {
                self.send(link, &frame);
            }
        }
        // Those who believe the notice go back to our numbers, but keep the connections of the other: a record with a higher
        // number has to follow.
        self.connections_changed(now);
    }

    /// The mesh knows a later change of this very run than we do: somebody lied, or one of ours is confused. The next record
    /// must be above it; where that would use the numbers up, a new run begins.
    fn rise_above(&mut self, now: Now, sequence: u64) {
        if sequence >> 32 < CHANGES_OF_A_RUN {
            self.own.rise_above(sequence);
            self.store_own(now);
            self.own_due.request(now.mono + OWN_DELAY);
            return;
        }
        match self.raise_gate.opens(RAISE_SPACING) {
            Some(opens) if opens > now.mono => self.raise_due.request(opens),
            _ => self.raise_epoch(now, self.own.epoch),
        }
    }

    /// Asks for an epoch above `epoch`.
    pub(super) fn raise_epoch(&mut self, now: Now, epoch: u64) {
        self.raise_gate.pass(now.mono, Duration::ZERO);
        let text = alloc::format!(
            "the mesh knows a later run of this node: epoch {epoch}, ours is {}",
            self.own.epoch
        );
        self.log(Severity::Info, text);
        let above = epoch.max(self.own.epoch).saturating_add(1);
        self.outputs.push_back(RouterOutput::RaiseEpoch(above));
    }

    /// One of our nodes hands back a record of this node. The mesh ignores us until we are above it.
    pub(super) fn on_own_record(&mut self, now: Now, from: LinkId, record: &Record) {
        if !self.own.has_begun() {
            return;
        }
        let (epoch, sequence) = (record.epoch, record.sequence);
        if epoch > self.own.epoch {
            self.on_later_run(now, epoch, &record.connections);
        } else if epoch == self.own.epoch && change_of(sequence) > change_of(self.own.sequence()) {
            self.rise_above(now, sequence);
        } else if (epoch, change_of(sequence)) < (self.own.epoch, change_of(self.own.sequence())) {
            self.mark_for(now, from, OWN);
        }
    }
}
