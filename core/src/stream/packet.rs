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

/// An acknowledgement as it came. Ranges are inclusive, highest first; parsing has checked them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ack<'a> {
    /// Time since the largest number arrived, in microseconds.
    pub(super) delay_us: u64,
    /// Offset up to which the receiver of this acknowledgement may send.
    pub(super) window: u64,
    /// How many numbered packets have arrived with a congestion mark.
    pub(super) marked: u64,
    largest: u64,
    /// Lengths and gaps as they stand in the packet.
    ranges: &'a [u8],
    count: u8,
}

impl<'a> Ack<'a> {
    /// Inclusive ranges, highest first; at least one.
    pub(super) fn ranges(&self) -> Ranges<'a> {
        Ranges {
            reader: Reader(self.ranges),
            end: self.largest,
            left: self.count,
            is_first: true,
        }
    }

    /// The largest acknowledged number.
    pub(super) const fn largest(&self) -> u64 {
        self.largest
    }
}

/// The ranges of an [`Ack`].
#[derive(Debug)]
pub(super) struct Ranges<'a> {
    reader: Reader<'a>,
    end: u64,
    left: u8,
    is_first: bool,
}

impl Ranges<'_> {
    /// `None` if the bytes end or a number would fall below zero.
    fn step(&mut self) -> Option<(u64, u64)> {
        if !self.is_first {
            self.end = self.end.checked_sub(self.reader.varint()?.checked_add(2)?)?;
        }
        self.is_first = false;
        let start = self.end.checked_sub(self.reader.varint()?)?;
        let range = (start, self.end);
        self.end = start;
        self.left -= 1;
        Some(range)
    }
}

impl Iterator for Ranges<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        if self.left == 0 { None } else { self.step() }
    }
}

/// An acknowledgement to be written: the newest `limit` ranges of `received`, which is not empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct AckOut<'a> {
    pub(super) received: &'a RangeSet,
    pub(super) delay_us: u64,
    pub(super) window: u64,
    pub(super) marked: u64,
    pub(super) limit: usize,
}

/// A part of the stream, with its bytes or just where they stand in the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment<D = Bytes> {
    pub(super) offset: u64,
    pub(super) data: D,
    pub(super) fin: bool,
}

/// The last bytes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tail {
    /// Where they begin.
    pub(super) start: usize,
    pub(super) length: usize,
}

/// The end of both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ResetFrame<'a> {
    pub(super) code: u32,
    pub(super) reason: &'a [u8],
}

/// Number of a packet, and the lowest number whose fate its sender still follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Number {
    pub(super) number: u64,
    pub(super) floor: u64,
}

/// One packet, taken apart where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Packet<'a> {
    pub(super) nonce: u32,
    /// `None` for a bare acknowledgement, which is never acknowledged itself.
    pub(super) number: Option<Number>,
    pub(super) syn: Option<Syn>,
    pub(super) ack: Option<Ack<'a>>,
    pub(super) reset: Option<ResetFrame<'a>>,
    pub(super) segment: Option<Segment<Tail>>,
}

impl<'a> Packet<'a> {
    /// `None` if the bytes are no packet.
    pub(super) fn parse(payload: &'a [u8]) -> Option<Self> {
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
                reason: reader.take(length)?,
            })
        } else {
            None
        };
        let segment = if flags & (flag::DATA | flag::FIN) != 0 {
            let offset = reader.varint()?;
            let length = reader.0.len();
            if flags & flag::DATA == 0 && length > 0 || offset + length as u64 > VARINT_MAX {
                return None;
            }
            Some(Segment {
                offset,
                data: Tail {
                    start: payload.len() - length,
                    length,
                },
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
#[derive(Debug)]
pub(super) struct Writer<'a> {
    buffer: &'a mut BytesMut,
    headroom: usize,
}

impl<'a> Writer<'a> {
    /// Flags and nonce, behind `headroom` zero bytes. The buffer is empty and should have room for the packet.
    pub(super) fn new(buffer: &'a mut BytesMut, headroom: usize, nonce: u32) -> Self {
        debug_assert!(buffer.is_empty());
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

    pub(super) fn ack(&mut self, ack: AckOut<'_>) {
        self.set(flag::ACK);
        self.varint(ack.delay_us);
        self.varint(ack.window);
        self.varint(ack.marked);
        let count = ack.received.len().min(ack.limit);
        let mut lowest = None;
        for range in ack.received.iter().rev().take(count) {
            let (start, end) = (range.start, range.end - 1);
            match lowest {
                None => {
                    self.varint(end);
                    self.buffer.put_u8((count - 1) as u8);
                }
                // Neighbouring ranges lie at least two apart, so the gap is sent less two (RFC 9000 §19.3.1).
                Some(lowest) => self.varint(lowest - end - 2),
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
        self.buffer
    }

    /// The packet, cut off the buffer.
    pub(super) fn finish(self) -> BytesMut {
        self.buffer.split()
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

#[derive(Clone, Copy, Debug)]
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

    fn ack(&mut self) -> Option<Ack<'a>> {
        let (delay_us, window, marked) = (self.varint()?, self.varint()?, self.varint()?);
        let largest = self.varint()?;
        let more = usize::from(self.byte()?);
        if more >= MAX_ACK_RANGES {
            return None;
        }
        let count = more as u8 + 1;
        let mut ranges = Ranges {
            reader: *self,
            end: largest,
            left: count,
            is_first: true,
        };
        for _ in 0..count {
            ranges.step()?;
        }
        let length = self.0.len() - ranges.reader.0.len();
        Some(Ack {
            delay_us,
            window,
            marked,
            largest,
            ranges: self.take(length)?,
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
        let mut buffer = BytesMut::new();
        let mut writer = Writer::new(&mut buffer, 3, 0xdead_beef);
        writer.number(Number {
            number: 300,
            floor: 299,
        });
        writer.syn(Syn {
            version: VERSION,
            window: 262_144,
            max_packet: 16_384,
        });
        writer.ack(AckOut {
            received: &received,
            delay_us: 1000,
            window: 65_536,
            marked: 2,
            limit: MAX_ACK_RANGES,
        });
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
        let ranges: Vec<(u64, u64)> = packet.ack.unwrap().ranges().collect();
        assert_eq!(ranges, [(100, 100), (10, 19), (3, 3)]);
        let Segment { offset, data, fin } = packet.segment.unwrap();
        assert_eq!((offset, &bytes[data.start..], fin), (70_000, &b"hello"[..], true));
        for end in 0..bytes.len() {
            let shorter = Packet::parse(&bytes[..end]);
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
        assert_eq!(Packet::parse(&[0; 40]), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), flags in 0u8..0x40) {
            let mut bytes = bytes;
            let _ = Packet::parse(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = flags;
            }
            let _ = Packet::parse(&bytes);
        }

        #[test]
        fn varints_round_trip(value in 0..=VARINT_MAX, shift in 0u32..62) {
            let value = value >> shift;
            let mut buffer = BytesMut::new();
            let mut writer = Writer::new(&mut buffer, 0, 0);
            writer.offset(value);
            let bytes = writer.finish();
            let mut reader = Reader(&bytes[5..]);
            prop_assert_eq!(reader.varint(), Some(value));
            prop_assert!(reader.0.is_empty());
        }
    }
}
