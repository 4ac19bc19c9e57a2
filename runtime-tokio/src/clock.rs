//! The two clocks, read together once per wake-up.

use std::time::{SystemTime, UNIX_EPOCH};

use receptor_core::time::{Instant, Now, Wall};

/// Turns tokio's clock (so that paused time works in tests) into the core's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: tokio::time::Instant,
}

impl Clock {
    /// Starts at [`Instant::ZERO`].
    pub(crate) fn new() -> Self {
        Self {
            origin: tokio::time::Instant::now(),
        }
    }

    /// Both clocks as they are.
    pub(crate) fn now(&self) -> Now {
        let mono = Instant::ZERO + self.origin.elapsed();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // A wall clock past the year 2554 stops there.
        Now {
            mono,
            wall: Wall::from_nanos(u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX)),
        }
    }

    /// When the core's `instant` is, for tokio's timer.
    pub(crate) fn to_tokio(self, instant: Instant) -> tokio::time::Instant {
        let offset = instant.since(Instant::ZERO);
        // Beyond what the system's clock can represent is as good as never: a year.
        let year = std::time::Duration::from_secs(365 * 24 * 3600);
        self.origin
            .checked_add(offset)
            .unwrap_or_else(|| tokio::time::Instant::now() + year)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn monotonic_time_follows_tokio_and_converts_back() {
        let clock = Clock::new();
        assert_eq!(clock.now().mono, Instant::ZERO);
        tokio::time::advance(Duration::from_millis(1500)).await;
        let now = clock.now();
        assert_eq!(now.mono, Instant::from_millis(1500));
        assert_eq!(clock.to_tokio(now.mono), tokio::time::Instant::now());
        assert!(now.wall.as_secs() > 1_700_000_000);
    }

    #[tokio::test]
    async fn the_end_of_time_is_far_away_but_not_a_panic() {
        let clock = Clock::new();
        assert!(
            clock.to_tokio(Instant::from_nanos(u64::MAX)) > tokio::time::Instant::now() + Duration::from_secs(3600)
        );
    }
}
