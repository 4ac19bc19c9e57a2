//! How large a packet may be: what the path and the peer take, and what actually arrives (RFC 8899).

use crate::time::{Duration, Instant};

/// Every path carries packets of this size, in bytes (RFC 8899 §5.1.2).
pub(super) const BASE: usize = 1200;
/// What a packet counts beyond its length; see `machine/outgoing.rs`.
pub(super) const OVERHEAD: usize = 64;
/// Larger packets lost one after the other, behind a small probe that arrived, that prove a hole. Without the probe it could
/// just be the path that was gone for a while.
const PROOF: u8 = 6;
/// A larger packet is tried this long after the fallback; the time doubles up to the second with each that is lost.
const TRIAL_FIRST: Duration = Duration::from_secs(5);
const TRIAL_LAST: Duration = Duration::from_secs(600);

/// The size of packets of one stream.
#[derive(Clone, Debug)]
pub(super) struct SegmentSize {
    limit: u32,
    has_fallen: bool,
    /// First small probe that arrived since a larger packet did.
    small: Option<u64>,
    /// Larger ones lost behind it.
    lost: u8,
    next_trial: Instant,
    interval: Duration,
}

impl SegmentSize {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit: limit as u32,
            has_fallen: false,
            small: None,
            lost: 0,
            next_trial: Instant::ZERO,
            interval: TRIAL_FIRST,
        }
    }

    /// Largest packet to send now.
    pub(super) fn current(&self) -> usize {
        if self.has_fallen {
            self.limit().min(BASE)
        } else {
            self.limit()
        }
    }

    /// Largest packet the path and the peer take.
    pub(super) const fn limit(&self) -> usize {
        self.limit as usize
    }

    /// The path is another one, or the peer has said what it takes.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit as u32;
    }

    /// Whether larger packets vanish.
    pub(super) const fn has_fallen(&self) -> bool {
        self.has_fallen
    }

    /// Larger packets vanish, as this or another stream has found out.
    pub(super) fn fall(&mut self, now: Instant) {
        if !self.has_fallen && self.limit() > BASE {
            *self = Self {
                has_fallen: true,
                next_trial: now + TRIAL_FIRST,
                ..Self::new(self.limit())
            };
        }
    }

    /// Larger packets may pass again.
    pub(super) fn rise(&mut self) {
        *self = Self::new(self.limit());
    }

    /// Whether it is time to try a larger packet; noted as tried.
    pub(super) fn take_trial(&mut self, now: Instant) -> bool {
        let is_due = self.has_fallen && self.next_trial <= now;
        if is_due {
            // Until its fate is known.
            self.next_trial = now + self.interval;
            self.interval = (self.interval * 2).min(TRIAL_LAST);
        }
        is_due
    }

    /// A packet has arrived, perhaps a probe after silence.
    pub(super) fn on_acked(&mut self, number: u64, size: u32, is_probe: bool) {
        if size as usize > BASE + OVERHEAD {
            (self.small, self.lost) = (None, 0);
        } else if is_probe && self.small.is_none() {
            self.small = Some(number);
        }
    }

    /// A packet was lost.
    pub(super) fn on_lost(&mut self, number: u64, size: u32) {
        if size as usize > BASE + OVERHEAD && self.small.is_some_and(|small| number > small) {
            self.lost = self.lost.saturating_add(1);
        }
    }

    /// Whether larger packets vanish for certain, and this was not known.
    pub(super) const fn is_proven(&self) -> bool {
        self.lost >= PROOF && !self.has_fallen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_larger_packets_lost_behind_a_small_probe_that_arrived_prove_a_hole() {
        let mut size = SegmentSize::new(16_384);
        for number in 0..100 {
            size.on_lost(number, 16_448);
        }
        assert!(!size.is_proven(), "the path is just gone");
        size.on_acked(100, 1264, true);
        for number in 90..106 {
            size.on_lost(number, 16_448);
        }
        size.on_acked(200, 100, true);
        assert!(!size.is_proven(), "{}", size.lost);
        size.on_lost(106, 16_448);
        assert!(size.is_proven(), "{}", size.lost);
        assert!(size.is_proven());
        size.fall(Instant::ZERO);
        assert_eq!((size.current(), size.limit()), (BASE, 16_384));
        assert!(!size.is_proven());
    }

    #[test]
    fn a_larger_one_that_arrives_clears_the_suspicion() {
        let mut size = SegmentSize::new(16_384);
        size.on_acked(0, 100, true);
        for number in 1..100 {
            size.on_lost(number * 2, 16_448);
            size.on_acked(number * 2 + 1, 16_448, false);
        }
        assert!(!size.is_proven());
    }

    #[test]
    fn trials_become_rare() {
        let mut size = SegmentSize::new(16_384);
        size.fall(Instant::ZERO);
        let trials = (0..3600).filter(|second| size.take_trial(Instant::from_millis(second * 1000)));
        assert_eq!(trials.count(), 12);
        size.rise();
        assert_eq!(size.current(), 16_384);
    }
}
