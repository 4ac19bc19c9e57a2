//! Spreads packets over the round trip on long paths. On short ones the acknowledgements do that by themselves, and timers
//! would cost more than bursts.

use crate::time::{Duration, Instant};

/// Round trips from which on packets are spread.
const RTT_MIN: Duration = Duration::from_millis(10);
/// A burst lasts this long at the rate of the path: timers are not finer.
const BURST: Duration = Duration::from_millis(2);
/// The least burst in packets.
const BURST_MIN: u64 = 4;

/// A bucket of bytes that may leave at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Pacing {
    /// When the bucket is full again.
    full_at: Instant,
    /// Nothing leaves before; `None` if something may leave now.
    until: Option<Instant>,
}

impl Pacing {
    /// When packets may leave again, if they may not now.
    pub(super) const fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Time has passed.
    pub(super) fn on_time(&mut self, now: Instant) {
        self.until = self.until.filter(|&until| until > now);
    }

    /// A packet of `size` bytes leaves, of at most `segment`, within a window of `window` bytes per round trip. Slow start
    /// doubles, so it needs twice the rate.
    pub(super) fn on_sent(
        &mut self,
        now: Instant,
        size: u64,
        segment: u64,
        window: u64,
        rtt: Duration,
        is_doubling: bool,
    ) {
        if rtt < RTT_MIN {
            self.until = None;
            return;
        }
        // A quarter faster than the window asks for, so that the window stays the limit.
        let window = if is_doubling { window * 2 } else { window + window / 4 };
        let nanos = |bytes: u64| u128::from(bytes) * rtt.as_nanos() / u128::from(window.max(1));
        let nanos = |bytes: u64| Duration::from_nanos(u64::try_from(nanos(bytes)).unwrap_or(u64::MAX));
        let burst = nanos(BURST_MIN * segment).max(BURST);
        self.full_at = self.full_at.max(now) + nanos(size);
        // Wakes when half of a burst may leave.
        self.until = (self.full_at.since(now) > burst).then(|| self.full_at - burst / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_spread_over_four_fifths_of_a_round_trip_in_bursts() {
        let (mut pacing, mut now, mut sent, mut wakes) = (Pacing::default(), Instant::from_millis(7), 0_u64, 0);
        let start = now;
        while sent < 1_000_000 {
            pacing.on_sent(now, 1000, 1000, 1_000_000, Duration::from_millis(100), false);
            sent += 1000;
            if let Some(until) = pacing.until() {
                assert!(until > now);
                (now, wakes) = (until, wakes + 1);
                pacing.on_time(now);
                assert_eq!(pacing.until(), None);
            }
        }
        let took = now.since(start);
        assert!(
            took > Duration::from_millis(76) && took < Duration::from_millis(81),
            "{took:?}"
        );
        assert!(wakes < 90, "{wakes}");
    }

    #[test]
    fn a_short_path_has_no_timers() {
        let mut pacing = Pacing::default();
        for _ in 0..1000 {
            pacing.on_sent(Instant::ZERO, 16_000, 16_384, 100_000, Duration::from_millis(2), true);
            assert_eq!(pacing.until(), None);
        }
    }
}
