//! The life of one direction of a stream, as a table.

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

/// What the table says to a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// A new state.
    To(Half),
    /// Legal and without effect.
    Same,
    /// The caller is wrong; the state stays.
    Invalid,
}

/// Rows: `Open Finishing Done Reset`. Columns: `Finish Complete Reset`.
const TABLE: [[Outcome; 3]; 4] = {
    use Outcome::{Invalid, Same, To};
    [
        [To(Half::Finishing), Invalid, To(Half::Reset)],
        [Same, To(Half::Done), To(Half::Reset)],
        [Same, Same, Same],
        [Same, Same, Same],
    ]
};

impl Half {
    /// Looks a step up.
    pub(super) const fn outcome(self, step: Step) -> Outcome {
        TABLE[self as usize][step as usize]
    }

    /// Takes a step; whether the state changed.
    pub(super) fn step(&mut self, step: Step) -> bool {
        match self.outcome(step) {
            Outcome::To(next) => {
                *self = next;
                true
            }
            Outcome::Same => false,
            Outcome::Invalid => {
                debug_assert!(false, "{step:?} in {self:?}");
                false
            }
        }
    }

    /// Nothing changes this state any more.
    pub(super) const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Reset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [Half; 4] = [Half::Open, Half::Finishing, Half::Done, Half::Reset];
    const STEPS: [Step; 3] = [Step::Finish, Step::Complete, Step::Reset];

    #[test]
    fn every_cell_of_the_table() {
        use Outcome::{Invalid, Same, To};
        for (state, step, expected) in [
            (Half::Open, Step::Finish, To(Half::Finishing)),
            (Half::Open, Step::Complete, Invalid),
            (Half::Open, Step::Reset, To(Half::Reset)),
            (Half::Finishing, Step::Finish, Same),
            (Half::Finishing, Step::Complete, To(Half::Done)),
            (Half::Finishing, Step::Reset, To(Half::Reset)),
            (Half::Done, Step::Finish, Same),
            (Half::Done, Step::Complete, Same),
            (Half::Done, Step::Reset, Same),
            (Half::Reset, Step::Finish, Same),
            (Half::Reset, Step::Complete, Same),
            (Half::Reset, Step::Reset, Same),
        ] {
            assert_eq!(state.outcome(step), expected, "{state:?} {step:?}");
        }
    }

    #[test]
    fn final_states_have_no_way_out_and_all_others_have_one() {
        for state in STATES {
            let leaves = STEPS.iter().any(|&step| matches!(state.outcome(step), Outcome::To(_)));
            assert_eq!(leaves, !state.is_final(), "{state:?}");
        }
    }
}
