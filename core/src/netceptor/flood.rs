//! Routing updates as classic nodes exchange them (`wire.md` §12), and the writing of what is dirty.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::adverts::Key;
use super::database::{Offer, is_ours};
use super::names::{Index, OWN};
use super::{OWN_DELAY, Router};
use crate::id::LinkId;
use crate::time::Now;
use crate::wire::classic::RoutingUpdate;
use crate::wire::extended::{self, Keepalive, Message, Record};

/// How long a refresh by another border makes an own one needless: a period and a half.
const REFRESHED: Duration = Duration::from_secs(15);

/// Between the first word of a node behind a classic one and the advertisements it is owed (`wire.md` §14).
const ADVERT_DELAY: Duration = Duration::from_secs(5);

/// Records or advertisements written to one link in one flush; the rest waits for the next.
const FLUSH_ITEMS: usize = 2000;

impl Router {
    /// A routing update came over an accepted link and passed the checks of the session (`wire.md` §12.3).
    pub fn on_route(&mut self, now: Now, from: LinkId, update: &RoutingUpdate) {
        if update.node_id.is_empty() {
            return;
        }
        let Some(classic) = self.neighbours.get(&from).map(|n| !n.extended) else {
            return;
        };
        let Some(node) = self.known_node(now, &update.node_id, update.epoch) else {
            return;
        };
        if let Some(ext) = update.ext {
            // Before duplicates are dropped: the copy that came first may have lost its `Ext` on the way.
            self.learn_capabilities(now, node, update.epoch, ext.capabilities);
        }
        if node == OWN {
            self.on_own_update(now, update);
            return;
        }
        if !self.seen.insert(now.mono, &update.update_id) {
            return;
        }
        if update.suspected_duplicate != 0 {
            self.on_notice(now, from, node, update);
            return;
        }
        let connections = self.interned(now, update.connections.iter().flatten());
        let is_new_run = self
            .database
            .record(node)
            .is_none_or(|known| known.epoch < update.epoch);
        let offer = self
            .database
            .offer(&self.names, node, update.epoch, update.sequence, connections);
        match offer {
            Offer::Stale => return,
            Offer::Full => return self.log_edges_full(now),
            Offer::Refresh | Offer::Newer { .. } => {}
        }
        if classic {
            self.database.note_classic(node, now.mono);
        }
        self.forward_update(from, node, update);
        if let Offer::Newer { first, changed } = offer {
            self.on_newer(now, node, first, changed);
            self.mark_extended(now, node, Some(from));
            if is_new_run && classic {
                // It may not have heard of us, nor of those behind us (`wire.md` §12.2), and classic nodes on the way keep
                // their stored advertisements to themselves (`wire.md` §16).
                self.refresh_due.request(now.mono + OWN_DELAY);
                self.adverts_due.request(now.mono + ADVERT_DELAY);
            }
        }
    }

    /// Interns the origin of an update, unless its epoch is beyond belief. That of an update in our own name is for others
    /// to be told about: they may believe it.
    pub(super) fn known_node(&mut self, now: Now, name: &str, epoch: u64) -> Option<Index> {
        if self.is_ahead(now, epoch) && name != self.node_id().as_str() {
            self.log_limited(now.mono, || {
                alloc::format!("routing record of node {name:?} ignored: its epoch {epoch} is more than 24 h ahead")
            });
            return None;
        }
        let node = self.names.intern(name);
        if node.is_none() {
            self.log_full(now.mono);
        }
        node
    }

    pub(super) fn log_edges_full(&mut self, now: Now) {
        self.log_limited(now.mono, || {
            "a routing record is ignored: its connections are too many".into()
        });
    }

    /// Interns neighbours; costs that are not positive and finite are left out (`wire.md` §13).
    pub(super) fn interned<'a>(
        &mut self,
        now: Now,
        named: impl Iterator<Item = (&'a String, &'a f64)>,
    ) -> Vec<(Index, f64)> {
        let mut connections = Vec::new();
        for (name, &cost) in named {
            if !(cost > 0.0 && cost.is_finite()) {
                continue;
            }
            match self.names.intern(name) {
                Some(neighbour) => connections.push((neighbour, cost)),
                None => self.log_full(now.mono),
            }
        }
        connections.sort_unstable_by_key(|c| c.0);
        connections
    }

    /// A node has said what it can do, which may be news to those who send over it.
    pub(super) fn learn_capabilities(&mut self, now: Now, node: Index, epoch: u64, bits: u64) {
        let before = self.database.capabilities(node);
        self.database.merge_capabilities(node, epoch, bits);
        if self.database.capabilities(node) != before {
            self.request_paths(now.mono);
        }
    }

    /// A newer record was stored.
    pub(super) fn on_newer(&mut self, now: Now, node: Index, first: bool, changed: bool) {
        if first {
            self.names.learn(node);
        }
        if changed {
            self.database_changed = now.mono;
            self.request_paths(now.mono);
        }
    }

    /// `node` warns that another process uses its ID (rule 4).
    pub(super) fn on_notice(&mut self, now: Now, from: LinkId, node: Index, update: &RoutingUpdate) {
        if update.epoch >= update.suspected_duplicate {
            // Only an older process warns of a newer one. Believed, it would make the mesh deaf for the node it names.
            return;
        }
        // The same notice may come by classic and by extended links.
        let key = alloc::format!(
            "\0{}\0{}\0{}\0{}",
            update.node_id,
            update.epoch,
            update.sequence,
            update.suspected_duplicate
        );
        if !self.seen.insert(now.mono, &key) {
            return;
        }
        let known = self.database.record(node).map(|r| r.epoch);
        if known == Some(update.suspected_duplicate) {
            self.database
                .roll_back(&self.names, node, update.epoch, update.sequence);
            self.database_changed = now.mono;
        }
        self.forward_update(from, node, update);
        let record = Record {
            node: update.node_id.clone(),
            epoch: update.epoch,
            sequence: update.sequence,
            // The accused looks for witnesses among them.
            connections: positive(update),
            capabilities: 0,
            suspected_duplicate: update.suspected_duplicate,
        };
        let frames = extended::link_state_frames(extended::FRAME_TARGET, [record]);
        for link in self.links(true) {
            if link != from {
                frames.frames.iter().for_each(|frame| self.send(link, frame));
            }
        }
    }

    /// Passes an update on to classic neighbours other than the one it came from (rule 8).
    fn forward_update(&mut self, from: LinkId, node: Index, update: &RoutingUpdate) {
        let links = self.links(false);
        if links.iter().all(|&link| link == from) {
            return;
        }
        let mut update = update.clone();
        update.forwarding_node = self.node_id().as_str().to_owned();
        update.ext = None;
        if let Some(connections) = &mut update.connections {
            // Negative costs make classic nodes loop (`wire.md` §23).
            connections.retain(|_, cost| *cost > 0.0 && cost.is_finite());
        }
        let frame = update.emit();
        for link in links {
            // A notice has to reach the very node that it is about.
            let wanted = update.suspected_duplicate != 0 || self.neighbours[&link].may_hear_of(node, update.epoch);
            if link != from && wanted {
                self.send(link, &frame);
            }
        }
    }

    /// Extended or classic links.
    pub(super) fn links(&self, extended: bool) -> Vec<LinkId> {
        let wanted = self.neighbours.iter().filter(|(_, n)| n.extended == extended);
        wanted.map(|(&link, _)| link).collect()
    }

    /// Every accepted link.
    pub(super) fn all_links(&self) -> Vec<LinkId> {
        self.neighbours.keys().copied().collect()
    }

    /// Marks a record for extended links but one.
    fn mark_extended(&mut self, now: Now, node: Index, except: Option<LinkId>) {
        self.mark(now, except, |n| n.extended && n.dirty_records.insert(node));
    }

    /// Marks a record for one link.
    pub(super) fn mark_for(&mut self, now: Now, link: LinkId, node: Index) {
        if let Some(neighbour) = self.neighbours.get_mut(&link)
            && neighbour.dirty_records.insert(node)
        {
            self.request_flush(now.mono);
        }
    }

    /// Writes what is dirty, link by link.
    pub(super) fn flush(&mut self, now: Now) {
        self.flush_last = Some(now.mono);
        if !self.own.has_begun() {
            // `set_epoch` asks for another.
            return;
        }
        let dirty: Vec<LinkId> = self
            .neighbours
            .iter()
            .filter(|(_, n)| n.is_dirty())
            .map(|(&link, _)| link)
            .collect();
        for link in dirty {
            let Some(neighbour) = self.neighbours.get_mut(&link) else {
                continue;
            };
            let records = take(&mut neighbour.dirty_records, FLUSH_ITEMS);
            let adverts = take(&mut neighbour.dirty_adverts, FLUSH_ITEMS);
            let (extended, more) = (neighbour.extended, neighbour.is_dirty());
            if extended {
                self.write_extended(link, &records, &adverts);
            } else {
                self.write_classic(now, link, &records, &adverts);
            }
            if more {
                self.request_flush(now.mono);
            }
        }
    }

    fn write_extended(&mut self, link: LinkId, records: &BTreeSet<Index>, adverts: &BTreeSet<Key>) {
        let records = records.iter().filter_map(|&node| self.extended_record(node));
        let fill = self.fill(link);
        let mut frames = extended::link_state_frames(fill, records).frames;
        let adverts = adverts.iter().filter_map(|key| Some(&self.adverts.by_key(key)?.advert));
        frames.extend(extended::advert_frames(fill, adverts).frames);
        for frame in frames {
            self.send(link, frame);
        }
    }

    /// How far frames of extended messages are filled on a link.
    pub(super) fn fill(&self, link: LinkId) -> usize {
        self.neighbours.get(&link).map_or(extended::FRAME_TARGET, |n| n.fill)
    }

    fn extended_record(&self, node: Index) -> Option<Record> {
        let record = self.database.record(node)?;
        let capabilities = match node {
            OWN => Some(self.capabilities),
            other => self.database.capabilities(other),
        };
        Some(Record {
            node: self.names.id(node).as_str().into(),
            epoch: record.epoch,
            sequence: record.sequence,
            connections: self.named(&record.connections),
            capabilities: capabilities.unwrap_or(0),
            suspected_duplicate: 0,
        })
    }

    fn write_classic(&mut self, now: Now, link: LinkId, records: &BTreeSet<Index>, adverts: &BTreeSet<Key>) {
        let peer = self.neighbours.get(&link).map_or(OWN, |n| n.peer);
        for &node in records {
            let wanted = (self.database.record(node)).is_some_and(|record| {
                self.neighbours
                    .get(&link)
                    .is_some_and(|n| n.may_hear_of(node, record.epoch))
            });
            if wanted && let Some(update) = self.classic_record(now, node) {
                self.send(link, update.emit());
            }
        }
        for key in adverts {
            if key.0 != peer
                && let Some(entry) = self.adverts.by_key(key)
            {
                let frame = entry.classic().emit();
                self.send(link, frame);
            }
        }
    }

    /// A record as routing update under a fresh update ID.
    fn classic_record(&mut self, now: Now, node: Index) -> Option<RoutingUpdate> {
        if node == OWN {
            return Some(self.own_update(0));
        }
        let record = self.database.record(node)?;
        let (epoch, sequence) = (record.epoch, record.sequence);
        let connections = Some(self.named(&record.connections));
        let update_id = self.update_id();
        self.seen.insert(now.mono, &update_id);
        Some(RoutingUpdate {
            node_id: self.names.id(node).as_str().into(),
            update_id,
            epoch,
            sequence,
            connections,
            forwarding_node: self.node_id().as_str().into(),
            suspected_duplicate: 0,
            ext: None,
        })
    }

    /// Every ten seconds: a keepalive to our nodes; to classic ones the own update and the records of our reachable nodes,
    /// unless another border has just said them (`wire.md` §14, §15).
    pub(super) fn refresh(&mut self, now: Now) {
        if !self.own.has_begun() || self.neighbours.is_empty() {
            return;
        }
        let keepalive = Message::Keepalive(Keepalive {
            digest: self.digest(),
            epoch: self.own.epoch,
            sequence: self.own.sequence(),
        });
        if let Ok(frame) = keepalive.to_frame() {
            for link in self.links(true) {
                self.send(link, &frame);
            }
        }
        let classic = self.links(false);
        if classic.is_empty() {
            return;
        }
        let recently = |node| (self.database.heard_classic(node)).is_some_and(|at| now.mono.since(at) < REFRESHED);
        let ours = self.database.nodes().filter(|&(node, record)| {
            node != OWN && is_ours(record.sequence) && self.forwarding.path(node).is_some() && !recently(node)
        });
        let mut nodes: Vec<Index> = ours.map(|(node, _)| node).collect();
        nodes.insert(0, OWN);
        for node in nodes {
            if node != OWN {
                self.database.refresh(node);
            }
            let Some(frame) = self.classic_record(now, node).map(|update| update.emit()) else {
                continue;
            };
            for &link in &classic {
                if self.neighbours[&link].peer != node {
                    self.send(link, &frame);
                }
            }
        }
    }
}

/// The connections of an update, without costs that nobody may use (`wire.md` §13).
fn positive(update: &RoutingUpdate) -> BTreeMap<String, f64> {
    let all = update.connections.iter().flatten();
    all.filter(|(_, cost)| **cost > 0.0 && cost.is_finite())
        .map(|(name, &cost)| (name.clone(), cost))
        .collect()
}

/// Takes up to `limit` items out.
fn take<T: Ord + Clone>(from: &mut BTreeSet<T>, limit: usize) -> BTreeSet<T> {
    match from.iter().nth(limit).cloned() {
        None => core::mem::take(from),
        Some(first_kept) => {
            let kept = from.split_off(&first_kept);
            core::mem::replace(from, kept)
        }
    }
}
