//! A node under an adapter that checks the contract of `receptor_core::node::io` at every step.

pub(crate) mod frames;
mod remote;
mod units;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use receptor_core::config::{Backend, BackendKind, Config, ControlService, Limits, SocketFile, WorkKind, WorkType};
use receptor_core::deadline::Deadline;
use receptor_core::error::CallerError;
use receptor_core::id::{BackendId, CommandId, LinkId, PipeId, ServiceName, TaskId};
use receptor_core::node::Node;
use receptor_core::node::io::{
    Command, Event, Input, LinkInput, LinkOutput, Output, PIPE_WINDOW, PipeInput, PipeOutput, Reply, Task, TaskResult,
};
use receptor_core::time::{Duration, Instant, Now, Wall};
use receptor_core::workceptor::Stored;

use remote::Remote;
use units::Units;

/// The name of the node.
pub(crate) const OWN: &str = "node";

/// Wall clock at the start: 2023-11-14T22:13:20Z.
pub(crate) const WALL_START: Wall = Wall::from_secs(1_700_000_000);

/// The backend that links are brought to.
const EXTERNAL: BackendId = BackendId(0);

/// The user's end of a pipe.
#[derive(Debug)]
struct Pipe {
    /// Bytes we may send. Below zero after a misuse that the node took.
    credit: i64,
    undrained: usize,
    /// The node has said what the bytes are.
    is_begun: bool,
    /// What comes here goes there: the two pipes of an [`Output::Secure`].
    partner: Option<u64>,
    eof: bool,
    closed: bool,
}

/// A node and its surroundings.
#[derive(Debug)]
pub(crate) struct Rig {
    node: Node,
    now: Instant,
    wall: Wall,
    /// Commands without a reply, and the pipes of dials.
    commands: BTreeMap<u64, Option<u64>>,
    next_command: u64,
    tasks: VecDeque<(TaskId, Task)>,
    seen_tasks: BTreeSet<TaskId>,
    pipes: BTreeMap<u64, Pipe>,
    next_pipe: u64,
    /// Links that are not down, and whether the node has closed them.
    links: BTreeMap<u64, bool>,
    next_link: u64,
    units: Units,
    /// A stream of a neighbour.
    remote: Option<Remote>,
    /// Tasks that were answered nonsensically: what depended on them may never end.
    misused: BTreeSet<TaskId>,
}

impl Rig {
    /// A node that has not started; with small limits if asked.
    pub(crate) fn new(small: bool) -> Self {
        let now = Instant::ZERO;
        let clocks = Now {
            mono: now,
            wall: WALL_START,
        };
        Self {
            node: Node::new(config(small), [7; 32], clocks).expect("a valid configuration"),
            now,
            wall: WALL_START,
            commands: BTreeMap::new(),
            next_command: 0,
            tasks: VecDeque::new(),
            seen_tasks: BTreeSet::new(),
            pipes: BTreeMap::new(),
            next_pipe: 0,
            links: BTreeMap::new(),
            next_link: 0,
            units: Units::default(),
            remote: None,
            misused: BTreeSet::new(),
        }
    }

    /// Lets the node start with an empty disk.
    pub(crate) fn start(&mut self) {
        self.settle();
    }

    fn clocks(&self) -> Now {
        Now {
            mono: self.now,
            wall: self.wall,
        }
    }

    fn input(&mut self, input: Input) -> Result<(), CallerError> {
        self.node.handle(self.clocks(), input)
    }

    /// Takes one output; `false` if there was none.
    pub(crate) fn poll(&mut self) -> bool {
        let is_due = self.node.next_deadline() == Deadline::Now;
        let output = self.node.poll_output();
        assert_eq!(is_due, output.is_some(), "the deadline says whether outputs wait");
        let Some(output) = output else { return false };
        match output {
            Output::Link(LinkId(id), LinkOutput::Close) => {
                if let Some(closed) = self.links.get_mut(&id) {
                    assert!(!std::mem::replace(closed, true), "link {id} is closed twice");
                }
            }
            Output::Link(_, LinkOutput::Ready) => {}
            Output::Pipe(PipeId(id), output) => self.pipe_output(id, &output),
            Output::Task(id, task) => {
                assert!(self.seen_tasks.insert(id), "task {id:?} is given twice");
                if !self.misused.contains(&id) {
                    self.tasks.push_back((id, task));
                }
            }
            Output::Reply(CommandId(id), reply) => {
                let dialled = self.commands.remove(&id).expect("a reply to a command without one");
                if let (Some(pipe), Reply::Error(_)) = (dialled, reply) {
                    self.pipes.remove(&pipe);
                }
            }
            Output::Event(Event::Accepted { pipe, .. }) => self.add_pipe(pipe.0, false),
            Output::Secure { cipher, plain, .. } => {
                self.add_pipe(cipher.0, true);
                self.add_pipe(plain.0, true);
                for (one, other) in [(cipher.0, plain.0), (plain.0, cipher.0)] {
                    if let Some(pipe) = self.pipes.get_mut(&one) {
                        pipe.partner = Some(other);
                    }
                }
                self.input(Input::Pipe(plain, PipeInput::Secured)).expect("a new pipe");
            }
            Output::Event(_) => {}
            other => panic!("an output that is not known here: {other:?}"),
        }
        true
    }

    fn pipe_output(&mut self, id: u64, output: &PipeOutput) {
        // Closed by us: what comes was under way.
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        assert!(!pipe.closed, "pipe {id}: {output:?} after its close");
        assert!(pipe.is_begun || matches!(output, PipeOutput::Begin(_) | PipeOutput::Close));
        match output {
            PipeOutput::Begin(_) => {
                assert!(!std::mem::replace(&mut pipe.is_begun, true), "pipe {id} begins twice");
                // Every other handshake is never done.
                if id & 1 == 0 {
                    self.input(Input::Pipe(PipeId(id), PipeInput::Secured))
                        .expect("a new pipe");
                }
            }
            PipeOutput::Data(data) => {
                pipe.undrained += data.len();
                assert!(
                    !data.is_empty() && !pipe.eof && pipe.undrained <= PIPE_WINDOW,
                    "{id}: {pipe:?}"
                );
                if let Some(partner) = pipe.partner {
                    self.drain_pipe(PipeId(id));
                    self.write_pipe(PipeId(partner), data);
                }
            }
            PipeOutput::Eof => {
                assert!(!std::mem::replace(&mut pipe.eof, true), "pipe {id} ends twice");
                if let Some(partner) = pipe.partner {
                    self.end_pipe(PipeId(partner));
                }
            }
            PipeOutput::Credit(bytes) => {
                pipe.credit += *bytes as i64;
                assert!(*bytes > 0 && pipe.credit <= PIPE_WINDOW as i64, "{id}: {pipe:?}");
            }
            PipeOutput::Close => {
                pipe.closed = true;
                if let Some(partner) = pipe.partner {
                    self.close_pipe(PipeId(id));
                    self.pipes.remove(&partner);
                    let failed = PipeInput::Failed("broken".into());
                    self.input(Input::Pipe(PipeId(partner), failed))
                        .expect("a pipe may always fail");
                }
            }
        }
    }

    /// Takes all outputs.
    pub(crate) fn drain(&mut self) {
        while self.poll() {}
    }

    /// Lets time pass and the node do what is due; it must not stay due for ever.
    pub(crate) fn timeout(&mut self, time: Duration) {
        self.now = self.now + time;
        self.wall = self.wall + time;
        for _ in 0..1000 {
            self.input(Input::Timeout).expect("a timeout is always welcome");
            match self.node.next_deadline() {
                Deadline::At(at, _) if at <= self.now => {}
                _ => return,
            }
        }
        panic!("still due: {:?}", self.node.next_deadline());
    }

    /// Goes to the next deadline, but not past `limit`; `false` if there is none before.
    pub(crate) fn sleep(&mut self, limit: Instant) -> bool {
        match self.node.next_deadline() {
            Deadline::Now => self.timeout(Duration::ZERO),
            Deadline::At(at, _) if at <= limit => self.timeout(at.since(self.now)),
            _ => return false,
        }
        true
    }

    /// Sets the wall clock, forwards or backwards.
    pub(crate) fn set_wall(&mut self, secs: u64) {
        self.wall = Wall::from_secs(secs);
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Drains, answers tasks and takes frames until nothing is left to do at this time.
    pub(crate) fn settle(&mut self) {
        loop {
            self.drain();
            if self.tasks.is_empty() {
                break;
            }
            self.answer(0);
        }
        for link in 1..=self.next_link {
            self.pull(link, usize::MAX);
        }
        self.drain();
    }

    /// Gives everything time to end, and checks that every command was answered.
    pub(crate) fn finish(mut self) {
        let end = self.now + Duration::from_secs(120);
        self.settle();
        while self.sleep(end) {
            self.settle();
        }
        assert!(
            !self.misused.is_empty() || self.commands.is_empty(),
            "no reply to {:?}",
            self.commands
        );
    }

    pub(crate) fn command(&mut self, command: Command) {
        let id = self.next_command;
        self.next_command += 1;
        let dialled = match &command {
            Command::Dial { pipe, .. } => Some(pipe.0),
            _ => None,
        };
        if self.input(Input::Command(CommandId(id), command)).is_ok() {
            self.commands.insert(id, dialled);
            if let Some(pipe) = dialled {
                self.add_pipe(pipe, false);
            }
        }
    }

    /// A fresh ID for a pipe.
    pub(crate) fn new_pipe(&mut self) -> PipeId {
        self.next_pipe += 1;
        PipeId(self.next_pipe)
    }

    fn add_pipe(&mut self, id: u64, is_begun: bool) {
        let pipe = Pipe {
            credit: PIPE_WINDOW as i64,
            undrained: 0,
            is_begun,
            partner: None,
            eof: false,
            closed: false,
        };
        assert!(self.pipes.insert(id, pipe).is_none(), "pipe {id} is there already");
    }

    pub(crate) fn open_control(&mut self) {
        let pipe = self.new_pipe();
        if self
            .input(Input::Pipe(pipe, PipeInput::OpenControl { is_local: true }))
            .is_ok()
        {
            self.add_pipe(pipe.0, true);
        }
    }

    /// One of the open pipes.
    pub(crate) fn some_pipe(&self, choice: usize) -> Option<PipeId> {
        let index = choice.checked_rem(self.pipes.len())?;
        self.pipes.keys().nth(index).map(|&id| PipeId(id))
    }

    pub(crate) fn write_pipe(&mut self, id: PipeId, data: &[u8]) {
        let taken = self.input(Input::Pipe(id, PipeInput::Data(Bytes::copy_from_slice(data))));
        if let Some(pipe) = self.pipes.get_mut(&id.0)
            && taken.is_ok()
        {
            pipe.credit -= data.len() as i64;
        }
    }

    pub(crate) fn end_pipe(&mut self, id: PipeId) {
        let _ = self.input(Input::Pipe(id, PipeInput::Eof));
    }

    pub(crate) fn drain_pipe(&mut self, id: PipeId) {
        if let Some(pipe) = self.pipes.get_mut(&id.0) {
            let drained = std::mem::take(&mut pipe.undrained);
            let _ = self.input(Input::Pipe(id, PipeInput::Drained(drained)));
        }
    }

    pub(crate) fn close_pipe(&mut self, id: PipeId) {
        self.pipes.remove(&id.0);
        self.input(Input::Pipe(id, PipeInput::Closed))
            .expect("a pipe may always be closed");
    }

    /// A link to somebody, or a misuse: the last one comes up again while it is up.
    pub(crate) fn link_up(&mut self, again: bool) -> LinkId {
        let is_up = self.links.contains_key(&self.next_link);
        let id = self.next_link + u64::from(!(again && is_up));
        let up = LinkInput::Up {
            backend: EXTERNAL,
            remote: "somewhere".into(),
            certified: None,
        };
        if self.input(Input::Link(LinkId(id), up)).is_ok() {
            self.next_link = id;
            self.links.insert(id, false);
        }
        LinkId(id)
    }

    pub(crate) fn link_down(&mut self, id: u64) {
        let reason = "cut".into();
        let was_up = self.links.remove(&id).is_some();
        let taken = self.input(Input::Link(LinkId(id), LinkInput::Down { reason }));
        assert_eq!(taken.is_ok(), was_up, "link {id} is down");
    }

    /// One of the links there ever were, or one that never was.
    pub(crate) fn some_link(&self, choice: usize) -> u64 {
        choice as u64 % (self.next_link + 2)
    }

    pub(crate) fn frame(&mut self, link: u64, frame: &[u8]) {
        // Empty frames are never cut.
        if !frame.is_empty() {
            let known = self.links.contains_key(&link);
            let taken = self.input(Input::Link(LinkId(link), LinkInput::Frame(BytesMut::from(frame))));
            assert_eq!(taken.is_ok(), known, "link {link}");
        }
    }

    /// Takes frames as a socket would.
    pub(crate) fn pull(&mut self, link: u64, max: usize) {
        let mut frames = Vec::new();
        self.node.pull_frames(self.clocks(), LinkId(link), max, &mut frames);
        for frame in frames {
            assert!((1..=receptor_core::link::framing::MAX_FRAME).contains(&frame.len()));
            self.remote_receive(&frame);
        }
    }

    /// Answers one of the open tasks as a machine would.
    pub(crate) fn answer(&mut self, choice: usize) {
        let Some((id, task)) = self.take_task(choice) else {
            return;
        };
        let result = match task {
            Task::LoadEpoch => TaskResult::Epoch(None),
            Task::StoreEpoch(_) => TaskResult::Stored,
            Task::ScanUnits => TaskResult::Units(Stored::default()),
            Task::Listen { address, .. } => TaskResult::Listening(address),
            Task::ListenControl { path, .. } => TaskResult::Listening(path),
            Task::Unit(unit, task) => TaskResult::Unit(self.units.run(&unit, task)),
            _ => TaskResult::Failed("connection refused".into()),
        };
        self.input(Input::Done(id, result)).expect("a fitting answer");
    }

    /// A dial that succeeds, if one is open.
    pub(crate) fn connect(&mut self) {
        let Some(at) = self
            .tasks
            .iter()
            .position(|(_, task)| matches!(task, Task::Dial { .. }))
        else {
            return;
        };
        let Some((id, _)) = self.tasks.remove(at) else { return };
        self.next_link += 1;
        self.links.insert(self.next_link, false);
        let link = LinkId(self.next_link);
        let remote = "peer:1".into();
        self.input(Input::Done(
            id,
            TaskResult::Dialed {
                link,
                remote,
                certified: None,
            },
        ))
        .expect("a fitting answer");
    }

    /// Answers one of the open tasks with a failure.
    pub(crate) fn fail(&mut self, choice: usize) {
        let Some((id, task)) = self.take_task(choice) else {
            return;
        };
        let result = match task {
            Task::Unit(unit, task) => TaskResult::Unit(self.units.fail(&unit, &task)),
            _ => TaskResult::Failed("no space left on device".into()),
        };
        self.input(Input::Done(id, result)).expect("a fitting answer");
    }

    /// Answers a task, open, not yet seen or none at all, with something else.
    pub(crate) fn misuse(&mut self, id: u64) {
        let id = TaskId(id);
        let taken = self.input(Input::Done(id, TaskResult::Listening("nonsense".into())));
        if taken != Err(CallerError::Unknown("task")) {
            self.misused.insert(id);
            self.tasks.retain(|(task, _)| *task != id);
        }
    }

    fn take_task(&mut self, choice: usize) -> Option<(TaskId, Task)> {
        let at = choice.checked_rem(self.tasks.len())?;
        self.tasks.remove(at)
    }

    /// Something happens to a unit's runner.
    pub(crate) fn runner(&mut self, choice: usize, what: usize) {
        if let Some((unit, event)) = self.units.runner(choice, what) {
            self.input(Input::Runner(unit, event))
                .expect("a runner may always speak");
        }
    }
}

fn config(small: bool) -> Config {
    let backend = |kind| Backend {
        kind,
        cost: 1.0,
        node_costs: Default::default(),
        allowed_peers: None,
    };
    let work = |name: &str, kind| WorkType::new(name, kind);
    let mut config = Config::new(OWN.into());
    config.backends = vec![backend(BackendKind::External), backend(BackendKind::peer("peer:1"))];
    config.control_services = vec![ControlService {
        service: Some(ServiceName::CONTROL),
        socket: Some(SocketFile {
            path: "control.sock".into(),
            mode: 0o600,
        }),
        ..ControlService::default()
    }];
    let command = WorkKind::Command {
        command: "cat".into(),
        params: String::new(),
        allow_runtime_params: true,
    };
    let reason = "not supported yet".into();
    config.work_types = vec![work("cat", command), work("other", WorkKind::Unavailable { reason })];
    if small {
        config.limits = Limits {
            node_queue_bytes: 1 << 20,
            link_queue_bytes: 8 << 10,
            links: 3,
            unaccepted_links: 4,
            handshakes: 4,
            nodes: 6,
            adverts: 6,
            streams: 3,
            stream_memory: 100_000,
            sessions: 3,
            service_connections: 3,
            port_queue: 2,
            units: 3,
        };
    }
    config
}
