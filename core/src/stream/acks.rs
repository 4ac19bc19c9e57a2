//! Which packets have arrived, and when to say so.

use crate::time::{Duration, Instant};

use super::packet::{AckOut, Number};
use super::ranges::RangeSet;

/// Longest time an acknowledgement is held back.
pub(super) const MAX_ACK_DELAY: Duration = Duration::from_millis(5);
/// Most ranges remembered; twice what one acknowledgement carries, so that small gaps can still close.
const MAX_RANGES: usize = 64;

/// The receiving side of packet numbers.
#[derive(Debug, Default)]
pub(super) struct Acks {
    received: RangeSet,
    /// The peer follows nothing below: it is not acknowledged any more.
    floor: u64,
    largest_at: Instant,
    /// Bytes that arrived since the last acknowledgement.
    unacked_bytes: usize,
    marked: u64,
    due: bool,
    deadline: Option<Instant>,
}

impl Acks {
    /// Notes a numbered packet; whether it is new.
    pub(super) fn on_packet(&mut self, now: Instant, number: Number, length: usize, marked: bool) -> bool {
        let Number { number, floor } = number;
        if floor > self.floor {
            self.floor = floor;
            self.received.trim_below(floor);
        }
        let largest = self.largest();
        let new = number >= self.floor && self.received.insert(number..number + 1);
        if self.received.len() > MAX_RANGES {
            self.received.pop_first();
        }
        if !new {
            // Our acknowledgement of it may be what was lost.
            self.due = true;
            return false;
        }
        if largest.is_none_or(|largest| number > largest) {
            self.largest_at = now;
        }
        self.marked += u64::from(marked);
        self.unacked_bytes += length;
        // Out of order, or the packet that closes a gap: the sender's loss detection waits for this.
        if self.received.len() > 1 || largest.is_some_and(|largest| number != largest + 1) {
            self.due = true;
        }
        if self.deadline.is_none() {
            self.deadline = Some(now + MAX_ACK_DELAY);
        }
        true
    }

    /// Whether the packet has arrived before, or is too old to matter.
    pub(super) fn knows(&self, number: u64) -> bool {
        number < self.floor || self.received.contains(number)
    }

    /// Acknowledges at once.
    pub(super) fn hurry(&mut self) {
        self.due = true;
    }

    /// Two segments' worth of packets are enough to acknowledge.
    pub(super) fn hurry_after(&mut self, bytes: usize) {
        self.due |= self.unacked_bytes >= bytes;
    }

    /// The delay is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.due |= self.deadline.is_some_and(|deadline| deadline <= now);
    }

    /// Whether an acknowledgement has to go out now.
    pub(super) fn is_due(&self) -> bool {
        self.due && !self.received.is_empty()
    }

    /// When it has to go out at the latest.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        if self.due { None } else { self.deadline }
    }

    /// The acknowledgement to send; noted as sent. `None` if nothing has arrived.
    pub(super) fn emit(&mut self, now: Instant, window: u64, limit: usize) -> Option<AckOut<'_>> {
        self.due = false;
        self.deadline = None;
        self.unacked_bytes = 0;
        self.largest()?;
        Some(AckOut {
            received: &self.received,
            delay_us: now.since(self.largest_at).as_micros().min(1 << 29) as u64,
            window,
            marked: self.marked,
            limit,
        })
    }

    /// Everything that arrived was acknowledged.
    pub(super) const fn is_quiet(&self) -> bool {
        !self.due && self.deadline.is_none()
    }

    /// Gives memory back that is not needed.
    pub(super) fn trim(&mut self) {
        self.received.trim_memory();
    }

    fn largest(&self) -> Option<u64> {
        self.received.iter().next_back().map(|range| range.end - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn number(number: u64, floor: u64) -> Number {
        Number { number, floor }
    }

    #[test]
    fn in_order_packets_wait_and_a_gap_does_not() {
        let mut acks = Acks::default();
        let now = Instant::from_millis(3);
        assert!(acks.on_packet(now, number(0, 0), 100, false));
        assert!(!acks.is_due());
        assert_eq!(acks.deadline(), Some(now + MAX_ACK_DELAY));
        acks.hurry_after(200);
        assert!(!acks.is_due());
        assert!(acks.on_packet(now, number(2, 0), 100, true));
        assert!(acks.is_due());
        let ack = acks.emit(now + MAX_ACK_DELAY, 77, 32).unwrap();
        assert!(ack.received.iter().eq(&[0..1, 2..3]));
        assert_eq!((ack.delay_us, ack.window, ack.marked), (5000, 77, 1));
        assert!(!acks.is_due() && acks.deadline().is_none());
        assert!(!acks.on_packet(now, number(2, 0), 100, false), "a copy");
        assert!(acks.is_due());
    }

    #[test]
    fn the_floor_forgets_old_gaps_and_the_number_of_ranges_is_bounded() {
        let mut acks = Acks::default();
        for n in 0..500 {
            acks.on_packet(Instant::ZERO, number(n * 2, 0), 1, false);
        }
        assert_eq!(acks.received.len(), MAX_RANGES);
        acks.on_packet(Instant::ZERO, number(1000, 999), 1, false);
        assert_eq!(acks.received.len(), 1);
        assert!(
            !acks.on_packet(Instant::ZERO, number(7, 0), 1, false),
            "below the floor"
        );
    }
}
