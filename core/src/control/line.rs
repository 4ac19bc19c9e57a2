//! Cutting command lines out of a byte stream (`control.md` §2).

use alloc::vec::Vec;

use super::queue::Queue;
use super::text::LINE_MAX;

/// Collects one line at a time and takes nothing beyond its line feed.
#[derive(Debug, Default)]
pub(super) struct LineReader {
    partial: Vec<u8>,
}

/// The line has more than [`LINE_MAX`] bytes; what exceeds them is still in the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl LineReader {
    /// The next line that is not empty, without line feed and carriage returns; `None` until it is complete.
    pub(super) fn next(&mut self, input: &mut Queue) -> Option<Result<Vec<u8>, TooLong>> {
        while let Some(mut chunk) = input.pop() {
            let end = chunk.iter().position(|&b| b == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            let kept = part.iter().filter(|&&b| b != b'\r').count();
            if self.partial.len() + kept > LINE_MAX {
                self.partial = Vec::new();
                input.unpop(chunk);
                return Some(Err(TooLong));
            }
            if kept == part.len() {
                self.partial.extend_from_slice(part);
            } else {
                self.partial.extend(part.iter().filter(|&&b| b != b'\r'));
            }
            let Some(end) = end else { continue };
            input.unpop(chunk.split_off(end + 1));
            if !self.partial.is_empty() {
                return Some(Ok(self.take_partial()));
            }
        }
        None
    }

    /// Whether an unfinished line was collected.
    pub(super) fn has_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// What was collected of it.
    pub(super) fn take_partial(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.partial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn queue(chunks: &[&'static [u8]]) -> Queue {
        let mut queue = Queue::default();
        for chunk in chunks {
            queue.push(Bytes::from_static(chunk));
        }
        queue
    }

    #[test]
    fn takes_nothing_beyond_the_line_feed() {
        let (mut reader, mut input) = (LineReader::default(), queue(&[b"\r\n\nst", b"a\rtus\r\nrest", b"!"]));
        assert_eq!(reader.next(&mut input), Some(Ok(b"status".to_vec())));
        assert_eq!(input.len(), 5);
        assert_eq!(reader.next(&mut input), None);
        assert_eq!(reader.take_partial(), b"rest!");
    }

    #[test]
    fn the_limit_counts_what_is_kept() {
        let full = alloc::vec![b'x'; LINE_MAX];
        let mut input = Queue::default();
        input.push(full.clone().into());
        input.push(Bytes::from_static(b"\r\r\n"));
        let mut reader = LineReader::default();
        assert_eq!(reader.next(&mut input), Some(Ok(full.clone())));
        input.push(full.into());
        assert_eq!(reader.next(&mut input), None);
        input.push(Bytes::from_static(b"y\n"));
        assert_eq!(reader.next(&mut input), Some(Err(TooLong)));
        assert_eq!(input.len(), 2, "the excess stays in the input");
        assert_eq!(reader.take_partial(), b"", "and what was collected is given up");
    }
}
