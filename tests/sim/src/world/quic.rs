//! A stand-in for the QUIC endpoint: the same messages and no cryptography, so that a world can be replayed.
//!
//! Its streams are native ones whose packets are marked in the two highest bits of their first byte, as QUIC's are.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use receptor_core::deadline::Deadline;
use receptor_core::quic::{ConnectionId, FromEndpoint, Path, ToEndpoint, WINDOW};
use receptor_core::rng::Rng;
use receptor_core::stream::{Arrival, Event, Stream, StreamId, Table, TableConfig, TableEvent, code};
use receptor_core::time::Instant;
use receptor_core::wire::data::HEADER_LEN;

/// Of a first byte: QUIC, not native.
const MARK: u8 = 0xc0;

const ACCEPTED: u64 = 1 << 63;

#[derive(Debug)]
struct Connection {
    stream: StreamId,
    outbox: VecDeque<Bytes>,
    inbox: Option<Bytes>,
    finish: bool,
    released: bool,
    /// The other end has answered, or dialled.
    is_open: bool,
    undrained: usize,
    eof_told: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct StandIn {
    table: Table,
    connections: BTreeMap<ConnectionId, Connection>,
    by_stream: BTreeMap<StreamId, ConnectionId>,
    next_accepted: u64,
    outputs: VecDeque<FromEndpoint>,
}

impl StandIn {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self {
            table: Table::new(TableConfig::default(), Rng::from_seed(seed)),
            connections: BTreeMap::new(),
            by_stream: BTreeMap::new(),
            next_accepted: 0,
            outputs: VecDeque::new(),
        }
    }

    pub(super) fn handle(&mut self, now: Instant, message: ToEndpoint) {
        match message {
            ToEndpoint::Datagram(path, payload) => {
                let mut payload = payload.to_vec();
                if payload[0] & MARK != MARK {
                    return;
                }
                payload[0] &= !MARK;
                let arrival = Arrival {
                    remote: path.remote,
                    remote_service: path.remote_service,
                    local_service: path.local_service,
                    payload: payload.into(),
                    marked: false,
                };
                // A service that has just gone is nobody's business.
                let _ = self.table.handle_packet(now, arrival);
            }
            ToEndpoint::Unreachable(path, problem) => {
                let Path {
                    remote,
                    remote_service,
                    local_service,
                } = path;
                self.table
                    .on_unreachable(now, remote, remote_service, local_service, &problem);
            }
            ToEndpoint::Blocked(node) => self.table.block(node),
            ToEndpoint::Unblocked(node) => self.table.unblock(node),
            ToEndpoint::Listen(service, _) => self.table.listen(service).expect("nobody listens there yet"),
            ToEndpoint::Unlisten(service) => {
                self.table.unlisten(now, service);
                self.outputs.push_back(FromEndpoint::Released(service));
            }
            ToEndpoint::Dial(id, path, _) => {
                let stream = self
                    .table
                    .dial(now, path.remote, path.remote_service, path.local_service);
                self.insert(id, stream.expect("a service of its own, and room"));
            }
            ToEndpoint::Data(id, data) => self.with(now, id, |connection| connection.outbox.push_back(data)),
            ToEndpoint::Eof(id) => self.with(now, id, |connection| connection.finish = true),
            ToEndpoint::Drained(id, bytes) => self.with(now, id, |connection| connection.undrained -= bytes),
            // Nobody is to believe that this was a stream.
            ToEndpoint::Release(id) if self.connections.get(&id).is_some_and(|c| !c.is_open) => {
                if let Some(connection) = self.forget(id) {
                    self.table.reset(now, connection.stream, code::RELEASED, "");
                    self.table.release(now, connection.stream);
                }
            }
            ToEndpoint::Release(id) => self.with(now, id, |connection| {
                connection.finish = true;
                connection.released = true;
            }),
            ToEndpoint::Abort(id, reason) => {
                if let Some(connection) = self.forget(id) {
                    self.table.reset(now, connection.stream, code::RELEASED, &reason);
                    self.table.release(now, connection.stream);
                }
            }
            other => panic!("a message the stand-in does not know: {other:?}"),
        }
    }

    pub(super) fn poll_output(&mut self, now: Instant) -> Option<FromEndpoint> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if let Some(event) = self.table.poll_event() {
                self.on_event(now, event);
                continue;
            }
            let mut out = self.table.poll_transmit(now, HEADER_LEN)?;
            out.packet[HEADER_LEN] |= MARK;
            let path = Path {
                remote: out.remote,
                remote_service: out.remote_service,
                local_service: out.local_service,
            };
            return Some(FromEndpoint::Datagram(path, out.packet));
        }
    }

    pub(super) fn next_deadline(&self) -> Deadline {
        self.table.next_deadline()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.table.handle_timeout(now);
    }

    fn insert(&mut self, id: ConnectionId, stream: StreamId) {
        let connection = Connection {
            stream,
            outbox: VecDeque::new(),
            inbox: None,
            finish: false,
            released: false,
            is_open: id.0 & ACCEPTED != 0,
            undrained: 0,
            eof_told: false,
        };
        self.connections.insert(id, connection);
        self.by_stream.insert(stream, id);
    }

    fn forget(&mut self, id: ConnectionId) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        self.by_stream.remove(&connection.stream);
        Some(connection)
    }

    fn with(&mut self, now: Instant, id: ConnectionId, change: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.connections.get_mut(&id) {
            change(connection);
            self.pump(now, id);
        }
    }

    fn on_event(&mut self, now: Instant, event: TableEvent) {
        match event {
            TableEvent::Incoming(service) => {
                while let Some(stream) = self.table.accept(service) {
                    let id = ConnectionId(ACCEPTED | self.next_accepted);
                    self.next_accepted += 1;
                    self.insert(id, stream);
                    let path = Path {
                        remote: self.table.remote(stream).expect("it was just accepted"),
                        // Nobody in a simulated node looks at it.
                        remote_service: service,
                        local_service: service,
                    };
                    self.outputs.push_back(FromEndpoint::Accepted(id, path));
                    self.pump(now, id);
                }
            }
            TableEvent::Stream(stream, event) => {
                let Some(&id) = self.by_stream.get(&stream) else { return };
                match event {
                    Event::Connected => {
                        if let Some(connection) = self.connections.get_mut(&id) {
                            connection.is_open = true;
                        }
                        self.outputs.push_back(FromEndpoint::Opened(id));
                    }
                    Event::Reset { reason, .. } | Event::Lost { reason } => {
                        let connection = self.forget(id);
                        self.table.release(now, stream);
                        if connection.is_some_and(|connection| !connection.released) {
                            self.outputs.push_back(FromEndpoint::Closed(id, Some(reason)));
                        }
                        return;
                    }
                    _ => {}
                }
                self.pump(now, id);
            }
            TableEvent::Forgotten {
                local_service,
                is_dialled: true,
                ..
            } => self.outputs.push_back(FromEndpoint::Released(local_service)),
            TableEvent::Forgotten { .. } => {}
        }
    }

    fn pump(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let stream = connection.stream;
        let mut taken = 0;
        while let Some(mut data) = connection.outbox.pop_front() {
            let room = self.table.await_write_space(stream);
            if data.len() > room {
                connection.outbox.push_front(data.split_off(room));
            }
            if data.is_empty() {
                break;
            }
            taken += data.len();
            if self.table.write(now, stream, data).is_err() {
                break;
            }
        }
        if taken > 0 && !connection.released {
            self.outputs.push_back(FromEndpoint::Credit(id, taken));
        }
        if connection.released && connection.outbox.is_empty() {
            self.table.finish(stream);
            self.table.release(now, stream);
            self.forget(id);
            return;
        }
        if connection.finish && connection.outbox.is_empty() {
            self.table.finish(stream);
        }
        while !connection.released && connection.undrained < WINDOW {
            let Some(mut data) = connection.inbox.take().or_else(|| self.table.read(now, stream)) else {
                break;
            };
            let room = WINDOW - connection.undrained;
            if data.len() > room {
                connection.inbox = Some(data.split_off(room));
            }
            connection.undrained += data.len();
            self.outputs.push_back(FromEndpoint::Data(id, data));
        }
        let at_end = connection.inbox.is_none() && self.table.stream(stream).is_none_or(Stream::is_finished);
        if at_end && !connection.eof_told {
            connection.eof_told = true;
            self.outputs.push_back(FromEndpoint::Eof(id));
        }
    }
}
