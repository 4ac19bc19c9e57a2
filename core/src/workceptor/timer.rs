//! Timers of the machine: at most one of each kind per thing, so that nothing piles up.

use alloc::collections::{BTreeMap, BTreeSet};

use super::api::PeerKey;
use super::id::UnitId;
use super::target::Target;
use crate::time::{Duration, Instant};

/// What is due.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// Connect to a node again.
    PeerRetry(Target),
    /// The opening of a peer's session takes too long.
    PeerSlow(PeerKey),
    /// Nobody has needed a peer's session for a while.
    PeerIdle(Target),
    /// A remote unit must have started.
    Expire(UnitId),
    /// A client has waited long enough for the start of a remote unit.
    StartReply(UnitId),
    /// A client has waited long enough for the adoption of a unit.
    Adopt(UnitId),
    /// Try to write a record again.
    RetryChange(UnitId),
    /// Try to write output again.
    RetryOutput(UnitId),
    /// Try to remove a unit again.
    RetryRemove(UnitId),
    /// Try to reach a runner again.
    RetryAttach(UnitId),
    /// Try to tell a runner again that its unit shall end.
    RetryCancel(UnitId),
    /// Ask for a unit's status.
    Poll(UnitId),
    /// Open a stream for a unit again.
    RetryCall(UnitId),
    /// Try to sign a request about a unit again.
    RetrySign(UnitId),
    /// Stdin has not come for long.
    StdinSlow(UnitId),
    /// A unit that is over has been kept for long enough.
    Release(UnitId),
}

impl Timer {
    /// For logs.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::PeerRetry(_) => "connect to a node again",
            Self::PeerSlow(_) => "opening of a work session",
            Self::PeerIdle(_) => "close an unused work session",
            Self::Expire(_) => "time to live of a unit",
            Self::StartReply(_) => "start of a remote unit",
            Self::Adopt(_) => "adoption of a unit",
            Self::RetryChange(_) => "write a unit's record again",
            Self::RetryOutput(_) => "write a unit's output again",
            Self::RetryRemove(_) => "remove a unit again",
            Self::RetryAttach(_) => "connect to a runner again",
            Self::RetryCancel(_) => "tell a runner again",
            Self::Poll(_) => "ask for a unit's status",
            Self::RetryCall(_) => "open a stream for a unit again",
            Self::RetrySign(_) => "sign a request again",
            Self::StdinSlow(_) => "stdin of a unit",
            Self::Release(_) => "a unit expires",
        }
    }

    fn unit(&self) -> Option<&UnitId> {
        match self {
            Self::PeerRetry(_) | Self::PeerSlow(_) | Self::PeerIdle(_) => None,
            Self::Expire(id)
            | Self::StartReply(id)
            | Self::Adopt(id)
            | Self::RetryChange(id)
            | Self::RetryOutput(id)
            | Self::RetryRemove(id)
            | Self::RetryAttach(id)
            | Self::RetryCancel(id)
            | Self::Poll(id)
            | Self::RetryCall(id)
            | Self::RetrySign(id)
            | Self::StdinSlow(id)
            | Self::Release(id) => Some(id),
        }
    }
}

/// The pending timers.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Instant, Timer)>,
    times: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Sets a timer, in place of an earlier one of the same kind for the same thing.
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(old) = self.times.insert(timer.clone(), at) {
            self.by_time.remove(&(old, timer.clone()));
        }
        self.by_time.insert((at, timer));
    }

    pub(super) fn clear(&mut self, timer: &Timer) {
        if let Some((timer, at)) = self.times.remove_entry(timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    pub(super) fn is_set(&self, timer: &Timer) -> bool {
        self.times.contains_key(timer)
    }

    /// Forgets all timers of a unit.
    pub(super) fn clear_unit(&mut self, id: &UnitId) {
        for timer in [
            Timer::Expire(id.clone()),
            Timer::StartReply(id.clone()),
            Timer::Adopt(id.clone()),
            Timer::RetryChange(id.clone()),
            Timer::RetryOutput(id.clone()),
            Timer::RetryRemove(id.clone()),
            Timer::RetryAttach(id.clone()),
            Timer::RetryCancel(id.clone()),
            Timer::Poll(id.clone()),
            Timer::RetryCall(id.clone()),
            Timer::RetrySign(id.clone()),
            Timer::StdinSlow(id.clone()),
            Timer::Release(id.clone()),
        ] {
            debug_assert_eq!(timer.unit(), Some(id), "listed above");
            self.clear(&timer);
        }
    }

    pub(super) fn first(&self) -> Option<(Instant, &'static str)> {
        self.by_time.first().map(|(at, timer)| (*at, timer.reason()))
    }

    /// Takes a timer that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        if self.by_time.first()?.0 > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.times.remove(&timer);
        Some(timer)
    }
}

/// The wait before attempt `tries + 1`: 1 s, then half as long again each time, 60 s at most (`work.md` §11.2).
pub(super) fn back_off(tries: u32) -> Duration {
    let mut millis: u64 = 1000;
    for _ in 0..tries.min(11) {
        millis = millis * 3 / 2;
    }
    Duration::from_millis(millis.min(60_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_set_again_replaces_the_first() {
        let mut timers = Timers::default();
        let target = || Target {
            node: "a".into(),
            tls_client: None,
        };
        let retry = || Timer::PeerRetry(target());
        timers.set(retry(), Instant::from_millis(5));
        timers.set(retry(), Instant::from_millis(9));
        assert_eq!(timers.pop_due(Instant::from_millis(8)), None);
        assert_eq!(timers.first().map(|(at, _)| at), Some(Instant::from_millis(9)));
        assert_eq!(timers.pop_due(Instant::from_millis(9)), Some(retry()));
        assert_eq!(timers.first(), None);
    }

    #[test]
    fn waits_grow_to_a_minute() {
        assert_eq!(back_off(0), Duration::from_secs(1));
        assert_eq!(back_off(1), Duration::from_millis(1500));
        assert_eq!(back_off(1000), Duration::from_secs(60));
    }
}
