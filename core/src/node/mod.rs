//! The root: the only place that sees two components.
//!
//! [`Node`] takes [`Input`]s and gives [`Output`]s; [`io`] is the whole contract with an adapter.
//!
//! ```text
//!  adapter ── Input ──► handle ─► netceptor ─► streams ─► sessions ─► workceptor
//!     ▲                                                                  │
//!     └── Output ◄── poll_output ◄── links, pipes, tasks, replies ◄─────┘
//! ```
//!
//! One pass of `handle` carries an input to its end: whatever a component wants of another is done before it returns, and
//! what is wanted of the world is queued as outputs. Frames are not outputs: the adapter pulls them with
//! [`Node::pull_frames`] when a socket can take them, so a slow neighbour backs up here, where priorities and limits see it.

mod commands;
mod conn;
pub mod io;
mod mesh;
mod netceptor;
mod pipes;
mod quic;
mod race;
mod reload;
mod security;
mod services;
mod sessions;
mod startup;
mod status;
mod streams;
mod ties;
mod work;

use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;

use bytes::{Bytes, BytesMut};

use crate::complaints::Complaints;
use crate::config::Config;
use crate::control::Origin;
use crate::deadline::Deadline;
use crate::error::CallerError;
use crate::id::{BackendId, LinkId, NameHash, NodeId, PipeId, PortId, ServiceIndex, ServiceName, TaskId};
use crate::netceptor::ProbeToken;
use crate::rng::Rng;
use crate::sabotage::{self, Bug};
use crate::service::Services;
use crate::stream;
use crate::time::{Instant, Now};
use crate::workceptor::{TaskKey, Verified, Workceptor};
use commands::Asker;
use conn::{Conn, Owner};
use io::{Event, Input, Level, Output, PipeInput, Security, Task, TaskResult};
use pipes::{Pipes, Taken};
use startup::Phase;

pub use netceptor::{LinkStats, NetOutput, Netceptor};

/// A configuration that no node can run with, in the classic words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for ConfigError {}

/// What a task was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TaskOwner {
    LoadEpoch,
    StoreEpoch(u64),
    ScanUnits,
    Listen,
    /// Of a backend that came with a reload.
    Relisten(BackendId),
    Unlisten(BackendId),
    Reload,
    ListenControl,
    ListenControlTcp,
    ListenService(ServiceIndex),
    Dial(BackendId),
    /// The socket behind this pipe.
    Connect(PipeId),
    Unit(TaskKey),
    Sign(TaskKey),
    Verify(TaskKey),
}

/// A Receptor node without IO.
#[derive(Debug)]
pub struct Node {
    config: Config,
    own_hash: NameHash,
    rng: Rng,
    phase: Phase,
    last: Now,
    outputs: VecDeque<Output>,
    tasks: BTreeMap<TaskId, TaskOwner>,
    next_task: u64,

    net: Netceptor,

    streams: stream::Table,
    /// Destinations whose streams wait for room on a link.
    held_back: BTreeSet<(LinkId, NameHash)>,
    /// Destinations whose streams wait for a route.
    unrouted: BTreeSet<NameHash>,

    pipes: Pipes,
    next_pipe: u64,
    ties: BTreeMap<u64, ties::Tie>,
    next_tie: u64,
    /// Pipes of the adapter's tasks that read what comes over ties.
    plains: BTreeMap<PipeId, ties::Plain>,
    /// Until when a tie must be secured, in the order of time; of those that are, the first ones are forgotten.
    handshakes: VecDeque<(Instant, u64)>,
    quic: quic::Quic,
    races: race::Races,
    owners: BTreeMap<Conn, Owner>,
    /// TLS configs of services that have one.
    stream_tls: BTreeMap<ServiceName, String>,
    /// Streams with a TLS config whose handshake has not begun.
    protected: BTreeMap<Conn, Security>,
    /// Bytes that were read and could not be passed on yet, at most one chunk per connection.
    stash: BTreeMap<Conn, Bytes>,
    /// Connections to look at before the pass ends, some of them perhaps more than once. Not a tree, because a tree would
    /// ask for memory with every segment.
    touched: BinaryHeap<Reverse<Conn>>,

    sessions: BTreeMap<u64, sessions::Client>,
    next_session: u64,
    /// Sessions whose bridge is mute for now, in the order of time.
    muted: VecDeque<(Instant, u64)>,
    control_services: BTreeSet<ServiceName>,
    services: Services,
    /// Streams whose local socket broke, and when they are ended; in the order of time.
    cancelled: VecDeque<(Instant, Conn)>,
    reload: Option<reload::Reload>,
    /// Of streams and sessions that were refused.
    strangers: Complaints,
    work: Workceptor,
    peers: BTreeMap<u64, work::Peer>,

    askers: BTreeMap<ProbeToken, Asker>,
    next_probe: u64,
    app_listeners: BTreeSet<ServiceName>,
    ports: BTreeMap<PortId, ServiceName>,
}

impl Node {
    /// A node that begins to start: drain its outputs. `seed` decides every random choice; an adapter takes it from the
    /// operating system.
    ///
    /// # Errors
    /// A configuration no node can run with.
    pub fn new(config: Config, seed: [u8; 32], now: Now) -> Result<Self, ConfigError> {
        let mut rng = Rng::from_seed(seed);
        let limits = config.limits.clone();
        let own_hash = config.node_id.hash();
        let table = stream::TableConfig {
            max_streams: limits.streams,
            receive_memory: limits.stream_memory,
            send_memory: limits.stream_memory,
            ..stream::TableConfig::default()
        };
        let mut node = Self {
            own_hash,
            phase: Phase::Loading {
                epoch: false,
                units: false,
            },
            last: now,
            outputs: VecDeque::new(),
            tasks: BTreeMap::new(),
            next_task: 0,
            net: Netceptor::new(&config, rng.fork_seed(), now)?,
            streams: stream::Table::new(table, rng.fork()),
            held_back: BTreeSet::new(),
            unrouted: BTreeSet::new(),
            pipes: Pipes::new(),
            next_pipe: 0,
            ties: BTreeMap::new(),
            next_tie: 0,
            plains: BTreeMap::new(),
            handshakes: VecDeque::new(),
            quic: quic::Quic::new(config.quic),
            races: race::Races::default(),
            owners: BTreeMap::new(),
            stream_tls: BTreeMap::new(),
            protected: BTreeMap::new(),
            stash: BTreeMap::new(),
            touched: BinaryHeap::new(),
            sessions: BTreeMap::new(),
            next_session: 0,
            muted: VecDeque::new(),
            control_services: BTreeSet::new(),
            services: Services::new(&config.services, limits.service_connections),
            cancelled: VecDeque::new(),
            reload: None,
            strangers: Complaints::default(),
            work: Workceptor::new(&config, rng.fork()),
            peers: BTreeMap::new(),
            askers: BTreeMap::new(),
            next_probe: 0,
            app_listeners: BTreeSet::new(),
            ports: BTreeMap::new(),
            rng,
            config,
        };
        node.task(TaskOwner::LoadEpoch, Task::LoadEpoch);
        node.task(TaskOwner::ScanUnits, Task::ScanUnits);
        Ok(node)
    }

    /// Tells the node a fact. Outputs may follow; they may also be left undrained between inputs.
    ///
    /// # Errors
    /// Only for misuse by the embedding program, never for what a peer or client did.
    pub fn handle(&mut self, now: Now, input: Input) -> Result<(), CallerError> {
        let now = self.clamp(now);
        let result = self.take(now, input);
        self.settle(now);
        result
    }

    /// The next thing to do for the adapter.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Moves up to about `max_bytes` of waiting frames to the end of `into`. Call it when the link's socket can take them;
    /// an empty result means that there are none until the next [`io::LinkOutput::Ready`]. Outputs may follow.
    pub fn pull_frames(&mut self, now: Now, link: LinkId, max_bytes: usize, into: &mut Vec<BytesMut>) {
        let now = self.clamp(now);
        self.net.pull_frames(now, link, max_bytes, into);
        if self.release_held_back(link) {
            self.settle(now);
        }
    }

    /// The links of this node and what waits on them: counters for an embedding program to show.
    pub fn link_stats(&self) -> Vec<LinkStats> {
        self.net.link_stats()
    }

    /// Bytes of memory that the queues of all links hold together.
    pub fn queued_bytes(&self) -> usize {
        self.net.queued_bytes()
    }

    /// When to call again with [`Input::Timeout`], and why.
    pub fn next_deadline(&self) -> Deadline {
        if !self.outputs.is_empty() {
            return Deadline::Now;
        }
        self.net
            .next_deadline()
            .min(if sabotage::is(Bug::ForgetsTimers) {
                Deadline::Idle
            } else {
                self.streams.next_deadline()
            })
            .min(self.work.next_deadline())
            .min(self.races.next_deadline())
            .min(Deadline::at(
                self.muted.front().map(|&(until, _)| until),
                "bridge of a control session speaks",
            ))
            .min(Deadline::at(
                self.handshakes.front().map(|&(until, _)| until),
                "handshake of a stream",
            ))
            .min(Deadline::at(
                self.cancelled.front().map(|&(due, _)| due),
                "stream of a broken socket ends",
            ))
    }

    /// Time never goes back; a caller that claims so is taken at the latest time it told.
    fn clamp(&mut self, now: Now) -> Now {
        debug_assert!(now.mono >= self.last.mono, "monotonic time went back");
        self.last = Now {
            mono: now.mono.max(self.last.mono),
            wall: now.wall,
        };
        self.last
    }

    fn take(&mut self, now: Now, input: Input) -> Result<(), CallerError> {
        match input {
            Input::Link(id, input) => self.link_input(now, id, input),
            Input::Pipe(id, input) => self.pipe_input(now, id, input),
            Input::Quic(message) => self.quic_input(now, message),
            Input::Done(id, result) => self.task_done(now, id, result),
            Input::Runner(unit, event) => {
                self.work.handle_runner(now, &unit, event);
                Ok(())
            }
            Input::Command(id, command) => self.command(now, id, command),
            Input::Timeout => {
                self.timeouts(now);
                Ok(())
            }
            Input::Shutdown => {
                self.streams.shutdown(now.mono);
                self.shut_quic_down();
                Ok(())
            }
        }
    }

    fn timeouts(&mut self, now: Now) {
        self.net.handle_timeout(now);
        if !sabotage::is(Bug::KeepsTimers) {
            self.streams.handle_timeout(now.mono);
        }
        self.unmute(now);
        self.handshake_timeouts(now);
        self.end_cancelled(now);
        self.race_timeouts(now);
        if self.work.next_deadline().is_due(now.mono) {
            self.work.handle_timeout(now);
        }
    }

    /// Lets the components work on one another's wishes until none is left.
    fn settle(&mut self, now: Now) {
        while self.mesh_outputs(now)
            | self.stream_events(now)
            | self.work_outputs(now)
            | self.pump_touched(now)
            | self.transmit_streams(now)
        {}
    }

    /// Marks a connection for the end of the pass.
    fn touch(&mut self, conn: Conn) {
        self.touched.push(Reverse(conn));
    }

    fn pump_touched(&mut self, now: Now) -> bool {
        let mut progress = false;
        while let Some(Reverse(conn)) = self.touched.pop() {
            progress = true;
            while self.touched.peek() == Some(&Reverse(conn)) {
                self.touched.pop();
            }
            match self.owners.get(&conn) {
                Some(&Owner::Session(key)) => self.pump_session(now, key),
                Some(&Owner::Tie(key)) => self.pump_tie(now, key),
                Some(&Owner::Peer(key)) => self.pump_peer(now, key),
                Some(&Owner::ServiceWaiting(stream)) => self.service_waits(now, conn, stream),
                Some(Owner::ServiceCancelled) => self.discard(now, conn),
                Some(Owner::Connecting(_) | Owner::Dialing(..) | Owner::Arriving | Owner::ServiceDialing(_)) | None => {
                }
            }
        }
        progress
    }

    fn pipe_input(&mut self, now: Now, id: PipeId, input: PipeInput) -> Result<(), CallerError> {
        let conn = Conn::Pipe(id);
        if let PipeInput::OpenControl { .. } | PipeInput::OpenService { .. } = input
            && (self.pipes.contains_key(&id) || id.0 & ties::OWN_PIPES != 0)
        {
            return Err(CallerError::Misuse(alloc::format!("pipe {} is in use", id.0)));
        }
        if let PipeInput::OpenControl { is_local } = input {
            self.pipes.insert(id, Default::default());
            let origin = if is_local { Origin::Local } else { Origin::Network };
            self.open_session(now, conn, origin);
            return Ok(());
        }
        if let PipeInput::OpenService { service, remote } = input {
            return self.service_socket(now, id, service, remote);
        }
        let pipe = match input {
            PipeInput::Closed => {
                self.pipe_ended(now, id, None);
                return Ok(());
            }
            PipeInput::Failed(reason) => {
                self.pipe_ended(now, id, Some(reason));
                return Ok(());
            }
            _ => self.pipes.get_mut(&id).ok_or(CallerError::Unknown("pipe"))?,
        };
        match input {
            PipeInput::Data(data) => {
                if pipe.on_data(data) == Taken::OverCredit {
                    return Err(CallerError::Blocked("credit of the pipe"));
                }
            }
            PipeInput::Eof => pipe.on_eof(),
            PipeInput::Drained(bytes) => {
                pipe.on_drained(bytes);
                self.close_drained_pipe(id, false);
            }
            PipeInput::Secured => self.pipe_secured(now, id),
            PipeInput::OpenControl { .. }
            | PipeInput::OpenService { .. }
            | PipeInput::Failed(_)
            | PipeInput::Closed => {}
        }
        self.touch(conn);
        Ok(())
    }

    fn task(&mut self, owner: TaskOwner, task: Task) {
        let id = self.new_task(owner);
        self.outputs.push_back(Output::Task(id, task));
    }

    fn new_task(&mut self, owner: TaskOwner) -> TaskId {
        let id = TaskId(self.next_task);
        self.next_task += 1;
        self.tasks.insert(id, owner);
        id
    }

    fn task_done(&mut self, now: Now, id: TaskId, result: TaskResult) -> Result<(), CallerError> {
        let owner = self.tasks.remove(&id).ok_or(CallerError::Unknown("task"))?;
        match (owner, result) {
            (TaskOwner::Unit(key), TaskResult::Unit(result)) => self.work.handle_done(now, key, result),
            (TaskOwner::Sign(key), TaskResult::Signed(token)) => self.work.handle_signed(now, key, Ok(token)),
            (TaskOwner::Sign(key), TaskResult::Failed(error)) => self.work.handle_signed(now, key, Err(error)),
            (TaskOwner::Verify(key), TaskResult::Verified(result)) => {
                let result = result.map_or_else(Verified::Refused, Verified::Claims);
                self.work.handle_verified(now, key, result);
            }
            (TaskOwner::Verify(key), TaskResult::Failed(error)) => {
                self.work.handle_verified(now, key, Verified::NoKey(error));
            }
            (TaskOwner::Reload, result) => self.configuration_read(now, result)?,
            (TaskOwner::Unlisten(_), TaskResult::Unlistened) => self.unlistened(now),
            (TaskOwner::Relisten(backend), TaskResult::Listening(address)) => {
                self.relistened(now, backend, Ok(address))
            }
            (TaskOwner::Relisten(backend), TaskResult::Failed(error)) => self.relistened(now, backend, Err(error)),
            (TaskOwner::Dial(backend), result) => self.dial_done(now, backend, result)?,
            (TaskOwner::Connect(pipe), TaskResult::Connected) => self.services.on_connected(pipe),
            (TaskOwner::Connect(pipe), TaskResult::Failed(error)) => self.service_unconnected(now, pipe, &error),
            (TaskOwner::Unit(_), other) => {
                return Err(CallerError::Misuse(alloc::format!(
                    "a task of a unit was answered with {other:?}"
                )));
            }
            (owner, result) => self.startup_done(now, owner, result)?,
        }
        Ok(())
    }

    fn log(&mut self, level: Level, text: String) {
        self.outputs.push_back(Output::Event(Event::Log(level, text)));
    }

    fn error(&mut self, text: String) {
        self.log(Level::Error, text);
    }

    /// Logs what strangers cause, unless there was too much of it of late.
    fn complain_of_stranger(&mut self, now: Now, text: &str) {
        if let Some(line) = self.strangers.line(now.mono, text) {
            self.log(Level::Info, line);
        }
    }

    fn warn(&mut self, text: String) {
        self.log(Level::Warning, text);
    }
}

fn check_node(config: &Config) -> Result<(), String> {
    NodeId::check_own(config.node_id.as_str())?;
    if config.node_id.as_str().is_empty() {
        return Err("node id must not be empty".into());
    }
    if config.idle_timeout < Config::MIN_IDLE_TIMEOUT {
        return Err(alloc::format!(
            "user defined maxIdleConnectionTimeout [{}] is less than the default default timeout [{}]",
            config.idle_timeout.as_nanos(),
            Config::MIN_IDLE_TIMEOUT.as_nanos()
        ));
    }
    security::check_names(config)
}
