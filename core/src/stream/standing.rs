//! Queues that stand where nobody marks them: in a link's TCP, in a router between two nodes.
//!
//! A window that only loss stops fills such a queue to its brim, and every ping waits behind it. So the lowest round trip of
//! each round is compared with the path's own, without queues. Where it stays above that, the window **stops growing**; where it
//! doubles, one round is sent with **half of what the path holds**, which empties the queue if it is ours. What that round
//! takes *is* the path's own time from then on (a longer route, or a queue that others fill and that yielding to would
//! not shorten), and the window goes on with what fits into it. The idea of the drained round is that of BBR's probe.

use crate::time::{Duration, Instant};

/// A queue shorter than this is not worth a rate: schedulers make longer ones.
const ALLOWED_MIN: Duration = Duration::from_millis(10);
/// Longer ones are too long on any path.
const ALLOWED_MAX: Duration = Duration::from_millis(100);
/// Rounds in a row that a queue has to stand: a hop that stalls delays one or two.
const PATIENCE: u8 = 3;
/// Fewer samples in a round say nothing about its lowest.
const SAMPLES: u32 = 4;
/// After so long without a look at the path's own time, what is taken for it may be a queue that has gone.
const STALE: Duration = Duration::from_secs(10);

/// What is known of standing queues on one path.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// The path's own round trip; `MAX` before the first sample.
    base: Duration,
    /// When a sample was near it.
    seen: Instant,
    /// Rounds in a row above what is allowed.
    raised: u8,
    /// The lowest round trip of the last round; zero if it had too few samples.
    last: Duration,
    /// The window before the round that is drained now.
    drained_from: Option<u64>,
}

/// What the window has to do at the end of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Nothing,
    /// Send half of what the path holds for one round.
    Drain,
    /// The drained round is over: the window of before, but not more than the path holds within this time.
    Resume {
        window: u64,
        within: Duration,
    },
}

impl Standing {
    pub(super) const fn new() -> Self {
        Self {
            base: Duration::MAX,
            seen: Instant::ZERO,
            raised: 0,
            last: Duration::ZERO,
            drained_from: None,
        }
    }

    /// The path's own round trip, zero before the first sample.
    pub(super) fn base(&self) -> Duration {
        if self.base == Duration::MAX {
            Duration::ZERO
        } else {
            self.base
        }
    }

    /// Whether one round is being sent with less than the window.
    pub(super) const fn is_draining(&self) -> bool {
        self.drained_from.is_some()
    }

    /// Whether a longer queue would be too long: a window that grows makes it.
    pub(super) fn is_enough(&self) -> bool {
        self.last > self.base.saturating_add(self.allowed() * 3 / 4)
    }

    pub(super) fn on_sample(&mut self, now: Instant, sample: Duration) {
        if sample <= self.base.saturating_add(self.base / 8) {
            self.seen = now;
        }
        self.base = self.base.min(sample);
    }

    /// A round has ended, with so many samples and this lowest one; `is_limited` if the window was what limited it.
    pub(super) fn on_round(&mut self, now: Instant, lowest: Duration, samples: u32, is_limited: bool) -> Verdict {
        if let Some(window) = self.drained_from.take() {
            if samples > 0 {
                (self.base, self.seen) = (lowest, now);
            }
            (self.raised, self.last) = (0, Duration::ZERO);
            // Below where growth stops, so that the next drained round is far.
            let within = self.base() + self.allowed() / 2;
            return Verdict::Resume { window, within };
        }
        if samples < SAMPLES {
            return Verdict::Nothing;
        }
        self.last = lowest;
        if !is_limited || lowest <= self.base.saturating_add(self.allowed()) {
            self.raised = 0;
        } else {
            self.raised += 1;
        }
        let is_stale = is_limited && now.since(self.seen) > STALE && lowest > self.base.saturating_add(ALLOWED_MIN / 2);
        if self.raised >= PATIENCE || is_stale {
            Verdict::Drain
        } else {
            Verdict::Nothing
        }
    }

    /// The next round is drained; `window` is what it was.
    pub(super) fn drain_from(&mut self, window: u64) {
        self.drained_from = Some(window);
    }

    /// Something else than a queue came between: the window before the drained round, if there is one.
    pub(super) fn give_up(&mut self) -> Option<u64> {
        self.raised = 0;
        self.drained_from.take()
    }

    fn allowed(&self) -> Duration {
        self.base().clamp(ALLOWED_MIN, ALLOWED_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A path of so long, known since `START`.
    fn path(base: Duration) -> Standing {
        let mut standing = Standing::new();
        standing.on_sample(START, base);
        standing
    }

    const START: Instant = Instant::from_millis(1000);

    #[test]
    fn a_queue_that_stands_is_drained_after_three_rounds_and_the_window_fits_the_path() {
        let mut standing = path(MS * 40);
        for _ in 0..2 {
            assert_eq!(standing.on_round(START, MS * 90, 8, true), Verdict::Nothing);
        }
        assert_eq!(standing.on_round(START, MS * 90, 8, true), Verdict::Drain);
        standing.drain_from(500_000);
        assert!(standing.is_draining());
        let resume = standing.on_round(START, MS * 41, 1, true);
        let within = MS * 41 + MS * 41 / 2;
        assert_eq!(
            resume,
            Verdict::Resume {
                window: 500_000,
                within
            }
        );
        assert!(!standing.is_draining() && !standing.is_enough());
    }

    #[test]
    fn a_longer_route_is_learnt_in_one_drained_round() {
        let mut standing = path(MS * 10);
        let verdicts = [0; 3].map(|_| standing.on_round(START, MS * 300, 8, true));
        assert_eq!(verdicts, [Verdict::Nothing, Verdict::Nothing, Verdict::Drain]);
        standing.drain_from(100_000);
        standing.on_round(START, MS * 300, 2, true);
        assert_eq!(standing.base(), MS * 300);
        assert_eq!(standing.on_round(START, MS * 301, 8, true), Verdict::Nothing);
        assert!(!standing.is_enough());
    }

    #[test]
    fn a_hop_that_stalls_a_thin_stream_and_one_with_few_samples_drain_nothing() {
        let mut standing = path(MS * 10);
        for _ in 0..10 {
            for (samples, is_limited, lowest) in [
                (8, true, 900),
                (8, true, 900),
                (8, true, 11),
                (8, false, 900),
                (2, true, 900),
            ] {
                assert_eq!(
                    standing.on_round(START, MS * lowest, samples, is_limited),
                    Verdict::Nothing
                );
            }
        }
    }

    #[test]
    fn what_was_learnt_behind_a_queue_of_others_is_looked_at_again() {
        let mut standing = path(MS * 100);
        let later = START + Duration::from_secs(11);
        standing.on_sample(later, MS * 130);
        assert_eq!(standing.on_round(later, MS * 130, 8, true), Verdict::Drain);
        standing.drain_from(100_000);
        standing.on_sample(later, MS * 40);
        standing.on_round(later, MS * 40, 1, true);
        assert_eq!(standing.base(), MS * 40);
    }

    #[test]
    fn schedulers_make_no_queue_and_a_huge_path_gets_no_huge_one() {
        let mut standing = path(Duration::from_micros(100));
        assert_eq!(standing.on_round(START, MS * 7, 8, true), Verdict::Nothing);
        assert!(!standing.is_enough());
        let mut standing = path(MS * 600);
        standing.on_round(START, MS * 690, 8, true);
        assert!(standing.is_enough());
    }

    #[test]
    fn another_rule_gets_the_window_of_before() {
        let mut standing = path(MS * 10);
        assert_eq!(standing.give_up(), None);
        standing.drain_from(7);
        assert_eq!((standing.give_up(), standing.is_draining()), (Some(7), false));
    }
}
