//! Services: accepted sockets get streams, accepted streams get sockets, and both are tied together.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::commands::stream_type;
use super::conn::{Conn, Owner};
use super::io::{Output, Task};
use super::pipes::Pipe;
use super::ties::Stage;
use super::{Node, TaskOwner};
use crate::error::CallerError;
use crate::id::{PipeId, ServiceIndex};
use crate::service::{LAST_WORDS, Opening};
use crate::time::Now;

impl Node {
    /// Begins all services. Gives how many answers are missing.
    ///
    /// # Errors
    /// The classic text: a name is too long, reserved or in use.
    pub(super) fn open_services(&mut self, now: Now) -> Result<usize, String> {
        let mut tasks = 0;
        let openings: Vec<_> = self.services.openings().collect();
        for (index, opening) in openings {
            match opening {
                Opening::Local(local) => {
                    tasks += 1;
                    let task = Task::ListenService { service: index, local };
                    self.task(TaskOwner::ListenService(index), task);
                }
                Opening::Mesh { service, tags, tls } => {
                    let name = self
                        .listen_stream(&service.to_string(), tls.as_deref())
                        .map_err(|error| self.services.start_error(index, &error))?;
                    self.services.on_listening(index, name);
                    let conn_type = stream_type(tls.as_deref());
                    self.net.advertise(now, name, conn_type, Some(tags), None);
                }
            }
        }
        Ok(tasks)
    }

    /// A listener of a service accepted a connection. Whatever fails closes its pipe.
    pub(super) fn service_socket(
        &mut self,
        now: Now,
        pipe: PipeId,
        index: ServiceIndex,
        from: String,
    ) -> Result<(), CallerError> {
        let Some(remote) = self.services.remote(index).cloned() else {
            return Err(CallerError::Unknown("service"));
        };
        let conn = Conn::Pipe(pipe);
        self.pipes.insert(pipe, Pipe::of_service());
        if let Err(error) = self.services.admit(index, pipe, from) {
            self.complain(now, index, &error);
            self.conn_abort(now, conn, &error);
            return Ok(());
        }
        let tls = self.services.stream_tls(index).map(String::from);
        match self.dial_stream(now, &remote.node, &remote.service, tls.as_deref()) {
            Ok(stream) => {
                self.owners.insert(stream, Owner::ServiceDialing(pipe));
                self.owners.insert(conn, Owner::ServiceWaiting(stream));
            }
            Err(error) => self.service_failed(now, pipe, &error),
        }
        Ok(())
    }

    /// The stream of an accepted socket could not be opened.
    pub(super) fn service_failed(&mut self, now: Now, pipe: PipeId, error: &str) {
        self.service_refused(now, pipe, error);
        self.conn_abort(now, Conn::Pipe(pipe), error);
    }

    /// Logs why a connection of a service came to nothing.
    pub(super) fn service_refused(&mut self, now: Now, pipe: PipeId, error: &str) {
        if let Some(line) = self.services.failed(now.mono, pipe, error) {
            self.warn(line);
        }
    }

    /// The stream of an accepted socket is dialled another way now.
    pub(super) fn service_moved(&mut self, pipe: PipeId, stream: Conn) {
        self.owners.insert(Conn::Pipe(pipe), Owner::ServiceWaiting(stream));
    }

    /// The local side did something while its stream is being dialled: whoever breaks off needs none.
    pub(super) fn service_waits(&mut self, now: Now, pipe: Conn, stream: Conn) {
        if self.conn_is_broken(pipe) {
            self.conn_abort(now, stream, LOST);
            self.conn_release(now, pipe);
        }
    }

    /// The stream of an accepted socket is open; what is left is the handshake.
    pub(super) fn dialled_for_service(&mut self, now: Now, stream: Conn, pipe: PipeId) {
        if self.conn_is_gone(Conn::Pipe(pipe)) {
            return self.conn_abort(now, stream, LOST);
        }
        self.tie_socket(now, stream, pipe, Stage::Dialled);
    }

    /// A stream was accepted on a service that connects it to a local socket: first comes the handshake.
    pub(super) fn service_stream(&mut self, now: Now, index: ServiceIndex, stream: Conn) {
        let pipe = self.new_pipe(Pipe::of_service());
        self.outputs.push_back(Output::Open(pipe));
        self.tie_socket(now, stream, pipe, Stage::Arriving(index));
    }

    /// The handshake of such a stream is done.
    ///
    /// # Errors
    /// Why the stream has to be broken off.
    pub(super) fn connect_service(
        &mut self,
        now: Now,
        index: ServiceIndex,
        pipe: PipeId,
        stream: Conn,
    ) -> Result<(), String> {
        let from = self
            .conn_peer(stream)
            .map_or_else(|| "a node without a name".into(), |node| node.to_string());
        let admitted = match self.services.target(index) {
            Some(target) => self.services.admit(index, pipe, from).map(|()| target),
            None => Err("not a service of streams".into()),
        };
        match admitted {
            Ok(to) => {
                self.services.on_connecting(pipe);
                self.task(TaskOwner::Connect(pipe), Task::Connect { pipe, to });
                Ok(())
            }
            Err(error) => {
                self.complain(now, index, &error);
                Err(error)
            }
        }
    }

    /// The local socket of an accepted stream could not be connected.
    pub(super) fn service_unconnected(&mut self, now: Now, pipe: PipeId, error: &str) {
        if let Some(&Owner::Tie(key)) = self.owners.get(&Conn::Pipe(pipe)) {
            self.service_refused(now, pipe, error);
            self.end_tie(now, key, error);
        }
        self.services.on_connected(pipe);
    }

    /// One side of a tie is the broken socket of a service: what it sent is still delivered, but soon the far side is
    /// told that nobody is there. Without that a server that only waits would never learn it.
    pub(super) fn service_broke(&mut self, now: Now, pipe: Conn, stream: Conn) {
        self.conn_release(now, pipe);
        self.conn_finish(stream);
        self.owners.insert(stream, Owner::ServiceCancelled);
        self.cancelled.push_back((now.mono + LAST_WORDS, stream));
        if self.cancelled.len() > self.config.limits.streams {
            // Early, so that whoever breaks connections quickly does not fill the memory.
            self.end_oldest_cancelled(now);
        }
        self.discard(now, stream);
    }

    /// Reads what nobody wants any more, so that its sender comes to the end.
    pub(super) fn discard(&mut self, now: Now, stream: Conn) {
        while self.conn_read(now, stream).is_some() {}
        if self.conn_is_at_eof(stream) {
            self.conn_release(now, stream);
        }
    }

    /// Ends streams whose local socket broke some time ago.
    pub(super) fn end_cancelled(&mut self, now: Now) {
        while self.cancelled.front().is_some_and(|&(due, _)| due <= now.mono) {
            self.end_oldest_cancelled(now);
        }
    }

    fn end_oldest_cancelled(&mut self, now: Now) {
        if let Some((_, stream)) = self.cancelled.pop_front()
            && self.owners.get(&stream) == Some(&Owner::ServiceCancelled)
        {
            self.conn_abort(now, stream, LOST);
        }
    }

    fn complain(&mut self, now: Now, index: ServiceIndex, problem: &str) {
        if let Some(line) = self.services.complain(now.mono, index, problem) {
            self.warn(line);
        }
    }
}

/// What the far side of a broken local socket is told.
pub(super) const LOST: &str = "local connection was lost";
