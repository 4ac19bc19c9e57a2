//! Frames that wait for a link's socket.
//!
//! Control messages go before data. Data is fair between flows, that is pairs of services: each has its turn, and one that
//! sends little does not wait behind one that sends much. A frame that has waited too long is marked, so that its sender
//! slows down; where there is no room the flow with most bytes loses its oldest frame. What waits is counted as the memory
//! it pins, per link and over all links of a node.

mod budget;
mod flows;
mod store;

#[cfg(test)]
mod tests;

pub use budget::Budget;

use alloc::collections::VecDeque;
use core::hash::BuildHasher as _;
use core::mem;
use core::time::Duration;

use bytes::BytesMut;
use foldhash::fast::FixedState;

use self::flows::{Flows, Turn};
use self::store::{SLOT_BYTES, Store};
use crate::time::Instant;
use crate::wire::data;

/// A frame that has waited longer is marked: the queue and not only its burst is too long. RFC 8290 has the same target.
///
/// Not what a flow sends in its last turn (RFC 8289 §5.1 has it for the last packet): on a slow link that has waited for the
/// turns of others, which take longer than this. A slow flow would be marked for the queue of a fast one, and stay slow.
pub const MARK_AFTER: Duration = Duration::from_millis(5);

/// Frames of this node that may wait on one link: enough for a gathered write, and as much again while that is written.
const OWN_BYTES: usize = 512 << 10;

/// More room for each flow of this node, so that each can have its turn in every round.
const OWN_FLOW_BYTES: usize = 32 << 10;

/// Frames dropped to make room for one.
const DROPPED_FOR_ONE: usize = 64;

/// Which queue a frame waits in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Priority {
    /// Routing and other control messages: sent before any data, so that load never cuts the mesh.
    Control,
    /// A data message made on this node, in memory of its own.
    Own,
    /// A data message on its way through this node, in a buffer that it shares with others.
    Transit,
}

/// What a queue holds and did. Counts are since the link came up.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct EgressStats {
    /// Frames that wait.
    pub queued_frames: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// The memory they are in, and that of their places in the queue.
    pub held_bytes: usize,
    /// Flows of data at the moment.
    pub flows: usize,
    /// Frames given to the connection.
    pub sent_frames: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Data frames that were marked for having waited too long, see [`MARK_AFTER`].
    pub marked: u64,
    /// Data frames dropped because the link's own limit was reached.
    pub dropped_link_full: u64,
    /// Data frames dropped because the queues of all links together held too much.
    pub dropped_node_full: u64,
    /// Control messages for which there was no room: the link is closed then.
    pub dropped_control: u64,
}

impl EgressStats {
    /// Frames dropped for whatever reason.
    pub const fn dropped(&self) -> u64 {
        self.dropped_link_full + self.dropped_node_full + self.dropped_control
    }
}

/// The queues of one link.
#[derive(Debug)]
pub struct Egress {
    control: VecDeque<BytesMut>,
    control_bytes: usize,
    flows: Flows,
    data: Store,
    data_bytes: usize,
    own_bytes: usize,
    /// What the budget was told last.
    reported: usize,
    limit: usize,
    keys: FixedState,
    is_extended: bool,
    stats: EgressStats,
}

impl Egress {
    /// Counted for each waiting frame on top of its length.
    pub const FRAME_OVERHEAD: usize = SLOT_BYTES;

    /// Queues that hold up to `limit` bytes of data and as much again of control messages. `seed` tells flows apart.
    pub fn new(limit: usize, seed: u64) -> Self {
        Self {
            control: VecDeque::new(),
            control_bytes: 0,
            flows: Flows::new(seed),
            data: Store::new(),
            data_bytes: 0,
            own_bytes: 0,
            reported: 0,
            limit,
            keys: FixedState::with_seed(seed),
            is_extended: false,
            stats: EgressStats::default(),
        }
    }

    /// Whether the peer is one of our kind. Others get data frames without flags.
    pub fn set_extended(&mut self, is_extended: bool) {
        self.is_extended = is_extended;
    }

    /// Queues a frame. `false` if it found no room and was dropped: for data that is congestion, for control messages
    /// the link is of no use any more.
    pub fn push(&mut self, now: Instant, priority: Priority, frame: BytesMut, budget: &mut Budget) -> bool {
        let taken = match priority {
            Priority::Control => self.push_control(frame),
            Priority::Own | Priority::Transit => self.push_data(now, priority == Priority::Own, frame, budget),
        };
        self.report(budget);
        taken
    }

    fn push_control(&mut self, frame: BytesMut) -> bool {
        let cost = frame.len() + Self::FRAME_OVERHEAD;
        if self.control_bytes + cost > self.limit {
            self.stats.dropped_control += 1;
            return false;
        }
        self.control_bytes += cost;
        self.control.push_back(frame);
        true
    }

    fn push_data(&mut self, now: Instant, is_own: bool, frame: BytesMut, budget: &mut Budget) -> bool {
        let cost = frame.len() + Self::FRAME_OVERHEAD;
        for _ in 0..DROPPED_FOR_ONE {
            if self.data.held() + cost <= self.room(budget) || !self.drop_one(budget) {
                break;
            }
        }
        if self.data.held() + cost > self.room(budget) {
            self.count_drop(budget);
            return false;
        }
        let key = self.keys.hash_one(frame.get(data::FLOW).unwrap_or_default());
        self.data_bytes += frame.len();
        self.own_bytes += if is_own { frame.len() } else { 0 };
        let slot = self.data.insert(frame, now, !is_own);
        self.flows.push(key, slot, is_own, &mut self.data);
        true
    }

    /// Memory that data may be in.
    fn room(&self, budget: &Budget) -> usize {
        self.limit.min(budget.share())
    }

    /// Drops the oldest frame of the fattest flow, if there is one.
    fn drop_one(&mut self, budget: &mut Budget) -> bool {
        let Some((frame, _, is_own)) = self.flows.drop_from_fattest(&mut self.data, budget) else {
            return false;
        };
        self.count_drop(budget);
        self.forget(&frame, is_own);
        self.report(budget);
        true
    }

    fn forget(&mut self, frame: &BytesMut, is_own: bool) {
        self.data_bytes -= frame.len();
        self.own_bytes -= if is_own { frame.len() } else { 0 };
    }

    fn count_drop(&mut self, budget: &Budget) {
        if budget.share() < self.limit {
            self.stats.dropped_node_full += 1;
        } else {
            self.stats.dropped_link_full += 1;
        }
    }

    /// Tells the budget what is held now.
    fn report(&mut self, budget: &mut Budget) {
        let held = self.held();
        budget.update(mem::replace(&mut self.reported, held), held);
    }

    /// The frame to send next.
    pub fn pop(&mut self, now: Instant, budget: &mut Budget) -> Option<BytesMut> {
        let frame = self.pop_control().or_else(|| self.pop_data(now, budget));
        self.report(budget);
        let frame = frame?;
        self.stats.sent_frames += 1;
        self.stats.sent_bytes += frame.len() as u64;
        Some(frame)
    }

    fn pop_control(&mut self) -> Option<BytesMut> {
        let frame = self.control.pop_front()?;
        self.control_bytes -= frame.len() + Self::FRAME_OVERHEAD;
        Some(frame)
    }

    fn pop_data(&mut self, now: Instant, budget: &mut Budget) -> Option<BytesMut> {
        let Turn {
            mut frame,
            since,
            is_own,
            is_last,
        } = self.flows.pop(&mut self.data, budget)?;
        self.forget(&frame, is_own);
        if !self.is_extended {
            data::clear_flags(&mut frame);
        } else if now.since(since) > MARK_AFTER && !is_last {
            data::mark(&mut frame);
            self.stats.marked += 1;
        }
        Some(frame)
    }

    /// The frames that are here now have to wait: from now on they pin no buffers they were read into.
    pub fn settle(&mut self, budget: &mut Budget) {
        if !self.data.has_borrowed() {
            return;
        }
        self.data.settle(budget);
        self.report(budget);
        // Blocks are larger than what is in them.
        while self.data.held() > self.limit && self.drop_one(budget) {}
    }

    /// Whether frames wait that pin the buffer they were read into.
    pub fn is_unsettled(&self) -> bool {
        self.data.has_borrowed()
    }

    /// The link is gone: gives back what it held. The counts stay.
    pub fn close(&mut self, budget: &mut Budget) {
        budget.update(self.reported, 0);
        let stats = self.stats;
        *self = Self::new(self.limit, 0);
        self.stats = stats;
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && self.data.len() == 0
    }

    /// Whether the streams of this node should hold back: they have enough waiting for the next gathered writes, and more
    /// would only be delay. Frames on their way through cannot be told to wait, and do not count.
    pub fn is_congested(&self) -> bool {
        self.own_bytes > self.own_room()
    }

    /// Whether the streams of this node, once they held back, should go on.
    pub fn has_room(&self) -> bool {
        self.own_bytes <= self.own_room() / 2
    }

    fn own_room(&self) -> usize {
        (OWN_BYTES + self.flows.own() * OWN_FLOW_BYTES).min(self.limit / 2)
    }

    /// Memory in use for everything that waits.
    fn held(&self) -> usize {
        self.control_bytes + self.data.held()
    }

    /// What is here and what was.
    pub fn stats(&self) -> EgressStats {
        let control = self.control.len();
        EgressStats {
            queued_frames: control + self.data.len(),
            queued_bytes: self.control_bytes - control * Self::FRAME_OVERHEAD + self.data_bytes,
            held_bytes: self.held(),
            flows: self.flows.len(),
            ..self.stats
        }
    }
}
