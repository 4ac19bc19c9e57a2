//! What the world does with wires: connects them, lets frames travel, holds them up, ends them.

use bytes::BytesMut;
use receptor_core::id::{LinkId, TaskId};
use receptor_core::node::io::{Input, LinkInput, TaskResult};
use receptor_core::time::{Duration, Instant};

use super::network::{self, Parcel, STALLED_BYTES};
use super::observed::{Observed, Seen};
use super::{Happening, NodeIndex, World};

/// How often a held-up connection is tried again, as by retransmission.
const RETRY: Duration = Duration::from_millis(200);

/// An adapter gives a connection up after this time.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// A parcel on its way.
#[derive(Debug)]
pub(super) struct Travelling {
    pub(super) from: NodeIndex,
    pub(super) from_link: LinkId,
    pub(super) to: NodeIndex,
    pub(super) link: LinkId,
    pub(super) parcel: Parcel,
}

impl World {
    /// A node's own end of a link is closed; the other end learns of it behind everything that is under way.
    pub(super) fn cut(&mut self, index: NodeIndex, link: LinkId, reason: &'static str) {
        let Some(end) = self.network.remove(index, link) else {
            return;
        };
        if end.is_datagram || end.is_dead {
            return;
        }
        let at = (self.now + Duration::from_micros(50)).max(end.last_arrival);
        let travelling = Travelling {
            from: index,
            from_link: link,
            to: end.peer,
            link: end.peer_link,
            parcel: Parcel::End(reason),
        };
        self.schedule(at, end.peer, Happening::Arrive(travelling));
    }

    /// Cuts every link between two nodes, as a network failure with a reset does; they may connect anew.
    pub fn cut_between(&mut self, a: NodeIndex, b: NodeIndex) {
        for (node, link) in self.network.ends_between(a, b) {
            let reason = "connection reset";
            self.schedule(self.now, node, Happening::LinkDown { to: node, link, reason });
        }
    }

    /// Nothing passes any more on the links that are there between two nodes, and nobody is told: a router on the way has
    /// forgotten them. New ones are not affected.
    pub fn silence(&mut self, a: NodeIndex, b: NodeIndex) {
        for (node, link) in self.network.ends_between(a, b) {
            if let Some(end) = self.network.end(node, link) {
                end.is_dead = true;
                end.held.clear();
                end.held_bytes = 0;
            }
        }
    }

    /// The connection is gone, as its own machine says.
    pub(super) fn link_down(&mut self, to: NodeIndex, link: LinkId, reason: &'static str) {
        self.network.remove(to, link);
        // Once per link: its own end may have closed it meanwhile.
        if !self.hosts[to].links.remove(&link) {
            return;
        }
        self.trace.note(self.now, to, reason, link.0 as usize);
        let reason = reason.to_owned();
        self.input(to, Input::Link(link, LinkInput::Down { reason }));
    }

    pub(super) fn arrive(&mut self, travelling: Travelling) {
        let (from, to, link) = (travelling.from, travelling.to, travelling.link);
        let is_cut = self.network.is_cut(from, to);
        let now = self.now;
        match self.network.end(to, link) {
            Some(end) if end.is_dead => {}
            Some(end) if end.is_datagram => {
                if !is_cut {
                    self.deliver(to, link, travelling.parcel);
                }
            }
            Some(end) if is_cut || !end.held.is_empty() => {
                if end.held.is_empty() {
                    self.schedule(now + RETRY, to, Happening::Release { to, link });
                } else if let Parcel::Frame(frame) = &travelling.parcel {
                    end.held_bytes += frame.len();
                }
                if let Some(end) = self.network.end(to, link) {
                    end.held.push_back(travelling.parcel);
                }
            }
            Some(_) => self.deliver(to, link, travelling.parcel),
            None => self.nobody_there(travelling, is_cut),
        }
    }

    /// Something came for a connection that the machine knows nothing of.
    fn nobody_there(&mut self, travelling: Travelling, is_cut: bool) {
        let (from, from_link, to) = (travelling.from, travelling.from_link, travelling.to);
        let is_back_cut = self.network.is_cut(to, from);
        let Some(sender) = self.network.end(from, from_link) else {
            return;
        };
        if sender.is_dead || !self.hosts[to].is_powered {
            return;
        }
        if sender.is_datagram {
            // To the socket of the listener: for its program this is somebody new. A dialler's socket is gone.
            let Parcel::Frame(frame) = travelling.parcel else {
                return;
            };
            let fresh = sender.peer_link;
            if fresh != travelling.link {
                // It was under way when the first one came.
                let link = fresh;
                return self.arrive(Travelling {
                    link,
                    parcel: Parcel::Frame(frame),
                    ..travelling
                });
            }
            if !is_cut
                && sender.has_dialled
                && self.hosts[to].is_up()
                && let Some(link) = self.network.welcome(self.now, from, from_link, to)
            {
                self.deliver(to, link, Parcel::Frame(frame));
            }
        } else if is_cut || is_back_cut {
            self.schedule(self.now + Duration::from_secs(1), to, Happening::Arrive(travelling));
        } else {
            let at = self.now + self.network.direction(to, from).delay;
            let reason = "connection reset";
            self.schedule(
                at,
                from,
                Happening::LinkDown {
                    to: from,
                    link: from_link,
                    reason,
                },
            );
        }
    }

    /// Tries what is held up again.
    pub(super) fn release(&mut self, to: NodeIndex, link: LinkId) {
        let Some(from) = self.network.end(to, link).map(|end| end.peer) else {
            return;
        };
        if self.network.is_cut(from, to) {
            self.schedule(self.now + RETRY, to, Happening::Release { to, link });
            return;
        }
        let Some(end) = self.network.end(to, link) else { return };
        end.held_bytes = 0;
        let peer_link = end.peer_link;
        for parcel in std::mem::take(&mut end.held) {
            self.deliver(to, link, parcel);
        }
        if let Some(sender) = self.network.end(from, peer_link)
            && std::mem::take(&mut sender.is_pull_wanted)
        {
            self.pull(from, peer_link);
            self.settle(from);
        }
    }

    fn deliver(&mut self, to: NodeIndex, link: LinkId, parcel: Parcel) {
        let frame = match parcel {
            Parcel::Frame(frame) => frame,
            Parcel::End(reason) => return self.link_down(to, link, reason),
        };
        if !self.hosts[to].links.contains(&link) {
            // The first datagram of somebody: now the listener knows, if it is there yet.
            let Some((backend, peer)) = self.network.datagram_listener(to, link) else {
                return;
            };
            self.hosts[to].links.insert(link);
            self.link_up(to, link, backend, peer);
            if !self.network.contains(to, link) {
                return;
            }
        }
        let seen = Seen::new(&frame);
        self.trace.frame(self.now, to, link, seen);
        self.observe(|| Observed::Arrived {
            node: to,
            link,
            frame: seen,
        });
        self.input(to, Input::Link(link, LinkInput::Frame(frame)));
    }

    fn link_up(&mut self, to: NodeIndex, link: LinkId, backend: receptor_core::id::BackendId, from: NodeIndex) {
        self.trace.note(self.now, to, "accepted", link.0 as usize);
        let remote = format!("host-{from}");
        let up = LinkInput::Up {
            backend,
            remote,
            certified: None,
        };
        self.input(to, Input::Link(link, up));
    }

    /// A dial arrives, or is tried again.
    pub(super) fn connect(&mut self, from: NodeIndex, task: TaskId, address: &str, since: Instant) {
        let listener = self.network.listener(address);
        // A dead machine and a cut are silent; a machine without the program says so at once.
        let to = listener.or_else(|| self.named(address));
        let is_silent = to.is_some_and(|to| {
            let is_cut = self.network.is_cut(from, to) || self.network.is_cut(to, from);
            is_cut || !self.hosts[to].is_powered || listener.is_some() && self.hosts[to].frozen_until > self.now
        });
        if is_silent {
            if self.now.since(since) >= CONNECT_LIMIT {
                let text = format!("dial tcp {address}: i/o timeout");
                return self.input(from, Input::Done(task, TaskResult::Failed(text)));
            }
            let again = Happening::Connect {
                node: from,
                task,
                address: address.to_owned(),
                since,
            };
            return self.schedule(self.now + Duration::from_secs(1), from, again);
        }
        let Some((link, to, peer_link, backend)) = self.network.connect(self.now, from, address) else {
            let text = format!("dial tcp {address}: connect: connection refused");
            return self.input(from, Input::Done(task, TaskResult::Failed(text)));
        };
        let is_datagram = self.network.end(from, link).is_some_and(|end| end.is_datagram);
        self.hosts[from].links.insert(link);
        self.trace.note(self.now, from, "connected", to);
        let dialed = TaskResult::Dialed {
            link,
            remote: address.to_owned(),
            certified: None,
        };
        if !is_datagram {
            self.hosts[to].links.insert(peer_link);
        }
        self.input(from, Input::Done(task, dialed));
        if !is_datagram && self.network.contains(to, peer_link) {
            self.link_up(to, peer_link, backend, from);
        }
    }

    /// Takes frames from a node as fast as the wire allows.
    pub(super) fn pull(&mut self, index: NodeIndex, link: LinkId) {
        /// As much as a slow socket takes at once: adapters let the kernel hold no more unsent.
        const BATCH: usize = 32 << 10;
        let (now, clocks) = (self.now, self.clocks(index));
        loop {
            let Some(end) = self.network.end(index, link) else {
                return;
            };
            if end.busy_until > now {
                if !std::mem::replace(&mut end.pull_scheduled, true) {
                    let at = end.busy_until;
                    self.schedule(at, index, Happening::Pull { node: index, link });
                }
                return;
            }
            let (peer, peer_link) = (end.peer, end.peer_link);
            let held = self.network.end(peer, peer_link).map_or(0, |end| end.held_bytes);
            if held >= STALLED_BYTES
                && let Some(end) = self.network.end(index, link)
            {
                end.is_pull_wanted = true;
                return;
            }
            let mut frames: Vec<BytesMut> = Vec::new();
            let Some(node) = &mut self.hosts[index].node else {
                return;
            };
            node.pull_frames(clocks, link, BATCH, &mut frames);
            if frames.is_empty() {
                return;
            }
            for frame in frames {
                self.send(index, link, frame);
            }
        }
    }

    /// Puts a frame on the wire.
    fn send(&mut self, from: NodeIndex, from_link: LinkId, mut frame: BytesMut) {
        self.observe(|| Observed::Sent {
            node: from,
            link: from_link,
            frame: Seen::new(&frame),
        });
        let now = self.now;
        let Some(to) = self.network.end(from, from_link).map(|end| end.peer) else {
            return;
        };
        let options = self.network.direction(from, to);
        let is_datagram = self.network.end(from, from_link).is_some_and(|end| end.is_datagram);
        self.network.carries(is_datagram, &frame);
        let Some(end) = self.network.end(from, from_link) else {
            return;
        };
        let is_mortal = frame[0] == 0 || end.is_datagram;
        let mut is_lost = end.is_dead || is_mortal && end.chance.below(1000) < options.loss_per_mille;
        if options.classic {
            frame = network::without_ext(frame);
        }
        is_lost |= options.without_native && network::is_native(&frame);
        let jitter = Duration::from_nanos(end.chance.below(options.jitter.as_nanos() as u64 + 1));
        if let Some(rate) = options.rate {
            let time = Duration::from_nanos(frame.len() as u64 * 1_000_000_000 / rate);
            end.busy_until = end.busy_until.max(now) + time;
        }
        let mut at = end.busy_until.max(now) + options.delay + jitter;
        if !end.is_datagram {
            at = at.max(end.last_arrival);
            end.last_arrival = at;
        }
        let is_twice = end.is_datagram && end.chance.below(1000) < options.twice_per_mille;
        let link = end.peer_link;
        if is_lost {
            return;
        }
        let travelling = |frame| {
            Happening::Arrive(Travelling {
                from,
                from_link,
                to,
                link,
                parcel: Parcel::Frame(frame),
            })
        };
        if is_twice {
            self.schedule(at + options.jitter, to, travelling(frame.clone()));
        }
        self.schedule(at, to, travelling(frame));
    }
}
