//! Receive credit: the only place that knows windows.
//!
//! Credit is an absolute offset, so a lost or repeated announcement does no harm. The window starts small and doubles
//! while the application takes half of it within two round trips: it follows the product of bandwidth and delay, and an
//! application that does not read never makes it grow. What was announced cannot be taken back; a window that has to
//! shrink does so while it is used.

use super::UNSOLICITED_CREDIT;
use crate::time::{Duration, Instant};

/// Round trips shorter than this count as this long: through busy relays the idle round trip says little.
const RTT_FLOOR: Duration = Duration::from_millis(5);

/// The window of one stream's receiving direction.
#[derive(Clone, Debug)]
pub(super) struct Credit {
    window: u64,
    initial: u64,
    max: u64,
    /// What the node has room for.
    limit: u64,
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
            initial,
            max,
            limit: u64::MAX,
            announced: UNSOLICITED_CREDIT,
            consumed: 0,
            since: Instant::ZERO,
            from: 0,
        }
    }

    /// The node has room for a window of so many bytes now.
    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
        self.window = self.window.min(limit.max(UNSOLICITED_CREDIT));
    }

    /// The stream has been idle: what it once needed says nothing about the future.
    pub(super) fn trim(&mut self) {
        self.window = self.window.min(self.initial);
    }

    /// Bytes the peer may make us hold.
    pub(super) const fn exposure(&self) -> u64 {
        self.announced.saturating_sub(self.consumed)
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
    #[cfg(test)]
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
            let most = self.max.min(self.limit).max(UNSOLICITED_CREDIT);
            self.window = most.min(self.window * 2).max(self.window);
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
    const KIB: u64 = 1024;

    #[test]
    fn grows_while_the_application_is_quick_and_up_to_the_limit() {
        let mut credit = Credit::new(100 * KIB, 600 * KIB);
        let mut now = Instant::from_millis(500);
        credit.announce();
        credit.on_read(now, 60 * KIB, RTT);
        assert_eq!(credit.window(), 100 * KIB, "nobody knows how long that took");
        for expected in [200, 400, 600, 600] {
            now = now + RTT;
            credit.announce();
            credit.on_read(now, credit.window() / 2, RTT);
            assert_eq!(credit.window(), expected * KIB);
        }
    }

    #[test]
    fn a_slow_application_does_not_make_it_grow() {
        let mut credit = Credit::new(100 * KIB, 600 * KIB);
        for step in 1..100 {
            credit.announce();
            credit.on_read(Instant::from_millis(step * 21), 50 * KIB, RTT);
        }
        assert_eq!(credit.window(), 100 * KIB);
    }

    #[test]
    fn credit_never_shrinks() {
        let mut credit = Credit::new(64 * KIB, 64 * KIB);
        assert!(credit.allows(64 * KIB) && !credit.allows(64 * KIB + 1));
        credit.on_read(Instant::ZERO, 10, RTT);
        assert_eq!(credit.announce(), 64 * KIB + 10);
        assert!(!credit.is_update_due());
        credit.on_read(Instant::ZERO, 20 * KIB, RTT);
        assert!(credit.is_update_due());
        assert!(credit.is_exhausted(64 * KIB + 10, 1));
    }

    #[test]
    fn a_lower_limit_takes_effect_while_bytes_are_read() {
        let mut credit = Credit::new(256 * KIB, 1024 * KIB);
        assert_eq!(credit.announce(), 256 * KIB);
        credit.set_limit(100 * KIB);
        assert_eq!((credit.announce(), credit.exposure()), (256 * KIB, 256 * KIB));
        credit.on_read(Instant::ZERO, 156 * KIB, RTT);
        assert_eq!((credit.announce(), credit.exposure()), (256 * KIB, 100 * KIB));
        credit.on_read(Instant::ZERO, 60 * KIB, RTT);
        assert_eq!((credit.announce(), credit.exposure()), (316 * KIB, 100 * KIB));
        credit.set_limit(0);
        assert_eq!(credit.window(), UNSOLICITED_CREDIT, "everybody has so much");
    }
}
