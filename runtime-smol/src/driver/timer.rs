//! The driver's timer.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;

use async_io::Timer as Sleep;
use receptor_core::deadline::Deadline;
use receptor_core::time::Instant;

use crate::clock::Clock;

/// One timer for all deadlines. It only wakes us; whether a deadline has come is decided by the clock.
#[derive(Default)]
pub(crate) struct Timer {
    sleep: Option<Sleep>,
    armed: Option<Instant>,
}

impl Timer {
    /// Whether the deadline has come. If not, the task is woken when it does.
    pub(crate) fn poll_due(&mut self, cx: &mut Context<'_>, clock: Clock, deadline: Deadline) -> bool {
        let at = match deadline {
            Deadline::Idle => {
                self.armed = None;
                return false;
            }
            Deadline::Now => return true,
            Deadline::At(at, _) => at,
        };
        let sleep = self.sleep.get_or_insert_with(Sleep::never);
        loop {
            if clock.now().mono >= at {
                return true;
            }
            // Arming wakes the reactor. A timer that is armed for an earlier time rings for nothing, which is cheaper.
            if self.armed.is_none_or(|armed| armed > at) {
                sleep.set_at(clock.to_std(at));
                self.armed = Some(at);
            }
            if Pin::new(&mut *sleep).poll(cx).is_pending() {
                return false;
            }
            self.armed = None;
        }
    }
}
