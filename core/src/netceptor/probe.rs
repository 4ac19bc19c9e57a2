//! Ping and traceroute (`wire.md` §19).

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::BytesMut;

use super::names::{Index, OWN};
use super::{Owner, Router, RouterOutput};
use crate::id::{LinkId, ServiceName};
use crate::time::{Instant, Now};
use crate::wire::classic::Unreachable;
use crate::wire::data::{Header, MAX_HOPS};
use crate::wire::extended::request_frames;

/// How long one ping waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Chosen by the caller, echoed in the result.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProbeToken(pub u64);

/// How one ping ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceHop {
    /// Who answered; empty after a timeout.
    pub from: String,
    /// From sending to answer.
    pub time: Duration,
    /// What went wrong; `None` for a pong, and in a traceroute for a hop on the way.
    pub error: Option<String>,
}

#[derive(Debug)]
struct Probe {
    token: ProbeToken,
    target: String,
    service: ServiceName,
    sent: Instant,
    deadline: Instant,
    /// The hop value under way and what came before; `None` for a ping.
    trace: Option<(u8, Vec<TraceHop>)>,
    /// Asks for the end of this link, and not for `token`.
    link: Option<LinkId>,
}

/// Pings under way, bounded.
#[derive(Debug)]
pub(super) struct Probes {
    by_id: BTreeMap<u64, Probe>,
    deadlines: BTreeSet<(Instant, u64)>,
    next_id: u64,
    limit: usize,
}

impl Probes {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            by_id: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next_id: 0,
            limit,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|d| d.0)
    }
}

impl Router {
    /// Pings a node once. Ends with [`RouterOutput::PingDone`].
    pub fn ping(&mut self, now: Now, token: ProbeToken, target: &str) {
        self.start_probe(now, token, target, None);
    }

    /// Pings a node with 0, 1, 2, … hops until it answers. Ends with [`RouterOutput::TracerouteDone`].
    pub fn traceroute(&mut self, now: Now, token: ProbeToken, target: &str) {
        self.start_probe(now, token, target, Some((0, Vec::new())));
    }

    /// A question to the neighbour at the other end of a link, to be sent over that link, whatever the routes say: does it
    /// live? Our nodes are asked for their record, which they send over the same link. Others are pinged; if that is answered,
    /// by whatever way, it ends with [`RouterOutput::LinkAnswered`]. `None` if there is no such neighbour, or no room.
    pub fn link_probe(&mut self, now: Now, link: LinkId) -> Option<BytesMut> {
        let neighbour = self.neighbours.get(&link)?;
        let peer = neighbour.peer;
        if neighbour.extended {
            let frames = request_frames(neighbour.fill, [self.names.id(peer).as_str().to_owned()], []);
            return frames.frames.first().map(|frame| BytesMut::from(&frame[..]));
        }
        let under_way = self.probes.by_id.values().find(|probe| probe.link == Some(link));
        let service = match under_way.map(|probe| probe.service) {
            Some(service) => service,
            None => self.open_link_probe(now, link, peer)?,
        };
        let header = Header {
            // As if it had come through the node: one hop is used up.
            hops: MAX_HOPS - 1,
            flags: 0,
            from: self.names.hash(OWN),
            to: self.names.hash(peer),
            from_service: service,
            to_service: ServiceName::PING,
        };
        Some(BytesMut::from(&header.to_bytes()[..]))
    }

    fn open_link_probe(&mut self, now: Now, link: LinkId, peer: Index) -> Option<ServiceName> {
        if self.probes.by_id.len() >= self.probes.limit {
            return None;
        }
        let id = self.probes.next_id;
        self.probes.next_id += 1;
        let service = self.ports.open("", Owner::Probe(id), &mut self.rng).ok()?;
        let probe = Probe {
            token: ProbeToken(0),
            target: self.names.id(peer).as_str().to_owned(),
            service,
            sent: now.mono,
            deadline: now.mono + TIMEOUT,
            trace: None,
            link: Some(link),
        };
        self.probes.deadlines.insert((probe.deadline, id));
        self.probes.by_id.insert(id, probe);
        Some(service)
    }

    /// Ends a ping or traceroute whose result nobody wants any more.
    pub fn cancel_probe(&mut self, token: ProbeToken) {
        let found = (self.probes.by_id.iter()).find(|(_, p)| p.token == token && p.link.is_none());
        if let Some(id) = found.map(|(&id, _)| id) {
            self.end_probe(id);
        }
    }

    fn start_probe(&mut self, now: Now, token: ProbeToken, target: &str, trace: Option<(u8, Vec<TraceHop>)>) {
        let id = self.probes.next_id;
        self.probes.next_id += 1;
        let service = if self.probes.by_id.len() < self.probes.limit {
            self.ports.open("", Owner::Probe(id), &mut self.rng)
        } else {
            Err(alloc::format!("too many pings under way: limit {}", self.probes.limit))
        };
        match service {
            Ok(service) => {
                let probe = Probe {
                    token,
                    target: target.to_owned(),
                    service,
                    sent: now.mono,
                    deadline: now.mono,
                    trace,
                    link: None,
                };
                self.probes.by_id.insert(id, probe);
                self.probes.deadlines.insert((now.mono, id));
                self.send_probe(now, id);
            }
            Err(error) => {
                let result = TraceHop {
                    from: self.node_id().as_str().into(),
                    time: Duration::ZERO,
                    error: Some(error),
                };
                self.outputs.push_back(match trace {
                    None => RouterOutput::PingDone { token, result },
                    Some(_) => RouterOutput::TracerouteDone {
                        token,
                        hops: alloc::vec![result],
                    },
                });
            }
        }
    }

    /// Sends the ping whose turn it is.
    fn send_probe(&mut self, now: Now, id: u64) {
        let Some(probe) = self.probes.by_id.get_mut(&id) else {
            return;
        };
        self.probes.deadlines.remove(&(probe.deadline, id));
        (probe.sent, probe.deadline) = (now.mono, now.mono + TIMEOUT);
        self.probes.deadlines.insert((probe.deadline, id));
        let hops = probe.trace.as_ref().map_or(MAX_HOPS, |trace| trace.0);
        let (service, to) = (probe.service, probe.target.clone());
        let to = self.resolve(&to);
        if let Err(error) = self.originate(now, service, to, ServiceName::PING, hops, &[]) {
            let own = self.node_id().as_str().to_owned();
            self.on_probe_problem(now, id, &own, error.as_str().into());
        }
    }

    /// Any datagram is an answer.
    pub(super) fn on_probe_answer(&mut self, now: Now, id: u64, header: &Header) {
        let node = self.name_of(header.from).map_or("", |id| id.as_str());
        let from = match header.from_service {
            ServiceName::PING => node.to_owned(),
            service => alloc::format!("{node}:{service}"),
        };
        self.step_probe(now, id, from, None);
    }

    /// An unreachable message, or the error of sending.
    pub(super) fn on_probe_problem(&mut self, now: Now, id: u64, from: &str, problem: String) {
        self.step_probe(now, id, from.to_owned(), Some(problem));
    }

    /// Times out what is due.
    pub(super) fn expire_probes(&mut self, now: Now) {
        while let Some(&(deadline, id)) = self.probes.deadlines.first() {
            if deadline > now.mono {
                return;
            }
            self.step_probe(now, id, String::new(), Some("timeout".into()));
        }
    }

    /// One ping has an end: report it, or go on with the next hop value.
    fn step_probe(&mut self, now: Now, id: u64, from: String, error: Option<String>) {
        let Some(probe) = self.probes.by_id.get_mut(&id) else {
            return;
        };
        let time = now.mono.since(probe.sent);
        if let Some((hops, results)) = &mut probe.trace {
            let on_the_way = error.as_deref() == Some(Unreachable::MESSAGE_EXPIRED);
            results.push(TraceHop {
                from,
                time,
                error: error.filter(|_| !on_the_way),
            });
            if on_the_way && *hops < MAX_HOPS {
                *hops += 1;
                self.send_probe(now, id);
                return;
            }
            if let Some(Probe {
                token,
                trace: Some((_, hops)),
                ..
            }) = self.end_probe(id)
            {
                self.outputs.push_back(RouterOutput::TracerouteDone { token, hops });
            }
        } else if let Some(probe) = self.end_probe(id) {
            match probe.link {
                None => self.outputs.push_back(RouterOutput::PingDone {
                    token: probe.token,
                    result: TraceHop { from, time, error },
                }),
                // What others say of it counts for nothing.
                Some(link) if error.is_none() && from == probe.target => {
                    self.outputs.push_back(RouterOutput::LinkAnswered(link));
                }
                Some(_) => {}
            }
        }
    }

    fn end_probe(&mut self, id: u64) -> Option<Probe> {
        let probe = self.probes.by_id.remove(&id)?;
        self.probes.deadlines.remove(&(probe.deadline, id));
        self.ports.close(probe.service);
        Some(probe)
    }

    /// The name that a probe gave to a destination nobody has heard of.
    pub(super) fn probe_target(&self, header: &Header) -> Option<String> {
        if header.from != self.names.hash(OWN) {
            return None;
        }
        match self.ports.owner(header.from_service)? {
            Owner::Probe(id) => Some(self.probes.by_id.get(&id)?.target.clone()),
            _ => None,
        }
    }
}
