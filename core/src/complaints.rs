//! Lines of the log that anybody can cause who can connect: what is said of failures, and how often.

use alloc::string::String;
use core::time::Duration;

use crate::time::Instant;

/// Lines of one kind in one [`PERIOD`]. Whoever can connect can also fail, as fast as he likes.
const MOST: u32 = 10;

/// How long the count lasts.
const PERIOD: Duration = Duration::from_secs(10);

/// Counts the complaints of one kind, such as those about one service.
#[derive(Default, Debug)]
pub struct Complaints {
    since: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl Complaints {
    /// Whether one more may be said, and how many were left out before it.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| since + PERIOD <= now) {
            self.since = Some(now);
            self.said = 0;
        }
        if self.said == MOST {
            self.unsaid += 1;
            return None;
        }
        self.said += 1;
        Some(core::mem::take(&mut self.unsaid))
    }

    /// The line, if it may be said, and how many were left out before it.
    pub fn line(&mut self, now: Instant, text: &str) -> Option<String> {
        Some(match self.admit(now)? {
            0 => text.into(),
            count => alloc::format!("{text} ({count} more before were not logged)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_instead_of_told() {
        let mut complaints = Complaints::default();
        let start = Instant::from_millis(5);
        for _ in 0..MOST {
            assert_eq!(complaints.admit(start), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(complaints.admit(start), None);
        }
        assert_eq!(complaints.admit(start + PERIOD), Some(7));
        assert_eq!(complaints.admit(start + PERIOD), Some(0));
    }
}
