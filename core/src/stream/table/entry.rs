//! A stream in the table.

use bytes::BytesMut;

use super::super::Stream;
use super::{Outgoing, StreamId};
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
    pub(super) id: StreamId,
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
    /// In the list of those that may hold memory they do not need.
    pub(super) is_warm: bool,
    /// Something has happened since that list was last looked through.
    pub(super) was_active: bool,
    /// When the table looks at it again; not later than its own deadline.
    pub(super) timer: Option<Instant>,
    /// What it takes of the common memory.
    pub(super) receiving: u64,
    pub(super) sending: u64,
}

impl Entry {
    pub(super) const fn new(id: StreamId, key: Key, stream: Stream, is_dialled: bool) -> Self {
        Self {
            id,
            key,
            stream,
            is_dialled,
            is_accepted: is_dialled,
            is_released: false,
            is_queued: false,
            is_eventful: false,
            is_counted_out: false,
            is_warm: false,
            was_active: false,
            timer: None,
            receiving: 0,
            sending: 0,
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
