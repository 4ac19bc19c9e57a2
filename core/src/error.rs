//! Two kinds of error that never mix: the caller's and the peer's.

use alloc::string::String;
use core::fmt;

/// The embedding program misused the API. Never caused by remote data.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CallerError {
    /// A link, pipe, port, task or command ID that does not exist (any more); names what was unknown.
    Unknown(&'static str),
    /// A limit of the configuration is reached; try again after outputs were drained. Names the limit.
    Blocked(&'static str),
    /// A call that makes no sense now or with these arguments.
    Misuse(String),
}

impl fmt::Display for CallerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(what) => write!(f, "unknown {what}"),
            Self::Blocked(limit) => write!(f, "{limit} is full"),
            Self::Misuse(text) => f.write_str(text),
        }
    }
}

impl core::error::Error for CallerError {}
