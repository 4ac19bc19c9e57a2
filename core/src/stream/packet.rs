//! Packets of a native stream: bytes ↔ values. `docs/protocol-streams.md` specifies every byte.

use bytes::{BufMut, Bytes, BytesMut};

use super::ranges::RangeSet;

/// Version of the packet format, carried by every SYN.
pub(super) const VERSION: u8 = 1;
/// Most ranges in an acknowledgement: more are cut, oldest first (they were reported before).
pub(super) const MAX_ACK_RANGES: usize = 32;
/// Longest reason of a reset, in bytes; it has a one-byte length.
pub(super) const MAX_REASON: usize = 200;
/// No packet is smaller than flags and nonce.
const MIN_LEN: usize = 5;
/// Largest value of a variable-length integer (RFC 9000 §16).
pub(super) const VARINT_MAX: u64 = (1 << 62) - 1;

/// The flags of the first byte. Its two top bits are clear, unlike those of any QUIC packet.
pub(super) mod flag {
    /// Opens the stream; carries the sender's parameters.
    pub(crate) const SYN: u8 = 0x01;
    /// Carries an acknowledgement and the credit.
    pub(crate) const ACK: u8 = 0x02;
    /// Carries stream bytes.
    pub(crate) const DATA: u8 = 0x04;
    /// The stream ends after the bytes of this packet.
    pub(crate) const FIN: u8 = 0x08;
    /// Asks for an acknowledgement.
    pub(crate) const PING: u8 = 0x10;
    /// Ends both directions at once.
    pub(crate) const RESET: u8 = 0x20;
    /// Never set: QUIC's.
    pub(crate) const FOREIGN: u8 = 0xc0;
}

/// Whether a payload is a packet of a native stream: not empty, and the two top bits of its first byte are clear.
pub fn is_native(payload: &[u8]) -> bool {
    payload.first().is_some_and(|first| first & flag::FOREIGN == 0)
}

/// What a SYN says about its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Syn {
    pub(super) version: u8,
    /// Offset up to which the peer may send.
    pub(super) window: u64,
    /// Largest packet it takes.
    pub(super) max_packet: u64,
}

/// An acknowledgement. Ranges are inclusive, highest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ack {
    /// Time since the largest number arrived, in microseconds.
    pub(super) delay_us: u64,
    /// Offset up to which the receiver of this acknowledgement may send.
    pub(super) window: u64,
    /// How many numbered packets have arrived with a congestion mark.
    pub(super) marked: u64,
    ranges: [(u64, u64); MAX_ACK_RANGES],
    count: usize,
}

impl Ack {
    /// From the set of received packet numbers, which must not be empty.
    pub(super) fn new(received: &RangeSet, delay_us: u64, window: u64, marked: u64, limit: usize) -> Self {
        let mut ack = Self {
            delay_us,
            window,
            marked,
            ranges: [(0, 0); MAX_ACK_RANGES],
            count: 0,
        };
        for (slot, range) in ack.ranges.iter_mut().zip(received.iter().rev()).take(limit) {
            *slot = (range.start, range.end - 1);
            ack.count += 1;
        }
        ack
    }

    /// Inclusive ranges, highest first; at least one after parsing.
    pub(super) fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges[..self.count]
    }

    /// The largest acknowledged number.
    pub(super) fn largest(&self) -> u64 {
        self.ranges[0].1
    }
}

/// A part of the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) data: Bytes,
    pub(super) fin: bool,
}

/// The end of both directions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ResetFrame {
    pub(super) code: u32,
    pub(super) reason: Bytes,
}

/// Number of a packet, and the lowest number whose fate its sender still follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Number {
    pub(super) number: u64,
    pub(super) floor: u64,
}

/// One packet, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Packet {
    pub(super) nonce: u32,
    /// `None` for a bare acknowledgement, which is never acknowledged itself.
    pub(super) number: Option<Number>,
    pub(super) syn: Option<Syn>,
    pub(super) ack: Option<Ack>,
    pub(super) reset: Option<ResetFrame>,
    pub(super) segment: Option<Segment>,
}

impl Packet {
    /// `None` if the bytes are no packet.
    pub(super) fn parse(payload: &Bytes) -> Option<Self> {
        let mut reader = Reader(payload);
        let flags = reader.byte()?;
        if flags & flag::FOREIGN != 0 || flags == 0 {
            return None;
        }
        let nonce = u32::from_be_bytes(reader.take(4)?.try_into().ok()?);
        let number = if flags == flag::ACK {
            None
        } else {
            let number = reader.varint()?;
            Some(Number {
                number,
                floor: number.checked_sub(reader.varint()?)?,
            })
        };
        let syn = if flags & flag::SYN != 0 {
            Some(reader.syn()?)
        } else {
            None
        };
        let ack = if flags & flag::ACK != 0 {
            Some(reader.ack()?)
        } else {
            None
        };
        let reset = if flags & flag::RESET != 0 {
            let code = u32::from_be_bytes(reader.take(4)?.try_into().ok()?);
            let length = usize::from(reader.byte()?);
            Some(ResetFrame {
                code,
                reason: payload.slice_ref(reader.take(length)?),
            })
        } else {
            None
        };
        let segment = if flags & (flag::DATA | flag::FIN) != 0 {
            let offset = reader.varint()?;
            let data = payload.slice_ref(reader.0);
            if flags & flag::DATA == 0 && !data.is_empty() || offset + data.len() as u64 > VARINT_MAX {
                return None;
            }
            Some(Segment {
                offset,
                data,
                fin: flags & flag::FIN != 0,
            })
        } else {
            None
        };
        Some(Self {
            nonce,
            number,
            syn,
            ack,
            reset,
            segment,
        })
    }

    /// Flags and nonce without looking at the rest, for packets that belong to no stream.
    pub(super) fn peek(payload: &[u8]) -> Option<(u8, u32)> {
        if payload.len() < MIN_LEN || !is_native(payload) {
            return None;
        }
        Some((
            payload[0],
            u32::from_be_bytes([payload[1], payload[2], payload[3], payload[4]]),
        ))
    }
}

/// Writes a packet behind the headroom of a buffer: parts in the order of the wire, each at most once.
pub(super) struct Writer {
    buffer: BytesMut,
    headroom: usize,
}

impl Writer {
    /// Flags and nonce, behind `headroom` zero bytes.
    pub(super) fn new(headroom: usize, capacity: usize, nonce: u32) -> Self {
        let mut buffer = BytesMut::with_capacity(headroom + capacity);
        buffer.put_bytes(0, headroom + 1);
        buffer.put_u32(nonce);
        Self { buffer, headroom }
    }

    /// Bytes written so far, without the headroom.
    pub(super) fn len(&self) -> usize {
        self.buffer.len() - self.headroom
    }

    /// Sets flags beside those already set.
    pub(super) fn set(&mut self, flags: u8) {
        self.buffer[self.headroom] |= flags;
    }

    pub(super) fn number(&mut self, number: Number) {
        self.varint(number.number);
        self.varint(number.number - number.floor);
    }

    pub(super) fn syn(&mut self, syn: Syn) {
        self.set(flag::SYN);
        let length = 1 + varint_len(syn.window) + varint_len(syn.max_packet);
        self.buffer.put_u8(length as u8);
        self.buffer.put_u8(syn.version);
        self.varint(syn.window);
        self.varint(syn.max_packet);
    }

    pub(super) fn ack(&mut self, ack: &Ack) {
        self.set(flag::ACK);
        self.varint(ack.delay_us);
        self.varint(ack.window);
        self.varint(ack.marked);
        let ranges = ack.ranges();
        self.varint(ack.largest());
        self.buffer.put_u8((ranges.len() - 1) as u8);
        let mut lowest = None;
        for &(start, end) in ranges {
            if let Some(lowest) = lowest {
                // Neighbouring ranges lie at least two apart, so the gap is sent less two (RFC 9000 §19.3.1).
                self.varint(lowest - end - 2);
            }
            self.varint(end - start);
            lowest = Some(start);
        }
    }

    pub(super) fn reset(&mut self, code: u32, reason: &[u8]) {
        self.set(flag::RESET);
        let reason = &reason[..reason.len().min(MAX_REASON)];
        self.buffer.put_u32(code);
        self.buffer.put_u8(reason.len() as u8);
        self.buffer.put_slice(reason);
    }

    /// The offset of the stream bytes that follow until the end of the packet.
    pub(super) fn offset(&mut self, offset: u64) {
        self.varint(offset);
    }

    /// Where the stream bytes go.
    pub(super) fn payload(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    pub(super) fn finish(self) -> BytesMut {
        self.buffer
    }

    fn varint(&mut self, value: u64) {
        debug_assert!(value <= VARINT_MAX);
        match varint_len(value) {
            1 => self.buffer.put_u8(value as u8),
            2 => self.buffer.put_u16(0x4000 | value as u16),
            4 => self.buffer.put_u32(0x8000_0000 | value as u32),
            _ => self.buffer.put_u64(0xc000_0000_0000_0000 | value),
        }
    }
}

const fn varint_len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn varint(&mut self) -> Option<u64> {
        let first = self.byte()?;
        let rest = self.take((1 << (first >> 6)) - 1)?;
        Some(
            rest.iter()
                .fold(u64::from(first & 0x3f), |value, &byte| value << 8 | u64::from(byte)),
        )
    }

    fn syn(&mut self) -> Option<Syn> {
        let length = usize::from(self.byte()?);
        // Later versions may append; what follows the known members is skipped.
        let mut body = Reader(self.take(length)?);
        Some(Syn {
            version: body.byte()?,
            window: body.varint()?,
            max_packet: body.varint()?,
        })
    }

    fn ack(&mut self) -> Option<Ack> {
        let (delay_us, window, marked) = (self.varint()?, self.varint()?, self.varint()?);
        let mut end = self.varint()?;
        let count = usize::from(self.byte()?) + 1;
        if count > MAX_ACK_RANGES {
            return None;
        }
        let mut ranges = [(0, 0); MAX_ACK_RANGES];
        for (index, slot) in ranges[..count].iter_mut().enumerate() {
            if index > 0 {
                end = end.checked_sub(self.varint()?.checked_add(2)?)?;
            }
            let start = end.checked_sub(self.varint()?)?;
            *slot = (start, end);
            end = start;
        }
        Some(Ack {
            delay_us,
            window,
            marked,
            ranges,
            count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn example() -> Vec<u8> {
        let mut received = RangeSet::default();
        for range in [3..4, 10..20, 100..101] {
            received.insert(range);
        }
        let mut writer = Writer::new(3, 100, 0xdead_beef);
        writer.number(Number {
            number: 300,
            floor: 299,
        });
        writer.syn(Syn {
            version: VERSION,
            window: 262_144,
            max_packet: 16_384,
        });
        writer.ack(&Ack::new(&received, 1000, 65_536, 2, MAX_ACK_RANGES));
        writer.offset(70_000);
        writer.payload().extend_from_slice(b"hello");
        writer.set(flag::DATA | flag::FIN);
        writer.finish().to_vec()
    }

    /// The worked example of `docs/protocol-streams.md`.
    #[test]
    fn golden_vector() {
        let bytes = example();
        assert_eq!(bytes[..3], [0; 3]);
        let expected = [
            0x0f, 0xde, 0xad, 0xbe, 0xef, // flags, nonce
            0x41, 0x2c, 0x01, // number 300, floor 299
            0x09, 0x01, 0x80, 0x04, 0x00, 0x00, 0x80, 0x00, 0x40, 0x00, // SYN
            0x43, 0xe8, 0x80, 0x01, 0x00, 0x00, 0x02, // delay, window, marked
            0x40, 0x64, 0x02, 0x00, // largest 100, two more ranges, length 1
            0x40, 0x4f, 0x09, 0x05, 0x00, // gap to 19, length 10, gap to 3, length 1
            0x80, 0x01, 0x11, 0x70, b'h', b'e', b'l', b'l', b'o',
        ];
        assert_eq!(bytes[3..], expected);
    }

    #[test]
    fn round_trip_and_truncation() {
        let bytes = Bytes::from(example()).slice(3..);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.nonce, 0xdead_beef);
        assert_eq!(
            packet.number,
            Some(Number {
                number: 300,
                floor: 299
            })
        );
        assert_eq!(packet.ack.as_ref().unwrap().ranges(), [(100, 100), (10, 19), (3, 3)]);
        let segment = packet.segment.as_ref().unwrap();
        assert_eq!(
            (segment.offset, &segment.data[..], segment.fin),
            (70_000, &b"hello"[..], true)
        );
        for end in 0..bytes.len() {
            let shorter = Packet::parse(&bytes.slice(..end));
            // Only the payload may be cut without notice: the datagram's length is its length.
            assert_eq!(shorter.is_some(), end >= bytes.len() - 5, "{end}");
        }
    }

    #[test]
    fn quic_and_empty_payloads_are_foreign() {
        assert!(!is_native(&[]));
        assert!(!is_native(&[0x40]));
        assert!(!is_native(&[0xc3, 0, 0, 0]));
        assert!(is_native(&[0x01]));
        assert_eq!(Packet::parse(&Bytes::from_static(&[0; 40])), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), flags in 0u8..0x40) {
            let mut bytes = bytes;
            let _ = Packet::parse(&Bytes::from(bytes.clone()));
            if let Some(first) = bytes.first_mut() {
                *first = flags;
            }
            let _ = Packet::parse(&Bytes::from(bytes));
        }

        #[test]
        fn varints_round_trip(value in 0..=VARINT_MAX, shift in 0u32..62) {
            let value = value >> shift;
            let mut writer = Writer::new(0, 16, 0);
            writer.offset(value);
            let bytes = writer.finish();
            let mut reader = Reader(&bytes[5..]);
            prop_assert_eq!(reader.varint(), Some(value));
            prop_assert!(reader.0.is_empty());
        }
    }
}
