//! One sync for all who wait for it.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A sync of one thing that many threads want: each gets one that began after it asked, and those that ask while one is
/// under way share the next.
#[derive(Default, Debug)]
pub(super) struct SharedSync {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default, Debug)]
struct State {
    /// Syncs that were begun.
    begun: u64,
    /// Syncs that have ended.
    ended: u64,
    /// The last that failed, and why.
    failed: Option<(u64, io::ErrorKind, String)>,
}

impl SharedSync {
    /// Returns when a sync that began after the call has ended. One of those who wait carries it out.
    pub(super) fn sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        // What is under way may have begun too early.
        let wanted = state.begun + 1;
        while state.ended < wanted {
            if state.begun > state.ended {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.begun += 1;
            let number = state.begun;
            drop(state);
            let result = sync();
            state = self.state();
            state.ended = number;
            if let Err(error) = &result {
                state.failed = Some((number, error.kind(), error.to_string()));
            }
            self.changed.notify_all();
            return result;
        }
        match &state.failed {
            // A later one may have succeeded, but what it did not find dirty any more may be lost.
            Some((number, kind, text)) if *number >= wanted => Err(io::Error::new(*kind, text.clone())),
            _ => Ok(()),
        }
    }

    /// The numbers fit each other between any two statements, so a panic elsewhere does no harm to them.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::Duration;

    #[test]
    fn those_who_wait_share_a_sync_that_began_after_they_asked() {
        let (shared, written, synced) = (SharedSync::default(), AtomicU64::new(0), AtomicU64::new(0));
        let syncs = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| {
                    let mine = written.fetch_add(1, Ordering::SeqCst) + 1;
                    let sync = || {
                        syncs.fetch_add(1, Ordering::SeqCst);
                        let durable = written.load(Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(5));
                        synced.fetch_max(durable, Ordering::SeqCst);
                        Ok(())
                    };
                    shared.sync(sync).unwrap();
                    assert!(synced.load(Ordering::SeqCst) >= mine);
                });
            }
        });
        assert!(syncs.load(Ordering::SeqCst) < 64, "none was shared");
    }

    #[test]
    fn a_failure_is_told_to_all_who_waited_for_it() {
        let shared = SharedSync::default();
        let failing = || {
            thread::sleep(Duration::from_millis(20));
            Err(io::Error::other("the disk is ill"))
        };
        let failures = thread::scope(|scope| {
            let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| shared.sync(failing).is_err())).collect();
            waiting
                .into_iter()
                .filter_map(|thread| thread.join().ok().filter(|failed| *failed))
                .count()
        });
        assert_eq!(failures, 8);
        assert!(shared.sync(|| Ok(())).is_ok());
    }
}
