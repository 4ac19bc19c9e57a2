//! Two endpoints with real cryptography, and what lies between them, under virtual time.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use bytes::{Buf as _, Bytes};

use crate::id::{NameHash, ServiceName};
use crate::quic::{ConnectionId, DialTls, Endpoint, EndpointConfig, FromEndpoint, Path, ToEndpoint, WINDOW};
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::wire::data::HEADER_LEN;

/// What the network does to a packet. Probabilities are in thousandths.
#[derive(Clone, Debug, Default)]
pub(super) struct Weather {
    pub(super) delay: Duration,
    /// Up to this much is added at random, so packets overtake each other.
    pub(super) jitter: Duration,
    pub(super) loss: u64,
    pub(super) duplicate: u64,
    /// Larger packets do not pass.
    pub(super) mtu: Option<usize>,
}

/// One connection as the node sees it.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) is_open: bool,
    pub(super) received: Vec<u8>,
    pub(super) eof: bool,
    pub(super) closed: Option<Option<String>>,
    outbox: Bytes,
    finish: bool,
    finished: bool,
    credit: usize,
    undrained: usize,
}

/// One node, of which only the streams matter.
#[derive(Debug)]
pub(super) struct End {
    pub(super) endpoint: Endpoint,
    pub(super) sides: BTreeMap<ConnectionId, Side>,
    /// In the order in which they were accepted.
    pub(super) accepted: Vec<(ConnectionId, Path)>,
    pub(super) released: Vec<ServiceName>,
    /// The application takes what is received; set to `false` it holds still.
    pub(super) drains: bool,
    pub(super) sent: usize,
    pub(super) largest: usize,
}

type Flight = (usize, Path, Bytes);

/// The world.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) now: Instant,
    pub(super) ends: [End; 2],
    pub(super) weather: Weather,
    rng: Rng,
    flights: BTreeMap<(Instant, u64), Flight>,
    sequence: u64,
    dialled: u64,
}

pub(super) fn node(index: usize) -> NameHash {
    NameHash::of(["n0", "n1"][index])
}

pub(super) fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

impl Net {
    pub(super) fn new(seed: u8, weather: Weather) -> Self {
        Self::with_limit(seed, weather, 1000)
    }

    pub(super) fn with_limit(seed: u8, weather: Weather, max_connections: usize) -> Self {
        let origin = std::time::Instant::now();
        let end = |index: u8| End {
            endpoint: Endpoint::new(
                EndpointConfig {
                    max_connections,
                    origin,
                },
                [seed ^ index; 32],
            )
            .unwrap(),
            sides: BTreeMap::new(),
            accepted: Vec::new(),
            released: Vec::new(),
            drains: true,
            sent: 0,
            largest: 0,
        };
        Self {
            now: Instant::from_millis(1000),
            ends: [end(0), end(1)],
            weather,
            rng: Rng::from_seed([seed; 32]),
            flights: BTreeMap::new(),
            sequence: 0,
            dialled: 0,
        }
    }

    /// Node 1 listens.
    pub(super) fn listen(&mut self, name: &str) {
        self.tell(1, ToEndpoint::Listen(service(name), None));
    }

    pub(super) fn tell(&mut self, end: usize, message: ToEndpoint) {
        self.ends[end].endpoint.handle(self.now, message);
    }

    /// The same with a TLS config.
    pub(super) fn listen_tls(&mut self, name: &str, config: &str) {
        self.tell(1, ToEndpoint::Listen(service(name), Some(config.into())));
    }

    /// Node 0 dials node 1.
    pub(super) fn dial(&mut self, name: &str) -> ConnectionId {
        self.dial_tls(name, None)
    }

    /// The same, perhaps with a TLS config.
    pub(super) fn dial_tls(&mut self, name: &str, tls: Option<DialTls>) -> ConnectionId {
        let id = ConnectionId(self.dialled);
        self.dialled += 1;
        let local = service(&alloc::format!("e{:07}", self.dialled));
        let path = Path {
            remote: node(1),
            remote_service: service(name),
            local_service: local,
        };
        let side = Side {
            credit: WINDOW,
            ..Side::default()
        };
        self.ends[0].sides.insert(id, side);
        self.tell(0, ToEndpoint::Dial(id, path, tls));
        id
    }

    /// Queues bytes for a connection, and its end.
    pub(super) fn send(&mut self, end: usize, id: ConnectionId, data: Bytes, finish: bool) {
        let side = self.ends[end].sides.get_mut(&id).unwrap();
        assert!(side.outbox.is_empty() && !side.finish);
        side.outbox = data;
        side.finish = finish;
        self.push_outbox(end, id);
    }

    pub(super) fn side(&self, end: usize, id: ConnectionId) -> &Side {
        &self.ends[end].sides[&id]
    }

    /// The only connection node 1 has accepted.
    pub(super) fn accepted(&self) -> ConnectionId {
        assert_eq!(self.ends[1].accepted.len(), 1);
        self.ends[1].accepted[0].0
    }

    fn push_outbox(&mut self, end: usize, id: ConnectionId) {
        let Some(side) = self.ends[end].sides.get_mut(&id) else {
            return;
        };
        let mut messages = VecDeque::new();
        let size = side.outbox.len().min(side.credit);
        if size > 0 {
            side.credit -= size;
            messages.push_back(ToEndpoint::Data(id, side.outbox.copy_to_bytes(size)));
        }
        if side.outbox.is_empty() && side.finish && !core::mem::replace(&mut side.finished, true) {
            messages.push_back(ToEndpoint::Eof(id));
        }
        for message in messages {
            self.tell(end, message);
        }
    }

    fn carry_out(&mut self, end: usize, output: FromEndpoint) {
        let this = &mut self.ends[end];
        match output {
            FromEndpoint::Datagram(path, packet) => {
                assert_eq!(packet[..HEADER_LEN], [0; HEADER_LEN]);
                let payload = packet.freeze().slice(HEADER_LEN..);
                this.sent += 1;
                this.largest = this.largest.max(payload.len());
                assert_eq!(path.remote, node(1 - end));
                let back = Path {
                    remote: node(end),
                    remote_service: path.local_service,
                    local_service: path.remote_service,
                };
                self.fly(1 - end, back, payload);
            }
            FromEndpoint::Accepted(id, path) => {
                this.accepted.push((id, path));
                let side = Side {
                    is_open: true,
                    credit: WINDOW,
                    ..Side::default()
                };
                this.sides.insert(id, side);
            }
            FromEndpoint::Opened(id) => this.sides.get_mut(&id).unwrap().is_open = true,
            FromEndpoint::Data(id, data) => {
                let side = this.sides.get_mut(&id).unwrap();
                assert!(side.is_open && !side.eof && side.closed.is_none());
                side.received.extend_from_slice(&data);
                side.undrained += data.len();
                assert!(side.undrained <= WINDOW);
                if this.drains {
                    let all = core::mem::take(&mut side.undrained);
                    self.tell(end, ToEndpoint::Drained(id, all));
                }
            }
            FromEndpoint::Eof(id) => {
                let side = this.sides.get_mut(&id).unwrap();
                assert!(!core::mem::replace(&mut side.eof, true));
            }
            FromEndpoint::Credit(id, bytes) => {
                let side = this.sides.get_mut(&id).unwrap();
                side.credit += bytes;
                assert!(side.credit <= WINDOW);
                self.push_outbox(end, id);
            }
            FromEndpoint::Closed(id, reason) => {
                let side = this.sides.get_mut(&id).unwrap();
                assert!(side.closed.replace(reason).is_none());
            }
            FromEndpoint::Released(service) => this.released.push(service),
        }
    }

    fn fly(&mut self, to: usize, path: Path, payload: Bytes) {
        let weather = self.weather.clone();
        let copies = 1 + u64::from(self.rng.below(1000) < weather.duplicate);
        for _ in 0..copies {
            if self.rng.below(1000) < weather.loss || weather.mtu.is_some_and(|mtu| payload.len() > mtu) {
                continue;
            }
            let jitter = Duration::from_nanos(self.rng.below(weather.jitter.as_nanos() as u64 + 1));
            self.sequence += 1;
            let at = self.now + weather.delay + jitter;
            self.flights.insert((at, self.sequence), (to, path, payload.clone()));
        }
    }

    /// The application of `end` reads again.
    pub(super) fn resume(&mut self, end: usize) {
        self.ends[end].drains = true;
        let held: Vec<_> = (self.ends[end].sides.iter_mut())
            .map(|(&id, side)| (id, core::mem::take(&mut side.undrained)))
            .collect();
        for (id, bytes) in held {
            self.tell(end, ToEndpoint::Drained(id, bytes));
        }
    }

    /// Does everything that is to be done at this time.
    pub(super) fn settle(&mut self) {
        loop {
            let mut any = false;
            for end in [0, 1] {
                while let Some(output) = self.ends[end].endpoint.poll_output() {
                    any = true;
                    self.carry_out(end, output);
                }
            }
            if !any {
                return;
            }
        }
    }

    /// Goes on until it is so; `false` if `limit` has passed before.
    pub(super) fn run(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            self.settle();
            if done(self) {
                return true;
            }
            let arrival = self.flights.keys().next().map(|flight| flight.0);
            let timers = self.ends.iter().filter_map(|end| {
                let wait = end.endpoint.next_deadline().wait(self.now)?;
                Some(self.now + wait)
            });
            let Some(next) = timers.chain(arrival).min() else {
                self.now = end;
                return false;
            };
            if next > end {
                self.now = end;
                return false;
            }
            self.now = next;
            while let Some(flight) = self.flights.first_entry().filter(|flight| flight.key().0 <= self.now) {
                let (to, path, payload) = flight.remove();
                self.tell(to, ToEndpoint::Datagram(path, payload));
            }
            for end in &mut self.ends {
                end.endpoint.handle_timeout(self.now);
            }
        }
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        self.run(time, |_| false);
    }
}

/// Bytes that differ everywhere.
pub(super) fn bytes(length: usize, seed: u8) -> Bytes {
    let mut rng = Rng::from_seed([seed; 32]);
    let mut data = Vec::with_capacity(length + 8);
    while data.len() < length {
        data.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    data.truncate(length);
    data.into()
}
