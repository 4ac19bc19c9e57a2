//! The states of a unit (`work.md` §4).

use alloc::borrow::Cow;
use alloc::format;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// State of a unit. Numbers nobody defined are kept, so that a record is rewritten as it was found.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum State {
    /// 0: created, waiting for stdin, queued or being started.
    #[default]
    Pending,
    /// 1: the command runs.
    Running,
    /// 2: ended well, with all of its output.
    Succeeded,
    /// 3: ended badly or never started.
    Failed,
    /// 4: ended because somebody asked for it.
    Canceled,
    /// Any other number.
    Unknown(i64),
}

impl State {
    /// From the number in the record.
    pub const fn from_number(number: i64) -> Self {
        match number {
            0 => Self::Pending,
            1 => Self::Running,
            2 => Self::Succeeded,
            3 => Self::Failed,
            4 => Self::Canceled,
            other => Self::Unknown(other),
        }
    }

    /// The number in the record.
    pub const fn number(self) -> i64 {
        match self {
            Self::Pending => 0,
            Self::Running => 1,
            Self::Succeeded => 2,
            Self::Failed => 3,
            Self::Canceled => 4,
            Self::Unknown(other) => other,
        }
    }

    /// Whether nothing can change any more. Unlike in the classic node that includes `Canceled` (`work.md` §19 #3).
    pub const fn is_complete(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }

    /// `StateName` of status answers (`control.md` §6.3).
    pub fn name(self) -> Cow<'static, str> {
        match self {
            Self::Pending => "Pending".into(),
            Self::Running => "Running".into(),
            Self::Succeeded => "Succeeded".into(),
            Self::Failed => "Failed".into(),
            Self::Canceled => "Canceled".into(),
            Self::Unknown(number) => format!("Unknown: {number}").into(),
        }
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.number())
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(Self::from_number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_both_ways_and_unknown_ones_are_kept() {
        for number in -3..9 {
            assert_eq!(State::from_number(number).number(), number);
        }
        assert_eq!(State::from_number(7).name(), "Unknown: 7");
        assert!(State::Canceled.is_complete());
        assert!(!State::Unknown(7).is_complete());
    }
}
