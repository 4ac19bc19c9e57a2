//! Fairness between flows: deficit round robin, and flows that send little go first (RFC 8290 §4).

use alloc::vec::Vec;

use bytes::BytesMut;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::budget::Budget;
use super::store::{NONE, Store};
use crate::time::Instant;

/// Bytes a flow may send in its turn: about one segment of a stream.
const QUANTUM: i64 = 16 << 10;

/// Flows told apart on one link; frames of further flows share [`SHARED_FLOWS`].
const MAX_FLOWS: usize = 1024;

/// Flows for all that are too many.
const SHARED_FLOWS: u64 = 64;

/// Frames of one sender, in order.
#[derive(Debug)]
struct Flow {
    key: u64,
    head: u32,
    tail: u32,
    bytes: usize,
    deficit: i64,
    /// The next flow in its list, or the next free entry.
    next: u32,
    is_own: bool,
}

/// Flows in the order of their turns.
#[derive(Clone, Copy, Debug)]
struct Turns {
    head: u32,
    tail: u32,
}

impl Turns {
    const EMPTY: Self = Self { head: NONE, tail: NONE };

    fn push(&mut self, table: &mut [Flow], flow: u32) {
        table[flow as usize].next = NONE;
        if self.tail == NONE {
            self.head = flow;
        } else {
            table[self.tail as usize].next = flow;
        }
        self.tail = flow;
    }

    fn pop(&mut self, table: &[Flow]) {
        if self.head != NONE {
            self.head = table[self.head as usize].next;
        }
        if self.head == NONE {
            self.tail = NONE;
        }
    }
}

/// A frame whose turn it is.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) frame: BytesMut,
    pub(super) since: Instant,
    pub(super) is_own: bool,
    /// Less than a turn's worth of its flow waits behind it.
    pub(super) is_last: bool,
}

/// All flows that have frames waiting, or had in this round.
#[derive(Debug)]
pub(super) struct Flows {
    by_key: HashMap<u64, u32, FixedState>,
    table: Vec<Flow>,
    free: u32,
    /// Flows that had nothing waiting: they are first, once.
    fresh: Turns,
    others: Turns,
    own: usize,
}

impl Flows {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            by_key: HashMap::with_hasher(FixedState::with_seed(seed)),
            table: Vec::new(),
            free: NONE,
            fresh: Turns::EMPTY,
            others: Turns::EMPTY,
            own: 0,
        }
    }

    /// Flows known at the moment.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// How many of them begin on this node.
    pub(super) const fn own(&self) -> usize {
        self.own
    }

    /// Queues a frame at the end of its flow.
    pub(super) fn push(&mut self, key: u64, slot: u32, is_own: bool, store: &mut Store) {
        let flow = self.flow(key, is_own);
        let flow = &mut self.table[flow as usize];
        if flow.head == NONE {
            flow.head = slot;
        } else {
            store.set_next(flow.tail, slot);
        }
        flow.tail = slot;
        flow.bytes += store.frame_len(slot);
    }

    fn flow(&mut self, key: u64, is_own: bool) -> u32 {
        if let Some(&flow) = self.by_key.get(&key) {
            return flow;
        }
        let mut key = key;
        if self.by_key.len() >= MAX_FLOWS {
            key %= SHARED_FLOWS;
            if let Some(&flow) = self.by_key.get(&key) {
                return flow;
            }
        }
        let flow = Flow {
            key,
            head: NONE,
            tail: NONE,
            bytes: 0,
            deficit: QUANTUM,
            next: NONE,
            is_own,
        };
        let index = if self.free == NONE {
            self.table.push(flow);
            (self.table.len() - 1) as u32
        } else {
            let index = self.free;
            self.free = self.table[index as usize].next;
            self.table[index as usize] = flow;
            index
        };
        self.own += usize::from(is_own);
        self.by_key.insert(key, index);
        self.fresh.push(&mut self.table, index);
        index
    }

    /// The frame whose turn it is.
    pub(super) fn pop(&mut self, store: &mut Store, budget: &mut Budget) -> Option<Turn> {
        loop {
            let is_fresh = self.fresh.head != NONE;
            let turns = if is_fresh { &mut self.fresh } else { &mut self.others };
            let index = turns.head;
            let flow = self.table.get_mut(index as usize)?;
            if flow.head == NONE {
                turns.pop(&self.table);
                if is_fresh && self.others.head != NONE {
                    // It stays for a round: else it could come back as a fresh one and always be the first.
                    self.others.push(&mut self.table, index);
                } else {
                    self.forget(index);
                }
            } else if flow.deficit <= 0 {
                flow.deficit += QUANTUM;
                turns.pop(&self.table);
                self.others.push(&mut self.table, index);
            } else {
                let (frame, since, is_own) = self.take_head(index, store, budget);
                let flow = &mut self.table[index as usize];
                flow.deficit -= frame.len() as i64;
                return Some(Turn {
                    frame,
                    since,
                    is_own,
                    is_last: (flow.bytes as i64) < QUANTUM,
                });
            }
        }
    }

    /// Takes the oldest frame of the flow that has most bytes waiting, as [`Store::remove`] tells it.
    pub(super) fn drop_from_fattest(
        &mut self,
        store: &mut Store,
        budget: &mut Budget,
    ) -> Option<(BytesMut, Instant, bool)> {
        let (index, flow) = (0..).zip(&self.table).max_by_key(|(_, flow)| flow.bytes)?;
        (flow.head != NONE).then(|| self.take_head(index, store, budget))
    }

    fn take_head(&mut self, index: u32, store: &mut Store, budget: &mut Budget) -> (BytesMut, Instant, bool) {
        let flow = &mut self.table[index as usize];
        let slot = flow.head;
        flow.head = store.next(slot);
        flow.bytes -= store.frame_len(slot);
        store.remove(slot, budget)
    }

    /// A flow that is in no list any more.
    fn forget(&mut self, index: u32) {
        let flow = &mut self.table[index as usize];
        self.own -= usize::from(flow.is_own);
        self.by_key.remove(&flow.key);
        flow.next = self.free;
        self.free = index;
    }
}
