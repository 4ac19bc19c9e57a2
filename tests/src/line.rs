//! Three real nodes in a row, `near` – `relay` – `far`, with nothing between them that costs time or memory of its own: what is
//! counted or seen here is the nodes'. Streams go from `near` to `far`.

use bytes::{Bytes, BytesMut};
use receptor_core::config::{Backend, BackendKind, Config};
use receptor_core::deadline::Deadline;
use receptor_core::id::{BackendId, CommandId, LinkId, PipeId, PortId, TaskId};
use receptor_core::node::Node;
use receptor_core::node::io::{
    Command, Event, Input, Layer, LinkInput, LinkOutput, Output, PIPE_WINDOW, PipeInput, PipeOutput, Reply, Task,
    TaskResult,
};
use receptor_core::time::{Duration, Instant};
use receptor_core::workceptor::Stored;

use crate::relay::clocks;

/// The dialler, its neighbour on the way, and the listener.
pub const NAMES: [&str; 3] = ["near", "relay", "far"];

/// The far end of each link: node and its link.
const WIRES: [(usize, LinkId, usize, LinkId); 4] = [
    (0, LinkId(0), 1, LinkId(0)),
    (1, LinkId(0), 0, LinkId(0)),
    (1, LinkId(1), 2, LinkId(0)),
    (2, LinkId(0), 1, LinkId(1)),
];

/// An end of a stream, as its application sees it.
#[derive(Debug)]
pub struct End {
    node: usize,
    pipe: PipeId,
    /// What protects it, once it has begun.
    pub layer: Option<Layer>,
    /// Bytes it may send.
    pub credit: usize,
    /// What came, while [`Line::is_keeping`].
    pub inbox: Vec<Bytes>,
    /// Bytes that came.
    pub received: u64,
}

/// The nodes and the time.
#[derive(Debug)]
pub struct Line {
    nodes: [Node; 3],
    now: Instant,
    /// Links that have frames.
    ready: [bool; WIRES.len()],
    frames: Vec<BytesMut>,
    /// Both ends of each stream, in the order of their dials: the dialler's at even places.
    pub ends: Vec<End>,
    /// Keep what applications receive.
    pub is_keeping: bool,
    /// Everything the relay was given and gave, one frame after the other, if it is to be kept.
    pub seen: Option<Vec<u8>>,
    /// Bytes that each link takes per [`Line::pass`], about; what is beyond waits in the nodes.
    burst: usize,
    /// What each wire still takes.
    room: [usize; WIRES.len()],
    /// Frames the relay gave.
    pub relayed: u64,
    next_id: u64,
    replies: Vec<(CommandId, Reply)>,
    datagrams: Vec<Bytes>,
}

impl Line {
    /// The nodes, with their links up and their routes known.
    pub fn new() -> Self {
        let now = Instant::ZERO;
        let nodes = NAMES.map(|name| {
            let mut config = Config::new(name.into());
            config.backends = vec![Backend::new(BackendKind::External)];
            Node::new(config, [name.len() as u8; 32], clocks(now)).expect("a valid configuration")
        });
        let mut line = Self {
            nodes,
            now,
            ready: [false; WIRES.len()],
            frames: Vec::with_capacity(1024),
            ends: Vec::new(),
            is_keeping: false,
            seen: None,
            burst: usize::MAX,
            room: [usize::MAX; WIRES.len()],
            relayed: 0,
            next_id: 0,
            replies: Vec::new(),
            datagrams: Vec::new(),
        };
        line.settle();
        for (node, link, other, _) in WIRES {
            let up = LinkInput::Up {
                backend: BackendId(0),
                remote: NAMES[other].into(),
                certified: None,
            };
            line.input(node, Input::Link(link, up));
        }
        for _ in 0..40 {
            line.pass(Duration::from_millis(50));
        }
        line
    }

    /// From now on each link takes about so many bytes per [`Line::pass`].
    pub fn limit(&mut self, burst: usize) {
        self.burst = burst;
        self.room = [burst; WIRES.len()];
    }

    /// Opens a stream and waits until both applications have their ends; the dialler's place in [`Line::ends`], the other's
    /// is the next.
    pub fn dial(&mut self) -> usize {
        let place = self.ends.len();
        if place == 0 {
            self.command(
                2,
                Command::Listen {
                    service: "sink".into(),
                    advertise: None,
                    tls: None,
                },
            );
        }
        self.next_id += 1;
        let pipe = PipeId(self.next_id);
        self.add(0, pipe);
        let (node, service) = (NAMES[2].into(), "sink".into());
        let dial = Command::Dial {
            pipe,
            node,
            service,
            tls: None,
        };
        self.nodes[0]
            .handle(clocks(self.now), Input::Command(CommandId(self.next_id), dial))
            .expect("a new pipe");
        self.settle();
        assert_eq!(
            self.ends.len(),
            place + 2,
            "the stream was not accepted: {:?}",
            self.replies
        );
        place
    }

    /// The application's side of a secured pipe has done its handshake.
    pub fn secured(&mut self, end: usize) {
        let End { node, pipe, .. } = self.ends[end];
        self.input(node, Input::Pipe(pipe, PipeInput::Secured));
    }

    /// Sends; more than the credit is refused by the node.
    pub fn send(&mut self, end: usize, data: Bytes) {
        let End { node, pipe, .. } = self.ends[end];
        self.ends[end].credit -= data.len();
        self.input(node, Input::Pipe(pipe, PipeInput::Data(data)));
    }

    /// Sends a datagram from `near` to a port of `far`, opened for it; what arrives there.
    pub fn datagram(&mut self, data: &'static [u8]) -> Vec<Bytes> {
        for (node, service) in [(2, "port"), (0, "")] {
            let open = Command::OpenPort {
                port: PortId(1),
                service: service.into(),
                advertise: None,
            };
            self.command(node, open);
        }
        let send = Command::Send {
            port: PortId(1),
            node: NAMES[2].into(),
            service: "port".into(),
            data: Bytes::from_static(data),
            hops: 30,
        };
        self.command(0, send);
        self.settle();
        self.datagrams.clone()
    }

    /// Time passes, deadlines are kept, and everything that waits is carried.
    pub fn pass(&mut self, time: Duration) {
        self.room = [self.burst; WIRES.len()];
        self.settle();
        let end = self.now + time;
        loop {
            let deadlines = self.nodes.iter().map(Node::next_deadline);
            match deadlines.fold(Deadline::Idle, Deadline::min) {
                Deadline::At(at, _) if at <= end => self.now = self.now.max(at),
                _ => break,
            }
            for node in 0..self.nodes.len() {
                self.input(node, Input::Timeout);
            }
            self.settle();
        }
        self.now = end;
    }

    /// Carries everything that waits, as far as links take it.
    pub fn settle(&mut self) {
        loop {
            for node in 0..self.nodes.len() {
                while let Some(output) = self.nodes[node].poll_output() {
                    self.output(node, output);
                }
            }
            let mut has_moved = false;
            for wire in 0..WIRES.len() {
                has_moved |= self.ready[wire] && self.room[wire] > 0;
                self.carry(wire);
            }
            if !has_moved {
                return;
            }
        }
    }

    /// What one link takes now.
    fn carry(&mut self, wire: usize) {
        let (from, link, to, other) = WIRES[wire];
        let mut frames = std::mem::take(&mut self.frames);
        while self.ready[wire] && self.room[wire] > 0 {
            let most = self.room[wire].min(1 << 20);
            self.nodes[from].pull_frames(clocks(self.now), link, most, &mut frames);
            self.ready[wire] = !frames.is_empty();
            self.relayed += if from == 1 { frames.len() as u64 } else { 0 };
            for frame in frames.drain(..) {
                self.room[wire] = self.room[wire].saturating_sub(frame.len());
                if let Some(seen) = &mut self.seen {
                    seen.extend_from_slice(&frame);
                }
                self.input(to, Input::Link(other, LinkInput::Frame(frame)));
            }
        }
        self.frames = frames;
    }

    fn output(&mut self, node: usize, output: Output) {
        match output {
            Output::Link(link, LinkOutput::Ready) => {
                let wire = WIRES.iter().position(|&(from, own, ..)| (from, own) == (node, link));
                self.ready[wire.expect("a link of the row")] = true;
            }
            Output::Link(..) => panic!("a link is closed"),
            Output::Pipe(pipe, output) => self.pipe_output(node, pipe, output),
            Output::Task(id, task) => self.task(node, id, task),
            Output::Event(Event::Accepted { pipe, .. }) => self.add(node, pipe),
            Output::Event(Event::Datagram { data, .. }) => self.datagrams.push(data),
            Output::Reply(id, reply) => self.replies.push((id, reply)),
            _ => {}
        }
    }

    fn pipe_output(&mut self, node: usize, pipe: PipeId, output: PipeOutput) {
        let end = self.ends.iter_mut().find(|end| (end.node, end.pipe) == (node, pipe));
        let end = end.expect("a pipe of ours");
        match output {
            PipeOutput::Begin(layer) => end.layer = Some(layer),
            PipeOutput::Credit(bytes) => end.credit += bytes,
            PipeOutput::Data(data) => {
                let count = data.len();
                end.received += count as u64;
                if self.is_keeping {
                    end.inbox.push(data);
                }
                self.input(node, Input::Pipe(pipe, PipeInput::Drained(count)));
            }
            PipeOutput::Eof | PipeOutput::Close => panic!("nobody ends a stream here"),
        }
    }

    fn task(&mut self, node: usize, id: TaskId, task: Task) {
        let result = match task {
            Task::LoadEpoch => TaskResult::Epoch(None),
            Task::StoreEpoch(_) => TaskResult::Stored,
            Task::ScanUnits => TaskResult::Units(Stored::default()),
            other => panic!("not in this row: {other:?}"),
        };
        self.input(node, Input::Done(id, result));
    }

    fn add(&mut self, node: usize, pipe: PipeId) {
        self.ends.push(End {
            node,
            pipe,
            layer: None,
            credit: PIPE_WINDOW,
            inbox: Vec::new(),
            received: 0,
        });
    }

    fn command(&mut self, node: usize, command: Command) {
        self.next_id += 1;
        let id = CommandId(self.next_id);
        self.input(node, Input::Command(id, command));
        self.settle();
        let reply = self.replies.iter().find(|(other, _)| *other == id);
        assert!(
            reply.is_some_and(|(_, reply)| !matches!(reply, Reply::Error(_))),
            "{reply:?}"
        );
    }

    fn input(&mut self, node: usize, input: Input) {
        let handled = self.nodes[node].handle(clocks(self.now), input);
        handled.expect("a sensible input");
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}
