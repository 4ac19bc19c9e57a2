//! The bytes that have arrived, until the application has read them.

use crate::sabotage::{self, Bug};
use alloc::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes, BytesMut};

use super::packet::Segment;

/// Segments up to this many bytes are copied together: a slice of one byte may pin a large read buffer.
const SMALL: usize = 512;
/// Segments up to this many bytes are copied, too, when they have to wait: out of order, or behind `WAITING` bytes that
/// nobody reads. Larger ones are a fair share of the buffer they were read into.
const MEDIUM: usize = 4096;
const WAITING: u64 = 64 * 1024;
/// Size of the buffers they are copied to, in bytes.
const GATHER: usize = 16 * 1024;
/// Most segments kept out of order; a window of 8 MiB in segments of 1,200 bytes is 7,000.
const MAX_PENDING: usize = 8192;

/// A segment that is not taken; its packet is not acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// It contradicts the end of the stream that the peer gave before.
    FinalSize,
    /// Too much is kept out of order already.
    Full,
}

/// Segments in any order, with gaps and overlaps ↔ bytes in order.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// In order, not read.
    ready: VecDeque<Bytes>,
    /// Small segments after those of `ready`.
    tail: BytesMut,
    unread: u64,
    /// Everything below has arrived.
    next: u64,
    /// Above `next`, by offset, without overlaps: never more bytes than the credit allows.
    pending: BTreeMap<u64, Bytes>,
    /// One past the highest byte seen.
    highest: u64,
    /// Where the stream ends, once known.
    final_size: Option<u64>,
}

impl Assembler {
    /// Takes a segment the credit allows; whether bytes became readable.
    pub(super) fn insert(&mut self, segment: Segment) -> Result<bool, Refusal> {
        let Segment { offset, mut data, fin } = segment;
        let end = offset + data.len() as u64;
        let contradicts = match self.final_size {
            Some(size) => end > size || (fin && end != size),
            None => fin && end < self.highest,
        };
        if contradicts {
            return Err(Refusal::FinalSize);
        }
        if offset > self.next {
            if self.pending.len() >= MAX_PENDING {
                return Err(Refusal::Full);
            }
            self.keep(offset, &data);
        }
        self.highest = self.highest.max(end);
        if fin {
            self.final_size = Some(end);
        }
        if sabotage::is(Bug::SkipsGaps) && offset > self.next {
            self.next = offset;
        }
        if offset > self.next || end <= self.next {
            return Ok(false);
        }
        data.advance((self.next - offset) as usize);
        self.append(data);
        while let Some(entry) = self.pending.first_entry()
            && *entry.key() <= self.next
        {
            let (offset, mut data) = entry.remove_entry();
            if offset + data.len() as u64 > self.next {
                data.advance((self.next - offset) as usize);
                self.append(data);
            }
        }
        Ok(true)
    }

    /// The next bytes in order, as they arrived.
    pub(super) fn read(&mut self) -> Option<Bytes> {
        let chunk = match self.ready.pop_front() {
            Some(chunk) => chunk,
            None if self.tail.is_empty() => return None,
            None => core::mem::take(&mut self.tail).freeze(),
        };
        self.unread -= chunk.len() as u64;
        Some(chunk)
    }

    /// Bytes in order that nobody has read.
    pub(super) const fn unread(&self) -> u64 {
        self.unread
    }

    /// One past the highest byte seen.
    pub(super) const fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether the peer has said where the stream ends.
    pub(super) const fn knows_end(&self) -> bool {
        self.final_size.is_some()
    }

    /// Every byte up to the end has arrived.
    pub(super) fn has_all(&self) -> bool {
        self.final_size == Some(self.next)
    }

    /// Throws away what is not read; how many bytes in order that were.
    pub(super) fn discard(&mut self) -> u64 {
        self.ready = VecDeque::new();
        self.tail = BytesMut::new();
        core::mem::take(&mut self.unread)
    }

    /// Gives all memory back; nothing will be read any more.
    pub(super) fn clear(&mut self) {
        self.discard();
        self.pending = BTreeMap::new();
    }

    /// Gives memory back that is not needed.
    pub(super) fn trim(&mut self) {
        if self.ready.capacity() > 4 {
            self.ready.shrink_to(4);
        }
    }

    /// Keeps what of a segment is not there yet.
    fn keep(&mut self, offset: u64, data: &Bytes) {
        let end = offset + data.len() as u64;
        let mut at = offset;
        if let Some((&before, kept)) = self.pending.range(..=offset).next_back() {
            at = at.max(before + kept.len() as u64);
        }
        while at < end {
            let next = self.pending.range(at..end).next();
            let next = next.map_or((end, end), |(&start, kept)| (start, start + kept.len() as u64));
            if at < next.0 {
                let part = data.slice((at - offset) as usize..(next.0 - offset) as usize);
                let is_large = part.len() > MEDIUM;
                let part = if is_large { part } else { Bytes::copy_from_slice(&part) };
                self.pending.insert(at, part);
            }
            at = next.1;
        }
    }

    fn append(&mut self, data: Bytes) {
        self.next += data.len() as u64;
        let own = if self.unread > WAITING { MEDIUM } else { SMALL };
        self.unread += data.len() as u64;
        let is_own = data.len() <= own;
        if (!is_own || self.tail.len() + data.len() > GATHER) && !self.tail.is_empty() {
            self.ready.push_back(core::mem::take(&mut self.tail).freeze());
        }
        if is_own {
            if own == MEDIUM && self.tail.is_empty() {
                // More will follow: nobody reads.
                self.tail.reserve(GATHER);
            }
            self.tail.extend_from_slice(&data);
        } else {
            self.ready.push_back(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::rng::Rng;

    fn segment(offset: u64, data: &[u8], fin: bool) -> Segment {
        Segment {
            offset,
            data: Bytes::copy_from_slice(data),
            fin,
        }
    }

    #[test]
    fn any_slicing_in_any_order_gives_the_bytes_once() {
        for seed in 0..100 {
            let mut rng = Rng::from_seed([seed; 32]);
            let whole: Vec<u8> = (0..6000).map(|_| rng.next_u64() as u8).collect();
            let (mut assembler, mut read) = (Assembler::default(), Vec::new());
            while !assembler.has_all() {
                let from = rng.below(whole.len() as u64 + 1) as usize;
                let from = if rng.below(3) == 0 {
                    assembler.next as usize
                } else {
                    from
                };
                let length = if rng.below(2) == 0 {
                    rng.below(4)
                } else {
                    rng.below(1500)
                } as usize;
                let to = whole.len().min(from + length);
                let fin = to == whole.len() && rng.below(2) == 0;
                let _ = assembler.insert(segment(from as u64, &whole[from..to], fin));
                if rng.below(3) == 0 {
                    while let Some(chunk) = assembler.read() {
                        read.extend_from_slice(&chunk);
                    }
                    assert_eq!(assembler.unread(), 0);
                }
            }
            while let Some(chunk) = assembler.read() {
                read.extend_from_slice(&chunk);
            }
            assert!(read == whole, "seed {seed}");
            assert!(assembler.pending.is_empty());
        }
    }

    #[test]
    fn the_end_cannot_move() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.insert(segment(2, b"cd", true)), Ok(false));
        assert_eq!(assembler.insert(segment(0, b"abcde", false)), Err(Refusal::FinalSize));
        assert_eq!(assembler.insert(segment(0, b"ab", true)), Err(Refusal::FinalSize));
        assert_eq!(assembler.insert(segment(0, b"ab", false)), Ok(true));
        assert!(assembler.has_all());
    }

    #[test]
    fn what_is_kept_out_of_order_is_bounded_and_nothing_is_kept_twice() {
        let mut assembler = Assembler::default();
        for n in 0..1000 {
            assert_eq!(assembler.insert(segment(1 + n, &[0; 6000], false)), Ok(false));
        }
        let kept: usize = assembler.pending.values().map(Bytes::len).sum();
        assert_eq!(kept, 6999);
        let refused = (0..20_000)
            .filter(|&n| assembler.insert(segment(10_000 + 2 * n, b"x", false)).is_err())
            .count();
        assert_eq!(refused, 20_000 - (MAX_PENDING - 1000));
    }

    #[test]
    fn what_waits_does_not_pin_large_buffers() {
        let buffer = Bytes::from(alloc::vec![7; 100_000]);
        let mut assembler = Assembler::default();
        let mut at = 0;
        while at < 200_000 {
            let data = buffer.slice(..1400);
            let segment = Segment {
                offset: at,
                data,
                fin: false,
            };
            assembler.insert(segment).unwrap();
            at += 1400;
        }
        let within = |chunk: &Bytes| buffer.as_ptr_range().contains(&chunk.as_ptr());
        let pinned = assembler.ready.iter().filter(|chunk| within(chunk)).count();
        assert!(pinned as u64 <= WAITING / 1400 + 1, "{pinned}");
    }
}
