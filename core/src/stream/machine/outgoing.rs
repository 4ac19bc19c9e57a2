//! Packets to the peer.

use core::ops::Range;

use bytes::BytesMut;

use super::super::acks::MAX_ACK_DELAY;
use super::super::packet::{MAX_ACK_RANGES, Number, Syn, VERSION, Writer, flag};
use super::super::pool::Pool;
use super::super::recovery::Sent;
use super::super::rtt::GRANULARITY;
use super::super::size::{BASE, OVERHEAD};
use super::{LARGEST_PACKET, Phase, Stream};
use crate::time::Instant;

/// Ranges of an acknowledgement that shares its packet with stream bytes.
const SHARED_ACK_RANGES: usize = 8;
/// Room for what stands before stream bytes: flags, nonce, number, SYN, acknowledgement of 8 ranges, offset.
const HEADER_MAX: usize = 240;
/// Room for a packet without stream bytes; a long acknowledgement makes the buffer grow.
const SHORT: usize = 96;
/// Probes in vain after which a probe is small: perhaps larger packets do not pass.
const SMALL_PROBES: u32 = 1;
/// From this delivery rate on, in bytes per second, packets are as large as path and peer take.
const LARGE_RATE: u64 = 64 * 1024 * 1024;
/// Least number of packets in the window for that.
const LARGE_WINDOW: u64 = 16;
/// With fewer packets in the window, each asks for its acknowledgement: the peer may wait for more than ever come.
const ASKING_WINDOW: u64 = 8;

/// What the next packet is for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Plan {
    /// Stream bytes, or the bare end of the stream.
    Segment(Range<u64>),
    /// Nothing but the wish for an answer.
    Ping,
    Reset,
    /// A bare acknowledgement, without a number.
    Ack,
}

impl Stream {
    /// The next packet, behind `headroom` zero bytes: the caller writes its own header there.
    pub fn poll_transmit(&mut self, now: Instant, headroom: usize) -> Option<BytesMut> {
        self.transmit(now, headroom, &mut Pool::loose())
    }

    /// [`poll_transmit`](Self::poll_transmit) into a buffer of the pool.
    pub(in super::super) fn transmit(&mut self, now: Instant, headroom: usize, pool: &mut Pool) -> Option<BytesMut> {
        self.pacing.on_time(now);
        let plan = self.plan()?;
        if matches!(plan, Plan::Segment(_))
            && !self.recovery.is_waiting()
            && now.since(self.recovery.last_sent()) > self.path.rtt.probe_timeout(MAX_ACK_DELAY).max(GRANULARITY * 100)
        {
            self.congestion.on_idle();
        }
        Some(match plan {
            Plan::Ack => self.bare_ack(now, headroom, pool),
            plan => self.numbered(now, headroom, plan, pool),
        })
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) would give a packet at the time that was last told. Where a
    /// [timeout](Self::next_timeout) is due, it may give one all the same.
    pub fn wants_transmit(&self) -> bool {
        self.plan().is_some()
    }

    fn plan(&self) -> Option<Plan> {
        let ack = || self.acks.is_due().then_some(Plan::Ack);
        if self.phase == Phase::Ended {
            let is_reset_due = self.reset.as_ref().is_some_and(|reset| reset.is_due);
            return if is_reset_due { Some(Plan::Reset) } else { ack() };
        }
        if self.probes_due > 0 {
            let lost = self.send.next_segment(0).or_else(|| self.send.oldest_in_flight());
            let new = || self.send.next_segment(self.peer_window);
            return Some(lost.or_else(new).map_or(Plan::Ping, Plan::Segment));
        }
        if self.has_room()
            && self.pacing.until().is_none()
            && let Some(range) = self.send.next_segment(self.peer_window)
        {
            return Some(Plan::Segment(range));
        }
        if self.is_ping_due || !self.is_syn_sent {
            return Some(Plan::Ping);
        }
        ack()
    }

    /// When pacing lets the next bytes go, if it is all that keeps them.
    pub(super) fn paced_until(&self) -> Option<Instant> {
        let until = self.pacing.until()?;
        (self.has_room() && self.send.next_segment(self.peer_window).is_some()).then_some(until)
    }

    fn has_room(&self) -> bool {
        self.recovery.in_flight() < self.congestion.window() && !self.recovery.is_full()
    }

    /// Size of the next packet, and whether it tries more than is known to pass.
    fn packet_size(&mut self, now: Instant, range: &Range<u64>) -> (usize, bool) {
        let size = &mut self.path.size;
        let usual = size
            .limit()
            .min(self.config.max_packet)
            .min(self.congestion.segment() as usize);
        let is_probe = self.probes_due > 0;
        if is_probe && self.probe_count > SMALL_PROBES {
            return (size.current().min(BASE), false);
        }
        if size.has_fallen() {
            let usual = size.limit().min(self.config.max_packet);
            let fills = range.end - range.start >= usual as u64 && self.send.is_new(range.start);
            let is_trial = fills && !is_probe && size.take_trial(now);
            return if is_trial {
                (usual, true)
            } else {
                (size.current(), false)
            };
        }
        let largest = size.limit();
        let is_fast = self.congestion.rate() >= LARGE_RATE && self.congestion.window() >= LARGE_WINDOW * largest as u64;
        (if is_fast { largest } else { usual }, false)
    }

    fn bare_ack(&mut self, now: Instant, headroom: usize, pool: &mut Pool) -> BytesMut {
        let mut writer = Writer::new(pool.buffer(headroom + SHORT), headroom, self.nonce);
        if let Some(ack) = self.acks.emit(now, self.credit.announce(), MAX_ACK_RANGES) {
            writer.ack(ack);
        }
        writer.finish()
    }

    fn numbered(&mut self, now: Instant, headroom: usize, plan: Plan, pool: &mut Pool) -> BytesMut {
        let range = match &plan {
            Plan::Segment(range) => range.clone(),
            _ => 0..0,
        };
        let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let (max_packet, is_trial) = self.packet_size(now, &range);
        let capacity = if wanted == 0 {
            SHORT
        } else {
            wanted.saturating_add(HEADER_MAX).min(max_packet)
        };
        let mut writer = Writer::new(pool.buffer(headroom + capacity), headroom, self.nonce);
        let number = self.recovery.next();
        writer.number(Number {
            number,
            floor: self.recovery.floor(),
        });
        let window = self.credit.announce();
        if !self.is_syn_acked && self.phase != Phase::Ended {
            writer.syn(Syn {
                version: VERSION,
                window,
                max_packet: LARGEST_PACKET as u64,
            });
            self.is_syn_sent = true;
        }
        let confirms_end = self.recv.has_all();
        if let Some(ack) = self.acks.emit(now, window, SHARED_ACK_RANGES) {
            writer.ack(ack);
        }
        let (mut start, mut end, mut fin) = (0, 0, false);
        match plan {
            Plan::Segment(_) => {
                writer.offset(range.start);
                let room = max_packet.saturating_sub(writer.len()) as u64;
                (start, end) = (range.start, range.end.min(range.start + room));
                fin = self.send.emit(start..end, writer.payload());
                let data = if end > start { flag::DATA } else { 0 };
                writer.set(data | if fin { flag::FIN } else { 0 });
                if self.congestion.window() < ASKING_WINDOW * max_packet as u64 {
                    writer.set(flag::PING);
                }
            }
            Plan::Reset => {
                if let Some(reset) = &mut self.reset {
                    writer.reset(reset.code, &reset.reason);
                    reset.number.get_or_insert(number);
                    reset.is_due = false;
                }
                self.arm_reset(now);
            }
            Plan::Ping | Plan::Ack => writer.set(flag::PING),
        }
        // Any numbered packet is answered, so it serves as the sign of life too.
        self.is_ping_due = false;
        let is_probe = self.probes_due > 0;
        self.probes_due = self.probes_due.saturating_sub(1);
        let size = (writer.len() + OVERHEAD) as u32;
        self.recovery.on_sent(Sent {
            at: now,
            start,
            length: (end - start) as u32,
            size,
            fin,
            confirms_end,
            is_probe,
            is_trial,
            ..Sent::default()
        });
        if end > start {
            self.pacing.on_sent(
                now,
                u64::from(size),
                max_packet as u64,
                self.congestion.window(),
                self.path.rtt.smoothed(),
                self.congestion.is_in_slow_start(),
            );
        }
        self.probe_base = now;
        if self.phase != Phase::Ended {
            self.outstanding_since.get_or_insert(now);
        }
        writer.finish()
    }
}
