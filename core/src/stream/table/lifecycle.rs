//! What happens behind every change of a stream: queues, timers and accounts follow.

use super::entry::{Entry, Key};
use super::slots::MAX_PLACES;
use super::{Stream, StreamId, Table, TableEvent};
use crate::time::{Duration, Instant};

/// How often streams are looked through that may hold memory they do not need.
const SWEEP: Duration = Duration::from_secs(5);

impl Table {
    /// Whether there is room for another stream.
    pub(super) const fn has_room(&self) -> bool {
        self.live < self.config.max_streams && self.slots.len() < MAX_PLACES
    }

    pub(super) fn insert(&mut self, now: Instant, key: Key, stream: Stream, is_dialled: bool) -> StreamId {
        let id = self.slots.insert(|id| Entry::new(id, key, stream, is_dialled));
        self.by_key.insert(key, id);
        self.live += 1;
        if self.peers.join(now, key.remote, id, is_dialled) {
            self.new_peers.push_back(key.remote);
        }
        let (limit, has_black_hole) = match self.peers.get(key.remote) {
            Some(peer) => (peer.path_limit, peer.has_black_hole),
            None => (None, false),
        };
        self.with(now, id, |entry| {
            if let Some(limit) = limit {
                entry.stream.set_path_limit(limit);
            }
            if has_black_hole {
                entry.stream.on_black_hole(now);
            }
        });
        id
    }

    /// Every change of a stream goes through here, so that its queues and timers follow.
    pub(super) fn with<R>(&mut self, now: Instant, id: StreamId, change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        self.last = now;
        let entry = self.slots.get_mut(id)?;
        let receive = self.receiving.allowance(entry.receiving);
        let send = self.sending.allowance(entry.sending);
        entry.stream.set_memory(receive, send);
        let result = change(entry);
        self.refresh(now, id);
        Some(result)
    }

    pub(super) fn refresh(&mut self, now: Instant, id: StreamId) {
        let Some(entry) = self.slots.get_mut(id) else {
            return;
        };
        let (receiving, sending) = entry.stream.memory();
        self.receiving.redraw(&mut entry.receiving, receiving);
        self.sending.redraw(&mut entry.sending, sending);
        if entry.is_ours() && !entry.is_eventful && entry.stream.has_event() {
            entry.is_eventful = true;
            self.eventful.push_back(id);
        }
        if !entry.is_queued && entry.stream.wants_transmit() {
            entry.is_queued = true;
            self.ready.push(id);
        }
        entry.was_active = true;
        if !entry.is_warm {
            entry.is_warm = true;
            self.warm.push(id);
            self.sweep_at.get_or_insert(now + SWEEP);
        }
        self.timers.follow(id, &mut entry.timer, entry.stream.timeout_at());
        // The last answer still goes out, unless it cannot.
        let has_said_all = !entry.is_queued || self.ready.is_blocked(entry.key.remote);
        let (remote, is_dialled) = (entry.key.remote, entry.is_dialled);
        if entry.is_forgettable() && entry.stream.is_drained() && has_said_all {
            self.forget(id);
        } else if entry.stream.is_ended() && !entry.is_counted_out {
            entry.is_counted_out = true;
            self.live -= 1;
            self.peers.leave(remote, id, is_dialled);
            self.linger(id);
        }
    }

    /// Puts a stream that is over in the line of those to be forgotten when there are too many.
    fn linger(&mut self, id: StreamId) {
        self.lingering.push_back(id);
        while self.lingering.len() > self.config.max_lingering {
            let Some(oldest) = self.lingering.pop_front() else {
                return;
            };
            if self.slots.get(oldest).is_some_and(Entry::is_forgettable) {
                self.forget(oldest);
            }
        }
    }

    pub(super) fn forget(&mut self, id: StreamId) {
        let Some(mut entry) = self.slots.remove(id) else {
            return;
        };
        self.by_key.remove(&entry.key);
        self.timers.forget(id, entry.timer);
        self.ready.forget(entry.key.remote, id);
        self.receiving.redraw(&mut entry.receiving, 0);
        self.sending.redraw(&mut entry.sending, 0);
        if !entry.is_counted_out {
            self.live -= 1;
            self.peers.leave(entry.key.remote, id, entry.is_dialled);
        }
        let local_service = entry.key.local_service;
        if let Some(backlog) = self.listeners.get_mut(&local_service) {
            backlog.retain(|&waiting| waiting != id);
        }
        if entry.is_released && entry.is_accepted {
            self.notices.push_back(TableEvent::Forgotten {
                id,
                local_service,
                is_dialled: entry.is_dialled,
            });
        }
    }

    /// Takes memory from streams that have been idle since the last look, and goes on looking while any is left.
    pub(super) fn sweep(&mut self, now: Instant) {
        if self.sweep_at.is_none_or(|at| at > now) {
            return;
        }
        let (slots, timers) = (&mut self.slots, &mut self.timers);
        self.warm.retain(|&id| {
            let Some(entry) = slots.get_mut(id) else { return false };
            let was_active = core::mem::take(&mut entry.was_active);
            if !was_active && entry.stream.is_idle() {
                entry.stream.trim();
                entry.is_warm = false;
                if entry.stream.timeout_at().is_none() {
                    timers.forget(id, entry.timer.take());
                }
            }
            entry.is_warm
        });
        let is_quiet = self.warm.is_empty() && self.notices.is_empty();
        self.sweep_at = (!is_quiet).then(|| now + SWEEP);
        if is_quiet {
            self.warm = alloc::vec::Vec::new();
            self.pool.trim();
            self.by_key.shrink_to_fit();
            self.notices.shrink_to_fit();
            self.eventful.shrink_to_fit();
            self.lingering.shrink_to_fit();
        }
    }
}
