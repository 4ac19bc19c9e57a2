//! The two clocks, read together once per wake-up.

use std::time::Instant as StdInstant;

use receptor_core::time::{Instant, Now};
use receptor_host::adapter;

/// Turns the system's clock into the core's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(adapter::Clock);

impl Clock {
    /// Starts at [`Instant::ZERO`].
    pub(crate) fn new() -> Self {
        Self(adapter::Clock::new(StdInstant::now()))
    }

    /// Both clocks as they are.
    pub(crate) fn now(&self) -> Now {
        self.0.at(StdInstant::now())
    }

    /// When the core's `instant` is, for the timer.
    pub(crate) fn to_std(self, instant: Instant) -> StdInstant {
        self.0.to_std(instant)
    }
}
