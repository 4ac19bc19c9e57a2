//! Two tables of streams and the road between them, under virtual time: delay, loss, reordering, duplicates, a bottleneck.

use std::collections::BTreeMap;

use bytes::Bytes;
use receptor_core::deadline::Deadline;
use receptor_core::id::{NameHash, ServiceName};
use receptor_core::rng::Rng;
use receptor_core::stream::{Arrival, Event, Outgoing, StreamId, Table, TableConfig, TableEvent};
use receptor_core::time::{Duration, Instant};

/// Bytes before a packet, as the data header needs them.
const HEADROOM: usize = 36;
/// Names of the two ends.
const NAMES: [NameHash; 2] = [NameHash(1), NameHash(2)];
/// After how many bytes the content repeats: no multiple of any packet's size.
const PERIOD: usize = 65_521;
/// Most bytes of one write.
const WRITE: usize = 64 * 1024;
/// With bytes waiting and nothing on the road, something happens within this time (the longest interval of probes and
/// some round trips).
const LONGEST_PAUSE: Duration = Duration::from_millis(2500);

/// What the road does to packets, in each direction.
#[derive(Clone, Debug)]
pub struct Road {
    /// One way.
    pub delay: Duration,
    /// Up to this much more, drawn per packet, so that packets overtake each other.
    pub jitter: Duration,
    /// Lost, per mille.
    pub loss: u64,
    /// Delivered twice, per mille.
    pub duplicates: u64,
    /// Bytes per second of the bottleneck; `None` is infinite.
    pub rate: Option<u64>,
    /// A packet that would wait longer at the bottleneck is dropped.
    pub queue: Duration,
    /// A packet that has waited longer is marked.
    pub mark: Duration,
    /// Larger packets vanish.
    pub largest: usize,
    /// The bottleneck serves streams in turn, as relays of ours do, and not in the order of arrival.
    pub is_fair: bool,
}

impl Default for Road {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(5),
            jitter: Duration::ZERO,
            loss: 0,
            duplicates: 0,
            rate: None,
            queue: Duration::from_millis(100),
            mark: Duration::MAX,
            largest: usize::MAX,
            is_fair: false,
        }
    }
}

/// A bottleneck that serves streams in turn: by the virtual time at which a packet would be through if all had equal shares.
#[derive(Debug, Default)]
struct Turns {
    /// By virtual time and order: when it came, its length, and it.
    waiting: BTreeMap<(u64, u64), (Instant, usize, Arrival)>,
    /// Virtual time of the last packet of each stream.
    tags: BTreeMap<ServiceName, u64>,
    served: u64,
}

/// One stream from the first table to the second.
#[derive(Debug)]
pub struct Flow {
    /// At the sender.
    pub from: StreamId,
    /// Bytes still to be written.
    pub left: u64,
    /// Bytes written.
    pub written: u64,
    is_finished: bool,
}

/// A stream that was accepted, and what came.
#[derive(Debug)]
pub struct Sink {
    /// At the receiver.
    pub id: StreamId,
    /// Bytes read, all of them right.
    pub read: u64,
    /// Everything was read.
    pub is_finished: bool,
}

/// The road and what stands at its ends.
#[derive(Debug)]
pub struct Street {
    /// Virtual time.
    pub now: Instant,
    /// The sender and the receiver.
    pub tables: [Table; 2],
    /// May change at any time.
    pub road: Road,
    /// Streams that send.
    pub flows: Vec<Flow>,
    /// Streams that receive, in the order they were accepted.
    pub sinks: Vec<Sink>,
    /// Packets sent by each end.
    pub packets: [u64; 2],
    /// Longest that a packet of the sender has waited at the bottleneck; may be set back.
    pub longest_wait: Duration,
    /// Most bytes drawn from the memory for receiving and for sending.
    pub memory_peak: (u64, u64),
    config: TableConfig,
    rng: Rng,
    /// By arrival and order of sending.
    flying: BTreeMap<(Instant, u64), (usize, Arrival)>,
    sent: u64,
    free_at: [Instant; 2],
    turns: [Turns; 2],
    content: Bytes,
    last_sent: Instant,
    /// Not written to yet.
    new_flows: Vec<usize>,
    by_id: [BTreeMap<StreamId, usize>; 2],
    /// Number of sinks that are.
    finished: usize,
}

impl Street {
    /// Two nodes without streams.
    pub fn new(seed: u8, config: TableConfig, road: Road) -> Self {
        let mut rng = Rng::from_seed([seed; 32]);
        let mut tables = [0, 1].map(|_| Table::new(config.clone(), rng.fork()));
        tables[1].listen(ServiceName::CONTROL).expect("nobody listens yet");
        let content = (0..PERIOD + 2 * WRITE).map(|at| ((at % PERIOD) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self {
            now: Instant::ZERO,
            tables,
            road,
            flows: Vec::new(),
            sinks: Vec::new(),
            packets: [0, 0],
            longest_wait: Duration::ZERO,
            memory_peak: (0, 0),
            config,
            rng,
            flying: BTreeMap::new(),
            sent: 0,
            free_at: [Instant::ZERO; 2],
            turns: [Turns::default(), Turns::default()],
            content: content.map(|word| (word >> 56) as u8).collect::<Vec<u8>>().into(),
            last_sent: Instant::ZERO,
            new_flows: Vec::new(),
            by_id: [BTreeMap::new(), BTreeMap::new()],
            finished: 0,
        }
    }

    /// Dials a stream that sends so many bytes and then finishes.
    pub fn send(&mut self, bytes: u64) {
        let name = format!("{}", self.flows.len());
        let local = ServiceName::new(&name).expect("a short name");
        let dialled = self.tables[0].dial(self.now, NAMES[1], ServiceName::CONTROL, local);
        let from = dialled.expect("room for a stream");
        self.by_id[0].insert(from, self.flows.len());
        self.new_flows.push(self.flows.len());
        self.flows.push(Flow {
            from,
            left: bytes,
            written: 0,
            is_finished: false,
        });
    }

    /// Limits packets in both directions.
    pub fn set_path(&mut self, largest: usize) {
        for (table, other) in self.tables.iter_mut().zip([NAMES[1], NAMES[0]]) {
            table.set_path(self.now, other, largest);
        }
    }

    /// Both nodes are told that the route has changed.
    pub fn kick(&mut self) {
        for (table, other) in self.tables.iter_mut().zip([NAMES[1], NAMES[0]]) {
            table.kick(self.now, other);
        }
    }

    /// All bytes have arrived, and the receiver knows it.
    pub fn is_done(&self) -> bool {
        self.finished == self.flows.len()
    }

    /// Bytes that were read, of all streams.
    pub fn total(&self) -> u64 {
        self.sinks.iter().map(|sink| sink.read).sum()
    }

    /// Runs until everything has arrived, for `limit` at most; whether it has.
    pub fn run(&mut self, limit: Duration) -> bool {
        let end = self.now + limit;
        loop {
            self.act();
            self.check();
            if self.is_done() {
                return true;
            }
            let mut next = Deadline::at(self.flying.first_key_value().map(|(&(at, _), _)| at), "arrival");
            for table in &self.tables {
                next = next.min(table.next_deadline());
            }
            for (turns, &free_at) in self.turns.iter().zip(&self.free_at) {
                let busy = (!turns.waiting.is_empty()).then_some(free_at);
                next = next.min(Deadline::at(busy, "bottleneck"));
            }
            let Deadline::At(at, _) = next else {
                panic!("nothing will ever happen: {next:?}")
            };
            if at > end {
                self.now = end;
                return false;
            }
            self.now = self.now.max(at);
            (0..2).for_each(|from| self.serve(from));
            while let Some(entry) = self.flying.first_entry()
                && entry.key().0 <= self.now
            {
                let (to, arrival) = entry.remove();
                self.tables[to].handle_packet(self.now, arrival);
            }
            for table in &mut self.tables {
                if table.next_deadline().is_due(self.now) {
                    table.handle_timeout(self.now);
                }
            }
        }
    }

    /// Applications write and read, packets leave, until nothing moves.
    fn act(&mut self) {
        while let Some(flow) = self.new_flows.pop() {
            self.write(flow);
        }
        for end in 0..2 {
            while let Some(event) = self.tables[end].poll_event() {
                self.on_event(end, event);
            }
            while let Some(outgoing) = self.tables[end].poll_transmit(self.now, HEADROOM) {
                self.packets[end] += 1;
                if end == 0 {
                    self.last_sent = self.now;
                }
                self.carry(end, outgoing);
            }
        }
    }

    fn on_event(&mut self, end: usize, event: TableEvent) {
        match event {
            TableEvent::Incoming(_) => {
                while let Some(id) = self.tables[1].accept(ServiceName::CONTROL) {
                    self.by_id[1].insert(id, self.sinks.len());
                    self.sinks.push(Sink {
                        id,
                        read: 0,
                        is_finished: false,
                    });
                    self.read(self.sinks.len() - 1);
                }
            }
            TableEvent::Stream(id, Event::Writable | Event::Connected) if end == 0 => self.write(self.by_id[0][&id]),
            TableEvent::Stream(id, Event::Readable | Event::PeerFinished) if end == 1 => self.read(self.by_id[1][&id]),
            TableEvent::Stream(_, event @ (Event::Reset { .. } | Event::Lost { .. })) => panic!("{event:?}"),
            TableEvent::Stream(..) | TableEvent::Forgotten { .. } => {}
        }
    }

    fn write(&mut self, flow: usize) {
        let flow = &mut self.flows[flow];
        while flow.left > 0 {
            let from = (flow.written % PERIOD as u64) as usize;
            let length = flow.left.min(WRITE as u64) as usize;
            let data = self.content.slice(from..from + length);
            let Ok(taken) = self.tables[0].write(self.now, flow.from, data) else {
                return;
            };
            flow.left -= taken as u64;
            flow.written += taken as u64;
        }
        if !flow.is_finished {
            flow.is_finished = true;
            self.tables[0].finish(flow.from);
        }
    }

    fn read(&mut self, sink: usize) {
        let sink = &mut self.sinks[sink];
        while let Some(chunk) = self.tables[1].read(self.now, sink.id) {
            let from = (sink.read % PERIOD as u64) as usize;
            assert!(chunk == self.content[from..from + chunk.len()], "at {}", sink.read);
            sink.read += chunk.len() as u64;
        }
        let stream = self.tables[1].stream(sink.id).expect("not released");
        if stream.is_finished() && !sink.is_finished {
            sink.is_finished = true;
            self.finished += 1;
        }
    }

    /// What holds at every moment.
    fn check(&mut self) {
        let drawn = [0, 1].map(|end| self.tables[end].memory_drawn());
        for (receiving, sending) in drawn {
            assert!(receiving <= self.config.receive_memory && sending <= self.config.send_memory);
            self.memory_peak.0 = self.memory_peak.0.max(receiving);
            self.memory_peak.1 = self.memory_peak.1.max(sending);
        }
        if self.flying.is_empty() && !self.is_done() {
            let pause = self.now.since(self.last_sent);
            assert!(pause <= LONGEST_PAUSE, "bytes wait and nothing was sent for {pause:?}");
        }
    }

    fn carry(&mut self, from: usize, outgoing: Outgoing) {
        let length = outgoing.packet.len();
        if self.rng.below(1000) < self.road.loss || length - HEADROOM > self.road.largest {
            return;
        }
        let arrival = Arrival {
            remote: NAMES[from],
            remote_service: outgoing.local_service,
            local_service: outgoing.remote_service,
            payload: outgoing.packet.freeze().slice(HEADROOM..),
            marked: false,
        };
        let Some(rate) = self.road.rate else {
            return self.fly(from, self.now, arrival);
        };
        if self.road.is_fair {
            let turns = &mut self.turns[from];
            let stream = if from == 0 {
                arrival.remote_service
            } else {
                arrival.local_service
            };
            let tag = turns.tags.entry(stream).or_default();
            *tag = turns.served.max(*tag) + length as u64;
            self.sent += 1;
            turns.waiting.insert((*tag, self.sent), (self.now, length, arrival));
            return self.serve(from);
        }
        let waits = self.free_at[from].since(self.now);
        if waits > self.road.queue {
            return;
        }
        if from == 0 {
            self.longest_wait = self.longest_wait.max(waits);
        }
        let marked = waits > self.road.mark;
        let leaves = self.free_at[from].max(self.now) + time_of(length, rate);
        self.free_at[from] = leaves;
        self.fly(from, leaves, Arrival { marked, ..arrival });
    }

    /// Sends what waits at a fair bottleneck.
    fn serve(&mut self, from: usize) {
        while self.free_at[from] <= self.now
            && let Some(((tag, _), (came, length, arrival))) = self.turns[from].waiting.pop_first()
        {
            self.turns[from].served = tag;
            let waits = self.now.since(came);
            if waits > self.road.queue {
                continue;
            }
            let marked = waits > self.road.mark;
            let leaves = self.now + time_of(length, self.road.rate.unwrap_or(u64::MAX));
            self.free_at[from] = leaves;
            self.fly(from, leaves, Arrival { marked, ..arrival });
        }
    }

    fn fly(&mut self, from: usize, leaves: Instant, arrival: Arrival) {
        let copies = 1 + u64::from(self.rng.below(1000) < self.road.duplicates);
        for _ in 0..copies {
            let jitter = Duration::from_nanos(self.rng.below(self.road.jitter.as_nanos() as u64 + 1));
            self.sent += 1;
            let at = leaves + self.road.delay + jitter;
            self.flying.insert((at, self.sent), (1 - from, arrival.clone()));
        }
    }
}

fn time_of(length: usize, rate: u64) -> Duration {
    Duration::from_nanos(length as u64 * 1_000_000_000 / rate)
}
