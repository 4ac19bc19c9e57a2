//! What goes to an executor: requests, stdin, credit for output.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use bytes::Bytes;

use super::super::api::{PeerKey, Severity, WorkOutput};
use super::super::change::Change;
use super::super::id::UnitId;
use super::super::remote::{self, Line, Remote};
use super::super::target::Target;
use super::super::task::{UnitTask, UnitTaskResult};
use super::super::unit::{Stage, Unit, Verb};
use super::super::{Purpose, READ_MAX, Workceptor, failure, unit_window};
use super::{CONTROL_RESERVE, Phase};
use crate::wire::work::{Message, Submit, stdin_head};

impl Workceptor {
    pub(super) fn send_peer(&mut self, node: &Target, channel: u32, message: &Message) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        let (Phase::Up, Some(key)) = (peer.phase, peer.key) else {
            return;
        };
        let mut bytes = Vec::new();
        match message.encode(channel, &mut bytes) {
            Ok(()) => {
                peer.window = peer.window.saturating_sub(bytes.len());
                self.out.push_back(WorkOutput::PeerSend(key, bytes.into()));
            }
            Err(error) => self.log(Severity::Error, format!("message to node {node}: {error}")),
        }
    }

    /// Sends what the window allows.
    pub(super) fn pump_peer(&mut self, key: PeerKey) {
        while let Some(peer) = self.peer(key)
            && peer.is_up()
            && peer.window > 0
            && let Some(channel) = peer.next_ready()
        {
            let Some(id) = peer.lines.get(&channel).cloned() else {
                continue;
            };
            let Some(node) = self.peer_nodes.get(&key).cloned() else {
                return;
            };
            self.send_line(key, &node, channel, &id);
        }
    }

    /// Sends what a unit has to say, and begins to read one piece of stdin.
    fn send_line(&mut self, key: PeerKey, node: &Target, channel: u32, id: &UnitId) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        let (active, has_room) = (peer.lines.len(), peer.window > CONTROL_RESERVE);
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(mut remote) = unit.remote.take() else { return };
        let mut speech = Speech::default();
        if let Some(mut line) = remote.line.take() {
            if unit.stage == Stage::Live {
                speak(id, unit, &mut remote, &mut line, unit_window(active), &mut speech);
            }
            line.reading |= speech.read.is_some() && has_room;
            remote.line = Some(line);
        }
        unit.remote = Some(remote);
        if speech.contact {
            self.update(id, Change::Contacted, true);
        }
        for message in speech.messages {
            self.send_peer(node, channel, &message);
        }
        let (Some((offset, max)), Some(peer)) = (speech.read, self.peer(key)) else {
            return;
        };
        if has_room {
            peer.window = peer.window.saturating_sub(max);
            self.task(
                id,
                Purpose::PeerRead {
                    peer: key,
                    channel,
                    max,
                },
                UnitTask::ReadStdin { offset, max },
            );
        } else {
            peer.starved.push(channel);
        }
    }

    /// A piece of stdin for an executor was read.
    pub(in super::super) fn peer_read(&mut self, key: PeerKey, channel: u32, max: usize, result: UnitTaskResult) {
        let Some(peer) = self.peer(key) else { return };
        peer.window += max;
        let Some(id) = peer.lines.get(&channel).cloned() else {
            return self.pump_peer(key);
        };
        let Some(line) = self
            .units
            .get_mut(&id)
            .and_then(|unit| unit.remote.as_mut()?.line.as_mut())
        else {
            return;
        };
        line.reading = false;
        match result {
            UnitTaskResult::Data(data) if !data.is_empty() && data.len() <= max => {
                let head = stdin_head(channel, line.stdin_sent, data.len());
                line.stdin_sent += data.len() as u64;
                if let Some(peer) = self.peer(key) {
                    peer.window = peer.window.saturating_sub(head.len() + data.len());
                    peer.ready.push(channel);
                }
                self.out
                    .push_back(WorkOutput::PeerSend(key, Bytes::copy_from_slice(&head)));
                self.out.push_back(WorkOutput::PeerSend(key, data));
            }
            UnitTaskResult::Data(_) => self.stdin_unreadable(&id, "the file is shorter than what was written"),
            other => self.stdin_unreadable(&id, &failure(other)),
        }
        self.pump_peer(key);
    }

    pub(in super::super) fn stdin_unreadable(&mut self, id: &UnitId, error: &str) {
        self.log(Severity::Error, format!("unit {id}: cannot read its stdin: {error}"));
        self.start_failed(id, &format!("cannot read stdin: {error}"));
    }
}

/// What a unit wants on its channel.
#[derive(Default)]
struct Speech {
    messages: Vec<Message>,
    /// Record first that the executor will hear of the unit.
    contact: bool,
    /// A piece of stdin: offset and length.
    read: Option<(u64, usize)>,
}

/// What a unit has to say on its channel, in the order in which an executor needs it. `remote` and `line` are the unit's.
fn speak(id: &UnitId, unit: &Unit, remote: &mut Remote, line: &mut Line, window: u64, speech: &mut Speech) {
    let Some(extra) = remote::extra(unit) else { return };
    let remote_id = if extra.remote_unit_id.is_empty() {
        id.as_str()
    } else {
        &extra.remote_unit_id
    };
    let wants_run = remote.wants_run(unit);
    if wants_run && !line.opened {
        let is_elsewhere = !extra.remote_unit_id.is_empty() && extra.remote_unit_id != id.as_str();
        // A unit that was submitted by polling under another name is not found again by a submission.
        if extra.remote_started || remote.start_seen || is_elsewhere {
            let (unit, offset) = (remote_id.to_string(), remote.file.received());
            speech.messages.push(Message::Attach {
                unit,
                offset,
                signature: String::new(),
            });
            line.opened = true;
        } else if extra.contacted {
            let params = extra
                .remote_params
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            speech.messages.push(Message::Submit(Submit {
                unit: id.to_string(),
                work_type: extra.remote_work_type.clone(),
                params,
                signature: String::new(),
            }));
            line.opened = true;
            remote.poll.submitted_by_session(remote.submitted);
            remote.submitted = true;
        } else {
            speech.contact = !remote.contacting;
            remote.contacting = true;
        }
    }
    if wants_run && line.opened {
        let credit = remote.file.written() + window;
        if line.credit == 0 || credit >= line.credit + window / 2 {
            line.credit = credit;
            speech.messages.push(Message::Credit { bytes: credit });
        }
    }
    if remote.wants_cancel(unit) && !line.cancel_sent {
        line.cancel_sent = true;
        line.asked.push_back(Verb::Cancel);
        speech.messages.push(Message::Cancel {
            unit: remote_id.to_string(),
            signature: String::new(),
        });
    }
    if let Some(release) = unit.release
        && remote.wants_release(unit)
        && !line.release_sent
    {
        line.release_sent = true;
        line.asked.push_back(Verb::Release);
        let unit = remote_id.to_string();
        speech.messages.push(Message::Release {
            unit,
            force: release.force,
            signature: String::new(),
        });
    }
    if wants_run && line.accepted && !remote.start_seen && !line.reading {
        let here = remote
            .stdin_total
            .or_else(|| unit.spool.as_ref().map(|spool| spool.file.written()));
        let until = here.unwrap_or(0).min(line.stdin_credit);
        if line.stdin_sent < until {
            let left = usize::try_from(until - line.stdin_sent).unwrap_or(usize::MAX);
            speech.read = Some((line.stdin_sent, READ_MAX.min(left)));
        } else if let Some(total) = remote.stdin_total
            && extra.stdin_complete
            && line.stdin_sent >= total
            && !line.stdin_end_sent
        {
            line.stdin_end_sent = true;
            remote.poll.safe = false;
            speech.messages.push(Message::StdinEnd { total });
        }
    }
}
