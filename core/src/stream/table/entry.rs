//! A stream in the table.

use bytes::BytesMut;

use super::super::Stream;
use super::Outgoing;
use crate::id::{NameHash, ServiceName};
use crate::time::Instant;

/// What identifies a stream to the outside; the nonce tells incarnations apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key {
    pub(super) local_service: ServiceName,
    pub(super) remote: NameHash,
    pub(super) remote_service: ServiceName,
}

impl Key {
    pub(super) const fn outgoing(self, packet: BytesMut) -> Outgoing {
        let Self {
            local_service,
            remote,
            remote_service,
        } = self;
        Outgoing {
            remote,
            remote_service,
            local_service,
            packet,
        }
    }
}

/// A stream and where the table's queues know it from.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) stream: Stream,
    pub(super) is_dialled: bool,
    /// An owner has it: dialled, or taken from the backlog.
    pub(super) is_accepted: bool,
    pub(super) is_released: bool,
    /// In the queue of those that want to send, or parked.
    pub(super) is_queued: bool,
    pub(super) is_eventful: bool,
    /// Over, and no longer in the count of living streams.
    pub(super) is_counted_out: bool,
    /// When the table looks at it again; not later than its own deadline.
    pub(super) timer: Option<Instant>,
}

impl Entry {
    pub(super) const fn new(key: Key, stream: Stream, is_dialled: bool) -> Self {
        Self {
            key,
            stream,
            is_dialled,
            is_accepted: is_dialled,
            is_released: false,
            is_queued: false,
            is_eventful: false,
            is_counted_out: false,
            timer: None,
        }
    }

    /// Somebody wants its events.
    pub(super) const fn is_ours(&self) -> bool {
        self.is_accepted && !self.is_released
    }

    /// It is over and nobody holds its ID.
    pub(super) const fn is_forgettable(&self) -> bool {
        self.stream.is_ended() && (self.is_released || !self.is_accepted)
    }
}
