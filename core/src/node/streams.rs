//! Mesh streams: datagrams of the netceptor on one side, connections and their owners on the other.

use alloc::string::{String, ToString as _};

use bytes::BytesMut;

use super::Node;
use super::conn::{Conn, Owner};
use super::io::{Event, Output, PipeOutput, Reply};
use crate::error::CallerError;
use crate::id::{NameHash, NodeId, PipeId, ServiceName};
use crate::netceptor::SendError;
use crate::stream::{self, Arrival, Outgoing, Received, StreamId, TableEvent};
use crate::time::Now;
use crate::wire::data::{self, HEADER_LEN, Header};

/// Streams that leave for other nodes in one go, before inputs are looked at again.
const TRANSMIT_MAX: usize = 256;

impl Node {
    /// Starts a stream to a service of a node, from a random service name.
    pub(super) fn dial_stream(&mut self, now: Now, node: &str, service: &str) -> Result<StreamId, String> {
        let service = ServiceName::new(service).map_err(String::from)?;
        let target = self.router.resolve(node).ok_or("no route to node")?;
        if !self.router.is_reachable(target) {
            return Err("no route to node".into());
        }
        let local = loop {
            let name = ServiceName::from_wire(self.rng.name8());
            if !self.router.is_port(name) && !self.streams.is_listening(name) {
                break name;
            }
        };
        let dialled = self.streams.dial(now.mono, target, service, local).map_err(|error| match error {
            CallerError::Blocked(_) => alloc::format!("limit of {} streams reached", self.config.limits.streams),
            other => other.to_string(),
        })?;
        Ok(dialled)
    }

    /// A data message for a service of this node that is no datagram port. `false` if nobody wants it.
    pub(super) fn arrive(&mut self, now: Now, header: &Header, frame: BytesMut) -> bool {
        let marked = data::is_marked(&frame);
        let payload = frame.freeze().slice(HEADER_LEN..);
        if !stream::is_native(&payload) {
            // What is not native is QUIC, which is not spoken yet; an empty payload is dropped on stream services.
            return payload.is_empty() && self.streams.is_listening(header.to_service);
        }
        let arrival = Arrival {
            remote: header.from,
            remote_service: header.from_service,
            local_service: header.to_service,
            payload,
            marked,
        };
        self.streams.handle_packet(now.mono, arrival) != Received::UnknownService
    }

    /// Sends what streams have to send, as far as the first hops take it. Returns whether anything was sent.
    pub(super) fn transmit_streams(&mut self, now: Now) -> bool {
        let mut progress = false;
        for _ in 0..TRANSMIT_MAX {
            let Some(outgoing) = self.streams.poll_transmit(now.mono, HEADER_LEN) else { break };
            progress = true;
            self.transmit(now, outgoing);
        }
        progress
    }

    fn transmit(&mut self, now: Now, outgoing: Outgoing) {
        let Outgoing { remote, remote_service, local_service, packet } = outgoing;
        match self.send_data(now, remote, remote_service, local_service, data::MAX_HOPS, packet) {
            Ok(Some(link)) if self.links.is_congested(link) => {
                // Our own streams wait for the link; frames of others cannot.
                self.streams.block(remote);
                self.held_back.insert((link, remote));
            }
            Ok(_) => {}
            Err(error) => {
                // A lost route is waited out, but a dial fails at once, as users expect (`wire.md` §21.5).
                let problem = error.to_string();
                if error == SendError::NoRoute {
                    self.streams.block(remote);
                    self.unrouted.insert(remote);
                }
                self.streams.on_unreachable(now.mono, remote, remote_service, local_service, &problem);
            }
        }
    }

    /// A link has room again: what was held back for it goes on.
    pub(super) fn release_held_back(&mut self, link: crate::id::LinkId) -> bool {
        if self.links.is_congested(link) {
            return false;
        }
        let mut any = false;
        while let Some(&(_, remote)) =
            self.held_back.range((link, NameHash(0))..=(link, NameHash(u64::MAX))).next()
        {
            self.held_back.remove(&(link, remote));
            self.streams.unblock(remote);
            any = true;
        }
        any
    }

    /// Routes have changed: streams to nodes that can be reached again try at once.
    pub(super) fn retry_unrouted(&mut self, now: Now) {
        let back: alloc::vec::Vec<NameHash> =
            self.unrouted.iter().copied().filter(|&node| self.router.is_reachable(node)).collect();
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
                TableEvent::Forgotten { .. } => {}
            }
        }
        progress
    }

    fn accept_stream(&mut self, now: Now, service: ServiceName, id: StreamId) {
        let conn = Conn::Stream(id);
        if self.control_services.contains(&service) {
            return self.open_session(now, conn);
        }
        if !self.app_listeners.contains(&service) {
            return self.conn_abort(now, conn, "nobody listens");
        }
        let pipe = PipeId(OWN_PIPES | self.next_pipe);
        self.next_pipe += 1;
        self.pipes.insert(pipe, Default::default());
        self.bridge(conn, Conn::Pipe(pipe));
        let from = self.stream_peer(id);
        self.outputs.push_back(Output::Event(Event::Accepted { service, pipe, from }));
    }

    /// Ties two connections together.
    fn bridge(&mut self, a: Conn, b: Conn) {
        self.owners.insert(a, Owner::Bridge(b));
        self.owners.insert(b, Owner::Bridge(a));
        self.touch(a);
        self.touch(b);
    }

    fn stream_event(&mut self, now: Now, id: StreamId, event: stream::Event) {
        let conn = Conn::Stream(id);
        let Some(&owner) = self.owners.get(&conn) else { return };
        match event {
            stream::Event::Connected => match owner {
                Owner::Connecting(key) => self.connected(key, conn, Ok(())),
                Owner::Dialing(pipe, command) => {
                    self.bridge(conn, Conn::Pipe(pipe));
                    self.outputs.push_back(Output::Reply(command, Reply::Done));
                }
                Owner::Peer(key) => self.peer_opened(now, key),
                Owner::Session(_) | Owner::Bridge(_) => {}
            },
            stream::Event::Readable
            | stream::Event::Writable
            | stream::Event::PeerFinished
            | stream::Event::Finished => {}
            stream::Event::Reset { reason, .. } | stream::Event::Lost { reason } => {
                self.stream_lost(now, conn, owner, reason);
            }
        }
        self.touch(conn);
    }

    fn stream_lost(&mut self, now: Now, conn: Conn, owner: Owner, reason: String) {
        self.conn_release(now, conn);
        match owner {
            Owner::Connecting(key) => self.connected(key, conn, Err(reason)),
            Owner::Dialing(pipe, command) => {
                self.pipes.remove(&pipe);
                self.outputs.push_back(Output::Reply(command, Reply::Error(reason)));
            }
            Owner::Session(key) => self.session_conn_lost(now, key, conn),
            Owner::Bridge(other) => self.conn_abort(now, other, &reason),
            Owner::Peer(key) => self.peer_lost(now, key, &reason),
        }
    }

    /// Moves bytes from one side of a bridge to the other.
    pub(super) fn pump_bridge(&mut self, now: Now, from: Conn, to: Conn) {
        loop {
            let room = self.conn_room(to);
            if room == 0 {
                break;
            }
            let Some(mut data) = self.conn_read(now, from) else { break };
            if data.len() > room {
                self.conn_unread(from, data.split_off(room));
            }
            self.conn_write(now, to, data);
        }
        if self.conn_is_at_eof(from) {
            self.conn_finish(now, to);
            if self.conn_is_at_eof(to) {
                self.conn_release(now, from);
                self.conn_release(now, to);
            }
        }
    }

    /// Asks for the node behind a stream, if its name is known.
    pub(super) fn stream_peer(&self, id: StreamId) -> Option<NodeId> {
        self.router.name_of(self.streams.remote(id)?).cloned()
    }

    /// Writes a header in front of a payload that has room for it, and sends the frame. Tells the link it went to, if it
    /// left this node.
    pub(super) fn send_data(
        &mut self,
        now: Now,
        to: NameHash,
        to_service: ServiceName,
        from_service: ServiceName,
        hops: u8,
        mut frame: BytesMut,
    ) -> Result<Option<crate::id::LinkId>, SendError> {
        let header = Header {
            hops,
            flags: 0,
            from: self.own_hash,
            to,
            from_service,
            to_service,
        };
        frame[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        let link = self.router.route_own(&mut frame)?;
        match link {
            Some(link) => self.push_data(link, frame),
            None => self.loopback.push_back(frame),
        }
        let _ = now;
        Ok(link)
    }
}

/// Pipe IDs chosen by the node have this bit, those chosen by the adapter have not.
pub(super) const OWN_PIPES: u64 = 1 << 63;
