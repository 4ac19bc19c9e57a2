//! Where waiting frames are kept, and what that costs in memory.

use alloc::vec::Vec;
use core::mem;

use bytes::BytesMut;

use super::budget::Budget;
use crate::time::Instant;

/// No slot, or no block.
pub(super) const NONE: u32 = u32::MAX;

/// Counted for each waiting frame besides its bytes.
pub(super) const SLOT_BYTES: usize = 64;

/// Slots kept for later when nothing waits.
const KEPT_SLOTS: usize = 4096;

/// Whose memory a frame is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Home {
    /// Its own.
    Own,
    /// A buffer that many frames were read into, and that lives as long as any of them.
    Borrowed,
    /// A block of this store.
    Block(u32),
}

#[derive(Debug)]
struct Slot {
    frame: BytesMut,
    since: Instant,
    home: Home,
    /// The next frame of the flow, or the next free slot.
    next: u32,
}

/// Memory that frames which had to wait were copied to.
#[derive(Debug)]
struct Block {
    /// What is still free of it.
    rest: BytesMut,
    size: usize,
    /// Waiting frames in it.
    frames: u32,
}

/// Frames in numbered slots, linked to lists by whoever queues them.
#[derive(Debug)]
pub(super) struct Store {
    slots: Vec<Slot>,
    free_slot: u32,
    used: usize,
    blocks: Vec<Block>,
    free_blocks: Vec<u32>,
    /// The block that frames are copied to.
    current: u32,
    /// Slots whose frame is borrowed, and others that were.
    borrowed: Vec<u32>,
    borrowed_frames: usize,
    borrowed_bytes: usize,
    held: usize,
}

impl Store {
    pub(super) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free_slot: NONE,
            used: 0,
            blocks: Vec::new(),
            free_blocks: Vec::new(),
            current: NONE,
            borrowed: Vec::new(),
            borrowed_frames: 0,
            borrowed_bytes: 0,
            held: 0,
        }
    }

    /// Frames kept.
    pub(super) const fn len(&self) -> usize {
        self.used
    }

    /// Bytes of memory that are in use for them. Frames that are still borrowed count with their length.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    pub(super) const fn has_borrowed(&self) -> bool {
        self.borrowed_frames > 0
    }

    pub(super) fn insert(&mut self, frame: BytesMut, since: Instant, borrowed: bool) -> u32 {
        let home = if borrowed { Home::Borrowed } else { Home::Own };
        self.held += SLOT_BYTES + frame.len();
        self.used += 1;
        let bytes = frame.len();
        let slot = Slot {
            frame,
            since,
            home,
            next: NONE,
        };
        let index = if self.free_slot == NONE {
            self.slots.push(slot);
            (self.slots.len() - 1) as u32
        } else {
            let index = self.free_slot;
            self.free_slot = self.slots[index as usize].next;
            self.slots[index as usize] = slot;
            index
        };
        if borrowed {
            self.borrowed_frames += 1;
            self.borrowed_bytes += bytes;
            if self.borrowed.len() > 2 * self.slots.len() {
                // Slots were used several times since frames were last copied.
                self.borrowed.sort_unstable();
                self.borrowed.dedup();
            }
            self.borrowed.push(index);
        }
        index
    }

    /// The frame, since when it was here, and whether it was in memory of its own from the beginning.
    pub(super) fn remove(&mut self, index: u32, budget: &mut Budget) -> (BytesMut, Instant, bool) {
        let slot = &mut self.slots[index as usize];
        let frame = mem::take(&mut slot.frame);
        let (since, home) = (slot.since, mem::replace(&mut slot.home, Home::Own));
        slot.next = self.free_slot;
        self.free_slot = index;
        self.used -= 1;
        self.held -= SLOT_BYTES;
        match home {
            Home::Own => self.held -= frame.len(),
            Home::Borrowed => {
                self.held -= frame.len();
                self.borrowed_frames -= 1;
                self.borrowed_bytes -= frame.len();
                if self.borrowed_frames == 0 {
                    self.borrowed.clear();
                }
            }
            Home::Block(block) => {
                self.blocks[block as usize].frames -= 1;
                if block != self.current {
                    self.release(block, budget);
                }
            }
        }
        if self.used == 0 {
            self.rest(budget);
        }
        (frame, since, home == Home::Own)
    }

    pub(super) fn next(&self, slot: u32) -> u32 {
        self.slots[slot as usize].next
    }

    pub(super) fn set_next(&mut self, slot: u32, next: u32) {
        self.slots[slot as usize].next = next;
    }

    pub(super) fn frame_len(&self, slot: u32) -> usize {
        self.slots[slot as usize].frame.len()
    }

    /// Copies borrowed frames, which have to wait, so that they do not keep whole read buffers alive.
    pub(super) fn settle(&mut self, budget: &mut Budget) {
        let mut borrowed = mem::take(&mut self.borrowed);
        for index in borrowed.drain(..) {
            if self.slots[index as usize].home == Home::Borrowed {
                self.copy(index, budget);
            }
        }
        self.borrowed = borrowed;
    }

    fn copy(&mut self, index: u32, budget: &mut Budget) {
        let len = self.frame_len(index);
        let has_room = |block: &Block| block.rest.capacity() >= len;
        if self.current == NONE || !has_room(&self.blocks[self.current as usize]) {
            let full = mem::replace(&mut self.current, NONE);
            self.release(full, budget);
            self.current = self.open_block(budget);
        }
        let block = &mut self.blocks[self.current as usize];
        let slot = &mut self.slots[index as usize];
        block.rest.extend_from_slice(&slot.frame);
        slot.frame = block.rest.split();
        slot.home = Home::Block(self.current);
        block.frames += 1;
        self.held -= len;
        self.borrowed_frames -= 1;
        self.borrowed_bytes -= len;
    }

    /// A block for all that is still borrowed, as far as one can be so large.
    fn open_block(&mut self, budget: &mut Budget) -> u32 {
        let rest = budget.take(self.borrowed_bytes);
        let size = rest.capacity();
        self.held += size;
        let block = Block { rest, size, frames: 0 };
        if let Some(index) = self.free_blocks.pop() {
            self.blocks[index as usize] = block;
            index
        } else {
            self.blocks.push(block);
            (self.blocks.len() - 1) as u32
        }
    }

    /// Gives a block back if nothing in it waits.
    fn release(&mut self, index: u32, budget: &mut Budget) {
        let Some(block) = self.blocks.get_mut(index as usize).filter(|block| block.frames == 0) else {
            return;
        };
        self.held -= block.size;
        budget.give(mem::take(&mut block.rest), block.size);
        self.free_blocks.push(index);
    }

    /// Nothing waits: memory is given back, but for what the next frames need.
    fn rest(&mut self, budget: &mut Budget) {
        let current = mem::replace(&mut self.current, NONE);
        self.release(current, budget);
        debug_assert_eq!((self.held, self.borrowed_frames, self.borrowed_bytes), (0, 0, 0));
        if self.slots.len() > KEPT_SLOTS {
            *self = Self::new();
        }
    }
}
