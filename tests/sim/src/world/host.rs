//! One simulated machine: a node, its disk, its runners, and the adapter that carries out the node's outputs.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use receptor_core::config::{Config, ListenerTransport};
use receptor_core::deadline::Deadline;
use receptor_core::id::{CommandId, LinkId, PipeId, TaskId};
use receptor_core::node::Node;
use receptor_core::node::io::{
    Event, Input, Layer, LinkInput, LinkOutput, Output, PIPE_WINDOW, PipeInput, PipeOutput, Reply, Security, Task,
    TaskResult,
};
use receptor_core::time::{Duration, Instant};
use receptor_core::workceptor::{Change, Record, UnitId, UnitTask, UnitTaskResult};

use super::disk::Disk;
use super::network;
use super::quic::StandIn;
use super::runner::Runner;
use super::secure::{Handshake, NullTie};
use super::{Happening, NodeIndex, World};

/// A local pipe, as its user sees it.
#[derive(Debug)]
pub struct PipeEnd {
    pub(super) outbox: VecDeque<u8>,
    pub(super) finish: bool,
    pub(super) finish_sent: bool,
    credit: usize,
    /// Of a stream that is secured, or whose layer is not known yet.
    pub(super) handshake: Option<Handshake>,
    /// The node has said what the bytes are.
    is_begun: bool,
    /// Tied: what is received goes into the outbox of that one.
    partner: Option<PipeId>,
    /// Everything received.
    pub inbox: Vec<u8>,
    /// The node ended its direction.
    pub eof: bool,
    /// The node closed the pipe.
    pub closed: bool,
}

impl PipeEnd {
    /// Whether nothing more will be received.
    pub fn ended(&self) -> bool {
        self.eof || self.closed
    }
}

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
    /// Its disk.
    pub disk: Disk,
    /// When the last task of each unit will be done: a unit's tasks keep their order.
    disk_busy: BTreeMap<UnitId, Instant>,
    pub(super) runners: BTreeMap<UnitId, Runner>,
    /// Runners started since the world began.
    pub spawned: u64,
    pub(super) links: BTreeMap<LinkId, ()>,
    pub(super) pipes: BTreeMap<PipeId, PipeEnd>,
    /// From now on no handshake goes on here.
    pub(super) stalls_handshakes: bool,
    pub(super) ties: Vec<NullTie>,
    next_pipe: u64,
    commands: u64,
    replies: BTreeMap<u64, Reply>,
    /// Events of the current life.
    pub events: Vec<Event>,
    pub(super) timer: Option<Instant>,
}

impl Host {
    pub(super) fn new(config: Config, node: Node, quic: StandIn) -> Self {
        Self {
            config,
            node: Some(node),
            quic,
            life: 0,
            boots: 0,
            disk: Disk::default(),
            disk_busy: BTreeMap::new(),
            runners: BTreeMap::new(),
            spawned: 0,
            links: BTreeMap::new(),
            pipes: BTreeMap::new(),
            stalls_handshakes: false,
            ties: Vec::new(),
            next_pipe: 0,
            commands: 0,
            replies: BTreeMap::new(),
            events: Vec::new(),
            timer: None,
        }
    }

    /// Whether the node runs.
    pub fn is_up(&self) -> bool {
        self.node.is_some()
    }

    pub(super) fn die(&mut self) -> Vec<LinkId> {
        self.node = None;
        self.life += 1;
        self.timer = None;
        self.pipes.clear();
        self.ties.clear();
        self.replies.clear();
        std::mem::take(&mut self.links).into_keys().collect()
    }

    pub(super) fn lose_power(&mut self) {
        self.disk.lose_power();
        self.runners.clear();
        self.boots += 1;
    }

    pub(super) fn boot(&mut self, node: Node, quic: StandIn) {
        self.quic = quic;
        self.events.clear();
        self.node = Some(node);
    }

    pub(super) fn next_command(&mut self) -> u64 {
        self.commands += 1;
        self.commands
    }

    /// The reply to a command, once it is there.
    pub fn reply(&self, command: u64) -> Option<&Reply> {
        self.replies.get(&command)
    }

    pub(super) fn open_pipe(&mut self) -> PipeId {
        let id = PipeId(self.next_pipe);
        self.next_pipe += 1;
        self.add_pipe(id);
        id
    }

    fn add_pipe(&mut self, id: PipeId) {
        self.pipes.insert(
            id,
            PipeEnd {
                outbox: VecDeque::new(),
                finish: false,
                finish_sent: false,
                credit: PIPE_WINDOW,
                handshake: None,
                is_begun: false,
                partner: None,
                inbox: Vec::new(),
                eof: false,
                closed: false,
            },
        );
    }

    /// A pipe of a local connection: nothing has to be said about it.
    pub(super) fn begin_plain(&mut self, id: PipeId) {
        self.pipe_mut(id).is_begun = true;
    }

    fn add_tie(&mut self, cipher: PipeId, plain: PipeId, security: Security) {
        for (id, partner) in [(cipher, plain), (plain, cipher)] {
            self.add_pipe(id);
            let pipe = self.pipe_mut(id);
            pipe.is_begun = true;
            pipe.partner = Some(partner);
        }
        self.pipe_mut(cipher).handshake = Handshake::new(&Layer::Secure(security));
        self.ties.push(NullTie { cipher, plain });
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

    fn disk_free_at(&self, unit: &UnitId) -> Instant {
        self.disk_busy.get(unit).copied().unwrap_or_default()
    }

    pub(super) fn record(&self, unit: &UnitId) -> Record {
        self.disk
            .unit(unit)
            .and_then(|d| d.record.clone())
            .expect("a unit with a runner has a record")
    }

    /// A record change by a runner; `false` if the record refused it.
    pub(super) fn runner_update(&mut self, unit: &UnitId, change: Change, sync: bool) -> bool {
        let full = std::mem::take(&mut self.disk.full);
        let result = self.disk.run(unit, UnitTask::Update { change, sync });
        self.disk.full = full;
        matches!(result, UnitTaskResult::Record(_))
    }
}

impl World {
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
            Deadline::Idle => return,
        };
        if host.timer.is_none_or(|armed| at < armed) {
            host.timer = Some(at);
            self.schedule(at, index, Happening::Timeout { node: index });
        }
    }

    pub(super) fn tell_node(&mut self, index: NodeIndex, input: Input) {
        let now = self.clocks();
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

    fn pump_pipes(&mut self, index: NodeIndex) -> bool {
        let mut inputs = Vec::new();
        let is_stalled = self.hosts[index].stalls_handshakes;
        for (&id, pipe) in &mut self.hosts[index].pipes {
            if pipe.closed || !pipe.is_begun {
                continue;
            }
            if let Some(handshake) = &mut pipe.handshake {
                if is_stalled {
                    continue;
                }
                if let Some(greeting) = handshake.greeting() {
                    pipe.credit -= 1;
                    inputs.push((id, PipeInput::Data(Bytes::copy_from_slice(&[greeting]))));
                }
                if !handshake.is_done {
                    continue;
                }
            }
            let size = pipe.credit.min(pipe.outbox.len()).min(64 << 10);
            if size > 0 {
                pipe.credit -= size;
                inputs.push((id, PipeInput::Data(Bytes::from_iter(pipe.outbox.drain(..size)))));
                if let Some(partner) = pipe.partner {
                    inputs.push((partner, PipeInput::Drained(size)));
                }
            }
            if pipe.finish && !pipe.finish_sent && pipe.outbox.is_empty() {
                pipe.finish_sent = true;
                inputs.push((id, PipeInput::Eof));
            }
        }
        let progress = !inputs.is_empty();
        for (id, input) in inputs {
            self.tell_node(index, Input::Pipe(id, input));
        }
        progress
    }

    fn carry_out(&mut self, index: NodeIndex, output: Output) {
        match output {
            Output::Link(link, LinkOutput::Ready) => self.pull(index, link),
            Output::Link(link, LinkOutput::Close) => {
                self.pull(index, link);
                self.cut(index, link, "closed by peer");
                if self.hosts[index].links.remove(&link).is_some() {
                    self.tell_node(
                        index,
                        Input::Link(
                            link,
                            LinkInput::Down {
                                reason: "closed".into(),
                            },
                        ),
                    );
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
                self.trace.note(self.now, index, "reply", id as usize);
                assert!(
                    self.hosts[index].replies.insert(id, reply).is_none(),
                    "command {id} was answered twice"
                );
            }
            Output::Event(event) => {
                if let Event::Accepted { pipe, .. } = &event {
                    self.hosts[index].add_pipe(*pipe);
                }
                self.hosts[index].events.push(event);
            }
            other => panic!("an output the simulator does not know: {other:?}"),
        }
    }

    fn carry_out_pipe(&mut self, index: NodeIndex, id: PipeId, output: PipeOutput) {
        let Some(pipe) = self.hosts[index].pipes.get_mut(&id) else {
            return;
        };
        match output {
            PipeOutput::Begin(layer) => {
                assert!(!std::mem::replace(&mut pipe.is_begun, true), "pipe {id:?} begins twice");
                pipe.handshake = Handshake::new(&layer);
            }
            PipeOutput::Data(mut data) => {
                assert!(!pipe.eof && !pipe.closed, "data after the end of pipe {id:?}");
                assert!(pipe.is_begun, "data before the beginning of pipe {id:?}");
                let (partner, mut drained) = (pipe.partner, data.len());
                let handshake = pipe.handshake.as_mut().filter(|handshake| !handshake.is_done);
                let is_secured_now = handshake.is_some();
                if let Some(handshake) = handshake {
                    handshake.on_greeting(data.split_to(1)[0]);
                }
                match partner {
                    None => pipe.inbox.extend_from_slice(&data),
                    Some(partner) => {
                        drained -= data.len();
                        if let Some(partner) = self.hosts[index].pipes.get_mut(&partner) {
                            partner.outbox.extend(&data);
                        }
                    }
                }
                if is_secured_now {
                    self.tell_node(index, Input::Pipe(partner.unwrap_or(id), PipeInput::Secured));
                }
                if drained > 0 {
                    self.tell_node(index, Input::Pipe(id, PipeInput::Drained(drained)));
                }
            }
            PipeOutput::Eof => pipe.eof = true,
            PipeOutput::Credit(bytes) => {
                pipe.credit += bytes;
                assert!(pipe.credit <= PIPE_WINDOW, "credit beyond the window");
            }
            PipeOutput::Close => {
                pipe.closed = true;
                self.tell_node(index, Input::Pipe(id, PipeInput::Closed));
            }
        }
    }

    fn carry_out_task(&mut self, index: NodeIndex, id: TaskId, task: Task) {
        let soon = self.now + Duration::from_micros(20);
        let disk_time = Duration::from_micros(1000 + self.rng.below(1000));
        let host = &mut self.hosts[index];
        let result = match task {
            Task::Listen {
                backend,
                address,
                transport,
                ..
            } => {
                let is_udp = transport == ListenerTransport::Udp;
                if self.network.bind(&address, index, backend, is_udp) {
                    TaskResult::Listening(address)
                } else {
                    TaskResult::Failed(format!("listen tcp {address}: bind: address already in use"))
                }
            }
            Task::ListenControl { path, .. } => TaskResult::Listening(path),
            Task::LoadEpoch => TaskResult::Epoch(host.disk.epoch),
            Task::StoreEpoch(epoch) => {
                host.disk.epoch = Some(epoch);
                TaskResult::Stored
            }
            Task::ScanUnits => TaskResult::Units(host.disk.scan()),
            Task::Dial { address, .. } => {
                let at = self.now + self.network.options.delay;
                self.schedule(
                    at,
                    index,
                    Happening::Connect {
                        node: index,
                        task: id,
                        address,
                    },
                );
                return;
            }
            Task::Unit(unit, UnitTask::Spawn { program, args }) => {
                return self.spawn(index, id, &unit, &program, &args);
            }
            Task::Unit(unit, UnitTask::Attach { runner }) => {
                return self.attach(index, id, &unit, &runner.identity);
            }
            Task::Unit(unit, UnitTask::Cancel) => return self.cancel_runner(index, id, &unit),
            Task::Unit(unit, task) => {
                let synced = matches!(
                    task,
                    UnitTask::Create { sync: true, .. }
                        | UnitTask::Remove { .. }
                        | UnitTask::Update { sync: true, .. }
                        | UnitTask::Sync
                );
                let result = TaskResult::Unit(host.disk.run(&unit, task));
                let at = if synced { self.now + disk_time } else { soon };
                let at = at.max(host.disk_free_at(&unit));
                host.disk_busy.insert(unit, at);
                self.schedule(
                    at,
                    index,
                    Happening::Task {
                        node: index,
                        task: id,
                        result,
                    },
                );
                return;
            }
            other => panic!("a task the simulator does not know: {other:?}"),
        };
        self.schedule(
            soon,
            index,
            Happening::Task {
                node: index,
                task: id,
                result,
            },
        );
    }

    pub(super) fn connect(&mut self, from: NodeIndex, task: TaskId, address: &str) {
        let Some((link, to, peer_link, backend)) = self.network.connect(self.now, from, address) else {
            let text = format!("dial tcp {address}: connect: connection refused");
            return self.input(from, Input::Done(task, TaskResult::Failed(text)));
        };
        self.hosts[from].links.insert(link, ());
        self.hosts[to].links.insert(peer_link, ());
        self.trace.note(self.now, from, "connected", to);
        self.input(
            from,
            Input::Done(
                task,
                TaskResult::Dialed {
                    link,
                    remote: address.to_owned(),
                    certified: None,
                },
            ),
        );
        self.input(
            to,
            Input::Link(
                peer_link,
                LinkInput::Up {
                    backend,
                    remote: format!("host-{from}"),
                    certified: None,
                },
            ),
        );
    }

    /// Takes frames from a node as fast as the wire allows.
    pub(super) fn pull(&mut self, index: NodeIndex, link: LinkId) {
        /// As much as a slow socket takes at once: adapters let the kernel hold no more unsent.
        const BATCH: usize = 32 << 10;
        let options = self.network.options;
        let (now, clocks) = (self.now, self.clocks());
        loop {
            let Some(end) = self.network.end(index, link) else {
                return;
            };
            if end.busy_until > now {
                if !std::mem::replace(&mut end.pull_scheduled, true) {
                    let at = end.busy_until;
                    self.schedule(at, index, Happening::Pull { node: index, link });
                }
                return;
            }
            let (peer, peer_link, is_udp) = (end.peer, end.peer_link, end.is_udp);
            let mut frames: Vec<BytesMut> = Vec::new();
            let Some(node) = &mut self.hosts[index].node else {
                return;
            };
            node.pull_frames(clocks, link, BATCH, &mut frames);
            if frames.is_empty() {
                return;
            }
            for mut frame in frames {
                self.network.carries(is_udp, &frame);
                let mut lost = frame[0] == 0 && self.rng.below(1000) < options.loss_per_mille;
                if options.classic {
                    frame = network::without_ext(frame);
                }
                lost |= options.without_native && network::is_native(&frame);
                let jitter = Duration::from_nanos(self.rng.below(options.jitter.as_nanos() as u64 + 1));
                let Some(end) = self.network.end(index, link) else {
                    return;
                };
                if let Some(rate) = options.rate {
                    let time = Duration::from_nanos(frame.len() as u64 * 1_000_000_000 / rate);
                    end.busy_until = end.busy_until.max(now) + time;
                }
                let at = (end.busy_until.max(now) + options.delay + jitter).max(end.last_arrival);
                end.last_arrival = at;
                if !lost {
                    self.schedule(
                        at,
                        peer,
                        Happening::Frame {
                            to: peer,
                            link: peer_link,
                            frame,
                        },
                    );
                }
            }
        }
    }
}
