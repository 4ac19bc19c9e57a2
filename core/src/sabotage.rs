//! Bugs on purpose, by which the simulator shows that its invariants can fail. With the feature `sabotage` only, which no program
//! has: the code of a node asks [`is`], and without the feature the answer is a constant.

#[cfg(feature = "sabotage")]
use core::sync::atomic::{AtomicU8, Ordering};

macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident = $name:literal;)*) => {
        /// A bug.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        #[cfg_attr(not(feature = "sabotage"), allow(dead_code, unreachable_pub))]
        pub enum Bug {
            $($(#[$doc])* $bug,)*
        }

        #[cfg(feature = "sabotage")]
        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug,)*];

            /// Its name on command lines.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)*
                }
            }
        }
    };
}

bugs! {
    /// Pings are answered twice.
    AnswersTwice = "answers-twice";
    /// Some pings are not answered.
    AnswersNever = "answers-never";
    /// A frame that is passed on keeps its hops.
    KeepsHops = "keeps-hops";
    /// Each piece read from a pipe is granted twice.
    GrantsTwice = "grants-twice";
    /// A stream goes on behind a gap.
    SkipsGaps = "skips-gaps";
    /// A stream that is reset looks ended.
    EndsResets = "ends-resets";
    /// Routes are computed at the start and never again.
    KeepsOldPaths = "keeps-old-paths";
    /// A neighbour that knows something else is left alone.
    IgnoresDigests = "ignores-digests";
    /// No record is synced.
    SkipsSync = "skips-sync";
    /// The timers of streams are not reported.
    ForgetsTimers = "forgets-timers";
    /// A timer that is due stays due.
    KeepsTimers = "keeps-timers";
    /// A lost link is an error.
    CriesOut = "cries-out";
}

/// The bug of this process, plus one.
#[cfg(feature = "sabotage")]
static BUG: AtomicU8 = AtomicU8::new(0);

/// From now on every node of this process has this bug, or none.
#[cfg(feature = "sabotage")]
pub fn commit(bug: Option<Bug>) {
    BUG.store(bug.map_or(0, |bug| bug as u8 + 1), Ordering::Relaxed);
}

#[cfg(feature = "sabotage")]
pub(crate) fn is(bug: Bug) -> bool {
    BUG.load(Ordering::Relaxed) == bug as u8 + 1
}

#[cfg(not(feature = "sabotage"))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}
