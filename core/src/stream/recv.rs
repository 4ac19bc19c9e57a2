//! The bytes that have arrived, until the application has read them.

use alloc::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes, BytesMut};

use super::packet::Segment;

/// Segments up to this many bytes are copied together: a slice of one byte may pin a large read buffer.
const SMALL: usize = 512;
/// Size of the buffers they are copied to, in bytes.
const GATHER: usize = 4096;
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
    /// Above `next`, by offset; entries may overlap.
    pending: BTreeMap<u64, Bytes>,
    pending_bytes: u64,
    /// One past the highest byte seen.
    highest: u64,
    /// Where the stream ends, once known.
    final_size: Option<u64>,
}

impl Assembler {
    /// Takes a segment the credit allows; whether bytes became readable. `window` bounds what is kept out of order.
    pub(super) fn insert(&mut self, segment: Segment, window: u64) -> Result<bool, Refusal> {
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
            // Overlapping entries may add up to more than the window: the sender repeats, or is not one of ours.
            let full = self.pending.len() >= MAX_PENDING || self.pending_bytes + data.len() as u64 > 2 * window;
            let known = self.pending.get(&offset).is_some_and(|kept| kept.len() >= data.len());
            if full && !known {
                return Err(Refusal::Full);
            }
            if !known && !data.is_empty() {
                let kept = if data.len() <= SMALL {
                    Bytes::copy_from_slice(&data)
                } else {
                    data.clone()
                };
                self.pending_bytes += kept.len() as u64;
                if let Some(shorter) = self.pending.insert(offset, kept) {
                    self.pending_bytes -= shorter.len() as u64;
                }
            }
        }
        self.highest = self.highest.max(end);
        if fin {
            self.final_size = Some(end);
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
            self.pending_bytes -= data.len() as u64;
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
        self.pending_bytes = 0;
    }

    fn append(&mut self, data: Bytes) {
        self.next += data.len() as u64;
        self.unread += data.len() as u64;
        let sealed = data.len() > SMALL || self.tail.len() + data.len() > GATHER;
        if sealed && !self.tail.is_empty() {
            self.ready.push_back(core::mem::take(&mut self.tail).freeze());
        }
        if data.len() > SMALL {
            self.ready.push_back(data);
        } else {
            self.tail.extend_from_slice(&data);
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
                let _ = assembler.insert(segment(from as u64, &whole[from..to], fin), 1 << 20);
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
            assert!(assembler.pending.is_empty() && assembler.pending_bytes == 0);
        }
    }

    #[test]
    fn the_end_cannot_move() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.insert(segment(2, b"cd", true), 100), Ok(false));
        assert_eq!(
            assembler.insert(segment(0, b"abcde", false), 100),
            Err(Refusal::FinalSize)
        );
        assert_eq!(assembler.insert(segment(0, b"ab", true), 100), Err(Refusal::FinalSize));
        assert_eq!(assembler.insert(segment(0, b"ab", false), 100), Ok(true));
        assert!(assembler.has_all());
    }

    #[test]
    fn what_is_kept_out_of_order_is_bounded() {
        let mut assembler = Assembler::default();
        let kept = (0..1000)
            .filter(|&n| assembler.insert(segment(1 + n, &[0; 600], false), 10_000).is_ok())
            .count();
        assert_eq!(kept, 2 * 10_000 / 600);
    }
}
