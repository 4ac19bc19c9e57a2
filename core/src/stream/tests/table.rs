//! Many streams at two nodes.

use alloc::string::ToString;
use alloc::vec::Vec;

use bytes::Bytes;

use super::net::pattern;
use crate::deadline::Deadline;
use crate::error::CallerError;
use crate::id::{NameHash, ServiceName};
use crate::rng::Rng;
use crate::stream::{Arrival, Event, Outgoing, Received, StreamId, Table, TableConfig, TableEvent, WriteError};
use crate::time::{Duration, Instant};

pub(super) const NAMES: [NameHash; 2] = [NameHash(100), NameHash(101)];
pub(super) const CONTROL: ServiceName = ServiceName::CONTROL;

fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

pub(super) fn table(config: TableConfig, seed: u8) -> Table {
    Table::new(config, Rng::from_seed([seed; 32]))
}

/// Two tables a millisecond apart.
pub(super) struct Nodes {
    pub(super) now: Instant,
    pub(super) tables: [Table; 2],
    pub(super) flying: Vec<(Instant, usize, Arrival)>,
    pub(super) rng: Rng,
    pub(super) loss: u64,
    pub(super) packets: u64,
    pub(super) unknown: u64,
    pub(super) events: [Vec<TableEvent>; 2],
}

impl Nodes {
    pub(super) fn new(config: &TableConfig) -> Self {
        let mut tables = [table(config.clone(), 1), table(config.clone(), 2)];
        tables[1].listen(CONTROL).unwrap();
        Self {
            now: Instant::ZERO,
            tables,
            flying: Vec::new(),
            rng: Rng::from_seed([3; 32]),
            loss: 0,
            packets: 0,
            unknown: 0,
            events: [Vec::new(), Vec::new()],
        }
    }

    pub(super) fn dial(&mut self, from: &str) -> StreamId {
        self.tables[0].dial(self.now, NAMES[1], CONTROL, service(from)).unwrap()
    }

    pub(super) fn arrival(from: usize, outgoing: Outgoing) -> Arrival {
        let Outgoing {
            remote,
            remote_service,
            local_service,
            packet,
        } = outgoing;
        assert_eq!(remote, NAMES[1 - from]);
        let payload = packet.freeze().slice(36..);
        // Their roles are swapped on arrival.
        Arrival {
            remote: NAMES[from],
            remote_service: local_service,
            local_service: remote_service,
            payload,
            marked: false,
        }
    }

    /// Drains everything, then sleeps to the next deadline, until `duration` has passed.
    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            for index in 0..2 {
                while let Some(event) = self.tables[index].poll_event() {
                    self.events[index].push(event);
                }
                while let Some(outgoing) = self.tables[index].poll_transmit(self.now, 36) {
                    self.packets += 1;
                    if self.rng.below(1000) >= self.loss {
                        let arrival = Self::arrival(index, outgoing);
                        self.flying
                            .push((self.now + Duration::from_millis(1), 1 - index, arrival));
                    }
                }
            }
            let mut next = Deadline::at(self.flying.iter().map(|flying| flying.0).min(), "arrival");
            for table in &self.tables {
                assert_ne!(table.next_deadline(), Deadline::Now);
                next = next.min(table.next_deadline());
            }
            let Deadline::At(at, _) = next else { break };
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            let now = self.now;
            let (due, later) = self.flying.drain(..).partition(|flying| flying.0 <= now);
            self.flying = later;
            let due: Vec<(Instant, usize, Arrival)> = due;
            for (_, to, arrival) in due {
                let received = self.tables[to].handle_packet(now, arrival);
                self.unknown += u64::from(received == Received::UnknownService);
            }
            for table in &mut self.tables {
                if table.next_deadline().is_due(now) {
                    table.handle_timeout(now);
                }
                if let Deadline::At(at, _) = table.next_deadline() {
                    assert!(at > now);
                }
            }
        }
        self.now = end;
    }

    pub(super) fn read(&mut self, index: usize, id: StreamId) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.tables[index].read(self.now, id) {
            bytes.extend_from_slice(&chunk);
        }
        bytes
    }

    pub(super) fn write(&mut self, index: usize, id: StreamId, bytes: &'static [u8]) {
        assert_eq!(
            self.tables[index].write(self.now, id, Bytes::from_static(bytes)),
            Ok(bytes.len())
        );
    }
}

pub(super) const MS: Duration = Duration::from_millis(1);

#[test]
fn a_stream_is_dialled_accepted_used_released_and_forgotten() {
    let mut nodes = Nodes::new(&TableConfig::default());
    let dialled = nodes.dial("abc");
    nodes.write(0, dialled, b"question");
    nodes.tables[0].finish(dialled);
    nodes.run(MS * 5);
    assert_eq!(nodes.events[1], [TableEvent::Incoming(CONTROL)]);
    let accepted = nodes.tables[1].accept(CONTROL).unwrap();
    assert_eq!(nodes.tables[1].accept(CONTROL), None);
    assert_eq!(nodes.read(1, accepted), b"question");
    nodes.write(1, accepted, b"answer");
    nodes.tables[1].finish(accepted);
    nodes.run(MS * 100);
    assert_eq!(nodes.read(0, dialled), b"answer");
    nodes.run(MS * 100);
    for (index, id) in [(0, dialled), (1, accepted)] {
        let finished = TableEvent::Stream(id, Event::Finished);
        assert!(nodes.events[index].contains(&finished), "{:?}", nodes.events[index]);
        assert_eq!(nodes.tables[index].len(), 1, "the ID stays valid until it is released");
        let now = nodes.now;
        nodes.tables[index].release(now, id);
    }
    nodes.run(MS * 100_000);
    for (index, id, local_service) in [(0, dialled, service("abc")), (1, accepted, CONTROL)] {
        assert!(nodes.tables[index].is_empty());
        let forgotten = TableEvent::Forgotten {
            id,
            local_service,
            is_dialled: index == 0,
        };
        assert_eq!(nodes.events[index].last(), Some(&forgotten));
    }
    let now = nodes.now;
    assert_eq!(
        nodes.tables[0].write(now, dialled, Bytes::new()),
        Err(WriteError::Closed)
    );
    assert!(nodes.tables.iter().all(|table| table.next_deadline() == Deadline::Idle));
}

#[test]
fn a_service_without_listener_is_reported_to_the_node() {
    let mut nodes = Nodes::new(&TableConfig::default());
    let now = nodes.now;
    let dialled = nodes.tables[0]
        .dial(now, NAMES[1], service("nope"), service("abc"))
        .unwrap();
    nodes.run(MS * 5);
    assert!(nodes.unknown > 0);
    nodes.tables[0].on_unreachable(nodes.now, NAMES[1], service("nope"), service("abc"), "service unknown");
    nodes.run(MS);
    let lost = Event::Lost {
        reason: "service unknown".to_string(),
    };
    assert_eq!(nodes.events[0], [TableEvent::Stream(dialled, lost)]);
    nodes.tables[0].release(nodes.now, dialled);
    assert!(nodes.tables[0].is_empty());
}

#[test]
fn a_node_that_forgot_its_streams_says_so() {
    let mut nodes = Nodes::new(&TableConfig::default());
    let dialled = nodes.dial("abc");
    nodes.run(MS * 10);
    nodes.tables[1] = table(TableConfig::default(), 9);
    nodes.tables[1].listen(CONTROL).unwrap();
    nodes.write(0, dialled, b"more");
    nodes.run(MS * 10);
    let reset = Event::Reset {
        code: 1,
        reason: "no such stream".to_string(),
    };
    assert_eq!(nodes.events[0].last(), Some(&TableEvent::Stream(dialled, reset)));
    let before = nodes.packets;
    nodes.run(MS * 100_000);
    assert_eq!(nodes.packets, before, "and the matter rests");
    assert!(nodes.tables.iter().all(|table| table.next_deadline() == Deadline::Idle));
}

#[test]
fn resets_and_bare_acknowledgements_of_no_stream_get_no_answer() {
    let mut table = table(TableConfig::default(), 1);
    for flags in 0..=255_u8 {
        for length in 0..12 {
            let mut payload = alloc::vec![flags, 0, 0, 0, 1];
            payload.resize(length, 0);
            let arrival = Arrival {
                remote: NAMES[1],
                remote_service: service("a"),
                local_service: service("b"),
                payload: payload.into(),
                marked: false,
            };
            let received = table.handle_packet(Instant::ZERO, arrival);
            let answers = core::iter::from_fn(|| table.poll_transmit(Instant::ZERO, 36)).count();
            let is_addressed = length >= 5 && flags < 0x40;
            let is_quiet = !is_addressed || flags & 0x21 != 0 || flags == 2;
            assert_eq!(answers, usize::from(!is_quiet), "{flags:#x} {length}");
            let opens = is_addressed && flags & 1 != 0;
            assert_eq!(received == Received::UnknownService, opens);
        }
    }
}

#[test]
fn backlog_and_number_of_streams_are_bounded() {
    let config = TableConfig {
        max_streams: 6,
        max_backlog: 3,
        max_answers: 2,
        ..TableConfig::default()
    };
    let mut nodes = Nodes::new(&config);
    let dialled: Vec<StreamId> = (0..5).map(|n| nodes.dial(&n.to_string())).collect();
    nodes.run(MS * 10);
    assert_eq!(nodes.tables[1].len(), 3);
    let accepted: Vec<StreamId> = core::iter::from_fn(|| nodes.tables[1].accept(CONTROL)).collect();
    assert_eq!(accepted.len(), 3);
    nodes.run(MS * 2000);
    assert_eq!(
        nodes.tables[1].len(),
        5,
        "those that found the backlog full have tried again"
    );
    let connected = |nodes: &Nodes, id: StreamId| nodes.events[0].contains(&TableEvent::Stream(id, Event::Connected));
    assert!(dialled.iter().all(|&id| connected(&nodes, id)));
    nodes.dial("6");
    let now = nodes.now;
    let full = nodes.tables[0].dial(now, NAMES[1], CONTROL, service("7"));
    assert_eq!(full, Err(CallerError::Blocked("table of streams")));
    let same = nodes.tables[0].dial(now, NAMES[1], CONTROL, service("6"));
    assert!(matches!(same, Err(CallerError::Misuse(_))));
    for id in dialled {
        nodes.tables[0].reset(now, id, 256, "enough");
        nodes.tables[0].release(now, id);
    }
    assert!(nodes.tables[0].dial(now, NAMES[1], CONTROL, service("8")).is_ok());
    for _ in 0..10 {
        let arrival = Arrival {
            remote: NAMES[1],
            remote_service: CONTROL,
            local_service: service("zz"),
            payload: Bytes::from_static(&[0x10, 0, 0, 0, 0, 0, 0]),
            marked: false,
        };
        nodes.tables[0].handle_packet(now, arrival);
    }
    assert_eq!(nodes.tables[0].answers_waiting(), 2);
}

#[test]
fn streams_that_are_over_are_forgotten_oldest_first() {
    let config = TableConfig {
        max_lingering: 4,
        ..TableConfig::default()
    };
    let mut nodes = Nodes::new(&config);
    for n in 0..20 {
        let dialled = nodes.dial(&n.to_string());
        nodes.tables[0].finish(dialled);
        nodes.run(MS * 10);
        let accepted = nodes.tables[1].accept(CONTROL).unwrap();
        nodes.tables[1].release(nodes.now, accepted);
        nodes.run(MS * 10);
        nodes.tables[0].release(nodes.now, dialled);
    }
    assert!(nodes.tables[0].len() <= 5, "{}", nodes.tables[0].len());
    assert!(nodes.tables[1].is_empty());
}

#[test]
fn streams_take_turns() {
    let mut nodes = Nodes::new(&TableConfig::default());
    let ids: Vec<StreamId> = (0..3).map(|n| nodes.dial(&n.to_string())).collect();
    for &id in &ids {
        nodes.tables[0].write(nodes.now, id, pattern(60_000)).unwrap();
    }
    let order: Vec<ServiceName> = core::iter::from_fn(|| nodes.tables[0].poll_transmit(Instant::ZERO, 36))
        .map(|out| out.local_service)
        .collect();
    let turns: Vec<ServiceName> = ["0", "1", "2"].into_iter().map(service).collect();
    assert_eq!(order.len(), 12);
    assert!(order.chunks(3).all(|round| round == turns));
}

#[test]
fn a_blocked_node_is_held_back_alone() {
    let mut table = table(TableConfig::default(), 1);
    let now = Instant::ZERO;
    let to_blocked = table.dial(now, NAMES[0], CONTROL, service("a")).unwrap();
    let _free = table.dial(now, NAMES[1], CONTROL, service("b")).unwrap();
    table.block(NAMES[0]);
    let sent: Vec<NameHash> = core::iter::from_fn(|| table.poll_transmit(now, 36))
        .map(|out| out.remote)
        .collect();
    assert_eq!(sent, [NAMES[1]]);
    assert!(
        matches!(table.next_deadline(), Deadline::At(..)),
        "nothing can be done for the blocked one"
    );
    table.write(now, to_blocked, Bytes::from_static(b"x")).unwrap();
    assert!(table.poll_transmit(now, 36).is_none());
    table.unblock_where(|remote| remote == NAMES[1]);
    assert!(table.poll_transmit(now, 36).is_none());
    table.unblock(NAMES[0]);
    assert_eq!(table.next_deadline(), Deadline::Now);
    assert_eq!(table.poll_transmit(now, 36).unwrap().remote, NAMES[0]);
    assert!(table.poll_transmit(now, 36).is_none());
    // Blocked for ever, it still ends, and is forgotten.
    table.block(NAMES[0]);
    table.release(now, to_blocked);
    for _ in 0..1000 {
        while table.poll_event().is_some() || table.poll_transmit(now, 36).is_some() {}
        let Deadline::At(at, _) = table.next_deadline() else {
            break;
        };
        table.handle_timeout(at);
        while table.poll_transmit(at, 36).is_some() {}
    }
    assert!(table.stream(to_blocked).is_none());
}

#[test]
fn a_closed_listener_resets_those_it_never_accepted() {
    let mut nodes = Nodes::new(&TableConfig::default());
    let first = nodes.dial("a");
    nodes.run(MS * 5);
    nodes.tables[1].accept(CONTROL).unwrap();
    let second = nodes.dial("b");
    nodes.run(MS * 5);
    nodes.tables[1].unlisten(nodes.now, CONTROL);
    nodes.run(MS * 5);
    assert!(!nodes.tables[0].stream(first).unwrap().is_ended());
    let reset = Event::Reset {
        code: 2,
        reason: "listener closed".to_string(),
    };
    assert_eq!(nodes.events[0].last(), Some(&TableEvent::Stream(second, reset)));
    nodes.run(MS * 100_000);
    assert_eq!(nodes.tables[1].len(), 1);
}

#[test]
fn a_hundred_streams_through_loss() {
    let mut nodes = Nodes::new(&TableConfig::default());
    nodes.loss = 100;
    let dialled: Vec<StreamId> = (0..100).map(|n| nodes.dial(&n.to_string())).collect();
    for &id in &dialled {
        nodes.tables[0].write(nodes.now, id, pattern(50_000)).unwrap();
        nodes.tables[0].finish(id);
    }
    let mut accepted: Vec<(StreamId, Vec<u8>)> = Vec::new();
    for _ in 0..400 {
        nodes.run(MS * 50);
        while let Some(id) = nodes.tables[1].accept(CONTROL) {
            nodes.tables[1].finish(id);
            accepted.push((id, Vec::new()));
        }
        for (id, bytes) in &mut accepted {
            bytes.extend_from_slice(&nodes.read(1, *id));
        }
    }
    assert_eq!(accepted.len(), 100);
    assert!(accepted.iter().all(|(_, bytes)| *bytes == pattern(50_000)));
    for id in dialled {
        nodes.tables[0].release(nodes.now, id);
    }
    for (id, _) in accepted {
        nodes.tables[1].release(nodes.now, id);
    }
    nodes.run(MS * 200_000);
    assert!(nodes.tables.iter().all(Table::is_empty));
}

#[test]
fn a_stopping_node_resets_its_streams_at_once() {
    let mut nodes = Nodes::new(&TableConfig::default());
    let dialled: Vec<StreamId> = (0..3).map(|n| nodes.dial(&n.to_string())).collect();
    nodes.run(MS * 5);
    let accepted = nodes.tables[1].accept(CONTROL).unwrap();
    nodes.write(0, dialled[0], b"half of a sentence");
    nodes.tables[1].block(NAMES[0]);
    nodes.tables[1].shutdown(nodes.now);
    nodes.run(MS * 2);
    let reset = Event::Reset {
        code: 5,
        reason: "node is shutting down".to_string(),
    };
    for id in dialled {
        assert!(nodes.events[0].contains(&TableEvent::Stream(id, reset.clone())));
    }
    assert_eq!(
        nodes.tables[1].write(nodes.now, accepted, Bytes::from_static(b"x")),
        Err(WriteError::Closed)
    );
    let late = nodes.dial("late");
    nodes.run(MS * 5);
    assert_eq!(nodes.events[0].last(), Some(&TableEvent::Stream(late, reset)));
    let back = nodes.tables[1].dial(nodes.now, NAMES[0], CONTROL, service("x"));
    assert!(matches!(back, Err(CallerError::Blocked(_))));
}
