//! What is common to all streams with one node: whether it lives, and what the way to it takes.
//!
//! An idle stream owns no timer. The node at the other end is asked for a sign of life when nothing has come from it for a
//! while, over one of its streams, each time the next; when it stays silent all of them are lost together. A node that
//! was started anew answers that it has no such stream; then some more are asked, and so on until one is still known.

use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::Bound;

use super::StreamId;
use crate::id::NameHash;
use crate::time::{Duration, Instant};

/// While a node does not answer, another of its streams asks at this interval.
const AGAIN: Duration = Duration::from_secs(5);
/// Streams asked for each that is not known any more.
const DOUBTED: usize = 4;

/// One node that streams lead to.
#[derive(Debug)]
pub(super) struct Peer {
    /// Those that are not over.
    streams: BTreeSet<StreamId>,
    dialled: usize,
    last_heard: Instant,
    /// Since when an answer is awaited.
    asked_since: Option<Instant>,
    ask_next: Instant,
    /// The stream that asked last.
    asked: StreamId,
    timer: Instant,
    pub(super) path_limit: Option<usize>,
    pub(super) has_black_hole: bool,
}

/// What is to be done for a node.
#[derive(Debug)]
pub(super) enum Due {
    /// This stream asks.
    Ask(StreamId),
    /// All of its streams are lost.
    Lost,
}

/// The nodes that streams lead to.
#[derive(Debug)]
pub(super) struct Peers {
    keepalive: Duration,
    dead_after: Duration,
    peers: BTreeMap<NameHash, Peer>,
    timers: BTreeSet<(Instant, NameHash)>,
}

impl Peers {
    pub(super) const fn new(keepalive: Duration, dead_after: Duration) -> Self {
        Self {
            keepalive,
            dead_after,
            peers: BTreeMap::new(),
            timers: BTreeSet::new(),
        }
    }

    /// A stream begins; whether it is the first with that node.
    pub(super) fn join(&mut self, now: Instant, remote: NameHash, id: StreamId, is_dialled: bool) -> bool {
        let is_new = !self.peers.contains_key(&remote);
        if is_new {
            let timer = now + self.keepalive;
            self.timers.insert((timer, remote));
            self.peers.insert(
                remote,
                Peer {
                    streams: BTreeSet::new(),
                    dialled: 0,
                    last_heard: now,
                    asked_since: None,
                    ask_next: now,
                    asked: id,
                    timer,
                    path_limit: None,
                    has_black_hole: false,
                },
            );
        }
        if let Some(peer) = self.peers.get_mut(&remote) {
            peer.streams.insert(id);
            peer.dialled += usize::from(is_dialled);
        }
        is_new
    }

    /// A stream is over.
    pub(super) fn leave(&mut self, remote: NameHash, id: StreamId, is_dialled: bool) {
        let Some(peer) = self.peers.get_mut(&remote) else {
            return;
        };
        if peer.streams.remove(&id) {
            peer.dialled -= usize::from(is_dialled);
        }
        if peer.streams.is_empty() {
            self.timers.remove(&(peer.timer, remote));
            self.peers.remove(&remote);
        }
    }

    pub(super) fn get(&self, remote: NameHash) -> Option<&Peer> {
        self.peers.get(&remote)
    }

    pub(super) fn get_mut(&mut self, remote: NameHash) -> Option<&mut Peer> {
        self.peers.get_mut(&remote)
    }

    /// All of them.
    pub(super) fn names(&self) -> impl Iterator<Item = NameHash> {
        self.peers.keys().copied()
    }

    /// Streams with a node that are not over.
    pub(super) fn streams(&self, remote: NameHash) -> alloc::vec::Vec<StreamId> {
        let peer = self.peers.get(&remote);
        peer.map_or_else(Default::default, |peer| peer.streams.iter().copied().collect())
    }

    /// When to look next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// The next thing that is due.
    pub(super) fn poll(&mut self, now: Instant) -> Option<(NameHash, Due)> {
        while let Some(&(at, remote)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            let Some(peer) = self.peers.get_mut(&remote) else {
                continue;
            };
            // The node whose streams were all dialled by the other waits longer, so that one question serves both.
            let silence = if peer.dialled > 0 {
                self.keepalive
            } else {
                self.keepalive * 2
            };
            if peer.asked_since.is_some_and(|since| peer.last_heard >= since) {
                peer.asked_since = None;
            }
            let mut due = None;
            if peer.asked_since.is_none() && peer.last_heard + silence <= now {
                (peer.asked_since, peer.ask_next) = (Some(now), now);
            }
            peer.timer = match peer.asked_since {
                None => peer.last_heard + silence,
                Some(since) if since + self.dead_after <= now => {
                    due = Some(Due::Lost);
                    now + AGAIN
                }
                Some(since) => {
                    if peer.ask_next <= now {
                        peer.ask_next = now + AGAIN;
                        due = peer.take_next().map(Due::Ask);
                    }
                    peer.ask_next.min(since + self.dead_after)
                }
            };
            self.timers.insert((peer.timer, remote));
            if let Some(due) = due {
                return Some((remote, due));
            }
        }
        None
    }
}

impl Peer {
    /// Something came from the node.
    pub(super) const fn hear(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// The stream whose turn it is to ask.
    pub(super) fn take_next(&mut self) -> Option<StreamId> {
        let after = (Bound::Excluded(self.asked), Bound::Unbounded);
        let next = self.streams.range(after).next().or_else(|| self.streams.first());
        self.asked = *next?;
        Some(self.asked)
    }

    /// Streams to ask because another is not known any more.
    pub(super) fn take_doubted(&mut self) -> impl Iterator<Item = StreamId> {
        (0..self.streams.len().min(DOUBTED)).filter_map(|_| self.take_next())
    }
}
