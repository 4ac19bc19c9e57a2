//! Meshes of our nodes and classic ones on virtual time, without streams and work: N [`Netceptor`]s and models of the
//! classic node ([`ClassicNode`]) on wires that delay, count and may be tampered with.

mod classic;

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use receptor_core::config::{Backend, BackendKind, Config, Limits};
use receptor_core::deadline::Deadline;
use receptor_core::id::{BackendId, LinkId, PortId, ServiceName};
use receptor_core::node::io::{Event, LinkOutput};
use receptor_core::node::{NetOutput, Netceptor};
use receptor_core::rng::Rng;
use receptor_core::time::{Duration, Instant, Now, Wall};

pub use classic::{ClassicNode, End, Wish};

/// Wall clock at the start: 2023-11-14T22:13:20Z.
const WALL_START: Wall = Wall::from_secs(1_700_000_000);

/// After a session was closed by either end, the dialler comes again (`wire.md` §3.5).
const REDIAL: Duration = Duration::from_secs(5);

/// Lines of the log that are kept per node.
const LOG_LINES: usize = 10_000;

/// The clocks at a point of virtual time.
pub fn clocks(mono: Instant) -> Now {
    Now {
        mono,
        wall: WALL_START + mono.since(Instant::ZERO),
    }
}

/// The epoch of a run that began so many seconds after the start of the world.
pub fn epoch(secs: u64) -> u64 {
    (WALL_START.as_secs() + secs) << 24
}

/// A node.
#[derive(Debug)]
pub enum Member {
    /// One of ours.
    Ours(Box<Netceptor>),
    /// A classic one.
    Classic(Box<ClassicNode>),
    /// Somebody at the other end of wires who says only what the test says.
    Puppet,
    /// It has ended.
    Gone,
}

/// A connection between two nodes.
#[derive(Debug)]
pub struct Wire {
    ends: [usize; 2],
    /// Time a frame travels, by the end that sends it.
    pub delay: [Duration; 2],
    link: LinkId,
    up: bool,
    last: [Instant; 2],
    /// What came out for a puppet.
    pub inbox: Vec<Vec<u8>>,
}

/// The mesh.
#[derive(Debug)]
pub struct Mesh {
    now: Instant,
    members: Vec<Member>,
    names: Vec<String>,
    timers: BTreeSet<(Instant, usize)>,
    armed: Vec<Option<Instant>>,
    wires: Vec<Wire>,
    by_link: BTreeMap<LinkId, usize>,
    redials: BTreeSet<(Instant, usize)>,
    queue: BTreeMap<(Instant, u64), (usize, usize, LinkId, BytesMut)>,
    sent: u64,
    links: u64,
    /// Bytes put on wires, the two of the TCP framing included.
    pub bytes: u64,
    /// Frames put on wires.
    pub frames: u64,
    logs: Vec<Vec<String>>,
    /// Of our nodes started from now on.
    pub limits: Limits,
}

impl Mesh {
    /// No nodes.
    pub fn new() -> Self {
        Self {
            now: Instant::ZERO,
            members: Vec::new(),
            names: Vec::new(),
            timers: BTreeSet::new(),
            armed: Vec::new(),
            wires: Vec::new(),
            by_link: BTreeMap::new(),
            redials: BTreeSet::new(),
            queue: BTreeMap::new(),
            sent: 0,
            links: 0,
            bytes: 0,
            frames: 0,
            logs: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        clocks(self.now)
    }

    fn netceptor(&self, name: &str, seed: u64, epoch: u64) -> Member {
        let mut config = Config::new(name.into());
        config.limits = self.limits.clone();
        config.backends = vec![Backend::new(BackendKind::External)];
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut net = Netceptor::new(&config, bytes, self.now()).expect("a valid configuration");
        net.begin(self.now(), epoch);
        net.open(self.now());
        Member::Ours(Box::new(net))
    }

    fn add(&mut self, name: &str, member: Member) -> usize {
        self.members.push(member);
        self.names.push(name.into());
        self.armed.push(None);
        self.logs.push(Vec::new());
        self.settle(self.members.len() - 1);
        self.members.len() - 1
    }

    /// Adds one of our nodes, started now.
    pub fn ours(&mut self, name: &str) -> usize {
        let epoch = clocks(self.now).wall.as_secs() << 24;
        let member = self.netceptor(name, self.members.len() as u64, epoch);
        self.add(name, member)
    }

    /// Adds a classic node, started now.
    pub fn classic(&mut self, name: &str) -> usize {
        let node = ClassicNode::new(name, self.now(), self.members.len() as u64 + 1);
        self.add(name, Member::Classic(Box::new(node)))
    }

    /// Adds somebody who speaks only through [`Mesh::say`].
    pub fn puppet(&mut self, name: &str) -> usize {
        self.add(name, Member::Puppet)
    }

    /// Starts a node anew, its wires down: as ours with this epoch, or as a classic one of the present time.
    pub fn replace(&mut self, node: usize, ours: Option<u64>) {
        for wire in 0..self.wires.len() {
            if self.wires[wire].ends.contains(&node) {
                self.cut(wire);
                self.redials.retain(|redial| redial.1 != wire);
            }
        }
        let name = self.names[node].clone();
        self.sent += 1;
        self.members[node] = match ours {
            Some(epoch) => self.netceptor(&name, 1000 + self.sent, epoch),
            None => Member::Classic(Box::new(ClassicNode::new(&name, self.now(), self.sent))),
        };
        self.settle(node);
    }

    /// Connects two nodes at cost 1.
    pub fn connect(&mut self, a: usize, b: usize) -> usize {
        let wire = self.wires.len();
        self.wires.push(Wire {
            ends: [a, b],
            delay: [Duration::from_millis(2 + wire as u64 % 7); 2],
            link: LinkId(0),
            up: false,
            last: [self.now; 2],
            inbox: Vec::new(),
        });
        self.open(wire);
        wire
    }

    /// Brings a wire up.
    pub fn open(&mut self, wire: usize) {
        self.links += 1;
        let link = LinkId(self.links);
        self.by_link.insert(link, wire);
        let w = &mut self.wires[wire];
        (w.link, w.up, w.last) = (link, true, [self.now; 2]);
        for node in w.ends {
            let now = clocks(self.now);
            match &mut self.members[node] {
                Member::Ours(net) => net
                    .link_up(now, link, BackendId(0), format!("wire {wire}"), None)
                    .expect("a fresh link"),
                Member::Classic(node) => node.link_up(now.mono, link, 1.0),
                Member::Puppet | Member::Gone => {}
            }
            self.settle(node);
        }
    }

    /// Cuts a wire; both ends notice at once.
    pub fn cut(&mut self, wire: usize) {
        let w = &mut self.wires[wire];
        if !std::mem::take(&mut w.up) {
            return;
        }
        let (link, ends) = (w.link, w.ends);
        self.by_link.remove(&link);
        for node in ends {
            self.end_of_link(node, link);
        }
    }

    fn end_of_link(&mut self, node: usize, link: LinkId) {
        let now = clocks(self.now);
        match &mut self.members[node] {
            Member::Ours(net) => net.link_down(now, link, "wire cut").expect("an open link"),
            Member::Classic(classic) => classic.link_down(now.mono, link),
            Member::Puppet | Member::Gone => return,
        }
        self.settle(node);
    }

    /// One of the ends wants no more: what it said still arrives.
    fn hang_up(&mut self, wire: usize) {
        let delay = self.wires[wire].delay.into_iter().max().unwrap_or_default();
        let soon = self.wires[wire]
            .last
            .into_iter()
            .max()
            .map_or(self.now, |last| last.max(self.now))
            + delay;
        self.sent += 1;
        let link = self.wires[wire].link;
        self.queue
            .insert((soon, self.sent), (wire, usize::MAX, link, BytesMut::new()));
    }

    /// A frame from one end of a wire, by whoever sits there or in their name.
    pub fn say(&mut self, wire: usize, from: usize, frame: &[u8]) {
        let end = usize::from(self.wires[wire].ends[1] == from);
        self.transmit(wire, end, BytesMut::from(frame));
    }

    fn transmit(&mut self, wire: usize, end: usize, frame: BytesMut) {
        let w = &mut self.wires[wire];
        if !w.up {
            return;
        }
        assert!(!frame.is_empty(), "an empty frame would crash a classic node");
        self.bytes += frame.len() as u64 + 2;
        self.frames += 1;
        let at = (self.now + w.delay[end]).max(w.last[end]);
        w.last[end] = at;
        self.sent += 1;
        self.queue.insert((at, self.sent), (wire, 1 - end, w.link, frame));
    }

    /// Carries out what a node wants and looks when it wants to be called.
    fn settle(&mut self, node: usize) {
        let now = clocks(self.now);
        let (mut frames, mut hang_up, mut over) = (Vec::new(), Vec::new(), false);
        let deadline = match &mut self.members[node] {
            Member::Ours(net) => {
                let mut pulled = Vec::new();
                while let Some(output) = net.poll_output() {
                    match output {
                        NetOutput::Link(link, LinkOutput::Ready) => {
                            net.pull_frames(now, link, usize::MAX, &mut pulled);
                            frames.extend(pulled.drain(..).map(|frame| (link, frame)));
                        }
                        NetOutput::Link(link, LinkOutput::Close) => {
                            net.pull_frames(now, link, usize::MAX, &mut pulled);
                            frames.extend(pulled.drain(..).map(|frame| (link, frame)));
                            hang_up.push(link);
                        }
                        // Nobody has streams here.
                        NetOutput::Stream(header, _) => net.service_unknown(now, &header),
                        NetOutput::StoreEpoch(epoch) => net.begin(now, epoch),
                        NetOutput::Event(Event::Duplicate) => over = true,
                        NetOutput::Event(Event::Log(_, text)) if self.logs[node].len() < LOG_LINES => {
                            self.logs[node].push(text);
                        }
                        _ => {}
                    }
                }
                match net.next_deadline() {
                    Deadline::At(at, _) => Some(at),
                    Deadline::Idle => None,
                    Deadline::Now => panic!("{} has been drained", self.names[node]),
                }
            }
            Member::Classic(classic) => {
                for wish in classic.wishes() {
                    match wish {
                        Wish::Send(link, frame) => frames.push((link, BytesMut::from(&frame[..]))),
                        Wish::Close(link) => hang_up.push(link),
                    }
                }
                over = classic.end().is_some();
                Some(classic.next_deadline())
            }
            Member::Puppet | Member::Gone => None,
        };
        if let Some(before) = self.armed[node].take() {
            self.timers.remove(&(before, node));
        }
        self.armed[node] = deadline.filter(|_| !over);
        self.timers.extend(self.armed[node].map(|at| (at, node)));
        for (link, frame) in frames {
            if let Some(&wire) = self.by_link.get(&link) {
                let end = usize::from(self.wires[wire].ends[1] == node);
                self.transmit(wire, end, frame);
            }
        }
        for link in hang_up {
            if let Some(&wire) = self.by_link.get(&link) {
                self.hang_up(wire);
            }
        }
        if over {
            if let Member::Classic(classic) = &self.members[node] {
                self.logs[node].push(format!("{:?}", classic.end()));
            } else {
                self.logs[node].push("Duplicate".into());
            }
            self.members[node] = Member::Gone;
            for wire in 0..self.wires.len() {
                if self.wires[wire].ends.contains(&node) {
                    self.cut(wire);
                }
            }
        }
    }

    fn arrive(&mut self, wire: usize, end: usize, link: LinkId, frame: BytesMut) {
        if !self.wires[wire].up || self.wires[wire].link != link {
            return;
        }
        let now = clocks(self.now);
        let Some(&node) = self.wires[wire].ends.get(end) else {
            self.cut(wire);
            self.redials.insert((self.now + REDIAL, wire));
            return;
        };
        match &mut self.members[node] {
            Member::Ours(net) => net.link_frame(now, link, frame).expect("an open link"),
            Member::Classic(classic) => classic.frame(now, link, &frame),
            Member::Puppet => return self.wires[wire].inbox.push(frame.to_vec()),
            Member::Gone => return,
        }
        self.settle(node);
    }

    /// Lets virtual time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let frame = self.queue.first_key_value().map(|(key, _)| key.0);
            let timer = self.timers.first().map(|timer| timer.0);
            let redial = self.redials.first().map(|redial| redial.0);
            let Some(next) = frame
                .into_iter()
                .chain(timer)
                .chain(redial)
                .min()
                .filter(|&at| at <= end)
            else {
                break;
            };
            self.now = self.now.max(next);
            if frame == Some(next) {
                if let Some((_, (wire, end, link, frame))) = self.queue.pop_first() {
                    self.arrive(wire, end, link, frame);
                }
            } else if timer == Some(next) {
                let Some((_, node)) = self.timers.pop_first() else {
                    continue;
                };
                self.armed[node] = None;
                match &mut self.members[node] {
                    Member::Ours(net) => net.handle_timeout(clocks(self.now)),
                    Member::Classic(classic) => classic.handle_timeout(clocks(self.now)),
                    Member::Puppet | Member::Gone => {}
                }
                self.settle(node);
            } else if let Some((_, wire)) = self.redials.pop_first()
                && !self.wires[wire].up
            {
                self.open(wire);
            }
        }
        self.now = end;
    }

    /// Lets so many seconds pass.
    pub fn run_secs(&mut self, secs: u64) {
        self.run(Duration::from_secs(secs));
    }

    /// One of ours.
    pub fn net(&self, node: usize) -> &Netceptor {
        match &self.members[node] {
            Member::Ours(net) => net,
            other => panic!("{} is none of ours: {other:?}", self.names[node]),
        }
    }

    /// A classic one.
    pub fn model(&self, node: usize) -> &ClassicNode {
        match &self.members[node] {
            Member::Classic(classic) => classic,
            other => panic!("{} is no classic node: {other:?}", self.names[node]),
        }
    }

    /// Whether it has ended.
    pub fn is_gone(&self, node: usize) -> bool {
        matches!(self.members[node], Member::Gone)
    }

    /// What it logged.
    pub fn log(&self, node: usize) -> &[String] {
        &self.logs[node]
    }

    /// Whether a wire is up.
    pub fn is_up(&self, wire: usize) -> bool {
        self.wires[wire].up
    }

    /// A wire.
    pub fn wire(&mut self, wire: usize) -> &mut Wire {
        &mut self.wires[wire]
    }

    /// Advertises a service of any node.
    pub fn advertise(&mut self, node: usize, service: &str) {
        let now = clocks(self.now);
        match &mut self.members[node] {
            Member::Ours(net) => {
                let port = PortId(self.sent);
                let service = net.open_port(service, port).expect("a free service");
                net.advertise(now, service, 0, None, None);
            }
            Member::Classic(classic) => classic.advertise(now, service),
            Member::Puppet | Member::Gone => {}
        }
        self.settle(node);
    }

    /// Withdraws it.
    pub fn withdraw(&mut self, node: usize, service: &str) {
        let now = clocks(self.now);
        match &mut self.members[node] {
            Member::Ours(net) => {
                let service = ServiceName::new(service).expect("a service name");
                net.close_service(now, service);
            }
            Member::Classic(classic) => classic.withdraw(now, service),
            Member::Puppet | Member::Gone => {}
        }
        self.settle(node);
    }

    /// Names of the nodes that a node can reach.
    pub fn reached_by(&self, node: usize) -> BTreeSet<String> {
        match &self.members[node] {
            Member::Ours(net) => {
                let table = net.router().routing_table();
                table.keys().map(|name| name.as_str().to_owned()).collect()
            }
            Member::Classic(classic) => classic.costs().into_keys().collect(),
            Member::Puppet | Member::Gone => BTreeSet::new(),
        }
    }

    /// Services that a node knows, as `node:service`.
    pub fn services_seen_by(&self, node: usize) -> BTreeSet<String> {
        match &self.members[node] {
            Member::Ours(net) => {
                let adverts = net.router().adverts(clocks(self.now));
                adverts.iter().map(|a| format!("{}:{}", a.node, a.service)).collect()
            }
            Member::Classic(classic) => classic.known_services(),
            Member::Puppet | Member::Gone => BTreeSet::new(),
        }
    }

    /// Every node that runs reaches every other.
    pub fn is_whole(&self) -> bool {
        let running =
            (0..self.members.len()).filter(|&i| matches!(self.members[i], Member::Ours(_) | Member::Classic(_)));
        let running: Vec<usize> = running.collect();
        running.iter().all(|&node| {
            let reached = self.reached_by(node);
            running
                .iter()
                .all(|&other| other == node || reached.contains(&self.names[other]))
        })
    }
}

/// What steady traffic amounts to.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Links of the mesh.
    pub links: usize,
    /// Frames per link and second, both directions together.
    pub frames: f64,
    /// Bytes per link and second, both directions together, with the two bytes of framing that each frame has on TCP.
    pub bytes: f64,
}

/// Lets a mesh of so many nodes of one kind come to rest, every node with one service, and counts for a while: a random tree
/// with half as many links again.
pub fn steady_traffic(nodes: usize, classic: bool, seconds: u64) -> Traffic {
    let mut rng = Rng::from_seed([nodes as u8; 32]);
    let mut mesh = Mesh::new();
    let mut pairs = BTreeSet::new();
    for node in 0..nodes {
        let name = format!("node-{node:04}");
        if classic {
            mesh.classic(&name)
        } else {
            mesh.ours(&name)
        };
        mesh.advertise(node, "control");
        if node > 0 {
            pairs.insert((rng.below(node as u64) as usize, node));
        }
    }
    while pairs.len() < nodes * 3 / 2 {
        let (a, b) = (rng.below(nodes as u64) as usize, rng.below(nodes as u64) as usize);
        if a < b {
            pairs.insert((a, b));
        }
    }
    for &(a, b) in &pairs {
        mesh.connect(a, b);
    }
    // All routes are there in a second or two; classic adverts come with the next minute.
    mesh.run_secs(if classic { 6 } else { 20 });
    assert!(nodes > 100 || mesh.is_whole());
    assert_eq!(mesh.reached_by(0).len(), nodes - 1);
    let (frames, bytes) = (mesh.frames, mesh.bytes);
    mesh.run_secs(seconds);
    let per_link = |count: u64| count as f64 / pairs.len() as f64 / seconds as f64;
    Traffic {
        links: pairs.len(),
        frames: per_link(mesh.frames - frames),
        bytes: per_link(mesh.bytes - bytes),
    }
}

impl Default for Mesh {
    fn default() -> Self {
        Self::new()
    }
}
