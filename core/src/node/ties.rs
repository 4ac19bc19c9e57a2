//! Mesh streams tied to pipes of the adapter, where what protects the stream is done outside the node's task.
//!
//! Two shapes: the pipe of an application or of a service's socket, whose local end makes and reads the records itself
//! ([`PipeOutput::Begin`]); and, for bytes that the node wants to read, a pair of pipes with a task of the adapter's between
//! them ([`Output::Secure`]):
//!
//! ```text
//!  stream ══ pipe ── adapter: Secure ── application, socket
//!  stream ══ cipher ── adapter: Secure ── plain ── control session, work session, `connect`
//! ```
//!
//! The first two columns are a [`Tie`]; what becomes of the handshake is told on the last pipe.

use alloc::string::String;

use super::Node;
use super::conn::{Conn, Owner};
use super::io::{Event, HANDSHAKE_LIMIT, Layer, Level, Output, PipeOutput, Reply, Role};
use super::pipes::Pipe;
use super::services::LOST;
use crate::control::Origin;
use crate::id::{CommandId, NameHash, PipeId, ServiceIndex, ServiceName};
use crate::time::Now;

/// Pipe IDs chosen by the node have this bit, those chosen by the adapter have not.
pub(super) const OWN_PIPES: u64 = 1 << 63;

/// Why a handshake that takes too long fails; [`HANDSHAKE_LIMIT`] says how long that is.
const TOO_SLOW: &str = "TLS handshake: not done within 15 s";

/// What stands in the reason for a failure if TLS refused one of the ends.
const REFUSAL: &str = "CRYPTO_ERROR";

/// What the other end of a stream learns if a handshake was refused here, and not there.
fn told_to_the_refused(failure: &str) -> Option<String> {
    let (_, reason) = failure.split_once("CRYPTO_ERROR (local)")?;
    Some(alloc::format!("{REFUSAL} (remote){reason}"))
}

/// One stream and its pipe.
#[derive(Debug)]
pub(super) struct Tie {
    stream: Conn,
    pipe: PipeId,
    user: User,
    /// The local side has done its handshake.
    is_secured: bool,
}

/// Who reads and writes what is in the records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum User {
    /// The adapter, or somebody behind it; with the dial that is not answered yet.
    Adapter(Option<CommandId>),
    /// A socket of a service.
    Socket(Stage),
    /// The owner of this plain pipe.
    Node(PipeId),
}

/// How far the stream of a service's socket is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// It was accepted on this service, whose socket is connected when the handshake is done.
    Arriving(ServiceIndex),
    /// It was dialled for the socket, and the handshake is not done.
    Dialled,
    /// The handshake is done; the socket of an accepted stream may still be being connected.
    Secured,
}

/// The plain pipe of an [`Output::Secure`].
#[derive(Debug)]
pub(super) struct Plain {
    tie: u64,
    remote: NameHash,
    /// Why the stream behind it has ended, if it broke.
    lost: Option<String>,
}

impl Node {
    /// Opens a stream for a pipe of the adapter's, and answers the command when it can be used.
    pub(super) fn dial_for_pipe(
        &mut self,
        now: Now,
        command: CommandId,
        pipe: PipeId,
        node: &str,
        service: &str,
        tls: Option<&str>,
    ) -> Result<(), String> {
        let conn = self.dial_stream(now, node, service, tls)?;
        self.pipes.insert(pipe, Default::default());
        self.owners.insert(conn, Owner::Dialing(pipe, command));
        Ok(())
    }

    /// Such a stream is open.
    pub(super) fn dialled_for_pipe(&mut self, now: Now, conn: Conn, pipe: PipeId, command: CommandId) {
        if !self.pipes.contains_key(&pipe) {
            let reason = "the dial was given up";
            self.conn_abort(now, conn, reason);
            return self
                .outputs
                .push_back(Output::Reply(command, Reply::Error(reason.into())));
        }
        self.begin(conn, pipe, Role::Client);
        self.tie(now, conn, pipe, User::Adapter(Some(command)));
    }

    /// A stream of either kind for a service that is listened on.
    pub(super) fn accept_conn(&mut self, now: Now, service: ServiceName, conn: Conn) {
        self.protect_accepted(conn, service);
        if self.control_services.contains(&service) {
            if self.is_secured_here(conn) {
                self.secure(now, conn, Role::Server, Owner::Arriving);
            } else {
                self.open_session(now, conn, Origin::Network);
            }
        } else if let Some(index) = self.services.by_name(service) {
            self.service_stream(now, index, conn);
        } else if self.app_listeners.contains(&service) {
            let pipe = self.new_pipe(Pipe::default());
            let from = self.conn_peer(conn);
            self.outputs
                .push_back(Output::Event(Event::Accepted { service, pipe, from }));
            self.begin(conn, pipe, Role::Server);
            self.tie(now, conn, pipe, User::Adapter(None));
        } else {
            self.conn_abort(now, conn, "nobody listens");
        }
    }

    /// Whether what protects a stream is done on this side of it, by the adapter. QUIC has its own inside.
    pub(super) const fn is_secured_here(&self, conn: Conn) -> bool {
        matches!(conn, Conn::Stream(_))
    }

    pub(super) fn new_pipe(&mut self, state: Pipe) -> PipeId {
        let pipe = PipeId(OWN_PIPES | self.next_pipe);
        self.next_pipe += 1;
        self.pipes.insert(pipe, state);
        pipe
    }

    /// Ties an open stream to the pipe of a service's socket.
    pub(super) fn tie_socket(&mut self, now: Now, stream: Conn, pipe: PipeId, stage: Stage) {
        let role = match stage {
            Stage::Arriving(_) => Role::Server,
            Stage::Dialled | Stage::Secured => Role::Client,
        };
        self.begin(stream, pipe, role);
        self.tie(now, stream, pipe, User::Socket(stage));
    }

    /// Ties an open stream to a pipe. From now on the time for the handshake runs.
    fn tie(&mut self, now: Now, stream: Conn, pipe: PipeId, user: User) -> u64 {
        let key = self.next_tie;
        self.next_tie += 1;
        for conn in [stream, Conn::Pipe(pipe)] {
            self.owners.insert(conn, Owner::Tie(key));
            self.touch(conn);
        }
        let is_secured = !self.is_secured_here(stream);
        let tie = Tie {
            stream,
            pipe,
            user,
            is_secured,
        };
        self.ties.insert(key, tie);
        if is_secured {
            self.tie_ready(now, key);
        } else {
            self.handshakes.push_back((now.mono + HANDSHAKE_LIMIT, key));
        }
        key
    }

    /// Every native stream is encrypted from end to end; where no TLS config is named, without knowing who is at the other end.
    fn begin(&mut self, stream: Conn, pipe: PipeId, role: Role) {
        let layer = if self.is_secured_here(stream) {
            Layer::Secure(self.take_security(stream, role))
        } else {
            Layer::Plain
        };
        self.outputs.push_back(Output::Pipe(pipe, PipeOutput::Begin(layer)));
    }

    /// Has an open stream protected whose bytes the node itself reads. Its owner hears when it can be used, or that it
    /// failed.
    pub(super) fn secure(&mut self, now: Now, stream: Conn, role: Role, owner: Owner) -> Conn {
        let (cipher, plain) = (self.new_pipe(Pipe::default()), self.new_pipe(Pipe::default()));
        let plain_end = Plain {
            tie: self.tie(now, stream, cipher, User::Node(plain)),
            remote: self.conn_remote(stream).unwrap_or(NameHash(0)),
            lost: None,
        };
        self.plains.insert(plain, plain_end);
        self.owners.insert(Conn::Pipe(plain), owner);
        let security = self.take_security(stream, role);
        self.outputs.push_back(Output::Secure {
            cipher,
            plain,
            security,
        });
        Conn::Pipe(plain)
    }

    /// The node at the other end of a plain pipe.
    pub(super) fn plain_remote(&self, pipe: PipeId) -> Option<NameHash> {
        self.plains.get(&pipe).map(|plain| plain.remote)
    }

    /// The handshake of a pipe is done.
    pub(super) fn pipe_secured(&mut self, now: Now, pipe: PipeId) {
        let Some(key) = self.tie_of(pipe) else { return };
        if let Some(tie) = self.ties.get_mut(&key) {
            tie.is_secured = true;
            self.tie_ready(now, key);
        }
        self.forget_handshakes();
    }

    fn tie_of(&self, pipe: PipeId) -> Option<u64> {
        match (self.plains.get(&pipe), self.owners.get(&Conn::Pipe(pipe))) {
            (Some(plain), _) => Some(plain.tie),
            (None, Some(&Owner::Tie(key))) => Some(key),
            (None, _) => None,
        }
    }

    fn tie_ready(&mut self, now: Now, key: u64) {
        let Some(tie) = self.ties.get_mut(&key).filter(|tie| tie.is_secured) else {
            return;
        };
        match tie.user {
            User::Adapter(Some(command)) => {
                tie.user = User::Adapter(None);
                self.outputs.push_back(Output::Reply(command, Reply::Done));
            }
            User::Adapter(None) => {}
            User::Socket(stage) => {
                tie.user = User::Socket(Stage::Secured);
                let (stream, pipe) = (tie.stream, tie.pipe);
                if let Stage::Arriving(index) = stage
                    && let Err(error) = self.connect_service(now, index, pipe, stream)
                {
                    self.end_tie(now, key, &error);
                }
            }
            User::Node(plain) => {
                let conn = Conn::Pipe(plain);
                match self.owners.get(&conn) {
                    Some(Owner::Arriving) => self.open_session(now, conn, Origin::Network),
                    Some(&Owner::Connecting(session)) => self.connected(now, session, conn, Ok(())),
                    Some(&Owner::Peer(peer)) => self.peer_opened(now, peer, conn),
                    _ => {}
                }
            }
        }
    }

    /// Moves bytes both ways, and the ends behind them.
    pub(super) fn pump_tie(&mut self, now: Now, key: u64) {
        let Some(tie) = self.ties.get(&key) else { return };
        let (stream, pipe, is_secured) = (tie.stream, Conn::Pipe(tie.pipe), tie.is_secured);
        self.transfer(now, stream, pipe);
        self.transfer(now, pipe, stream);
        for (from, to) in [(stream, pipe), (pipe, stream)] {
            if self.conn_is_at_eof(from) {
                if self.conn_is_broken(from) {
                    if !is_secured {
                        return self.end_tie(now, key, LOST);
                    }
                    self.ties.remove(&key);
                    return self.service_broke(now, from, to);
                }
                self.conn_finish(to);
                if self.conn_is_at_eof(to) || self.conn_is_gone(from) {
                    self.ties.remove(&key);
                    self.conn_release(now, from);
                    self.conn_release(now, to);
                    return;
                }
            }
        }
    }

    pub(super) fn transfer(&mut self, now: Now, from: Conn, to: Conn) {
        loop {
            let room = self.conn_room(to);
            if room == 0 {
                return;
            }
            let Some(mut data) = self.conn_read(now, from) else {
                return;
            };
            if data.len() > room {
                self.conn_unread(from, data.split_off(room));
            }
            self.conn_write(now, to, data);
        }
    }

    /// The stream broke, or is broken off here. Who reads plain bytes hears it from the adapter, behind the last of them.
    pub(super) fn end_tie(&mut self, now: Now, key: u64, reason: &str) {
        let Some(tie) = self.ties.remove(&key) else { return };
        self.conn_abort(now, tie.stream, reason);
        let pipe = Conn::Pipe(tie.pipe);
        match tie.user {
            User::Adapter(Some(command)) => {
                self.owners.remove(&pipe);
                self.stash.remove(&pipe);
                self.pipes.remove(&tie.pipe);
                self.outputs
                    .push_back(Output::Reply(command, Reply::Error(reason.into())));
            }
            User::Socket(Stage::Dialled) if !self.conn_is_gone(pipe) => self.service_failed(now, tie.pipe, reason),
            User::Socket(stage) => {
                if let Stage::Arriving(_) = stage {
                    self.refused(now, reason);
                }
                self.conn_abort(now, pipe, reason);
            }
            User::Adapter(None) => self.conn_abort(now, pipe, reason),
            User::Node(plain) => {
                if let Some(plain) = self.plains.get_mut(&plain) {
                    plain.lost = Some(reason.into());
                }
                self.conn_abort(now, pipe, reason);
            }
        }
    }

    /// Whoever reads plain bytes breaks off: so does the stream they came over.
    pub(super) fn end_tie_behind(&mut self, now: Now, plain: PipeId, reason: &str) {
        if let Some(key) = self.plains.get(&plain).map(|plain| plain.tie) {
            self.end_tie(now, key, reason);
        }
    }

    /// A pipe's local side is gone; `failure` says why if its layer failed.
    pub(super) fn pipe_ended(&mut self, now: Now, id: PipeId, failure: Option<String>) {
        let conn = Conn::Pipe(id);
        let has_failed = failure.is_some();
        if let Some(plain) = self.plains.remove(&id) {
            let is_waited_for = matches!(
                self.owners.get(&conn),
                Some(Owner::Arriving | Owner::Connecting(_) | Owner::Peer(_))
            );
            let reason = match (plain.lost, failure) {
                // An alert says more than the end of the stream behind it.
                (Some(_), Some(reason)) if reason.contains(REFUSAL) => Some(reason),
                (Some(reason), _) | (None, Some(reason)) => Some(reason),
                (None, None) => is_waited_for.then(|| "connection closed".into()),
            };
            if let Some(reason) = reason {
                return self.plain_lost(now, id, &reason);
            }
        } else if let Some(&Owner::Tie(key)) = self.owners.get(&conn)
            && let Some(tie) = self.ties.get_mut(&key)
        {
            let refusal = failure
                .as_deref()
                .filter(|_| !tie.is_secured)
                .and_then(told_to_the_refused);
            match (&mut tie.user, failure) {
                (User::Adapter(user), failure) if user.is_some() => {
                    let reason = failure.unwrap_or_else(|| "the dial was given up".into());
                    let answer = user.take().map(|command| Output::Reply(command, Reply::Error(reason)));
                    self.outputs.extend(answer);
                }
                (User::Socket(Stage::Dialled), Some(reason)) => self.service_refused(now, id, &reason),
                (User::Socket(Stage::Arriving(_)), Some(reason)) => self.refused(now, &reason),
                (User::Adapter(_) | User::Socket(_), Some(reason)) => {
                    self.log(Level::Debug, alloc::format!("mesh stream ended: {reason}"));
                }
                (User::Adapter(_) | User::Socket(_) | User::Node(_), _) => {}
            }
            if let Some(refusal) = refusal
                && let Some(tie) = self.ties.remove(&key)
            {
                // The alert is under way; where it does not arrive, this does.
                self.owners.remove(&conn);
                self.stash.remove(&conn);
                self.conn_abort(now, tie.stream, &refusal);
            }
        }
        self.services.on_closed(id);
        // Harmless for a pipe that the node has forgotten, as after a dial that failed.
        if let Some(pipe) = self.pipes.get_mut(&id) {
            if has_failed {
                pipe.on_failed();
            } else {
                pipe.on_gone();
            }
            if self.owners.contains_key(&conn) {
                self.touch(conn);
            } else {
                self.pipes.remove(&id);
            }
        }
        self.forget_handshakes();
    }

    fn plain_lost(&mut self, now: Now, id: PipeId, reason: &str) {
        let conn = Conn::Pipe(id);
        self.pipes.remove(&id);
        self.stash.remove(&conn);
        match self.owners.remove(&conn) {
            Some(Owner::Session(key)) => self.session_conn_lost(now, key, conn, reason),
            Some(Owner::Connecting(key)) => self.connected(now, key, conn, Err(reason.into())),
            Some(Owner::Peer(key)) => self.peer_lost(now, key, reason),
            Some(Owner::Arriving) => {
                self.complain_of_stranger(now, &alloc::format!("control session refused: {reason}"))
            }
            // Of streams that are tied to other pipes.
            Some(
                Owner::Dialing(..)
                | Owner::Tie(_)
                | Owner::ServiceDialing(_)
                | Owner::ServiceWaiting(_)
                | Owner::ServiceCancelled,
            )
            | None => {}
        }
    }

    fn refused(&mut self, now: Now, reason: &str) {
        self.complain_of_stranger(now, &alloc::format!("stream for a service refused: {reason}"));
    }

    /// Ends handshakes that take too long.
    pub(super) fn handshake_timeouts(&mut self, now: Now) {
        while let Some(&(until, key)) = self.handshakes.front()
            && until <= now.mono
        {
            self.handshakes.pop_front();
            if self.ties.get(&key).is_some_and(|tie| !tie.is_secured) {
                self.end_tie(now, key, TOO_SLOW);
            }
        }
        self.forget_handshakes();
    }

    /// No timer for what is done: an idle stream has none.
    fn forget_handshakes(&mut self) {
        while let Some((_, key)) = self.handshakes.front()
            && self.ties.get(key).is_none_or(|tie| tie.is_secured)
        {
            self.handshakes.pop_front();
        }
    }
}
