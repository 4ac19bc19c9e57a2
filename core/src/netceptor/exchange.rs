//! Control messages between our own nodes: records, advertisements, and their reconciliation.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::adverts::{AdvertOffer, Key};
use super::database::{Offer, change_of};
use super::names::OWN;
use super::{Router, RouterOutput};
use crate::id::LinkId;
use crate::sabotage::{self, Bug};
use crate::time::{Instant, Now};
use crate::wire::classic::{Advertisement, RoutingUpdate};
use crate::wire::extended::{
    self, AdvertSummary, Keepalive, Message, NodeSummary, Record, Request, Summary, request_frames, summary_frames,
};

/// At most one summary per link in this time.
const SUMMARY_SPACING: Duration = Duration::from_secs(5);

/// Mismatches in a row between two summaries in the long run.
const RARELY: u32 = 32;

/// Digests of a database that has just changed may differ only because news is on its way.
const SETTLED: Duration = Duration::from_secs(1);

impl Router {
    /// A frame of extended messages came over an accepted extended link.
    pub fn on_extended(&mut self, now: Now, from: LinkId, frame: &[u8]) {
        if !self.neighbours.get(&from).is_some_and(|n| n.extended) {
            return;
        }
        for message in extended::messages(frame) {
            match message {
                Ok(Message::Keepalive(keepalive)) => self.on_keepalive(now, from, keepalive),
                Ok(Message::LinkState(state)) => state.records.into_iter().for_each(|r| self.on_record(now, from, r)),
                Ok(Message::Adverts(list)) => {
                    (list.adverts.into_iter()).for_each(|advert| self.on_extended_advert(now, from, advert));
                }
                Ok(Message::Summary(summary)) => self.on_summary(now, from, &summary),
                Ok(Message::Request(request)) => self.on_request(now, from, &request),
                Ok(Message::Close(close)) => self.outputs.push_back(RouterOutput::PeerCloses {
                    link: from,
                    reason: alloc::format!("{}: {}", close.code, close.reason),
                }),
                Ok(_) => {}
                Err(error) => self.log_limited(now.mono, || alloc::format!("extended message ignored: {error}")),
            }
        }
    }

    /// Of records and live advertisements together.
    pub(super) fn digest(&self) -> u64 {
        self.database.digest().0 ^ self.adverts.digest().0
    }

    fn on_keepalive(&mut self, now: Now, from: LinkId, keepalive: Keepalive) {
        let equal = keepalive.digest == self.digest() || sabotage::is(Bug::IgnoresDigests);
        let settled = now.mono.since(self.database_changed) >= SETTLED;
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        if equal {
            neighbour.mismatches = 0;
            return;
        }
        neighbour.mismatches = neighbour.mismatches.saturating_add(1);
        // Where two nodes cannot agree, because one has reached a limit, say, they try ever more rarely.
        let count = neighbour.mismatches;
        let due = count.is_power_of_two() || count % RARELY == 0;
        if due && (settled || count > 1) {
            self.send_summary(now.mono, from);
        }
    }

    pub(super) fn send_summary(&mut self, now: Instant, link: LinkId) {
        let Some(neighbour) = self.neighbours.get_mut(&link) else {
            return;
        };
        if !neighbour.summary_gate.pass(now, SUMMARY_SPACING) {
            return;
        }
        let fill = neighbour.fill;
        let nodes = self.database.nodes().map(|(node, record)| NodeSummary {
            node: self.names.id(node).as_str().into(),
            epoch: record.epoch,
            sequence: record.sequence,
        });
        let adverts = self.adverts.iter().map(|(key, entry)| AdvertSummary {
            node: self.names.id(key.0).as_str().into(),
            service: key.1.as_ref().into(),
            time: entry.advert.time.nanos(),
        });
        let frames = summary_frames(fill, nodes, adverts);
        for frame in frames.frames {
            self.send(link, frame);
        }
    }

    /// Requests what is newer there, hands back what is newer here, and lets the other end do the same for the rest.
    fn on_summary(&mut self, now: Now, from: LinkId, summary: &Summary) {
        let mut nodes: Vec<String> = Vec::new();
        for entry in &summary.nodes {
            let theirs = (entry.epoch, change_of(entry.sequence));
            let index = self.names.find(&entry.node);
            let ours = index.and_then(|i| Some((i, self.database.record(i)?)));
            match ours.map(|(i, r)| (i, (r.epoch, change_of(r.sequence)))) {
                Some((i, ours)) if ours > theirs => self.mark_for(now, from, i),
                Some((_, ours)) if ours == theirs => {}
                _ => nodes.push(entry.node.clone()),
            }
        }
        let mut adverts: Vec<(String, String)> = Vec::new();
        for entry in &summary.adverts {
            let index = self.names.find(&entry.node);
            let ours = index.and_then(|i| Some((i, self.adverts.get(i, &entry.service)?.advert.time.nanos())));
            match ours {
                Some((i, time)) if time > entry.time => {
                    self.mark_advert_for(now, from, (i, entry.service.as_str().into()));
                }
                Some((_, time)) if time == entry.time => {}
                _ => adverts.push((entry.node.clone(), entry.service.clone())),
            }
        }
        for frame in request_frames(self.fill(from), nodes, adverts).frames {
            self.send(from, frame);
        }
        if !summary.more {
            self.send_summary(now.mono, from);
        }
    }

    fn on_request(&mut self, now: Now, from: LinkId, request: &Request) {
        for node in &request.nodes {
            if let Some(index) = self.names.find(node) {
                self.mark_for(now, from, index);
            }
        }
        for (node, service) in &request.adverts {
            if let Some(index) = self.names.find(node) {
                self.mark_advert_for(now, from, (index, service.as_str().into()));
            }
        }
    }

    fn on_record(&mut self, now: Now, from: LinkId, record: Record) {
        if record.node.is_empty() {
            return;
        }
        let Some(node) = self.known_node(now, &record.node, record.epoch) else {
            return;
        };
        if record.suspected_duplicate != 0 {
            self.on_extended_notice(now, from, node, record);
            return;
        }
        if record.capabilities != 0 {
            self.learn_capabilities(now, node, record.epoch, record.capabilities);
        }
        if node == OWN {
            self.on_own_record(now, from, &record);
            return;
        }
        let theirs = (record.epoch, change_of(record.sequence));
        if let Some(known) = self.database.record(node) {
            let ours = (known.epoch, change_of(known.sequence));
            if ours > theirs {
                self.mark_for(now, from, node);
                return;
            }
            if ours == theirs {
                // No need to tell it what it has just told.
                if let Some(neighbour) = self.neighbours.get_mut(&from) {
                    neighbour.dirty_records.remove(&node);
                }
                return;
            }
        }
        let connections = self.interned(now, record.connections.iter());
        let offer = self
            .database
            .offer(&self.names, node, record.epoch, record.sequence, connections);
        if let Offer::Newer { first, changed } = offer {
            self.on_newer(now, node, first, changed);
            if let Some(neighbour) = self.neighbours.get_mut(&from) {
                neighbour.dirty_records.remove(&node);
            }
            self.mark_record(now, node, Some(from));
        } else if offer == Offer::Full {
            self.log_edges_full(now);
        }
    }

    fn on_extended_notice(&mut self, now: Now, from: LinkId, node: u32, record: Record) {
        let update = RoutingUpdate {
            node_id: record.node,
            update_id: self.update_id(),
            epoch: record.epoch,
            sequence: record.sequence,
            connections: Some(record.connections),
            forwarding_node: String::new(),
            suspected_duplicate: record.suspected_duplicate,
            ext: None,
        };
        if node == OWN {
            self.on_own_update(now, &update);
        } else {
            self.on_notice(now, from, node, &update);
        }
    }

    fn on_extended_advert(&mut self, now: Now, from: LinkId, advert: Advertisement) {
        let Some(node) = self.acceptable(now, &advert) else {
            return;
        };
        let key: Key = (node, advert.service.as_str().into());
        if node == OWN {
            self.on_own_advert(now, &key, &advert);
            return;
        }
        let theirs = advert.time.nanos();
        match self.adverts.offer(&self.names, node, advert) {
            AdvertOffer::News => {
                self.database_changed = now.mono;
                self.forget_advert_for(from, &key);
                self.mark_advert(now, &key, Some(from));
            }
            AdvertOffer::Stale => {
                let ours = self.adverts.by_key(&key).map(|e| e.advert.time.nanos());
                if ours.is_some_and(|ours| ours > theirs) {
                    self.mark_advert_for(now, from, key);
                } else {
                    self.forget_advert_for(from, &key);
                }
            }
            AdvertOffer::Full => self.log_adverts_full(now.mono),
            AdvertOffer::Refresh => {}
        }
    }

    pub(super) fn log_adverts_full(&mut self, now: Instant) {
        let limit = self.limits.adverts.to_string();
        self.log_limited(now, || {
            alloc::format!(
                "a new service advertisement is ignored: {limit} are known, the limit, or their text is too long"
            )
        });
    }

    fn forget_advert_for(&mut self, link: LinkId, key: &Key) {
        if let Some(neighbour) = self.neighbours.get_mut(&link) {
            neighbour.dirty_adverts.remove(key);
        }
    }

    pub(super) fn mark_advert_for(&mut self, now: Now, link: LinkId, key: Key) {
        if let Some(neighbour) = self.neighbours.get_mut(&link)
            && neighbour.dirty_adverts.insert(key)
        {
            self.request_flush(now.mono);
        }
    }
}
