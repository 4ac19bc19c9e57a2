//! The data message: a header of 36 bytes, then an opaque payload (`wire.md` §6).
//!
//! [`Header`] is for ends, which look at everything. Nodes on the way use the functions on raw frames below: they read one
//! field and patch one byte.

use super::{KIND_DATA, MAX_FRAME, WireError};
use crate::id::{NameHash, ServiceName};

/// Bytes before the payload.
pub const HEADER_LEN: usize = 36;

/// Largest payload of one data message, in bytes (`wire.md` §2).
pub const MAX_PAYLOAD: usize = MAX_FRAME - HEADER_LEN;

/// Hops given to every message at its origin, unless traceroute asks for fewer (`wire.md` §2).
pub const MAX_HOPS: u8 = 30;

/// In [`Header::flags`]: a queue on the way was congested. Only our own nodes set or keep it; classic nodes send zeros and
/// reset the field when they forward.
pub const FLAG_CONGESTION: u16 = 1;

/// The header of a data message.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Header {
    /// How many more links the message may cross.
    pub hops: u8,
    /// Flags between our own nodes, see [`FLAG_CONGESTION`]; zero from classic ones.
    pub flags: u16,
    /// The node that created the message.
    pub from: NameHash,
    /// The node it is for.
    pub to: NameHash,
    /// The service that sent it.
    pub from_service: ServiceName,
    /// The service it is for.
    pub to_service: ServiceName,
}

impl Header {
    /// Reads the header of a frame; the payload is `frame[HEADER_LEN..]`.
    ///
    /// # Errors
    /// Fewer than 36 bytes, or another kind of frame.
    pub fn parse(frame: &[u8]) -> Result<Self, WireError> {
        let Some(header) = frame.first_chunk::<HEADER_LEN>() else {
            return Err(WireError::Truncated {
                what: "data header",
                needed: HEADER_LEN,
                got: frame.len(),
            });
        };
        if header[0] != KIND_DATA {
            return Err(WireError::Malformed("not a data message"));
        }
        let eight = |at: usize| core::array::from_fn(|i| header[at + i]);
        Ok(Self {
            hops: header[1],
            flags: u16::from_be_bytes([header[2], header[3]]),
            from: NameHash(u64::from_be_bytes(eight(4))),
            to: NameHash(u64::from_be_bytes(eight(12))),
            from_service: ServiceName::from_wire(eight(20)),
            to_service: ServiceName::from_wire(eight(28)),
        })
    }

    /// Writes the header.
    pub fn emit(&self, out: &mut [u8; HEADER_LEN]) {
        out[0] = KIND_DATA;
        out[1] = self.hops;
        out[2..4].copy_from_slice(&self.flags.to_be_bytes());
        out[4..12].copy_from_slice(&self.from.0.to_be_bytes());
        out[12..20].copy_from_slice(&self.to.0.to_be_bytes());
        out[20..28].copy_from_slice(&self.from_service.to_wire());
        out[28..36].copy_from_slice(&self.to_service.to_wire());
    }

    /// The header as bytes.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        self.emit(&mut out);
        out
    }
}

/// The bytes of a header that tell its flow: from and to node, from and to service.
pub const FLOW: core::ops::Range<usize> = 4..HEADER_LEN;

/// The destination of a raw data frame; `None` if the frame is too short to have one.
#[inline]
pub fn to_hash(frame: &[u8]) -> Option<NameHash> {
    hash_at::<12>(frame)
}

/// The source of a raw data frame; `None` if the frame is too short to have one.
#[inline]
pub fn from_hash(frame: &[u8]) -> Option<NameHash> {
    hash_at::<4>(frame)
}

#[inline]
fn hash_at<const AT: usize>(frame: &[u8]) -> Option<NameHash> {
    let header = frame.first_chunk::<HEADER_LEN>()?;
    Some(NameHash(u64::from_be_bytes(core::array::from_fn(|i| header[AT + i]))))
}

/// The remaining hops of a raw data frame; 0 if the frame is too short to say.
#[inline]
pub fn hops(frame: &[u8]) -> u8 {
    frame.get(1).copied().unwrap_or(0)
}

/// Patches the remaining hops of a raw data frame.
#[inline]
pub fn set_hops(frame: &mut [u8], hops: u8) {
    if let Some(byte) = frame.get_mut(1) {
        *byte = hops;
    }
}

/// Sets the congestion mark of a raw data frame.
#[inline]
pub fn mark(frame: &mut [u8]) {
    if let Some(byte) = frame.get_mut(3) {
        *byte |= FLAG_CONGESTION as u8;
    }
}

/// Resets the flags of a raw data frame, as classic nodes expect them.
#[inline]
pub fn clear_flags(frame: &mut [u8]) {
    if let Some(flags) = frame.get_mut(2..4) {
        flags.fill(0);
    }
}

/// Whether a raw data frame has the congestion mark.
#[inline]
pub fn is_marked(frame: &[u8]) -> bool {
    frame.get(3).is_some_and(|byte| byte & FLAG_CONGESTION as u8 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ping() -> Header {
        Header {
            hops: 29,
            flags: 0,
            from: NameHash::of("foo"),
            to: NameHash::of("bar"),
            from_service: ServiceName::new("Ab12Cd34").unwrap(),
            to_service: ServiceName::PING,
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = ping().to_bytes();
        for len in 0..HEADER_LEN {
            assert!(Header::parse(&bytes[..len]).is_err(), "{len}");
            assert_eq!(to_hash(&bytes[..len]), None);
            assert_eq!(from_hash(&bytes[..len]), None);
        }
    }

    #[test]
    fn other_kinds_are_refused() {
        let mut bytes = ping().to_bytes();
        bytes[0] = 1;
        assert_eq!(Header::parse(&bytes), Err(WireError::Malformed("not a data message")));
    }

    #[test]
    fn raw_accessors_agree_with_the_header() {
        let mut bytes = ping().to_bytes();
        assert_eq!(to_hash(&bytes), Some(ping().to));
        assert_eq!(from_hash(&bytes), Some(ping().from));
        assert_eq!(hops(&bytes), 29);
        set_hops(&mut bytes, 28);
        assert!(!is_marked(&bytes));
        mark(&mut bytes);
        assert!(is_marked(&bytes));
        let expected = Header {
            hops: 28,
            flags: FLAG_CONGESTION,
            ..ping()
        };
        assert_eq!(Header::parse(&bytes), Ok(expected));
    }

    #[test]
    fn patching_a_short_frame_does_nothing() {
        let mut frame = [0u8; 1];
        set_hops(&mut frame, 3);
        mark(&mut frame);
        assert_eq!((frame, hops(&frame), is_marked(&frame)), ([0], 0, false));
    }

    proptest! {
        #[test]
        fn headers_round_trip(bytes in proptest::array::uniform32(any::<u8>()), more in proptest::array::uniform3(any::<u8>())) {
            let mut frame = [0; HEADER_LEN];
            frame[1..33].copy_from_slice(&bytes);
            frame[33..].copy_from_slice(&more);
            prop_assert_eq!(Header::parse(&frame).unwrap().to_bytes(), frame);
        }
    }
}
