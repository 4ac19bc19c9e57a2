//! Two nodes under virtual time: no socket, no clock, no waiting, and every run is the same.
//!
//! The wire takes 50 ms. Fifteen minutes of mesh life pass in milliseconds.

use std::collections::BTreeMap;
use std::error::Error;

use receptor_core::Node;
use receptor_core::config::{Backend, BackendKind, Config};
use receptor_core::deadline::Deadline;
use receptor_core::error::CallerError;
use receptor_core::id::{BackendId, CommandId, LinkId};
use receptor_core::node::io::{Command, Input, LinkInput, LinkOutput, Output, Reply};
use receptor_core::time::{Duration, Instant, Now, Wall};

const LINK: LinkId = LinkId(1);
const LATENCY: Duration = Duration::from_millis(50);
const PING_EVERY: Duration = Duration::from_secs(30);
const END: Duration = Duration::from_secs(15 * 60);

struct Simulation {
    nodes: Vec<Node>,
    time: Instant,
    /// What will happen, by its time; the second number keeps the order of what happens at the same time.
    future: BTreeMap<(Instant, u64), (usize, Input)>,
    scheduled: u64,
    pongs: u32,
}

/// Both clocks at a point of virtual time.
fn clocks(mono: Instant) -> Now {
    let wall = Wall::from_secs(1_700_000_000) + mono.since(Instant::ZERO);
    Now { mono, wall }
}

impl Simulation {
    fn schedule(&mut self, after: Duration, node: usize, input: Input) {
        self.scheduled += 1;
        self.future.insert((self.time + after, self.scheduled), (node, input));
    }

    /// Tells a node something, and does what it wants until it wants nothing more.
    fn input(&mut self, node: usize, input: Input) -> Result<(), CallerError> {
        let now = clocks(self.time);
        self.nodes[node].handle(now, input)?;
        while let Some(output) = self.nodes[node].poll_output() {
            match output {
                Output::Task(id, task) => self.nodes[node].handle(now, Input::Done(id, task.decline()))?,
                Output::Link(LINK, LinkOutput::Ready) => {
                    let mut frames = Vec::new();
                    self.nodes[node].pull_frames(now, LINK, usize::MAX, &mut frames);
                    for frame in frames {
                        self.schedule(LATENCY, 1 - node, Input::Link(LINK, LinkInput::Frame(frame)));
                    }
                }
                Output::Reply(_, Reply::Pong { from, time }) => {
                    self.pongs += 1;
                    println!("{:?}: {from} answered in {time:?}", self.time);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Goes to the next point of time at which anything happens, and lets it happen.
    fn step(&mut self) -> Result<(), CallerError> {
        let input = Deadline::at(self.future.keys().next().map(|&(at, _)| at), "input");
        let deadlines = self.nodes.iter().map(Node::next_deadline);
        if let Deadline::At(at, _) = deadlines.fold(input, Deadline::min) {
            self.time = at.max(self.time);
        }
        match self.future.first_entry() {
            Some(first) if first.key().0 <= self.time => {
                let (node, input) = first.remove();
                self.input(node, input)
            }
            // A timeout that is not due does no harm.
            _ => (0..2).try_for_each(|node| self.input(node, Input::Timeout)),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut world = Simulation {
        nodes: Vec::new(),
        time: Instant::ZERO,
        future: BTreeMap::new(),
        scheduled: 0,
        pongs: 0,
    };
    for (node, name) in ["alpha", "beta"].into_iter().enumerate() {
        let mut config = Config::new(name.into());
        config.backends = vec![Backend::new(BackendKind::External)];
        world
            .nodes
            .push(Node::new(config, [node as u8; 32], clocks(world.time))?);
        // Scheduled behind the start, so that both nodes take links.
        let (backend, remote) = (BackendId(0), "the wire".to_owned());
        let up = Input::Link(
            LINK,
            LinkInput::Up {
                backend,
                remote,
                certified: None,
            },
        );
        world.schedule(LATENCY, node, up);
    }
    for ping in 1..30 {
        let target = "beta".to_owned();
        let ask = Input::Command(CommandId(ping.into()), Command::Ping { target });
        world.schedule(PING_EVERY * ping, 0, ask);
    }
    while world.time.since(Instant::ZERO) < END {
        world.step()?;
    }
    println!("{} pongs in {:?}", world.pongs, world.time);
    Ok(())
}
