//! All native streams of a node: which one a datagram belongs to, who may send next, whose time has come.

mod entry;
mod lifecycle;
mod liveness;
mod peers;
mod schedule;
mod slots;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::budget::Budget;
use super::packet::{Number, Packet, Writer, flag};
use super::pool::Pool;
use super::{Config, Event, Stream, WriteError, code};
use crate::error::CallerError;
use crate::id::{NameHash, ServiceName};
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use entry::Key;
use peers::Peers;
use schedule::{Ready, Timers};
use slots::Slots;

/// What peers are told when the node stops.
const SHUTDOWN_REASON: &str = "node is shutting down";

/// How the answer to a packet of no stream goes on behind flags and nonce: number 0, floor 0, code 1.
const NO_STREAM_RESET: [u8; 6] = [0, 0, 0, 0, 0, code::NO_STREAM as u8];

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
    /// A node that streams were dialled to is asked for a sign of life after this much silence; one that only dialled here
    /// after twice as much.
    pub keepalive: Duration,
    /// Bytes that peers may send and that were not read yet, of all streams together, beyond [`UNSOLICITED_CREDIT`] for each.
    ///
    /// [`UNSOLICITED_CREDIT`]: super::UNSOLICITED_CREDIT
    pub receive_memory: u64,
    /// Bytes written and not acknowledged, of all streams together, beyond 64 KiB for each.
    pub send_memory: u64,
}

impl Default for TableConfig {
    fn default() -> Self {
        Self {
            stream: Config::default(),
            max_streams: 16_384,
            max_backlog: 128,
            max_lingering: 1024,
            max_answers: 64,
            keepalive: Duration::from_secs(15),
            receive_memory: 256 * 1024 * 1024,
            send_memory: 256 * 1024 * 1024,
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
    stream_config: Arc<Config>,
    rng: Rng,
    by_key: HashMap<Key, StreamId, FixedState>,
    slots: Slots,
    peers: Peers,
    new_peers: VecDeque<NameHash>,
    /// Streams that wait to be accepted, by service.
    listeners: BTreeMap<ServiceName, VecDeque<StreamId>>,
    ready: Ready,
    timers: Timers,
    /// Streams that may hold memory they do not need, and when they are looked through.
    warm: Vec<StreamId>,
    sweep_at: Option<Instant>,
    /// Streams with events, each at most once.
    eventful: VecDeque<StreamId>,
    /// Bounded by the streams and listeners there are.
    notices: VecDeque<TableEvent>,
    /// Resets for packets of no stream.
    answers: VecDeque<Answer>,
    /// Streams that are over, oldest first; may name streams that are forgotten.
    lingering: VecDeque<StreamId>,
    live: usize,
    /// The latest time told.
    last: Instant,
    receiving: Budget,
    sending: Budget,
    pool: Pool,
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
            stream_config: Arc::new(config.stream.clone()),
            rng,
            by_key: HashMap::default(),
            slots: Slots::default(),
            peers: Peers::new(config.keepalive, config.stream.dead_after),
            new_peers: VecDeque::new(),
            listeners: BTreeMap::new(),
            ready: Ready::default(),
            timers: Timers::default(),
            warm: Vec::new(),
            sweep_at: None,
            eventful: VecDeque::new(),
            notices: VecDeque::new(),
            answers: VecDeque::new(),
            lingering: VecDeque::new(),
            live: 0,
            last: Instant::ZERO,
            receiving: Budget::new(config.receive_memory),
            sending: Budget::new(config.send_memory),
            pool: Pool::default(),
            is_closing: false,
            config,
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
            self.with(now, id, |entry| {
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
        if !self.has_room() || self.is_closing {
            return Err(CallerError::Blocked("table of streams"));
        }
        let stream = Stream::dial(Arc::clone(&self.stream_config), &mut self.rng, now);
        Ok(self.insert(now, key, stream, true))
    }

    /// The next stream that waits on a service.
    pub fn accept(&mut self, service: ServiceName) -> Option<StreamId> {
        let id = self.listeners.get_mut(&service)?.pop_front()?;
        let now = self.last;
        self.with(now, id, |entry| entry.is_accepted = true);
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
            let is_same = self.slots.get(id).is_some_and(|entry| entry.stream.nonce() == nonce);
            if is_same {
                let is_unknown_there = flags & flag::RESET != 0 && payload.get(5..11) == Some(&NO_STREAM_RESET);
                self.with(now, id, |entry| entry.stream.handle_packet(now, payload, marked));
                self.learn_of_peer(now, remote, id, is_unknown_there);
                return Received::Stream(id);
            }
            // A new incarnation may follow one that is over; a living one is not ended by who knows only its name.
            let is_over = self.slots.get(id).is_none_or(|entry| entry.is_forgettable());
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
            let mut writer = Writer::new(self.pool.buffer(headroom + 64), headroom, nonce);
            writer.number(Number { number: 0, floor: 0 });
            writer.reset(code, reason.as_bytes());
            return Some(key.outgoing(writer.finish()));
        }
        while let Some(id) = self.ready.pop() {
            let Some(entry) = self.slots.get_mut(id) else {
                continue;
            };
            let key = entry.key;
            if self.ready.park_if_blocked(key.remote, id) {
                continue;
            }
            entry.is_queued = false;
            let receive = self.receiving.allowance(entry.receiving);
            entry.stream.set_memory(receive, self.sending.allowance(entry.sending));
            let packet = entry.stream.transmit(now, headroom, &mut self.pool);
            self.refresh(now, id);
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

    /// The next thing the owner has to know.
    pub fn poll_event(&mut self) -> Option<TableEvent> {
        if let Some(notice) = self.notices.pop_front() {
            return Some(notice);
        }
        while let Some(&id) = self.eventful.front() {
            if let Some(entry) = self.slots.get_mut(id) {
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

    /// [`Stream::write`].
    ///
    /// # Errors
    /// Those of the stream; [`WriteError::Closed`] if there is none of that ID.
    pub fn write(&mut self, now: Instant, id: StreamId, data: Bytes) -> Result<usize, WriteError> {
        self.with(now, id, |entry| entry.stream.write(now, data))
            .unwrap_or(Err(WriteError::Closed))
    }

    /// [`Stream::await_write_space`]; 0 if there is no such stream.
    pub fn await_write_space(&mut self, id: StreamId) -> usize {
        let space = self.slots.get_mut(id).map_or(0, |entry| {
            let receive = self.receiving.allowance(entry.receiving);
            entry.stream.set_memory(receive, self.sending.allowance(entry.sending));
            entry.stream.await_write_space()
        });
        usize::try_from(space).unwrap_or(usize::MAX)
    }

    /// [`Stream::finish`].
    pub fn finish(&mut self, id: StreamId) {
        let now = self.last;
        self.with(now, id, |entry| entry.stream.finish());
    }

    /// [`Stream::read`].
    pub fn read(&mut self, now: Instant, id: StreamId) -> Option<Bytes> {
        self.with(now, id, |entry| entry.stream.read(now)).flatten()
    }

    /// [`Stream::reset`].
    pub fn reset(&mut self, now: Instant, id: StreamId, code: u32, reason: &str) {
        self.with(now, id, |entry| entry.stream.reset(now, code, reason));
    }

    /// The owner lets go: no more events of this stream come, [`Stream::release`] is called, and it is forgotten as soon
    /// as its peer needs no more answers.
    pub fn release(&mut self, now: Instant, id: StreamId) {
        self.with(now, id, |entry| {
            entry.is_released = true;
            entry.stream.release(now);
        });
    }

    /// A stream, to look at.
    pub fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.slots.get(id).map(|entry| &entry.stream)
    }

    /// The node at the other end of a stream.
    pub fn remote(&self, id: StreamId) -> Option<NameHash> {
        self.slots.get(id).map(|entry| entry.key.remote)
    }

    /// Streams held, those that are over included.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many streams are not over: those that count towards the limit.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Whether no stream is held.
    pub fn is_empty(&self) -> bool {
        self.slots.len() == 0
    }

    /// Bytes drawn from the memory for receiving and for sending: see [`TableConfig::receive_memory`].
    pub const fn memory_drawn(&self) -> (u64, u64) {
        (self.receiving.used(), self.sending.used())
    }

    #[cfg(test)]
    pub(super) fn answers_waiting(&self) -> usize {
        self.answers.len()
    }

    #[cfg(test)]
    pub(super) fn stream_ids(&self) -> Vec<StreamId> {
        self.slots.ids()
    }

    #[cfg(test)]
    pub(super) fn forget_lingering(&mut self) {
        while let Some(id) = self.lingering.pop_front() {
            self.forget(id);
        }
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
        if !self.has_room() {
            self.answer(key, nonce, flags, code::REFUSED, "too many streams");
            return Received::NoStream;
        }
        let Some(stream) = Stream::accept(Arc::clone(&self.stream_config), packet, now, marked) else {
            self.answer(key, nonce, flags, code::VERSION, "stream version is not supported");
            return Received::NoStream;
        };
        let id = self.insert(now, key, stream, false);
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
}
