//! All QUIC connections of one node.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use quinn_proto::{ConnectionHandle, DatagramEvent, EndpointEvent, Incoming};

use super::address::address;
use super::clock::Clock;
use super::connection::{Connection, Verdict};
use super::local::Local;
use super::message::{ConnectionId, DialTls, FromEndpoint, Path, ToEndpoint};
use super::settings::{SERVER_NAME, Settings};
use super::text;
use crate::deadline::Deadline;
use crate::id::{NameHash, ServiceName};
use crate::rng::Rng;
use crate::time::Instant;
use crate::tls::Configs;
use crate::wire::data::HEADER_LEN;

/// Handshakes of peers at one time, not yet streams; a first packet beyond is dropped, and a true peer repeats it.
const HALF_OPEN_MAX: usize = 256;

/// The same from one node, so that one cannot shut the others out.
const HALF_OPEN_MAX_PER_NODE: usize = 64;

/// Connections that only linger; the oldest is closed first.
const LINGERING_MAX: usize = 1024;

/// Answers to packets of no connection (resets, version negotiation) that may wait to be sent.
const ANSWERS_MAX: usize = 64;

/// Connections accepted here have this bit in their IDs.
const ACCEPTED: u64 = 1 << 63;

/// What an [`Endpoint`] is told at its start.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Most connections at one time, those included that only say farewell.
    pub max_connections: usize,
    /// Any point of std's monotonic time; it stands for [`Instant::ZERO`].
    pub origin: std::time::Instant,
}

/// The machine beside the node that speaks QUIC. See the [module](super).
///
/// Outputs may be left undrained between inputs: what is to be sent is made when it is asked for.
#[derive(Debug)]
pub struct Endpoint {
    max_connections: usize,
    clock: Clock,
    rng: Rng,
    settings: Settings,
    now: Instant,
    locals: BTreeMap<ServiceName, Local>,
    connections: BTreeMap<ConnectionId, Connection>,
    next_accepted: u64,
    timers: BTreeSet<(Instant, ConnectionId)>,
    /// Connections that may have something to send, each at most once.
    ready: VecDeque<ConnectionId>,
    /// Nodes to which nothing may be sent now.
    blocked: BTreeSet<NameHash>,
    /// Connections that would send to them.
    held_back: BTreeSet<(NameHash, ConnectionId)>,
    half_open: BTreeMap<NameHash, usize>,
    half_open_total: usize,
    /// Oldest first; may name connections that are gone.
    lingering: VecDeque<ConnectionId>,
    answers: usize,
    outputs: VecDeque<FromEndpoint>,
    /// Packets are made here.
    buffer: Vec<u8>,
}

impl Endpoint {
    /// An endpoint without services. `seed` decides every random choice but those of the cryptography.
    ///
    /// # Errors
    /// The cryptography does not work on this machine.
    pub fn new(config: EndpointConfig, seed: [u8; 32]) -> Result<Self, String> {
        Ok(Self {
            max_connections: config.max_connections,
            clock: Clock::new(config.origin),
            rng: Rng::from_seed(seed),
            settings: Settings::anonymous().map_err(|error| error.to_string())?,
            now: Instant::ZERO,
            locals: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_accepted: 0,
            timers: BTreeSet::new(),
            ready: VecDeque::new(),
            blocked: BTreeSet::new(),
            held_back: BTreeSet::new(),
            half_open: BTreeMap::new(),
            half_open_total: 0,
            lingering: VecDeque::new(),
            answers: 0,
            outputs: VecDeque::new(),
            buffer: Vec::new(),
        })
    }

    /// The TLS configs that names stand for, from the next connection on. Without any, no name stands for one.
    pub fn set_tls(&mut self, configs: Arc<Configs>) {
        self.settings.configs = Some(configs);
    }

    /// Takes a message of the node.
    pub fn handle(&mut self, now: Instant, message: ToEndpoint) {
        self.now = self.now.max(now);
        match message {
            ToEndpoint::Datagram(path, payload) => self.on_datagram(path, payload),
            ToEndpoint::Unreachable(path, problem) => self.on_unreachable(path, &problem),
            ToEndpoint::Blocked(node) => {
                self.blocked.insert(node);
            }
            ToEndpoint::Unblocked(node) => self.on_unblocked(node),
            ToEndpoint::Listen(service, tls) => {
                // Each connection gets its own where there is one by name.
                let server = self.settings.server.clone();
                let local = self.local(service);
                local.is_listening = true;
                local.tls = tls;
                local.quic.set_server_config(Some(server));
            }
            ToEndpoint::Unlisten(service) => self.on_unlisten(service),
            ToEndpoint::Dial(id, path, tls) => self.dial(id, path, tls.as_ref()),
            ToEndpoint::Data(id, data) => self.with(id, |connection, _| connection.on_data(data)),
            ToEndpoint::Eof(id) => self.with(id, |connection, _| connection.on_eof()),
            ToEndpoint::Drained(id, bytes) => self.with(id, |connection, _| connection.on_drained(bytes)),
            ToEndpoint::Release(id) => self.with(id, Connection::on_release),
            ToEndpoint::Abort(id, reason) => self.with(id, |connection, now| connection.on_abort(now, &reason)),
        }
    }

    /// The next message for the node. Packets are made here, one per call: call it no more while datagrams cannot go on.
    pub fn poll_output(&mut self) -> Option<FromEndpoint> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                if let FromEndpoint::Datagram(..) = output {
                    self.answers = self.answers.saturating_sub(1);
                }
                return Some(output);
            }
            let id = self.ready.pop_front()?;
            if let Some(packet) = self.transmit(id) {
                return Some(packet);
            }
        }
    }

    /// When to call [`Endpoint::handle_timeout`].
    pub fn next_deadline(&self) -> Deadline {
        if !self.outputs.is_empty() || !self.ready.is_empty() {
            return Deadline::Now;
        }
        Deadline::at(self.timers.first().map(|timer| timer.0), "QUIC connection")
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let due = self.timers.range(..=(self.now, ConnectionId(u64::MAX)));
        let due: Vec<ConnectionId> = due.map(|timer| timer.1).collect();
        for id in due {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            match connection.handle_timeout(self.now, self.clock, &mut self.outputs) {
                Verdict::Goes => self.pump(id),
                Verdict::Dropped => self.drop_connection(id),
            }
        }
    }

    /// Connections there are, those included that only say farewell.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    fn local(&mut self, service: ServiceName) -> &mut Local {
        let rng = &mut self.rng;
        self.locals
            .entry(service)
            .or_insert_with(|| Local::new(rng.fork_seed()))
    }

    fn dial(&mut self, id: ConnectionId, path: Path, tls: Option<&DialTls>) {
        if self.connections.len() >= self.max_connections {
            let text = alloc::format!("limit of {} streams reached", self.max_connections);
            self.outputs.push_back(FromEndpoint::Closed(id, Some(text)));
            self.outputs.push_back(FromEndpoint::Released(path.local_service));
            return;
        }
        let client = match self.settings.client(tls) {
            Ok(client) => client,
            Err(text) => {
                self.outputs.push_back(FromEndpoint::Closed(id, Some(text)));
                self.outputs.push_back(FromEndpoint::Released(path.local_service));
                return;
            }
        };
        let now = self.clock.to_std(self.now);
        let local = self.local(path.local_service);
        let remote = address(path.remote, path.remote_service);
        match local.quic.connect(now, client, remote, SERVER_NAME) {
            Ok((handle, quic)) => {
                local.insert(handle, id);
                let connection = Connection::new(self.now, id, path, handle, quic, true);
                self.connections.insert(id, connection);
                self.pump(id);
            }
            Err(error) => {
                self.outputs
                    .push_back(FromEndpoint::Closed(id, Some(error.to_string())));
                self.release_idle(path.local_service);
            }
        }
    }

    fn on_datagram(&mut self, path: Path, payload: Bytes) {
        let now = self.clock.to_std(self.now);
        let Some(local) = self.locals.get_mut(&path.local_service) else {
            return;
        };
        let remote = address(path.remote, path.remote_service);
        self.buffer.clear();
        let event = local
            .quic
            .handle(now, remote, None, None, BytesMut::from(payload), &mut self.buffer);
        match event {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let Some(id) = local.find(handle) else { return };
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.on_heard(self.now);
                    connection.quic.handle_event(event);
                    self.pump(id);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.accept(path, incoming),
            Some(DatagramEvent::Response(_)) => self.answer(path),
            None => {}
        }
    }

    fn accept(&mut self, path: Path, incoming: Incoming) {
        let Some(local) = self.locals.get_mut(&path.local_service) else {
            return;
        };
        let of_node = self.half_open.get(&path.remote).copied().unwrap_or_default();
        if self.connections.len() >= self.max_connections
            || self.half_open_total >= HALF_OPEN_MAX
            || of_node >= HALF_OPEN_MAX_PER_NODE
        {
            return local.quic.ignore(incoming);
        }
        let now = self.clock.to_std(self.now);
        self.buffer.clear();
        let Ok(server) = self.settings.server(local.tls.as_deref(), path.remote) else {
            // The config has gone; without one nobody is let in.
            let _ = local.quic.refuse(incoming, &mut self.buffer);
            return self.answer(path);
        };
        match local.quic.accept(incoming, now, &mut self.buffer, Some(server)) {
            Ok((handle, quic)) => {
                let id = ConnectionId(ACCEPTED | self.next_accepted);
                self.next_accepted += 1;
                local.insert(handle, id);
                *self.half_open.entry(path.remote).or_default() += 1;
                self.half_open_total += 1;
                let connection = Connection::new(self.now, id, path, handle, quic, false);
                self.connections.insert(id, connection);
                self.pump(id);
            }
            Err(error) if error.response.is_some() => self.answer(path),
            Err(_) => {}
        }
    }

    /// Sends what is in the buffer and belongs to no connection.
    fn answer(&mut self, path: Path) {
        if self.answers < ANSWERS_MAX {
            self.answers += 1;
            let packet = with_headroom(&self.buffer);
            self.outputs.push_back(FromEndpoint::Datagram(path, packet));
        }
    }

    fn on_unreachable(&mut self, path: Path, problem: &str) {
        // Everything else may pass; it is waited out.
        if !matches!(problem, text::SERVICE_UNKNOWN | text::NO_ROUTE | text::BLOCKED) {
            return;
        }
        let Some(local) = self.locals.get(&path.local_service) else {
            return;
        };
        let meant: Vec<ConnectionId> = local
            .connections()
            .filter(|id| self.connections.get(id).is_some_and(|c| c.path == path))
            .collect();
        for id in meant {
            if let Some(connection) = self.connections.get_mut(&id)
                && connection.on_unreachable(problem, &mut self.outputs) == Verdict::Dropped
            {
                self.drop_connection(id);
            }
        }
    }

    fn on_unlisten(&mut self, service: ServiceName) {
        let Some(local) = self.locals.get_mut(&service) else {
            return;
        };
        local.is_listening = false;
        local.quic.set_server_config(None);
        let all: Vec<ConnectionId> = local.connections().collect();
        for id in all {
            self.with(id, Connection::on_unlisten);
        }
        self.release_idle(service);
    }

    fn on_unblocked(&mut self, node: NameHash) {
        self.blocked.remove(&node);
        let range = (node, ConnectionId(0))..=(node, ConnectionId(u64::MAX));
        while let Some(&held) = self.held_back.range(range.clone()).next() {
            self.held_back.remove(&held);
            self.queue(held.1);
        }
    }

    fn with(&mut self, id: ConnectionId, change: impl FnOnce(&mut Connection, std::time::Instant)) {
        let now = self.clock.to_std(self.now);
        if let Some(connection) = self.connections.get_mut(&id) {
            change(connection, now);
            self.pump(id);
        }
    }

    /// Lets a connection and its quinn endpoint work on one another's news, and puts it in its place.
    fn pump(&mut self, id: ConnectionId) {
        self.exchange(id);
        self.settle(id);
        self.queue(id);
    }

    fn exchange(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(local) = self.locals.get_mut(&connection.path.local_service) else {
            return;
        };
        loop {
            connection.progress(self.now, self.clock, &mut self.outputs);
            let mut any = false;
            while let Some(event) = connection.quic.poll_endpoint_events() {
                any = true;
                if let Some(answer) = local.quic.handle_event(connection.handle, event) {
                    connection.quic.handle_event(answer);
                }
            }
            if !any {
                return;
            }
        }
    }

    fn settle(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.is_half_open && !connection.is_early() {
            connection.is_half_open = false;
            let node = connection.path.remote;
            self.half_open_total -= 1;
            count_down(&mut self.half_open, node);
        }
        if connection.is_over() {
            return self.forget(id);
        }
        if connection.lingers_since() == Some(self.now) && self.lingering.back() != Some(&id) {
            self.lingering.push_back(id);
        }
        self.rearm(id);
        self.close_oldest();
    }

    fn rearm(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let due = connection.deadline(self.clock);
        if connection.armed != due {
            if let Some(before) = connection.armed {
                self.timers.remove(&(before, id));
            }
            if let Some(due) = due {
                self.timers.insert((due, id));
            }
            connection.armed = due;
        }
    }

    fn close_oldest(&mut self) {
        let now = self.clock.to_std(self.now);
        while self.lingering.len() > LINGERING_MAX {
            let Some(id) = self.lingering.pop_front() else {
                return;
            };
            if let Some(connection) = self.connections.get_mut(&id)
                && connection.lingers_since().is_some()
            {
                connection.say_farewell(now, &mut self.outputs);
                self.exchange(id);
                self.rearm(id);
                self.queue(id);
            }
        }
    }

    /// Marks a connection that may have something to send.
    fn queue(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if self.blocked.contains(&connection.path.remote) {
            self.held_back.insert((connection.path.remote, id));
        } else if !connection.is_ready {
            connection.is_ready = true;
            self.ready.push_back(id);
        }
    }

    fn transmit(&mut self, id: ConnectionId) -> Option<FromEndpoint> {
        let connection = self.connections.get_mut(&id)?;
        connection.is_ready = false;
        if self.blocked.contains(&connection.path.remote) {
            self.held_back.insert((connection.path.remote, id));
            return None;
        }
        self.buffer.clear();
        let now = self.clock.to_std(self.now);
        if connection.quic.poll_transmit(now, 1, &mut self.buffer).is_none() {
            // Making packets may end a connection, and changes its timers.
            self.exchange(id);
            self.settle(id);
            return None;
        }
        let packet = FromEndpoint::Datagram(connection.path, with_headroom(&self.buffer));
        connection.is_ready = true;
        self.ready.push_back(id);
        Some(packet)
    }

    /// Forgets a connection without another word to its peer.
    fn drop_connection(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(&id)
            && let Some(local) = self.locals.get_mut(&connection.path.local_service)
        {
            local.quic.handle_event(connection.handle, EndpointEvent::drained());
        }
        self.forget(id);
    }

    fn forget(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        let Path {
            remote, local_service, ..
        } = connection.path;
        if let Some(armed) = connection.armed {
            self.timers.remove(&(armed, id));
        }
        self.held_back.remove(&(remote, id));
        if connection.is_half_open {
            self.half_open_total -= 1;
            count_down(&mut self.half_open, remote);
        }
        self.forget_handle(local_service, connection.handle);
    }

    fn forget_handle(&mut self, service: ServiceName, handle: ConnectionHandle) {
        if let Some(local) = self.locals.get_mut(&service) {
            local.remove(handle);
        }
        self.release_idle(service);
    }

    fn release_idle(&mut self, service: ServiceName) {
        if self.locals.get(&service).is_some_and(Local::is_idle) {
            self.locals.remove(&service);
            self.outputs.push_back(FromEndpoint::Released(service));
        }
    }
}

fn count_down(counts: &mut BTreeMap<NameHash, usize>, node: NameHash) {
    if let Some(count) = counts.get_mut(&node) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&node);
        }
    }
}

fn with_headroom(payload: &[u8]) -> BytesMut {
    let mut packet = BytesMut::with_capacity(HEADER_LEN + payload.len());
    packet.resize(HEADER_LEN, 0);
    packet.extend_from_slice(payload);
    packet
}
