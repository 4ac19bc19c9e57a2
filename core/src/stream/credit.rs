//! Receive credit: the only place that knows windows.
//!
//! Credit is an absolute offset, so a lost or repeated announcement does no harm. The window starts small and doubles
//! while it is what holds the sender back and the application keeps up: an application that does not read never makes it
//! grow.

/// The window of one stream's receiving direction.
#[derive(Clone, Debug)]
pub(super) struct Credit {
    window: u64,
    max: u64,
    /// Offset the peer may send to, as last announced.
    announced: u64,
    /// Bytes the application has read.
    consumed: u64,
}

impl Credit {
    pub(super) const fn new(initial: u64, max: u64) -> Self {
        Self {
            window: initial,
            max,
            announced: initial,
            consumed: 0,
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

    /// The application has read `count` bytes. `highest` is one past the highest byte seen, `unread` what still waits.
    pub(super) fn on_read(&mut self, count: u64, highest: u64, unread: u64) {
        self.consumed += count;
        let sender_is_held_back = highest + self.window / 4 >= self.announced;
        if sender_is_held_back && unread <= self.window / 2 {
            self.window = self.max.min(self.window * 2).max(self.window);
        }
        debug_assert!(self.consumed <= self.announced);
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

    #[test]
    fn grows_only_while_the_sender_is_held_back_and_the_reader_keeps_up() {
        let mut credit = Credit::new(1000, 8000);
        credit.on_read(100, 100, 0);
        assert_eq!(credit.window(), 1000);
        credit.on_read(100, 1000, 800);
        assert_eq!(credit.window(), 1000);
        credit.on_read(800, 1000, 0);
        assert_eq!(credit.window(), 2000);
        assert!(credit.is_update_due());
        assert_eq!(credit.announce(), 3000);
        assert!(!credit.is_update_due());
        for _ in 0..10 {
            let announced = credit.announce();
            credit.on_read(announced - credit.consumed, announced, 0);
        }
        assert_eq!(credit.window(), 8000);
    }

    #[test]
    fn credit_never_shrinks() {
        let mut credit = Credit::new(1000, 1000);
        assert!(credit.allows(1000) && !credit.allows(1001));
        credit.on_read(10, 10, 0);
        assert_eq!(credit.announce(), 1010);
        assert!(!credit.is_update_due());
        credit.on_read(300, 1010, 700);
        assert!(credit.is_update_due());
        assert!(credit.is_exhausted(1010, 1));
    }
}
