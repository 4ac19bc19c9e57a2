//! What goes to an executor: requests, stdin, credit for output.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use bytes::Bytes;

use super::super::api::{PeerKey, Severity, WorkOutput};
use super::super::change::Change;
use super::super::id::UnitId;
use super::super::remote::{self, Line, Remote};
use super::super::signing::{Signer, Token};
use super::super::target::Target;
use super::super::task::{UnitTask, UnitTaskResult};
use super::super::timer::{Timer, back_off};
use super::super::unit::{Stage, Unit, Verb};
use super::super::{Purpose, READ_MAX, Workceptor, failure, unit_window};
use super::{CONTROL_RESERVE, Phase};
use crate::time::{Duration, Instant};
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
            let signer = Pen {
                now: self.now.mono,
                lasts: self.keys.signing.as_ref().map_or(Duration::ZERO, |s| s.expiration / 2),
            };
            let sign_work = unit.record.extra.remote().is_some_and(|extra| extra.sign_work);
            if unit.stage == Stage::Adopting
                && !line.opened
                && let Some(signature) = signer.signature(sign_work, &mut remote, &mut speech)
            {
                line.opened = true;
                speech.messages.push(attach(id, unit, &remote, signature));
            }
            if unit.stage == Stage::Live {
                speak(
                    id,
                    unit,
                    &mut remote,
                    &mut line,
                    unit_window(active),
                    &mut speech,
                    signer,
                );
            }
            line.is_used |= !speech.messages.is_empty();
            line.reading |= speech.read.is_some() && has_room;
            remote.line = Some(line);
        }
        let serial = unit.serial;
        unit.remote = Some(remote);
        if speech.sign {
            self.sign(Signer::Line(id.clone(), serial), &node.node);
        }
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

    /// The signature of a unit's next request was made, or could not be.
    pub(in super::super) fn line_signed(&mut self, id: &UnitId, serial: u64, result: Result<String, String>) {
        let now = self.now.mono;
        let Some(unit) = self.units.get_mut(id).filter(|unit| unit.serial == serial) else {
            return;
        };
        if let Err(text) = &result
            && unit.stage == Stage::Adopting
        {
            return self.adoption_failed(id, text);
        }
        let Some(mut remote) = unit.remote.take() else { return };
        let (node, tries) = (remote.node.clone(), remote.sign_tries);
        let is_new = remote.wants_run(unit) && !remote.submitted;
        match &result {
            Ok(token) => {
                remote.sign_tries = 0;
                remote.token = Token::Ready(token.clone(), now);
            }
            Err(_) => {
                remote.sign_tries += 1;
                remote.token = Token::Failed;
                remote.over |= is_new;
            }
        }
        unit.remote = Some(remote);
        match result {
            Ok(_) => self.wake_unit(&node, id),
            Err(text) if is_new => {
                self.start_failed(id, &text);
                self.advance(id);
            }
            Err(text) => {
                if tries == 0 {
                    let text = format!("unit {id}: cannot ask node {node}, trying again: {text}");
                    self.log(Severity::Error, text);
                }
                let at = self.after(back_off(tries));
                self.timers.set(Timer::RetrySign(id.clone()), at);
                self.settle(id);
            }
        }
    }

    /// A signature that could not be made is tried again.
    pub(in super::super) fn retry_sign(&mut self, id: &UnitId) {
        if let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut())
            && remote.token == Token::Failed
        {
            remote.token = Token::None;
            let node = remote.node.clone();
            self.wake_unit(&node, id);
        }
    }

    fn wake_unit(&mut self, node: &Target, id: &UnitId) {
        self.wake_line(node, id);
        if let Some(key) = self.peers.get(node).and_then(|peer| peer.key) {
            self.pump_peer(key);
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

    /// Stdin was written: if the executor waits for just that, it gets it without reading the file again.
    pub(in super::super) fn pass_stdin(&mut self, id: &UnitId, offset: u64, data: &Bytes) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(remote) = unit.remote.as_mut() else { return };
        let Some(line) = remote.line.as_mut() else { return };
        let Some(peer) = self.peers.get_mut(&remote.node) else {
            return;
        };
        let is_next = unit.stage == Stage::Live && line.accepted && !line.reading && line.stdin_sent == offset;
        let (true, Some(key)) = (is_next && peer.is_up() && peer.window > CONTROL_RESERVE, peer.key) else {
            return;
        };
        let allowed = usize::try_from(line.stdin_credit.saturating_sub(offset)).unwrap_or(usize::MAX);
        let piece = data.slice(..data.len().min(allowed).min(peer.window - CONTROL_RESERVE));
        if piece.is_empty() {
            return;
        }
        let head = stdin_head(line.channel, offset, piece.len());
        line.stdin_sent += piece.len() as u64;
        peer.window = peer.window.saturating_sub(head.len() + piece.len());
        self.out
            .push_back(WorkOutput::PeerSend(key, Bytes::copy_from_slice(&head)));
        self.out.push_back(WorkOutput::PeerSend(key, piece));
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
    /// The next request has to be signed first.
    sign: bool,
}

/// What signatures are judged by before they go out.
#[derive(Clone, Copy)]
struct Pen {
    now: Instant,
    /// One that is older is made anew.
    lasts: Duration,
}

impl Pen {
    /// The signature of the next request, each its own; an empty one if the unit wants none, `None` if there is none yet.
    fn signature(self, sign_work: bool, remote: &mut Remote, speech: &mut Speech) -> Option<String> {
        if !sign_work {
            return Some(String::new());
        }
        match core::mem::take(&mut remote.token) {
            Token::Ready(token, made) if self.now.since(made) <= self.lasts => return Some(token),
            Token::Failed => remote.token = Token::Failed,
            Token::Asked => remote.token = Token::Asked,
            Token::None | Token::Ready(..) => {
                remote.token = Token::Asked;
                speech.sign = true;
            }
        }
        None
    }
}

fn remote_id<'a>(id: &'a UnitId, unit: &'a Unit) -> &'a str {
    let recorded = remote::extra(unit).map_or("", |extra| extra.remote_unit_id.as_str());
    if recorded.is_empty() { id.as_str() } else { recorded }
}

fn attach(id: &UnitId, unit: &Unit, remote: &Remote, signature: String) -> Message {
    Message::Attach {
        unit: remote_id(id, unit).into(),
        offset: remote.file.received(),
        signature,
    }
}

/// What a unit has to say on its channel, in the order in which an executor needs it. `remote` and `line` are the unit's.
fn speak(id: &UnitId, unit: &Unit, remote: &mut Remote, line: &mut Line, window: u64, speech: &mut Speech, pen: Pen) {
    let Some(extra) = remote::extra(unit) else { return };
    let remote_id = remote_id(id, unit);
    let wants_run = remote.wants_run(unit);
    if wants_run && !line.opened {
        let is_elsewhere = !extra.remote_unit_id.is_empty() && extra.remote_unit_id != id.as_str();
        // A unit that was submitted by polling under another name is not found again by a submission.
        if extra.remote_started || remote.start_seen || is_elsewhere {
            let Some(signature) = pen.signature(extra.sign_work, remote, speech) else {
                return;
            };
            speech.messages.push(attach(id, unit, remote, signature));
            line.opened = true;
        } else if extra.contacted {
            let Some(signature) = pen.signature(extra.sign_work, remote, speech) else {
                return;
            };
            let params = extra
                .remote_params
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            speech.messages.push(Message::Submit(Submit {
                unit: id.to_string(),
                work_type: extra.remote_work_type.clone(),
                params,
                signature,
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
        let Some(signature) = pen.signature(extra.sign_work, remote, speech) else {
            return;
        };
        line.cancel_sent = true;
        line.asked.push_back(Verb::Cancel);
        speech.messages.push(Message::Cancel {
            unit: remote_id.to_string(),
            signature,
        });
    }
    if let Some(release) = unit.release
        && remote.wants_release(unit)
        && !line.release_sent
    {
        let Some(signature) = pen.signature(extra.sign_work, remote, speech) else {
            return;
        };
        line.release_sent = true;
        line.asked.push_back(Verb::Release);
        let unit = remote_id.to_string();
        speech.messages.push(Message::Release {
            unit,
            force: release.force,
            signature,
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
