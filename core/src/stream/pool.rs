//! Where outgoing packets are written: large buffers cut into packets, and used again once all of those are gone.

use alloc::collections::VecDeque;

use bytes::BytesMut;

/// Packets of up to this many bytes are cut from buffers of their own kind: one that waits somewhere pins only those.
const SMALL: usize = 512;
/// Sizes of the buffers, in bytes. A waiting packet pins its buffer.
const SMALL_SLAB: usize = 16 * 1024;
const LARGE_SLAB: usize = 256 * 1024;
/// Most buffers of a kind remembered to be used again: 8 MiB, twice what one link may have queued.
const MAX_KEPT: usize = 32;
/// Buffers looked at before a new one is made.
const TRIES: usize = 4;

/// Buffers for packets.
#[derive(Debug, Default)]
pub(super) struct Pool {
    small: Slabs,
    large: Slabs,
    /// Each packet gets memory of its own.
    is_loose: bool,
}

/// Buffers of one size.
#[derive(Debug, Default)]
struct Slabs {
    current: BytesMut,
    /// Empty ends of buffers whose packets are on their way, oldest first.
    used: VecDeque<BytesMut>,
}

impl Pool {
    /// One that keeps nothing.
    pub(super) fn loose() -> Self {
        Self {
            is_loose: true,
            ..Self::default()
        }
    }

    /// An empty buffer with room for `length` bytes; cut the packet off it with `split`.
    pub(super) fn buffer(&mut self, length: usize) -> &mut BytesMut {
        if self.is_loose {
            self.small.current = BytesMut::with_capacity(length);
            return &mut self.small.current;
        }
        if length <= SMALL {
            self.small.room(length, SMALL_SLAB)
        } else {
            self.large.room(length, LARGE_SLAB)
        }
    }

    /// Gives buffers back that hold no packets.
    pub(super) fn trim(&mut self) {
        for slabs in [&mut self.small, &mut self.large] {
            *slabs = Slabs::default();
        }
    }
}

impl Slabs {
    fn room(&mut self, length: usize, slab: usize) -> &mut BytesMut {
        self.current.clear();
        if self.current.capacity() < length {
            self.renew(slab.max(length));
        }
        &mut self.current
    }

    fn renew(&mut self, size: usize) {
        let full = core::mem::take(&mut self.current);
        if full.capacity() > 0 || !self.used.is_empty() {
            self.used.push_back(full);
        }
        for _ in 0..TRIES.min(self.used.len()) {
            let Some(mut slab) = self.used.pop_front() else { break };
            if slab.try_reclaim(size) {
                self.current = slab;
                return;
            }
            self.used.push_back(slab);
        }
        if self.used.len() > MAX_KEPT {
            self.used.pop_front();
        }
        self.current = BytesMut::with_capacity(size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_when_its_packets_are_gone_and_not_before() {
        let mut pool = Pool::default();
        let mut cut = |byte: u8| {
            let buffer = pool.buffer(16_000);
            buffer.resize(16_000, byte);
            buffer.split()
        };
        let held: alloc::vec::Vec<BytesMut> = (0..40).map(&mut cut).collect();
        assert!((0..).zip(&held).all(|(byte, packet)| packet.iter().all(|&b| b == byte)));
        drop(held);
        let places: alloc::collections::BTreeSet<usize> =
            (0..1000).map(|_| cut(0).as_ptr() as usize / LARGE_SLAB).collect();
        assert!(places.len() <= 8, "{}", places.len());
    }

    #[test]
    fn packets_that_are_never_freed_do_not_fill_the_memory_of_the_pool() {
        let mut pool = Pool::default();
        let held: alloc::vec::Vec<BytesMut> = (0..2000)
            .map(|_| {
                let buffer = pool.buffer(500);
                buffer.resize(500, 1);
                buffer.split()
            })
            .collect();
        assert!(held.len() == 2000 && pool.small.used.len() <= MAX_KEPT + 1);
    }
}
