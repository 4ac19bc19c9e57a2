//! Frames as datagrams: one each, with nothing around it (`wire.md` §3.3).

/// Largest frame that a UDP datagram over IPv4 carries.
pub const MAX_DATAGRAM: usize = 65_507;

/// Bytes to read a datagram into: a longer one cannot come.
pub const RECEIVE_ROOM: usize = 65_535;

/// What a datagram should not exceed on the wire, IP and UDP headers included: more is cut in pieces on many paths, and lost
/// as a whole with any of them.
pub const PATH_MTU: usize = 1400;

/// Largest frame within [`PATH_MTU`], whatever the version of IP.
pub const FITTING_FRAME: usize = PATH_MTU - 40 - 8;

/// Whether a datagram is a frame. An empty one harms nobody here and is no message.
pub const fn is_frame(datagram: &[u8]) -> bool {
    !datagram.is_empty()
}

/// Whether a frame fits into a datagram. An empty one must not be sent: a classic node would end (`wire.md` §23).
pub const fn fits(frame: &[u8]) -> bool {
    !frame.is_empty() && frame.len() <= MAX_DATAGRAM
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_empty_nor_too_long() {
        assert!(!is_frame(b"") && is_frame(b"a"));
        assert!(!fits(b""));
        assert!(fits(&[0; MAX_DATAGRAM]));
        assert!(!fits(&[0; MAX_DATAGRAM + 1]));
    }
}
