//! What waits between the node's task and the endpoint's.

use alloc::collections::VecDeque;

use super::message::{FromEndpoint, ToEndpoint};

/// Most bytes of datagrams in one [`Queue`]: 4 MiB, as much as a link may hold back.
pub const QUEUE_BYTES: usize = 4 << 20;

/// A message that may be queued.
pub trait Queued {
    /// Bytes of a datagram, which may be lost; `None` for what must arrive. Of the latter there is a bounded number:
    /// credit, windows and the limit of connections see to it.
    fn datagram_bytes(&self) -> Option<usize>;
}

impl Queued for ToEndpoint {
    fn datagram_bytes(&self) -> Option<usize> {
        match self {
            Self::Datagram(_, payload) => Some(payload.len()),
            Self::Unreachable(_, problem) => Some(problem.len()),
            _ => None,
        }
    }
}

impl Queued for FromEndpoint {
    fn datagram_bytes(&self) -> Option<usize> {
        match self {
            Self::Datagram(_, packet) => Some(packet.len()),
            _ => None,
        }
    }
}

/// Messages in one direction, in order. Datagrams beyond [`QUEUE_BYTES`] are dropped, as on any path.
#[derive(Debug)]
pub struct Queue<M> {
    messages: VecDeque<M>,
    datagram_bytes: usize,
}

impl<M> Default for Queue<M> {
    fn default() -> Self {
        Self {
            messages: VecDeque::new(),
            datagram_bytes: 0,
        }
    }
}

/// What a datagram costs besides its bytes, so that many small ones are bounded, too.
const OVERHEAD: usize = 128;

impl<M: Queued> Queue<M> {
    /// Whether the endpoint should wait before it makes more: datagrams would be dropped, and its congestion control
    /// would take that for loss.
    pub fn is_full(&self) -> bool {
        self.datagram_bytes >= QUEUE_BYTES / 2
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Puts a message in; `false` if it was dropped.
    pub fn push(&mut self, message: M) -> bool {
        if let Some(bytes) = message.datagram_bytes() {
            if self.datagram_bytes >= QUEUE_BYTES {
                return false;
            }
            self.datagram_bytes += bytes + OVERHEAD;
        }
        self.messages.push_back(message);
        true
    }

    /// Takes the oldest message out.
    pub fn pop(&mut self) -> Option<M> {
        let message = self.messages.pop_front()?;
        if let Some(bytes) = message.datagram_bytes() {
            self.datagram_bytes -= bytes + OVERHEAD;
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::message::{ConnectionId, Path};
    use super::*;
    use crate::id::{NameHash, ServiceName};

    #[test]
    fn datagrams_are_dropped_at_the_limit_and_nothing_else_is() {
        let path = Path {
            remote: NameHash(1),
            remote_service: ServiceName::CONTROL,
            local_service: ServiceName::CONTROL,
        };
        let mut queue = Queue::default();
        let mut taken = 0;
        while queue.push(ToEndpoint::Datagram(path, Bytes::from_static(&[0; 1200]))) {
            taken += 1;
        }
        assert!(queue.is_full());
        assert!((3000..4000).contains(&taken), "{taken}");
        assert!(queue.push(ToEndpoint::Eof(ConnectionId(1))));
        while queue.pop().is_some() {}
        assert!(queue.is_empty() && !queue.is_full());
        assert_eq!(queue.datagram_bytes, 0);
    }
}
