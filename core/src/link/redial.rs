//! When a peer is dialled again.

use core::time::Duration;

use crate::rng::Rng;
use crate::time::Instant;

/// The classic waits are 5 s, then half as long again each time up to 20 s, and 5 s after a connection ended (`wire.md`
/// §3.5). Nobody can observe shorter waits but the listener that is just coming up, so a few quick attempts go before:
/// a mesh whose nodes start together, or a hop that restarts, is whole again within a second. Connections that were
/// made but never accepted by the peer (a duplicate, a wrong cost) get no quick attempts.
///
/// Each wait is shorter by up to a fifth, by chance: nodes that lost the same hub do not come back all at the same moment.
#[derive(Debug)]
pub struct Redial {
    rng: Rng,
    failures: u32,
    due: Option<Instant>,
}

const QUICK: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1000),
];
const SLOW_FIRST: Duration = Duration::from_secs(5);
const SLOW_MAX: Duration = Duration::from_secs(20);

impl Redial {
    /// Due at once. `rng` decides the waits.
    pub fn new(now: Instant, rng: Rng) -> Self {
        Self {
            rng,
            failures: 0,
            due: Some(now),
        }
    }

    /// When to dial; `None` while a dial or a connection is under way.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The dial has begun.
    pub fn on_dialing(&mut self) {
        self.due = None;
    }

    /// Could not connect. Returns the wait.
    pub fn on_failed(&mut self, now: Instant) -> Duration {
        let wait = match QUICK.get(self.failures as usize) {
            Some(&quick) => quick,
            None => (QUICK.len() as u32..self.failures)
                .fold(SLOW_FIRST, |wait, _| wait.mul_f64(1.5).min(SLOW_MAX))
                .min(SLOW_MAX),
        };
        let fifth = u64::try_from(wait.as_nanos() / 5).unwrap_or(u64::MAX);
        let wait = wait - Duration::from_nanos(self.rng.below(fifth));
        // Saturates where the wait has long been at its maximum.
        self.failures = (self.failures + 1).min(32);
        self.due = Some(now + wait);
        wait
    }

    /// A connection ended. `was_accepted`: both sides had accepted each other. Returns the wait.
    pub fn on_lost(&mut self, now: Instant, was_accepted: bool) -> Duration {
        self.failures = if was_accepted { 0 } else { QUICK.len() as u32 };
        self.on_failed(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redial() -> Redial {
        Redial::new(Instant::ZERO, Rng::from_seed([3; 32]))
    }

    /// Waits of up to a fifth less than these, in milliseconds.
    fn waits(redial: &mut Redial, most: &[u64]) {
        for &most in most {
            let wait = redial.on_failed(Instant::ZERO).as_millis() as u64;
            assert!((most * 4 / 5..=most).contains(&wait), "{wait} of {most}");
        }
    }

    #[test]
    fn quick_attempts_then_the_classic_waits() {
        let mut redial = redial();
        assert_eq!(redial.due(), Some(Instant::ZERO));
        redial.on_dialing();
        assert_eq!(redial.due(), None);
        let most = [100, 250, 500, 1000, 5000, 7500, 11250, 16875, 20000, 20000];
        waits(&mut redial, &most);
    }

    #[test]
    fn a_peer_that_refuses_us_is_asked_every_five_seconds() {
        let mut redial = redial();
        for _ in 0..3 {
            let wait = redial.on_lost(Instant::ZERO, false);
            assert!((4000..=5000).contains(&wait.as_millis()), "{wait:?}");
        }
    }

    #[test]
    fn a_lost_link_is_redialled_at_once() {
        let mut redial = redial();
        waits(&mut redial, &[100, 250, 500, 1000, 5000, 7500]);
        let wait = redial.on_lost(Instant::from_millis(7), true);
        assert!((80..=100).contains(&wait.as_millis()), "{wait:?}");
        assert_eq!(redial.due(), Some(Instant::from_millis(7) + wait));
    }

    #[test]
    fn no_two_wait_alike() {
        let wait = |seed| Redial::new(Instant::ZERO, Rng::from_seed([seed; 32])).on_lost(Instant::ZERO, false);
        let all: alloc::collections::BTreeSet<_> = (0..20).map(wait).collect();
        assert_eq!(all.len(), 20);
        assert_eq!(wait(1), wait(1), "the seed decides");
    }
}
