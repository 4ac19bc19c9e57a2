//! A queue of byte chunks that knows its length.

use alloc::collections::VecDeque;

use bytes::Bytes;

/// Chunks in order, without empty ones.
#[derive(Debug, Default)]
pub(super) struct Queue {
    chunks: VecDeque<Bytes>,
    len: usize,
}

impl Queue {
    pub(super) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let chunk = self.chunks.pop_front()?;
        self.len -= chunk.len();
        Some(chunk)
    }

    /// Puts the unused rest of a popped chunk back in front.
    pub(super) fn unpop(&mut self, rest: Bytes) {
        if !rest.is_empty() {
            self.len += rest.len();
            self.chunks.push_front(rest);
        }
    }

    /// Bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Chunks: each may pin a whole read buffer, however short it is.
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn clear(&mut self) {
        self.chunks.clear();
        self.len = 0;
    }
}
