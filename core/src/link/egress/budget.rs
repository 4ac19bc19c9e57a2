//! What all queues of one node share: a limit of memory over all links, and blocks of memory that are used again.

use alloc::collections::VecDeque;

use bytes::BytesMut;

/// Sizes of blocks: powers of two from [`SMALLEST_BLOCK`] on. Two frames of the largest size fit into the largest.
const CLASSES: usize = 7;

/// One small frame that waits alone pins no more than this.
const SMALLEST_BLOCK: usize = 2 << 10;

/// Free blocks kept of each size: 2 MiB of all sizes together.
const KEPT: usize = 8;

/// Free blocks looked at before a new one is made: whoever pulled their frames may not have dropped them yet.
const TRIED: usize = 2;

/// The memory that the queues of one node may hold together, and what they do hold.
///
/// A single queue may grow to an eighth of what is left, besides its own limit (the dynamic thresholds of Choudhury and
/// Hahne): a stalled link takes a ninth of the memory at most, and a link that fills up later still finds room.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    held: usize,
    free: [VecDeque<BytesMut>; CLASSES],
}

impl Budget {
    /// A budget of `limit` bytes.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            held: 0,
            free: [const { VecDeque::new() }; CLASSES],
        }
    }

    /// Bytes that the queues may hold together.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that the queues hold together.
    pub const fn held(&self) -> usize {
        self.held
    }

    /// To what a single queue may grow.
    pub(super) const fn share(&self) -> usize {
        self.limit.saturating_sub(self.held) / 8
    }

    /// A queue that held `before` bytes now holds `after`.
    pub(super) const fn update(&mut self, before: usize, after: usize) {
        self.held = (self.held + after).saturating_sub(before);
    }

    /// An empty block with room for `bytes` if that is possible; it can take a frame of any length if `bytes` can.
    pub(super) fn take(&mut self, bytes: usize) -> BytesMut {
        let class = (0..CLASSES - 1)
            .find(|class| SMALLEST_BLOCK << class >= bytes)
            .unwrap_or(CLASSES - 1);
        let size = SMALLEST_BLOCK << class;
        let free = &mut self.free[class];
        for at in 0..free.len().min(TRIED) {
            if free[at].try_reclaim(size)
                && let Some(block) = free.remove(at)
            {
                return block;
            }
        }
        BytesMut::with_capacity(size)
    }

    /// Takes a block of a certain size back. Frames cut from it may still be in use.
    pub(super) fn give(&mut self, mut block: BytesMut, size: usize) {
        block.clear();
        let free = &mut self.free[(size / SMALLEST_BLOCK).trailing_zeros() as usize % CLASSES];
        if free.len() < KEPT {
            free.push_back(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGEST_BLOCK: usize = SMALLEST_BLOCK << (CLASSES - 1);

    #[test]
    fn blocks_fit_and_are_used_again() {
        let mut budget = Budget::new(0);
        for (bytes, size) in [
            (1, SMALLEST_BLOCK),
            (SMALLEST_BLOCK, SMALLEST_BLOCK),
            (SMALLEST_BLOCK + 1, 2 * SMALLEST_BLOCK),
            (2 * 65_535, LARGEST_BLOCK),
            (10 * LARGEST_BLOCK, LARGEST_BLOCK),
        ] {
            let mut block = budget.take(bytes);
            assert_eq!(block.capacity(), size);
            block.resize(7, 1);
            let frame = block.split();
            budget.give(block, size);
            assert_ne!(budget.take(bytes).as_ptr(), frame.as_ptr(), "still in use");
            let at = frame.as_ptr();
            drop(frame);
            assert_eq!(budget.take(bytes).as_ptr(), at, "used again");
        }
    }

    #[test]
    fn only_so_many_free_blocks_are_kept() {
        let mut budget = Budget::new(0);
        for _ in 0..2 * KEPT {
            budget.give(BytesMut::with_capacity(SMALLEST_BLOCK), SMALLEST_BLOCK);
        }
        assert_eq!(budget.free[0].len(), KEPT);
    }
}
