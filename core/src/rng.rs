//! Seeded randomness: the only source of chance in the core.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// A ChaCha8 generator. The adapter seeds the node's from the operating system, a simulator from its own seed;
/// components get forks, so that a draw in one does not shift the draws of another.
#[derive(Clone)]
pub struct Rng(ChaCha8Rng);

/// The characters of random names on the wire (`wire.md` §8, §20; `work.md` §2).
const ALPHANUMERIC: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

impl Rng {
    /// A generator whose whole future is decided by `seed`.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha8Rng::from_seed(seed))
    }

    /// An independent generator for one component.
    pub fn fork(&mut self) -> Self {
        Self::from_seed(self.fork_seed())
    }

    /// The seed of an independent generator.
    pub fn fork_seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        seed
    }

    /// Uniform over all values.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `0..bound`; 0 if `bound` is 0. The bias of the multiply-shift method is below 2^-32 for small bounds.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Eight random characters from `0-9a-zA-Z`.
    pub fn name8(&mut self) -> [u8; 8] {
        core::array::from_fn(|_| ALPHANUMERIC[self.below(62) as usize])
    }
}

impl core::fmt::Debug for Rng {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Rng")
    }
}
