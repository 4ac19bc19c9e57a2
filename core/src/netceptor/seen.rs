//! Update IDs heard lately (`wire.md` §12.3 rule 3).

use core::hash::BuildHasher as _;
use core::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use crate::time::Instant;

/// Remembers update IDs for one to two hours in two generations. What it forgets early, because too many came, is only
/// held up by the sequence numbers: a duplicate then costs a comparison, not a loop.
#[derive(Debug)]
pub(super) struct Seen {
    young: HashSet<u64, FixedState>,
    old: HashSet<u64, FixedState>,
    hasher: FixedState,
    turned: Instant,
}

/// Update IDs in one generation.
const GENERATION: usize = 65_536;

/// Age of a generation (`wire.md` §2).
const MEMORY: Duration = Duration::from_secs(3600);

impl Seen {
    pub(super) fn new(now: Instant, seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            young: HashSet::with_hasher(hasher.clone()),
            old: HashSet::with_hasher(hasher.clone()),
            hasher,
            turned: now,
        }
    }

    /// Remembers an ID. `false` if it was there already.
    pub(super) fn insert(&mut self, now: Instant, id: &str) -> bool {
        if self.young.len() >= GENERATION || now.since(self.turned) >= MEMORY {
            core::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            self.turned = now;
        }
        let key = self.hasher.hash_one(id);
        !self.old.contains(&key) && self.young.insert(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_remembered_for_an_hour_and_forgotten_after_two() {
        let at = |secs: u64| Instant::from_millis(secs * 1000);
        let mut seen = Seen::new(at(0), 1);
        assert!(seen.insert(at(1), "abc"));
        assert!(!seen.insert(at(3599), "abc"));
        assert!(!seen.insert(at(3601), "abc"));
        assert!(seen.insert(at(7300), "abc"));
    }

    #[test]
    fn a_flood_of_ids_is_bounded() {
        let mut seen = Seen::new(Instant::ZERO, 1);
        for i in 0..300_000 {
            seen.insert(Instant::ZERO, &alloc::format!("{i}"));
        }
        assert!(seen.young.len() + seen.old.len() <= 2 * GENERATION);
    }
}
