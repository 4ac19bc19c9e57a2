//! The two clocks, read together once per wake-up.

use receptor_core::time::{Instant, Now};
use receptor_host::adapter;

/// Turns tokio's clock (so that paused time works in tests) into the core's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(adapter::Clock);

impl Clock {
    /// Starts at [`Instant::ZERO`].
    pub(crate) fn new() -> Self {
        Self(adapter::Clock::new(tokio::time::Instant::now().into_std()))
    }

    /// Both clocks as they are.
    pub(crate) fn now(&self) -> Now {
        self.0.at(tokio::time::Instant::now().into_std())
    }

    /// When the core's `instant` is, for tokio's timer.
    pub(crate) fn to_tokio(self, instant: Instant) -> tokio::time::Instant {
        self.0.to_std(instant).into()
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
    }
}
