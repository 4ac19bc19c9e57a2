//! Chance by purpose, not by order: taking one draw away leaves all others as they were.
//!
//! That is what lets a failing run be shrunk: a fault, an operation or a node that is dropped changes what it did, and nothing
//! else.

use highway::{HighwayHash, HighwayHasher, Key};
use receptor_core::rng::Rng;

/// The generator of one purpose. `a` and `b` say of whom: a node, a wire, how often before.
pub fn chance(seed: u64, purpose: &str, a: u64, b: u64) -> Rng {
    let purpose = HighwayHasher::new(Key([0; 4])).hash64(purpose.as_bytes());
    let mut key = [0; 32];
    for (part, number) in key.chunks_exact_mut(8).zip([seed, purpose, a, b]) {
        part.copy_from_slice(&number.to_le_bytes());
    }
    Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use super::chance;

    #[test]
    fn every_part_of_the_key_counts() {
        let first = |seed, purpose, a, b| chance(seed, purpose, a, b).next_u64();
        let draws = [
            first(1, "wire", 2, 3),
            first(9, "wire", 2, 3),
            first(1, "disk", 2, 3),
            first(1, "wire", 9, 3),
            first(1, "wire", 2, 9),
        ];
        let different: std::collections::BTreeSet<u64> = draws.into_iter().collect();
        assert_eq!(different.len(), draws.len());
        assert_eq!(first(1, "wire", 2, 3), draws[0]);
    }
}
