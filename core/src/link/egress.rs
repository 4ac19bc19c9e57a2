//! Frames that wait for a link's socket.

use alloc::collections::VecDeque;

use bytes::BytesMut;

/// Which queue a frame waits in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Priority {
    /// Routing and other control messages: sent before any data, so that load never cuts the mesh.
    Control,
    /// Data messages.
    Data,
}

/// A bounded two-class queue. Bytes are counted with [`Egress::FRAME_OVERHEAD`], so that many small frames cannot hold
/// more memory than the limit says.
#[derive(Debug)]
pub struct Egress {
    control: VecDeque<BytesMut>,
    data: VecDeque<BytesMut>,
    control_bytes: usize,
    data_bytes: usize,
    limit: usize,
    dropped: u64,
}

impl Egress {
    /// Counted for each waiting frame on top of its length.
    pub const FRAME_OVERHEAD: usize = 64;

    /// A queue that holds up to `limit` bytes of data and as much again of control messages.
    pub fn new(limit: usize) -> Self {
        Self {
            control: VecDeque::new(),
            data: VecDeque::new(),
            control_bytes: 0,
            data_bytes: 0,
            limit,
            dropped: 0,
        }
    }

    /// Queues a frame. `false` if it found no room and was dropped: for data that is congestion, for control messages
    /// the link is of no use any more.
    pub fn push(&mut self, priority: Priority, frame: BytesMut) -> bool {
        let cost = frame.len() + Self::FRAME_OVERHEAD;
        let (queue, bytes) = match priority {
            Priority::Control => (&mut self.control, &mut self.control_bytes),
            Priority::Data => (&mut self.data, &mut self.data_bytes),
        };
        if *bytes + cost > self.limit {
            self.dropped += 1;
            return false;
        }
        *bytes += cost;
        queue.push_back(frame);
        true
    }

    /// The frame to send next.
    pub fn pop(&mut self) -> Option<BytesMut> {
        if let Some(frame) = self.control.pop_front() {
            self.control_bytes -= frame.len() + Self::FRAME_OVERHEAD;
            return Some(frame);
        }
        let frame = self.data.pop_front()?;
        self.data_bytes -= frame.len() + Self::FRAME_OVERHEAD;
        Some(frame)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && self.data.is_empty()
    }

    /// Whether local senders should hold back: more than an eighth of the data limit waits already. The rest of the
    /// room is for frames from other links, which cannot be told to wait.
    pub fn is_congested(&self) -> bool {
        self.data_bytes > self.limit / 8
    }

    /// Frames dropped for want of room since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8, len: usize) -> BytesMut {
        BytesMut::from(&alloc::vec![byte; len][..])
    }

    #[test]
    fn control_goes_before_data_and_order_is_kept() {
        let mut egress = Egress::new(1 << 20);
        for (priority, byte) in [
            (Priority::Data, 1),
            (Priority::Control, 2),
            (Priority::Data, 3),
            (Priority::Control, 4),
        ] {
            assert!(egress.push(priority, frame(byte, 1)));
        }
        let order: alloc::vec::Vec<u8> = core::iter::from_fn(|| egress.pop()).map(|f| f[0]).collect();
        assert_eq!(order, [2, 4, 1, 3]);
        assert!(egress.is_empty());
    }

    #[test]
    fn a_full_queue_drops_the_newcomer_and_data_never_takes_the_room_of_control() {
        let mut egress = Egress::new(1000);
        assert!(egress.push(Priority::Data, frame(0, 900)));
        assert!(egress.is_congested());
        assert!(!egress.push(Priority::Data, frame(0, 100)));
        assert_eq!(egress.dropped(), 1);
        assert!(egress.push(Priority::Control, frame(0, 900)));
        assert!(!egress.push(Priority::Control, frame(0, 100)));
        egress.pop();
        egress.pop();
        assert!(!egress.is_congested());
        assert!(egress.push(Priority::Data, frame(0, 936)), "all room is free again");
    }

    #[test]
    fn empty_frames_are_not_free() {
        let mut egress = Egress::new(10 * Egress::FRAME_OVERHEAD);
        let taken = (0..100).filter(|_| egress.push(Priority::Data, frame(0, 0))).count();
        assert_eq!(taken, 10);
    }
}
