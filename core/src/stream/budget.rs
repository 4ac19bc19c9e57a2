//! Memory that the streams of a node share.
//!
//! Every stream has a small allowance of its own, which the limit of streams bounds. What it wants beyond is drawn from a
//! common budget, and no stream gets more than an eighth of what is left then: one alone can have what it needs, many share
//! it alike, and something is left for those that come later.

/// Share of what is left that one stream may have.
const SHARE: u64 = 8;

/// A budget and what is drawn from it, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    limit: u64,
    used: u64,
}

impl Budget {
    pub(super) const fn new(limit: u64) -> Self {
        Self { limit, used: 0 }
    }

    /// What one stream may have that has drawn `own` so far.
    pub(super) fn allowance(&self, own: u64) -> u64 {
        self.limit.saturating_sub(self.used.saturating_sub(own)) / SHARE
    }

    /// What is drawn.
    pub(super) const fn used(&self) -> u64 {
        self.used
    }

    /// A stream has drawn `before` and draws `after` from now on.
    pub(super) fn redraw(&mut self, before: &mut u64, after: u64) {
        self.used = self.used.saturating_sub(*before) + after;
        *before = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn everybody_draws_as_much_as_it_may_and_the_limit_holds() {
        for streams in [1, 4, 64, 5000] {
            let mut budget = Budget::new(1 << 28);
            let mut drawn: Vec<u64> = alloc::vec![0; streams];
            for _ in 0..100 {
                for own in &mut drawn {
                    let want = (*own * 2 + 1000).min(8 << 20);
                    let next = want.min(budget.allowance(*own));
                    budget.redraw(own, next);
                    assert!(budget.used() <= 1 << 28);
                }
            }
            let (least, most) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
            assert!(*most >= ((1 << 28) / (streams as u64 + 8)).min(8 << 20));
            assert!(streams > 64 || most - least <= most / 8, "{streams}: {least} to {most}");
            for own in &mut drawn {
                budget.redraw(own, 0);
            }
            assert_eq!(budget.used(), 0);
        }
    }
}
