//! Mesh streams: datagrams of the netceptor on one side, connections and their owners on the other.

use alloc::string::{String, ToString as _};

use alloc::vec::Vec;

use bytes::Bytes;

use super::Node;
use super::conn::{Conn, Owner};
use super::io::{Output, Reply, Role};
use crate::error::CallerError;
use crate::id::{LinkId, NameHash, NodeId, ServiceName};
use crate::netceptor::{self, Route, SendError};
use crate::quic::{DialTls, Path, ToEndpoint};
use crate::stream::{self, Arrival, Outgoing, Received, StreamId, TableEvent};
use crate::time::Now;
use crate::wire::classic::Ext;
use crate::wire::data::{self, HEADER_LEN, Header, MAX_HOPS};

/// Packets that streams send in one go, before inputs of streams are looked at again.
const TRANSMIT_MAX: usize = 256;

impl Node {
    /// Starts a stream to a service of a node, from a random service name.
    ///
    /// Native where the node is known to be one of ours, with QUIC beside it if there is no answer soon; else QUIC.
    ///
    /// # Errors
    /// The classic text.
    pub(super) fn dial_stream(
        &mut self,
        now: Now,
        node: &str,
        service: &str,
        tls: Option<&str>,
    ) -> Result<Conn, String> {
        let tls = self.dial_tls(node, tls)?;
        let service = ServiceName::new(service)?;
        if !self.net.router.reachable(node) {
            return Err(SendError::NoRoute.as_str().into());
        }
        let target = self.net.router.resolve(node);
        if !self.quic.is_spoken() {
            return self.dial_native(now, target, service, tls).map(Conn::Stream);
        }
        let capabilities = self.net.router.capabilities(node);
        if capabilities.is_none_or(|bits| bits & Ext::STREAMS == 0) {
            return self.dial_quic(target, service, tls);
        }
        let stream = self.dial_native(now, target, service, tls)?;
        self.start_race(now, stream, target, service);
        Ok(Conn::Stream(stream))
    }

    fn dial_native(
        &mut self,
        now: Now,
        target: NameHash,
        service: ServiceName,
        tls: Option<DialTls>,
    ) -> Result<StreamId, String> {
        if self.is_full_of_streams() {
            return Err(self.too_many_streams());
        }
        let local = self.net.router.open_service("", netceptor::Owner::Stream)?;
        let dialled = self.streams.dial(now.mono, target, service, local);
        let stream = dialled.map_err(|error| {
            self.net.close_service(now, local);
            match error {
                CallerError::Blocked(_) => self.too_many_streams(),
                other => other.to_string(),
            }
        })?;
        self.protect_dial(Conn::Stream(stream), tls);
        Ok(stream)
    }

    /// Whether no stream of either kind can be opened or accepted.
    pub(super) fn is_full_of_streams(&self) -> bool {
        self.streams.live() + self.quic.len() >= self.config.limits.streams
    }

    pub(super) fn too_many_streams(&self) -> String {
        alloc::format!("limit of {} streams reached", self.config.limits.streams)
    }

    /// Takes streams of either kind for a service from now on, with this TLS config if there is one.
    pub(super) fn listen_stream(&mut self, service: &str, tls: Option<&str>) -> Result<ServiceName, String> {
        if let Some(unknown) = tls.filter(|&name| !self.config.tls.servers.contains(name)) {
            return Err(super::security::unknown(unknown));
        }
        let service = self.net.router.open_service(service, netceptor::Owner::Stream)?;
        self.streams.listen(service).map_err(|error| error.to_string())?;
        if let Some(tls) = tls {
            self.stream_tls.insert(service, tls.into());
        }
        self.listen_quic(service, tls);
        Ok(service)
    }

    /// A data message for a stream service of this node, or for a service nobody has.
    pub(super) fn arrive(&mut self, now: Now, header: &Header, payload: Bytes) {
        if !stream::is_native(&payload) {
            // What is not native is QUIC; empty payloads are dropped by stream services.
            if self.quic.serves(header.to_service) {
                if !payload.is_empty() {
                    let path = Path {
                        remote: header.from,
                        remote_service: header.from_service,
                        local_service: header.to_service,
                    };
                    self.outputs
                        .push_back(Output::Quic(ToEndpoint::Datagram(path, payload)));
                }
            } else if !(payload.is_empty() && self.streams.is_listening(header.to_service)) {
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
        while let Some(remote) = self.streams.poll_new_remote() {
            self.tell_path(now, remote);
        }
        for _ in 0..TRANSMIT_MAX {
            let Some(outgoing) = self.streams.poll_transmit(now.mono, HEADER_LEN) else {
                break;
            };
            progress = true;
            self.transmit(now, outgoing);
        }
        progress
    }

    /// Tells streams what the way to their node takes.
    fn tell_path(&mut self, now: Now, remote: NameHash) {
        let max_packet = self.net.max_payload(remote, stream::Config::default().max_packet);
        self.streams.set_path(now.mono, remote, max_packet);
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
            self.unblock_quic(remote);
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
        let remotes: Vec<NameHash> = self.streams.remotes().collect();
        for remote in remotes {
            self.tell_path(now, remote);
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
                        self.accept_conn(now, service, Conn::Stream(id));
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
            stream::Event::Connected => {
                self.drop_rival(now, conn);
                self.conn_opened(now, conn, owner);
            }
            stream::Event::Readable
            | stream::Event::Writable
            | stream::Event::PeerFinished
            | stream::Event::Finished => {}
            stream::Event::Reset { reason, .. } | stream::Event::Lost { reason } => {
                self.conn_lost(now, conn, reason);
            }
        }
        self.touch(conn);
    }

    /// A dial has succeeded.
    pub(super) fn conn_opened(&mut self, now: Now, conn: Conn, owner: Owner) {
        match owner {
            Owner::Dialing(pipe, command) => self.dialled_for_pipe(now, conn, pipe, command),
            Owner::Connecting(_) | Owner::Peer(_) if self.is_secured_here(conn) => {
                let plain = self.secure(now, conn, Role::Client, owner);
                if let Owner::Peer(key) = owner {
                    self.peer_moved(key, plain);
                }
            }
            Owner::Connecting(key) => self.connected(now, key, conn, Ok(())),
            Owner::ServiceDialing(pipe) => self.dialled_for_service(now, conn, pipe),
            Owner::Peer(key) => self.peer_opened(now, key, conn),
            Owner::Session(_)
            | Owner::Arriving
            | Owner::Tie(_)
            | Owner::ServiceWaiting(_)
            | Owner::ServiceCancelled => {}
        }
        self.touch(conn);
    }

    /// A dial has failed, or a connection is broken.
    pub(super) fn conn_lost(&mut self, now: Now, conn: Conn, reason: String) {
        let Some(&owner) = self.owners.get(&conn) else { return };
        if let Owner::Tie(key) = owner {
            return self.end_tie(now, key, &reason);
        }
        let rival = self.rival_left(conn);
        self.conn_release(now, conn);
        if let Some(rival) = rival {
            match owner {
                Owner::Peer(key) => self.peer_moved(key, rival),
                Owner::ServiceDialing(pipe) => self.service_moved(pipe, rival),
                _ => {}
            }
            return;
        }
        match owner {
            Owner::Connecting(key) => self.connected(now, key, conn, Err(reason)),
            Owner::Dialing(pipe, command) => {
                self.pipes.remove(&pipe);
                self.outputs.push_back(Output::Reply(command, Reply::Error(reason)));
            }
            Owner::Session(key) => self.session_conn_lost(now, key, conn, &reason),
            Owner::ServiceDialing(pipe) => self.service_failed(now, pipe, &reason),
            Owner::ServiceWaiting(_) | Owner::ServiceCancelled => {}
            // Nobody else has heard of it; a tie was dealt with above.
            Owner::Arriving | Owner::Tie(_) => {}
            Owner::Peer(key) => self.peer_lost(now, key, &reason),
        }
    }

    /// Asks for the node behind a connection, if its name is known; `None` for a local one.
    pub(super) fn conn_peer(&self, conn: Conn) -> Option<NodeId> {
        self.net.router.name_of(self.conn_remote(conn)?).cloned()
    }

    /// The same by its hash.
    pub(super) fn conn_remote(&self, conn: Conn) -> Option<NameHash> {
        match conn {
            Conn::Pipe(id) => self.plain_remote(id),
            Conn::Stream(id) => self.streams.remote(id),
            Conn::Quic(id) => Some(self.quic.get(id)?.path.remote),
        }
    }
}
