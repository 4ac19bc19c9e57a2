//! When a machine wants to be called again, and why.

use crate::time::Instant;

/// What `next_deadline` of a machine answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Deadline {
    /// Outputs are waiting: drain them before sleeping.
    Now,
    /// Call `handle_timeout` at this time; the reason is for logs.
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
}
