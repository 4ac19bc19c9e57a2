//! Time passes, routes change, nodes go away.

use super::peers::Due;
use super::{StreamId, Table, code};
use crate::deadline::Deadline;
use crate::id::{NameHash, ServiceName};
use crate::time::Instant;

impl Table {
    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(id) = self.timers.pop_due(now) {
            let remote = self.remote(id);
            let is_held = remote.is_some_and(|remote| self.ready.is_blocked(remote));
            self.with(now, id, |entry| {
                entry.timer = None;
                if is_held {
                    entry.stream.handle_timeout_held(now);
                } else {
                    entry.stream.handle_timeout(now);
                }
            });
        }
        while let Some((remote, due)) = self.peers.poll(now) {
            match due {
                Due::Ask(id) => {
                    self.with(now, id, |entry| entry.stream.ping());
                }
                Due::Lost => {
                    for id in self.peers.streams(remote) {
                        self.with(now, id, |entry| entry.stream.on_peer_lost(now));
                    }
                }
            }
        }
        self.sweep(now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; `Now` while a packet or an event waits. Idle streams
    /// have no part in it, only the nodes at their other ends.
    pub fn next_deadline(&self) -> Deadline {
        let is_waiting =
            !self.answers.is_empty() || !self.notices.is_empty() || !self.eventful.is_empty() || !self.ready.is_empty();
        if is_waiting {
            return Deadline::Now;
        }
        Deadline::at(self.timers.next(), "stream")
            .min(Deadline::at(self.peers.next(), "node at the other end of streams"))
            .min(Deadline::at(self.sweep_at, "memory of idle streams"))
    }

    /// The other ends of all streams that are not over, in the order of their hashes.
    pub fn remotes(&self) -> impl Iterator<Item = NameHash> {
        self.peers.names()
    }

    /// A node that has streams now and had none before: tell with [`set_path`](Self::set_path) what the way to it takes.
    pub fn poll_new_remote(&mut self) -> Option<NameHash> {
        self.new_peers.pop_front()
    }

    /// The largest packet that may be sent to a node, in bytes; 16,384 where nothing was told. More takes effect where a
    /// stream is fast.
    pub fn set_path(&mut self, now: Instant, remote: NameHash, max_packet: usize) {
        let Some(peer) = self.peers.get_mut(remote) else { return };
        if peer.path_limit.replace(max_packet) == Some(max_packet) {
            return;
        }
        for id in self.peers.streams(remote) {
            self.with(now, id, |entry| entry.stream.set_path_limit(max_packet));
        }
    }

    /// A route to a node came back: its streams try again at once. If all are idle, one asks whether the node still knows
    /// them: it may have been started anew.
    pub fn kick(&mut self, now: Instant, remote: NameHash) {
        self.unblock(remote);
        if let Some(peer) = self.peers.get_mut(remote) {
            peer.has_black_hole = false;
            if let Some(id) = peer.take_next() {
                self.with(now, id, |entry| entry.stream.ping());
            }
        }
        for id in self.peers.streams(remote) {
            self.with(now, id, |entry| entry.stream.kick(now));
        }
    }

    /// An unreachable message, or an error of our own routing, for a datagram of ours (`wire.md` §18).
    pub fn on_unreachable(
        &mut self,
        now: Instant,
        remote: NameHash,
        remote_service: ServiceName,
        local_service: ServiceName,
        problem: &str,
    ) {
        let key = super::Key {
            local_service,
            remote,
            remote_service,
        };
        if let Some(&id) = self.by_key.get(&key) {
            self.with(now, id, |entry| entry.stream.on_unreachable(now, problem));
        }
    }

    /// The node stops: every stream is reset and no new one begins, so that the peers notice at once. What is left to send
    /// is the farewells, held back by nothing.
    pub fn shutdown(&mut self, now: Instant) {
        self.is_closing = true;
        self.ready.unblock_where(|_| true);
        for id in self.slots.ids() {
            self.with(now, id, |entry| {
                entry.stream.reset(now, code::SHUTDOWN, super::SHUTDOWN_REASON);
            });
        }
    }

    /// What a packet of a stream tells about its node.
    pub(super) fn learn_of_peer(&mut self, now: Instant, remote: NameHash, id: StreamId, is_unknown_there: bool) {
        let has_black_hole = self.slots.get(id).is_some_and(|entry| entry.stream.has_black_hole());
        let Some(peer) = self.peers.get_mut(remote) else { return };
        peer.hear(now);
        peer.has_black_hole = has_black_hole;
        if is_unknown_there {
            let doubted: alloc::vec::Vec<StreamId> = peer.take_doubted().collect();
            for id in doubted {
                self.with(now, id, |entry| entry.stream.ping());
            }
        }
    }
}
