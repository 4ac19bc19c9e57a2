//! When a machine wants to be called again, and why.

use crate::time::{Duration, Instant};

/// What `next_deadline` of a machine answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Deadline {
    /// Outputs are waiting: drain them before sleeping.
    Now,
    /// Call `handle_timeout` (of a node: hand in `Input::Timeout`) at this time; the reason is for logs.
    At(Instant, &'static str),
    /// Nothing to wait for but input.
    #[default]
    Idle,
}

impl Deadline {
    /// The earlier of two deadlines; `self` wins a tie.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        match (self, other) {
            (Self::Now, _) | (_, Self::Idle) => self,
            (Self::Idle, _) | (_, Self::Now) => other,
            (Self::At(a, _), Self::At(b, _)) => {
                if b < a {
                    other
                } else {
                    self
                }
            }
        }
    }

    /// `At` if there is a time, else `Idle`.
    pub fn at(time: Option<Instant>, reason: &'static str) -> Self {
        time.map_or(Self::Idle, |t| Self::At(t, reason))
    }

    /// Whether the deadline has come at `now`.
    pub fn is_due(self, now: Instant) -> bool {
        match self {
            Self::Now => true,
            Self::At(t, _) => t <= now,
            Self::Idle => false,
        }
    }

    /// How long to sleep from `now` on: zero if the deadline has come, `None` if there is none.
    pub fn wait(self, now: Instant) -> Option<Duration> {
        match self {
            Self::Now => Some(Duration::ZERO),
            Self::At(t, _) => Some(t.since(now)),
            Self::Idle => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_sleeps_past_a_deadline() {
        let now = Instant::from_millis(1000);
        assert_eq!(Deadline::Now.wait(now), Some(Duration::ZERO));
        assert_eq!(
            Deadline::At(Instant::from_millis(999), "past").wait(now),
            Some(Duration::ZERO)
        );
        assert_eq!(
            Deadline::At(Instant::from_millis(1250), "next").wait(now),
            Some(Duration::from_millis(250))
        );
        assert_eq!(Deadline::Idle.wait(now), None);
    }
}
