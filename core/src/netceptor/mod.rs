//! The mesh as one node sees it: who is connected to whom, where a frame goes next, which services exist.
//!
//! [`Router`] is told about accepted neighbours ([`Router::link_accepted`], [`Router::link_lost`]) and what arrives from
//! them, and says what to send. It knows nothing of connections below links, nor of streams above datagrams.
//!
//! # Flooding
//! There is one database of routing records and one of advertisements. What changes in them is marked *dirty* for every
//! link but the one the news came from, and written at the next flush: at once if the mesh was quiet, else at most every
//! [`FLUSH_SPACING`]. Between our nodes that is all: neighbours compare digests of their databases every
//! [`REFRESH_PERIOD`] and reconcile what differs. Classic neighbours are served as `wire.md` §12 and §16 say: others'
//! updates are passed on as they come, own updates and the records of our other nodes are repeated every
//! [`REFRESH_PERIOD`], advertisements every [`ADVERT_PERIOD`].

mod adverts;
mod database;
mod dispatch;
mod duplicate;
mod exchange;
mod firewall;
mod flood;
mod forward;
mod names;
mod neighbour;
mod origin;
mod paths;
mod ports;
mod probe;
mod seen;
mod services;
mod views;

#[cfg(test)]
mod tests;

pub use dispatch::{DataVerdict, DropReason, SendError};
pub use forward::Route;
pub use ports::Owner;
pub use probe::{ProbeToken, TraceHop};
pub use views::AdvertView;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::config::Limits;
use crate::deadline::Deadline;
use crate::id::{LinkId, NameHash, NodeId, PortId, ServiceName};
use crate::rng::Rng;
use crate::sabotage::{self, Bug};
use crate::time::{Instant, Now};
use crate::wire::classic::{Ext, RoutingUpdate};
use crate::wire::data::Header;
use adverts::Adverts;
use database::{Database, OwnRecord};
use firewall::Firewall;
use forward::Forwarding;
use names::{Names, OWN};
use neighbour::Neighbour;
use paths::{FirstHop, Path, Paths};
use ports::Ports;
use probe::Probes;
use seen::Seen;
use services::OwnService;

/// Between a change of the own links and the own update, so that several collapse into one (`wire.md` §14).
const OWN_DELAY: Duration = Duration::from_millis(100);

/// Least time between two computations of paths. A change after a quiet time is taken up after [`PATHS_DELAY`].
const PATHS_SPACING: Duration = Duration::from_millis(100);

/// Lets the changes of one flush arrive before paths are computed.
const PATHS_DELAY: Duration = Duration::from_millis(5);

/// Least time between two flushes of dirty records.
pub const FLUSH_SPACING: Duration = Duration::from_millis(50);

/// Keepalives to our nodes, repeated updates to classic ones (`wire.md` §14).
pub const REFRESH_PERIOD: Duration = Duration::from_secs(10);

/// Repeated advertisements to classic nodes (`wire.md` §14).
pub const ADVERT_PERIOD: Duration = Duration::from_secs(60);

/// Epochs and advertisement times further ahead of the wall clock are ignored.
const MAX_AHEAD: Duration = Duration::from_secs(24 * 3600);

/// Between two log lines about things any peer can cause at will.
const LOG_SPACING: Duration = Duration::from_secs(1);

/// Which of a link's queues a frame belongs in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Routing and advertisements.
    Control,
    /// Data messages.
    Data,
}

/// How loud a line of the log is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Somebody should look.
    Warning,
    /// Changes of state an operator follows.
    Info,
    /// Everything else.
    Debug,
}

/// What a router wants.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum RouterOutput {
    /// Send a frame over a link.
    Send(LinkId, Class, BytesMut),
    /// A message made on this node itself is for a port or a stream service of this node.
    Local {
        /// Who gets it.
        owner: Owner,
        /// Its header.
        header: Header,
        /// Its payload.
        payload: Bytes,
    },
    /// A message of a local service could not be delivered (`wire.md` §18). The payload of such notices is trusted.
    Unreachable {
        /// The local service.
        service: ServiceName,
        /// Who owns it; `None` if the router does not know the name.
        owner: Option<Owner>,
        /// Who says so.
        from: NodeId,
        /// The node it was meant for.
        to_node: String,
        /// The service it was meant for.
        to_service: String,
        /// Why, in the words of `wire.md` §18.
        problem: String,
    },
    /// A ping has ended.
    PingDone {
        /// As given.
        token: ProbeToken,
        /// Who answered, and how: as [`TraceHop`].
        result: TraceHop,
    },
    /// A traceroute has ended.
    TracerouteDone {
        /// As given.
        token: ProbeToken,
        /// One entry per hop value, from 0. Only the last can have an error.
        hops: Vec<TraceHop>,
    },
    /// The neighbour at the other end of a link has answered [`Router::link_probe`].
    LinkAnswered(LinkId),
    /// The set of reachable nodes or a next hop changed.
    RoutesChanged,
    /// The mesh remembers a later run of this node than the present one: store this epoch, then call
    /// [`Router::set_epoch`]. Until then the mesh ignores what this node says.
    RaiseEpoch(u64),
    /// An older process runs under our node ID: this node must end (`wire.md` §12.5). Said once.
    Duplicate,
    /// A peer closes its link on purpose; the connection will end.
    PeerCloses {
        /// The link.
        link: LinkId,
        /// The peer's words.
        reason: String,
    },
    /// A line for the log.
    Log(Severity, String),
}

/// Lets something happen at most once per interval.
#[derive(Debug, Default)]
struct Gate(Option<Instant>);

impl Gate {
    /// When it lets something happen again; `None` if it never did.
    fn opens(&self, every: Duration) -> Option<Instant> {
        Some(self.0? + every)
    }

    fn pass(&mut self, now: Instant, every: Duration) -> bool {
        let open = self.0.is_none_or(|last| now.since(last) >= every);
        if open {
            self.0 = Some(now);
        }
        open
    }
}

/// A time at which something is to be done; requests make it earlier, never later (`wire.md` §14).
#[derive(Debug, Default)]
struct Due(Option<Instant>);

impl Due {
    fn request(&mut self, at: Instant) {
        self.0 = Some(self.0.map_or(at, |due| due.min(at)));
    }

    fn take(&mut self, now: Instant) -> bool {
        self.0.take_if(|due| *due <= now).is_some()
    }
}

/// The router of one node.
///
/// Outputs may be left undrained between inputs. `now` never goes back.
#[derive(Debug)]
pub struct Router {
    limits: Limits,
    capabilities: u64,
    rng: Rng,
    names: Names,
    database: Database,
    own: OwnRecord,
    own_services: BTreeMap<Arc<str>, OwnService>,
    adverts: Adverts,
    seen: Seen,
    neighbours: BTreeMap<LinkId, Neighbour>,
    forwarding: Forwarding,
    firewall: Firewall,
    paths: Paths,
    new_paths: Vec<Option<Path>>,
    ports: Ports,
    probes: Probes,
    outputs: VecDeque<RouterOutput>,
    own_due: Due,
    paths_due: Due,
    paths_last: Option<Instant>,
    flush_due: Due,
    flush_last: Option<Instant>,
    refresh_due: Due,
    adverts_due: Due,
    strays_due: Due,
    /// Services that others think we have, and the time of their advertisement; bounded by [`services::MAX_STRAYS`].
    strays: BTreeMap<Arc<str>, i128>,
    database_changed: Instant,
    log_gate: Gate,
    firewall_gate: Gate,
    notice_gate: Gate,
    notice_due: Due,
    impostors: BTreeSet<u64>,
    raise_gate: Gate,
    raise_due: Due,
    accusation: Option<duplicate::Accusation>,
    later_run: Option<duplicate::LaterRun>,
    later_run_due: Due,
    doubt_gate: Gate,
    duplicate_said: bool,
    had_link: bool,
}

impl Router {
    /// A router without neighbours. `capabilities` are the bits this node tells its own kind about itself. Nothing is
    /// said before [`Router::set_epoch`].
    pub fn new(node_id: NodeId, capabilities: u64, limits: Limits, mut rng: Rng, now: Now) -> Self {
        let seed = rng.next_u64();
        let own_hash = node_id.hash();
        let phase = |rng: &mut Rng, period: Duration| {
            let nanos = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
            Due(Some(now.mono + Duration::from_nanos(rng.below(nanos))))
        };
        let refresh_due = phase(&mut rng, REFRESH_PERIOD);
        let adverts_due = phase(&mut rng, ADVERT_PERIOD);
        Self {
            capabilities,
            names: Names::new(node_id, limits.nodes, seed),
            database: Database::default(),
            own: OwnRecord::default(),
            own_services: BTreeMap::new(),
            adverts: Adverts::new(limits.adverts),
            seen: Seen::new(now.mono, seed),
            neighbours: BTreeMap::new(),
            forwarding: Forwarding::new(own_hash, seed),
            firewall: Firewall::new(seed),
            paths: Paths::default(),
            new_paths: Vec::new(),
            ports: Ports::new(limits.streams.saturating_add(limits.sessions)),
            probes: Probes::new(limits.sessions),
            outputs: VecDeque::new(),
            own_due: Due::default(),
            paths_due: Due::default(),
            paths_last: None,
            flush_due: Due::default(),
            flush_last: None,
            refresh_due,
            adverts_due,
            strays_due: Due::default(),
            strays: BTreeMap::new(),
            database_changed: now.mono,
            log_gate: Gate::default(),
            firewall_gate: Gate::default(),
            notice_gate: Gate::default(),
            notice_due: Due::default(),
            impostors: BTreeSet::new(),
            raise_gate: Gate::default(),
            raise_due: Due::default(),
            accusation: None,
            later_run: None,
            later_run_due: Due::default(),
            doubt_gate: Gate::default(),
            duplicate_said: false,
            had_link: false,
            limits,
            rng,
        }
    }

    /// The own node ID.
    pub fn node_id(&self) -> &NodeId {
        self.names.id(OWN)
    }

    /// The link to `peer` is up at both ends' consent, at `cost` (`wire.md` §12.4). `hello` is the update that introduced
    /// the peer; it is not otherwise processed. The link is extended if the hello has `Ext`. `false` if there is no room for
    /// the name of the peer: the link is of no use then. Frames of extended messages are filled up to `fill` bytes on this link.
    pub fn link_accepted(&mut self, now: Now, link: LinkId, cost: f64, hello: &RoutingUpdate, fill: usize) -> bool {
        let Some(peer) = self.names.intern(&hello.forwarding_node) else {
            self.log_full(now.mono);
            return false;
        };
        self.names.learn(peer);
        let extended = hello.ext.is_some();
        if hello.node_id == hello.forwarding_node && !self.is_ahead(now, hello.epoch) {
            match hello.ext {
                Some(ext) => (self.database).merge_capabilities(peer, hello.epoch, ext.capabilities),
                None => self.database.note_classic_run(peer, hello.epoch),
            }
        }
        self.neighbours
            .insert(link, Neighbour::new(peer, cost, hello.epoch, extended, fill));
        self.had_link = true;
        self.connections_changed(now);
        // The peer counts itself as accepted once it sees itself listed (`wire.md` §11).
        let frame = self.hello(now);
        self.send(link, frame);
        if extended {
            // Whatever else the peer lacks it asks for.
            self.mark_for(now, link, OWN);
            self.send_summary(now.mono, link);
        } else {
            self.mark_all(now, link);
        }
        true
    }

    /// A link is gone. Harmless if it was never accepted.
    pub fn link_lost(&mut self, now: Now, link: LinkId) {
        if self.neighbours.remove(&link).is_none() {
            return;
        }
        if self.forwarding.forget_link(&self.names, now.wall, link) {
            self.outputs.push_back(RouterOutput::RoutesChanged);
        }
        self.connections_changed(now);
    }

    /// What to do next, if anything.
    pub fn poll_output(&mut self) -> Option<RouterOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Router::handle_timeout`].
    pub fn next_deadline(&self) -> Deadline {
        if !self.outputs.is_empty() {
            return Deadline::Now;
        }
        [
            (self.flush_due.0, "flood changes"),
            (self.paths_due.0, "compute paths"),
            (self.own_due.0, "own routing update"),
            (self.refresh_due.0, "keepalives and repeated updates"),
            (self.adverts_due.0, "repeated advertisements"),
            (self.strays_due.0, "stray advertisements"),
            (self.notice_due.0, "notice of a duplicate node ID"),
            (self.raise_due.0, "new epoch"),
            (self.later_run_due.0, "later run of this node"),
            (self.probes.next_deadline(), "ping timeout"),
        ]
        .into_iter()
        .fold(Deadline::Idle, |earliest, (due, reason)| {
            earliest.min(Deadline::at(due, reason))
        })
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.own_due.take(now.mono) {
            self.mark_record(now, OWN, None);
        }
        if self.refresh_due.take(now.mono) {
            self.refresh_due.request(now.mono + REFRESH_PERIOD);
            self.refresh(now);
        }
        if self.adverts_due.take(now.mono) {
            self.adverts_due.request(now.mono + ADVERT_PERIOD);
            self.refresh_adverts(now);
        }
        if self.strays_due.take(now.mono) {
            self.withdraw_strays(now);
        }
        if self.notice_due.take(now.mono) {
            self.send_notices(now);
        }
        if self.later_run_due.take(now.mono) {
            self.judge_later_run(now);
        }
        if self.raise_due.take(now.mono) {
            self.raise_epoch(now, self.own.epoch);
        }
        if self.flush_due.take(now.mono) {
            self.flush(now);
        }
        if self.paths_due.take(now.mono) {
            self.compute_paths(now);
        }
        self.expire_probes(now);
    }

    fn send(&mut self, link: LinkId, frame: impl AsRef<[u8]>) {
        let frame = BytesMut::from(frame.as_ref());
        self.outputs.push_back(RouterOutput::Send(link, Class::Control, frame));
    }

    fn log(&mut self, severity: Severity, text: String) {
        self.outputs.push_back(RouterOutput::Log(severity, text));
    }

    /// For lines that peers can provoke as often as they like.
    fn log_limited(&mut self, now: Instant, text: impl FnOnce() -> String) {
        if self.log_gate.pass(now, LOG_SPACING) {
            self.log(Severity::Warning, text());
        }
    }

    fn log_full(&mut self, now: Instant) {
        let limit = self.limits.nodes;
        self.log_limited(now, || {
            alloc::format!(
                "a new node is ignored: {limit} names are known, the limit, or its name has more than {} bytes",
                names::MAX_NAME
            )
        });
    }

    /// Whether an epoch lies too far in the future to be believed (seconds in the high 40 bits, `wire.md` §8).
    fn is_ahead(&self, now: Now, epoch: u64) -> bool {
        epoch >> 24 > now.wall.as_secs().saturating_add(MAX_AHEAD.as_secs())
    }

    fn request_paths(&mut self, now: Instant) {
        let spaced = self.paths_last.map_or(now, |last| last + PATHS_SPACING);
        self.paths_due.request(spaced.max(now + PATHS_DELAY));
    }

    fn request_flush(&mut self, now: Instant) {
        let spaced = self.flush_last.map_or(now, |last| last + FLUSH_SPACING);
        self.flush_due.request(spaced.max(now));
    }

    fn compute_paths(&mut self, now: Now) {
        if sabotage::is(Bug::KeepsOldPaths) && now.mono > Instant::from_millis(5000) {
            return;
        }
        self.paths_last = Some(now.mono);
        let mut hops: Vec<FirstHop> = (self.neighbours.iter())
            .map(|(&link, neighbour)| FirstHop {
                peer: neighbour.peer,
                link,
                cost: neighbour.cost,
            })
            .collect();
        // By name, so that ties are broken alike in every run.
        hops.sort_unstable_by(|a, b| {
            self.names
                .id(a.peer)
                .cmp(self.names.id(b.peer))
                .then(a.link.cmp(&b.link))
        });
        let mut paths = core::mem::take(&mut self.new_paths);
        self.paths.compute(&self.database, &hops, self.names.len(), &mut paths);
        if self.forwarding.replace(&self.names, now.wall, &mut paths) {
            self.outputs.push_back(RouterOutput::RoutesChanged);
        }
        self.new_paths = paths;
        self.judge(now);
    }

    /// Marks a record for all links but one.
    fn mark_record(&mut self, now: Now, node: names::Index, except: Option<LinkId>) {
        self.mark(now, except, |neighbour| neighbour.dirty_records.insert(node));
    }

    /// Marks an advertisement for all links but one.
    fn mark_advert(&mut self, now: Now, key: &adverts::Key, except: Option<LinkId>) {
        self.mark(now, except, |neighbour| neighbour.dirty_adverts.insert(key.clone()));
    }

    fn mark(&mut self, now: Now, except: Option<LinkId>, mut put: impl FnMut(&mut Neighbour) -> bool) {
        let mut any = false;
        for (&link, neighbour) in &mut self.neighbours {
            if Some(link) != except {
                any |= put(neighbour);
            }
        }
        if any {
            self.request_flush(now.mono);
        }
    }

    /// Marks everything known for one link: what a new classic neighbour needs.
    fn mark_all(&mut self, now: Now, link: LinkId) {
        let records: BTreeSet<_> = self.database.nodes().map(|(node, _)| node).collect();
        let adverts: BTreeSet<_> = self.adverts.live().map(|(key, _)| key.clone()).collect();
        if let Some(neighbour) = self.neighbours.get_mut(&link) {
            neighbour.dirty_records = records;
            neighbour.dirty_adverts = adverts;
            self.request_flush(now.mono);
        }
    }

    /// A data message's end of the name table: the node that `hash` stands for.
    pub fn name_of(&self, hash: NameHash) -> Option<&NodeId> {
        Some(self.names.id(self.names.by_hash(hash)?))
    }

    /// The hash to send to for a node's name; `localhost` in any case is this node (`wire.md` §5).
    pub fn resolve(&self, name: &str) -> NameHash {
        if NodeId::is_localhost(name) {
            return self.names.hash(OWN);
        }
        match self.names.find(name) {
            Some(index) => self.names.hash(index),
            None => NameHash::of(name),
        }
    }

    /// Where data for `destination` goes.
    #[inline]
    pub fn route(&self, destination: NameHash) -> Route {
        self.forwarding.route(destination)
    }

    /// Whether every node on the way to a destination, itself included, is one of ours, which relay frames of every legal
    /// size. Cheap: known since paths were computed.
    pub fn relays_large_frames(&self, destination: NameHash) -> bool {
        let index = self.names.by_hash(destination);
        index.is_some_and(|node| node == OWN || self.forwarding.path(node).is_some_and(|path| path.is_ours))
    }

    /// Whether a node on the way to a destination, itself included, has links of datagrams. As cheap.
    pub fn passes_datagrams(&self, destination: NameHash) -> bool {
        let path = self
            .names
            .by_hash(destination)
            .and_then(|node| self.forwarding.path(node));
        path.is_some_and(|path| path.is_small)
    }

    /// This node can do more than before.
    pub fn add_capabilities(&mut self, now: Now, bits: u64) {
        if self.capabilities & bits != bits {
            self.capabilities |= bits;
            self.own_due.request(now.mono);
        }
    }

    /// Whether a node can be reached; the own one always.
    pub fn reachable(&self, name: &str) -> bool {
        self.route(self.resolve(name)) != Route::None
    }

    /// What a node said of its capabilities in its present run; `None` if it is classic or has not been heard.
    pub fn capabilities(&self, name: &str) -> Option<u64> {
        if NodeId::is_localhost(name) {
            return Some(self.capabilities);
        }
        match self.names.find(name)? {
            OWN => Some(self.capabilities),
            index => self.database.capabilities(index),
        }
    }

    /// Whether a node's control service grants work sessions ([`Ext::WORK_SESSIONS`]); `None` if that is not known. A classic node
    /// is known by its advertisement.
    pub fn grants_work_sessions(&self, name: &str) -> Option<bool> {
        if let Some(bits) = self.capabilities(name) {
            return Some(bits & Ext::WORK_SESSIONS != 0);
        }
        let advert = self.adverts.get(self.names.find(name)?, "control")?;
        advert.advert.ext.is_none().then_some(false)
    }

    /// Takes a service name for a datagram port or for streams; an empty one is chosen at random (`wire.md` §20).
    ///
    /// # Errors
    /// The classic text: the name is too long, reserved or in use.
    pub fn open_service(&mut self, name: &str, owner: Owner) -> Result<ServiceName, String> {
        self.ports.open(name, owner, &mut self.rng)
    }

    /// Gives a service name back, and withdraws its advertisement if it has one.
    pub fn close_service(&mut self, now: Now, service: ServiceName) -> Option<Owner> {
        let owner = self.ports.close(service)?;
        self.withdraw(now, &String::from_utf8_lossy(service.as_bytes()));
        Some(owner)
    }

    /// Takes a name for a datagram port, see [`Router::open_service`].
    ///
    /// # Errors
    /// As there.
    pub fn open_port(&mut self, name: &str, port: PortId) -> Result<ServiceName, String> {
        self.open_service(name, Owner::Port(port))
    }
}
