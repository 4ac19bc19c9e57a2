//! Several nodes, each with all of its streams in one table, over a network that loses, doubles and reorders: nodes dial,
//! listen, stop listening, start anew and stop, routes go and come, strangers send anything.
//!
//! At any time: limits hold, memory is within its budget, events are about streams whose owner holds them, timers that were
//! handled are not due, bytes are right. Once the network behaves: what nobody broke is complete, and when all is let go,
//! nothing is left.

mod node;

use bytes::Bytes;
use receptor_core::deadline::Deadline;
use receptor_core::id::ServiceName;
use receptor_core::stream::{Arrival, Received, StreamId};
use receptor_core::time::{Duration, Instant};

use crate::source::Source;
use node::{NAMES, Node, Truth, name_of, node_of, service};

/// Packets under way; the oldest is lost when there would be more.
const FLYING_MAX: usize = 96;

/// Services that are listened on now and then.
const LISTENERS: usize = 2;

/// Every name of a service; the others are ephemeral ones, so few that some are used again.
const SERVICES: usize = 8;

/// A name that is nobody's.
const STRANGER: usize = NAMES;

#[derive(Debug)]
struct World {
    now: Instant,
    nodes: [Node; NAMES],
    /// Packets, and which node they go to.
    flying: Vec<(usize, Arrival)>,
    truth: Truth,
}

/// The first bytes are about limits, then one operation after the other.
pub fn table(input: &[u8]) {
    let mut source = Source::new(input);
    let config = node::config(&mut source);
    let mut world = World {
        now: Instant::ZERO,
        nodes: [0, 1, 2].map(|index| Node::new(index, config.clone())),
        flying: Vec::new(),
        truth: Truth::default(),
    };
    for node in &mut world.nodes {
        node.listen(service(0));
    }
    while !source.is_empty() {
        world.operation(&mut source);
        world.check();
    }
    world.settle();
    world.end();
}

impl World {
    fn operation(&mut self, source: &mut Source<'_>) {
        let choice = usize::from(source.byte());
        let (at, kind) = (choice % NAMES, choice / NAMES % 26);
        let now = self.now;
        let (node, truth) = (&mut self.nodes[at], &mut self.truth);
        match kind {
            0 | 1 => {
                let (to, remote) = (source.below(NAMES + 1), source.below(LISTENERS));
                // Who dials does not listen under that name, or could talk to itself.
                let local = LISTENERS + source.below(SERVICES - LISTENERS);
                node.dial(now, to, service(remote), service(local));
            }
            2 => node.accept(service(source.below(LISTENERS)), source.below(4)),
            3 | 4 => {
                let (choice, len) = (source.below(256), source.number() % (96 << 10));
                node.write(now, choice, len, truth);
            }
            5 => node.finish(source.below(256)),
            6 => node.read(now, source.below(256), source.below(4), truth),
            7 => node.reset(now, source.below(256), u32::from(source.byte()), truth),
            8 => node.release(now, source.below(256), truth),
            9..=11 => self.transmit(at, 1 + source.below(8)),
            12..=15 => self.deliver(source.below(FLYING_MAX), source.flag()),
            16 => drop(self.take(source.below(FLYING_MAX))),
            17 => self.advance(Duration::from_micros(source.number() % (1 << 36))),
            18 => drop(self.sleep()),
            19 => match source.below(3) {
                0 => node.table.block(name_of(source.below(NAMES))),
                1 => node.table.unblock(name_of(source.below(NAMES))),
                _ => node.table.unblock_where(|_| true),
            },
            20 => {
                let (to, limit) = (source.below(NAMES), source.pick(&[1364, 65_499, 16_384]));
                node.set_path(now, to, limit);
            }
            21 => node.table.kick(now, name_of(source.below(NAMES))),
            22 => {
                if source.flag() {
                    node.listen(service(source.below(LISTENERS)));
                } else {
                    node.unlisten(now, service(source.below(LISTENERS)));
                }
            }
            23 => match source.below(8) {
                0 => node.shut_down(now, truth),
                1 | 2 => self.start_anew(at),
                _ => self.transmit(at, usize::MAX),
            },
            24 => self.unreachable(at, source),
            _ => self.inject(at, source),
        }
    }

    fn start_anew(&mut self, at: usize) {
        for node in &self.nodes {
            node.break_streams_with(at, &mut self.truth);
        }
        let node = &mut self.nodes[at];
        node.break_all(&mut self.truth);
        node.start_anew();
        node.listen(service(0));
    }

    fn transmit(&mut self, from: usize, most: usize) {
        for _ in 0..most {
            let Some((to, arrival)) = self.nodes[from].transmit(self.now) else {
                return;
            };
            if self.flying.len() == FLYING_MAX {
                self.flying.remove(0);
            }
            if to != STRANGER {
                self.flying.push((to, arrival));
            }
        }
    }

    fn take(&mut self, choice: usize) -> Option<(usize, Arrival)> {
        let at = choice.checked_rem(self.flying.len())?;
        Some(self.flying.remove(at))
    }

    fn deliver(&mut self, choice: usize, and_keep: bool) {
        let Some((to, arrival)) = self.take(choice) else { return };
        if and_keep {
            self.flying.push((to, arrival.clone()));
        }
        self.arrive(to, arrival);
    }

    fn arrive(&mut self, to: usize, arrival: Arrival) {
        let from = node_of(arrival.remote);
        let (remote_service, local_service) = (arrival.remote_service, arrival.local_service);
        let received = self.nodes[to].table.handle_packet(self.now, arrival);
        // As a node answers for a service that it does not have.
        if received == Received::UnknownService && from != STRANGER {
            let (here, now) = (name_of(to), self.now);
            let table = &mut self.nodes[from].table;
            table.on_unreachable(now, here, local_service, remote_service, "service unknown");
        }
    }

    fn unreachable(&mut self, at: usize, source: &mut Source<'_>) {
        let (to, remote, local) = (source.below(NAMES + 1), source.below(2), source.below(SERVICES));
        let problem = source.pick(&["no route to node", "service unknown", "?"]);
        let table = &mut self.nodes[at].table;
        table.on_unreachable(self.now, name_of(to), service(remote), service(local), problem);
    }

    /// A packet that nobody made, for a stream that exists if its nonce is taken from one.
    fn inject(&mut self, at: usize, source: &mut Source<'_>) {
        let knows = source.flag();
        let (from, remote, local) = (source.below(NAMES + 1), source.below(SERVICES), source.below(SERVICES));
        let mut arrival = Arrival {
            remote: name_of(from),
            remote_service: service(remote),
            local_service: service(local),
            payload: Bytes::new(),
            marked: source.flag(),
        };
        let ours = self.nodes[at].choose(source.below(256));
        let mut payload = source.bytes().to_vec();
        if knows && let Some((_, ours)) = ours {
            (arrival.remote, arrival.remote_service, arrival.local_service) =
                (name_of(ours.remote), ours.remote_service, ours.local_service);
            if let Some(nonce) = payload.get_mut(1..5) {
                nonce.copy_from_slice(&ours.nonce.to_be_bytes());
            }
        }
        self.truth.is_tainted = true;
        arrival.payload = payload.into();
        self.arrive(at, arrival);
    }

    fn advance(&mut self, time: Duration) {
        self.now = self.now + time;
        for node in &mut self.nodes {
            node.handle_timeouts(self.now);
        }
    }

    /// Sleeps to the next deadline; `false` if there is none.
    fn sleep(&mut self) -> bool {
        let deadlines = self.nodes.iter().map(|node| node.table.next_deadline());
        match deadlines.fold(Deadline::Idle, Deadline::min) {
            Deadline::At(at, _) => self.advance(at.since(self.now)),
            Deadline::Now => self.advance(Duration::ZERO),
            Deadline::Idle => return false,
        }
        true
    }

    fn check(&mut self) {
        for node in &mut self.nodes {
            node.poll_events(&mut self.truth);
            node.check();
        }
        self.truth.check();
    }

    /// From now on nothing is lost and nobody is held back, everybody accepts and reads and says no more.
    fn settle(&mut self) {
        let limit = self.now + Duration::from_secs(600);
        for step in 0..20_000 {
            assert!(step < 19_999, "no rest after {:?}", self.now);
            for at in 0..NAMES {
                let (node, truth) = (&mut self.nodes[at], &mut self.truth);
                node.table.unblock_where(|_| true);
                for name in [0, 1].map(service) {
                    node.accept(name, usize::MAX);
                }
                node.for_each(|node, choice| {
                    node.finish(choice);
                    node.read(self.now, choice, 0, truth);
                });
                self.transmit(at, FLYING_MAX / NAMES);
            }
            let is_quiet = self.flying.is_empty();
            while let Some((to, arrival)) = self.take(0) {
                self.arrive(to, arrival);
            }
            self.check();
            if is_quiet && !(self.now < limit && self.sleep()) {
                break;
            }
        }
        let nodes = self.nodes.iter().enumerate();
        let ends: Vec<_> = nodes
            .flat_map(|(at, node)| node.ends().map(move |end| (at, end)))
            .collect();
        for (at, (id, ours)) in &ends {
            let stream = self.nodes[*at].table.stream(*id);
            if self.truth.is_broken(ours.nonce) {
                continue;
            }
            let stream = stream.unwrap_or_else(|| panic!("{ours:?} at {at} is not known"));
            assert!(
                stream.is_finished() && stream.is_ended(),
                "{ours:?} at {at}: {stream:?}"
            );
            assert_eq!(ours.read, self.truth.written_for(ours), "{ours:?} at {at}");
        }
    }

    /// When all is let go, nothing is left.
    fn end(mut self) {
        let now = self.now;
        // A packet with SYN that comes after its node was started anew can open the rest of a stream whose first bytes went to
        // the node before: both ends live, and wait for each other. Nodes end that by the limit for handshakes.
        let may_be_halves = self.nodes.iter().any(Node::was_started_anew);
        for node in &mut self.nodes {
            node.for_each(|node, choice| {
                if may_be_halves {
                    node.reset(now, choice, 300, &mut Truth::default());
                }
                node.release(now, choice, &mut Truth::default());
            });
        }
        for step in 0..20_000 {
            assert!(step < 19_999, "no rest after {:?}", self.now);
            for at in 0..NAMES {
                for name in [0, 1].map(service) {
                    self.nodes[at].unlisten(self.now, name);
                }
                self.transmit(at, FLYING_MAX / NAMES);
            }
            let is_quiet = self.flying.is_empty();
            while let Some((to, arrival)) = self.take(0) {
                self.arrive(to, arrival);
            }
            self.check();
            if is_quiet && !self.sleep() {
                break;
            }
        }
        for node in &self.nodes {
            node.assert_empty();
        }
    }
}

/// An ID and what its owner knows.
type End<'a> = (StreamId, &'a node::Ours);

/// The name of a service.
fn named(number: usize) -> ServiceName {
    ServiceName::new(&format!("s{number}")).unwrap_or(ServiceName::CONTROL)
}
