//! The bytes an application has written, until the peer has acknowledged them.

use alloc::collections::VecDeque;
use core::ops::Range;

use bytes::{Bytes, BytesMut};

use super::ranges::RangeSet;

/// Writes up to this many bytes are gathered in a buffer of our own: a slice of one byte would cost 32 more for its
/// handle and could pin a large buffer.
const SMALL: usize = 1024;
/// Size of those buffers, in bytes.
const GATHER: usize = 16 * 1024;

/// Written bytes: `base..end`, of which `base..next` were sent at least once.
#[derive(Debug, Default)]
pub(super) struct SendBuffer {
    /// Chunks with their offsets. The first holds `base`.
    chunks: VecDeque<(u64, Bytes)>,
    /// The newest bytes, still growing.
    tail: BytesMut,
    tail_start: u64,
    base: u64,
    next: u64,
    end: u64,
    /// Acknowledged above `base`.
    acked: RangeSet,
    /// To be sent again: lost, and not acknowledged.
    lost: RangeSet,
    fin: Fin,
}

/// What became of the end of the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Fin {
    /// The application may write more.
    #[default]
    Unknown,
    /// It has to be sent.
    Due,
    Sent,
    Acked,
}

impl SendBuffer {
    /// Bytes held: written and not acknowledged in order.
    pub(super) const fn len(&self) -> u64 {
        self.end - self.base
    }

    /// Appends bytes; the caller has checked the limit.
    pub(super) fn push(&mut self, data: Bytes) {
        debug_assert_eq!(self.fin, Fin::Unknown);
        let start = self.end;
        self.end += data.len() as u64;
        if data.len() > SMALL {
            self.seal();
            self.chunks.push_back((start, data));
            return;
        }
        if self.tail.len() + data.len() > GATHER {
            self.seal();
        }
        if self.tail.is_empty() {
            self.tail_start = start;
        }
        self.tail.extend_from_slice(&data);
    }

    /// The application is done writing.
    pub(super) fn finish(&mut self) {
        if self.fin == Fin::Unknown {
            self.fin = Fin::Due;
        }
    }

    /// Everything including the end is acknowledged.
    pub(super) fn is_complete(&self) -> bool {
        self.fin == Fin::Acked && self.base == self.end
    }

    /// The first range to be sent now: lost bytes, then new ones below `credit`. Empty when only the end is due.
    pub(super) fn next_segment(&self, credit: u64) -> Option<Range<u64>> {
        if let Some(lost) = self.lost.first() {
            return Some(lost);
        }
        let limit = self.end.min(credit);
        if self.next < limit {
            return Some(self.next..limit);
        }
        (self.fin == Fin::Due && self.next == self.end).then_some(self.end..self.end)
    }

    /// The oldest bytes in flight, for a probe. Empty when only the end is in flight, `None` when nothing is.
    pub(super) fn oldest_in_flight(&self) -> Option<Range<u64>> {
        if self.base < self.next {
            // `base` itself is never acknowledged, so the first acknowledged range lies above it.
            let limit = self.acked.first().map_or(self.next, |acked| acked.start);
            return Some(self.base..limit);
        }
        (self.fin == Fin::Sent && self.next == self.end).then_some(self.end..self.end)
    }

    /// Unsent bytes wait, and credit is all that keeps them.
    pub(super) fn is_starved(&self, credit: u64) -> bool {
        self.next < self.end && self.next >= credit && self.lost.is_empty()
    }

    /// Writes `range` behind what `out` holds, and notes it as sent; whether it reaches the decided end.
    pub(super) fn emit(&mut self, range: Range<u64>, out: &mut BytesMut) -> bool {
        let mut at = range.start;
        let first = self
            .chunks
            .partition_point(|(offset, chunk)| offset + chunk.len() as u64 <= at);
        for (offset, chunk) in self.chunks.iter().skip(first) {
            if at >= range.end {
                break;
            }
            let from = (at - offset) as usize;
            let to = chunk.len().min((range.end - offset) as usize);
            out.extend_from_slice(&chunk[from..to]);
            at = offset + to as u64;
        }
        if at < range.end {
            let (from, to) = (at - self.tail_start, range.end - self.tail_start);
            out.extend_from_slice(&self.tail[from as usize..to as usize]);
        }
        self.lost.remove(range.clone());
        self.next = self.next.max(range.end);
        let ends = range.end == self.end && self.fin != Fin::Unknown;
        if ends && self.fin == Fin::Due {
            self.fin = Fin::Sent;
        }
        ends
    }

    /// The peer has `range` (and the end, if the packet carried it); how many bytes that frees.
    pub(super) fn on_acked(&mut self, range: Range<u64>, fin: bool) -> u64 {
        if fin {
            self.fin = Fin::Acked;
        }
        let before = self.base;
        self.lost.remove(range.clone());
        if range.start <= self.base {
            self.base = self.base.max(range.end);
            while let Some(first) = self.acked.first()
                && first.start <= self.base
            {
                self.base = self.base.max(first.end);
                self.acked.pop_first();
            }
            self.release();
        } else {
            self.acked.insert(range);
        }
        self.base - before
    }

    /// A packet with `range` did not arrive.
    pub(super) fn on_lost(&mut self, range: Range<u64>, fin: bool) {
        if fin && self.fin == Fin::Sent {
            self.fin = Fin::Due;
        }
        let mut at = range.start.max(self.base);
        for acked in self.acked.iter() {
            if acked.start >= range.end {
                break;
            }
            self.lost.insert(at..acked.start.max(at));
            at = at.max(acked.end);
        }
        self.lost.insert(at..range.end.max(at));
    }

    /// Gives all memory back; nothing will be sent any more.
    pub(super) fn clear(&mut self) {
        *self = Self {
            base: self.end,
            next: self.end,
            end: self.end,
            fin: self.fin,
            ..Self::default()
        };
    }

    /// Whether bytes that were never sent wait, and the next of them are at `start`.
    pub(super) const fn is_new(&self, start: u64) -> bool {
        start >= self.next
    }

    /// Gives memory back that is not needed.
    pub(super) fn trim(&mut self) {
        if self.chunks.capacity() > 4 {
            self.chunks.shrink_to(4);
        }
        if self.tail.is_empty() {
            self.tail = BytesMut::new();
        }
        self.acked.trim_memory();
        self.lost.trim_memory();
    }

    /// Drops chunks that are acknowledged as a whole.
    fn release(&mut self) {
        while let Some((offset, chunk)) = self.chunks.front()
            && offset + chunk.len() as u64 <= self.base
        {
            self.chunks.pop_front();
        }
        if self.base == self.end {
            if self.tail.capacity() > SMALL {
                self.tail = BytesMut::new();
            }
            self.tail.clear();
        }
    }

    /// Ends the growing chunk.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks
                .push_back((self.tail_start, core::mem::take(&mut self.tail).freeze()));
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::rng::Rng;

    /// Random writes, sends, losses and acknowledgements: what reaches the peer is what was written.
    #[test]
    fn every_byte_arrives_whatever_is_lost() {
        for seed in 0..40 {
            let mut rng = Rng::from_seed([seed; 32]);
            let (mut buffer, mut written) = (SendBuffer::default(), Vec::new());
            let mut arrived: Vec<Option<u8>> = Vec::new();
            let mut flying: Vec<(Range<u64>, bool)> = Vec::new();
            for step in 0..4000 {
                if step == 2000 {
                    buffer.finish();
                }
                match rng.below(4) {
                    0 if step < 2000 => {
                        let length = if rng.below(3) == 0 { 2000 } else { rng.below(5) };
                        let data: Vec<u8> = (0..length).map(|_| rng.next_u64() as u8).collect();
                        written.extend_from_slice(&data);
                        buffer.push(Bytes::from(data));
                    }
                    1 | 0 => {
                        let Some(range) = buffer.next_segment(u64::MAX) else {
                            continue;
                        };
                        let range = range.start..range.end.min(range.start + 700);
                        let mut out = BytesMut::new();
                        let fin = buffer.emit(range.clone(), &mut out);
                        assert_eq!(out.len() as u64, range.end - range.start);
                        assert_eq!(out, written[range.start as usize..range.end as usize]);
                        flying.push((range, fin));
                    }
                    _ if flying.is_empty() => {}
                    2 => {
                        let (range, fin) = flying.swap_remove(rng.below(flying.len() as u64) as usize);
                        arrived.resize(arrived.len().max(range.end as usize), None);
                        for at in range.clone() {
                            arrived[at as usize] = Some(written[at as usize]);
                        }
                        buffer.on_acked(range, fin);
                    }
                    _ => {
                        let at = rng.below(flying.len() as u64) as usize;
                        let (range, fin) = flying[at].clone();
                        buffer.on_lost(range, fin);
                        // Half of what was called lost arrives after all.
                        if rng.below(2) == 0 {
                            flying.swap_remove(at);
                        }
                    }
                }
                let _ = buffer.oldest_in_flight();
            }
            while !buffer.is_complete() {
                let range = buffer
                    .next_segment(u64::MAX)
                    .or_else(|| buffer.oldest_in_flight())
                    .unwrap();
                let fin = buffer.emit(range.clone(), &mut BytesMut::new());
                arrived.resize(arrived.len().max(range.end as usize), None);
                for at in range.clone() {
                    arrived[at as usize] = Some(written[at as usize]);
                }
                buffer.on_acked(range, fin);
            }
            let arrived: Option<Vec<u8>> = arrived.into_iter().collect();
            assert!(arrived.unwrap() == written, "seed {seed}");
            assert_eq!(buffer.len(), 0);
        }
    }

    #[test]
    fn credit_limits_new_bytes_but_not_the_end() {
        let mut buffer = SendBuffer::default();
        buffer.push(Bytes::from_static(b"abcdef"));
        assert_eq!(buffer.next_segment(4), Some(0..4));
        buffer.emit(0..4, &mut BytesMut::new());
        assert_eq!(buffer.next_segment(4), None);
        assert!(buffer.is_starved(4));
        buffer.finish();
        assert_eq!(buffer.next_segment(4), None);
        assert!(buffer.emit(4..6, &mut BytesMut::new()));
        assert_eq!(buffer.next_segment(6), None);
        buffer.on_lost(4..6, true);
        assert_eq!(buffer.next_segment(6), Some(4..6));
    }
}
