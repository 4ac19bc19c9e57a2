//! What the passing of time does.

use alloc::string::ToString;

use super::super::TIMEOUT_TEXT;
use super::super::acks::MAX_ACK_DELAY;
use super::{Phase, Stream};
use crate::deadline::Deadline;
use crate::time::{Duration, Instant};

/// A closed window is probed at intervals that double up to this.
const STARVED_INTERVAL_MAX: Duration = Duration::from_secs(5);
/// A reset is repeated at intervals that double from the first to the second.
const RESET_INTERVAL: Duration = Duration::from_millis(200);
const RESET_INTERVAL_MAX: Duration = Duration::from_secs(8);

impl Stream {
    /// When to call [`handle_timeout`](Self::handle_timeout) next; `Now` while a packet or an event waits.
    pub fn next_deadline(&self) -> Deadline {
        if self.has_event() || self.wants_transmit() {
            Deadline::Now
        } else {
            self.next_timeout()
        }
    }

    /// The same without regard to what waits, for a caller that cannot send at the moment. An idle stream has none.
    pub fn next_timeout(&self) -> Deadline {
        Deadline::at(self.timeout_at(), "stream")
    }

    /// [`next_timeout`](Self::next_timeout) as a time.
    pub(in super::super) fn timeout_at(&self) -> Option<Instant> {
        let ack = self.acks.deadline();
        if self.phase == Phase::Ended {
            let reset = self.reset.as_ref().and_then(|reset| reset.next);
            let linger = self.linger_until.filter(|_| !self.is_drained);
            return [ack, reset, linger].into_iter().flatten().min();
        }
        let dial = (self.phase == Phase::Dialling).then_some(self.dial_deadline);
        let (loss, probe, dead) = (self.recovery.loss_time(), self.probe_at(), self.dead_at());
        [ack, loss, probe, dead, dial, self.paced_until()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Time has passed. Calling it early or often does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        let is_due = |time: Option<Instant>| time.is_some_and(|time| time <= now);
        self.acks.handle_timeout(now);
        self.pacing.on_time(now);
        if self.phase == Phase::Ended {
            if is_due(self.linger_until) {
                self.is_drained = true;
                self.reset = None;
            }
            if let Some(reset) = &mut self.reset
                && is_due(reset.next)
            {
                reset.next = None;
                reset.is_due = true;
            }
            return;
        }
        let is_dial_over = self.phase == Phase::Dialling && self.dial_deadline <= now;
        if is_dial_over || is_due(self.dead_at()) {
            self.lose(now, TIMEOUT_TEXT.to_string());
            return;
        }
        if is_due(self.recovery.loss_time()) {
            let news = self.recovery.on_loss_time(now, &mut self.path, &mut self.send);
            self.apply_losses(now, &news, self.probe_count);
        }
        if is_due(self.probe_at()) {
            self.probe_base = now;
            self.probes_due = 1;
            if self.recovery.is_waiting() {
                self.probe_count = self.probe_count.saturating_add(1);
            } else {
                self.starved_count = self.starved_count.saturating_add(1);
            }
        }
    }

    /// Sets the time of the next repetition of a reset.
    pub(super) fn arm_reset(&mut self, now: Instant) {
        if let Some(reset) = &mut self.reset {
            let interval = RESET_INTERVAL * 2_u32.saturating_pow(reset.attempts.min(10));
            reset.next = (reset.attempts < u32::MAX).then(|| now + interval.min(RESET_INTERVAL_MAX));
            reset.attempts = reset.attempts.saturating_add(1);
        }
    }

    /// When silence is long enough to ask. Capped, because relays are killed and restarted: the peer shall be found soon
    /// after the path is back.
    fn probe_at(&self) -> Option<Instant> {
        let base = self.path.rtt.probe_timeout(MAX_ACK_DELAY);
        let (count, cap) = if self.recovery.is_waiting() {
            (self.probe_count, self.config.probe_interval_max)
        } else if self.send.is_starved(self.peer_window) {
            (self.starved_count, STARVED_INTERVAL_MAX)
        } else {
            return None;
        };
        let interval = base.saturating_mul(2_u32.pow(count.min(16))).min(cap.max(base));
        Some(self.probe_base + interval)
    }

    fn dead_at(&self) -> Option<Instant> {
        self.outstanding_since
            .map(|since| since.max(self.last_heard) + self.config.dead_after)
    }
}
