//! Packets of the peer.

use alloc::string::String;

use bytes::{Buf, Bytes};

use super::super::packet::{Ack, Number, Packet, ResetFrame, Segment, Syn, flag};
use super::super::recovery::News;
use super::super::state::{Half, Phase, Step, Turn};
use super::super::{Event, code};
use super::{LARGEST_PACKET, MAX_PACKET_MIN, Stream};
use crate::time::Instant;

/// Full packets that are acknowledged at once: a few at first, more when the stream has got going.
const ACK_EVERY: u32 = 2;
const ACK_EVERY_LATER: u32 = 4;
/// Number of the packet from which on there are more.
const ACK_LATER: u64 = 128;
/// Probe timeouts in vain after which losses are no congestion but a path that was gone.
const BLACKOUT_PROBES: u32 = 3;

impl Stream {
    /// Takes a payload that came for this stream; `marked` if its frame carried a congestion mark. What makes no sense,
    /// and what belongs to another incarnation, is dropped.
    pub fn handle_packet(&mut self, now: Instant, payload: Bytes, marked: bool) {
        let Some(packet) = Packet::parse(&payload) else {
            self.invalid_packets += 1;
            return;
        };
        if packet.nonce != self.nonce {
            return;
        }
        self.pacing.on_time(now);
        let length = payload.len();
        if self.phase == Phase::Ended {
            self.handle_after_end(now, packet, length, marked);
            return;
        }
        let asks = payload[0] & (flag::SYN | flag::PING | flag::FIN) != 0;
        let Packet { number, segment, .. } = packet;
        let is_valid = match self.handle_control(now, packet, length, marked) {
            None => false,
            Some(false) => true,
            Some(true) => {
                let segment = segment.map(|Segment { offset, data, fin }| {
                    let mut bytes = payload;
                    bytes.advance(data.start);
                    Segment {
                        offset,
                        data: bytes,
                        fin,
                    }
                });
                self.handle_numbered(now, number, segment, length, marked, asks)
                    .is_some()
            }
        };
        self.invalid_packets += u64::from(!is_valid);
    }

    /// All but the stream bytes. `None` if the packet breaks the rules; it is not acknowledged then. Else whether there is
    /// more to it.
    fn handle_control(&mut self, now: Instant, packet: Packet<'_>, length: usize, marked: bool) -> Option<bool> {
        if let Some(Segment { offset, data, .. }) = &packet.segment
            && !self.credit.allows(offset + data.length as u64)
        {
            return None;
        }
        self.last_heard = now;
        if let Some(ResetFrame { code, reason }) = packet.reset {
            self.end_by_peer(now, code, reason);
            self.note_number(now, packet.number, length, marked);
            self.acks.hurry();
            return Some(false);
        }
        if let Some(ack) = &packet.ack {
            self.on_ack(now, ack)?;
        }
        if let Some(syn) = packet.syn {
            self.on_syn(syn);
        }
        self.events.connected |= self.phase.turn(Turn::Answer);
        Some(packet.number.is_some())
    }

    fn handle_numbered(
        &mut self,
        now: Instant,
        number: Option<Number>,
        segment: Option<Segment>,
        length: usize,
        marked: bool,
        asks: bool,
    ) -> Option<()> {
        if number.is_some_and(|number| self.acks.knows(number.number)) {
            self.acks.hurry();
            return Some(());
        }
        if let Some(segment) = segment {
            self.on_segment(now, segment)?;
        }
        self.note_number(now, number, length, marked);
        if asks {
            self.acks.hurry();
        }
        Some(())
    }

    /// The stream is over: only its end still matters.
    fn handle_after_end(&mut self, now: Instant, packet: Packet<'_>, length: usize, marked: bool) {
        if packet.reset.is_some() {
            self.note_number(now, packet.number, length, marked);
            self.acks.hurry();
            // Both ends know that it is over.
            self.is_drained |= self.reset.take().is_some();
            return;
        }
        let Some(reset) = &mut self.reset else {
            // Done or reset by the peer: what it repeats, it may not know to have arrived.
            if packet.number.is_some() {
                self.note_number(now, packet.number, length, marked);
                self.acks.hurry();
            }
            return;
        };
        let heard = packet
            .ack
            .zip(reset.number)
            .is_some_and(|(ack, number)| ack.largest() >= number);
        if heard {
            self.reset = None;
            self.is_drained = true;
        } else if packet.number.is_some() {
            reset.is_due = true;
        }
    }

    fn end_by_peer(&mut self, now: Instant, code: u32, reason: &[u8]) {
        self.end(now, Turn::Break);
        let reason = String::from_utf8_lossy(reason).into_owned();
        self.events.ended = Some(Event::Reset { code, reason });
    }

    fn note_number(&mut self, now: Instant, number: Option<Number>, length: usize, marked: bool) {
        let Some(number) = number else { return };
        self.largest_packet = self.largest_packet.max(length.min(LARGEST_PACKET) as u32);
        self.acks.on_packet(now, number, length, marked);
        let packets = if number.number < ACK_LATER {
            ACK_EVERY
        } else {
            ACK_EVERY_LATER
        };
        self.acks.hurry_after((packets * self.largest_packet) as usize);
    }

    fn on_syn(&mut self, syn: Syn) {
        self.peer_window = self.peer_window.max(syn.window);
        let peer_packet = syn.max_packet.clamp(MAX_PACKET_MIN as u64, LARGEST_PACKET as u64) as u32;
        if peer_packet != self.peer_packet {
            self.peer_packet = peer_packet;
            self.update_size();
        }
    }

    fn on_ack(&mut self, now: Instant, ack: &Ack<'_>) -> Option<()> {
        let news = self.recovery.on_ack(now, ack, &mut self.path, &mut self.send)?;
        if ack.window > self.peer_window {
            self.peer_window = ack.window;
            self.starved_count = 0;
            self.probe_base = now;
        }
        let probes = self.probe_count;
        if news.progress.packets > 0 {
            // Everything numbered carried the SYN until now.
            self.is_syn_acked = true;
            self.probe_count = 0;
            self.probe_base = now;
            self.probes_due = 0;
            self.congestion.on_progress(now, news.progress, &self.path.rtt);
        }
        self.is_end_confirmed |= news.confirmed_end;
        self.apply_losses(now, &news, probes);
        if self.send.is_complete() && self.sending == Half::Finishing {
            self.sending.step(Step::Complete);
        }
        if news.freed > 0 && self.is_write_blocked && self.sending == Half::Open && self.write_space() >= self.wakeup()
        {
            self.is_write_blocked = false;
            self.events.writable = true;
        }
        if !self.recovery.is_waiting() {
            self.outstanding_since = None;
        }
        self.check_done(now);
        Some(())
    }

    /// Room that is worth waking a writer for.
    fn wakeup(&self) -> u64 {
        (self.config.send_buffer_max / 4).clamp(1, 64 * 1024)
    }

    pub(super) fn apply_losses(&mut self, now: Instant, news: &News, probes: u32) {
        if news.trial == Some(true) {
            self.path.size.rise();
        }
        if self.path.size.is_proven() {
            self.path.size.fall(now);
        }
        if news.lost == 0 {
            return;
        }
        if probes >= BLACKOUT_PROBES {
            self.congestion.on_blackout(now);
        } else {
            self.congestion
                .on_lost(now, news.lost, news.last_lost_sent, &self.path.rtt);
        }
    }

    fn on_segment(&mut self, now: Instant, segment: Segment) -> Option<()> {
        let had_all = self.recv.has_all();
        let is_new = self.recv.insert(segment).ok()?;
        if is_new && self.is_released {
            let discarded = self.recv.discard();
            self.on_consumed(now, discarded);
            if self.sending == Half::Done && !self.recv.has_all() {
                self.reset(now, code::RELEASED, "nobody reads this stream any more");
                return Some(());
            }
        } else if is_new {
            self.events.readable = true;
        }
        if !had_all && self.recv.has_all() {
            self.events.peer_finished = true;
        }
        self.update_receiving(now);
        Some(())
    }
}
