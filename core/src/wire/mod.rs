//! Bytes ↔ values, without state or time.
//!
//! [`kind`] looks at the first byte of a frame and says which of the modules below reads the rest:
//! [`data`] (the 36-byte header of everything that is forwarded), [`classic`] (JSON control messages, spoken with every
//! Receptor node), [`extended`] (control messages between nodes of this implementation). [`work`] is not about frames: it is
//! the byte stream of an upgraded `control` session.

pub mod classic;
pub mod data;
pub mod extended;
pub mod work;

#[cfg(test)]
mod vectors;

use core::fmt;

/// Largest frame that any backend carries: the TCP length prefix has 16 bits (`wire.md` §3.2).
pub const MAX_FRAME: usize = 65_535;

/// First byte of the messages of `wire.md` §4.
pub const KIND_DATA: u8 = 0;
/// See [`KIND_DATA`].
pub const KIND_ROUTE: u8 = 1;
/// See [`KIND_DATA`].
pub const KIND_ADVERT: u8 = 2;
/// See [`KIND_DATA`].
pub const KIND_REJECT: u8 = 3;
/// Everything from here up is a message between our own nodes; a classic node logs and ignores it (`wire.md` §11).
pub const KIND_EXTENDED_FIRST: u8 = 0x40;

/// What a frame holds, by its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A data message, see [`data`].
    Data,
    /// A routing update, see [`classic::RoutingUpdate`].
    Route,
    /// A service advertisement, see [`classic::Advertisement`].
    Advert,
    /// The peer refuses the session; the rest of the frame means nothing (`wire.md` §10).
    Reject,
    /// One or more envelopes between our own nodes, see `extended`.
    Extended,
    /// A kind nobody has defined.
    Unknown(u8),
}

/// Says what a frame holds; `None` for the empty frame, which must be dropped (`wire.md` §3.1).
pub fn kind(frame: &[u8]) -> Option<Kind> {
    Some(match *frame.first()? {
        KIND_DATA => Kind::Data,
        KIND_ROUTE => Kind::Route,
        KIND_ADVERT => Kind::Advert,
        KIND_REJECT => Kind::Reject,
        KIND_EXTENDED_FIRST.. => Kind::Extended,
        other => Kind::Unknown(other),
    })
}

/// Bytes that are not what they should be. Names the thing, and the limit where there is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WireError {
    /// Fewer bytes than the thing needs.
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes it needs at least.
        needed: usize,
        /// Bytes there were.
        got: usize,
    },
    /// More bytes than the thing may have.
    TooLong {
        /// What was being read or written.
        what: &'static str,
        /// The most bytes it may have.
        limit: usize,
        /// Bytes it has or announces.
        got: usize,
    },
    /// More elements than the list may have.
    TooMany {
        /// What the list holds.
        what: &'static str,
        /// The most elements it may have.
        limit: usize,
    },
    /// JSON that is not well formed, or a value of the wrong type.
    Json {
        /// The message that was being read.
        what: &'static str,
        /// What should have stood there.
        expected: &'static str,
        /// Where, in bytes from the start of the JSON text.
        at: usize,
    },
    /// Anything else; the text says what is wrong.
    Malformed(&'static str),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { what, needed, got } => {
                write!(f, "{what} cut short: needs {needed} bytes, got {got}")
            }
            Self::TooLong { what, limit, got } => {
                write!(f, "{what} too long: {got} bytes, limit {limit}")
            }
            Self::TooMany { what, limit } => write!(f, "too many {what}: limit {limit}"),
            Self::Json { what, expected, at } => {
                write!(f, "{what}: expected {expected} at byte {at}")
            }
            Self::Malformed(text) => f.write_str(text),
        }
    }
}

impl core::error::Error for WireError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_decides() {
        assert_eq!(kind(&[]), None);
        assert_eq!(kind(&[0]), Some(Kind::Data));
        assert_eq!(kind(&[1, b'{']), Some(Kind::Route));
        assert_eq!(kind(&[2]), Some(Kind::Advert));
        assert_eq!(kind(b"\x03[]"), Some(Kind::Reject));
        assert_eq!(kind(&[4]), Some(Kind::Unknown(4)));
        assert_eq!(kind(&[0x3f]), Some(Kind::Unknown(0x3f)));
        assert_eq!(kind(&[0x40]), Some(Kind::Extended));
        assert_eq!(kind(&[0xff]), Some(Kind::Extended));
    }
}
