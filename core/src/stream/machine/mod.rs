//! One end of one stream.

mod incoming;
mod outgoing;
mod timers;

use alloc::string::{String, ToString};
use alloc::sync::Arc;

use bytes::Bytes;

use super::acks::Acks;
use super::congestion::Congestion;
use super::credit::Credit;
use super::pacing::Pacing;
use super::packet::{MAX_REASON, Packet, VERSION};
use super::recovery::{Path, Recovery};
use super::recv::Assembler;
use super::rtt::Rtt;
use super::send::SendBuffer;
use super::size::SegmentSize;
use super::state::{Half, Phase, Step, Turn};
use super::{BLOCKED, Config, Event, NO_ROUTE, SERVICE_UNKNOWN, TIMEOUT_TEXT, UNSOLICITED_CREDIT, WriteError, code};
use crate::rng::Rng;
use crate::time::Instant;

/// The send buffer's limit before the congestion window has grown, in bytes.
const SEND_BUFFER_MIN: u64 = 256 * 1024;
/// What every stream may have written and not acknowledged, whatever others hold, in bytes.
const SEND_BUFFER_SHARE: u64 = 64 * 1024;
/// The largest packet there can be: a frame has at most 65,535 bytes (`wire.md` §3), 36 of them the data header.
pub(super) const LARGEST_PACKET: usize = 65_535 - 36;
/// No packet limit below this: headers need up to 200 bytes of it.
const MAX_PACKET_MIN: usize = 1024;

/// One end of one native stream.
///
/// Push packets, bytes and time in; after each call, drain [`poll_transmit`](Self::poll_transmit) and
/// [`poll_event`](Self::poll_event), then sleep no longer than [`next_deadline`](Self::next_deadline). Calls may come in any
/// order with outputs undrained.
#[derive(Debug)]
pub struct Stream {
    config: Arc<Config>,
    nonce: u32,
    is_dialler: bool,
    phase: Phase,
    sending: Half,
    receiving: Half,
    send: SendBuffer,
    recv: Assembler,
    credit: Credit,
    acks: Acks,
    path: Path,
    recovery: Recovery,
    congestion: Congestion,
    pacing: Pacing,
    /// Offset up to which the peer takes bytes.
    peer_window: u64,
    /// Largest packet the peer takes, and the path.
    peer_packet: u32,
    path_packet: u32,
    /// Largest packet that came: a few of these are acknowledged at once.
    largest_packet: u32,
    /// Bytes written and not acknowledged that the node has room for.
    send_limit: u64,
    is_syn_sent: bool,
    is_syn_acked: bool,
    /// Packets to send whatever the congestion window says.
    probes_due: u8,
    is_ping_due: bool,
    /// Probe timeouts since the last progress, and probes of a closed window since it last moved.
    probe_count: u32,
    starved_count: u32,
    /// What the probe timeout counts from: the last numbered packet, progress or probe.
    probe_base: Instant,
    last_heard: Instant,
    outstanding_since: Option<Instant>,
    dial_deadline: Instant,
    reset: Option<ResetOut>,
    linger_until: Option<Instant>,
    /// The peer is known to know that its bytes have all arrived, so nothing of it needs an answer any more.
    is_end_confirmed: bool,
    is_released: bool,
    is_write_blocked: bool,
    is_drained: bool,
    events: Events,
    invalid_packets: u64,
}

/// A reset of ours, until the peer has it.
#[derive(Clone, Debug)]
struct ResetOut {
    code: u32,
    reason: Bytes,
    is_due: bool,
    /// The first packet that carried it.
    number: Option<u64>,
    attempts: u32,
    next: Option<Instant>,
}

/// Events not yet fetched: at most one of each.
#[derive(Clone, Debug, Default)]
struct Events {
    connected: bool,
    readable: bool,
    writable: bool,
    peer_finished: bool,
    finished: bool,
    /// `Reset` or `Lost`.
    ended: Option<Event>,
}

impl Stream {
    /// Starts a stream. The SYN leaves with the next [`poll_transmit`](Self::poll_transmit), together with what was
    /// written until then.
    pub fn dial(config: impl Into<Arc<Config>>, rng: &mut Rng, now: Instant) -> Self {
        Self::new(config.into(), rng.next_u64() as u32, true, now)
    }

    /// Answers a stream of a peer; `None` if the packet is not a SYN of our version. The packet is taken whole: do not
    /// hand it to [`handle_packet`](Self::handle_packet) again.
    pub fn accept(config: impl Into<Arc<Config>>, first_packet: &Bytes, now: Instant, marked: bool) -> Option<Self> {
        let packet = Packet::parse(first_packet)?;
        if packet.syn?.version != VERSION || packet.reset.is_some() || packet.ack.is_some() {
            return None;
        }
        let mut stream = Self::new(config.into(), packet.nonce, false, now);
        stream.phase.turn(Turn::Answer);
        stream.handle_packet(now, first_packet.clone(), marked);
        (stream.invalid_packets == 0).then_some(stream)
    }

    fn new(config: Arc<Config>, nonce: u32, is_dialler: bool, now: Instant) -> Self {
        let max_packet = config.max_packet.max(MAX_PACKET_MIN);
        let window = config.recv_window_initial.max(UNSOLICITED_CREDIT);
        let dial_deadline = now + config.dial_timeout;
        Self {
            nonce,
            is_dialler,
            phase: Phase::Dialling,
            sending: Half::Open,
            receiving: Half::Open,
            send: SendBuffer::default(),
            recv: Assembler::default(),
            credit: Credit::new(window, config.recv_window_max.max(window)),
            acks: Acks::default(),
            path: Path {
                rtt: Rtt::new(),
                size: SegmentSize::new(max_packet),
            },
            recovery: Recovery::new(),
            congestion: Congestion::new(max_packet as u64),
            pacing: Pacing::default(),
            peer_window: UNSOLICITED_CREDIT,
            peer_packet: max_packet as u32,
            path_packet: max_packet as u32,
            largest_packet: MAX_PACKET_MIN as u32,
            send_limit: u64::MAX,
            is_syn_sent: false,
            is_syn_acked: false,
            probes_due: 0,
            is_ping_due: false,
            probe_count: 0,
            starved_count: 0,
            probe_base: now,
            last_heard: now,
            outstanding_since: None,
            dial_deadline,
            reset: None,
            linger_until: None,
            is_end_confirmed: false,
            is_released: false,
            is_write_blocked: false,
            is_drained: false,
            events: Events::default(),
            invalid_packets: 0,
            config,
        }
    }

    /// Takes as much of `data` as there is room for, and says how much that was: at least one byte unless it is empty.
    ///
    /// # Errors
    /// [`WriteError::Blocked`] when the buffer is full, [`WriteError::Closed`] after [`finish`](Self::finish) or the end.
    pub fn write(&mut self, now: Instant, mut data: Bytes) -> Result<usize, WriteError> {
        if self.sending != Half::Open {
            return Err(WriteError::Closed);
        }
        let space = usize::try_from(self.write_space()).unwrap_or(usize::MAX);
        if data.len() > space {
            self.is_write_blocked = true;
            if space == 0 {
                return Err(WriteError::Blocked);
            }
            data.truncate(space);
        }
        let length = data.len();
        // Where nothing was to be sent, no timer told of it.
        self.pacing.on_time(now);
        if length > 0 {
            let was_starved = self.send.is_starved(self.peer_window);
            self.send.push(data);
            if !was_starved && self.send.is_starved(self.peer_window) {
                self.probe_base = self.probe_base.max(now);
            }
        }
        Ok(length)
    }

    /// Bytes [`write`](Self::write) would take now.
    pub fn write_space(&self) -> u64 {
        let capacity = (2 * self.congestion.window())
            .max(SEND_BUFFER_MIN)
            .min(self.send_limit)
            .min(self.config.send_buffer_max.max(1));
        capacity.saturating_sub(self.send.len())
    }

    /// As [`write_space`](Self::write_space); if there is none, [`Event::Writable`] says when there is.
    pub fn await_write_space(&mut self) -> u64 {
        let space = self.write_space();
        self.is_write_blocked |= space == 0;
        space
    }

    /// No more bytes will be written; the peer learns it behind the last one. Reading goes on.
    pub fn finish(&mut self) {
        if self.sending == Half::Open {
            self.sending.step(Step::Finish);
            self.send.finish();
        }
    }

    /// The next bytes in order, as they arrived. Reading gives the peer new credit.
    pub fn read(&mut self, now: Instant) -> Option<Bytes> {
        let chunk = self.recv.read()?;
        self.on_consumed(now, chunk.len() as u64);
        self.update_receiving(now);
        Some(chunk)
    }

    /// Everything the peer sent was read, and it has finished. After a reset or loss: nothing more will come.
    pub const fn is_finished(&self) -> bool {
        self.receiving.is_final()
    }

    /// Ends both directions now: what was not delivered will not be. The reason is cut to 200 bytes.
    pub fn reset(&mut self, now: Instant, code: u32, reason: &str) {
        if self.phase == Phase::Ended {
            return;
        }
        // An end nobody was told of needs no farewell.
        let farewell = self.is_syn_sent || !self.is_dialler;
        self.recv.clear();
        self.end(now, Turn::Break);
        if farewell {
            let cut = (0..=reason.len().min(MAX_REASON))
                .rev()
                .find(|&at| reason.is_char_boundary(at))
                .unwrap_or(0);
            let reason = Bytes::copy_from_slice(&reason.as_bytes()[..cut]);
            self.reset = Some(ResetOut {
                code,
                reason,
                is_due: true,
                number: None,
                attempts: 0,
                next: None,
            });
        } else {
            self.is_drained = true;
        }
    }

    /// The application lets go: nothing will be read any more, and what was written is still delivered. A peer that goes
    /// on sending after that is reset.
    pub fn release(&mut self, now: Instant) {
        self.is_released = true;
        self.finish();
        let discarded = self.recv.discard();
        self.on_consumed(now, discarded);
        self.update_receiving(now);
    }

    /// A route to the peer came back: whatever waits for an answer is tried again at once.
    pub fn kick(&mut self, now: Instant) {
        self.probe_count = 0;
        self.starved_count = 0;
        self.probe_base = now;
        self.path.size.rise();
        if let Some(reset) = &mut self.reset {
            reset.is_due |= reset.next.is_some();
        } else if self.recovery.is_waiting() || self.send.is_starved(self.peer_window) {
            // Two, because a path that has just changed loses packets.
            self.probes_due = 2;
        }
    }

    /// Asks the peer for a sign of life.
    pub fn ping(&mut self) {
        self.is_ping_due |= self.phase == Phase::Open;
    }

    /// What was to be sent could not leave the node, so no answer is late: called instead of
    /// [`handle_timeout`](Self::handle_timeout) while that lasts.
    pub fn handle_timeout_held(&mut self, now: Instant) {
        self.probe_base = now;
        self.handle_timeout(now);
    }

    /// The largest packet that passes the way to the peer, in bytes; the way may have changed.
    pub fn set_path_limit(&mut self, max_packet: usize) {
        self.path_packet = max_packet.clamp(MAX_PACKET_MIN, LARGEST_PACKET) as u32;
        self.update_size();
    }

    /// What the node has room for: bytes the peer may send, and bytes written and not acknowledged, beyond what every
    /// stream may have.
    pub(super) fn set_memory(&mut self, receive: u64, send: u64) {
        self.credit.set_limit(receive.saturating_add(UNSOLICITED_CREDIT));
        self.send_limit = send.saturating_add(SEND_BUFFER_SHARE);
    }

    /// What this stream takes of the node's room: see [`set_memory`](Self::set_memory).
    pub(super) fn memory(&self) -> (u64, u64) {
        let receive = if self.phase == Phase::Ended {
            self.recv.unread()
        } else {
            self.credit.exposure()
        };
        (
            receive.saturating_sub(UNSOLICITED_CREDIT),
            self.send.len().saturating_sub(SEND_BUFFER_SHARE),
        )
    }

    /// Whether larger packets vanish on the way, as far as this stream knows.
    pub(super) const fn has_black_hole(&self) -> bool {
        self.path.size.has_fallen()
    }

    /// Another stream has found out that larger packets vanish on the way.
    pub(super) fn on_black_hole(&mut self, now: Instant) {
        self.path.size.fall(now);
    }

    /// Nothing is under way, and nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        !self.recovery.is_waiting() && self.acks.is_quiet() && self.send.len() == 0 && self.recv.unread() == 0
    }

    /// Gives memory back that an idle stream does not need.
    pub(super) fn trim(&mut self) {
        self.send.trim();
        self.recv.trim();
        self.recovery.trim();
        self.acks.trim();
        self.credit.trim();
    }

    fn update_size(&mut self) {
        let limit = self.peer_packet.min(self.path_packet) as usize;
        let segment = limit.min(self.config.max_packet.max(MAX_PACKET_MIN));
        self.path.size.set_limit(limit);
        self.congestion.set_segment(segment as u64);
    }

    /// A node reported that a packet of ours could not be delivered. Only what no waiting can mend has an effect: an
    /// unknown service, and while dialling the lack of a route at our own node (`wire.md` §21.5).
    pub fn on_unreachable(&mut self, now: Instant, problem: &str) {
        let is_fatal =
            problem == SERVICE_UNKNOWN || (self.phase == Phase::Dialling && matches!(problem, NO_ROUTE | BLOCKED));
        if is_fatal && self.phase != Phase::Ended {
            self.lose(now, problem.to_string());
            // Nobody is there to be told.
            self.reset = None;
            self.is_drained = true;
        }
    }

    /// The next thing the application has to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        let events = &mut self.events;
        for (flag, event) in [
            (&mut events.connected, Event::Connected),
            (&mut events.readable, Event::Readable),
            (&mut events.writable, Event::Writable),
            (&mut events.peer_finished, Event::PeerFinished),
            (&mut events.finished, Event::Finished),
        ] {
            if core::mem::take(flag) {
                return Some(event);
            }
        }
        events.ended.take()
    }

    /// Whether [`poll_event`](Self::poll_event) would give one.
    pub const fn has_event(&self) -> bool {
        let events = &self.events;
        events.connected
            || events.readable
            || events.writable
            || events.peer_finished
            || events.finished
            || events.ended.is_some()
    }

    /// Nothing of this stream matters any more, to us or to the peer: it may be forgotten.
    pub const fn is_drained(&self) -> bool {
        self.is_drained && self.receiving.is_final()
    }

    /// Both directions are over; at most answers to the peer are left to send.
    pub const fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// The number both ends know this incarnation by.
    pub const fn nonce(&self) -> u32 {
        self.nonce
    }

    /// Packets that made no sense and were dropped.
    pub const fn invalid_packets(&self) -> u64 {
        self.invalid_packets
    }

    /// The application took `count` bytes.
    fn on_consumed(&mut self, now: Instant, count: u64) {
        let highest = self.recv.highest();
        let was_due = self.credit.is_update_due();
        self.credit.on_read(now, count, self.path.rtt.smoothed());
        if !was_due && self.credit.is_update_due() && !self.recv.knows_end() && self.phase != Phase::Ended {
            if self.credit.is_exhausted(highest, self.config.max_packet as u64) {
                self.is_ping_due = true;
            } else {
                self.acks.hurry();
            }
        }
    }

    /// Moves the receiving half on after bytes arrived or were read.
    fn update_receiving(&mut self, now: Instant) {
        if self.recv.knows_end() && self.receiving == Half::Open {
            self.receiving.step(Step::Finish);
        }
        if self.receiving == Half::Finishing && self.recv.has_all() && self.recv.unread() == 0 {
            self.receiving.step(Step::Complete);
        }
        self.check_done(now);
    }

    /// Both directions are through: from now on only answers are sent.
    fn check_done(&mut self, now: Instant) {
        if self.phase == Phase::Open && self.sending == Half::Done && self.receiving == Half::Done {
            self.events.finished = true;
            self.end(now, Turn::Complete);
            self.is_drained = self.is_end_confirmed;
        }
    }

    /// Nothing has come from the node at the other end for too long.
    pub(super) fn on_peer_lost(&mut self, now: Instant) {
        if self.phase != Phase::Ended {
            self.lose(now, TIMEOUT_TEXT.to_string());
        }
    }

    /// The peer is gone.
    fn lose(&mut self, now: Instant, reason: String) {
        if !self.recv.has_all() {
            self.recv.clear();
        }
        self.end(now, Turn::Break);
        self.events.ended = Some(Event::Lost { reason });
        self.reset = Some(ResetOut {
            code: code::TIMEOUT,
            reason: Bytes::new(),
            is_due: true,
            number: None,
            // Nobody hears it, most likely; what comes of the peer later is answered all the same.
            attempts: u32::MAX,
            next: None,
        });
    }

    /// Frees what an ended stream does not need. Bytes that have all arrived stay readable.
    fn end(&mut self, now: Instant, turn: Turn) {
        self.phase.turn(turn);
        self.sending.step(Step::Reset);
        if !self.recv.has_all() || self.recv.unread() == 0 {
            self.receiving.step(Step::Reset);
            self.recv.clear();
        }
        self.send.clear();
        self.recovery.clear();
        self.probes_due = 0;
        self.is_ping_due = false;
        self.outstanding_since = None;
        self.linger_until = Some(now + self.config.linger);
    }
}
