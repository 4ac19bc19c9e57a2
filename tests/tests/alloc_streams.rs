//! What streams ask of the allocator: nothing per segment, and little for a stream that is idle.

use std::hint::black_box;

use bytes::Bytes;
use receptor_core::deadline::Deadline;
use receptor_core::id::{NameHash, ServiceName};
use receptor_core::rng::Rng;
use receptor_core::stream::{Arrival, Config, Event, StreamId, Table, TableConfig, TableEvent};
use receptor_core::time::{Duration, Instant};
use receptor_tests::counting::{Counting, allocations, held};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HEADROOM: usize = 36;
const NAMES: [NameHash; 2] = [NameHash(1), NameHash(2)];
const MS: Duration = Duration::from_millis(1);

/// Two tables with nothing between them.
struct Nodes {
    now: Instant,
    tables: [Table; 2],
}

impl Nodes {
    fn new(stream: Config) -> Self {
        let config = TableConfig {
            stream,
            ..TableConfig::default()
        };
        let mut tables = [1, 2].map(|seed| Table::new(config.clone(), Rng::from_seed([seed; 32])));
        tables[1].listen(ServiceName::CONTROL).expect("nobody listens yet");
        Self {
            now: Instant::ZERO,
            tables,
        }
    }

    fn dial(&mut self, name: u64) -> StreamId {
        let local = ServiceName::new(&format!("{name}")).expect("a short name");
        self.tables[0]
            .dial(self.now, NAMES[1], ServiceName::CONTROL, local)
            .expect("room for a stream")
    }

    /// Everything that waits is delivered at once; the number of packets.
    fn carry(&mut self) -> u64 {
        let mut packets = 0;
        loop {
            let before = packets;
            for (from, remote) in NAMES.into_iter().enumerate() {
                while let Some(outgoing) = self.tables[from].poll_transmit(self.now, HEADROOM) {
                    packets += 1;
                    let arrival = Arrival {
                        remote,
                        remote_service: outgoing.local_service,
                        local_service: outgoing.remote_service,
                        payload: outgoing.packet.freeze().slice(HEADROOM..),
                        marked: false,
                    };
                    self.tables[1 - from].handle_packet(self.now, arrival);
                    self.read(1 - from);
                }
                self.read(from);
            }
            if packets == before {
                return packets;
            }
        }
    }

    /// The application reads at once, as a node passes bytes on.
    fn read(&mut self, end: usize) {
        while let Some(event) = self.tables[end].poll_event() {
            if let TableEvent::Stream(id, Event::Readable) = event {
                while let Some(chunk) = self.tables[end].read(self.now, id) {
                    black_box(chunk);
                }
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for table in &mut self.tables {
            if table.next_deadline().is_due(self.now) {
                table.handle_timeout(self.now);
            }
        }
        self.carry();
    }
}

#[test]
fn a_segment_costs_no_allocation() {
    let data = Bytes::from(vec![7; 64 << 10]);
    // Small windows, so that they are full soon.
    let mut nodes = Nodes::new(Config {
        recv_window_max: 1 << 20,
        send_buffer_max: 1 << 20,
        ..Config::default()
    });
    let from = nodes.dial(0);
    nodes.carry();
    nodes.tables[1].accept(ServiceName::CONTROL).expect("a stream");
    for limit in [1364, 16_384, 65_499] {
        for (table, other) in nodes.tables.iter_mut().zip([NAMES[1], NAMES[0]]) {
            table.set_path(nodes.now, other, limit);
        }
        let round = |nodes: &mut Nodes| {
            while nodes.tables[0].write(nodes.now, from, data.clone()).is_ok() {}
            nodes.now = nodes.now + Duration::from_micros(200);
            for table in &mut nodes.tables {
                table.handle_timeout(nodes.now);
            }
            nodes.carry()
        };
        for _ in 0..60 {
            round(&mut nodes);
        }
        let before = allocations();
        let mut packets = 0;
        for _ in 0..50 {
            packets += round(&mut nodes);
        }
        let count = allocations() - before;
        println!("{limit}: {count} allocations for {packets} packets");
        assert!(packets > 500);
        // None for a segment; the tree of timers takes one where it was empty, once per tick of this test.
        assert!(
            count * 500 <= packets,
            "{count} allocations for {packets} packets of at most {limit} bytes"
        );
    }
}

#[test]
fn ten_thousand_idle_streams_are_small_and_own_no_timer() {
    const STREAMS: u64 = 10_000;
    let data = Bytes::from(vec![7; 100_000]);
    let mut nodes = Nodes::new(Config::default());
    let before = held();
    for name in 0..STREAMS {
        let from = nodes.dial(name);
        nodes.carry();
        let to = nodes.tables[1].accept(ServiceName::CONTROL).expect("a stream");
        // Each has been used.
        if name % 10 == 0 {
            nodes.tables[0].write(nodes.now, from, data.clone()).expect("room");
            for _ in 0..20 {
                nodes.carry();
                while nodes.tables[1].read(nodes.now, to).is_some() {}
                nodes.pass(MS);
            }
        }
    }
    for _ in 0..30 {
        nodes.pass(MS * 1000);
        nodes.carry();
    }
    let held = held() - before;
    let per_stream = held as u64 / (2 * STREAMS);
    println!("{per_stream} bytes for each end of an idle stream");
    assert!(per_stream <= 2048, "{per_stream}");
    // One of them asks for a sign of life now and then, and then has a timer for a while.
    let is_calm = |table: &Table| {
        let deadline = table.next_deadline();
        matches!(
            deadline,
            Deadline::Idle | Deadline::At(_, "node at the other end of streams")
        )
    };
    let calm = (0..60).find(|_| {
        nodes.pass(MS * 1000);
        nodes.tables.iter().all(is_calm)
    });
    assert!(
        calm.is_some(),
        "{:?}",
        nodes.tables.each_ref().map(Table::next_deadline)
    );
}

#[test]
fn ten_thousand_streams_opened_and_closed_leave_nothing() {
    let mut nodes = Nodes::new(Config::default());
    let cycle = |nodes: &mut Nodes, name: u64| {
        let from = nodes.dial(name);
        nodes.tables[0]
            .write(nodes.now, from, Bytes::from_static(b"hello"))
            .expect("room");
        nodes.carry();
        let to = nodes.tables[1].accept(ServiceName::CONTROL).expect("a stream");
        while nodes.tables[1].read(nodes.now, to).is_some() {}
        nodes.tables[0].finish(from);
        nodes.tables[1].finish(to);
        nodes.carry();
        nodes.tables[0].release(nodes.now, from);
        nodes.tables[1].release(nodes.now, to);
        nodes.pass(MS);
    };
    for name in 0..2000 {
        cycle(&mut nodes, name);
    }
    nodes.pass(MS * 200_000);
    let before = held();
    for name in 0..10_000 {
        cycle(&mut nodes, name);
    }
    nodes.pass(MS * 200_000);
    nodes.pass(MS * 20_000);
    assert!(nodes.tables.iter().all(Table::is_empty));
    let left = held() - before;
    assert!(left < 100_000, "{left} bytes");
    assert!(nodes.tables.iter().all(|table| table.memory_drawn() == (0, 0)));
}
