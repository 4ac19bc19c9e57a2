//! Round-trip time, as RFC 9002 §5 estimates it.

use crate::time::{Duration, Instant};

/// Before the first sample. RFC 9002 says 333 ms; a mesh is mostly nearer, and a needless second SYN costs nothing.
const INITIAL: Duration = Duration::from_millis(100);
/// Timers are not finer than this (RFC 9002 §6.1.2).
pub(super) const GRANULARITY: Duration = Duration::from_millis(1);
/// A minimum older than one to two of these is forgotten, because routes change.
const MIN_WINDOW: Duration = Duration::from_secs(10);

/// The estimate.
#[derive(Clone, Debug)]
pub(super) struct Rtt {
    latest: Duration,
    smoothed: Option<Duration>,
    variation: Duration,
    /// Minimum of this window and of the one before.
    minimum: Duration,
    previous_minimum: Duration,
    window_start: Instant,
}

impl Rtt {
    pub(super) const fn new() -> Self {
        Self {
            latest: INITIAL,
            smoothed: None,
            variation: Duration::from_millis(50),
            minimum: Duration::MAX,
            previous_minimum: Duration::MAX,
            window_start: Instant::ZERO,
        }
    }

    /// One sample; `delay` is how long the peer says it held the acknowledgement back.
    pub(super) fn update(&mut self, now: Instant, sample: Duration, delay: Duration) {
        if now.since(self.window_start) > MIN_WINDOW {
            self.previous_minimum = self.minimum;
            self.minimum = Duration::MAX;
            self.window_start = now;
        }
        self.latest = sample;
        self.minimum = self.minimum.min(sample);
        let adjusted = if sample >= self.min() + delay {
            sample - delay
        } else {
            sample
        };
        match self.smoothed {
            None => {
                self.smoothed = Some(adjusted);
                self.variation = adjusted / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(adjusted)) / 4;
                self.smoothed = Some((smoothed * 7 + adjusted) / 8);
            }
        }
    }

    /// The smoothed estimate.
    pub(super) fn smoothed(&self) -> Duration {
        self.smoothed.unwrap_or(INITIAL)
    }

    /// The lowest sample of the last ten to twenty seconds; the initial guess if there is none.
    pub(super) fn min(&self) -> Duration {
        let minimum = self.minimum.min(self.previous_minimum);
        if minimum == Duration::MAX {
            self.smoothed()
        } else {
            minimum
        }
    }

    /// When a packet is overdue although later ones arrived (RFC 9002 §6.1.2): an eighth more than a round trip, doubled
    /// `patience` times.
    pub(super) fn loss_delay(&self, patience: u32) -> Duration {
        let trip = self.smoothed().max(self.latest);
        (trip + trip * (1 << patience) / 8).max(GRANULARITY)
    }

    /// When to probe after silence, before any backoff (RFC 9002 §6.2.1).
    pub(super) fn probe_timeout(&self, max_ack_delay: Duration) -> Duration {
        self.smoothed() + (self.variation * 4).max(GRANULARITY) + max_ack_delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn first_sample_replaces_the_guess_and_later_ones_are_smoothed() {
        let mut rtt = Rtt::new();
        assert_eq!(rtt.smoothed(), INITIAL);
        rtt.update(Instant::ZERO, ms(40), ms(5));
        assert_eq!((rtt.smoothed(), rtt.min()), (ms(40), ms(40)));
        assert_eq!(rtt.probe_timeout(ms(5)), ms(40 + 80 + 5));
        rtt.update(Instant::ZERO, ms(85), ms(5));
        assert_eq!((rtt.smoothed(), rtt.min()), (ms(45), ms(40)));
        assert_eq!(rtt.loss_delay(0), ms(85) * 9 / 8);
    }

    #[test]
    fn an_old_minimum_is_forgotten() {
        let mut rtt = Rtt::new();
        rtt.update(Instant::ZERO, ms(1), ms(0));
        for second in 1..40 {
            rtt.update(Instant::from_millis(second * 1000), ms(50), ms(0));
        }
        assert_eq!(rtt.min(), ms(50));
    }
}
