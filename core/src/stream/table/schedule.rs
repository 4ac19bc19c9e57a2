//! Whose turn it is: to send, and to be woken.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::StreamId;
use crate::id::NameHash;
use crate::time::Instant;

/// Streams that want to send. A stream goes to the back of the queue after each packet, so each gets its turn.
#[derive(Debug, Default)]
pub(super) struct Ready {
    queue: VecDeque<StreamId>,
    /// Blocked nodes and the streams that would send to them.
    blocked: BTreeMap<NameHash, VecDeque<StreamId>>,
    /// Empty queues of nodes that were blocked: a busy first hop is blocked and let through all the time.
    spare: Vec<VecDeque<StreamId>>,
}

/// Empty queues that are kept, and the largest kept.
const SPARES: usize = 16;
const SPARE_MAX: usize = 256;

impl Ready {
    pub(super) fn push(&mut self, id: StreamId) {
        self.queue.push_back(id);
    }

    pub(super) fn pop(&mut self) -> Option<StreamId> {
        self.queue.pop_front()
    }

    /// Whether no stream may send.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn block(&mut self, remote: NameHash) {
        let spare = &mut self.spare;
        let queue = || spare.pop().unwrap_or_default();
        self.blocked.entry(remote).or_insert_with(queue);
    }

    pub(super) fn unblock(&mut self, remote: NameHash) {
        if let Some(parked) = self.blocked.remove(&remote) {
            self.release(parked);
        }
    }

    pub(super) fn unblock_where(&mut self, mut is_open: impl FnMut(NameHash) -> bool) {
        let mut blocked = core::mem::take(&mut self.blocked);
        blocked.retain(|&remote, parked| {
            let open = is_open(remote);
            if open {
                self.release(core::mem::take(parked));
            }
            !open
        });
        self.blocked = blocked;
    }

    fn release(&mut self, mut parked: VecDeque<StreamId>) {
        self.queue.extend(parked.drain(..));
        if self.spare.len() < SPARES && parked.capacity() <= SPARE_MAX {
            self.spare.push(parked);
        }
    }

    pub(super) fn is_blocked(&self, remote: NameHash) -> bool {
        self.blocked.contains_key(&remote)
    }

    /// The stream is gone; in the queue it is skipped when its turn comes.
    pub(super) fn forget(&mut self, remote: NameHash, id: StreamId) {
        if let Some(parked) = self.blocked.get_mut(&remote) {
            parked.retain(|&other| other != id);
        }
    }

    /// Sets a stream aside if its node is blocked.
    pub(super) fn park_if_blocked(&mut self, remote: NameHash, id: StreamId) -> bool {
        let Some(parked) = self.blocked.get_mut(&remote) else {
            return false;
        };
        parked.push_back(id);
        true
    }
}

/// When each stream is looked at next. A deadline that moves back is not moved here: the stream is looked at early, and
/// then moves once. Deadlines move back with every packet, so this saves the tree two operations for each.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Instant, StreamId)>);

impl Timers {
    /// Follows a stream's own deadline; `timer` is what was noted for it.
    pub(super) fn follow(&mut self, id: StreamId, timer: &mut Option<Instant>, deadline: Option<Instant>) {
        let Some(at) = deadline else { return };
        if timer.is_none_or(|noted| at < noted) {
            self.forget(id, *timer);
            self.0.insert((at, id));
            *timer = Some(at);
        }
    }

    pub(super) fn forget(&mut self, id: StreamId, timer: Option<Instant>) {
        if let Some(at) = timer {
            self.0.remove(&(at, id));
        }
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<StreamId> {
        let &(at, id) = self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first();
        Some(id)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|&(at, _)| at)
    }
}
