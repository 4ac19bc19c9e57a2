//! The core's time in the terms of `quinn-proto`, which wants std's.

use crate::time::{Duration, Instant};
use std::time::Instant as StdInstant;

/// Ties the two origins together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: StdInstant,
}

impl Clock {
    /// `origin` stands for [`Instant::ZERO`]; any will do, it is only added to.
    pub(super) fn new(origin: StdInstant) -> Self {
        Self { origin }
    }

    pub(super) fn to_std(self, instant: Instant) -> StdInstant {
        let offset = Duration::from_nanos(instant.as_nanos());
        // What the system cannot represent is as good as never.
        self.origin.checked_add(offset).unwrap_or(self.origin)
    }

    pub(super) fn to_core(self, instant: StdInstant) -> Instant {
        Instant::ZERO + instant.saturating_duration_since(self.origin)
    }
}
