//! Two QUIC endpoints over a network that loses, doubles, reorders and forges, with nodes that do anything in any order:
//! nothing panics, credit holds, and what arrives is a beginning of what was sent.
//!
//! Keys are drawn by the cryptography itself, so a run is not repeatable byte for byte; its properties are.

use std::collections::BTreeMap;
use std::time::Instant as StdInstant;

use bytes::Bytes;
use receptor_core::deadline::Deadline;
use receptor_core::id::{NameHash, ServiceName};
use receptor_core::quic::{ConnectionId, Endpoint, EndpointConfig, FromEndpoint, Path, ToEndpoint, WINDOW};
use receptor_core::time::{Duration, Instant};
use receptor_core::wire::data::HEADER_LEN;

use crate::source::Source;

/// Packets under way; more are lost.
const FLYING_MAX: usize = 64;

/// Connections dialled.
const DIALS_MAX: u64 = 6;

const ECHO: ServiceName = ServiceName::from_wire(*b"echo\0\0\0\0");

/// A connection as the node sees it.
#[derive(Debug, Default)]
struct Side {
    sent: u64,
    credit: usize,
    received: u64,
    undrained: usize,
    is_let_go: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct End {
    endpoint: Endpoint,
    sides: BTreeMap<ConnectionId, Side>,
}

#[derive(Debug)]
struct Pair {
    now: Instant,
    ends: [End; 2],
    flying: Vec<(usize, Path, Bytes)>,
    dials: u64,
}

/// One operation after the other.
pub fn quic(input: &[u8]) {
    let mut source = Source::new(input);
    let mut pair = Pair::new();
    while !source.is_empty() {
        pair.operation(&mut source);
        pair.drain();
    }
    // Whatever is left ends by itself: nothing is kept for ever, and no deadline is missed.
    for end in 0..2 {
        let all: Vec<ConnectionId> = pair.ends[end].sides.keys().copied().collect();
        for id in all {
            pair.let_go(end, id, ToEndpoint::Release(id));
        }
        pair.tell(end, ToEndpoint::Unblocked(node(1 - end)));
        pair.tell(end, ToEndpoint::Unlisten(ECHO));
    }
    for _ in 0..100_000 {
        pair.drain();
        while let Some((to, path, payload)) = pair.flying.pop() {
            pair.tell(to, ToEndpoint::Datagram(path, payload));
        }
        pair.drain();
        if pair.flying.is_empty() && !pair.pass_to_deadline() {
            assert!(
                pair.ends.iter().all(|end| end.endpoint.is_empty()),
                "connections are left"
            );
            return;
        }
    }
    panic!("two endpoints without users never come to rest");
}

fn node(index: usize) -> NameHash {
    NameHash(index as u64 + 1)
}

fn pattern(offset: u64) -> u8 {
    (offset * 7 + offset / 251) as u8
}

impl Pair {
    fn new() -> Self {
        let origin = StdInstant::now();
        let end = |seed| End {
            endpoint: Endpoint::new(
                EndpointConfig {
                    max_connections: 5,
                    origin,
                },
                [seed; 32],
            )
            .expect("cryptography that works"),
            sides: BTreeMap::new(),
        };
        let mut pair = Self {
            now: Instant::from_millis(1),
            ends: [end(1), end(2)],
            flying: Vec::new(),
            dials: 0,
        };
        pair.tell(1, ToEndpoint::Listen(ECHO, None));
        pair
    }

    fn tell(&mut self, end: usize, message: ToEndpoint) {
        self.ends[end].endpoint.handle(self.now, message);
    }

    fn let_go(&mut self, end: usize, id: ConnectionId, message: ToEndpoint) {
        if let Some(side) = self.ends[end].sides.get_mut(&id)
            && !std::mem::replace(&mut side.is_let_go, true)
        {
            self.tell(end, message);
        }
    }

    fn operation(&mut self, source: &mut Source<'_>) {
        let end = source.pick(&[0, 1]);
        let count = self.ends[end].sides.len().max(1);
        let id = self.ends[end]
            .sides
            .keys()
            .nth(usize::from(source.byte()) % count)
            .copied();
        match (source.byte() % 16, id) {
            (0, _) if self.dials < DIALS_MAX => self.dial(),
            (1, Some(id)) => self.send(end, id, source),
            (2, Some(id)) => self.tell(end, ToEndpoint::Eof(id)),
            (3, Some(id)) => {
                if let Some(side) = self.ends[end].sides.get_mut(&id) {
                    let bytes = std::mem::take(&mut side.undrained);
                    self.tell(end, ToEndpoint::Drained(id, bytes));
                }
            }
            (4, Some(id)) => self.let_go(end, id, ToEndpoint::Release(id)),
            (5, Some(id)) => self.let_go(end, id, ToEndpoint::Abort(id, "fuzz".into())),
            (6, _) => self.tell(end, ToEndpoint::Blocked(node(1 - end))),
            (7, _) => self.tell(end, ToEndpoint::Unblocked(node(1 - end))),
            (8, _) => self.now = self.now + Duration::from_millis(u64::from(source.byte()) * 100),
            (9, _) => drop(self.pass_to_deadline()),
            (10, _) => self.forge(end, source),
            (11, _) => {
                let packet = self.flying.get(usize::from(source.byte()) % self.flying.len().max(1));
                if let Some((to, path, payload)) = packet.cloned() {
                    self.tell(to, ToEndpoint::Datagram(path, payload));
                }
            }
            (12, _) if !self.flying.is_empty() => {
                let at = usize::from(source.byte()) % self.flying.len();
                self.flying.remove(at);
            }
            (13, _) => {
                let local = self.ends[end].sides.len() as u8;
                let path = Path {
                    remote: node(1 - end),
                    remote_service: ECHO,
                    local_service: ServiceName::from_wire([b'd', local, 0, 0, 0, 0, 0, 0]),
                };
                self.tell(end, ToEndpoint::Unreachable(path, "service unknown".into()));
            }
            _ if !self.flying.is_empty() => {
                let (to, path, payload) = self.flying.remove(0);
                self.tell(to, ToEndpoint::Datagram(path, payload));
            }
            _ => {}
        }
        for end in &mut self.ends {
            end.endpoint.handle_timeout(self.now);
        }
    }

    fn dial(&mut self) {
        self.dials += 1;
        let id = ConnectionId(self.dials);
        let path = Path {
            remote: node(1),
            remote_service: ECHO,
            local_service: ServiceName::from_wire([b'd', self.dials as u8, 0, 0, 0, 0, 0, 0]),
        };
        self.ends[0].sides.insert(
            id,
            Side {
                credit: WINDOW,
                ..Side::default()
            },
        );
        self.tell(0, ToEndpoint::Dial(id, path, None));
    }

    fn send(&mut self, end: usize, id: ConnectionId, source: &mut Source<'_>) {
        let Some(side) = self.ends[end].sides.get_mut(&id) else {
            return;
        };
        let size = source.pick(&[1, 100, 5000, 100_000]).min(side.credit);
        side.credit -= size;
        let data: Bytes = (side.sent..side.sent + size as u64).map(pattern).collect();
        side.sent += size as u64;
        self.tell(end, ToEndpoint::Data(id, data));
    }

    /// A packet that nobody sent, or one that was changed on its way. Only whole garbage: QUIC authenticates the rest.
    fn forge(&mut self, end: usize, source: &mut Source<'_>) {
        let mut payload = match self.flying.first() {
            Some((_, _, payload)) if source.byte() & 1 == 0 => payload.to_vec(),
            _ => Vec::new(),
        };
        for _ in 0..source.byte() % 32 {
            match source.byte() {
                at if usize::from(at) < payload.len() => payload[usize::from(at)] ^= source.byte() | 1,
                byte => payload.push(byte),
            }
        }
        let path = Path {
            remote: node(1 - end),
            remote_service: ECHO,
            local_service: ECHO,
        };
        self.tell(end, ToEndpoint::Datagram(path, payload.into()));
    }

    /// On to the next thing that happens by itself; `false` if nothing does.
    fn pass_to_deadline(&mut self) -> bool {
        let due = self.ends.iter().map(|end| end.endpoint.next_deadline());
        match due.fold(Deadline::Idle, Deadline::min) {
            Deadline::Idle => return false,
            Deadline::Now => {}
            Deadline::At(at, _) => self.now = self.now.max(at),
        }
        for end in &mut self.ends {
            end.endpoint.handle_timeout(self.now);
        }
        true
    }

    fn drain(&mut self) {
        for end in 0..2 {
            while let Some(output) = self.ends[end].endpoint.poll_output() {
                self.output(end, output);
            }
        }
    }

    fn output(&mut self, end: usize, output: FromEndpoint) {
        let sides = &mut self.ends[end].sides;
        match output {
            FromEndpoint::Datagram(path, packet) => {
                assert!(packet.len() > HEADER_LEN, "nothing is said in an empty packet");
                assert!(packet.len() <= HEADER_LEN + 1452, "Go cuts longer packets");
                let back = Path {
                    remote: node(end),
                    remote_service: path.local_service,
                    local_service: path.remote_service,
                };
                if self.flying.len() < FLYING_MAX {
                    self.flying.push((1 - end, back, packet.freeze().slice(HEADER_LEN..)));
                }
            }
            FromEndpoint::Accepted(id, _) => {
                let side = Side {
                    credit: WINDOW,
                    ..Side::default()
                };
                assert!(sides.insert(id, side).is_none());
            }
            FromEndpoint::Data(id, data) => {
                let side = sides.get_mut(&id).expect("it was announced");
                assert!(!side.is_let_go && !side.is_closed, "told after the end");
                assert!(!data.is_empty());
                for &byte in &data {
                    assert_eq!(byte, pattern(side.received), "in order");
                    side.received += 1;
                }
                side.undrained += data.len();
                assert!(side.undrained <= WINDOW);
            }
            FromEndpoint::Credit(id, bytes) => {
                let side = sides.get_mut(&id).expect("it was announced");
                side.credit += bytes;
                assert!(side.credit <= WINDOW);
            }
            FromEndpoint::Closed(id, _) => {
                let side = sides.get_mut(&id).expect("it was announced");
                assert!(
                    !side.is_let_go && !std::mem::replace(&mut side.is_closed, true),
                    "said once"
                );
            }
            FromEndpoint::Opened(_) | FromEndpoint::Eof(_) | FromEndpoint::Released(_) => {}
            other => panic!("{other:?}"),
        }
    }
}
