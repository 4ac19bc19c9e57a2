//! First-byte dispatch and the data header.

use receptor_core::wire::data::{self, HEADER_LEN, Header};
use receptor_core::wire::{Kind, kind};

/// The header round-trips, and the accessors on raw frames agree with it.
pub fn data(frame: &[u8]) {
    assert_eq!(kind(frame).is_none(), frame.is_empty());
    let long_enough = frame.len() >= HEADER_LEN;
    assert_eq!(data::to_hash(frame).is_some(), long_enough);
    let parsed = Header::parse(frame);
    assert_eq!(parsed.is_ok(), long_enough && kind(frame) == Some(Kind::Data));

    let mut patched = frame.to_vec();
    data::set_hops(&mut patched, 7);
    data::mark(&mut patched);
    if let Ok(header) = parsed {
        assert_eq!(header.to_bytes(), frame[..HEADER_LEN]);
        assert_eq!(Some(header.to), data::to_hash(frame));
        assert_eq!(Some(header.from), data::from_hash(frame));
        assert_eq!(header.hops, data::hops(frame));
        let expected = Header {
            hops: 7,
            flags: header.flags | data::FLAG_CONGESTION,
            ..header
        };
        assert_eq!(Header::parse(&patched), Ok(expected));
        assert_eq!(patched[HEADER_LEN..], frame[HEADER_LEN..]);
    }
}
