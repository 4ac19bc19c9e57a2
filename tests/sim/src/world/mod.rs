//! N complete nodes on virtual time: one seed decides delays, losses and everything else.
//!
//! The clock jumps to the earliest of the reported deadlines and the scheduled events, and not a tick further, so a
//! machine that forgets to report a deadline is found out. Two runs of a seed give the same [`World::trace`].

mod disk;
mod host;
mod network;
mod quic;
mod runner;
mod secure;
mod trace;
mod work;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::BytesMut;
use receptor_core::config::Config;
use receptor_core::id::{LinkId, PipeId, TaskId};
use receptor_core::node::Node;
use receptor_core::node::io::{Command, Input, Reply, TaskResult};
use receptor_core::rng::Rng;
use receptor_core::time::{Duration, Instant, Now, Wall};
use receptor_core::workceptor::{RunnerEvent, UnitId};

pub use disk::Disk;
pub use host::Host;
pub use network::{LinkOptions, Network};
use quic::StandIn;
pub use trace::Trace;
pub use work::produced;

/// Index of a node in its world; stays the same across restarts.
pub type NodeIndex = usize;

/// Something that will happen.
#[derive(Debug)]
enum Happening {
    Frame {
        to: NodeIndex,
        link: LinkId,
        frame: BytesMut,
    },
    LinkDown {
        to: NodeIndex,
        link: LinkId,
        reason: &'static str,
    },
    /// The wire is free again.
    Pull {
        node: NodeIndex,
        link: LinkId,
    },
    Connect {
        node: NodeIndex,
        task: TaskId,
        address: String,
    },
    Task {
        node: NodeIndex,
        task: TaskId,
        result: TaskResult,
    },
    Runner {
        node: NodeIndex,
        unit: UnitId,
        event: RunnerEvent,
    },
    Timeout {
        node: NodeIndex,
    },
}

#[derive(Debug)]
struct Scheduled {
    at: Instant,
    order: u64,
    /// Which life of the node it belongs to; a crash makes it void.
    life: u64,
    what: Happening,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The world.
#[derive(Debug)]
pub struct World {
    now: Instant,
    rng: Rng,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    hosts: Vec<Host>,
    /// The wires.
    pub network: Network,
    /// What happened.
    pub trace: Trace,
}

/// Wall clock at the start of every world: 2023-11-14T22:13:20Z.
const WALL_START: Wall = Wall::from_secs(1_700_000_000);

impl World {
    /// An empty world.
    pub fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            now: Instant::ZERO,
            rng: Rng::from_seed(bytes),
            queue: BinaryHeap::new(),
            order: 0,
            hosts: Vec::new(),
            network: Network::default(),
            trace: Trace::default(),
        }
    }

    /// Virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now.since(Instant::ZERO)
    }

    fn clocks(&self) -> Now {
        Now {
            mono: self.now,
            wall: WALL_START + self.elapsed(),
        }
    }

    /// Starts a node with an empty disk.
    pub fn start(&mut self, mut config: Config) -> NodeIndex {
        config.quic = true;
        let index = self.hosts.len();
        let node = Node::new(config.clone(), self.seed(), self.clocks()).expect("a valid configuration");
        let quic = StandIn::new(self.seed());
        self.hosts.push(Host::new(config, node, quic));
        self.settle(index);
        index
    }

    fn seed(&mut self) -> [u8; 32] {
        std::array::from_fn(|_| self.rng.next_u64() as u8)
    }

    /// Kills a node as SIGKILL does: its links and pipes are gone, its disk and its runners stay.
    pub fn kill(&mut self, index: NodeIndex) {
        self.trace.note(self.now, index, "killed", 0);
        let links = self.hosts[index].die();
        for link in links {
            self.cut(index, link, "connection reset");
        }
        self.network.unbind(index);
    }

    /// Cuts the power so that nobody hears of it: the other ends of its links stay as they are.
    pub fn vanish(&mut self, index: NodeIndex) {
        self.trace.note(self.now, index, "vanished", 0);
        for link in self.hosts[index].die() {
            self.network.forget_end(index, link);
        }
        self.network.unbind(index);
        self.hosts[index].lose_power();
    }

    /// Tells a node that its program ends. Run on for a moment, then [`World::kill`] it, as an adapter flushes and closes.
    pub fn shut_down(&mut self, index: NodeIndex) {
        self.input(index, Input::Shutdown);
    }

    /// Cuts the power: as [`World::kill`], and what was not synced is lost, and so are the runners.
    pub fn crash(&mut self, index: NodeIndex) {
        self.kill(index);
        self.hosts[index].lose_power();
    }

    /// Starts a killed or crashed node again.
    pub fn restart(&mut self, index: NodeIndex) {
        assert!(!self.hosts[index].is_up(), "node {index} is running");
        let (config, seed) = (self.hosts[index].config.clone(), self.seed());
        let node = Node::new(config, seed, self.clocks()).expect("a valid configuration");
        let quic = StandIn::new(self.seed());
        self.hosts[index].boot(node, quic);
        self.trace.note(self.now, index, "restarted", 0);
        self.settle(index);
    }

    /// The node and what surrounds it.
    pub fn host(&self, index: NodeIndex) -> &Host {
        &self.hosts[index]
    }

    /// A node's part of handshakes does not go on from now on.
    pub fn stall_handshakes(&mut self, index: NodeIndex) {
        self.hosts[index].stalls_handshakes = true;
    }

    /// The disk of a node, for making it fail.
    pub fn disk(&mut self, index: NodeIndex) -> &mut Disk {
        &mut self.hosts[index].disk
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Gives a command; the reply is found with [`Host::reply`].
    pub fn command(&mut self, index: NodeIndex, command: Command) -> u64 {
        let id = self.hosts[index].next_command();
        self.input(index, Input::Command(receptor_core::id::CommandId(id), command));
        id
    }

    /// Gives a command and runs until the reply is there.
    pub fn ask(&mut self, index: NodeIndex, command: Command) -> Reply {
        let id = self.command(index, command);
        let done = self.run_until(Duration::from_secs(60), |world| world.host(index).reply(id).is_some());
        assert!(done, "no reply within a minute");
        self.host(index).reply(id).cloned().expect("checked above")
    }

    /// The `status` answer.
    pub fn status(&mut self, index: NodeIndex) -> serde_json::Value {
        match self.ask(index, Command::Status) {
            Reply::Json(text) => serde_json::from_str(&text).expect("status is JSON"),
            other => panic!("status answered {other:?}"),
        }
    }

    /// Opens a connection to the control socket.
    pub fn open_control(&mut self, index: NodeIndex) -> PipeId {
        let pipe = self.hosts[index].open_pipe();
        self.hosts[index].begin_plain(pipe);
        self.input(
            index,
            Input::Pipe(pipe, receptor_core::node::io::PipeInput::OpenControl { is_local: true }),
        );
        pipe
    }

    /// A fresh pipe for [`Command::Dial`].
    pub fn new_pipe(&mut self, index: NodeIndex) -> PipeId {
        self.hosts[index].open_pipe()
    }

    /// Sends bytes into a pipe as its credit allows; the rest follows by itself.
    pub fn write(&mut self, index: NodeIndex, pipe: PipeId, data: &[u8]) {
        self.hosts[index].pipe_mut(pipe).outbox.extend(data);
        self.settle(index);
    }

    /// Ends the sending half of a pipe, after what was written.
    pub fn finish(&mut self, index: NodeIndex, pipe: PipeId) {
        self.hosts[index].pipe_mut(pipe).finish = true;
        self.settle(index);
    }

    /// Drops a pipe.
    pub fn close(&mut self, index: NodeIndex, pipe: PipeId) {
        self.hosts[index].forget_pipe(pipe);
        self.input(index, Input::Pipe(pipe, receptor_core::node::io::PipeInput::Closed));
    }

    /// One control command on a connection of its own: the lines of the answer, without the greeting.
    pub fn control(&mut self, index: NodeIndex, line: &str) -> String {
        let pipe = self.open_control(index);
        self.write(index, pipe, format!("{line}\n").as_bytes());
        self.finish(index, pipe);
        let done = self.run_until(Duration::from_secs(60), |world| {
            world.host(index).pipe(pipe).is_none_or(|p| p.ended())
        });
        let text = self.text(index, pipe);
        assert!(done, "control command {line:?} did not end; so far: {text:?}");
        text.split_once('\n').map_or(String::new(), |(_, rest)| rest.to_owned())
    }

    /// Everything received on a pipe so far, as text.
    pub fn text(&self, index: NodeIndex, pipe: PipeId) -> String {
        self.hosts[index]
            .pipe(pipe)
            .map_or(String::new(), |p| String::from_utf8_lossy(&p.inbox).into_owned())
    }

    /// Cuts a link for both ends.
    fn cut(&mut self, index: NodeIndex, link: LinkId, reason: &'static str) {
        if let Some((peer, peer_link)) = self.network.remove(index, link) {
            let at = self.now + Duration::from_micros(50);
            self.schedule(
                at,
                peer,
                Happening::LinkDown {
                    to: peer,
                    link: peer_link,
                    reason,
                },
            );
        }
    }

    /// Cuts every link between two nodes, as a network failure with a reset does; they may connect anew.
    pub fn cut_between(&mut self, a: NodeIndex, b: NodeIndex) {
        for (node, link, peer, peer_link) in self.network.between(a, b) {
            self.network.remove(node, link);
            self.schedule(
                self.now,
                node,
                Happening::LinkDown {
                    to: node,
                    link,
                    reason: "connection reset",
                },
            );
            self.schedule(
                self.now,
                peer,
                Happening::LinkDown {
                    to: peer,
                    link: peer_link,
                    reason: "connection reset",
                },
            );
        }
    }

    fn schedule(&mut self, at: Instant, node: NodeIndex, what: Happening) {
        self.order += 1;
        let life = self.hosts[node].life;
        self.queue.push(Reverse(Scheduled {
            at,
            order: self.order,
            life,
            what,
        }));
    }

    /// Runs for some virtual time.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `done` or for at most `limit`; says whether it was done.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            if !self.step(end) {
                return false;
            }
        }
    }

    /// Lets the next thing happen, unless it lies after `end`.
    fn step(&mut self, end: Instant) -> bool {
        let Some(Reverse(next)) = self.queue.peek() else {
            return false;
        };
        if next.at > end {
            return false;
        }
        let Some(Reverse(Scheduled { at, life, what, .. })) = self.queue.pop() else {
            return false;
        };
        assert!(at >= self.now, "time goes forward");
        self.now = at;
        self.happen(life, what);
        true
    }

    fn happen(&mut self, life: u64, what: Happening) {
        let alive = |world: &Self, node: NodeIndex| world.hosts[node].is_up() && world.hosts[node].life == life;
        match what {
            Happening::Frame { to, link, frame } if alive(self, to) && self.network.contains(to, link) => {
                if self.network.is_partitioned_link(to, link) {
                    // The wire is dead: the frame waits as in a TCP retransmission queue.
                    let at = self.now + Duration::from_millis(200);
                    self.schedule(at, to, Happening::Frame { to, link, frame });
                    return;
                }
                self.trace.note(self.now, to, "frame", frame.len());
                self.input(to, Input::Link(link, receptor_core::node::io::LinkInput::Frame(frame)));
            }
            // Once per link: its own end may have closed it meanwhile.
            Happening::LinkDown { to, link, reason } if alive(self, to) && self.hosts[to].links.contains_key(&link) => {
                self.trace.note(self.now, to, reason, 0);
                self.hosts[to].links.remove(&link);
                let reason = reason.to_owned();
                self.input(
                    to,
                    Input::Link(link, receptor_core::node::io::LinkInput::Down { reason }),
                );
            }
            Happening::Pull { node, link } if alive(self, node) => {
                self.network.wire_free(node, link);
                self.pull(node, link);
                self.settle(node);
            }
            Happening::Connect { node, task, address } if alive(self, node) => self.connect(node, task, &address),
            Happening::Task { node, task, result } if alive(self, node) => self.input(node, Input::Done(task, result)),
            Happening::Runner { node, unit, event } => self.runner_event(node, life, unit, event),
            // A timer that was armed anew is void.
            Happening::Timeout { node } if alive(self, node) && self.hosts[node].timer == Some(self.now) => {
                self.hosts[node].timer = None;
                self.trace.note(self.now, node, "timeout", 0);
                let now = self.now;
                self.hosts[node].quic.handle_timeout(now);
                self.input(node, Input::Timeout);
            }
            _ => {}
        }
    }

    /// Hands an input over and carries out what comes of it.
    fn input(&mut self, index: NodeIndex, input: Input) {
        let now = self.clocks();
        if let Some(node) = &mut self.hosts[index].node {
            node.handle(now, input)
                .unwrap_or_else(|error| panic!("node {index}: {error}"));
            self.settle(index);
        }
    }

    /// All `status` answers' routing tables and costs are equal on all running nodes that can reach each other.
    pub fn routes(&mut self, index: NodeIndex) -> BTreeMap<String, String> {
        let status = self.status(index);
        let table = status["RoutingTable"].as_object().expect("an object").iter();
        table
            .map(|(node, hop)| (node.clone(), hop.as_str().unwrap_or_default().to_owned()))
            .collect()
    }
}
