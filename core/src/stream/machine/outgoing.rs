//! Packets to the peer.

use core::ops::Range;

use bytes::BytesMut;

use super::super::packet::{MAX_ACK_RANGES, Number, Syn, VERSION, Writer, flag};
use super::super::recovery::Sent;
use super::super::rtt::GRANULARITY;
use super::{Phase, Stream};
use crate::stream::acks::MAX_ACK_DELAY;
use crate::time::Instant;

/// Ranges of an acknowledgement that shares its packet with stream bytes.
const SHARED_ACK_RANGES: usize = 8;
/// Room for what stands before stream bytes: flags, nonce, number, SYN, acknowledgement of 8 ranges, offset.
const HEADER_MAX: usize = 240;
/// Room for a packet without stream bytes; a long acknowledgement makes the buffer grow.
const SHORT: usize = 96;
/// What a packet costs beyond its length on the way, for the congestion window: header of the data frame and of the link.
const OVERHEAD: usize = 64;

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
        let plan = self.plan()?;
        if matches!(plan, Plan::Segment(_))
            && !self.recovery.is_waiting()
            && now.since(self.recovery.last_sent()) > self.rtt.probe_timeout(MAX_ACK_DELAY).max(GRANULARITY * 100)
        {
            self.congestion.on_idle();
        }
        Some(match plan {
            Plan::Ack => self.bare_ack(now, headroom),
            plan => self.numbered(now, headroom, plan),
        })
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) would give a packet.
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
        let has_room = self.recovery.in_flight() < self.congestion.window() && !self.recovery.is_full();
        if has_room && let Some(range) = self.send.next_segment(self.peer_window) {
            return Some(Plan::Segment(range));
        }
        if self.is_ping_due || !self.is_syn_sent {
            return Some(Plan::Ping);
        }
        ack()
    }

    fn bare_ack(&mut self, now: Instant, headroom: usize) -> BytesMut {
        let mut writer = Writer::new(headroom, SHORT, self.nonce);
        if let Some(ack) = self.acks.emit(now, self.credit.announce(), MAX_ACK_RANGES) {
            writer.ack(&ack);
        }
        writer.finish()
    }

    fn numbered(&mut self, now: Instant, headroom: usize, plan: Plan) -> BytesMut {
        let range = match &plan {
            Plan::Segment(range) => range.clone(),
            _ => 0..0,
        };
        let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let capacity = if wanted == 0 {
            SHORT
        } else {
            wanted.saturating_add(HEADER_MAX).min(self.max_packet)
        };
        let mut writer = Writer::new(headroom, capacity, self.nonce);
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
                max_packet: self.config.max_packet as u64,
            });
            self.is_syn_sent = true;
        }
        let confirms_end = self.recv.has_all();
        if let Some(ack) = self.acks.emit(now, window, SHARED_ACK_RANGES) {
            writer.ack(&ack);
        }
        let (mut start, mut end, mut fin) = (0, 0, false);
        match plan {
            Plan::Segment(_) => {
                writer.offset(range.start);
                let room = self.max_packet.saturating_sub(writer.len()) as u64;
                (start, end) = (range.start, range.end.min(range.start + room));
                fin = self.send.emit(start..end, writer.payload());
                let data = if end > start { flag::DATA } else { 0 };
                writer.set(data | if fin { flag::FIN } else { 0 });
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
        self.probes_due = self.probes_due.saturating_sub(1);
        let size = (writer.len() + OVERHEAD) as u32;
        self.recovery.on_sent(Sent {
            at: now,
            start,
            end,
            size,
            fin,
            confirms_end,
        });
        self.probe_base = now;
        if self.phase != Phase::Ended {
            self.outstanding_since.get_or_insert(now);
        }
        writer.finish()
    }
}
