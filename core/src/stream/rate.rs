//! What the path delivers, measured round by round.

/// Rounds that a delivery rate is remembered for, at least; at most twice as many.
const RATE_ROUNDS: u8 = 5;

/// What the path delivers, in bytes per second.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    /// Highest of the present and the former group of rounds.
    highest: u64,
    former: u64,
    rounds: u8,
    /// Of the last round.
    pub(super) last: u64,
    /// What slow start has reached, and for how many rounds no more.
    reached: u64,
    pub(super) flat_rounds: u8,
}

impl Rate {
    pub(super) const fn new() -> Self {
        Self {
            highest: 0,
            former: 0,
            rounds: 0,
            last: 0,
            reached: 0,
            flat_rounds: 0,
        }
    }

    /// The best of the last rounds.
    pub(super) fn highest(&self) -> u64 {
        self.highest.max(self.former)
    }

    /// A round has ended; `is_limited` if the window was what limited it.
    pub(super) fn on_round(&mut self, sample: u64, is_limited: bool) {
        self.rounds += 1;
        if self.rounds > RATE_ROUNDS {
            (self.former, self.highest, self.rounds) = (self.highest, 0, 0);
        }
        if is_limited || sample > self.highest {
            self.highest = self.highest.max(sample);
        }
        self.last = sample;
        if is_limited && sample * 4 >= self.reached * 5 {
            (self.reached, self.flat_rounds) = (sample, 0);
        } else if is_limited {
            self.flat_rounds = self.flat_rounds.saturating_add(1);
        }
    }
}
