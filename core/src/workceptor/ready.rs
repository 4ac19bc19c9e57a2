//! Channels that may have something to send, in turn, each once.

use alloc::collections::{BTreeSet, VecDeque};

/// A queue in which nothing is twice.
#[derive(Debug, Default)]
pub(super) struct Ready {
    queue: VecDeque<u32>,
    members: BTreeSet<u32>,
}

impl Ready {
    pub(super) fn push(&mut self, channel: u32) {
        if self.members.insert(channel) {
            self.queue.push_back(channel);
        }
    }

    pub(super) fn pop(&mut self) -> Option<u32> {
        let channel = self.queue.pop_front()?;
        self.members.remove(&channel);
        Some(channel)
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.members.clear();
    }
}
