//! The state of units that run elsewhere, asked in turn on one session, and their output.

use alloc::format;
use alloc::string::String;

use bytes::Bytes;

use super::super::api::{PeerKey, Severity, WorkOutput};
use super::super::id::UnitId;
use super::super::state::State;
use super::super::submit::in_use;
use super::super::target::Target;
use super::super::timer::Timer;
use super::super::unit::Stage;
use super::super::{Workceptor, unknown_unit};
use super::call::Kind;
use super::text::{self, Reported};
use crate::time::Duration;
use crate::wire::work::Status;

/// Commands on the control session that may wait for their answers.
const MAX_ASKED: usize = 16;

/// How long an answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// The first wait for news of a unit. It doubles up to [`POLL_WAIT`] while there are none.
const FIRST_POLL_WAIT: Duration = Duration::from_millis(250);

/// As classic nodes do (`work.md` §11.4).
const POLL_WAIT: Duration = Duration::from_secs(1);

/// An executor is asked a hundred times a second at most, whatever the number of its units.
const POLL_SHARE: Duration = Duration::from_millis(10);

impl Workceptor {
    /// The control session with an executor without work sessions is ready.
    pub(in super::super) fn begin_polling(&mut self, key: PeerKey, node: &Target) {
        self.timers.clear(&Timer::PeerSlow(key));
        let Some(peer) = self.peers.get_mut(node) else { return };
        peer.polling.lose_session();
        let wanting: alloc::vec::Vec<UnitId> = peer.wanting().cloned().collect();
        for id in wanting {
            if let Some(remote) = self.units.get_mut(&id).and_then(|unit| unit.remote.as_mut()) {
                remote.poll.asked = false;
                remote.poll.tries = 0;
            }
            self.timers.clear(&Timer::Poll(id.clone()));
            self.timers.clear(&Timer::RetryCall(id.clone()));
            self.drive_classic(&id);
        }
        self.call_all_owed(node);
    }

    pub(super) fn ask_status(&mut self, node: &Target, id: &UnitId) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        peer.polling.due.push(id.clone());
        if let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) {
            remote.poll.asked = true;
        }
        self.pump_polls(node);
    }

    fn pump_polls(&mut self, node: &Target) {
        while let Some((key, peer)) = self.polled_peer(node)
            && peer.polling.asked.len() < MAX_ASKED
            && let Some(id) = peer.polling.due.pop()
        {
            if !peer.wants(&id) {
                continue;
            }
            let name = self.remote_name(&id);
            let command = text::status(&name);
            if let Some((_, peer)) = self.polled_peer(node) {
                if peer.polling.asked.is_empty() {
                    let at = self.after(ANSWER_WAIT);
                    self.timers.set(Timer::PeerSlow(key), at);
                }
                if let Some((_, peer)) = self.polled_peer(node) {
                    peer.polling.asked.push_back((id, name));
                }
            }
            self.out.push_back(WorkOutput::PeerSend(key, command));
        }
    }

    fn polled_peer(&mut self, node: &Target) -> Option<(PeerKey, &mut super::super::peer::Peer)> {
        let peer = self.peers.get_mut(node).filter(|peer| peer.is_polling())?;
        Some((peer.key()?, peer))
    }

    /// An answer on the control session.
    pub(in super::super) fn polled(&mut self, key: PeerKey, node: &Target, line: &str) -> Result<(), String> {
        let Some((_, peer)) = self.polled_peer(node) else {
            return Ok(());
        };
        let Some((id, name)) = peer.polling.asked.pop_front() else {
            return Err(format!("unexpected answer: {line}"));
        };
        let is_last = peer.polling.asked.is_empty();
        self.timers.clear(&Timer::PeerSlow(key));
        if !is_last {
            let at = self.after(ANSWER_WAIT);
            self.timers.set(Timer::PeerSlow(key), at);
        }
        let answer = match (text::error(line), text::reported(line)) {
            (Some(error), _) => Err(error),
            (None, Some(reported)) => Ok(reported),
            (None, None) => return Err(format!("it answered a status with {line}")),
        };
        self.peer_is_well(node);
        let is_current = name == self.remote_name(&id);
        let wants = self.peers.get(node).is_some_and(|peer| peer.wants(&id));
        let is_adopting = self.units.get(&id).is_some_and(|unit| unit.stage == Stage::Adopting);
        if let Some(remote) = self.units.get_mut(&id).and_then(|unit| unit.remote.as_mut())
            && wants
        {
            remote.poll.asked = false;
            if is_adopting {
                match answer {
                    Ok(_) => self.adoption_granted(&id, text::about(line)),
                    Err(error) => self.adoption_failed(&id, error),
                }
            } else if is_current {
                self.ask_later(node, &id);
                match answer {
                    Ok(reported) => self.reported(node, &id, reported),
                    Err(error) if error.contains(&unknown_unit("")) => self.unknown_there(&id),
                    Err(error) => {
                        let text = format!("unit {id}: node {node} does not tell its status: {error}");
                        self.log(Severity::Debug, text);
                    }
                }
            }
            self.advance(&id);
        }
        self.pump_polls(node);
        Ok(())
    }

    fn ask_later(&mut self, node: &Target, id: &UnitId) {
        let count = self.peers.get(node).map_or(0, |peer| peer.wanting().count());
        let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) else {
            return;
        };
        let poll = &mut remote.poll;
        let wait = (FIRST_POLL_WAIT * (1 << poll.same.min(10))).min(POLL_WAIT);
        poll.same += 1;
        let share = POLL_SHARE * u32::try_from(count).unwrap_or(u32::MAX);
        let at = self.after(wait.max(share));
        self.timers.set(Timer::Poll(id.clone()), at);
    }

    /// The executor has no unit of that name.
    fn unknown_there(&mut self, id: &UnitId) {
        let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) else {
            return;
        };
        if remote.start_seen || !remote.poll.safe {
            return self.remote_is_gone(id);
        }
        // It never had all of its stdin, and nothing is left of it.
        self.withdrawn(id);
    }

    fn reported(&mut self, node: &Target, id: &UnitId, reported: Reported) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let is_named = unit.record.extra.remote().is_some_and(|e| !e.remote_unit_id.is_empty());
        let Some(remote) = unit.remote.as_mut() else { return };
        let poll = &mut remote.poll;
        if !remote.start_seen {
            let is_torso = if !poll.safe {
                reported.was_cut_off()
            } else if is_named || poll.name.is_some() {
                reported.state == State::Failed
            } else {
                reported.is_torso()
            };
            if is_torso {
                poll.withdrawing = true;
                return;
            }
            // The executor may not have noticed yet that the stream is gone.
            if reported.is_waiting() {
                return;
            }
            if poll.safe {
                // Nobody but us knows the unit, and we have not let it run: this is another one of the same name.
                remote.over = true;
                remote.submitted = false;
                return self.start_failed(id, &format!("could not parse response: ERROR: {}", in_use(id)));
            }
            self.classic_started(id);
            // The timer for the next status was set before that.
            self.ask_later(node, id);
        }
        self.follow(node, id, reported);
    }

    /// News of a unit that runs there.
    fn follow(&mut self, node: &Target, id: &UnitId, reported: Reported) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(remote) = unit.remote.as_mut() else { return };
        if remote.poll.last.as_ref() != Some(&reported) {
            remote.poll.same = 0;
        }
        let status = Status {
            state: u8::try_from(reported.state.number()).unwrap_or(u8::MAX),
            detail: reported.detail.clone(),
            stdout_size: reported.stdout_size,
            exit_code: None,
            signal: None,
        };
        let is_idle = remote.file.received() >= reported.stdout_size && !reported.state.is_complete();
        let fetch = remote.poll.fetch;
        remote.poll.last = Some(reported);
        self.mirror(id, status);
        if let Some(key) = fetch
            && is_idle
            && let Some((_, peer)) = self.polled_peer(node)
            && !peer.polling.queued[Kind::FETCH].is_empty()
        {
            self.abort_call(key);
        }
    }

    /// Output from an executor.
    pub(super) fn fetched(&mut self, key: PeerKey, id: &UnitId, data: Bytes) {
        let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) else {
            return;
        };
        remote.poll.tries = 0;
        if !remote.over {
            remote.file.push(data);
        }
        let is_full = !self.peer_takes(key);
        if let Some(call) = self.calls.get_mut(&key) {
            call.paused = is_full;
        }
        self.advance(id);
    }

    /// Output was written: the stream may go on.
    pub(super) fn resume_fetch(&mut self, id: &UnitId) {
        let key = self.units.get(id).and_then(|unit| unit.remote.as_ref()?.poll.fetch);
        if let Some(key) = key
            && self.peer_takes(key)
            && let Some(call) = self.calls.get_mut(&key)
            && core::mem::take(&mut call.paused)
        {
            self.out.push_back(WorkOutput::PeerResume(key));
        }
    }
}
