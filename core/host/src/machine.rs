//! What the machine tells of itself: size, name, clocks, chance.

use std::io;
use std::num::NonZero;
use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Logical CPUs this process may use.
pub fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Total memory in MiB, rounded down (`control.md` §4).
pub fn memory_mib() -> u64 {
    let info = rustix::system::sysinfo();
    // Both are `unsigned long` or `unsigned int`, whose width differs between machines.
    let bytes = u128::from(info.totalram) * u128::from(info.mem_unit);
    u64::try_from(bytes >> 20).unwrap_or(u64::MAX)
}

/// The host's name, as the default node ID; bytes that are not UTF-8 are replaced.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A seed for the node's random numbers from the operating system.
pub fn random_seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| io::Error::other(format!("no random seed: {error}")))?;
    Ok(seed)
}

/// Nanoseconds since the Unix epoch; 0 if the clock stands before it.
pub fn wall_nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds since this process first asked. Never goes back.
pub fn mono_nanoseconds() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_something_of_everything() {
        assert!(cpu_count() > 0);
        assert!(memory_mib() > 16);
        assert!(!hostname().is_empty());
        assert_ne!(random_seed().unwrap(), random_seed().unwrap());
        assert!(wall_nanoseconds() > 1_700_000_000_000_000_000);
        let before = mono_nanoseconds();
        assert!(mono_nanoseconds() >= before);
    }
}
