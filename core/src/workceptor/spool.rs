//! Bytes on their way to a file: one write at a time, small pieces gathered while one is under way.

use alloc::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::READ_MAX;
use super::api::{ClientKey, SessionKey};

/// Most bytes in one write of several pieces.
const WRITE_MAX: usize = READ_MAX;

/// Who sends a unit's stdin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// A control session.
    Client(ClientKey),
    /// A channel of a submitter's session.
    Channel(SessionKey, u32),
    /// Nobody now; a submitter may come back.
    Nobody,
}

/// A file being written from its start (or from where it was left) on. What may wait here is bounded by the credit that
/// was granted to the sender.
#[derive(Debug, Default)]
pub(super) struct Writer {
    queue: VecDeque<Bytes>,
    written: u64,
    received: u64,
    /// What is being written; kept, in case it must be written again.
    writing: Option<Bytes>,
}

impl Writer {
    /// Goes on at `offset`.
    pub(super) fn at(offset: u64) -> Self {
        Self {
            written: offset,
            received: offset,
            ..Self::default()
        }
    }

    /// Bytes in the file.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes received.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    pub(super) fn push(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.received += data.len() as u64;
            self.queue.push_back(data);
        }
    }

    /// Takes the part of `data` (which begins at `offset`) that is new. `false` if there is a gap before it.
    pub(super) fn push_at(&mut self, offset: u64, mut data: Bytes) -> bool {
        let Some(known) = self.received.checked_sub(offset) else {
            return false;
        };
        if known < data.len() as u64 {
            // Less than the length, so it fits.
            self.push(data.split_off(known as usize));
        }
        true
    }

    /// The next write, if none is under way.
    pub(super) fn start(&mut self) -> Option<(u64, Bytes)> {
        if self.writing.is_some() {
            return None;
        }
        let mut first = self.queue.pop_front()?;
        let mut len = first.len();
        let more = self.queue.iter().take_while(|next| {
            len += next.len();
            len <= WRITE_MAX
        });
        let data = match more.count() {
            0 if first.len() > WRITE_MAX => {
                self.queue.push_front(first.split_off(WRITE_MAX));
                first
            }
            0 => first,
            more => {
                let pieces = || core::iter::once(&first).chain(self.queue.iter().take(more));
                let mut all = BytesMut::with_capacity(pieces().map(Bytes::len).sum());
                pieces().for_each(|piece| all.extend_from_slice(piece));
                self.queue.drain(..more);
                all.freeze()
            }
        };
        self.writing = Some(data.clone());
        Some((self.written, data))
    }

    /// The write under way, to be done again.
    pub(super) fn again(&self) -> Option<(u64, Bytes)> {
        self.writing.clone().map(|data| (self.written, data))
    }

    /// The write succeeded: where it was, and what.
    pub(super) fn finish(&mut self) -> (u64, Bytes) {
        let (offset, data) = (self.written, self.writing.take().unwrap_or_default());
        self.written += data.len() as u64;
        (offset, data)
    }

    /// Whether everything received is in the file.
    pub(super) fn is_idle(&self) -> bool {
        self.writing.is_none() && self.queue.is_empty()
    }
}

/// A unit's stdin while it comes in.
#[derive(Debug)]
pub(super) struct Spool {
    pub(super) source: Source,
    pub(super) file: Writer,
    /// The sender has said that this is all.
    pub(super) ended: bool,
}

impl Spool {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            file: Writer::default(),
            ended: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{vec, vec::Vec};

    #[test]
    fn small_pieces_are_gathered_while_a_write_is_under_way() {
        let mut writer = Writer::at(10);
        writer.push(Bytes::from_static(b"ab"));
        assert_eq!(writer.start(), Some((10, Bytes::from_static(b"ab"))));
        writer.push(Bytes::from_static(b"cd"));
        writer.push(Bytes::from_static(b"ef"));
        assert_eq!(writer.start(), None);
        assert_eq!(writer.finish(), (10, Bytes::from_static(b"ab")));
        assert_eq!(writer.start(), Some((12, Bytes::from_static(b"cdef"))));
        assert_eq!(writer.again(), Some((12, Bytes::from_static(b"cdef"))));
        assert_eq!(writer.finish().0, 12);
        assert!(writer.is_idle());
        assert_eq!((writer.written(), writer.received()), (16, 16));
    }

    #[test]
    fn long_pieces_are_cut() {
        let mut writer = Writer::default();
        writer.push(Bytes::from(vec![1; WRITE_MAX - 1]));
        writer.push(Bytes::from(vec![2; WRITE_MAX + 2]));
        let mut lengths = Vec::new();
        while let Some((_, data)) = writer.start() {
            lengths.push(data.len());
            writer.finish();
        }
        assert_eq!(lengths, [WRITE_MAX - 1, WRITE_MAX, 2]);
        assert_eq!(writer.written(), 2 * WRITE_MAX as u64 + 1);
    }

    #[test]
    fn what_came_before_is_cut_off_and_gaps_are_refused() {
        let mut writer = Writer::at(10);
        assert!(writer.push_at(5, Bytes::from_static(b"01234")));
        assert!(writer.push_at(8, Bytes::from_static(b"89ab")));
        assert_eq!(writer.received(), 12);
        assert_eq!(writer.start(), Some((10, Bytes::from_static(b"ab"))));
        assert!(!writer.push_at(13, Bytes::from_static(b"x")));
        assert!(!writer.push_at(u64::MAX, Bytes::new()));
    }
}
