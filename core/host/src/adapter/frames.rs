//! Frames out of a connection: where to read to, and what to cut from it.

use std::collections::VecDeque;

use bytes::BytesMut;
use receptor_core::link::framing;

/// Size of a fresh read buffer, which all links of a driver share.
const READ_BUFFER: usize = 256 << 10;

/// A read wants at least this much room.
const READ_LEAST: usize = 16 << 10;

/// Buffers that are kept although they are used up, until the frames in them are gone.
const SPENT_MOST: usize = 8;

/// Where all links of a driver read to.
///
/// A buffer is used again when nobody holds a frame of it any more: fresh memory costs a page fault for every 4 KiB.
#[derive(Default, Debug)]
pub struct ReadBuffer {
    /// The rest of the buffer in use; what stands in it means nothing.
    current: BytesMut,
    /// Empty handles of the buffers before it.
    spent: VecDeque<BytesMut>,
}

impl ReadBuffer {
    /// Room for a read behind so many bytes.
    fn make_room(&mut self, filled: usize) {
        if self.current.capacity() < READ_LEAST + filled {
            self.renew();
        }
    }

    fn renew(&mut self) {
        self.current.clear();
        if !self.current.try_reclaim(READ_BUFFER) {
            self.spent.push_back(std::mem::take(&mut self.current));
            let free = self.spent.iter_mut().position(|spent| spent.try_reclaim(READ_BUFFER));
            let free = free.and_then(|index| self.spent.remove(index));
            self.current = free.unwrap_or_else(|| BytesMut::with_capacity(READ_BUFFER));
            if self.spent.len() > SPENT_MOST {
                self.spent.pop_front();
            }
        }
    }
}

/// The reading side of one link.
///
/// Links read into one shared buffer, and frames are slices of it; a link keeps only the front of a frame whose rest has not
/// come.
#[derive(Default, Debug)]
pub struct FrameReader {
    /// The front of a frame whose rest has not come. Longer than `filled` while the frame is gathered here.
    partial: BytesMut,
    filled: usize,
    /// Bytes of the last read: they pay for moving `partial`.
    last_read: usize,
}

impl FrameReader {
    /// Where the next read goes to; never empty. What is not read is forgotten.
    pub fn room<'a>(&'a mut self, shared: &'a mut ReadBuffer) -> &'a mut [u8] {
        if self.gathers() {
            return &mut self.partial[self.filled..];
        }
        shared.make_room(self.filled);
        // Zeros cost as much as a copy, so who can does without: see `spare_room`.
        shared.current.resize(shared.current.capacity(), 0);
        shared.current[..self.filled].copy_from_slice(&self.partial);
        &mut shared.current[self.filled..]
    }

    /// The same for reads that append to a buffer and need no initialised memory. `None` if only [`Self::room`] will do.
    pub fn spare_room<'a>(&'a mut self, shared: &'a mut ReadBuffer) -> Option<&'a mut BytesMut> {
        if self.gathers() {
            return None;
        }
        shared.make_room(self.filled);
        shared.current.clear();
        shared.current.extend_from_slice(&self.partial);
        Some(&mut shared.current)
    }

    /// A frame that comes in crumbs is gathered in its own buffer; else every crumb would move all that is there.
    fn gathers(&mut self) -> bool {
        if !self.is_gathering() && self.filled > self.last_read {
            self.partial.resize(self.filled + framing::missing(&self.partial), 0);
        }
        self.is_gathering()
    }

    /// Cuts whole frames, after `count` bytes were read to [`Self::room`] or [`Self::spare_room`].
    pub fn received(&mut self, count: usize, shared: &mut ReadBuffer, frames: &mut Vec<BytesMut>) {
        self.last_read = count;
        if self.is_gathering() {
            self.filled += count;
            if self.is_gathering() {
                return;
            }
            frames.extend(std::iter::from_fn(|| framing::next_frame(&mut self.partial)));
        } else {
            let mut read = shared.current.split_to(self.filled + count);
            frames.extend(std::iter::from_fn(|| framing::next_frame(&mut read)));
            self.partial.clear();
            self.partial.extend_from_slice(&read);
            // The rest was copied, so its room is free again.
            read.unsplit(std::mem::take(&mut shared.current));
            shared.current = read;
        }
        self.filled = self.partial.len();
        if self.partial.is_empty() {
            // Idle links hold no memory.
            self.partial = BytesMut::new();
        }
    }

    /// Bytes of the frame that has not come as a whole.
    pub fn waiting(&self) -> usize {
        self.filled
    }

    fn is_gathering(&self) -> bool {
        self.partial.len() > self.filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
        frames
            .iter()
            .flat_map(|f| [&(f.len() as u16).to_le_bytes()[..], f].concat())
            .collect()
    }

    #[test]
    fn frames_are_cut_from_any_slicing() {
        let samples = vec![vec![1], vec![2; 300], vec![3; 65_535], vec![4; 2], vec![5; 40_000]];
        let stream = framed(&samples);
        for slice in [1, 2, 3, 999, 20_000, 50_000, stream.len()] {
            let (mut reader, mut shared, mut frames) = (FrameReader::default(), ReadBuffer::default(), Vec::new());
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let room = reader.room(&mut shared);
                let count = slice.min(room.len()).min(rest.len());
                room[..count].copy_from_slice(&rest[..count]);
                rest = &rest[count..];
                reader.received(count, &mut shared, &mut frames);
            }
            assert_eq!(frames, samples, "slices of {slice}");
            assert_eq!((reader.waiting(), reader.partial.capacity()), (0, 0));
        }
    }

    #[test]
    fn links_share_a_buffer_and_a_read_that_gave_nothing_costs_nothing() {
        let (mut a, mut b) = (FrameReader::default(), FrameReader::default());
        let (mut shared, mut frames) = (ReadBuffer::default(), Vec::new());
        let feed = |reader: &mut FrameReader, shared: &mut ReadBuffer, frames: &mut Vec<BytesMut>, bytes: &[u8]| {
            // Nothing came for a while.
            reader.room(shared).fill(0xee);
            reader.room(shared)[..bytes.len()].copy_from_slice(bytes);
            reader.received(bytes.len(), shared, frames);
        };
        feed(&mut a, &mut shared, &mut frames, b"\x04\0on");
        feed(&mut b, &mut shared, &mut frames, b"\x03\0two\x05");
        feed(&mut a, &mut shared, &mut frames, b"e1");
        feed(&mut b, &mut shared, &mut frames, b"\0three");
        assert_eq!(frames, [&b"two"[..], b"one1", b"three"]);
    }

    #[test]
    fn bytes_that_were_carried_over_do_not_use_the_buffer_up() {
        let (mut reader, mut shared, mut frames) = (FrameReader::default(), ReadBuffer::default(), Vec::new());
        reader.room(&mut shared)[..4].copy_from_slice(b"\x09\0ab");
        reader.received(4, &mut shared, &mut frames);
        assert_eq!((shared.current.len(), reader.waiting()), (READ_BUFFER, 4));
    }

    #[test]
    fn both_ways_to_read_give_the_same_frames_in_turn() {
        let samples = vec![
            vec![1],
            vec![2; 300],
            vec![3; 65_535],
            vec![4; 2],
            vec![5; 40_000],
            vec![6; 15_000],
        ];
        let stream = framed(&samples);
        for slice in [1, 3, 999, 20_000, 50_000, stream.len()] {
            let (mut reader, mut shared, mut frames) = (FrameReader::default(), ReadBuffer::default(), Vec::new());
            let (mut rest, mut turn) = (&stream[..], 0);
            while !rest.is_empty() {
                turn += 1;
                let count = if turn % 3 > 0
                    && let Some(buffer) = reader.spare_room(&mut shared)
                {
                    assert!(buffer.capacity() - buffer.len() >= READ_LEAST);
                    let count = slice.min(buffer.capacity() - buffer.len()).min(rest.len());
                    buffer.extend_from_slice(&rest[..count]);
                    count
                } else {
                    let room = reader.room(&mut shared);
                    let count = slice.min(room.len()).min(rest.len());
                    room[..count].copy_from_slice(&rest[..count]);
                    count
                };
                rest = &rest[count..];
                reader.received(count, &mut shared, &mut frames);
                // Another link that has nothing, for now.
                FrameReader::default().spare_room(&mut shared);
            }
            assert_eq!(frames, samples, "slices of {slice}");
        }
    }

    #[test]
    fn a_buffer_is_used_again_when_its_frames_are_gone() {
        let (mut reader, mut shared, mut held) = (FrameReader::default(), ReadBuffer::default(), VecDeque::new());
        let mut addresses = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let room = reader.room(&mut shared);
            let framed = framed(&[vec![7; 15_000]]);
            room[..framed.len()].copy_from_slice(&framed);
            let mut frames = Vec::new();
            reader.received(framed.len(), &mut shared, &mut frames);
            addresses.insert(frames[0].as_ptr() as usize / READ_BUFFER);
            // The last few are on their way.
            held.extend(frames);
            if held.len() > 6 {
                held.pop_front();
            }
        }
        assert!(shared.spent.len() <= SPENT_MOST);
        // 200 frames are more than ten buffers' worth; the six that are held lie in two of three. A place is at most two buffers' ends.
        assert!(addresses.len() <= 6, "{} places", addresses.len());
    }
}
