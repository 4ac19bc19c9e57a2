//! Frames on a byte stream: a 16-bit little-endian length before each message (`wire.md` §3.2).

use bytes::{Buf, BytesMut};

/// Bytes before each frame.
pub const PREFIX_LEN: usize = 2;

/// Largest frame the length field can tell.
pub const MAX_FRAME: usize = u16::MAX as usize;

/// The length prefix of a frame; `None` for an empty or too large one, which must not be sent (`wire.md` §23).
pub fn prefix(len: usize) -> Option<[u8; PREFIX_LEN]> {
    match u16::try_from(len) {
        Ok(len) if len > 0 => Some(len.to_le_bytes()),
        _ => None,
    }
}

/// Cuts the next whole frame off the front of `buffer`, without copying. `None` until more bytes have come.
///
/// Frames are slices of the buffer they were read into. Empty frames, which a classic node must never be sent but which
/// harm nobody here, are skipped.
pub fn next_frame(buffer: &mut BytesMut) -> Option<BytesMut> {
    loop {
        let len = usize::from(u16::from_le_bytes([*buffer.first()?, *buffer.get(1)?]));
        if buffer.len() < PREFIX_LEN + len {
            return None;
        }
        buffer.advance(PREFIX_LEN);
        if len > 0 {
            return Some(buffer.split_to(len));
        }
    }
}

/// How many more bytes the frame at the front of `buffer` needs: at least 1 when [`next_frame`] said `None`.
pub fn missing(buffer: &BytesMut) -> usize {
    let whole = match buffer[..] {
        [low, high, ..] => PREFIX_LEN + usize::from(u16::from_le_bytes([low, high])),
        _ => PREFIX_LEN,
    };
    whole.saturating_sub(buffer.len()).max(1)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn frames(stream: &[u8], slice: usize) -> Vec<Vec<u8>> {
        let mut buffer = BytesMut::new();
        let mut out = Vec::new();
        for part in stream.chunks(slice) {
            buffer.extend_from_slice(part);
            while let Some(frame) = next_frame(&mut buffer) {
                out.push(frame.to_vec());
            }
        }
        out
    }

    #[test]
    fn any_slicing_gives_the_same_frames() {
        let stream = [&[3, 0, 3, b'[', b']', 0, 0, 1, 0, 9, 0, 1][..], &[7; 256], &[2, 0, 1]].concat();
        let whole = frames(&stream, stream.len());
        assert_eq!(whole, [b"\x03[]".to_vec(), [9].to_vec(), [7; 256].to_vec()]);
        for slice in 1..stream.len() {
            assert_eq!(frames(&stream, slice), whole, "slices of {slice}");
        }
    }

    #[test]
    fn missing_says_how_much_to_read() {
        assert_eq!(missing(&BytesMut::new()), 2);
        assert_eq!(missing(&BytesMut::from(&[5][..])), 1);
        assert_eq!(missing(&BytesMut::from(&[5, 0, 1][..])), 4);
    }

    #[test]
    fn unsendable_lengths_have_no_prefix() {
        assert_eq!(prefix(0), None);
        assert_eq!(prefix(MAX_FRAME), Some([0xff, 0xff]));
        assert_eq!(prefix(MAX_FRAME + 1), None);
    }
}
