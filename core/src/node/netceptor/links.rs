//! The table of links: sessions, queues, timers, and the signals to the adapter.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use bytes::BytesMut;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::deadline::Deadline;
use crate::id::{BackendId, LinkId, NodeId};
use crate::link::transport::datagram::MAX_DATAGRAM;
use crate::link::{Budget, Egress, EgressStats, Priority, Session, SessionConfig};
use crate::time::Instant;

/// One link and what waits on it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) backend: BackendId,
    /// The other end's address, for logs.
    pub(super) remote: String,
    pub(super) session: Session,
    opened: Instant,
    /// When it took the place of another link of its peer, or showed that it lives though its peer has a newer one.
    pub(super) proved: Option<Instant>,
    egress: Egress,
    /// The longest frame it carries.
    max_frame: usize,
    /// A longer one was to be sent.
    had_too_long: bool,
    /// Whether it stands in [`Links::unsettled`].
    will_settle: bool,
    /// Whether the adapter was told that frames wait and has not yet emptied the queue.
    signalled: bool,
    /// Whether the adapter was told to close.
    pub(super) closing: bool,
    /// When the session's timer is looked at next: never later than its deadline, but it may be earlier, since traffic
    /// moves the idle deadline and must not cost a timer operation per frame.
    timer: Option<Instant>,
}

/// One link, its peer, and what waits on it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LinkStats {
    /// The link.
    pub link: LinkId,
    /// The backend that made it.
    pub backend: BackendId,
    /// The other end's address, for logs.
    pub remote: String,
    /// The peer, once it is accepted.
    pub peer: Option<NodeId>,
    /// Its queues.
    pub egress: EgressStats,
}

/// What became of a pushed frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pushed {
    /// Queued, and the adapter knows.
    Queued,
    /// Queued, and the adapter must be told.
    Signal,
    /// No room.
    Dropped,
    /// The link cannot carry a frame of this length.
    TooLong {
        /// It is the first one.
        is_first: bool,
    },
    /// No such link, or it is closing.
    Gone,
}

#[derive(Debug)]
pub(super) struct Links {
    table: HashMap<LinkId, Link, FixedState>,
    timers: BTreeSet<(Instant, LinkId)>,
    peers: BTreeMap<NodeId, LinkId>,
    /// Links without an accepted peer, the oldest first.
    unaccepted: BTreeSet<(Instant, LinkId)>,
    queue_bytes: usize,
    budget: Budget,
    seed: u64,
    /// The latest time that was told: when frames that are pushed now began to wait.
    now: Instant,
    /// Links with frames that came at this very time, and may leave before it passes.
    unsettled: Vec<LinkId>,
}

impl Link {
    /// What its queue did.
    pub(super) fn stats(&self) -> EgressStats {
        self.egress.stats()
    }
}

impl Links {
    pub(super) fn new(queue_bytes: usize, node_queue_bytes: usize, seed: u64) -> Self {
        Self {
            table: HashMap::with_hasher(FixedState::with_seed(seed)),
            timers: BTreeSet::new(),
            peers: BTreeMap::new(),
            unaccepted: BTreeSet::new(),
            queue_bytes,
            budget: Budget::new(node_queue_bytes),
            seed,
            now: Instant::ZERO,
            unsettled: Vec::new(),
        }
    }

    /// Time passes. Frames that are still here have to wait, and must not keep the buffers they came in.
    pub(super) fn advance(&mut self, now: Instant) {
        if now <= self.now {
            return;
        }
        self.now = now;
        while let Some(id) = self.unsettled.pop() {
            if let Some(link) = self.table.get_mut(&id) {
                link.will_settle = false;
                link.egress.settle(&mut self.budget);
            }
        }
    }

    /// All links and what their queues hold and did, in no order.
    pub(super) fn stats(&self) -> impl Iterator<Item = LinkStats> + '_ {
        self.table.iter().map(|(&id, link)| LinkStats {
            link: id,
            backend: link.backend,
            remote: link.remote.clone(),
            peer: link.session.peer().map(|(peer, _)| peer.clone()),
            egress: link.egress.stats(),
        })
    }

    /// Bytes that the queues of all links hold together.
    pub(super) fn held(&self) -> usize {
        self.budget.held()
    }

    /// The peer of a link is one of our kind, or it is not.
    pub(super) fn set_extended(&mut self, id: LinkId, is_extended: bool) {
        if let Some(link) = self.table.get_mut(&id) {
            link.egress.set_extended(is_extended);
        }
    }

    /// The links of a backend that are not closing, in the order of their IDs.
    pub(super) fn of_backend(&self, backend: BackendId) -> Vec<LinkId> {
        let of_it = |(&id, link): (&LinkId, &Link)| (link.backend == backend && !link.closing).then_some(id);
        let mut ids: Vec<_> = self.table.iter().filter_map(of_it).collect();
        ids.sort_unstable();
        ids
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn contains(&self, id: LinkId) -> bool {
        self.table.contains_key(&id)
    }

    pub(super) fn open(
        &mut self,
        now: Instant,
        id: LinkId,
        backend: BackendId,
        remote: String,
        config: SessionConfig,
        max_frame: usize,
    ) {
        let link = Link {
            backend,
            remote,
            session: Session::new(config, now),
            opened: now,
            proved: None,
            egress: Egress::new(self.queue_bytes, self.seed ^ id.0),
            max_frame,
            had_too_long: false,
            will_settle: false,
            signalled: false,
            closing: false,
            timer: None,
        };
        self.table.insert(id, link);
        self.unaccepted.insert((now, id));
        self.rearm(id);
    }

    /// The oldest link without an accepted peer, if there are more than `limit` of them; it is not counted any more.
    pub(super) fn pop_unaccepted(&mut self, limit: usize) -> Option<LinkId> {
        if self.unaccepted.len() <= limit {
            return None;
        }
        self.unaccepted.pop_first().map(|(_, id)| id)
    }

    /// A link that is not closing.
    pub(super) fn live(&mut self, id: LinkId) -> Option<&mut Link> {
        self.table.get_mut(&id).filter(|link| !link.closing)
    }

    /// Any link, closing ones included.
    pub(super) fn any(&mut self, id: LinkId) -> Option<&mut Link> {
        self.table.get_mut(&id)
    }

    /// Takes a link out of the table.
    pub(super) fn remove(&mut self, id: LinkId) -> Option<Link> {
        let mut link = self.table.remove(&id)?;
        link.egress.close(&mut self.budget);
        self.unaccepted.remove(&(link.opened, id));
        if let Some(at) = link.timer {
            self.timers.remove(&(at, id));
        }
        if let Some((peer, _)) = link.session.peer()
            && self.peers.get(peer) == Some(&id)
        {
            self.peers.remove(peer);
        }
        Some(link)
    }

    /// Whether an accepted session with this node exists.
    pub(super) fn is_connected(&self, peer: &str) -> bool {
        self.peers.contains_key(peer)
    }

    /// The accepted session with this node.
    pub(super) fn link_of(&self, peer: &NodeId) -> Option<LinkId> {
        self.peers.get(peer).copied()
    }

    pub(super) fn set_peer(&mut self, peer: NodeId, id: LinkId) {
        if let Some(link) = self.table.get(&id) {
            self.unaccepted.remove(&(link.opened, id));
        }
        self.peers.insert(peer, id);
    }

    pub(super) fn forget_peer(&mut self, peer: &NodeId) {
        self.peers.remove(peer);
    }

    pub(super) fn push(&mut self, id: LinkId, priority: Priority, frame: BytesMut) -> Pushed {
        let Some(link) = self.table.get_mut(&id).filter(|link| !link.closing) else {
            return Pushed::Gone;
        };
        if frame.is_empty() || frame.len() > link.max_frame {
            let is_first = !core::mem::replace(&mut link.had_too_long, true);
            return Pushed::TooLong { is_first };
        }
        if !link.egress.push(self.now, priority, frame, &mut self.budget) {
            return Pushed::Dropped;
        }
        if !link.will_settle && link.egress.is_unsettled() {
            link.will_settle = true;
            self.unsettled.push(id);
        }
        if link.signalled {
            return Pushed::Queued;
        }
        link.signalled = true;
        Pushed::Signal
    }

    /// Whether a link does not carry a frame of so many bytes. Those of up to [`MAX_DATAGRAM`] all do.
    #[inline]
    pub(super) fn is_too_long(&self, id: LinkId, len: usize) -> bool {
        len > MAX_DATAGRAM && self.max_frame(id).is_some_and(|max| len > max)
    }

    /// The longest frame that a link carries.
    pub(super) fn max_frame(&self, id: LinkId) -> Option<usize> {
        Some(self.table.get(&id)?.max_frame)
    }

    /// Whether streams of this node should hold back on this link.
    pub(super) fn is_congested(&self, id: LinkId) -> bool {
        self.table.get(&id).is_some_and(|link| link.egress.is_congested())
    }

    /// Whether those that held back should go on.
    pub(super) fn has_room(&self, id: LinkId) -> bool {
        self.table.get(&id).is_none_or(|link| link.egress.has_room())
    }

    /// Moves frames of up to about `max_bytes` out; returns whether the queue is empty now.
    pub(super) fn pull(&mut self, id: LinkId, max_bytes: usize, into: &mut Vec<BytesMut>) -> bool {
        let Some(link) = self.table.get_mut(&id) else {
            return true;
        };
        let mut taken = 0;
        while taken < max_bytes {
            let Some(frame) = link.egress.pop(self.now, &mut self.budget) else {
                break;
            };
            taken += frame.len();
            into.push(frame);
        }
        link.signalled = !link.egress.is_empty();
        !link.signalled
    }

    /// Arms the timer for the session's deadline if that is earlier than what is armed.
    pub(super) fn rearm(&mut self, id: LinkId) {
        let Some(link) = self.table.get_mut(&id) else { return };
        let Deadline::At(at, _) = link.session.next_deadline() else {
            return;
        };
        if link.timer.is_some_and(|armed| armed <= at) {
            return;
        }
        if let Some(armed) = link.timer.replace(at) {
            self.timers.remove(&(armed, id));
        }
        self.timers.insert((at, id));
    }

    /// The next link whose timer is due, disarmed.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<LinkId> {
        let &(at, id) = self.timers.first()?;
        if at > now {
            return None;
        }
        self.timers.pop_first();
        if let Some(link) = self.table.get_mut(&id) {
            link.timer = None;
        }
        Some(id)
    }

    pub(super) fn next_deadline(&self) -> Deadline {
        Deadline::at(self.timers.first().map(|&(at, _)| at), "link timer")
    }
}
