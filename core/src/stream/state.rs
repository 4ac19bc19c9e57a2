//! The life of a stream and of each of its directions, as tables.

use core::fmt;

/// Where one direction stands. Both directions of both ends go through the same states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Half {
    /// Bytes may follow.
    Open,
    /// The final offset is known; not everything has arrived (sender: been acknowledged; receiver: been read).
    Finishing,
    /// Complete.
    Done,
    /// Cut off; what had not arrived never will.
    Reset,
}

/// What happens to a direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The end is decided: the application finished writing, or the peer's FIN arrived.
    Finish,
    /// Everything up to the end is through.
    Complete,
    /// Either side reset the stream, or the peer is gone.
    Reset,
}

/// Where a whole stream stands, as one end sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The SYN is not answered.
    Dialling,
    /// Bytes go both ways as far as the two [`Half`]s allow.
    Open,
    /// Reset by either side, or lost; or both directions are done. Only answers are sent.
    Ended,
}

/// What happens to a whole stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// The peer has spoken: it answered the dial, or dialled itself.
    Answer,
    /// Both directions are done.
    Complete,
    /// Either side reset the stream, or the peer is gone.
    Break,
}

/// What a table says to a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome<S> {
    /// A new state.
    To(S),
    /// Legal and without effect.
    Same,
    /// The caller is wrong; the state stays.
    Invalid,
}

/// Rows: `Dialling Open Ended`. Columns: `Answer Complete Break`.
const LIFE: [[Outcome<Phase>; 3]; 3] = {
    use Outcome::{Invalid, Same, To};
    [
        [To(Phase::Open), Invalid, To(Phase::Ended)],
        [Same, To(Phase::Ended), To(Phase::Ended)],
        [Same, Same, Same],
    ]
};

/// Rows: `Open Finishing Done Reset`. Columns: `Finish Complete Reset`.
const HALVES: [[Outcome<Half>; 3]; 4] = {
    use Outcome::{Invalid, Same, To};
    [
        [To(Half::Finishing), Invalid, To(Half::Reset)],
        [Same, To(Half::Done), To(Half::Reset)],
        [Same, Same, Same],
        [Same, Same, Same],
    ]
};

impl Phase {
    /// Looks a turn up.
    pub(super) const fn outcome(self, turn: Turn) -> Outcome<Self> {
        LIFE[self as usize][turn as usize]
    }

    /// Takes a turn; whether the phase changed.
    pub(super) fn turn(&mut self, turn: Turn) -> bool {
        self.outcome(turn).apply(self, turn)
    }
}

impl Half {
    /// Looks a step up.
    pub(super) const fn outcome(self, step: Step) -> Outcome<Self> {
        HALVES[self as usize][step as usize]
    }

    /// Takes a step; whether the state changed.
    pub(super) fn step(&mut self, step: Step) -> bool {
        self.outcome(step).apply(self, step)
    }

    /// Nothing changes this state any more.
    pub(super) const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Reset)
    }
}

impl<S: Copy + fmt::Debug> Outcome<S> {
    fn apply(self, state: &mut S, step: impl fmt::Debug) -> bool {
        match self {
            Self::To(next) => {
                *state = next;
                true
            }
            Self::Same => false,
            Self::Invalid => {
                debug_assert!(false, "{step:?} in {state:?}");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::*;
    use crate::table_text::grid;

    const HALF: [Half; 4] = [Half::Open, Half::Finishing, Half::Done, Half::Reset];
    const STEPS: [Step; 3] = [Step::Finish, Step::Complete, Step::Reset];
    const PHASES: [Phase; 3] = [Phase::Dialling, Phase::Open, Phase::Ended];
    const TURNS: [Turn; 3] = [Turn::Answer, Turn::Complete, Turn::Break];

    fn text<S: fmt::Debug>(outcome: Outcome<S>) -> String {
        match outcome {
            Outcome::To(next) => format!("{next:?}"),
            Outcome::Same => "no-op".into(),
            Outcome::Invalid => "invalid".into(),
        }
    }

    #[test]
    fn snapshot_of_the_halves() {
        let table = grid(&HALF, &STEPS, |half, &step| text(half.outcome(step)));
        insta::assert_snapshot!("halves", table);
    }

    #[test]
    fn snapshot_of_the_whole() {
        let table = grid(&PHASES, &TURNS, |phase, &turn| text(phase.outcome(turn)));
        insta::assert_snapshot!("whole", table);
    }

    #[test]
    fn final_states_have_no_way_out_and_all_others_have_one() {
        for state in HALF {
            let leaves = STEPS.iter().any(|&step| matches!(state.outcome(step), Outcome::To(_)));
            assert_eq!(leaves, !state.is_final(), "{state:?}");
        }
        for phase in PHASES {
            let leaves = TURNS.iter().any(|&turn| matches!(phase.outcome(turn), Outcome::To(_)));
            assert_eq!(leaves, phase != Phase::Ended, "{phase:?}");
        }
    }
}
