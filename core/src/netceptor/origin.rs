//! What this node says about itself: epoch, sequence numbers, connections (`wire.md` §8, §12.2, §12.5).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::database::change_of;
use super::names::{Index, OWN};
use super::{OWN_DELAY, Router, RouterOutput, Severity};
use crate::id::LinkId;
use crate::time::Now;
use crate::wire::classic::{Ext, RoutingUpdate};

/// At most one notice of a duplicate ID in this time; the reference has no limit (`wire.md` §12.5).
const NOTICE_SPACING: Duration = Duration::from_secs(10);

/// The epoch is raised at most once in this time. Whoever makes us raise it more often is alive.
const RAISE_SPACING: Duration = Duration::from_secs(60);

impl Router {
    /// Begins a run. The epoch must be durable, and above all earlier ones of this node.
    pub fn set_epoch(&mut self, now: Now, epoch: u64) {
        self.own.begin(epoch);
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
        if !self.own.has_begun() || update.epoch == self.own.epoch {
            return;
        }
        if update.suspected_duplicate == self.own.epoch {
            self.on_accusation(update.epoch);
        } else if update.epoch > self.own.epoch {
            self.accuse(now, update.epoch);
        }
    }

    /// Somebody under our ID calls us the impostor. A genuine accuser is older than we are: a notice from a younger one is
    /// forged or confused, and not worth dying for. (A forger who knows our epoch can still pretend to be older; nothing
    /// in the protocol tells the two apart.)
    fn on_accusation(&mut self, accuser: u64) {
        let own = self.own.epoch;
        if accuser == 0 || accuser >= own {
            let text = alloc::format!(
                "a notice that calls this node a duplicate is ignored: epoch {accuser} is not older than {own}"
            );
            self.log(Severity::Debug, text);
        } else if !self.duplicate_said {
            self.duplicate_said = true;
            let text =
                alloc::format!("another node runs under our node ID since before us: epoch {accuser}, ours is {own}");
            self.log(Severity::Warning, text);
            self.outputs.push_back(RouterOutput::Duplicate);
        }
    }

    /// Tells the mesh that a younger process uses our ID (rule 2c).
    fn accuse(&mut self, now: Now, epoch: u64) {
        if !self.notice_gate.pass(now.mono, NOTICE_SPACING) {
            return;
        }
        let text = alloc::format!(
            "another node uses our node ID: epoch {epoch}, ours is {}",
            self.own.epoch
        );
        self.log(Severity::Warning, text);
        let frame = self.own_update(epoch).emit();
        let links: Vec<LinkId> = self.neighbours.keys().copied().collect();
        for link in links {
            self.send(link, &frame);
        }
        // Those who believe the notice go back to our numbers, but keep the connections of the other: a record with a higher
        // number has to follow.
        self.connections_changed(now);
    }

    /// One of our nodes hands back a record of this node. The mesh ignores us until we are above it.
    pub(super) fn on_own_record(&mut self, now: Now, from: LinkId, epoch: u64, sequence: u64) {
        if !self.own.has_begun() {
            return;
        }
        if epoch > self.own.epoch {
            // A run of ours before the clock was set back is dead and raises us once; a live duplicate raises itself too.
            if self.raise_gate.pass(now.mono, RAISE_SPACING) {
                let text = alloc::format!(
                    "the mesh knows a later run of this node: epoch {epoch}, ours is {}",
                    self.own.epoch
                );
                self.log(Severity::Info, text);
                self.outputs
                    .push_back(RouterOutput::RaiseEpoch(epoch.saturating_add(1)));
            } else {
                self.accuse(now, epoch);
            }
        } else if epoch == self.own.epoch && change_of(sequence) > change_of(self.own.sequence()) {
            self.own.rise_above(sequence);
            self.store_own(now);
            self.own_due.request(now.mono + OWN_DELAY);
        } else if (epoch, change_of(sequence)) < (self.own.epoch, change_of(self.own.sequence())) {
            self.mark_for(now, from, OWN);
        }
    }
}
