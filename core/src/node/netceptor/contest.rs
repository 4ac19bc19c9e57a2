//! Two connections of one peer. The classic node refuses the newer one; but then a peer whose old connection has died without a
//! word stays away until that is given up as idle, half a minute later. Here the old one has to prove that it lives.
//!
//! | the newer one | becomes of it |
//! |---|---|
//! | proves less who it is than the old one did | refused at once: who has no certificate never drives out one who has |
//! | came to the same listener, with a certificate that names the peer | takes the old one's place at once |
//! | crosses one that we dial at this moment | both ends keep the one that the node with the smaller ID dialled |
//! | anything else | the old one is asked whether it lives, and given up after [`LIMIT`] of silence |
//!
//! The question goes over the old link itself: a request that our nodes answer over the same link, a ping for the others
//! (`wire.md` §19), whose answer may come by another way. Any frame over the old link counts as well.

use core::time::Duration;

use super::Netceptor;
use crate::deadline::Deadline;
use crate::id::{LinkId, NodeId};
use crate::link::{Priority, Refusal, RouteVerdict};
use crate::time::{Instant, Now};
use crate::wire::classic::RoutingUpdate;

/// Silence after which the old connection is dead.
pub(super) const LIMIT: Duration = Duration::from_secs(2);

/// When it is looked at, after the first question. It is asked again where it has not answered: a datagram may be lost.
const LOOKS: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(800),
    LIMIT,
];

/// A connection that took another's place, or has just shown that it lives, is not replaced unasked for so long: one peer with
/// two connections, by its configuration, must not make them drive out each other without end.
const CALM: Duration = Duration::from_secs(60);

/// A newer connection that waits for the old one's word.
#[derive(Debug)]
pub(super) struct Contest {
    peer: NodeId,
    old: LinkId,
    newer: LinkId,
    /// The newer one's first word.
    update: RoutingUpdate,
    since: Instant,
    /// When to look again, and how often that has happened.
    due: Instant,
    looks: usize,
    /// The old one has answered.
    is_answered: bool,
}

/// What a look found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    /// The old one lives, or a third has come.
    Alive,
    /// Nothing yet.
    Silent,
    /// It is gone or dead.
    Dead,
    /// It is gone, and the newer one was accepted.
    Settled,
}

impl Netceptor {
    /// A link whose peer has another one, and which might be accepted otherwise.
    pub(super) fn contest(&mut self, now: Now, newer: LinkId, peer: NodeId, update: RoutingUpdate) {
        if self.contests.iter().any(|contest| contest.newer == newer) {
            return;
        }
        let Some(old) = self.links.link_of(&peer) else { return };
        if self.proof(newer) < self.proof(old) {
            return self.close_link(now, newer, &Refusal::AlreadyConnected(peer), true);
        }
        if self.may_replace(now, old, newer) || self.yields_to(old, newer, &peer, &update) {
            return self.replace(now, old, newer, &peer, &update);
        }
        let is_established = self.links.live(old).is_some_and(|link| link.session.was_established());
        // Two that come up at the same time are no question of life and death.
        if !is_established || !self.outdoes_others(now, newer, &peer) || !self.ask(now, old) {
            return self.close_link(now, newer, &Refusal::AlreadyConnected(peer), true);
        }
        self.contests.push(Contest {
            peer,
            old,
            newer,
            update,
            since: now.mono,
            due: now.mono + LOOKS[0],
            looks: 0,
            is_answered: false,
        });
    }

    /// How sure it is who is at the other end, in rising order: no certificate, one without names of nodes, one of this node.
    fn proof(&mut self, link: LinkId) -> Option<bool> {
        self.links.live(link).and_then(|link| link.session.is_certified())
    }

    /// Whether the newer one is the same peer for certain, and the old one therefore of no more use to it. Only where both came
    /// to one listener: two connections in opposite directions, or over two backends, may both be meant.
    fn may_replace(&mut self, now: Now, old: LinkId, newer: LinkId) -> bool {
        if self.proof(newer) != Some(true) {
            return false;
        }
        let Some(backend) = self.links.live(newer).map(|link| link.backend) else {
            return false;
        };
        self.links.live(old).is_some_and(|link| {
            let is_calm = link.proved.is_none_or(|at| now.mono.since(at) >= CALM);
            link.backend == backend && is_calm
        })
    }

    /// Whether two nodes of ours dial each other at this moment, and `newer` is the one that both keep. Which a classic node
    /// keeps nobody knows: there the waits before the next dials differ.
    fn yields_to(&mut self, old: LinkId, newer: LinkId, peer: &NodeId, update: &RoutingUpdate) -> bool {
        let mut is_dialed = |link| {
            let backend = self.links.live(link).map(|link| link.backend)?;
            self.backends.is_peer(backend)
        };
        let (Some(old_dialed), Some(newer_dialed)) = (is_dialed(old), is_dialed(newer)) else {
            return false;
        };
        let is_established = self.links.live(old).is_some_and(|link| link.session.was_established());
        !is_established && update.ext.is_some() && old_dialed != newer_dialed && newer_dialed == (self.node_id < *peer)
    }

    /// Whether no other newer one of this peer waits, or only such as prove less.
    fn outdoes_others(&mut self, now: Now, newer: LinkId, peer: &NodeId) -> bool {
        let Some(other) = self.contests.iter().find(|contest| contest.peer == *peer) else {
            return true;
        };
        let other = other.newer;
        if self.proof(other) >= self.proof(newer) {
            return false;
        }
        self.close_link(now, other, &Refusal::AlreadyConnected(peer.clone()), true);
        true
    }

    /// Asks whether the other end of a link lives; `false` if that cannot be asked.
    fn ask(&mut self, now: Now, link: LinkId) -> bool {
        let Some(question) = self.router.link_probe(now, link) else {
            return false;
        };
        self.push(link, Priority::Control, question);
        true
    }

    /// The other end of a link has answered.
    pub(super) fn link_answered(&mut self, link: LinkId) {
        for contest in &mut self.contests {
            contest.is_answered |= contest.old == link;
        }
    }

    fn replace(&mut self, now: Now, old: LinkId, newer: LinkId, peer: &NodeId, update: &RoutingUpdate) {
        if self.links.live(newer).is_none() {
            return;
        }
        self.close_link(now, old, &Refusal::Replaced(peer.clone()), false);
        if let Some(link) = self.links.live(newer) {
            link.proved = Some(now.mono);
        }
        self.take_in(now, newer, update);
    }

    /// Lets the newer one's first word count, now that nobody is in its way.
    fn take_in(&mut self, now: Now, newer: LinkId, update: &RoutingUpdate) {
        let Some(link) = self.links.live(newer) else { return };
        let verdict = link
            .session
            .on_route(now.mono, &update.node_id, &update.forwarding_node, None, |_| false);
        match verdict {
            RouteVerdict::Accepted { peer, cost } => self.accept_link(now, newer, peer, cost, update),
            RouteVerdict::Reject(refusal) => self.close_link(now, newer, &refusal, true),
            RouteVerdict::Ignore | RouteVerdict::Process | RouteVerdict::Hello | RouteVerdict::Contested(_) => {}
        }
    }

    /// Looks at what is due.
    pub(super) fn contest_timeouts(&mut self, now: Now) {
        let mut at = 0;
        while at < self.contests.len() {
            if self.contests[at].due > now.mono {
                at += 1;
                continue;
            }
            let (old, found) = (self.contests[at].old, self.look(at, now));
            if found == Found::Silent {
                let contest = &mut self.contests[at];
                contest.looks += 1;
                contest.due = contest.since + LOOKS.get(contest.looks).copied().unwrap_or(LIMIT);
                at += 1;
                // Whether it could be asked again or not: it has been asked.
                self.ask(now, old);
                continue;
            }
            let Contest {
                peer, newer, update, ..
            } = self.contests.swap_remove(at);
            match found {
                Found::Alive => {
                    if let Some(link) = self.links.live(old) {
                        link.proved = Some(now.mono);
                    }
                    self.close_link(now, newer, &Refusal::AlreadyConnected(peer), true);
                }
                Found::Dead => self.replace(now, old, newer, &peer, &update),
                Found::Silent | Found::Settled => {}
            }
        }
    }

    fn look(&mut self, at: usize, now: Now) -> Found {
        let Contest {
            ref peer,
            old,
            newer,
            since,
            is_answered,
            ..
        } = self.contests[at];
        match self.links.link_of(peer) {
            None => Found::Dead,
            Some(link) if link == newer => Found::Settled,
            Some(link) if link != old => Found::Alive,
            Some(_) => match self.links.live(old).map(|link| link.session.last_received()) {
                Some(heard) if is_answered || heard > since => Found::Alive,
                Some(_) if now.mono.since(since) < LIMIT => Found::Silent,
                _ => Found::Dead,
            },
        }
    }

    pub(super) fn contest_deadline(&self) -> Deadline {
        Deadline::at(
            self.contests.iter().map(|contest| contest.due).min(),
            "word of a link that may be dead",
        )
    }

    /// A link is closing or gone: it contests nothing any more, and who waited for its word need not wait longer.
    pub(super) fn forget_contests(&mut self, link: LinkId) {
        self.contests.retain(|contest| contest.newer != link);
        for contest in &mut self.contests {
            if contest.old == link {
                contest.due = Instant::ZERO;
            }
        }
    }
}

#[cfg(test)]
mod tests;
