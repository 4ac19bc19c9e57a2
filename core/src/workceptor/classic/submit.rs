//! Submissions: the command, stdin, its end (`work.md` §11.3).

use alloc::format;
use alloc::string::{String, ToString as _};

use super::super::api::{PeerKey, WorkOutput};
use super::super::change::Change;
use super::super::id::UnitId;
use super::super::task::{UnitTask, UnitTaskResult};
use super::super::timer::Timer;
use super::super::{Purpose, READ_MAX, Workceptor, failure};
use super::call::{START_WAIT, Step};
use super::text;

impl Workceptor {
    pub(super) fn submit_answered(&mut self, key: PeerKey, id: &UnitId, line: &str) {
        let Some(name) = text::created(line) else {
            self.close_call(key);
            if let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) {
                remote.over = true;
                // There is nothing to be released.
                remote.submitted = false;
            }
            self.start_failed(id, &format!("could not parse response: {line}"));
            return self.advance(id);
        };
        if let Some(call) = self.calls.get_mut(&key) {
            call.step = Step::Stdin;
        }
        // How long stdin takes is the executor's affair.
        self.timers.clear(&Timer::PeerSlow(key));
        if let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) {
            remote.poll.name = Some(name.to_string());
        }
        let unit = name.to_string();
        self.update(id, Change::RemoteAccepted { unit }, true);
        self.pump_submission(id);
    }

    /// Sends stdin as far as the window goes, and its end once the executor's ID is durable.
    pub(super) fn pump_submission(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(extra) = unit.record.extra.remote() else {
            return;
        };
        let Some(remote) = unit.remote.as_mut() else { return };
        let Some(key) = remote.poll.submit else { return };
        let Some(call) = self.calls.get_mut(&key).filter(|call| call.step == Step::Stdin) else {
            return;
        };
        let total = remote.stdin_total.unwrap_or(0);
        if call.reading || call.window == 0 {
            return;
        }
        if call.sent < total {
            let left = usize::try_from(total - call.sent).unwrap_or(usize::MAX);
            let (offset, max) = (call.sent, READ_MAX.min(left).min(call.window));
            call.reading = true;
            self.task(
                id,
                Purpose::CallRead { call: key, max },
                UnitTask::ReadStdin { offset, max },
            );
        } else if remote.poll.name.as_deref() == Some(extra.remote_unit_id.as_str()) {
            // From here on the executor may run it.
            remote.poll.safe = false;
            call.step = Step::Closing;
            self.out.push_back(WorkOutput::FinishPeer(key));
            self.call_wait(key, START_WAIT);
        }
    }

    /// A piece of stdin was read.
    pub(in super::super) fn call_read(&mut self, key: PeerKey, max: usize, result: UnitTaskResult) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        call.reading = false;
        let id = call.unit.clone();
        let error = match result {
            UnitTaskResult::Data(data) if !data.is_empty() && data.len() <= max => {
                call.sent += data.len() as u64;
                call.window = call.window.saturating_sub(data.len());
                self.out.push_back(WorkOutput::PeerSend(key, data));
                return self.pump_submission(&id);
            }
            UnitTaskResult::Data(_) => "the file is shorter than what was written".into(),
            other => failure(other),
        };
        self.abort_call(key);
        self.stdin_unreadable(&id, &error);
        self.advance(&id);
    }

    /// A call's stream took `n` bytes.
    pub(in super::super) fn call_drained(&mut self, key: PeerKey, n: usize) {
        if let Some(call) = self.calls.get_mut(&key) {
            call.window += n;
            let id = call.unit.clone();
            self.pump_submission(&id);
        }
    }

    /// The last answer to a submission.
    pub(super) fn submit_ended(&mut self, key: PeerKey, id: &UnitId, line: &str) {
        let Some(call) = self.calls.get(&key) else { return };
        let is_complete = call.step == Step::Closing;
        if let Some(text) = text::error(line) {
            let text = format!("error from remote: {text}");
            if is_complete {
                self.close_call(key);
            } else {
                self.abort_call(key);
            }
            if let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) {
                remote.over = true;
            }
            self.start_failed(id, &text);
            return self.advance(id);
        }
        if !is_complete {
            return self.break_call(key, &format!("unexpected answer: {line}"));
        }
        self.close_call(key);
        self.classic_started(id);
        self.advance(id);
    }

    /// The executor has the unit, with all of its stdin.
    pub(super) fn classic_started(&mut self, id: &UnitId) {
        let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) else {
            return;
        };
        if !remote.start_seen {
            remote.start_seen = true;
            remote.poll.tries = 0;
            self.timers.clear(&Timer::Expire(id.clone()));
            self.timers.clear(&Timer::Poll(id.clone()));
            self.update(id, Change::RemoteStarted, false);
        }
    }

    /// What was left of a submission is gone.
    pub(super) fn withdrawn(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let is_named = unit
            .record
            .extra
            .remote()
            .is_some_and(|extra| !extra.remote_unit_id.is_empty());
        if let Some(remote) = unit.remote.as_mut() {
            remote.poll.withdrawing = false;
            remote.poll.cleared = true;
            remote.poll.name = None;
        }
        if is_named {
            // The next name is written after this.
            self.update(id, Change::RemoteAccepted { unit: String::new() }, true);
        }
        self.advance(id);
    }
}
