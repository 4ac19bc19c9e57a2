//! Frames on their way into a connection, as one gathered write after another.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut as _, BytesMut};
use receptor_core::link::framing;

/// Frames with their length prefixes, read as one sequence of bytes.
#[derive(Default, Debug)]
pub struct Batch {
    items: VecDeque<Item>,
    bytes: usize,
}

#[derive(Debug)]
struct Item {
    prefix: [u8; framing::PREFIX_LEN],
    prefix_done: usize,
    body: BytesMut,
}

impl Item {
    fn remaining(&self) -> usize {
        framing::PREFIX_LEN - self.prefix_done + self.body.len()
    }
}

impl Batch {
    /// Appends frames. One that no prefix can announce is left out: the node sends none.
    pub fn extend(&mut self, frames: impl IntoIterator<Item = BytesMut>) {
        for body in frames {
            let prefix = framing::prefix(body.len());
            debug_assert!(prefix.is_some(), "unsendable frame of {} bytes", body.len());
            let Some(prefix) = prefix else { continue };
            self.bytes += framing::PREFIX_LEN + body.len();
            self.items.push_back(Item {
                prefix,
                prefix_done: 0,
                body,
            });
        }
    }

    /// Copies everything into one piece.
    pub fn coalesce(&mut self) {
        let mut whole = BytesMut::with_capacity(self.bytes);
        for item in self.items.drain(..) {
            whole.put_slice(&item.prefix[item.prefix_done..]);
            whole.put_slice(&item.body);
        }
        if !whole.is_empty() {
            self.items.push_back(Item {
                prefix: [0; 2],
                prefix_done: framing::PREFIX_LEN,
                body: whole,
            });
        }
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        match self.items.front() {
            Some(item) if item.prefix_done < framing::PREFIX_LEN => &item.prefix[item.prefix_done..],
            Some(item) => &item.body,
            None => &[],
        }
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let parts = self
            .items
            .iter()
            .flat_map(|item| [&item.prefix[item.prefix_done..], &item.body[..]]);
        let mut count = 0;
        for (slot, part) in into.iter_mut().zip(parts.filter(|part| !part.is_empty())) {
            *slot = IoSlice::new(part);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes = self.bytes.checked_sub(count).expect("no more than what is there");
        while count > 0 {
            let Some(item) = self.items.front_mut() else { return };
            if count >= item.remaining() {
                count -= item.remaining();
                self.items.pop_front();
                continue;
            }
            let of_prefix = count.min(framing::PREFIX_LEN - item.prefix_done);
            item.prefix_done += of_prefix;
            item.body.advance(count - of_prefix);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let mut batch = Batch::default();
        batch.extend([BytesMut::from(&b"abc"[..]), BytesMut::from(&b"d"[..])]);
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
}
