//! Waiting for conditions, never for time.

use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything that should happen takes on a machine that is slow and busy: only what hangs reaches it.
pub const PATIENCE: Duration = Duration::from_secs(120);

const STEP: Duration = Duration::from_millis(20);

/// Asks `poll` until it answers `Ok`; panics with its last complaint when `limit` has passed.
pub fn until<T>(what: &str, limit: Duration, mut poll: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match poll() {
            Ok(value) => return value,
            Err(complaint) => assert!(
                start.elapsed() < limit,
                "not within {limit:?}: {what}; last seen: {complaint}"
            ),
        }
        thread::sleep(STEP);
    }
}

/// Checks that something stays true for a while: for what must not happen, where nothing announces that it did not.
pub fn holds_for(what: &str, span: Duration, mut check: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while start.elapsed() < span {
        if let Err(complaint) = check() {
            panic!("did not hold: {what}: {complaint}");
        }
        thread::sleep(STEP);
    }
}
