//! Things that may have something to send or to do, in turn, each once.

use alloc::collections::{BTreeSet, VecDeque};

/// A queue in which nothing is twice.
#[derive(Debug)]
pub(super) struct Ready<T = u32> {
    queue: VecDeque<T>,
    members: BTreeSet<T>,
}

impl<T> Default for Ready<T> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            members: BTreeSet::new(),
        }
    }
}

impl<T: Ord + Clone> Ready<T> {
    pub(super) fn push(&mut self, item: T) {
        if self.members.insert(item.clone()) {
            self.queue.push_back(item);
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let item = self.queue.pop_front()?;
        self.members.remove(&item);
        Some(item)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.members.clear();
    }
}
