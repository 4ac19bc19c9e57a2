//! Receive credit: the only place that knows windows.
//!
//! Credit is an absolute offset, so a lost or repeated announcement does no harm. The window starts small and doubles
//! while the application takes half of it within two round trips: it follows the product of bandwidth and delay, and an
//! application that does not read never makes it grow.

use crate::time::{Duration, Instant};

/// Round trips shorter than this count as this long: through busy relays the idle round trip says little.
const RTT_FLOOR: Duration = Duration::from_millis(5);

/// The window of one stream's receiving direction.
#[derive(Clone, Debug)]
pub(super) struct Credit {
    window: u64,
    max: u64,
    /// Offset the peer may send to, as last announced.
    announced: u64,
    /// Bytes the application has read.
    consumed: u64,
    /// When the present measurement began, and at which offset.
    since: Instant,
    from: u64,
}

impl Credit {
    pub(super) const fn new(initial: u64, max: u64) -> Self {
        Self {
            window: initial,
            max,
            announced: initial,
            consumed: 0,
            since: Instant::ZERO,
            from: 0,
        }
    }

    /// The offset to announce now; noted as announced.
    pub(super) fn announce(&mut self) -> u64 {
        self.announced = self.announced.max(self.consumed.saturating_add(self.window));
        self.announced
    }

    /// Whether bytes up to `end` were allowed.
    pub(super) const fn allows(&self, end: u64) -> bool {
        end <= self.announced
    }

    /// The present size of the window.
    pub(super) const fn window(&self) -> u64 {
        self.window
    }

    /// The application has read `count` bytes.
    pub(super) fn on_read(&mut self, now: Instant, count: u64, rtt: Duration) {
        self.consumed += count;
        debug_assert!(self.consumed <= self.announced);
        if self.consumed - self.from < self.window / 2 {
            return;
        }
        if now.since(self.since) <= rtt.max(RTT_FLOOR) * 2 {
            self.window = self.max.min(self.window * 2);
        }
        self.since = now;
        self.from = self.consumed;
    }

    /// Whether enough has become free to tell the peer without being asked.
    pub(super) const fn is_update_due(&self) -> bool {
        self.consumed + self.window >= self.announced + self.window / 4
    }

    /// Whether the peer, as far as we know, cannot send a segment of `segment` bytes: the update must not get lost.
    pub(super) const fn is_exhausted(&self, highest: u64, segment: u64) -> bool {
        highest + segment > self.announced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(10);

    #[test]
    fn grows_while_the_application_is_quick_and_up_to_the_limit() {
        let mut credit = Credit::new(1000, 6000);
        let mut now = Instant::from_millis(500);
        credit.on_read(now, 600, RTT);
        assert_eq!(credit.window(), 1000, "nobody knows how long that took");
        for expected in [2000, 4000, 6000, 6000] {
            now = now + RTT;
            credit.announce();
            credit.on_read(now, credit.window() / 2, RTT);
            assert_eq!(credit.window(), expected);
        }
    }

    #[test]
    fn a_slow_application_does_not_make_it_grow() {
        let mut credit = Credit::new(1000, 6000);
        for step in 1..100 {
            credit.announce();
            credit.on_read(Instant::from_millis(step * 21), 500, RTT);
        }
        assert_eq!(credit.window(), 1000);
    }

    #[test]
    fn credit_never_shrinks() {
        let mut credit = Credit::new(1000, 1000);
        assert!(credit.allows(1000) && !credit.allows(1001));
        credit.on_read(Instant::ZERO, 10, RTT);
        assert_eq!(credit.announce(), 1010);
        assert!(!credit.is_update_due());
        credit.on_read(Instant::ZERO, 300, RTT);
        assert!(credit.is_update_due());
        assert!(credit.is_exhausted(1010, 1));
    }
}
