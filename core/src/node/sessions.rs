//! Control sessions: their connection on one side, what their commands ask for on the other.

use alloc::string::String;
use core::time::Duration;

use bytes::Bytes;

use super::Node;
use super::conn::{Conn, Owner};
use crate::control::{self, ConnectRequest, Origin, RawInput, Reply, Request, Session};
use crate::time::{Instant, Now};
use crate::workceptor::{ClientKey, Requester, SessionKey};

/// What a bridged stream says waits this long behind `Connecting`. A service that speaks first can be heard in the same
/// instant in which its stream is open; `receptorctl connect` reads both at one time then, and never shows the second.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// One control session.
#[derive(Debug)]
pub(super) struct Client {
    session: Session,
    conn: Conn,
    stage: Stage,
    /// The session was told that its client sends no more.
    eof_told: bool,
    /// Input taken from the session that the stage could not pass on yet.
    held: Option<Bytes>,
    /// The stage was told that no more raw input comes.
    raw_ended: bool,
    /// Raw output given to the session and not yet known to be transmitted.
    raw_queued: usize,
    /// Its bridge is mute until then.
    muted_until: Option<Instant>,
}

/// What raw bytes of a session are.
#[derive(Debug)]
enum Stage {
    /// There are none.
    Lines,
    /// Input is the stdin of a unit, as far as the workceptor gave credit.
    Stdin { credit: usize },
    /// Output is the stdout of a unit.
    Results,
    /// Both directions belong to a mesh stream.
    Bridge(Conn),
    /// Both directions belong to a work session.
    Work,
}

impl Node {
    /// A connection to the control service.
    pub(super) fn open_session(&mut self, now: Now, conn: Conn, origin: Origin) {
        if self.sessions.len() >= self.config.limits.sessions {
            let count = self.sessions.len();
            self.complain_of_stranger(
                now,
                &alloc::format!("control session refused: {count} are open already"),
            );
            return self.conn_abort(now, conn, "too many control sessions");
        }
        let key = self.next_session;
        self.next_session += 1;
        let session = Session::new(&self.config.node_id, origin);
        let client = Client {
            session,
            conn,
            stage: Stage::Lines,
            eof_told: false,
            held: None,
            raw_ended: false,
            raw_queued: 0,
            muted_until: None,
        };
        self.sessions.insert(key, client);
        self.owners.insert(conn, Owner::Session(key));
        self.pump_session(now, key);
    }

    /// Moves what can move between a session, its connection and its stage.
    pub(super) fn pump_session(&mut self, now: Now, key: u64) {
        // Taken out, so that the rest of the node is free while the session is worked on.
        let Some(mut client) = self.sessions.remove(&key) else {
            return;
        };
        while self.session_input(now, &mut client)
            | self.session_request(now, key, &mut client)
            | self.session_raw_input(now, key, &mut client)
            | self.session_raw_output(now, &mut client)
            | self.session_transmit(now, key, &mut client)
        {}
        if client.session.wants_close() || self.is_pointless(&client) {
            self.end_session(now, key, client);
        } else {
            self.sessions.insert(key, client);
        }
    }

    fn session_input(&mut self, now: Now, client: &mut Client) -> bool {
        let mut progress = false;
        while client.session.wants_input() {
            let Some(data) = self.conn_read(now, client.conn) else {
                break;
            };
            client.session.handle_data(data);
            progress = true;
        }
        if !client.eof_told && self.conn_is_at_eof(client.conn) {
            client.eof_told = true;
            client.session.handle_eof();
            progress = true;
        }
        progress
    }

    fn session_request(&mut self, now: Now, key: u64, client: &mut Client) -> bool {
        let Some(request) = client.session.poll_request() else {
            return false;
        };
        let reply = match request {
            Request::Status { fields } => Some(Reply::Status(self.status(now, fields.as_deref()).into())),
            Request::Ping { target } => {
                self.start_ping(now, super::Asker::Session(key), &target);
                None
            }
            Request::Traceroute { target } => {
                self.start_traceroute(now, super::Asker::Session(key), &target);
                None
            }
            Request::Connect(request) => self.connect(now, key, &request).err().map(Reply::Error),
            Request::Reload => {
                let begun = self.start_reload(super::Asker::Session(key));
                begun.err().map(|error| Reply::Reload(Err(error)))
            }
            // As by a node that never heard of it.
            Request::Work(control::WorkRequest::Upgrade { .. }) if !self.config.work_sessions => {
                Some(Reply::Error(control::text::BAD_COMMAND.into()))
            }
            Request::Work(request) => {
                let from = self.requester(now, client, &request);
                match super::work::request(request) {
                    Ok(Some(request)) => {
                        self.work.handle_request(now, ClientKey(key), &from, request);
                        None
                    }
                    Ok(None) => {
                        client.stage = Stage::Work;
                        self.work.session_opened(now, SessionKey(key), &from);
                        Some(Reply::Upgraded {
                            version: super::work::UPGRADE_VERSION,
                        })
                    }
                    Err(text) => Some(Reply::Error(text)),
                }
            }
        };
        if let Some(reply) = reply {
            self.session_answer(client, reply);
        }
        true
    }

    /// Whose session it is. The node is `None` for this one, and if the name is not known.
    fn requester(&self, now: Now, client: &Client, request: &control::WorkRequest) -> Requester {
        let told = match request {
            control::WorkRequest::Upgrade { time, .. } => *time,
            _ => None,
        };
        // What it took to come here is small beside what matters.
        let ahead = |there: u64| {
            let here = i128::from(now.wall.as_nanos());
            i64::try_from(i128::from(there) * 1_000_000 - here).ok()
        };
        Requester {
            is_local: client.session.origin() == Origin::Local,
            node: self.conn_peer(client.conn),
            clock_ahead: told.and_then(ahead),
        }
    }

    fn session_answer(&mut self, client: &mut Client, reply: Reply) {
        if let Err(error) = client.session.reply(reply) {
            // Two machines disagree about the state of a session: the session cannot go on, the node can.
            self.error(alloc::format!("control session: {error}"));
            client.session.handle_input_error(String::new());
        }
    }

    /// The answer to a session's request.
    pub(super) fn reply_to_session(&mut self, key: u64, reply: Reply) {
        let Some(mut client) = self.sessions.remove(&key) else {
            return;
        };
        match &reply {
            Reply::SubmitReady { .. } => client.stage = Stage::Stdin { credit: 0 },
            Reply::SubmitDone { .. } => client.stage = Stage::Lines,
            Reply::ResultsStart { .. } => client.stage = Stage::Results,
            _ => {}
        }
        self.session_answer(&mut client, reply);
        self.sessions.insert(key, client);
        self.touch_session(key);
    }

    /// Marks a session for pumping.
    pub(super) fn touch_session(&mut self, key: u64) {
        if let Some(client) = self.sessions.get(&key) {
            self.touch(client.conn);
        }
    }

    /// The workceptor takes this much more stdin.
    pub(super) fn grant_stdin(&mut self, key: u64, bytes: usize) {
        if let Some(Client {
            stage: Stage::Stdin { credit },
            ..
        }) = self.sessions.get_mut(&key)
        {
            *credit += bytes;
            self.touch_session(key);
        }
    }

    /// Raw bytes for a session: results of a unit or a work session's.
    pub(super) fn send_to_session(&mut self, key: u64, data: Bytes) {
        let Some(client) = self.sessions.get_mut(&key) else {
            return;
        };
        let length = data.len();
        if client.session.send_raw(data).is_ok() {
            client.raw_queued += length;
            self.touch_session(key);
        }
    }

    /// There are no more raw bytes for a session.
    pub(super) fn finish_session(&mut self, key: u64) {
        let Some(client) = self.sessions.get_mut(&key) else {
            return;
        };
        // An error means that it has ended already.
        let _ = client.session.finish_raw();
        self.touch_session(key);
    }

    /// The stream of a `connect` is open, or could not be opened.
    pub(super) fn connected(&mut self, now: Now, key: u64, stream: Conn, result: Result<(), String>) {
        let Some(mut client) = self.sessions.remove(&key) else {
            return self.conn_release(now, stream);
        };
        match result {
            Ok(()) => {
                client.stage = Stage::Bridge(stream);
                let until = now.mono + CONNECT_PAUSE;
                client.muted_until = Some(until);
                self.muted.push_back((until, key));
                self.owners.insert(stream, Owner::Session(key));
                self.session_answer(&mut client, Reply::Connecting);
            }
            Err(text) => self.session_answer(&mut client, Reply::Error(text)),
        }
        self.sessions.insert(key, client);
        self.touch_session(key);
    }

    /// Lets bridges speak whose pause is over.
    pub(super) fn unmute(&mut self, now: Now) {
        while let Some(&(until, key)) = self.muted.front()
            && until <= now.mono
        {
            self.muted.pop_front();
            self.touch_session(key);
        }
    }

    fn connect(&mut self, now: Now, key: u64, request: &ConnectRequest) -> Result<(), String> {
        let conn = self.dial_stream(now, &request.node, &request.service, request.tls.as_deref())?;
        self.owners.insert(conn, Owner::Connecting(key));
        Ok(())
    }

    fn session_raw_input(&mut self, now: Now, key: u64, client: &mut Client) -> bool {
        let mut progress = false;
        loop {
            let room = match &client.stage {
                Stage::Lines | Stage::Results => return progress,
                Stage::Stdin { credit } => *credit,
                Stage::Bridge(stream) => self.conn_room(*stream),
                Stage::Work => usize::MAX,
            };
            let mut data = match client.held.take() {
                Some(data) => data,
                // The end needs no room.
                None => match client.session.poll_raw() {
                    Some(RawInput::Data(data)) => data,
                    Some(RawInput::End | RawInput::Failed(_)) => {
                        self.session_raw_end(now, key, client);
                        return true;
                    }
                    None => return progress,
                },
            };
            if room == 0 {
                client.held = Some(data);
                return progress;
            }
            if data.len() > room {
                client.held = Some(data.split_off(room));
            }
            progress = true;
            match &mut client.stage {
                Stage::Stdin { credit } => {
                    *credit -= data.len();
                    self.work.stdin(now, ClientKey(key), data);
                }
                Stage::Bridge(stream) => {
                    let stream = *stream;
                    self.conn_write(now, stream, data);
                }
                Stage::Work => self.work.session_data(now, SessionKey(key), data),
                Stage::Lines | Stage::Results => {}
            }
        }
    }

    /// Whether nobody is left to see what a session still does. Commands and stdin that were sent are carried out.
    fn is_pointless(&self, client: &Client) -> bool {
        self.conn_is_gone(client.conn)
            && match client.stage {
                Stage::Lines | Stage::Stdin { .. } => false,
                Stage::Results => true,
                Stage::Bridge(_) | Stage::Work => client.raw_ended,
            }
    }

    fn session_raw_end(&mut self, now: Now, key: u64, client: &mut Client) {
        client.raw_ended = true;
        match client.stage {
            Stage::Stdin { .. } => self.work.stdin_end(now, ClientKey(key)),
            Stage::Bridge(stream) => self.conn_finish(stream),
            _ => {}
        }
    }

    /// What the other end of a bridged connection sends. Its end closes the session (`control.md` §5.3).
    fn session_raw_output(&mut self, now: Now, client: &mut Client) -> bool {
        let Stage::Bridge(stream) = client.stage else {
            return false;
        };
        if client.muted_until.is_some_and(|until| until > now.mono) {
            return false;
        }
        let mut progress = false;
        while client.session.pending_output() < control::OUTPUT_MAX {
            let Some(data) = self.conn_read(now, stream) else { break };
            progress |= client.session.send_raw(data).is_ok();
        }
        if self.conn_is_at_eof(stream) {
            progress |= client.session.finish_raw().is_ok();
        }
        progress
    }

    fn session_transmit(&mut self, now: Now, key: u64, client: &mut Client) -> bool {
        let mut progress = false;
        while let Some(data) = client.session.poll_transmit(self.conn_room(client.conn)) {
            self.conn_write(now, client.conn, data);
            progress = true;
        }
        // Raw bytes are always behind the lines.
        let left = client.raw_queued.min(client.session.pending_output());
        let drained = client.raw_queued - left;
        client.raw_queued = left;
        match client.stage {
            Stage::Results if drained > 0 => self.work.results_drained(now, ClientKey(key), drained),
            Stage::Work if drained > 0 => self.work.session_drained(now, SessionKey(key), drained),
            _ => {}
        }
        progress
    }

    fn end_session(&mut self, now: Now, key: u64, client: Client) {
        self.conn_release(now, client.conn);
        self.forget_session(now, key, client);
    }

    fn forget_session(&mut self, now: Now, key: u64, client: Client) {
        match client.stage {
            Stage::Bridge(stream) => self.conn_release(now, stream),
            Stage::Work => self.work.session_closed(now, SessionKey(key)),
            Stage::Lines | Stage::Stdin { .. } | Stage::Results => self.work.client_gone(now, ClientKey(key)),
        }
    }

    /// A connection of a session is gone in both directions: the client's, or the stream it was bridged to.
    pub(super) fn session_conn_lost(&mut self, now: Now, key: u64, conn: Conn, reason: &str) {
        let Some(client) = self.sessions.remove(&key) else {
            return;
        };
        if client.conn == conn {
            if let Stage::Stdin { .. } = client.stage
                && !client.raw_ended
            {
                return self.work.stdin_broken(now, ClientKey(key), reason);
            }
            return self.forget_session(now, key, client);
        }
        self.sessions.insert(key, client);
        self.finish_session(key);
    }
}
