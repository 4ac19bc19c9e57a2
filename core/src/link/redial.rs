//! When a peer is dialled again.

use core::time::Duration;

use crate::time::Instant;

/// The classic waits are 5 s, then half as long again each time up to 20 s, and 5 s after a connection ended (`wire.md`
/// §3.5). Nobody can observe shorter waits but the listener that is just coming up, so a few quick attempts go before:
/// a mesh whose nodes start together, or a hop that restarts, is whole again within a second. Connections that were
/// made but never accepted by the peer (a duplicate, a wrong cost) get no quick attempts.
#[derive(Debug)]
pub struct Redial {
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
    /// Due at once.
    pub fn new(now: Instant) -> Self {
        Self {
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

    fn waits(redial: &mut Redial, count: usize) -> alloc::vec::Vec<u64> {
        (0..count)
            .map(|_| redial.on_failed(Instant::ZERO).as_millis() as u64)
            .collect()
    }

    #[test]
    fn quick_attempts_then_the_classic_waits() {
        let mut redial = Redial::new(Instant::ZERO);
        assert_eq!(redial.due(), Some(Instant::ZERO));
        redial.on_dialing();
        assert_eq!(redial.due(), None);
        assert_eq!(
            waits(&mut redial, 10),
            [100, 250, 500, 1000, 5000, 7500, 11250, 16875, 20000, 20000]
        );
    }

    #[test]
    fn a_peer_that_refuses_us_is_asked_every_five_seconds() {
        let mut redial = Redial::new(Instant::ZERO);
        for _ in 0..3 {
            assert_eq!(redial.on_lost(Instant::ZERO, false), Duration::from_secs(5));
        }
    }

    #[test]
    fn a_lost_link_is_redialled_at_once() {
        let mut redial = Redial::new(Instant::ZERO);
        waits(&mut redial, 8);
        assert_eq!(
            redial.on_lost(Instant::from_millis(7), true),
            Duration::from_millis(100)
        );
        assert_eq!(redial.due(), Some(Instant::from_millis(107)));
    }
}
