//! Simulated wires: delay, rate, loss, order, cuts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::BytesMut;
use receptor_core::id::{BackendId, LinkId};
use receptor_core::link::transport::datagram::MAX_DATAGRAM;
use receptor_core::rng::Rng;
use receptor_core::time::{Duration, Instant};
use receptor_core::wire::data::HEADER_LEN;

use super::NodeIndex;
use crate::chance::chance;

/// How a wire behaves, in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkOptions {
    /// Least time a frame travels.
    pub delay: Duration,
    /// Up to this much more, drawn per frame. Frames of a connection stay in order, datagrams do not.
    pub jitter: Duration,
    /// Share of data frames lost, per mille. Control messages are never lost, as on a relay that drops data under load. Of
    /// datagrams every kind is lost.
    pub loss_per_mille: u64,
    /// Share of datagrams that arrive twice, per mille.
    pub twice_per_mille: u64,
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
            twice_per_mille: 0,
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

/// What travels on a wire.
#[derive(Debug)]
pub(super) enum Parcel {
    Frame(BytesMut),
    /// The far end closed the connection, after everything before.
    End(&'static str),
}

/// One end of a wire.
#[derive(Debug)]
pub(super) struct End {
    pub(super) peer: NodeIndex,
    pub(super) peer_link: LinkId,
    /// Datagrams instead of a connection.
    pub(super) is_datagram: bool,
    /// This end dialled: the other one is at the socket of a listener.
    pub(super) has_dialled: bool,
    /// Of what is sent from here.
    pub(super) chance: Rng,
    /// When the last frame sent from here arrives: the next may not overtake it.
    pub(super) last_arrival: Instant,
    /// Until when the wire is busy with what was sent.
    pub(super) busy_until: Instant,
    pub(super) pull_scheduled: bool,
    /// Frames wait in the node because too much is held up on the way.
    pub(super) is_pull_wanted: bool,
    /// What was sent to here and is held up by a cut, in order.
    pub(super) held: VecDeque<Parcel>,
    pub(super) held_bytes: usize,
    /// Nothing passes between the ends any more, and neither learns of it.
    pub(super) is_dead: bool,
}

/// Bytes that the kernels at both ends hold of a connection that is stalled; then the sender has to wait.
pub(super) const STALLED_BYTES: usize = 256 << 10;

/// All wires, listeners and failures.
#[derive(Debug, Default)]
pub struct Network {
    seed: u64,
    ends: BTreeMap<(NodeIndex, LinkId), End>,
    listeners: BTreeMap<String, (NodeIndex, BackendId, bool)>,
    /// Longest frame over a UDP link so far.
    longest_datagram: usize,
    /// Directions in which nothing passes.
    cuts: BTreeSet<(NodeIndex, NodeIndex)>,
    /// Connections made so far between two nodes.
    made: BTreeMap<(NodeIndex, NodeIndex), u64>,
    /// Of all wires made from now on and now that have none of their own.
    pub options: LinkOptions,
    own_options: BTreeMap<(NodeIndex, NodeIndex), LinkOptions>,
    next_link: u64,
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// Options of everything that travels from one node to another.
    pub fn set_direction(&mut self, from: NodeIndex, to: NodeIndex, options: LinkOptions) {
        self.own_options.insert((from, to), options);
    }

    /// What [`Network::set_direction`] said, else the options of all.
    pub fn direction(&self, from: NodeIndex, to: NodeIndex) -> LinkOptions {
        self.own_options.get(&(from, to)).copied().unwrap_or(self.options)
    }

    /// Nothing passes between the two any more; connections stall rather than break.
    pub fn partition(&mut self, a: NodeIndex, b: NodeIndex) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Nothing passes from the one to the other any more; connections stall rather than break.
    pub fn cut_one_way(&mut self, from: NodeIndex, to: NodeIndex) {
        self.cuts.insert((from, to));
    }

    /// Everything passes again between the two.
    pub fn mend(&mut self, a: NodeIndex, b: NodeIndex) {
        self.cuts.remove(&(a, b));
        self.cuts.remove(&(b, a));
    }

    /// Everything passes again.
    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    /// Whether nothing passes from the one to the other.
    pub fn is_cut(&self, from: NodeIndex, to: NodeIndex) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// Longest frame that went over a UDP link since the last question.
    pub fn longest_datagram(&mut self) -> usize {
        std::mem::take(&mut self.longest_datagram)
    }

    pub(super) fn carries(&mut self, is_datagram: bool, frame: &[u8]) {
        if is_datagram {
            assert!(frame.len() <= MAX_DATAGRAM, "{} bytes in a datagram", frame.len());
            self.longest_datagram = self.longest_datagram.max(frame.len());
        }
    }

    /// Wires at this time.
    pub fn wires(&self) -> usize {
        self.ends.len() / 2
    }

    pub(super) fn bind(&mut self, address: &str, node: NodeIndex, backend: BackendId, is_datagram: bool) -> bool {
        if self.listeners.contains_key(address) {
            return false;
        }
        self.listeners.insert(address.to_owned(), (node, backend, is_datagram));
        true
    }

    pub(super) fn unbind(&mut self, node: NodeIndex) {
        self.listeners.retain(|_, &mut (owner, ..)| owner != node);
    }

    /// Who listens there.
    pub(super) fn listener(&self, address: &str) -> Option<NodeIndex> {
        self.listeners.get(address).map(|&(node, ..)| node)
    }

    /// Connects `from` to a listener; gives both ends.
    pub(super) fn connect(
        &mut self,
        now: Instant,
        from: NodeIndex,
        address: &str,
    ) -> Option<(LinkId, NodeIndex, LinkId, BackendId)> {
        let &(to, backend, is_datagram) = self.listeners.get(address)?;
        let (here, there) = (LinkId(self.next_link), LinkId(self.next_link + 1));
        self.next_link += 2;
        let end = self.new_end(now, from, to, there, is_datagram, true);
        self.ends.insert((from, here), end);
        let end = self.new_end(now, to, from, here, is_datagram, false);
        self.ends.insert((to, there), end);
        Some((here, to, there, backend))
    }

    /// A fresh end, at a datagram listener, for somebody whose earlier one is gone.
    pub(super) fn welcome(
        &mut self,
        now: Instant,
        from: NodeIndex,
        from_link: LinkId,
        to: NodeIndex,
    ) -> Option<LinkId> {
        self.listeners
            .values()
            .find(|&&(owner, _, is_datagram)| owner == to && is_datagram)?;
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.ends.get_mut(&(from, from_link))?.peer_link = link;
        let end = self.new_end(now, to, from, from_link, true, false);
        self.ends.insert((to, link), end);
        Some(link)
    }

    /// Which listener the end of a datagram wire belongs to, and who is at the other end.
    pub(super) fn datagram_listener(&self, node: NodeIndex, link: LinkId) -> Option<(BackendId, NodeIndex)> {
        let end = self.ends.get(&(node, link)).filter(|end| end.is_datagram)?;
        let listener = self
            .listeners
            .values()
            .find(|&&(owner, _, is_datagram)| owner == node && is_datagram)?;
        Some((listener.1, end.peer))
    }

    fn new_end(
        &mut self,
        now: Instant,
        node: NodeIndex,
        peer: NodeIndex,
        peer_link: LinkId,
        is_datagram: bool,
        has_dialled: bool,
    ) -> End {
        let made = self.made.entry((node, peer)).or_default();
        *made += 1;
        End {
            peer,
            peer_link,
            is_datagram,
            has_dialled,
            chance: chance(self.seed, "wire", (node as u64) << 32 | peer as u64, *made),
            last_arrival: now,
            busy_until: now,
            pull_scheduled: false,
            is_pull_wanted: false,
            held: VecDeque::new(),
            held_bytes: 0,
            is_dead: false,
        }
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

    /// Takes one end of a wire out; the other stays, as it knows nothing yet.
    pub(super) fn remove(&mut self, node: NodeIndex, link: LinkId) -> Option<End> {
        self.ends.remove(&(node, link))
    }

    /// Ends at one of the nodes of wires to the other.
    pub(super) fn ends_between(&self, a: NodeIndex, b: NodeIndex) -> Vec<(NodeIndex, LinkId)> {
        let of = |x: NodeIndex, y: NodeIndex| {
            self.ends
                .range((x, LinkId(0))..=(x, LinkId(u64::MAX)))
                .filter(move |(_, end)| end.peer == y)
                .map(|(&key, _)| key)
        };
        of(a, b).chain(of(b, a)).collect()
    }
}
