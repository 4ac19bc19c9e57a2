//! A set of numbers kept as sorted, disjoint ranges.

use alloc::collections::VecDeque;
use core::ops::Range;

/// Half-open ranges in ascending order that neither touch nor overlap. The newest numbers are at the back, where
/// inserting costs nothing; the caller bounds the length.
#[derive(Clone, Debug, Default)]
pub(super) struct RangeSet(VecDeque<Range<u64>>);

impl RangeSet {
    pub(super) const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// Adds a range; whether any number of it was new.
    pub(super) fn insert(&mut self, range: Range<u64>) -> bool {
        if range.is_empty() {
            return false;
        }
        match self.0.back_mut() {
            Some(last) if last.end == range.start => {
                last.end = range.end;
                return true;
            }
            Some(last) if last.end > range.start => {}
            _ => {
                self.0.push_back(range);
                return true;
            }
        }
        let first = self.0.partition_point(|r| r.end < range.start);
        let after = self.0.partition_point(|r| r.start <= range.end);
        if first == after {
            self.0.insert(first, range);
            return true;
        }
        if self.0[first].start <= range.start && self.0[first].end >= range.end {
            return false;
        }
        let start = self.0[first].start.min(range.start);
        let end = self.0[after - 1].end.max(range.end);
        self.0[first] = start..end;
        self.0.drain(first + 1..after);
        true
    }

    /// Takes a range out.
    pub(super) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let mut at = self.0.partition_point(|r| r.end <= range.start);
        while let Some(found) = self.0.get(at).cloned() {
            if found.start >= range.end {
                return;
            }
            let left = found.start..range.start;
            let right = range.end..found.end;
            match (left.is_empty(), right.is_empty()) {
                (true, true) => {
                    self.0.remove(at);
                }
                (false, true) => {
                    self.0[at] = left;
                    at += 1;
                }
                (true, false) => {
                    self.0[at] = right;
                    return;
                }
                (false, false) => {
                    self.0[at] = left;
                    self.0.insert(at + 1, right);
                    return;
                }
            }
        }
    }

    /// Forgets everything below `floor`.
    pub(super) fn trim_below(&mut self, floor: u64) {
        while let Some(first) = self.0.front_mut() {
            if first.end <= floor {
                self.0.pop_front();
            } else {
                first.start = first.start.max(floor);
                return;
            }
        }
    }

    /// The parts of `range` that are not in the set, in ascending order.
    pub(super) fn missing(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let first = self.0.partition_point(|r| r.end <= range.start);
        let (mut at, end) = (range.start, range.end);
        let mut known = self.0.range(first..);
        core::iter::from_fn(move || {
            while at < end {
                let Some(next) = known.next().filter(|next| next.start < end) else {
                    let rest = at..end;
                    at = end;
                    return Some(rest);
                };
                let gap = at..next.start.max(at);
                at = next.end;
                if !gap.is_empty() {
                    return Some(gap);
                }
            }
            None
        })
    }

    /// Gives memory back that is not needed.
    pub(super) fn trim_memory(&mut self) {
        if self.0.capacity() > 4 {
            self.0.shrink_to(4);
        }
    }

    /// Forgets the lowest range.
    pub(super) fn pop_first(&mut self) {
        self.0.pop_front();
    }

    /// Whether `number` is in the set.
    pub(super) fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|r| r.end <= number);
        self.0.get(at).is_some_and(|r| r.contains(&number))
    }

    /// The lowest range.
    pub(super) fn first(&self) -> Option<Range<u64>> {
        self.0.front().cloned()
    }

    /// How many ranges there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is in the set.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges in ascending order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Range<u64>> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;
    use crate::rng::Rng;

    /// The naive model is a set of numbers.
    #[test]
    fn behaves_like_a_set_of_numbers() {
        let mut rng = Rng::from_seed([7; 32]);
        for _ in 0..300 {
            let (mut set, mut model) = (RangeSet::default(), BTreeSet::new());
            for _ in 0..60 {
                let start = rng.below(60);
                let range = start..start + rng.below(9);
                match rng.below(8) {
                    0 => {
                        set.trim_below(start / 4);
                        model = model.split_off(&(start / 4));
                    }
                    1..=2 => {
                        set.remove(range.clone());
                        model.retain(|n| !range.contains(n));
                    }
                    _ => {
                        let new = range.clone().any(|n| !model.contains(&n));
                        assert_eq!(set.insert(range.clone()), new);
                        model.extend(range);
                    }
                }
                assert!(set.iter().flat_map(Clone::clone).eq(model.iter().copied()));
                assert!(set.iter().zip(set.iter().skip(1)).all(|(a, b)| a.end < b.start));
                for n in 0..70 {
                    assert_eq!(set.contains(n), model.contains(&n));
                }
                let from = rng.below(70);
                let range = from..from + rng.below(30);
                let missing = set.missing(range.clone()).flatten();
                assert!(missing.eq(range.filter(|n| !model.contains(n))));
                assert_eq!(set.is_empty(), model.is_empty());
            }
        }
    }
}
