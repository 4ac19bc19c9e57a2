//! From nothing to dialling: the epoch is durable before the first hello, and units are known before the first command.

use crate::time::Wall;

/// Where the start stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Reading the stored epoch and the units.
    Loading {
        /// The epoch is known and durable.
        epoch: bool,
        /// The units are known.
        units: bool,
    },
    /// Binding listeners and control sockets; so many answers are missing.
    Binding(usize),
    /// Started.
    Running,
    /// A listener could not be bound.
    Failed,
}

/// The epoch of this run: whole seconds and a random low part, but never below what was used before (`wire.md` §8).
pub(super) fn epoch(wall: Wall, random: u64, stored: Option<u64>) -> u64 {
    let clock = (wall.as_secs() << 24) | (random & 0xff_ffff);
    clock.max(stored.map_or(0, |stored| stored.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_made_as_the_spec_has_it() {
        assert_eq!(epoch(Wall::from_secs(1_700_000_000), 0xff_abcdef, None), 28_521_267_211_259_375);
    }

    #[test]
    fn a_clock_set_back_does_not_lower_the_epoch() {
        assert_eq!(epoch(Wall::from_secs(1), 0, Some(u64::MAX - 1)), u64::MAX);
        assert_eq!(epoch(Wall::from_secs(1), 0, Some(77 << 24)), (77 << 24) + 1);
    }
}
