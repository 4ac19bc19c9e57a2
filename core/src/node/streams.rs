//! Mesh streams: datagrams of the netceptor on one side, connections and their owners on the other.

use alloc::string::{String, ToString as _};

use alloc::vec::Vec;

use bytes::Bytes;

use super::Node;
use super::conn::{Conn, Owner};
use crate::error::CallerError;
use crate::id::{LinkId, NameHash, NodeId, ServiceName};
use crate::netceptor::{self, Route, SendError};
use crate::stream::{self, Arrival, Outgoing, Received, StreamId, TableEvent};
use crate::time::Now;
use crate::wire::data::{self, HEADER_LEN, Header, MAX_HOPS};

/// Packets that streams send in one go, before inputs of streams are looked at again.
const TRANSMIT_MAX: usize = 256;

impl Node {
    /// Starts a stream to a service of a node, from a random service name.
    pub(super) fn dial_stream(&mut self, now: Now, node: &str, service: &str) -> Result<StreamId, String> {
        let service = ServiceName::new(service)?;
        if !self.net.router.reachable(node) {
            return Err(SendError::NoRoute.as_str().into());
        }
        let target = self.net.router.resolve(node);
        let local = self.net.router.open_service("", netceptor::Owner::Stream)?;
        self.streams.dial(now.mono, target, service, local).map_err(|error| {
            self.net.close_service(now, local);
            match error {
                CallerError::Blocked(_) => alloc::format!("limit of {} streams reached", self.config.limits.streams),
                other => other.to_string(),
            }
        })
    }

    /// Takes streams for a service from now on.
    pub(super) fn listen_stream(&mut self, service: &str) -> Result<ServiceName, String> {
        let service = self.net.router.open_service(service, netceptor::Owner::Stream)?;
        self.streams.listen(service).map_err(|error| error.to_string())?;
        Ok(service)
    }

    /// A data message for a stream service of this node, or for a service nobody has.
    pub(super) fn arrive(&mut self, now: Now, header: &Header, payload: Bytes) {
        if !stream::is_native(&payload) {
            // What is not native is QUIC, which is not spoken yet; empty payloads are dropped by stream services.
            if !(payload.is_empty() && self.streams.is_listening(header.to_service)) {
                self.net.service_unknown(now, header);
            }
            return;
        }
        let arrival = Arrival {
            remote: header.from,
            remote_service: header.from_service,
            local_service: header.to_service,
            payload,
            marked: header.flags & data::FLAG_CONGESTION != 0,
        };
        if self.streams.handle_packet(now.mono, arrival) == Received::UnknownService {
            self.net.service_unknown(now, header);
            if header.from == self.own_hash {
                // Nobody else tells a stream that was dialled on this very node.
                let problem = SendError::ServiceUnknown.as_str();
                let (local, remote) = (header.from_service, header.to_service);
                self.streams
                    .on_unreachable(now.mono, header.from, remote, local, problem);
            }
        }
    }

    /// Sends what streams have to send, as far as the first hops take it. Returns whether anything was sent.
    pub(super) fn transmit_streams(&mut self, now: Now) -> bool {
        let mut progress = false;
        for _ in 0..TRANSMIT_MAX {
            let Some(outgoing) = self.streams.poll_transmit(now.mono, HEADER_LEN) else {
                break;
            };
            progress = true;
            self.transmit(now, outgoing);
        }
        progress
    }

    fn transmit(&mut self, now: Now, outgoing: Outgoing) {
        let Outgoing {
            remote,
            remote_service,
            local_service,
            packet,
        } = outgoing;
        match self
            .net
            .send_frame(now, local_service, remote, remote_service, MAX_HOPS, packet)
        {
            Ok(Some(link)) if self.net.is_congested(link) => {
                // Our own streams wait for the link; frames of others cannot.
                self.streams.block(remote);
                self.held_back.insert((link, remote));
            }
            Ok(_) => {}
            Err(error) => {
                // A lost route is waited out, but a dial fails at once, as users expect (`wire.md` §21.5).
                if error == SendError::NoRoute {
                    self.streams.block(remote);
                    self.unrouted.insert(remote);
                }
                self.streams
                    .on_unreachable(now.mono, remote, remote_service, local_service, error.as_str());
            }
        }
    }

    /// A link has room again: what was held back for it goes on.
    pub(super) fn release_held_back(&mut self, link: LinkId) -> bool {
        if !self.net.has_room(link) {
            return false;
        }
        let mut any = false;
        while let Some(&(_, remote)) = self
            .held_back
            .range((link, NameHash(0))..=(link, NameHash(u64::MAX)))
            .next()
        {
            self.held_back.remove(&(link, remote));
            self.streams.unblock(remote);
            any = true;
        }
        any
    }

    /// Routes have changed: streams to nodes that can be reached again try at once. Idle ones, too: a node that was away
    /// may have been started anew.
    pub(super) fn retry_unrouted(&mut self, now: Now) {
        let router = &self.net.router;
        let lost = self.streams.remotes().filter(|&node| router.route(node) == Route::None);
        self.unrouted.extend(lost);
        let is_back = |&node: &NameHash| self.net.router.route(node) != Route::None;
        let back: Vec<NameHash> = self.unrouted.iter().copied().filter(is_back).collect();
        for node in back {
            self.unrouted.remove(&node);
            self.streams.kick(now.mono, node);
        }
    }

    /// Carries what streams tell to their owners. Returns whether there was anything.
    pub(super) fn stream_events(&mut self, now: Now) -> bool {
        let mut progress = false;
        while let Some(event) = self.streams.poll_event() {
            progress = true;
            match event {
                TableEvent::Incoming(service) => {
                    while let Some(id) = self.streams.accept(service) {
                        self.accept_stream(now, service, id);
                    }
                }
                TableEvent::Stream(id, event) => self.stream_event(now, id, event),
                TableEvent::Forgotten {
                    local_service,
                    is_dialled: true,
                    ..
                } => {
                    self.net.close_service(now, local_service);
                }
                TableEvent::Forgotten { .. } => {}
            }
        }
        progress
    }

    fn stream_event(&mut self, now: Now, id: StreamId, event: stream::Event) {
        let conn = Conn::Stream(id);
        let Some(&owner) = self.owners.get(&conn) else { return };
        match event {
            stream::Event::Connected => self.stream_connected(now, conn),
            stream::Event::Readable
            | stream::Event::Writable
            | stream::Event::PeerFinished
            | stream::Event::Finished => {}
            stream::Event::Reset { reason, .. } | stream::Event::Lost { reason } => {
                if let Owner::Tie(key) = owner {
                    self.end_tie(now, key, &reason);
                }
            }
        }
        self.touch(conn);
    }

    /// Asks for the node behind a stream, if its name is known.
    pub(super) fn stream_peer(&self, id: StreamId) -> Option<NodeId> {
        self.net.router.name_of(self.streams.remote(id)?).cloned()
    }
}
