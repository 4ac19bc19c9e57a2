//! The network part of a node: backends, links and router composed, without streams, control service and units.
//!
//! Usable alone by a program that wants a mesh of datagrams inside its own event loop; a [`Node`](super::Node) is one of
//! these with more on top.

mod backends;
mod carry_out;
mod contest;
mod links;
mod neighbours;
mod reload;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use self::backends::Backends;
pub use self::links::LinkStats;
use self::links::Links;
pub(in crate::node) use self::reload::{BackendChanges, Listening};
use super::io::{Event, Level, LinkOutput};
use super::{ConfigError, check_node};
use crate::complaints::Complaints;
use crate::config::{Config, HttpProxy, ListenerTransport, PeerTransport, ProxySettings};
use crate::deadline::Deadline;
use crate::error::CallerError;
use crate::firewall::Rules;
use crate::id::{BackendId, LinkId, NameHash, NodeId, PortId, ServiceName};
use crate::link::framing::MAX_FRAME;
use crate::link::transport::datagram::{FITTING_FRAME, MAX_DATAGRAM};
use crate::link::{Priority, Refusal};
use crate::netceptor::{DataVerdict, ProbeToken, Route, Router, SendError, TraceHop};
use crate::rng::Rng;
use crate::time::Now;
use crate::wire::classic::{Ext, WorkCommand};
use crate::wire::data::{HEADER_LEN, Header, MAX_HOPS, MAX_PAYLOAD};

/// What this code tells its own kind it can do (`docs/protocol-extended.md` §2), work sessions aside.
const CAPABILITIES: u64 = Ext::STREAMS;

/// What a [`Netceptor`] wants of the program around it.
#[derive(Debug)]
#[non_exhaustive]
pub enum NetOutput {
    /// About one link; frames are pulled with [`Netceptor::pull_frames`].
    Link(LinkId, LinkOutput),
    /// Connect to this address; answer with [`Netceptor::dialed`] or [`Netceptor::dial_failed`].
    Dial {
        /// The backend.
        backend: BackendId,
        /// `HOST:PORT`, or a URL for a WebSocket.
        address: String,
        /// How to speak there.
        transport: PeerTransport,
        /// Who connects to there, instead of this program itself.
        proxy: Option<HttpProxy>,
    },
    /// Make this epoch durable, then call [`Netceptor::begin`] with it.
    StoreEpoch(u64),
    /// A link does not lead to a neighbour any more.
    Lost(LinkId),
    /// A message for a stream service of this node, or for a service nobody has; answer the latter with
    /// [`Netceptor::service_unknown`].
    Stream(Header, Bytes),
    /// A message of a stream service could not be delivered.
    StreamUnreachable {
        /// The node it was meant for.
        to: NameHash,
        /// The service there.
        to_service: ServiceName,
        /// The service here.
        service: ServiceName,
        /// Why, in the words of `wire.md` §18.
        problem: String,
    },
    /// A ping has ended.
    PingDone(ProbeToken, TraceHop),
    /// A traceroute has ended.
    TracerouteDone(ProbeToken, Vec<TraceHop>),
    /// Something worth logging or telling the application.
    Event(Event),
}

/// Links and routing of one node, without IO.
///
/// Nothing is dialled and no link is taken before [`Netceptor::begin`].
#[derive(Debug)]
pub struct Netceptor {
    node_id: NodeId,
    max_links: usize,
    max_unaccepted: usize,
    proxies: ProxySettings,
    backends: Backends,
    links: Links,
    pub(super) router: Router,
    /// Messages of this node to itself. Not delivered on the spot: the sender may be in the middle of something.
    loopback: VecDeque<(DataVerdict, BytesMut)>,
    /// Of connections that never became links.
    strangers: Complaints,
    outputs: VecDeque<NetOutput>,
    /// Newer connections of peers that have one; no more than links.
    contests: Vec<contest::Contest>,
}

impl Netceptor {
    /// The network part of a node with this configuration. `seed` decides every random choice.
    ///
    /// # Errors
    /// A configuration no node can run with.
    pub fn new(config: &Config, seed: [u8; 32], now: Now) -> Result<Self, ConfigError> {
        check_node(config)
            .and_then(|()| backends::check(&config.backends))
            .map_err(ConfigError)?;
        let mut rng = Rng::from_seed(seed);
        let limits = config.limits.clone();
        let sessions = if config.work_sessions { Ext::WORK_SESSIONS } else { 0 };
        let capabilities = CAPABILITIES | sessions;
        let mut router = Router::new(config.node_id.clone(), capabilities, limits.clone(), rng.fork(), now);
        router.set_firewall(config.firewall.clone());
        Ok(Self {
            node_id: config.node_id.clone(),
            max_links: limits.links,
            max_unaccepted: limits.unaccepted_links,
            proxies: config.proxies.clone(),
            links: Links::new(limits.link_queue_bytes, limits.node_queue_bytes, rng.next_u64()),
            backends: Backends::new(config, rng.fork()),
            router,
            loopback: VecDeque::new(),
            strangers: Complaints::default(),
            outputs: VecDeque::new(),
            contests: Vec::new(),
        })
    }

    /// Speaks as the run of this epoch from now on. Epochs never repeat and never fall (`wire.md` §8): make it durable
    /// first. Called again when [`NetOutput::StoreEpoch`] asks for it. From the first time on links are taken: a peer may come
    /// as soon as the first listener is bound, and one that is sent away then takes it for a refusal.
    pub fn begin(&mut self, now: Now, epoch: u64) {
        self.router.set_epoch(now, epoch);
    }

    /// Dials peers from now on.
    pub fn open(&mut self, now: Now) {
        self.tell_datagrams(now);
        self.backends.start_dialing(now.mono);
        self.dial_due(now);
    }

    /// Listeners to bind, their addresses, and how frames travel there.
    pub fn listeners(&self) -> impl Iterator<Item = (BackendId, String, ListenerTransport)> + '_ {
        self.backends.listeners()
    }

    /// A connection was accepted for a backend, or the program brings one. `remote` is its address, for logs; `certified`
    /// the node IDs in the other end's certificate, as in [`LinkInput::Up`](super::io::LinkInput::Up).
    ///
    /// # Errors
    /// The ID is in use, or there is no such backend.
    pub fn link_up(
        &mut self,
        now: Now,
        id: LinkId,
        backend: BackendId,
        remote: String,
        certified: Option<Vec<NodeId>>,
    ) -> Result<(), CallerError> {
        if self.links.contains(id) {
            return Err(CallerError::Misuse(alloc::format!("link {} is in use", id.0)));
        }
        let config = match self.backends.session_config(backend, certified) {
            Some(config) => config,
            // It came while its backend went.
            None if self.backends.was_known(backend) => self.backends.session_of_nobody(),
            None => return Err(CallerError::Unknown("backend")),
        };
        let is_orphan = !self.backends.contains(backend);
        let max_frame = if self.backends.is_datagrams(backend) {
            MAX_DATAGRAM
        } else {
            MAX_FRAME
        };
        self.links.open(now.mono, id, backend, remote, config, max_frame);
        if is_orphan {
            self.shut_link(id);
            return Ok(());
        }
        if self.links.len() > self.max_links || self.router.epoch() == 0 {
            let text = alloc::format!(
                "connection refused: {} links are open, or the node is starting",
                self.links.len()
            );
            self.complain(now, Level::Warning, &text);
            self.shut_link(id);
            return Ok(());
        }
        if let Some(oldest) = self.links.pop_unaccepted(self.max_unaccepted) {
            // Nobody who is known: anybody can make such links, and the newest may be a neighbour.
            self.close_link(now, oldest, &Refusal::Crowded(self.max_unaccepted), false);
        }
        self.link_timeouts(now);
        Ok(())
    }

    /// A dial has led to a connection.
    ///
    /// # Errors
    /// As [`Netceptor::link_up`].
    pub fn dialed(
        &mut self,
        now: Now,
        backend: BackendId,
        id: LinkId,
        remote: String,
        certified: Option<Vec<NodeId>>,
    ) -> Result<(), CallerError> {
        self.link_up(now, id, backend, remote, certified)
    }

    /// A dial has failed.
    pub fn dial_failed(&mut self, now: Now, backend: BackendId, error: &str) {
        if !self.backends.contains(backend) {
            return;
        }
        let wait = self.backends.on_dial_failed(backend, now.mono);
        let (level, what) = match wait {
            Some(_) => (Level::Warning, "will retry"),
            None => (Level::Error, "giving up"),
        };
        self.log(level, alloc::format!("Backend connection failed ({what}): {error}"));
    }

    /// A connection is gone; said exactly once per link, whoever closed it.
    ///
    /// # Errors
    /// There is no such link.
    pub fn link_down(&mut self, now: Now, id: LinkId, reason: &str) -> Result<(), CallerError> {
        let mut link = self.links.remove(id).ok_or(CallerError::Unknown("link"))?;
        let accepted = link.session.was_established();
        link.session.on_closed(false);
        self.forget_contests(id);
        self.drop_neighbour(now, id);
        if !link.closing {
            let peer = link
                .session
                .peer()
                .map_or(link.remote.as_str(), |(peer, _)| peer.as_str());
            let text = alloc::format!("connection to {peer} is gone: {reason}");
            match accepted {
                true => self.log(Level::Info, text),
                false => self.complain(now, Level::Info, &text),
            }
        }
        let dropped = link.stats().dropped();
        if dropped > 0 {
            let remote = &link.remote;
            self.log(
                Level::Info,
                alloc::format!("connection to {remote} had dropped {dropped} frames for want of room"),
            );
        }
        if let Some(wait) = self.backends.on_link_lost(link.backend, now.mono, accepted) {
            let address = self.backends.address(link.backend);
            let text = alloc::format!(
                "Backend connection exited (will retry): {address}, in {} ms",
                wait.as_millis()
            );
            self.log(Level::Warning, text);
        }
        Ok(())
    }

    /// One whole frame, never empty, came over a link.
    ///
    /// # Errors
    /// There is no such link.
    pub fn link_frame(&mut self, now: Now, id: LinkId, frame: BytesMut) -> Result<(), CallerError> {
        // Frames of a link that is being closed may still be under way.
        if !self.links.contains(id) {
            return Err(CallerError::Unknown("link"));
        }
        self.links.advance(now.mono);
        self.frame(now, id, frame);
        Ok(())
    }

    /// Moves up to about `max_bytes` of waiting frames to the end of `into`; none until the next
    /// [`LinkOutput::Ready`] if that leaves the queue empty.
    pub fn pull_frames(&mut self, now: Now, link: LinkId, max_bytes: usize, into: &mut Vec<BytesMut>) {
        self.links.advance(now.mono);
        self.links.pull(link, max_bytes, into);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<NetOutput> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if let Some(output) = self.router.poll_output() {
                self.carry_out(output);
            } else {
                let (verdict, frame) = self.loopback.pop_front()?;
                self.dispose(verdict, frame);
            }
        }
    }

    /// When to call [`Netceptor::handle_timeout`].
    pub fn next_deadline(&self) -> Deadline {
        if !self.outputs.is_empty() || !self.loopback.is_empty() {
            return Deadline::Now;
        }
        self.links
            .next_deadline()
            .min(self.backends.next_deadline())
            .min(self.contest_deadline())
            .min(self.router.next_deadline())
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.links.advance(now.mono);
        self.link_timeouts(now);
        self.contest_timeouts(now);
        if self.router.next_deadline().is_due(now.mono) {
            self.router.handle_timeout(now);
        }
    }

    /// Whether streams of this node should hold back on a link: enough of theirs waits there.
    pub fn is_congested(&self, link: LinkId) -> bool {
        self.links.is_congested(link)
    }

    /// Whether those that held back should go on: there is room for a good deal, or the link is gone.
    pub fn has_room(&self, link: LinkId) -> bool {
        self.links.has_room(link)
    }

    /// Others should know if links of this node are datagrams.
    fn tell_datagrams(&mut self, now: Now) {
        if self.backends.has_datagrams() {
            self.router.add_capabilities(now, Ext::DATAGRAMS);
        }
    }

    /// The longest payload to send to a destination; `usual` where nothing speaks for more or less. Every size arrives; but
    /// datagrams below a link that are cut in pieces are lost with any of them.
    pub fn max_payload(&self, destination: NameHash, usual: usize) -> usize {
        let first = match self.router.route(destination) {
            Route::Via(link) => self.links.max_frame(link),
            _ => None,
        };
        if first == Some(MAX_DATAGRAM) || self.router.passes_datagrams(destination) {
            FITTING_FRAME - HEADER_LEN
        } else if self.router.relays_large_frames(destination) {
            MAX_PAYLOAD
        } else {
            usual
        }
    }

    /// The links of this node, in the order of their IDs, and what waits on them.
    pub fn link_stats(&self) -> Vec<LinkStats> {
        let mut all: Vec<_> = self.links.stats().collect();
        all.sort_unstable_by_key(|stats| stats.link);
        all
    }

    /// Bytes of memory that the queues of all links hold together, at most [`crate::config::Limits::node_queue_bytes`] and
    /// what control messages take.
    pub fn queued_bytes(&self) -> usize {
        self.links.held()
    }

    /// Replaces the firewall rules, for every message from now on.
    pub fn set_firewall(&mut self, rules: Rules) {
        self.router.set_firewall(rules);
    }

    /// Takes a name for a datagram port, a random one if it is empty.
    ///
    /// # Errors
    /// The classic text: the name is too long, reserved or in use.
    pub fn open_port(&mut self, name: &str, port: PortId) -> Result<ServiceName, String> {
        self.router.open_port(name, port)
    }

    /// Gives a service name back, and withdraws its advertisement if it has one.
    pub fn close_service(&mut self, now: Now, service: ServiceName) {
        self.router.close_service(now, service);
    }

    /// Advertises a service of this node. `conn_type` is 0 for datagrams, 1 for streams (`wire.md` §9).
    pub fn advertise(
        &mut self,
        now: Now,
        service: ServiceName,
        conn_type: u8,
        tags: Option<BTreeMap<String, String>>,
        work_commands: Option<Vec<WorkCommand>>,
    ) {
        let name = String::from_utf8_lossy(service.as_bytes());
        self.router.advertise(now, &name, conn_type, tags, work_commands);
    }

    /// Sends a datagram of a port; `localhost` in any case is this node. Success means that it was handed to the next hop.
    ///
    /// # Errors
    /// The classic text: no route, or too long.
    pub fn send(
        &mut self,
        now: Now,
        from: ServiceName,
        node: &str,
        service: &str,
        data: &[u8],
        hops: u8,
    ) -> Result<(), String> {
        let to_service = ServiceName::new(service)?;
        let to = self.router.resolve(node);
        let carries = match self.router.route(to) {
            Route::Via(link) => self.links.max_frame(link).unwrap_or(MAX_FRAME),
            _ => MAX_FRAME,
        };
        let limit = carries - HEADER_LEN;
        if data.len() > limit {
            return Err(alloc::format!("datagram of {} bytes exceeds {limit}", data.len()));
        }
        let mut frame = BytesMut::with_capacity(HEADER_LEN + data.len());
        frame.resize(HEADER_LEN, 0);
        frame.extend_from_slice(data);
        self.send_frame(now, from, to, to_service, hops.min(MAX_HOPS), frame)
            .map(drop)
            .map_err(|error| error.as_str().into())
    }

    /// Pings a node; ends with [`NetOutput::PingDone`].
    pub fn ping(&mut self, now: Now, token: ProbeToken, target: &str) {
        self.router.ping(now, token, target);
    }

    /// Pings every hop on the way to a node; ends with [`NetOutput::TracerouteDone`].
    pub fn traceroute(&mut self, now: Now, token: ProbeToken, target: &str) {
        self.router.traceroute(now, token, target);
    }

    /// Nobody takes messages for the service of a [`NetOutput::Stream`]: its source is told.
    pub fn service_unknown(&mut self, now: Now, header: &Header) {
        self.router.service_unknown(now, header);
    }

    /// What is known of the mesh.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Sends a message of a service of this node. `frame` is the payload behind [`HEADER_LEN`] bytes of room. Tells the link
    /// it went to, if it left this node.
    pub(super) fn send_frame(
        &mut self,
        now: Now,
        from_service: ServiceName,
        to: NameHash,
        to_service: ServiceName,
        hops: u8,
        mut frame: BytesMut,
    ) -> Result<Option<LinkId>, SendError> {
        self.links.advance(now.mono);
        match self
            .router
            .send_data(now, from_service, to, to_service, hops, &mut frame)?
        {
            DataVerdict::Forward(link) => {
                if self.links.is_too_long(link, frame.len()) {
                    return Err(SendError::BadLength);
                }
                self.push(link, Priority::Own, frame);
                return Ok(Some(link));
            }
            verdict => self.loopback.push_back((verdict, frame)),
        }
        Ok(None)
    }
}
