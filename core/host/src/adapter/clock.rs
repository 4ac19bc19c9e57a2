//! The two clocks, read together once per wake-up.

use std::time::{Duration, Instant as StdInstant, SystemTime, UNIX_EPOCH};

use receptor_core::time::{Instant, Now, Wall};

/// What the wall clock shows. Past the year 2554 it stops there.
pub fn wall_clock() -> Wall {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall::from_nanos(u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX))
}

/// Turns the adapter's monotonic clock into the core's.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: StdInstant,
}

impl Clock {
    /// A clock that shows [`Instant::ZERO`] at `origin`.
    pub fn new(origin: StdInstant) -> Self {
        Self { origin }
    }

    /// Both clocks, when the adapter's shows `mono`.
    pub fn at(&self, mono: StdInstant) -> Now {
        Now {
            mono: Instant::ZERO + mono.saturating_duration_since(self.origin),
            wall: wall_clock(),
        }
    }

    /// When the core's `instant` is, for the adapter's timer.
    pub fn to_std(&self, instant: Instant) -> StdInstant {
        // Beyond what the system's clock can represent is as good as never: a year.
        let year = Duration::from_secs(365 * 24 * 3600);
        let offset = instant.since(Instant::ZERO);
        self.origin
            .checked_add(offset)
            .unwrap_or_else(|| StdInstant::now() + year)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_converts_both_ways() {
        let origin = StdInstant::now();
        let clock = Clock::new(origin);
        assert_eq!(clock.at(origin).mono, Instant::ZERO);
        let later = origin + Duration::from_millis(1500);
        let now = clock.at(later);
        assert_eq!(now.mono, Instant::from_millis(1500));
        assert_eq!(clock.to_std(now.mono), later);
        assert!(now.wall.as_secs() > 1_700_000_000);
        assert_eq!(clock.at(origin - Duration::from_secs(1)).mono, Instant::ZERO);
    }

    #[test]
    fn the_end_of_time_is_far_away_but_not_a_panic() {
        let clock = Clock::new(StdInstant::now());
        assert!(clock.to_std(Instant::from_nanos(u64::MAX)) > StdInstant::now() + Duration::from_secs(3600));
    }
}
