//! N complete nodes on virtual time: one seed decides delays, losses and everything else.
//!
//! The clock jumps to the earliest of the reported deadlines and the scheduled events, and not a tick further, so a
//! machine that forgets to report a deadline is found out. Two runs of a seed give the same [`World::trace`].

mod disk;
mod host;
mod network;
mod observed;
mod pipes;
mod quic;
mod runner;
mod secure;
mod tasks;
mod trace;
mod wires;
mod work;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use receptor_core::config::Config;
use receptor_core::id::{LinkId, PipeId, TaskId};
use receptor_core::node::Node;
use receptor_core::node::io::{Command, Input, Reply, TaskResult};
use receptor_core::time::{Duration, Instant, Now, Wall};
use receptor_core::workceptor::{ProcessIdentity, RunnerEvent, UnitId, UnitTask};

pub use disk::Disk;
pub use host::Host;
pub use network::{LinkOptions, Network};
pub use observed::{Observed, Seen};
pub use pipes::PipeEnd;
use quic::StandIn;
pub use trace::Trace;
use wires::Travelling;
pub use work::produced;

use crate::chance::chance;

/// Index of a node in its world; stays the same across restarts.
pub type NodeIndex = usize;

/// Something that will happen.
#[derive(Debug)]
enum Happening {
    /// Something comes to the end of its wire.
    Arrive(Travelling),
    /// What was held up is tried again.
    Release {
        to: NodeIndex,
        link: LinkId,
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
        since: Instant,
    },
    /// A task about a unit's files takes effect.
    Disk {
        node: NodeIndex,
        task: TaskId,
        unit: UnitId,
        what: UnitTask,
        answer: Instant,
    },
    StoreEpoch {
        node: NodeIndex,
        task: TaskId,
        epoch: u64,
    },
    Attach {
        node: NodeIndex,
        task: TaskId,
        unit: UnitId,
        identity: ProcessIdentity,
    },
    /// A slow reader has taken something.
    Drained {
        node: NodeIndex,
        pipe: PipeId,
        bytes: usize,
    },
    Task {
        node: NodeIndex,
        task: TaskId,
        result: TaskResult,
    },
    /// A runner takes its next step.
    Runner {
        node: NodeIndex,
        unit: UnitId,
        pid: u32,
    },
    RunnerSays {
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
    seed: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    hosts: Vec<Host>,
    /// The wires.
    pub network: Network,
    /// What happened.
    pub trace: Trace,
    observed: Option<Vec<Observed>>,
}

/// Wall clock at the start of every world: 2023-11-14T22:13:20Z.
const WALL_START: Wall = Wall::from_secs(1_700_000_000);

impl World {
    /// An empty world.
    pub fn new(seed: u64) -> Self {
        Self {
            now: Instant::ZERO,
            seed,
            queue: BinaryHeap::new(),
            order: 0,
            hosts: Vec::new(),
            network: Network::new(seed),
            trace: Trace::default(),
            observed: None,
        }
    }

    /// Virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now.since(Instant::ZERO)
    }

    /// Virtual time, as the nodes' monotonic clocks show it.
    pub fn now(&self) -> Instant {
        self.now
    }

    fn clocks(&self, index: NodeIndex) -> Now {
        let ahead = self.hosts.get(index).map_or(0, |host| host.wall_ahead);
        let wall = (WALL_START + self.elapsed()).as_nanos();
        Now {
            mono: self.now,
            wall: Wall::from_nanos(wall.saturating_add_signed(ahead)),
        }
    }

    /// Starts a node with an empty disk.
    pub fn start(&mut self, mut config: Config) -> NodeIndex {
        config.quic = true;
        let index = self.hosts.len();
        let (node, quic) = self.boot(index, 0, &config);
        let disk = chance(self.seed, "disk", index as u64, 0);
        self.hosts.push(Host::new(config, node, quic, disk));
        self.observe(|| Observed::Started(index));
        self.settle(index);
        index
    }

    fn boot(&self, index: NodeIndex, life: u64, config: &Config) -> (Node, StandIn) {
        let seed = |purpose| chance(self.seed, purpose, index as u64, life).fork_seed();
        let node = Node::new(config.clone(), seed("node"), self.clocks(index)).expect("a valid configuration");
        (node, StandIn::new(seed("quic")))
    }

    /// Kills a node as SIGKILL does: its links and pipes are gone, its disk and its runners stay.
    pub fn kill(&mut self, index: NodeIndex) {
        self.trace.note(self.now, index, "killed", 0);
        for link in self.hosts[index].die() {
            self.cut(index, link, "connection reset");
        }
        self.network.unbind(index);
        self.observe(|| Observed::Stopped {
            node: index,
            by_power_cut: false,
        });
    }

    /// Tells a node that its program ends. Run on for a moment, then [`World::kill`] it, as an adapter flushes and closes.
    pub fn shut_down(&mut self, index: NodeIndex) {
        self.input(index, Input::Shutdown);
    }

    /// Cuts the power: nobody at the other end of a link learns of it, of what was not synced any part is lost, and the
    /// runners are gone. The machine stays off until [`World::restart`].
    pub fn crash(&mut self, index: NodeIndex) {
        self.trace.note(self.now, index, "crashed", 0);
        for link in self.hosts[index].die() {
            self.network.remove(index, link);
        }
        self.network.unbind(index);
        self.hosts[index].lose_power();
        self.observe(|| Observed::Stopped {
            node: index,
            by_power_cut: true,
        });
    }

    /// Starts a killed or crashed node again.
    pub fn restart(&mut self, index: NodeIndex) {
        assert!(!self.hosts[index].is_up(), "node {index} is running");
        let (node, quic) = self.boot(index, self.hosts[index].life, &self.hosts[index].config);
        self.hosts[index].boot(node, quic);
        self.trace.note(self.now, index, "restarted", 0);
        self.observe(|| Observed::Started(index));
        self.settle(index);
    }

    /// Stops a node's process for some time, as SIGSTOP or a machine without time for it does. What comes waits.
    pub fn freeze(&mut self, index: NodeIndex, time: Duration) {
        let until = self.now + time;
        let host = &mut self.hosts[index];
        host.frozen_until = host.frozen_until.max(until);
        self.trace.note(self.now, index, "frozen ms", time.as_millis() as usize);
    }

    /// Goes on with a node that is stopped.
    pub fn thaw(&mut self, index: NodeIndex) {
        self.hosts[index].frozen_until = self.now;
    }

    /// Sets a node's wall clock: so many seconds ahead of the world's, or behind it.
    pub fn set_clock(&mut self, index: NodeIndex, ahead: i64) {
        self.hosts[index].wall_ahead = ahead.saturating_mul(1_000_000_000);
        self.trace.line(self.now, index, format_args!("clock {ahead} s ahead"));
    }

    /// The node with this name.
    fn named(&self, name: &str) -> Option<NodeIndex> {
        let name = name.split('/').next().unwrap_or(name);
        self.hosts.iter().position(|host| host.config.node_id.as_str() == name)
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

    /// Forgets a pipe that the node has closed.
    pub fn forget(&mut self, index: NodeIndex, pipe: PipeId) {
        self.hosts[index].forget_pipe(pipe);
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
    pub fn step(&mut self, end: Instant) -> bool {
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
        // Whose process has to do something for it. Machines go on while a process is stopped.
        let node = match &what {
            Happening::Arrive(travelling) => travelling.to,
            Happening::Release { to, .. } | Happening::LinkDown { to, .. } => *to,
            Happening::Pull { node, .. }
            | Happening::Connect { node, .. }
            | Happening::Disk { node, .. }
            | Happening::StoreEpoch { node, .. }
            | Happening::Attach { node, .. }
            | Happening::Drained { node, .. }
            | Happening::Task { node, .. }
            | Happening::RunnerSays { node, .. }
            | Happening::Timeout { node } => *node,
            Happening::Runner { node, unit, pid } => return self.runner_event(*node, unit.clone(), *pid),
        };
        let host = &self.hosts[node];
        if host.is_up() && host.life == life && host.is_frozen(self.now) {
            let at = host.frozen_until;
            return self.schedule(at, node, what);
        }
        let is_alive = host.is_up() && host.life == life;
        match what {
            // The machine answers for a program that is gone.
            Happening::Arrive(travelling) => self.arrive(travelling),
            _ if !is_alive => {}
            Happening::Release { to, link } => self.release(to, link),
            Happening::LinkDown { to, link, reason } => self.link_down(to, link, reason),
            Happening::Pull { node, link } => {
                self.network.wire_free(node, link);
                self.pull(node, link);
                self.settle(node);
            }
            Happening::Connect {
                node,
                task,
                address,
                since,
            } => self.connect(node, task, &address, since),
            Happening::Disk {
                node,
                task,
                unit,
                what,
                answer,
            } => self.disk_effect(node, task, unit, what, answer),
            Happening::StoreEpoch { node, task, epoch } => self.epoch_stored(node, task, epoch),
            Happening::Attach {
                node,
                task,
                unit,
                identity,
            } => self.attach(node, task, &unit, &identity),
            Happening::Drained { node, pipe, bytes } => {
                self.drained(node, pipe, bytes);
                self.settle(node);
            }
            Happening::Task { node, task, result } => self.input(node, Input::Done(task, result)),
            Happening::RunnerSays { node, unit, event } => self.runner_says(node, unit, event),
            // A timer that was armed anew is void.
            Happening::Timeout { node } => {
                if self.hosts[node].timer.is_some_and(|at| at <= self.now) {
                    self.time_out(node);
                }
            }
            Happening::Runner { .. } => {}
        }
    }

    /// Hands an input over and carries out what comes of it.
    fn input(&mut self, index: NodeIndex, input: Input) {
        let now = self.clocks(index);
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
