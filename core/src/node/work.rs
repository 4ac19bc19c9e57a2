//! The workceptor's wishes carried out, and control requests put into its terms.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use bytes::Bytes;

use super::conn::{Conn, Owner};
use super::io::{Event, Level, Output, Task};
use super::{Node, TaskOwner};
use crate::control::{self, Reply, UnitStatus, duration};
use crate::time::{Duration, Now};
use crate::workceptor::{
    AdoptRequest, ClientKey, PeerKey, SessionKey, Severity, SubmitRequest, UnitView, WorkOutput, WorkReply, WorkRequest,
};

/// The version of the work session protocol spoken here (`docs/protocol-extended.md`).
pub(super) const UPGRADE_VERSION: u64 = 1;

/// The workceptor's connection to another node.
#[derive(Debug)]
pub(super) struct Peer {
    conn: Conn,
    /// Bytes that found no room in the stream; the workceptor bounds them, since it is told what was drained.
    outgoing: VecDeque<Bytes>,
    /// Its sending half ends behind them.
    finishing: bool,
}

/// A request in the workceptor's terms; `None` is the upgrade.
pub(super) fn request(request: control::WorkRequest) -> Result<Option<WorkRequest>, String> {
    Ok(Some(match request {
        control::WorkRequest::Submit(submit) => WorkRequest::Submit(Box::new(submit_request(*submit)?)),
        control::WorkRequest::List { unit } => WorkRequest::List { unit },
        control::WorkRequest::Status { unit } => WorkRequest::Status { unit },
        control::WorkRequest::Cancel { unit, signature } => WorkRequest::Cancel { unit, signature },
        control::WorkRequest::Release { unit, force, signature } => WorkRequest::Release { unit, force, signature },
        control::WorkRequest::Adopt(adopt) => WorkRequest::Adopt(Box::new(AdoptRequest {
            node: adopt.node,
            unit: adopt.unit,
            tls_client: adopt.tls_client,
            sign_work: adopt.sign_work,
            start: adopt.start,
            signature: adopt.signature,
        })),
        control::WorkRequest::Results { unit, start, signature } => WorkRequest::Results { unit, start, signature },
        control::WorkRequest::Upgrade {
            version: UPGRADE_VERSION,
            ..
        } => return Ok(None),
        control::WorkRequest::Upgrade { version, .. } => {
            return Err(alloc::format!(
                "work session version {version} is not supported, only {UPGRADE_VERSION}"
            ));
        }
    }))
}

fn submit_request(submit: control::SubmitRequest) -> Result<SubmitRequest, String> {
    let ttl = match &submit.ttl {
        None => None,
        // A negative time has already passed.
        Some(text) => Some(Duration::from_nanos(
            duration::parse_go_duration(text)?.try_into().unwrap_or(0),
        )),
    };
    Ok(SubmitRequest {
        node: submit.node,
        work_type: submit.work_type,
        tls_client: submit.tls_client,
        ttl,
        sign_work: submit.sign_work,
        signature: submit.signature,
        work_unit_id: submit.work_unit_id,
        params: submit.params,
    })
}

fn reply(reply: WorkReply) -> Reply {
    match reply {
        WorkReply::SubmitReady { unit } => Reply::SubmitReady { unit: unit.to_string() },
        WorkReply::Started { unit } => Reply::SubmitDone {
            unit: unit.to_string(),
            started: true,
        },
        WorkReply::Submitted { unit } => Reply::SubmitDone {
            unit: unit.to_string(),
            started: false,
        },
        WorkReply::Status(view) => Reply::UnitStatus(Box::new(status(*view))),
        WorkReply::List(units) => Reply::UnitList(units.into_iter().map(|(id, view)| (id, status(view))).collect()),
        WorkReply::Cancelled { unit, pending } => Reply::Cancelled { unit, pending },
        WorkReply::Released { unit, pending } => Reply::Released { unit, pending },
        WorkReply::Adopted { unit, fresh } => Reply::Adopted {
            unit: unit.to_string(),
            fresh,
        },
        WorkReply::ResultsStart { unit } => Reply::ResultsStart { unit },
        WorkReply::Error(text) => Reply::Error(text),
    }
}

fn status(view: UnitView) -> UnitStatus {
    UnitStatus {
        state: u8::try_from(view.state.number()).unwrap_or(u8::MAX),
        detail: view.detail,
        stdout_size: view.stdout_size,
        work_type: view.work_type,
        extra: view.extra,
    }
}

impl Node {
    /// Carries out what the workceptor wants. Returns whether there was anything.
    pub(super) fn work_outputs(&mut self, now: Now) -> bool {
        let mut progress = false;
        while let Some(output) = self.work.poll_output() {
            progress = true;
            match output {
                WorkOutput::Task(key, unit, task) => {
                    let id = self.new_task(TaskOwner::Unit(key));
                    self.outputs.push_back(Output::Task(id, Task::Unit(unit, task)));
                }
                WorkOutput::Sign { key, key_file, claims } => {
                    self.task(TaskOwner::Sign(key), Task::Sign { key_file, claims });
                }
                WorkOutput::Verify { key, key_file, token } => {
                    self.task(TaskOwner::Verify(key), Task::Verify { key_file, token });
                }
                WorkOutput::Reply(ClientKey(key), answer) => self.reply_to_session(key, reply(answer)),
                WorkOutput::StdinCredit(ClientKey(key), bytes) => self.grant_stdin(key, bytes),
                WorkOutput::ResultsData(ClientKey(key), data) => self.send_to_session(key, data),
                WorkOutput::ResultsEnd(ClientKey(key)) => self.finish_session(key),
                WorkOutput::SessionSend(SessionKey(key), data) => self.send_to_session(key, data),
                WorkOutput::CloseSession(SessionKey(key)) => self.finish_session(key),
                WorkOutput::OpenPeer { key, node, tls_client } => {
                    self.open_peer(now, key, &node, tls_client.as_deref());
                }
                WorkOutput::PeerSend(key, data) => self.send_to_peer(now, key, data),
                WorkOutput::ClosePeer(key) => {
                    if let Some(peer) = self.peers.remove(&key.0) {
                        self.conn_release(now, peer.conn);
                    }
                }
                WorkOutput::AbortPeer(key) => {
                    if let Some(peer) = self.peers.remove(&key.0) {
                        self.conn_abort(now, peer.conn, "broken off");
                    }
                }
                WorkOutput::FinishPeer(key) => {
                    if let Some(peer) = self.peers.get_mut(&key.0) {
                        peer.finishing = true;
                        self.pump_peer(now, key.0);
                    }
                }
                WorkOutput::PeerResume(key) => self.pump_peer(now, key.0),
                WorkOutput::Log(severity, text) => {
                    let level = match severity {
                        Severity::Error => Level::Error,
                        Severity::Warning => Level::Warning,
                        Severity::Info => Level::Info,
                        Severity::Debug => Level::Debug,
                    };
                    self.outputs.push_back(Output::Event(Event::Log(level, text)));
                }
            }
        }
        progress
    }

    /// Routes have changed: units that wait for a node that can be reached now try at once.
    pub(super) fn retry_awaited(&mut self, now: Now) {
        let awaited = self.work.awaited_nodes().filter(|node| self.net.router.reachable(node));
        let back: Vec<String> = awaited.map(String::from).collect();
        for node in back {
            self.work.route_changed(now, &node);
        }
    }

    fn open_peer(&mut self, now: Now, key: PeerKey, node: &str, tls: Option<&str>) {
        match self.dial_stream(now, node, "control", tls) {
            Ok(conn) => {
                self.peers.insert(
                    key.0,
                    Peer {
                        conn,
                        outgoing: VecDeque::new(),
                        finishing: false,
                    },
                );
                self.owners.insert(conn, Owner::Peer(key.0));
            }
            Err(error) => self.work.peer_closed(now, key, &error),
        }
    }

    /// A dial goes on another way.
    pub(super) fn peer_moved(&mut self, key: u64, conn: Conn) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.conn = conn;
        }
    }

    pub(super) fn peer_opened(&mut self, now: Now, key: u64, conn: Conn) {
        self.peer_moved(key, conn);
        let classic = !self.config.work_sessions
            || self
                .work
                .peer_node(PeerKey(key))
                .is_some_and(|node| self.net.router.grants_work_sessions(node) == Some(false));
        self.work.peer_opened(now, PeerKey(key), classic);
    }

    pub(super) fn peer_lost(&mut self, now: Now, key: u64, reason: &str) {
        if self.peers.remove(&key).is_some() {
            self.work.peer_closed(now, PeerKey(key), reason);
        }
    }

    fn send_to_peer(&mut self, now: Now, key: PeerKey, data: Bytes) {
        if let Some(peer) = self.peers.get_mut(&key.0) {
            peer.outgoing.push_back(data);
            self.pump_peer(now, key.0);
        }
    }

    /// Moves bytes between the workceptor and its connection to another node.
    pub(super) fn pump_peer(&mut self, now: Now, key: u64) {
        let Some(conn) = self.peers.get(&key).map(|peer| peer.conn) else {
            return;
        };
        let mut drained = 0;
        loop {
            let room = self.conn_room(conn);
            let Some(peer) = self.peers.get_mut(&key) else { break };
            let Some(mut data) = peer.outgoing.pop_front() else {
                break;
            };
            if data.len() > room {
                peer.outgoing.push_front(data.split_off(room));
            }
            if data.is_empty() {
                break;
            }
            drained += data.len();
            self.conn_write(now, conn, data);
        }
        if drained > 0 {
            self.work.peer_drained(now, PeerKey(key), drained);
        }
        if let Some(peer) = self.peers.get_mut(&key)
            && peer.outgoing.is_empty()
            && core::mem::take(&mut peer.finishing)
        {
            self.conn_finish(conn);
        }
        while self.work.peer_takes(PeerKey(key))
            && let Some(data) = self.conn_read(now, conn)
        {
            self.work.peer_data(now, PeerKey(key), data);
        }
        if self.conn_is_at_eof(conn) && self.peers.remove(&key).is_some() {
            self.conn_release(now, conn);
            self.work.peer_closed(now, PeerKey(key), "closed by the other side");
        }
    }
}
