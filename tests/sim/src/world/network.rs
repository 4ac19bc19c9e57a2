//! Simulated wires: delay, rate, loss, partition.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use receptor_core::id::{BackendId, LinkId};
use receptor_core::link::transport::datagram::MAX_DATAGRAM;
use receptor_core::time::{Duration, Instant};
use receptor_core::wire::data::HEADER_LEN;

use super::NodeIndex;

/// How the wires behave.
#[derive(Clone, Copy, Debug)]
pub struct LinkOptions {
    /// Least time a frame travels.
    pub delay: Duration,
    /// Up to this much more, drawn per frame. Frames of one direction stay in order, as on a TCP connection.
    pub jitter: Duration,
    /// Share of data frames lost, per mille. Control messages are never lost, as on a relay that drops data under load.
    pub loss_per_mille: u64,
    /// Bytes per second of each direction; `None` is infinite.
    pub rate: Option<u64>,
    /// Nodes look like classic ones to each other: `Ext` is taken out of their control messages.
    pub classic: bool,
    /// Native streams do not pass, as if the other end could not speak them any more.
    pub without_native: bool,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            delay: Duration::from_micros(100),
            jitter: Duration::ZERO,
            loss_per_mille: 0,
            rate: None,
            classic: false,
            without_native: false,
        }
    }
}

/// A control message as a classic node would have said it.
pub(super) fn without_ext(frame: BytesMut) -> BytesMut {
    if !matches!(frame[0], 1 | 2) {
        return frame;
    }
    let mut message: serde_json::Value = serde_json::from_slice(&frame[1..]).expect("our messages are JSON");
    message.as_object_mut().expect("an object").remove("Ext");
    let mut stripped = BytesMut::from(&frame[..1]);
    stripped.extend_from_slice(message.to_string().as_bytes());
    stripped
}

/// Whether a frame carries a packet of a native stream.
pub(super) fn is_native(frame: &[u8]) -> bool {
    frame[0] == 0 && frame.len() > HEADER_LEN && receptor_core::stream::is_native(&frame[HEADER_LEN..])
}

/// One end of a wire.
#[derive(Debug)]
pub(super) struct End {
    pub(super) peer: NodeIndex,
    pub(super) peer_link: LinkId,
    /// When the last frame sent from here arrives: the next may not overtake it.
    pub(super) last_arrival: Instant,
    /// Until when the wire is busy with what was sent.
    pub(super) busy_until: Instant,
    pub(super) pull_scheduled: bool,
    /// Every frame is a datagram.
    pub(super) is_udp: bool,
}

/// All wires, listeners and failures.
#[derive(Debug, Default)]
pub struct Network {
    ends: BTreeMap<(NodeIndex, LinkId), End>,
    listeners: BTreeMap<String, (NodeIndex, BackendId, bool)>,
    /// Longest frame over a UDP link so far.
    longest_datagram: usize,
    partitions: BTreeSet<(NodeIndex, NodeIndex)>,
    /// Of all wires made from now on and now.
    pub options: LinkOptions,
    next_link: u64,
}

impl Network {
    /// Nothing passes between the two any more; connections stall rather than break.
    pub fn partition(&mut self, a: NodeIndex, b: NodeIndex) {
        self.partitions.insert((a.min(b), a.max(b)));
    }

    /// Everything passes again.
    pub fn heal(&mut self) {
        self.partitions.clear();
    }

    /// Whether a partition lies between the two.
    pub fn is_partitioned(&self, a: NodeIndex, b: NodeIndex) -> bool {
        self.partitions.contains(&(a.min(b), a.max(b)))
    }

    pub(super) fn is_partitioned_link(&self, node: NodeIndex, link: LinkId) -> bool {
        self.ends
            .get(&(node, link))
            .is_some_and(|end| self.is_partitioned(node, end.peer))
    }

    pub(super) fn bind(&mut self, address: &str, node: NodeIndex, backend: BackendId, is_udp: bool) -> bool {
        if self.listeners.contains_key(address) {
            return false;
        }
        self.listeners.insert(address.to_owned(), (node, backend, is_udp));
        true
    }

    /// Longest frame that went over a UDP link since the last question.
    pub fn longest_datagram(&mut self) -> usize {
        std::mem::take(&mut self.longest_datagram)
    }

    pub(super) fn carries(&mut self, is_udp: bool, frame: &[u8]) {
        if is_udp {
            assert!(frame.len() <= MAX_DATAGRAM, "{} bytes in a datagram", frame.len());
            self.longest_datagram = self.longest_datagram.max(frame.len());
        }
    }

    pub(super) fn unbind(&mut self, node: NodeIndex) {
        self.listeners.retain(|_, &mut (owner, ..)| owner != node);
    }

    /// Connects `from` to a listener; gives both ends.
    pub(super) fn connect(
        &mut self,
        now: Instant,
        from: NodeIndex,
        address: &str,
    ) -> Option<(LinkId, NodeIndex, LinkId, BackendId)> {
        let &(to, backend, is_udp) = self.listeners.get(address)?;
        if self.is_partitioned(from, to) {
            return None;
        }
        let (here, there) = (LinkId(self.next_link), LinkId(self.next_link + 1));
        self.next_link += 2;
        let end = |peer, peer_link| End {
            peer,
            peer_link,
            last_arrival: now,
            busy_until: now,
            pull_scheduled: false,
            is_udp,
        };
        self.ends.insert((from, here), end(to, there));
        self.ends.insert((to, there), end(from, here));
        Some((here, to, there, backend))
    }

    pub(super) fn contains(&self, node: NodeIndex, link: LinkId) -> bool {
        self.ends.contains_key(&(node, link))
    }

    pub(super) fn end(&mut self, node: NodeIndex, link: LinkId) -> Option<&mut End> {
        self.ends.get_mut(&(node, link))
    }

    pub(super) fn wire_free(&mut self, node: NodeIndex, link: LinkId) {
        if let Some(end) = self.end(node, link) {
            end.pull_scheduled = false;
        }
    }

    /// Takes a wire out, given one end; returns the other.
    pub(super) fn remove(&mut self, node: NodeIndex, link: LinkId) -> Option<(NodeIndex, LinkId)> {
        let end = self.ends.remove(&(node, link))?;
        self.ends.remove(&(end.peer, end.peer_link));
        Some((end.peer, end.peer_link))
    }

    /// Takes one end of a wire out; what the other sends is lost.
    pub(super) fn forget_end(&mut self, node: NodeIndex, link: LinkId) {
        self.ends.remove(&(node, link));
    }

    /// Wires between two nodes: both ends of each, once.
    pub(super) fn between(&self, a: NodeIndex, b: NodeIndex) -> Vec<(NodeIndex, LinkId, NodeIndex, LinkId)> {
        self.ends
            .iter()
            .filter(|((node, _), end)| *node == a && end.peer == b)
            .map(|(&(node, link), end)| (node, link, end.peer, end.peer_link))
            .collect()
    }
}
