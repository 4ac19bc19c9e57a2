//! One real node among neighbours that are played by hand: for tests and benches that feed single frames.

use bytes::BytesMut;
use receptor_core::config::{Backend, BackendKind, Config};
use receptor_core::deadline::Deadline;
use receptor_core::firewall::Rules;
use receptor_core::id::{BackendId, LinkId, NameHash, ServiceName};
use receptor_core::node::Node;
use receptor_core::node::io::{Input, LinkInput, Output, Task, TaskResult};
use receptor_core::time::{Duration, Instant, Now, Wall};
use receptor_core::wire::classic::RoutingUpdate;
use receptor_core::wire::data::{HEADER_LEN, Header, MAX_HOPS};
use receptor_core::workceptor::Stored;

/// The name of the node.
pub const RELAY: &str = "relay";

/// Wall clock at the start: 2023-11-14T22:13:20Z.
const WALL_START: Wall = Wall::from_secs(1_700_000_000);

/// A started node called [`RELAY`] with one accepted link per neighbour, all classic. The first neighbour is on link 0.
#[derive(Debug)]
pub struct Relay {
    /// The node.
    pub node: Node,
    now: Instant,
}

impl Relay {
    /// A node with routes to all of `neighbours`.
    pub fn new(neighbours: &[&str]) -> Self {
        Self::with_firewall(neighbours, Rules::default())
    }

    /// The same behind a firewall.
    pub fn with_firewall(neighbours: &[&str], rules: Rules) -> Self {
        let mut config = Config::new(RELAY.into());
        config.backends = vec![Backend {
            kind: BackendKind::External,
            cost: 1.0,
            node_costs: Default::default(),
            allowed_peers: None,
        }];
        config.firewall = rules;
        let now = Instant::ZERO;
        let node = Node::new(config, [1; 32], clocks(now)).expect("a valid configuration");
        let mut relay = Self { node, now };
        relay.drain();
        for (link, name) in (0..).map(LinkId).zip(neighbours) {
            relay.input(Input::Link(
                link,
                LinkInput::Up {
                    backend: BackendId(0),
                    remote: (*name).into(),
                    certified: None,
                },
            ));
            // The first hello introduces the neighbour, the second confirms that it accepted us.
            for sequence in 1..=2 {
                relay.frame(link, update(name, sequence, name, &[(RELAY, 1.0)]));
            }
        }
        relay.advance(Duration::from_millis(200));
        relay.discard(neighbours.len() as u64);
        relay
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        clocks(self.now)
    }

    /// Hands a frame over as if it had come from that link's neighbour. Outputs stay undrained.
    pub fn frame(&mut self, link: LinkId, frame: BytesMut) {
        self.input(Input::Link(link, LinkInput::Frame(frame)));
    }

    /// Takes what waits on a link; `into` is emptied before.
    pub fn pull(&mut self, link: LinkId, into: &mut Vec<BytesMut>) {
        self.pull_some(link, usize::MAX, into);
    }

    /// Takes about so many bytes of what waits on a link; `into` is emptied before.
    pub fn pull_some(&mut self, link: LinkId, max_bytes: usize, into: &mut Vec<BytesMut>) {
        into.clear();
        self.node.pull_frames(clocks(self.now), link, max_bytes, into);
    }

    /// Throws away what waits on the links `0..links`.
    pub fn discard(&mut self, links: u64) {
        let mut frames = Vec::new();
        for link in (0..links).map(LinkId) {
            self.pull(link, &mut frames);
        }
        self.drain();
    }

    /// Lets time pass, from deadline to deadline.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.drain();
            match self.node.next_deadline() {
                Deadline::At(at, _) if at <= end => {
                    self.now = self.now.max(at);
                    self.input(Input::Timeout);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    /// Answers tasks as a machine with an empty disk does, and forgets all other outputs.
    pub fn drain(&mut self) {
        while let Some(output) = self.node.poll_output() {
            let Output::Task(id, task) = output else { continue };
            let result = match task {
                Task::LoadEpoch => TaskResult::Epoch(None),
                Task::StoreEpoch(_) => TaskResult::Stored,
                Task::ScanUnits => TaskResult::Units(Stored::default()),
                other => TaskResult::Failed(format!("not on this machine: {other:?}")),
            };
            self.input(Input::Done(id, result));
        }
    }

    fn input(&mut self, input: Input) {
        self.node.handle(clocks(self.now), input).expect("a sensible input");
    }
}

/// The clocks at a point of virtual time.
pub fn clocks(mono: Instant) -> Now {
    Now {
        mono,
        wall: WALL_START + mono.since(Instant::ZERO),
    }
}

/// A classic routing update about `node` as the neighbour `by` passes it on.
pub fn update(node: &str, sequence: u64, by: &str, connections: &[(&str, f64)]) -> BytesMut {
    let update = RoutingUpdate {
        node_id: node.into(),
        update_id: format!("{node}-{sequence}"),
        epoch: WALL_START.as_secs() << 24,
        sequence,
        connections: Some(connections.iter().map(|&(name, cost)| (name.into(), cost)).collect()),
        forwarding_node: by.into(),
        suspected_duplicate: 0,
        ext: None,
    };
    BytesMut::from(&update.emit()[..])
}

/// A data frame.
pub fn data(from: &str, to: &str, payload: usize) -> BytesMut {
    let header = Header {
        hops: MAX_HOPS,
        flags: 0,
        from: NameHash::of(from),
        to: NameHash::of(to),
        from_service: ServiceName::from_wire(*b"sender\0\0"),
        to_service: ServiceName::from_wire(*b"receiver"),
    };
    let mut frame = BytesMut::zeroed(HEADER_LEN + payload);
    frame[..HEADER_LEN].copy_from_slice(&header.to_bytes());
    frame
}
