//! One simulated machine: a node, its disk, its runners, and the adapter that carries out the node's outputs.

use std::collections::{BTreeMap, BTreeSet};

use receptor_core::config::Config;
use receptor_core::deadline::Deadline;
use receptor_core::id::{CommandId, LinkId, PipeId};
use receptor_core::node::Node;
use receptor_core::node::io::{Event, Input, Level, LinkInput, LinkOutput, Output, Reply};
use receptor_core::rng::Rng;
use receptor_core::time::{Duration, Instant};
use receptor_core::workceptor::{Change, Record, UnitId, UnitTask, UnitTaskResult};

use super::disk::Disk;
use super::observed::Observed;
use super::pipes::PipeEnd;
use super::quic::StandIn;
use super::runner::Runner;
use super::secure::NullTie;
use super::{Happening, NodeIndex, World};

/// Events that are kept of a node.
const EVENTS: usize = 100_000;

/// A node may ask to be called again at the very time at which it was called, but not for ever.
const CALLS_AT_ONCE: u32 = 64;

/// A machine.
#[derive(Debug)]
pub struct Host {
    pub(super) config: Config,
    pub(super) node: Option<Node>,
    pub(super) quic: StandIn,
    /// Counts lives, so that what was scheduled for an earlier one is void.
    pub(super) life: u64,
    /// Counts boots of the machine.
    pub(super) boots: u64,
    /// The machine runs, whether its node does or not.
    pub(super) is_powered: bool,
    /// Until then the node's process is stopped: whatever comes waits for it.
    pub(super) frozen_until: Instant,
    /// How far its wall clock is ahead, in nanoseconds.
    pub(super) wall_ahead: i64,
    /// Its disk.
    pub disk: Disk,
    /// Of the times and troubles of its disk.
    pub(super) chance: Rng,
    /// When the last task of each unit will be done: a unit's tasks keep their order.
    pub(super) disk_busy: BTreeMap<UnitId, Instant>,
    pub(super) runners: BTreeMap<UnitId, Runner>,
    /// Runners started since the world began.
    pub spawned: u64,
    pub(super) links: BTreeSet<LinkId>,
    pub(super) pipes: BTreeMap<PipeId, PipeEnd>,
    /// From now on no handshake goes on here.
    pub(super) stalls_handshakes: bool,
    pub(super) ties: Vec<NullTie>,
    pub(super) next_pipe: u64,
    commands: u64,
    replies: BTreeMap<u64, Reply>,
    /// Events of the current life, the first of them.
    pub events: Vec<Event>,
    pub(super) timer: Option<Instant>,
    /// When the node was called last because of its deadline, and how often then.
    calls: (Instant, u32),
}

impl Host {
    pub(super) fn new(config: Config, node: Node, quic: StandIn, chance: Rng) -> Self {
        Self {
            config,
            node: Some(node),
            quic,
            life: 0,
            boots: 0,
            is_powered: true,
            frozen_until: Instant::ZERO,
            wall_ahead: 0,
            disk: Disk::default(),
            chance,
            disk_busy: BTreeMap::new(),
            runners: BTreeMap::new(),
            spawned: 0,
            links: BTreeSet::new(),
            pipes: BTreeMap::new(),
            stalls_handshakes: false,
            ties: Vec::new(),
            next_pipe: 0,
            commands: 0,
            replies: BTreeMap::new(),
            events: Vec::new(),
            timer: None,
            calls: (Instant::ZERO, 0),
        }
    }

    /// Whether the node runs.
    pub fn is_up(&self) -> bool {
        self.node.is_some()
    }

    /// Whether its process is stopped.
    pub fn is_frozen(&self, now: Instant) -> bool {
        self.frozen_until > now
    }

    /// What it runs with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Counts the lives of the node.
    pub fn life(&self) -> u64 {
        self.life
    }

    pub(super) fn die(&mut self) -> BTreeSet<LinkId> {
        self.node = None;
        self.life += 1;
        self.timer = None;
        self.frozen_until = Instant::ZERO;
        self.pipes.clear();
        self.ties.clear();
        self.replies.clear();
        self.disk_busy.clear();
        std::mem::take(&mut self.links)
    }

    pub(super) fn lose_power(&mut self) {
        self.disk.lose_power(&mut self.chance);
        self.runners.clear();
        self.is_powered = false;
        self.boots += 1;
    }

    pub(super) fn boot(&mut self, node: Node, quic: StandIn) {
        self.quic = quic;
        self.events.clear();
        self.node = Some(node);
        self.is_powered = true;
    }

    pub(super) fn next_command(&mut self) -> u64 {
        self.commands += 1;
        self.commands
    }

    /// The reply to a command, once it is there.
    pub fn reply(&self, command: u64) -> Option<&Reply> {
        self.replies.get(&command)
    }

    /// Pairs of pipes that carry what the node itself reads.
    pub fn open_ties(&self) -> usize {
        self.ties.len()
    }

    /// A pipe; `None` after it was dropped or the node died.
    pub fn pipe(&self, id: PipeId) -> Option<&PipeEnd> {
        self.pipes.get(&id)
    }

    /// Bytes received on every open pipe.
    pub fn received(&self) -> BTreeMap<PipeId, usize> {
        self.pipes.iter().map(|(&id, pipe)| (id, pipe.inbox.len())).collect()
    }

    /// The running node.
    pub fn node(&self) -> &Node {
        self.node.as_ref().expect("a node that is up")
    }

    pub(super) fn pipe_mut(&mut self, id: PipeId) -> &mut PipeEnd {
        self.pipes.get_mut(&id).expect("an open pipe")
    }

    pub(super) fn forget_pipe(&mut self, id: PipeId) {
        self.pipes.remove(&id);
    }

    pub(super) fn disk_free_at(&self, unit: &UnitId) -> Instant {
        self.disk_busy.get(unit).copied().unwrap_or_default()
    }

    /// How long a synced write takes now.
    pub(super) fn disk_time(&mut self) -> Duration {
        Duration::from_micros(1000 + self.chance.below(1000)) * self.disk.slowness.max(1)
    }

    /// Some part of a time.
    pub(super) fn share_of(&mut self, time: Duration) -> Duration {
        Duration::from_nanos(self.chance.below(time.as_nanos() as u64 + 1))
    }

    pub(super) fn record(&self, unit: &UnitId) -> Record {
        self.disk
            .unit(unit)
            .and_then(|d| d.record.clone())
            .expect("a unit with a runner has a record")
    }

    /// A record change by a runner, which waits for room; `false` if the record refused it.
    fn runner_update(&mut self, unit: &UnitId, change: Change, sync: bool) -> bool {
        let result = self.disk.run_regardless(unit, UnitTask::Update { change, sync });
        matches!(result, UnitTaskResult::Record(_))
    }
}

impl World {
    /// A record change by a runner; `false` if the record refused it.
    pub(super) fn runner_update(&mut self, node: NodeIndex, unit: &UnitId, change: Change, sync: bool) -> bool {
        let is_taken = self.hosts[node].runner_update(unit, change, sync);
        if is_taken {
            self.recorded(node, unit);
        }
        is_taken
    }

    /// Drains a node's outputs, moves pipe bytes as credit allows, and arms its timer.
    pub(super) fn settle(&mut self, index: NodeIndex) {
        loop {
            let mut progress = false;
            while let Some(output) = self.hosts[index].node.as_mut().and_then(Node::poll_output) {
                progress = true;
                self.carry_out(index, output);
            }
            progress |= self.pump_pipes(index);
            progress |= self.settle_ties(index);
            progress |= self.pump_quic(index);
            if !progress {
                break;
            }
        }
        let host = &mut self.hosts[index];
        let Some(node) = &host.node else { return };
        let at = match node.next_deadline().min(host.quic.next_deadline()) {
            Deadline::Now => panic!("node {index} says that outputs wait, and there are none"),
            Deadline::At(at, _) => at.max(self.now),
            Deadline::Idle => {
                host.timer = None;
                return;
            }
        };
        // Exactly then: a wake-up left over from an earlier deadline would hide one that is forgotten.
        if host.timer != Some(at) {
            host.timer = Some(at);
            self.schedule(at, index, Happening::Timeout { node: index });
        }
    }

    /// A deadline has come.
    pub(super) fn time_out(&mut self, index: NodeIndex) {
        let now = self.now;
        let host = &mut self.hosts[index];
        host.timer = None;
        host.calls = match host.calls {
            (at, count) if at == now => (now, count + 1),
            _ => (now, 1),
        };
        if host.calls.1 > CALLS_AT_ONCE {
            let deadline = host.node().next_deadline();
            panic!("node {index} wants to be called again and again at the same time: {deadline:?}");
        }
        host.quic.handle_timeout(now);
        self.trace.note(now, index, "timeout", 0);
        self.input(index, Input::Timeout);
    }

    pub(super) fn tell_node(&mut self, index: NodeIndex, input: Input) {
        let now = self.clocks(index);
        if let Some(node) = &mut self.hosts[index].node {
            node.handle(now, input)
                .unwrap_or_else(|error| panic!("node {index}: {error}"));
        }
    }

    fn pump_quic(&mut self, index: NodeIndex) -> bool {
        let mut progress = false;
        let now = self.now;
        while let Some(output) = self.hosts[index].quic.poll_output(now) {
            progress = true;
            self.tell_node(index, Input::Quic(output));
        }
        progress
    }

    fn carry_out(&mut self, index: NodeIndex, output: Output) {
        match output {
            Output::Link(link, LinkOutput::Ready) => self.pull(index, link),
            Output::Link(link, LinkOutput::Close) => {
                self.pull(index, link);
                self.cut(index, link, "closed by peer");
                if self.hosts[index].links.remove(&link) {
                    let reason = "closed".into();
                    self.tell_node(index, Input::Link(link, LinkInput::Down { reason }));
                }
            }
            Output::Pipe(id, output) => self.carry_out_pipe(index, id, output),
            Output::Secure {
                cipher,
                plain,
                security,
            } => self.hosts[index].add_tie(cipher, plain, security),
            Output::Quic(message) => {
                let now = self.now;
                self.hosts[index].quic.handle(now, message);
            }
            Output::Task(task, what) => self.carry_out_task(index, task, what),
            Output::Reply(CommandId(id), reply) => {
                self.trace.line(self.now, index, format_args!("reply {id} {reply:?}"));
                self.observe(|| Observed::Replied {
                    node: index,
                    command: id,
                    reply: reply.clone(),
                });
                assert!(
                    self.hosts[index].replies.insert(id, reply).is_none(),
                    "command {id} was answered twice"
                );
            }
            Output::Event(event) => self.said(index, event),
            other => panic!("an output the simulator does not know: {other:?}"),
        }
    }

    fn said(&mut self, index: NodeIndex, event: Event) {
        if let Event::Accepted { pipe, .. } = &event {
            self.hosts[index].add_pipe(*pipe);
        }
        if let Event::Log(level, text) = &event
            && *level <= Level::Info
        {
            self.trace.line(self.now, index, format_args!("{level:?}: {text}"));
        }
        self.observe(|| Observed::Said {
            node: index,
            event: event.clone(),
        });
        let events = &mut self.hosts[index].events;
        if events.len() < EVENTS {
            events.push(event);
        }
    }
}
