//! QUIC connections: an endpoint beside the node on one side, connections and their owners on the other.
//!
//! To its owner such a connection is like a native stream. Here it is kept like a local pipe whose local side is the
//! endpoint, with credit both ways.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::Node;
use super::conn::Conn;
use super::io::{Output, PIPE_WINDOW};
use super::pipes::{Pipe, Taken};
use crate::error::CallerError;
use crate::id::{NameHash, ServiceName};
use crate::netceptor::{self, SendError};
use crate::quic::{ConnectionId, DialTls, FromEndpoint, Path, ToEndpoint, WINDOW};
use crate::time::Now;
use crate::wire::data::MAX_HOPS;

const _: () = assert!(WINDOW == PIPE_WINDOW, "a connection has the windows of a pipe");

/// One connection that the endpoint knows and the node has not let go.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) pipe: Pipe,
    pub(super) path: Path,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Quic {
    /// Somebody runs an endpoint.
    is_spoken: bool,
    connections: BTreeMap<ConnectionId, Connection>,
    next: u64,
    listening: BTreeSet<ServiceName>,
    /// Not listened on any more; connections may be left.
    leaving: BTreeSet<ServiceName>,
    /// Random services of dials, until the endpoint has no more use for them.
    dialled: BTreeSet<ServiceName>,
    /// Nodes the endpoint was told to send nothing to.
    blocked: BTreeSet<NameHash>,
}

impl Quic {
    pub(super) fn new(is_spoken: bool) -> Self {
        Self {
            is_spoken,
            ..Self::default()
        }
    }

    pub(super) fn is_spoken(&self) -> bool {
        self.is_spoken
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(&id)
    }

    pub(super) fn pipe(&mut self, id: ConnectionId) -> Option<&mut Pipe> {
        self.connections.get_mut(&id).map(|connection| &mut connection.pipe)
    }

    /// Whether the endpoint wants what comes for a service.
    pub(super) fn serves(&self, service: ServiceName) -> bool {
        self.listening.contains(&service) || self.dialled.contains(&service) || self.leaving.contains(&service)
    }
}

impl Node {
    fn tell_quic(&mut self, message: ToEndpoint) {
        self.outputs.push_back(Output::Quic(message));
    }

    /// Starts a connection to a service of a node, from a random service name.
    pub(super) fn dial_quic(
        &mut self,
        target: NameHash,
        service: ServiceName,
        tls: Option<DialTls>,
    ) -> Result<Conn, String> {
        if self.is_full_of_streams() {
            return Err(self.too_many_streams());
        }
        let local_service = self.net.router.open_service("", netceptor::Owner::Stream)?;
        let id = ConnectionId(self.quic.next);
        self.quic.next += 1;
        let path = Path {
            remote: target,
            remote_service: service,
            local_service,
        };
        self.quic.dialled.insert(local_service);
        let pipe = Pipe::default();
        self.quic.connections.insert(id, Connection { pipe, path });
        self.tell_quic(ToEndpoint::Dial(id, path, tls));
        Ok(Conn::Quic(id))
    }

    /// Takes connections for a service from now on.
    pub(super) fn listen_quic(&mut self, service: ServiceName, tls: Option<&str>) {
        if self.quic.is_spoken && self.quic.listening.insert(service) {
            self.tell_quic(ToEndpoint::Listen(service, tls.map(Into::into)));
        }
    }

    /// Takes no more connections for a service.
    pub(super) fn unlisten_quic(&mut self, service: ServiceName) {
        if self.quic.listening.remove(&service) {
            self.quic.leaving.insert(service);
            self.tell_quic(ToEndpoint::Unlisten(service));
        }
    }

    /// A datagram of ours for the endpoint's peers could not be delivered.
    pub(super) fn quic_unreachable(&mut self, path: Path, problem: &str) {
        if self.quic.serves(path.local_service) {
            self.tell_quic(ToEndpoint::Unreachable(path, problem.into()));
        }
    }

    /// A link has room again.
    pub(super) fn unblock_quic(&mut self, remote: NameHash) {
        if self.quic.blocked.remove(&remote) {
            self.tell_quic(ToEndpoint::Unblocked(remote));
        }
    }

    /// The endpoint's word.
    pub(super) fn quic_input(&mut self, now: Now, message: FromEndpoint) -> Result<(), CallerError> {
        match message {
            FromEndpoint::Datagram(path, packet) => {
                self.send_quic(now, path, packet);
                return Ok(());
            }
            FromEndpoint::Accepted(id, path) => {
                self.accept_quic(now, id, path);
                return Ok(());
            }
            FromEndpoint::Released(service) => {
                if self.quic.dialled.remove(&service) {
                    self.net.close_service(now, service);
                }
                self.quic.leaving.remove(&service);
                return Ok(());
            }
            FromEndpoint::Opened(id) => self.quic_opened(now, id),
            FromEndpoint::Data(id, data) => {
                if self.quic.pipe(id).map(|pipe| pipe.on_data(data)) == Some(Taken::OverCredit) {
                    return Err(CallerError::Blocked("credit of the QUIC connection"));
                }
                self.touch(Conn::Quic(id));
            }
            FromEndpoint::Eof(id) => {
                if let Some(pipe) = self.quic.pipe(id) {
                    pipe.on_eof();
                }
                self.touch(Conn::Quic(id));
            }
            FromEndpoint::Credit(id, bytes) => {
                if let Some(pipe) = self.quic.pipe(id) {
                    pipe.on_drained(bytes);
                }
                self.touch(Conn::Quic(id));
            }
            FromEndpoint::Closed(id, reason) => self.quic_closed(now, id, reason),
        }
        Ok(())
    }

    fn send_quic(&mut self, now: Now, path: Path, packet: bytes::BytesMut) {
        let Path {
            remote,
            remote_service,
            local_service,
        } = path;
        match self
            .net
            .send_frame(now, local_service, remote, remote_service, MAX_HOPS, packet)
        {
            Ok(Some(link)) if self.net.is_congested(link) => {
                self.held_back.insert((link, remote));
                if self.quic.blocked.insert(remote) {
                    self.tell_quic(ToEndpoint::Blocked(remote));
                }
            }
            // A lost route is waited out, but a dial fails at once, as users expect (`wire.md` §21.5).
            Err(error @ SendError::NoRoute) => self.quic_unreachable(path, error.as_str()),
            // Anything else is loss.
            Ok(_) | Err(_) => {}
        }
    }

    fn accept_quic(&mut self, now: Now, id: ConnectionId, path: Path) {
        if self.is_full_of_streams() {
            let text = self.too_many_streams();
            return self.tell_quic(ToEndpoint::Abort(id, text));
        }
        let pipe = Pipe::default();
        self.quic.connections.insert(id, Connection { pipe, path });
        self.accept_conn(now, path.local_service, Conn::Quic(id));
    }

    /// The program ends: the other ends need not wait for silence to tell them.
    pub(super) fn shut_quic_down(&mut self) {
        let all: Vec<ConnectionId> = self.quic.connections.keys().copied().collect();
        for id in all {
            self.tell_quic(ToEndpoint::Abort(id, "node is shut down".into()));
        }
    }

    fn quic_opened(&mut self, now: Now, id: ConnectionId) {
        let conn = Conn::Quic(id);
        self.drop_rival(now, conn);
        if let Some(&owner) = self.owners.get(&conn) {
            self.conn_opened(now, conn, owner);
        }
    }

    fn quic_closed(&mut self, now: Now, id: ConnectionId, reason: Option<String>) {
        let conn = Conn::Quic(id);
        let Some(pipe) = self.quic.pipe(id) else { return };
        match reason {
            // What it sent before is still to be read.
            None => {
                pipe.on_gone();
                self.touch(conn);
            }
            Some(reason) => {
                pipe.on_gone();
                self.conn_lost(now, conn, reason);
            }
        }
    }

    /// Lets a connection go, with the last word to the endpoint if it has not had its own.
    pub(super) fn let_quic_go(&mut self, id: ConnectionId, last: impl FnOnce(ConnectionId) -> ToEndpoint) {
        if let Some(connection) = self.quic.connections.remove(&id)
            && !connection.pipe.is_gone()
        {
            self.tell_quic(last(id));
        }
    }
}
