//! A queue of bytes that pins little more memory than it holds.

use alloc::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces below this many bytes are copied together: a slice of one byte may pin a read buffer of many kilobytes.
const COPY_BELOW: usize = 8 * 1024;
/// Copied bytes that make a chunk of their own.
const TAIL_MAX: usize = 64 * 1024;

/// Bytes in order, in pieces that are not empty but otherwise mean nothing.
#[derive(Debug, Default)]
pub(super) struct Queue {
    chunks: VecDeque<Bytes>,
    /// Copied pieces, behind all chunks.
    tail: BytesMut,
    len: usize,
}

impl Queue {
    pub(super) fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        let small = piece.len() < COPY_BELOW;
        if !self.tail.is_empty() && (!small || self.tail.len() + piece.len() > TAIL_MAX) {
            self.chunks.push_back(core::mem::take(&mut self.tail).freeze());
        }
        if small {
            self.tail.extend_from_slice(&piece);
        } else {
            self.chunks.push_back(piece);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let piece = match self.chunks.pop_front() {
            Some(chunk) => chunk,
            None if self.tail.is_empty() => return None,
            None => core::mem::take(&mut self.tail).freeze(),
        };
        self.len -= piece.len();
        Some(piece)
    }

    /// Puts the unused rest of a popped piece back in front.
    pub(super) fn unpop(&mut self, rest: Bytes) {
        if !rest.is_empty() {
            self.len += rest.len();
            self.chunks.push_front(rest);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn small_pieces_are_copied_together_and_large_ones_are_not_copied() {
        let mut queue = Queue::default();
        let large = Bytes::from(alloc::vec![1; COPY_BELOW]);
        for _ in 0..100 {
            queue.push(Bytes::from_static(b"x"));
        }
        queue.push(large.clone());
        queue.push(Bytes::from_static(b"y"));
        assert_eq!(queue.pop().unwrap().len(), 100);
        assert_eq!(queue.pop().unwrap().as_ptr(), large.as_ptr());
        assert_eq!(queue.pop().unwrap(), "y");
        assert_eq!(queue.pop(), None);
    }

    proptest! {
        #[test]
        fn bytes_keep_their_order(pieces in prop::collection::vec((0usize..20_000, any::<bool>(), 0usize..30), 0..40)) {
            let (mut queue, mut sent, mut received) = (Queue::default(), Vec::new(), Vec::new());
            for (number, (len, pop, keep)) in pieces.into_iter().enumerate() {
                let piece = alloc::vec![number as u8; len];
                sent.extend_from_slice(&piece);
                queue.push(piece.into());
                if pop && let Some(mut piece) = queue.pop() {
                    prop_assert!(!piece.is_empty());
                    let rest = piece.split_off(keep.min(piece.len()));
                    queue.unpop(rest);
                    received.extend_from_slice(&piece);
                }
                prop_assert_eq!(queue.len(), sent.len() - received.len());
            }
            while let Some(piece) = queue.pop() {
                received.extend_from_slice(&piece);
            }
            prop_assert!(queue.is_empty());
            prop_assert_eq!(sent, received);
        }
    }
}
