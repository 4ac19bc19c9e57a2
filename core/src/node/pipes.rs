//! Local byte pipes between the adapter and the node, with credit both ways.

use alloc::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::io::PIPE_WINDOW;
use crate::id::PipeId;

/// One pipe. Bytes from the local side wait here until their consumer takes them, which grants new credit.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    incoming: VecDeque<Bytes>,
    incoming_bytes: usize,
    /// The local side will send no more.
    eof: bool,
    /// Sent to the local side and not yet drained by it.
    undrained: usize,
    /// We have said that no more comes.
    finished: bool,
    /// Nobody on our side reads or writes any more.
    released: bool,
    /// The adapter was told to close.
    closed: bool,
    /// It is a socket of a service, whose breaking is told to the far side.
    of_service: bool,
    /// The local side is gone without having said that it will send no more.
    broken: bool,
    /// The local side is gone: what it sent is still to be read, what is written for it is dropped.
    gone: bool,
}

/// What became of bytes from the local side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    Queued,
    /// More than the credit granted; the adapter has a bug.
    OverCredit,
}

impl Pipe {
    pub(super) fn of_service() -> Self {
        Self {
            of_service: true,
            ..Self::default()
        }
    }

    pub(super) fn on_data(&mut self, data: Bytes) -> Taken {
        if self.eof || self.incoming_bytes + data.len() > PIPE_WINDOW {
            return Taken::OverCredit;
        }
        if !data.is_empty() {
            self.incoming_bytes += data.len();
            self.incoming.push_back(data);
        }
        Taken::Queued
    }

    pub(super) fn on_eof(&mut self) {
        self.eof = true;
    }

    pub(super) fn on_gone(&mut self) {
        self.broken = !self.eof;
        self.eof = true;
        self.gone = true;
        self.undrained = 0;
    }

    /// The layer of the local side has failed, and told the far side.
    pub(super) fn on_failed(&mut self) {
        self.on_gone();
        self.broken = false;
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether this is the socket of a service and broke in the middle.
    pub(super) fn is_broken(&self) -> bool {
        self.of_service && self.broken
    }

    pub(super) fn on_drained(&mut self, bytes: usize) {
        self.undrained = self.undrained.saturating_sub(bytes);
    }

    /// The next bytes; as much credit is owed to the local side.
    pub(super) fn read(&mut self) -> Option<Bytes> {
        let data = self.incoming.pop_front()?;
        self.incoming_bytes -= data.len();
        Some(data)
    }

    /// Whether everything was read and nothing will come.
    pub(super) fn is_at_eof(&self) -> bool {
        self.eof && self.incoming.is_empty()
    }

    /// How many bytes may be sent to the local side now.
    pub(super) fn room(&self) -> usize {
        if self.gone {
            usize::MAX
        } else if self.finished {
            0
        } else {
            PIPE_WINDOW.saturating_sub(self.undrained)
        }
    }

    pub(super) fn on_sent(&mut self, bytes: usize) {
        self.undrained += bytes;
    }

    /// Notes a release, and says once when the pipe may be closed: released, and everything sent was drained.
    pub(super) fn may_close(&mut self, released: bool) -> bool {
        self.released |= released;
        self.released && self.undrained == 0 && !core::mem::replace(&mut self.closed, true)
    }

    /// Ends both directions; `false` if the adapter was told already.
    pub(super) fn abort(&mut self) -> bool {
        self.finished = true;
        self.released = true;
        !core::mem::replace(&mut self.closed, true)
    }

    /// Marks our direction as ended; `false` if it was already.
    pub(super) fn finish(&mut self) -> bool {
        !core::mem::replace(&mut self.finished, true)
    }
}

/// All pipes.
pub(super) type Pipes = BTreeMap<PipeId, Pipe>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_beyond_the_credit_are_refused() {
        let mut pipe = Pipe::default();
        assert_eq!(pipe.on_data(Bytes::from(alloc::vec![0; PIPE_WINDOW])), Taken::Queued);
        assert_eq!(pipe.on_data(Bytes::from_static(b"x")), Taken::OverCredit);
        assert_eq!(pipe.read().map(|d| d.len()), Some(PIPE_WINDOW));
        assert_eq!(pipe.on_data(Bytes::from_static(b"x")), Taken::Queued);
    }

    #[test]
    fn the_end_comes_after_the_last_byte() {
        let mut pipe = Pipe::default();
        pipe.on_data(Bytes::from_static(b"last"));
        pipe.on_eof();
        assert!(!pipe.is_at_eof());
        pipe.read();
        assert!(pipe.is_at_eof());
    }

    #[test]
    fn what_is_not_drained_takes_room() {
        let mut pipe = Pipe::default();
        pipe.on_sent(PIPE_WINDOW - 1);
        assert_eq!(pipe.room(), 1);
        pipe.on_drained(10);
        assert_eq!(pipe.room(), 11);
        assert!(pipe.finish());
        assert_eq!(pipe.room(), 0);
        assert!(!pipe.finish());
    }

    #[test]
    fn a_released_pipe_is_closed_once_and_after_the_last_byte() {
        let mut pipe = Pipe::default();
        pipe.on_sent(5);
        assert!(!pipe.may_close(true));
        pipe.on_drained(5);
        assert!(pipe.may_close(false));
        assert!(!pipe.may_close(true));
    }
}
