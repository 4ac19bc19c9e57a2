//! How a unit is brought to its end: first asked, then told, then killed.

use std::time::{Duration, Instant};

/// From the request, or from the command's own end, to the next step.
const STEP: Duration = Duration::from_secs(5);

/// Between two rounds of killing: new processes may have been started meanwhile.
const ROUND: Duration = Duration::from_millis(100);

/// How long rounds of killing go on. A process that survives them hangs in the kernel and writes nothing more.
const ROUNDS: Duration = Duration::from_secs(10);

/// What is to be done now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// SIGINT to the command.
    Interrupt,
    /// SIGTERM to the command's process group.
    Terminate,
    /// SIGKILL to every descendant.
    Kill,
}

#[derive(Debug)]
pub(super) struct Escalation {
    next: Step,
    at: Instant,
    killing_since: Option<Instant>,
}

impl Escalation {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next: Step::Interrupt,
            at: now,
            killing_since: None,
        }
    }

    /// The step that is due, if one is; call again until none is. `command_runs` says whether the command's own process
    /// still does: what it leaves behind need not be waited for so long.
    pub(super) fn due(&mut self, now: Instant, command_runs: bool) -> Option<Step> {
        let hurry = self.next == Step::Terminate && !command_runs;
        if now < self.at && !hurry {
            return None;
        }
        let step = self.next;
        (self.next, self.at) = match step {
            Step::Interrupt => (Step::Terminate, now + STEP),
            Step::Terminate => (Step::Kill, now + STEP),
            Step::Kill => (Step::Kill, now + ROUND),
        };
        if step == Step::Kill {
            self.killing_since.get_or_insert(now);
        }
        Some(step)
    }

    /// When a step is due next.
    pub(super) fn deadline(&self) -> Instant {
        self.at
    }

    /// Whether killing has been tried for long enough.
    pub(super) fn is_exhausted(&self, now: Instant) -> bool {
        self.killing_since.is_some_and(|since| now >= since + ROUNDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_stubborn_command_is_killed_after_ten_seconds() {
        let start = Instant::now();
        let mut escalation = Escalation::new(start);
        assert_eq!(escalation.due(start, true), Some(Step::Interrupt));
        assert_eq!(escalation.due(after(start, 4_999), true), None);
        assert_eq!(escalation.due(after(start, 5_000), true), Some(Step::Terminate));
        assert_eq!(escalation.deadline(), after(start, 10_000));
        assert_eq!(escalation.due(after(start, 10_000), true), Some(Step::Kill));
        assert_eq!(escalation.due(after(start, 10_050), true), None);
        assert_eq!(escalation.due(after(start, 10_100), true), Some(Step::Kill));
        assert!(!escalation.is_exhausted(after(start, 19_999)));
        assert!(escalation.is_exhausted(after(start, 20_000)));
    }

    #[test]
    fn what_an_ended_command_leaves_behind_is_told_at_once() {
        let start = Instant::now();
        let mut escalation = Escalation::new(start);
        assert_eq!(escalation.due(start, true), Some(Step::Interrupt));
        assert_eq!(escalation.due(after(start, 1_000), false), Some(Step::Terminate));
        assert_eq!(escalation.due(after(start, 1_000), false), None);
        assert_eq!(escalation.due(after(start, 6_000), false), Some(Step::Kill));
    }
}
