//! The driver's timer.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;

use receptor_core::deadline::Deadline;
use receptor_core::time::Instant;
use tokio::time::Sleep;

use crate::clock::Clock;

/// One timer for all deadlines. It only wakes us; whether a deadline has come is decided by the clock.
#[derive(Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
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
        if clock.now().mono >= at {
            return true;
        }
        let when = clock.to_tokio(at);
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(when)));
        if self.armed != Some(at) {
            sleep.as_mut().reset(when);
            self.armed = Some(at);
        }
        // Elapsed although the clock says otherwise (rounding): look again at once.
        sleep.as_mut().poll(cx).is_ready() && {
            self.armed = None;
            true
        }
    }
}
