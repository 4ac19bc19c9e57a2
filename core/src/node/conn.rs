//! Byte connections, wherever their other end is: a local pipe or a mesh stream, one set of verbs for both.

use bytes::Bytes;

use super::Node;
use super::io::{Output, PipeOutput};
use crate::id::{CommandId, PipeId};
use crate::quic::{ConnectionId, ToEndpoint};
use crate::sabotage::{self, Bug};
use crate::stream::{Stream, StreamId, code};
use crate::time::Now;

/// One byte connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Conn {
    /// A pipe to the adapter.
    Pipe(PipeId),
    /// A stream over the mesh.
    Stream(StreamId),
    /// A stream over the mesh as classic nodes have it.
    Quic(ConnectionId),
}

/// Who reads and writes a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    /// A control session.
    Session(u64),
    /// One side of a tie: what one reads the other writes.
    Tie(u64),
    /// A control session that begins when the handshake is done.
    Arriving,
    /// A connection being opened for the control session that asked to be connected.
    Connecting(u64),
    /// A stream being dialled for the adapter's pipe.
    Dialing(PipeId, CommandId),
    /// A stream being dialled for an accepted socket of a service.
    ServiceDialing(PipeId),
    /// An accepted socket whose stream is being dialled.
    ServiceWaiting(Conn),
    /// A stream whose local socket broke: what was written still goes out, for a while.
    ServiceCancelled,
    /// The workceptor's session with another node.
    Peer(u64),
}

impl Node {
    /// The next bytes from the other end. Reading grants it new credit.
    pub(super) fn conn_read(&mut self, now: Now, conn: Conn) -> Option<Bytes> {
        if let Some(data) = self.stash.remove(&conn) {
            return Some(data);
        }
        match conn {
            Conn::Pipe(id) => {
                let pipe = self.pipes.get_mut(&id)?;
                let data = pipe.read()?;
                if !pipe.is_gone() {
                    let times = if sabotage::is(Bug::GrantsTwice) { 2 } else { 1 };
                    let credit = PipeOutput::Credit(times * data.len());
                    self.outputs.push_back(Output::Pipe(id, credit));
                }
                Some(data)
            }
            Conn::Stream(id) => self.streams.read(now.mono, id),
            Conn::Quic(id) => {
                let pipe = self.quic.pipe(id)?;
                let data = pipe.read()?;
                if !pipe.is_gone() {
                    let drained = ToEndpoint::Drained(id, data.len());
                    self.outputs.push_back(Output::Quic(drained));
                }
                Some(data)
            }
        }
    }

    /// Puts bytes back that the reader could not pass on yet.
    pub(super) fn conn_unread(&mut self, conn: Conn, data: Bytes) {
        self.stash.insert(conn, data);
    }

    /// Whether everything was read and nothing will come. True for a connection that is gone.
    pub(super) fn conn_is_at_eof(&self, conn: Conn) -> bool {
        if self.stash.contains_key(&conn) {
            return false;
        }
        match conn {
            Conn::Pipe(id) => self.pipes.get(&id).is_none_or(|pipe| pipe.is_at_eof()),
            Conn::Stream(id) => self.streams.stream(id).is_none_or(Stream::is_finished),
            Conn::Quic(id) => self.quic.get(id).is_none_or(|quic| quic.pipe.is_at_eof()),
        }
    }

    /// Bytes that [`Node::conn_write`] takes now. The connection is touched when there is room again.
    pub(super) fn conn_room(&mut self, conn: Conn) -> usize {
        match conn {
            Conn::Pipe(id) => self.pipes.get(&id).map_or(0, |pipe| pipe.room()),
            Conn::Stream(id) => self.streams.await_write_space(id),
            Conn::Quic(id) => self.quic.get(id).map_or(0, |quic| quic.pipe.room()),
        }
    }

    /// Sends bytes, at most as many as there was room for.
    pub(super) fn conn_write(&mut self, now: Now, conn: Conn, data: Bytes) {
        match conn {
            Conn::Pipe(id) => {
                if let Some(pipe) = self.pipes.get_mut(&id)
                    && !pipe.is_gone()
                {
                    pipe.on_sent(data.len());
                    self.outputs.push_back(Output::Pipe(id, PipeOutput::Data(data)));
                }
            }
            Conn::Stream(id) => {
                // There was room; an error means that the stream has ended, which its owner hears as an event.
                let _ = self.streams.write(now.mono, id, data);
            }
            Conn::Quic(id) => {
                if let Some(pipe) = self.quic.pipe(id)
                    && !pipe.is_gone()
                {
                    pipe.on_sent(data.len());
                    self.outputs.push_back(Output::Quic(ToEndpoint::Data(id, data)));
                }
            }
        }
    }

    /// No more bytes from our side; the other direction goes on.
    pub(super) fn conn_finish(&mut self, conn: Conn) {
        match conn {
            Conn::Pipe(id) => {
                if self
                    .pipes
                    .get_mut(&id)
                    .is_some_and(|pipe| !pipe.is_gone() && pipe.finish())
                {
                    self.outputs.push_back(Output::Pipe(id, PipeOutput::Eof));
                }
            }
            Conn::Stream(id) => self.streams.finish(id),
            Conn::Quic(id) => {
                if self.quic.pipe(id).is_some_and(|pipe| !pipe.is_gone() && pipe.finish()) {
                    self.outputs.push_back(Output::Quic(ToEndpoint::Eof(id)));
                }
            }
        }
    }

    /// Lets a connection go: what was written is still delivered, nothing more is read.
    pub(super) fn conn_release(&mut self, now: Now, conn: Conn) {
        self.owners.remove(&conn);
        self.stash.remove(&conn);
        self.protected.remove(&conn);
        self.drop_rival(now, conn);
        match conn {
            Conn::Pipe(id) => {
                self.conn_finish(conn);
                self.close_drained_pipe(id, true);
                self.forget_gone_pipe(id);
            }
            Conn::Stream(id) => self.streams.release(now.mono, id),
            Conn::Quic(id) => self.let_quic_go(id, ToEndpoint::Release),
        }
    }

    /// Ends a connection in both directions at once.
    pub(super) fn conn_abort(&mut self, now: Now, conn: Conn, reason: &str) {
        self.owners.remove(&conn);
        self.stash.remove(&conn);
        self.protected.remove(&conn);
        self.drop_rival(now, conn);
        match conn {
            Conn::Pipe(id) => {
                self.end_tie_behind(now, id, reason);
                self.forget_gone_pipe(id);
                if let Some(pipe) = self.pipes.get_mut(&id)
                    && pipe.abort()
                {
                    if sabotage::is(Bug::EndsResets) {
                        self.outputs.push_back(Output::Pipe(id, PipeOutput::Eof));
                    }
                    self.outputs.push_back(Output::Pipe(id, PipeOutput::Close));
                }
            }
            Conn::Stream(id) => {
                self.streams.reset(now.mono, id, code::RELEASED, reason);
                self.streams.release(now.mono, id);
            }
            Conn::Quic(id) => self.let_quic_go(id, |id| ToEndpoint::Abort(id, reason.into())),
        }
    }

    /// Whether the other end is gone in both directions; what it sent before may still be read.
    pub(super) fn conn_is_gone(&self, conn: Conn) -> bool {
        match conn {
            Conn::Pipe(id) => self.pipes.get(&id).is_none_or(|pipe| pipe.is_gone()),
            Conn::Stream(id) => self.streams.stream(id).is_none(),
            Conn::Quic(id) => self.quic.get(id).is_none_or(|quic| quic.pipe.is_gone()),
        }
    }

    /// Whether it is a socket of a service that ended in the middle.
    pub(super) fn conn_is_broken(&self, conn: Conn) -> bool {
        match conn {
            Conn::Pipe(id) => self.pipes.get(&id).is_some_and(|pipe| pipe.is_broken()),
            Conn::Stream(_) | Conn::Quic(_) => false,
        }
    }

    fn forget_gone_pipe(&mut self, id: PipeId) {
        if self.pipes.get(&id).is_some_and(|pipe| pipe.is_gone()) {
            self.pipes.remove(&id);
        }
    }

    /// Closes a released pipe once its local side has taken everything. A pipe stays in the table until the adapter says
    /// that it is closed.
    pub(super) fn close_drained_pipe(&mut self, id: PipeId, released: bool) {
        if let Some(pipe) = self.pipes.get_mut(&id)
            && pipe.may_close(released)
        {
            self.outputs.push_back(Output::Pipe(id, PipeOutput::Close));
        }
    }
}
