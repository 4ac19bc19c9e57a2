//! Frames on their way into a connection, as one gathered write after another.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut as _, BytesMut};
use receptor_core::link::framing;

/// Frames up to this length are copied together: a part of a gathered write costs as much, and a small frame must not keep
/// the large buffer alive that it came in.
const COPIED: usize = 4 << 10;

/// Least bytes pulled from the node at one time.
const PULL_LEAST: usize = 16 << 10;

/// Most bytes pulled from the node at one time: enough for a gathered write.
const PULL_MOST: usize = 256 << 10;

/// Frames with their length prefixes, read as one sequence of bytes.
#[derive(Debug)]
pub struct Batch {
    parts: VecDeque<BytesMut>,
    bytes: usize,
    /// Bytes written since the connection took no more.
    taken: usize,
    pull: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            parts: VecDeque::new(),
            bytes: 0,
            taken: 0,
            pull: PULL_MOST,
        }
    }
}

impl Batch {
    /// Appends frames. One that no prefix can announce is left out: the node sends none.
    pub fn extend(&mut self, frames: &mut Vec<BytesMut>) {
        let copied = |body: &BytesMut| framing::PREFIX_LEN + if body.len() <= COPIED { body.len() } else { 0 };
        let mut small = BytesMut::with_capacity(frames.iter().map(copied).sum());
        for body in frames.drain(..) {
            let prefix = framing::prefix(body.len());
            debug_assert!(prefix.is_some(), "unsendable frame of {} bytes", body.len());
            let Some(prefix) = prefix else { continue };
            self.bytes += framing::PREFIX_LEN + body.len();
            small.put_slice(&prefix);
            if body.len() <= COPIED {
                small.put_slice(&body);
            } else {
                self.parts.push_back(small.split());
                self.parts.push_back(body);
            }
        }
        if !small.is_empty() {
            self.parts.push_back(small);
        }
    }

    /// Copies everything into one piece.
    pub fn coalesce(&mut self) {
        if self.parts.len() < 2 {
            return;
        }
        let mut whole = BytesMut::with_capacity(self.bytes);
        for part in self.parts.drain(..) {
            whole.put_slice(&part);
        }
        self.parts.push_back(whole);
    }

    /// Bytes to pull from the node next: what is pulled stands in line, whatever comes later and is more urgent, so a
    /// connection gets no more than it took at its last turn.
    pub fn room(&self) -> usize {
        self.pull
    }

    /// The connection takes no more for now.
    pub fn blocked(&mut self) {
        self.pull = std::mem::take(&mut self.taken).clamp(PULL_LEAST, PULL_MOST);
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slot, part) in into.iter_mut().zip(&self.parts) {
            *slot = IoSlice::new(part);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes = self.bytes.checked_sub(count).expect("no more than what is there");
        self.taken = self.taken.saturating_add(count);
        while count > 0 {
            let Some(part) = self.parts.front_mut() else { return };
            if count < part.len() {
                part.advance(count);
                return;
            }
            count -= part.len();
            self.parts.pop_front();
        }
        if self.bytes == 0 {
            // It all went at once: more may be tried next time.
            self.pull = (2 * self.pull).min(PULL_MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let mut batch = Batch::default();
        batch.extend(&mut vec![BytesMut::from(&b"abc"[..]), BytesMut::from(&b"d"[..])]);
        batch
    }

    const BYTES: &[u8] = b"\x03\0abc\x01\0d";

    #[test]
    fn every_way_of_advancing_gives_the_same_bytes() {
        for step in 1..=BYTES.len() {
            let mut batch = batch();
            let mut all = Vec::new();
            while batch.has_remaining() {
                let mut parts = [IoSlice::new(&[]); 3];
                let count = batch.chunks_vectored(&mut parts);
                let seen: Vec<u8> = parts[..count].iter().flat_map(|part| part.iter().copied()).collect();
                let taken = step.min(seen.len());
                all.extend_from_slice(&seen[..taken]);
                batch.advance(taken);
            }
            assert_eq!(all, BYTES, "steps of {step}");
        }
    }

    #[test]
    fn coalesced_batches_go_on_where_they_were() {
        let mut batch = batch();
        batch.advance(3);
        batch.coalesce();
        assert_eq!(batch.chunk(), &BYTES[3..]);
        assert_eq!(batch.remaining(), BYTES.len() - 3);
        batch.advance(BYTES.len() - 3);
        assert!(!batch.has_remaining());
        batch.coalesce();
        assert_eq!(batch.chunk(), b"");
    }

    fn parts(batch: &Batch) -> Vec<usize> {
        let mut parts = [IoSlice::new(&[]); 8];
        let count = batch.chunks_vectored(&mut parts);
        parts[..count].iter().map(|part| part.len()).collect()
    }

    #[test]
    fn small_frames_are_copied_together_and_large_ones_are_not() {
        let mut batch = Batch::default();
        let mut buffer = BytesMut::zeroed(1 << 16);
        let mut frames = [100, COPIED, COPIED + 1, 7, 16 << 10]
            .map(|len| buffer.split_to(len))
            .to_vec();
        let large = frames[4].as_ptr();
        batch.extend(&mut frames);
        assert!(frames.is_empty());
        assert_eq!(parts(&batch), [100 + COPIED + 6, COPIED + 1, 11, 16 << 10]);
        batch.advance(batch.remaining() - (16 << 10));
        assert_eq!(batch.chunk().as_ptr(), large);
    }

    #[test]
    fn small_frames_do_not_keep_the_buffer_they_came_in() {
        let mut batch = Batch::default();
        let mut buffer = BytesMut::zeroed(1 << 16);
        batch.extend(&mut vec![buffer.split_to(100)]);
        buffer.clear();
        assert!(buffer.try_reclaim(1 << 16));
        assert_eq!(batch.remaining(), 102);
    }

    #[test]
    fn a_slow_connection_gets_what_it_took_at_its_last_turn() {
        let mut batch = Batch::default();
        assert_eq!(batch.room(), PULL_MOST);
        let fill = |batch: &mut Batch, len: usize| batch.extend(&mut vec![BytesMut::zeroed(len - 2)]);
        for _ in 0..4 {
            fill(&mut batch, 60_000);
        }
        batch.advance(30_000);
        batch.blocked();
        assert_eq!(batch.room(), 30_000);
        batch.advance(10);
        batch.blocked();
        assert_eq!(batch.room(), PULL_LEAST);
        batch.advance(batch.remaining());
        assert_eq!(batch.room(), 2 * PULL_LEAST);
        batch.blocked();
        assert_eq!(batch.room(), 209_990);
    }
}
