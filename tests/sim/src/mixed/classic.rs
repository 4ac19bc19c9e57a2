//! A model of the classic node: what `wire.md` §11–§16 says of it, its faults included.
//!
//! It decides as the classic node does, over the same messages, so that tests can stage in virtual time what happens to
//! such a node beside ours. Where the classic node would crash, [`ClassicNode::end`] says so.

use std::collections::{BTreeMap, BTreeSet};

use receptor_core::id::{LinkId, NameHash};
use receptor_core::time::{Duration, Instant, Now, Wall};
use receptor_core::wire::classic::{AdvertTime, Advertisement, REJECT, RoutingUpdate};

/// Requests for a flood collapse within this time (`wire.md` §14).
const REQUEST: Duration = Duration::from_millis(100);
const FLOOD_PERIOD: Duration = Duration::from_secs(10);
const ADVERT_PERIOD: Duration = Duration::from_secs(60);
const ADVERT_REQUEST: Duration = Duration::from_secs(5);
const IDLE_SCAN: Duration = Duration::from_secs(5);
const IDLE_LIMIT: Duration = Duration::from_secs(21);
const HELLO: Duration = Duration::from_secs(1);
const MEMORY: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Session {
    cost: f64,
    /// `None` before the first update.
    peer: Option<String>,
    /// The peer has listed us.
    listed: bool,
    hellos: u32,
    hello_due: Option<Instant>,
    last: Instant,
}

/// Why a model does not run any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// It believes that it is the newer of two nodes of its name (`wire.md` §12.5).
    Duplicate,
    /// The classic process would have crashed, over this (`wire.md` §23).
    Crash(&'static str),
}

/// What it wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Send this message.
    Send(LinkId, Vec<u8>),
    /// Close the connection.
    Close(LinkId),
}

/// One classic node.
#[derive(Debug)]
pub struct ClassicNode {
    id: String,
    epoch: u64,
    sequence: u64,
    ids: u64,
    sessions: BTreeMap<LinkId, Session>,
    known: BTreeMap<String, (u64, u64)>,
    /// Update IDs of this minute and of the last. The classic node remembers an hour; no copy is under way for so long here.
    seen: [BTreeSet<u64>; 2],
    seen_turned: Instant,
    graph: BTreeMap<String, BTreeMap<String, f64>>,
    adverts: BTreeMap<(String, String), AdvertTime>,
    services: BTreeSet<String>,
    flood_due: Instant,
    adverts_due: Instant,
    scan_due: Instant,
    wishes: Vec<Wish>,
    end: Option<End>,
}

impl ClassicNode {
    /// Starts now: the epoch is of this second, and `random` stands for its random part.
    pub fn new(id: &str, now: Now, random: u64) -> Self {
        Self {
            id: id.into(),
            epoch: now.wall.as_secs() << 24 | random & 0xff_ffff,
            sequence: 0,
            ids: 0,
            sessions: BTreeMap::new(),
            known: BTreeMap::new(),
            seen: Default::default(),
            seen_turned: now.mono,
            graph: BTreeMap::new(),
            adverts: BTreeMap::new(),
            services: BTreeSet::new(),
            flood_due: now.mono + FLOOD_PERIOD,
            adverts_due: now.mono + ADVERT_PERIOD,
            scan_due: now.mono + IDLE_SCAN,
            wishes: Vec::new(),
            end: None,
        }
    }

    /// Its node ID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Why it has ended, if it has.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// What it wants, in order.
    pub fn wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    /// Accepted neighbours.
    pub fn neighbours(&self) -> BTreeSet<String> {
        self.sessions.values().filter_map(|s| s.peer.clone()).collect()
    }

    /// What it remembers of a node's run.
    pub fn remembers(&self, node: &str) -> Option<(u64, u64)> {
        self.known.get(node).copied()
    }

    /// Whether its graph has this edge.
    pub fn has_edge(&self, from: &str, to: &str) -> bool {
        self.graph.get(from).is_some_and(|row| row.contains_key(to))
    }

    /// Services it knows, as `node:service`.
    pub fn known_services(&self) -> BTreeSet<String> {
        self.adverts
            .keys()
            .map(|(node, service)| format!("{node}:{service}"))
            .collect()
    }

    /// The cost of the best path to every node it can reach (`wire.md` §13).
    pub fn costs(&self) -> BTreeMap<String, f64> {
        let mut best: BTreeMap<&str, f64> = BTreeMap::from([(self.id.as_str(), 0.0)]);
        let mut done = BTreeSet::new();
        loop {
            let open = best.iter().filter(|(node, _)| !done.contains(*node));
            let Some((node, cost)) = open.min_by(|a, b| a.1.total_cmp(b.1)).map(|(n, c)| (*n, *c)) else {
                break;
            };
            done.insert(node);
            for (next, edge) in self.graph.get(node).into_iter().flatten() {
                let known = best.get(next.as_str()).copied().unwrap_or(f64::INFINITY);
                if self.graph.contains_key(next) && cost + edge < known {
                    best.insert(next, cost + edge);
                }
            }
        }
        let others = best.into_iter().filter(|(node, _)| *node != self.id);
        others.map(|(node, cost)| (node.to_owned(), cost)).collect()
    }

    /// Advertises a service.
    pub fn advertise(&mut self, now: Now, service: &str) {
        self.services.insert(service.into());
        self.adverts
            .insert((self.id.clone(), service.into()), AdvertTime::from_wall(now.wall));
        self.adverts_due = self.adverts_due.min(now.mono + ADVERT_REQUEST);
    }

    /// Withdraws one.
    pub fn withdraw(&mut self, now: Now, service: &str) {
        if self.services.remove(service) {
            let key = (self.id.clone(), service.to_owned());
            if self.adverts.remove(&key).is_none() {
                self.end = Some(End::Crash("a service was withdrawn in its name"));
                return;
            }
            let frame = self.advertisement(now.wall, service, true);
            self.broadcast(None, &frame);
        }
    }

    fn advertisement(&self, wall: Wall, service: &str, cancel: bool) -> Vec<u8> {
        Advertisement {
            node_id: self.id.clone(),
            service: service.into(),
            time: AdvertTime::from_wall(wall),
            cancel,
            ..Advertisement::default()
        }
        .emit()
    }

    fn own_update(&mut self, suspected_duplicate: u64) -> RoutingUpdate {
        (self.sequence, self.ids) = (self.sequence + 1, self.ids + 1);
        let accepted = self.sessions.values().filter_map(|s| Some((s.peer.clone()?, s.cost)));
        RoutingUpdate {
            node_id: self.id.clone(),
            update_id: format!("{}/{}/{}", self.id, self.epoch, self.ids),
            epoch: self.epoch,
            sequence: self.sequence,
            connections: Some(accepted.collect()),
            forwarding_node: self.id.clone(),
            suspected_duplicate,
            ext: None,
        }
    }

    fn broadcast(&mut self, except: Option<LinkId>, frame: &[u8]) {
        let accepted = self.sessions.iter().filter(|(_, s)| s.peer.is_some());
        for (&link, _) in accepted {
            if Some(link) != except {
                self.wishes.push(Wish::Send(link, frame.to_vec()));
            }
        }
    }

    fn request_flood(&mut self, now: Instant) {
        self.flood_due = self.flood_due.min(now + REQUEST);
    }

    /// A connection opened (§11).
    pub fn link_up(&mut self, now: Instant, link: LinkId, cost: f64) {
        let session = Session {
            cost,
            peer: None,
            listed: false,
            hellos: 0,
            hello_due: Some(now),
            last: now,
        };
        self.sessions.insert(link, session);
    }

    /// A connection is gone.
    pub fn link_down(&mut self, now: Instant, link: LinkId) {
        if let Some(peer) = self.sessions.remove(&link).and_then(|s| s.peer) {
            self.set_edge(&peer, None);
            self.request_flood(now);
        }
    }

    fn set_edge(&mut self, peer: &str, cost: Option<f64>) {
        let own = self.id.clone();
        for (from, to) in [(own.as_str(), peer), (peer, own.as_str())] {
            let row = self.graph.entry(from.into()).or_default();
            match cost {
                Some(cost) => row.insert(to.into(), cost),
                None => row.remove(to),
            };
        }
    }

    fn close(&mut self, now: Instant, link: LinkId, reject: bool) {
        if reject {
            self.wishes.push(Wish::Send(link, REJECT.to_vec()));
        }
        self.wishes.push(Wish::Close(link));
        self.link_down(now, link);
    }

    /// A message came.
    pub fn frame(&mut self, now: Now, link: LinkId, frame: &[u8]) {
        let Some(&kind) = frame.first() else {
            self.end = Some(End::Crash("an empty message"));
            return;
        };
        let Some(session) = self.sessions.get_mut(&link) else {
            return;
        };
        session.last = now.mono;
        let accepted = session.peer.is_some();
        match kind {
            1 => {
                if let Ok(update) = RoutingUpdate::parse(frame) {
                    self.route(now, link, &update);
                }
            }
            2 if accepted => self.advert(link, frame),
            3 => self.close(now.mono, link, false),
            _ => {}
        }
    }

    fn route(&mut self, now: Now, link: LinkId, update: &RoutingUpdate) {
        let own = self.id.clone();
        let by = &update.forwarding_node;
        let taken = self.sessions.values().any(|s| s.peer.as_ref() == Some(by));
        let Some(session) = self.sessions.get_mut(&link) else {
            return;
        };
        let Some(peer) = session.peer.clone() else {
            if *by == own || taken {
                return self.close(now.mono, link, true);
            }
            (session.peer, session.hello_due) = (Some(by.clone()), None);
            let cost = session.cost;
            self.set_edge(by, Some(cost));
            return self.request_flood(now.mono);
        };
        if *by != peer {
            return self.close(now.mono, link, true);
        }
        if update.node_id == peer {
            match update.connections.iter().flatten().find(|(node, _)| **node == own) {
                None if session.listed => return self.close(now.mono, link, true),
                None => return,
                Some((_, cost)) if *cost != session.cost => return self.close(now.mono, link, true),
                Some(_) => session.listed = true,
            }
        }
        self.gossip(now, link, update);
    }

    /// §12.3.
    fn gossip(&mut self, now: Now, link: LinkId, update: &RoutingUpdate) {
        let node = &update.node_id;
        if node.is_empty() {
            return;
        }
        if *node == self.id {
            if update.epoch == self.epoch {
                return;
            }
            if update.suspected_duplicate == self.epoch {
                self.end = Some(End::Duplicate);
            } else if update.epoch > self.epoch {
                let notice = self.own_update(update.epoch).emit();
                self.broadcast(None, &notice);
            }
            return;
        }
        if !self.is_first(now.mono, &update.update_id) {
            return;
        }
        let told = (update.epoch, update.sequence);
        let known = self.known.get(node).copied();
        if update.suspected_duplicate != 0 {
            if known.is_some_and(|(epoch, _)| epoch == update.suspected_duplicate) {
                self.known.insert(node.clone(), told);
            }
        } else {
            if known.is_some_and(|known| told <= known) {
                return;
            }
            if known.is_none() {
                self.request_flood(now.mono);
            }
            self.known.insert(node.clone(), told);
            self.replace_row(node, update.connections.clone().unwrap_or_default());
        }
        let passed_on = RoutingUpdate {
            forwarding_node: self.id.clone(),
            ext: None,
            ..update.clone()
        };
        self.broadcast(Some(link), &passed_on.emit());
    }

    fn is_first(&mut self, now: Instant, update_id: &str) -> bool {
        if now.since(self.seen_turned) > MEMORY {
            self.seen_turned = now;
            self.seen.swap(0, 1);
            self.seen[0].clear();
        }
        let hash = NameHash::of(update_id).0;
        !self.seen[1].contains(&hash) && self.seen[0].insert(hash)
    }

    fn replace_row(&mut self, node: &str, connections: BTreeMap<String, f64>) {
        if self.graph.get(node) == Some(&connections) {
            return;
        }
        for (other, row) in &mut self.graph {
            if *other != self.id && !connections.contains_key(other) {
                row.remove(node);
            }
        }
        self.graph.insert(node.into(), connections);
    }

    /// §16: no trace is left of what was withdrawn.
    fn advert(&mut self, link: LinkId, frame: &[u8]) {
        let body = String::from_utf8_lossy(&frame[1..]).to_lowercase();
        let keys = ["nodeid", "service", "time", "conntype", "tags", "workcommands"];
        if !keys.iter().any(|key| body.contains(&format!("\"{key}\""))) {
            self.end = Some(End::Crash("an advertisement without its main keys"));
            return;
        }
        let Ok(advert) = Advertisement::parse(frame) else {
            return;
        };
        let key = (advert.node_id, advert.service);
        if self.adverts.get(&key).is_some_and(|known| advert.time <= *known) {
            return;
        }
        if advert.cancel {
            self.adverts.remove(&key);
        } else {
            self.adverts.insert(key, advert.time);
        }
        self.broadcast(Some(link), frame);
    }

    /// When to call [`ClassicNode::handle_timeout`].
    pub fn next_deadline(&self) -> Instant {
        let hellos = self.sessions.values().filter_map(|s| s.hello_due);
        let timers = [self.flood_due, self.adverts_due, self.scan_due];
        hellos.chain(timers).min().unwrap_or(self.scan_due)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        let links: Vec<LinkId> = self.sessions.keys().copied().collect();
        for link in &links {
            let Some(session) = self.sessions.get_mut(link) else {
                continue;
            };
            if session.hello_due.is_some_and(|due| due <= now.mono) {
                session.hellos += 1;
                session.hello_due = Some(now.mono + HELLO);
                if session.hellos > 10 {
                    self.close(now.mono, *link, false);
                } else {
                    let hello = self.own_update(0).emit();
                    self.wishes.push(Wish::Send(*link, hello));
                }
            }
        }
        if self.scan_due <= now.mono {
            self.scan_due = now.mono + IDLE_SCAN;
            for link in links {
                let idle =
                    (self.sessions.get(&link)).is_some_and(|s| s.peer.is_some() && now.mono.since(s.last) > IDLE_LIMIT);
                if idle {
                    self.close(now.mono, link, false);
                }
            }
        }
        if self.flood_due <= now.mono {
            self.flood_due = now.mono + FLOOD_PERIOD;
            if self.sessions.values().any(|s| s.peer.is_some()) {
                let update = self.own_update(0).emit();
                self.broadcast(None, &update);
            }
        }
        if self.adverts_due <= now.mono {
            self.adverts_due = now.mono + ADVERT_PERIOD;
            for service in self.services.clone() {
                let frame = self.advertisement(now.wall, &service, false);
                self.broadcast(None, &frame);
            }
        }
    }
}
