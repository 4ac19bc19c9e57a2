//! All native streams of a node: which one a datagram belongs to, who may send next, whose time has come.

mod entry;
mod schedule;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::packet::{Packet, Writer, flag};
use super::{Config, Event, Stream, WriteError, code};
use crate::deadline::Deadline;
use crate::error::CallerError;
use crate::id::{NameHash, ServiceName};
use crate::rng::Rng;
use crate::time::Instant;
use entry::{Entry, Key};
use schedule::{Ready, Timers};

/// What peers are told when the node stops.
const SHUTDOWN_REASON: &str = "node is shutting down";

/// One stream of one [`Table`], never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);

/// Limits of a [`Table`].
#[derive(Clone, Debug)]
pub struct TableConfig {
    /// For every stream.
    pub stream: Config,
    /// Most streams that are not over, dialled and accepted together.
    pub max_streams: usize,
    /// Most streams of one listener that wait to be accepted; each may hold a receive window. A SYN beyond is dropped, and
    /// the peer repeats it.
    pub max_backlog: usize,
    /// Most streams that are over and only answer their peers; the oldest is forgotten first.
    pub max_lingering: usize,
    /// Most answers to packets of no stream that wait to be sent; more packets are dropped.
    pub max_answers: usize,
}

impl Default for TableConfig {
    fn default() -> Self {
        Self {
            stream: Config::default(),
            max_streams: 16_384,
            max_backlog: 128,
            max_lingering: 1024,
            max_answers: 64,
        }
    }
}

/// A datagram for a stream service of this node.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The node it came from.
    pub remote: NameHash,
    /// The service there.
    pub remote_service: ServiceName,
    /// The service here.
    pub local_service: ServiceName,
    /// Native by [`is_native`](super::is_native).
    pub payload: Bytes,
    /// Its frame carried a congestion mark.
    pub marked: bool,
}

/// A datagram to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// The node it goes to.
    pub remote: NameHash,
    /// The service there.
    pub remote_service: ServiceName,
    /// The service here.
    pub local_service: ServiceName,
    /// The payload behind the headroom asked for, which is zero.
    pub packet: BytesMut,
}

/// What became of an [`Arrival`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// It belongs to this stream, which may be new.
    Stream(StreamId),
    /// It belongs to no stream, and its sender is told so where that helps.
    NoStream,
    /// It opens a stream to a service nobody listens on here: the node answers as for any unknown service (`wire.md` §18).
    UnknownService,
}

/// What a [`Table`] tells its owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TableEvent {
    /// A listener has streams to accept: call [`Table::accept`] until there are no more.
    Incoming(ServiceName),
    /// Something happened on a stream that was dialled or accepted.
    Stream(StreamId, Event),
    /// A released stream is forgotten: its ephemeral service, if it had one, is free.
    Forgotten {
        /// Its ID means nothing any more.
        id: StreamId,
        /// The service it used here.
        local_service: ServiceName,
        /// Whether it was dialled from here.
        is_dialled: bool,
    },
}

/// All native streams of one node.
///
/// The owner of a stream that was dialled or accepted calls [`release`](Self::release) exactly once; until then its ID
/// stays valid. After any call: drain [`poll_transmit`](Self::poll_transmit) and [`poll_event`](Self::poll_event).
#[derive(Debug)]
pub struct Table {
    config: TableConfig,
    rng: Rng,
    next_id: u64,
    by_key: HashMap<Key, StreamId, FixedState>,
    streams: HashMap<StreamId, Box<Entry>, FixedState>,
    /// Streams that wait to be accepted, by service.
    listeners: BTreeMap<ServiceName, VecDeque<StreamId>>,
    ready: Ready,
    timers: Timers,
    /// Streams with events, each at most once.
    eventful: VecDeque<StreamId>,
    /// Bounded by the streams and listeners there are.
    notices: VecDeque<TableEvent>,
    /// Resets for packets of no stream.
    answers: VecDeque<Answer>,
    /// Streams that are over, oldest first; may name streams that are forgotten.
    lingering: VecDeque<StreamId>,
    live: usize,
    is_closing: bool,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    key: Key,
    nonce: u32,
    code: u32,
    reason: &'static str,
}

impl Table {
    /// A table without streams.
    pub fn new(config: TableConfig, rng: Rng) -> Self {
        Self {
            config,
            rng,
            next_id: 0,
            by_key: HashMap::default(),
            streams: HashMap::default(),
            listeners: BTreeMap::new(),
            ready: Ready::default(),
            timers: Timers::default(),
            eventful: VecDeque::new(),
            notices: VecDeque::new(),
            answers: VecDeque::new(),
            lingering: VecDeque::new(),
            live: 0,
            is_closing: false,
        }
    }

    /// Takes streams for a service from now on.
    ///
    /// # Errors
    /// [`CallerError::Misuse`] if somebody listens there already.
    pub fn listen(&mut self, service: ServiceName) -> Result<(), CallerError> {
        if self.listeners.contains_key(&service) {
            return Err(CallerError::Misuse(alloc::format!(
                "service {service} is already listening"
            )));
        }
        self.listeners.insert(service, VecDeque::new());
        Ok(())
    }

    /// Takes no more streams for a service; those nobody accepted are reset. Accepted ones go on.
    pub fn unlisten(&mut self, now: Instant, service: ServiceName) {
        for id in self.listeners.remove(&service).unwrap_or_default() {
            self.with(id, |entry| {
                entry.is_released = true;
                entry.stream.reset(now, code::REFUSED, "listener closed");
            });
        }
    }

    /// Whether somebody listens on a service.
    pub fn is_listening(&self, service: ServiceName) -> bool {
        self.listeners.contains_key(&service)
    }

    /// Starts a stream from a service of ours, which should be one that no other stream uses.
    ///
    /// # Errors
    /// [`CallerError::Blocked`] at the limit of streams, [`CallerError::Misuse`] if the pair of services has a stream to
    /// that node already.
    pub fn dial(
        &mut self,
        now: Instant,
        remote: NameHash,
        remote_service: ServiceName,
        local_service: ServiceName,
    ) -> Result<StreamId, CallerError> {
        let key = Key {
            local_service,
            remote,
            remote_service,
        };
        if self.by_key.contains_key(&key) {
            return Err(CallerError::Misuse(alloc::format!(
                "service {local_service} has that stream already"
            )));
        }
        if self.live >= self.config.max_streams || self.is_closing {
            return Err(CallerError::Blocked("table of streams"));
        }
        let stream = Stream::dial(self.config.stream.clone(), &mut self.rng, now);
        Ok(self.insert(key, stream, true))
    }

    /// The next stream that waits on a service.
    pub fn accept(&mut self, service: ServiceName) -> Option<StreamId> {
        let id = self.listeners.get_mut(&service)?.pop_front()?;
        self.with(id, |entry| entry.is_accepted = true);
        Some(id)
    }

    /// Takes a datagram.
    pub fn handle_packet(&mut self, now: Instant, arrival: Arrival) -> Received {
        let Arrival {
            remote,
            remote_service,
            local_service,
            payload,
            marked,
        } = arrival;
        let Some((flags, nonce)) = Packet::peek(&payload) else {
            return Received::NoStream;
        };
        let key = Key {
            local_service,
            remote,
            remote_service,
        };
        if let Some(&id) = self.by_key.get(&key) {
            let is_same = self.streams.get(&id).is_some_and(|entry| entry.stream.nonce() == nonce);
            if is_same {
                self.with(id, |entry| entry.stream.handle_packet(now, payload, marked));
                return Received::Stream(id);
            }
            // A new incarnation may follow one that is over; a living one is not ended by who knows only its name.
            let is_over = self.streams.get(&id).is_none_or(|entry| entry.is_forgettable());
            if !is_over || flags & flag::SYN == 0 {
                self.answer(key, nonce, flags, code::NO_STREAM, "no such stream");
                return Received::NoStream;
            }
            self.forget(id);
        }
        if flags & flag::SYN == 0 {
            self.answer(key, nonce, flags, code::NO_STREAM, "no such stream");
            return Received::NoStream;
        }
        self.open(now, key, nonce, flags, &payload, marked)
    }

    /// The next datagram to send, round robin over the streams whose destination is not blocked; the first `headroom`
    /// bytes of the packet are zero.
    pub fn poll_transmit(&mut self, now: Instant, headroom: usize) -> Option<Outgoing> {
        if let Some(Answer {
            key,
            nonce,
            code,
            reason,
        }) = self.answers.pop_front()
        {
            let mut writer = Writer::new(headroom, 64, nonce);
            writer.number(super::packet::Number { number: 0, floor: 0 });
            writer.reset(code, reason.as_bytes());
            return Some(key.outgoing(writer.finish()));
        }
        while let Some(id) = self.ready.pop() {
            let Some(entry) = self.streams.get_mut(&id) else {
                continue;
            };
            entry.is_queued = false;
            let key = entry.key;
            if self.ready.park_if_blocked(key.remote, id) {
                entry.is_queued = true;
                continue;
            }
            let packet = entry.stream.poll_transmit(now, headroom);
            self.refresh(id);
            if let Some(packet) = packet {
                return Some(key.outgoing(packet));
            }
        }
        None
    }

    /// Holds back what goes to a node, because its first hop takes nothing more or there is none.
    pub fn block(&mut self, remote: NameHash) {
        self.ready.block(remote);
    }

    /// Lets what goes to a node through again.
    pub fn unblock(&mut self, remote: NameHash) {
        self.ready.unblock(remote);
    }

    /// [`unblock`](Self::unblock) for every blocked node of which `is_open` holds.
    pub fn unblock_where(&mut self, is_open: impl FnMut(NameHash) -> bool) {
        self.ready.unblock_where(is_open);
    }

    /// The other ends of all streams, in no order and as often as there are streams.
    pub fn remotes(&self) -> impl Iterator<Item = NameHash> {
        self.by_key.keys().map(|key| key.remote)
    }

    /// A route to a node came back: its streams try again at once.
    pub fn kick(&mut self, now: Instant, remote: NameHash) {
        self.unblock(remote);
        let ids: alloc::vec::Vec<StreamId> = self
            .by_key
            .iter()
            .filter(|(key, _)| key.remote == remote)
            .map(|(_, &id)| id)
            .collect();
        for id in sorted(ids) {
            self.with(id, |entry| entry.stream.kick(now));
        }
    }

    /// An unreachable message, or an error of our own routing, for a datagram of ours (`wire.md` §18).
    pub fn on_unreachable(
        &mut self,
        now: Instant,
        remote: NameHash,
        remote_service: ServiceName,
        local_service: ServiceName,
        problem: &str,
    ) {
        if let Some(&id) = self.by_key.get(&Key {
            local_service,
            remote,
            remote_service,
        }) {
            self.with(id, |entry| entry.stream.on_unreachable(now, problem));
        }
    }

    /// The next thing the owner has to know.
    pub fn poll_event(&mut self) -> Option<TableEvent> {
        if let Some(notice) = self.notices.pop_front() {
            return Some(notice);
        }
        while let Some(&id) = self.eventful.front() {
            if let Some(entry) = self.streams.get_mut(&id) {
                if entry.is_ours()
                    && let Some(event) = entry.stream.poll_event()
                {
                    return Some(TableEvent::Stream(id, event));
                }
                entry.is_eventful = false;
            }
            self.eventful.pop_front();
        }
        None
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(id) = self.timers.pop_due(now) {
            self.with(id, |entry| {
                entry.timer = None;
                entry.stream.handle_timeout(now);
            });
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; `Now` while a packet or an event waits.
    pub fn next_deadline(&self) -> Deadline {
        let is_waiting =
            !self.answers.is_empty() || !self.notices.is_empty() || !self.eventful.is_empty() || !self.ready.is_empty();
        if is_waiting { Deadline::Now } else { self.timers.next() }
    }

    /// [`Stream::write`].
    ///
    /// # Errors
    /// Those of the stream; [`WriteError::Closed`] if there is none of that ID.
    pub fn write(&mut self, now: Instant, id: StreamId, data: Bytes) -> Result<usize, WriteError> {
        self.with(id, |entry| entry.stream.write(now, data))
            .unwrap_or(Err(WriteError::Closed))
    }

    /// [`Stream::await_write_space`]; 0 if there is no such stream.
    pub fn await_write_space(&mut self, id: StreamId) -> usize {
        let space = self
            .streams
            .get_mut(&id)
            .map_or(0, |entry| entry.stream.await_write_space());
        usize::try_from(space).unwrap_or(usize::MAX)
    }

    /// [`Stream::finish`].
    pub fn finish(&mut self, id: StreamId) {
        self.with(id, |entry| entry.stream.finish());
    }

    /// [`Stream::read`].
    pub fn read(&mut self, now: Instant, id: StreamId) -> Option<Bytes> {
        self.with(id, |entry| entry.stream.read(now)).flatten()
    }

    /// [`Stream::reset`].
    pub fn reset(&mut self, now: Instant, id: StreamId, code: u32, reason: &str) {
        self.with(id, |entry| entry.stream.reset(now, code, reason));
    }

    /// The owner lets go: no more events of this stream come, [`Stream::release`] is called, and it is forgotten as soon
    /// as its peer needs no more answers.
    pub fn release(&mut self, now: Instant, id: StreamId) {
        self.with(id, |entry| {
            entry.is_released = true;
            entry.stream.release(now);
        });
    }

    /// The node stops: every stream is reset and no new one begins, so that the peers notice at once. What is left to send
    /// is the farewells, held back by nothing.
    pub fn shutdown(&mut self, now: Instant) {
        self.is_closing = true;
        self.ready.unblock_where(|_| true);
        for id in sorted(self.streams.keys().copied().collect()) {
            self.with(id, |entry| entry.stream.reset(now, code::SHUTDOWN, SHUTDOWN_REASON));
        }
    }

    /// A stream, to look at.
    pub fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(&id).map(|entry| &entry.stream)
    }

    /// The node at the other end of a stream.
    pub fn remote(&self, id: StreamId) -> Option<NameHash> {
        self.streams.get(&id).map(|entry| entry.key.remote)
    }

    /// Streams held, those that are over included.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// How many streams are not over: those that count towards the limit.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Whether no stream is held.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    #[cfg(test)]
    pub(super) fn answers_waiting(&self) -> usize {
        self.answers.len()
    }

    fn open(&mut self, now: Instant, key: Key, nonce: u32, flags: u8, packet: &Bytes, marked: bool) -> Received {
        let Some(backlog) = self.listeners.get(&key.local_service) else {
            return Received::UnknownService;
        };
        if self.is_closing {
            self.answer(key, nonce, flags, code::SHUTDOWN, SHUTDOWN_REASON);
            return Received::NoStream;
        }
        if backlog.len() >= self.config.max_backlog {
            return Received::NoStream;
        }
        if self.live >= self.config.max_streams {
            self.answer(key, nonce, flags, code::REFUSED, "too many streams");
            return Received::NoStream;
        }
        let Some(stream) = Stream::accept(self.config.stream.clone(), packet, now, marked) else {
            self.answer(key, nonce, flags, code::VERSION, "stream version is not supported");
            return Received::NoStream;
        };
        let id = self.insert(key, stream, false);
        if let Some(backlog) = self.listeners.get_mut(&key.local_service) {
            backlog.push_back(id);
            if backlog.len() == 1 {
                self.notices.push_back(TableEvent::Incoming(key.local_service));
            }
        }
        Received::Stream(id)
    }

    /// Tells the sender of a packet that it has no stream here. Bare acknowledgements and resets get no answer: whoever has
    /// something at stake asks again with a number, and two tables must not answer each other.
    fn answer(&mut self, key: Key, nonce: u32, flags: u8, code: u32, reason: &'static str) {
        if flags & flag::RESET == 0 && flags != flag::ACK && self.answers.len() < self.config.max_answers {
            self.answers.push_back(Answer {
                key,
                nonce,
                code,
                reason,
            });
        }
    }

    fn insert(&mut self, key: Key, stream: Stream, is_dialled: bool) -> StreamId {
        let id = StreamId(self.next_id);
        self.next_id += 1;
        self.by_key.insert(key, id);
        self.streams.insert(id, Box::new(Entry::new(key, stream, is_dialled)));
        self.live += 1;
        self.refresh(id);
        id
    }

    /// Every change of a stream goes through here, so that its queues and timers follow.
    fn with<R>(&mut self, id: StreamId, change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let result = change(self.streams.get_mut(&id)?);
        self.refresh(id);
        Some(result)
    }

    fn refresh(&mut self, id: StreamId) {
        let Some(entry) = self.streams.get_mut(&id) else {
            return;
        };
        if entry.is_ours() && !entry.is_eventful && entry.stream.has_event() {
            entry.is_eventful = true;
            self.eventful.push_back(id);
        }
        if !entry.is_queued && entry.stream.wants_transmit() {
            entry.is_queued = true;
            self.ready.push(id);
        }
        self.timers.follow(id, &mut entry.timer, entry.stream.next_timeout());
        // The last answer still goes out, unless it cannot.
        let has_said_all = !entry.is_queued || self.ready.is_blocked(entry.key.remote);
        if entry.is_forgettable() && entry.stream.is_drained() && has_said_all {
            self.forget(id);
        } else if entry.stream.is_ended() && !entry.is_counted_out {
            entry.is_counted_out = true;
            self.live -= 1;
            self.linger(id);
        }
    }

    /// Puts a stream that is over in the line of those to be forgotten when there are too many.
    fn linger(&mut self, id: StreamId) {
        self.lingering.push_back(id);
        while self.lingering.len() > self.config.max_lingering {
            let Some(oldest) = self.lingering.pop_front() else {
                return;
            };
            if self.streams.get(&oldest).is_some_and(|entry| entry.is_forgettable()) {
                self.forget(oldest);
            }
        }
    }

    fn forget(&mut self, id: StreamId) {
        let Some(entry) = self.streams.remove(&id) else {
            return;
        };
        self.by_key.remove(&entry.key);
        self.timers.forget(id, entry.timer);
        self.ready.forget(entry.key.remote, id);
        self.live -= usize::from(!entry.is_counted_out);
        let local_service = entry.key.local_service;
        if let Some(backlog) = self.listeners.get_mut(&local_service) {
            backlog.retain(|&waiting| waiting != id);
        }
        if entry.is_released && entry.is_accepted {
            self.notices.push_back(TableEvent::Forgotten {
                id,
                local_service,
                is_dialled: entry.is_dialled,
            });
        }
    }
}

/// In the order they were opened, because the hash table's order is nobody's choice.
fn sorted(mut ids: alloc::vec::Vec<StreamId>) -> alloc::vec::Vec<StreamId> {
    ids.sort_unstable();
    ids
}
